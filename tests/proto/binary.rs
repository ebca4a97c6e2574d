//! Weight files and binary nets: Caffe's own, old ones, those of forks, and damaged ones.

use crate::golden;
use cortado::error::Kind;
use cortado::proto::binary::read_solver_state;
use cortado::proto::blob::{read_blob, write_blob};
use cortado::proto::caffe::{
    BlobProto, LayerParameter, NetParameter, ParamSpec, V0LayerParameter, V1LayerParameter,
    v1_layer_parameter::LayerType,
};
use cortado::proto::net::{decode_net, is_binary, upgrade_net_bytes};
use cortado::proto::weights::decode_weights;
use cortado::proto::{encode_net, read_net_binary, read_weights, write_net};
use prost::Message;

fn blob() -> BlobProto {
    BlobProto::from_data(&[2, 1], vec![0.5, -1.0]).unwrap()
}

fn layer(name: &str) -> LayerParameter {
    LayerParameter {
        name: Some(name.into()),
        r#type: Some("Convolution".into()),
        blobs: vec![blob()],
        ..LayerParameter::default()
    }
}

fn net(layer: Vec<LayerParameter>) -> NetParameter {
    NetParameter { name: Some("n".into()), layer, ..NetParameter::default() }
}

#[test]
fn caffes_own_snapshot() {
    let path = golden("solvers/adam/snap_iter_10.caffemodel");
    let weights = read_weights(&path).unwrap();
    let (full, notes) = read_net_binary(&path).unwrap();
    assert_eq!(notes, Vec::<String>::new());
    assert_eq!(weights.name, full.name());
    assert_eq!(weights.layers.len(), full.layer.len());
    let learned: Vec<_> = weights.layers.iter().filter(|l| !l.blobs.is_empty()).collect();
    assert!(!learned.is_empty());
    for (ours, theirs) in weights.layers.iter().zip(&full.layer) {
        assert_eq!((ours.name.as_str(), ours.kind.as_str()), (theirs.name(), theirs.r#type()));
        assert_eq!(ours.blobs, theirs.blobs);
    }
    for blob in learned.iter().flat_map(|l| &l.blobs) {
        let count: usize = blob.dims().unwrap().iter().product();
        let values = blob.values::<f64>().unwrap();
        assert!(values.len() == count && values.iter().all(|v| v.is_finite()));
    }
    let state = read_solver_state(golden("solvers/adam/snap_iter_10.solverstate")).unwrap();
    assert_eq!(state.iter(), 10);
    // Adam keeps two moments of each blob.
    assert_eq!(state.history.len(), 2 * learned.iter().map(|l| l.blobs.len()).sum::<usize>());
}

#[test]
fn weights_of_all_three_formats() {
    let v1 = V1LayerParameter {
        name: Some("one".into()),
        r#type: Some(LayerType::InnerProduct.into()),
        blobs: vec![blob(), blob()],
        ..V1LayerParameter::default()
    };
    let v0 = V0LayerParameter {
        name: Some("zero".into()),
        r#type: Some("conv".into()),
        blobs: vec![blob()],
        ..V0LayerParameter::default()
    };
    let v0 = V1LayerParameter { layer: Some(v0), bottom: vec!["x".into()], ..V1LayerParameter::default() };
    let old = NetParameter { layers: vec![v0, v1], ..NetParameter::default() };
    let found = decode_weights(&encode_net(&old)).unwrap().layers;
    let seen: Vec<_> = found.iter().map(|l| (l.name.as_str(), l.kind.as_str(), l.blobs.len())).collect();
    assert_eq!(seen, [("zero", "conv", 1), ("one", "InnerProduct", 2)]);
    let found = decode_weights(&encode_net(&net(vec![layer("two")]))).unwrap().layers;
    assert_eq!((found[0].kind.as_str(), &found[0].blobs[0]), ("Convolution", &blob()));
}

/// A layer with fields as forks write them: 139 as a number, 149 as a string, 206 as a message we do not have.
fn forked(name: &str) -> Vec<u8> {
    let mut bytes = layer(name).encode_to_vec();
    prost::encoding::uint32::encode(139, &77, &mut bytes);
    prost::encoding::string::encode(149, &"MKL2017".to_string(), &mut bytes);
    prost::encoding::bytes::encode(206, &vec![8_u8, 4], &mut bytes);
    bytes
}

fn net_of(layers: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for layer in layers {
        prost::encoding::bytes::encode(100, layer, &mut bytes);
    }
    bytes
}

#[test]
fn forks_weights_read_and_their_parameters_are_refused() {
    let bytes = net_of(&[forked("a")]);
    let weights = decode_weights(&bytes).unwrap();
    assert_eq!((weights.layers[0].name.as_str(), &weights.layers[0].blobs[0]), ("a", &blob()));
    assert!(NetParameter::decode(bytes.as_slice()).is_err());
    assert_eq!(decode_net(&bytes).unwrap_err().kind(), Kind::Syntax);
}

#[test]
fn binary_nets_are_checked_where_prost_is_not() {
    let with = |field: u32, payload: Vec<u8>| {
        let mut bytes = layer("a").encode_to_vec();
        prost::encoding::bytes::encode(field, &payload, &mut bytes);
        decode_net(&net_of(&[bytes])).map_err(|e| e.to_string())
    };
    // pooling_param { pool: 9 }
    assert!(with(121, vec![8, 9]).unwrap_err().contains("PoolMethod 9"));
    assert!(with(121, vec![8, 2]).is_ok());
    // clip_param without max
    assert!(with(148, vec![13, 0, 0, 0, 0]).unwrap_err().contains("\"max\""));
}

#[test]
fn an_upgrade_keeps_every_byte_it_need_not_change() {
    let bytes = net_of(&[forked("a"), forked("b")]);
    assert_eq!(upgrade_net_bytes(&bytes).unwrap(), (bytes.clone(), vec![]));
    // An old input and an old BatchNorm beside them.
    let spec = ParamSpec { name: Some("s".into()), ..ParamSpec::default() };
    let mut norm = forked("bn");
    norm.extend(
        LayerParameter { r#type: Some("BatchNorm".into()), param: vec![spec; 3], ..Default::default() }
            .encode_to_vec(),
    );
    let head = NetParameter {
        name: Some("n".into()),
        input: vec!["data".into()],
        input_dim: vec![1, 2, 3, 4],
        ..NetParameter::default()
    };
    let mut old = encode_net(&head);
    old.extend(net_of(&[forked("a"), norm]));
    let (new, notes) = upgrade_net_bytes(&old).unwrap();
    assert_eq!(notes.len(), 2);
    let weights = decode_weights(&new).unwrap();
    let names: Vec<_> = weights.layers.iter().map(|l| l.name.as_str()).collect();
    assert_eq!(names, ["input", "a", "bn"]);
    let contains = |part: &[u8]| new.windows(part.len()).any(|w| w == part);
    assert!(contains(&forked("a")));
    assert!(contains(b"MKL2017"));
    // Nothing left to do, and the parameters are set.
    assert_eq!(upgrade_net_bytes(&new).unwrap(), (new.clone(), vec![]));
    let plain = LayerParameter {
        r#type: Some("BatchNorm".into()),
        param: vec![ParamSpec::default(); 3],
        ..Default::default()
    };
    let (new, _) = upgrade_net_bytes(&encode_net(&net(vec![plain]))).unwrap();
    let (new, notes) = decode_net(&new).unwrap();
    assert!(notes.is_empty());
    assert!(new.layer[0].param.iter().all(|p| p.lr_mult == Some(0.0) && p.decay_mult == Some(0.0)));
}

#[test]
fn old_binary_nets_are_upgraded() {
    let v1 = V1LayerParameter {
        name: Some("r".into()),
        r#type: Some(LayerType::Relu.into()),
        blobs: vec![blob()],
        ..V1LayerParameter::default()
    };
    let bytes = encode_net(&NetParameter { layers: vec![v1], ..NetParameter::default() });
    let (new, notes) = upgrade_net_bytes(&bytes).unwrap();
    assert_eq!(notes.len(), 1);
    let layers = decode_net(&new).unwrap().0.layer;
    assert_eq!((layers[0].r#type(), &layers[0].blobs), ("ReLU", &vec![blob()]));
}

#[test]
fn text_and_binary_are_told_apart() {
    for name in ["a", "a name of thirty-two letters, so", ""] {
        let mut net = net(vec![layer("b")]);
        net.name = Some(name.into());
        assert!(is_binary(&encode_net(&net)), "{name}");
    }
    assert!(is_binary(&std::fs::read(golden("solvers/adam/snap_iter_10.caffemodel")).unwrap()));
    for name in ["v0_net", "v1_train"] {
        let text = std::fs::read(golden(&format!("upgrade/{name}.prototxt"))).unwrap();
        assert!(!is_binary(&text));
    }
    assert!(!is_binary(b"# \xbe\xed\r\n\tname: 'a'"));
}

#[test]
fn files_that_break_off_say_where() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.caffemodel");
    write_net(&path, &net(vec![layer("a"), layer("b")])).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(read_weights(&path).unwrap().layers.len(), 2);
    std::fs::write(&path, &bytes[..bytes.len() - 4]).unwrap();
    let error = read_weights(&path).unwrap_err();
    assert_eq!(error.kind(), Kind::Syntax);
    let text = error.to_string();
    assert!(text.contains("broken off: at byte") && text.contains("a.caffemodel"), "{text}");
    assert_eq!(read_net_binary(&path).unwrap_err().message(), error.message());
    for (content, expected) in [
        (&b""[..], "without layers"),
        (b"name: \"text\"", "not a file of this kind"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
    ] {
        std::fs::write(&path, content).unwrap();
        let text = read_weights(&path).unwrap_err().to_string();
        assert!(text.contains(expected), "{text}");
    }
    assert_eq!(read_weights(folder.path().join("none")).unwrap_err().kind(), Kind::Io);
}

#[test]
fn blobs_that_do_not_fit_name_their_layer() {
    let mut bad = layer("conv1");
    bad.blobs.push(BlobProto { num: Some(3), channels: Some(1), height: Some(1), width: Some(1), ..blob() });
    let error = decode_weights(&encode_net(&net(vec![bad]))).unwrap_err();
    assert_eq!((error.kind(), error.layer(), error.field()), (Kind::Shape, Some("conv1"), Some("blobs[1]")));
}

#[test]
fn mean_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mean.binaryproto");
    write_blob(&path, &blob()).unwrap();
    assert_eq!(read_blob(&path).unwrap(), blob());
    std::fs::write(&path, b"nonsense").unwrap();
    assert!(read_blob(&path).unwrap_err().to_string().contains("mean.binaryproto"));
}
