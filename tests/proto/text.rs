//! Every form that protobuf's text format has, and the positions of layers and fields.

use cortado::proto::caffe::{BlobProto, Datum, LayerParameter, NetParameter, SolverParameter};
use cortado::proto::text::{parse, parse_dynamic};
use cortado::proto::{Source, parse_net};
use prost::Message;
use prost_reflect::prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorProto, descriptor_proto::ExtensionRange,
    field_descriptor_proto::Type,
};
use prost_reflect::{DescriptorPool, Value};

fn layer(text: &str) -> LayerParameter {
    parse(text, "t").unwrap_or_else(|e| panic!("{e}")).message
}

#[test]
fn comments_colons_brackets_and_separators() {
    let plain = layer("name: \"a\" convolution_param { stride: 2 pad: 1 } top: \"b\"");
    for text in [
        "name: 'a' # the name\nconvolution_param: { stride: 2 pad: 1 } top: 'b' # end",
        "name:'a';convolution_param<stride:2,pad:1>,top:'b';",
        "name: 'a', convolution_param: < stride: [2]; pad: [1] >; top: ['b']",
        "\u{feff}name:\t'a'\r\nconvolution_param\n{\nstride\n:\n2\npad:1}top:'b'",
    ] {
        assert_eq!(layer(text), plain, "{text}");
    }
}

#[test]
fn lists_of_numbers_strings_enums_and_messages() {
    let net = parse::<NetParameter>(
        "input_dim: [1, 2] input_dim: 3 input: ['a', 'b' 'c'] input_shape: [{ dim: [] }, < dim: 5 >]
         input_shape [{ dim: 6 }] layers { blob_share_mode: [STRICT, 1] }",
        "t",
    );
    let net = net.unwrap().message;
    assert_eq!(net.input_dim, [1, 2, 3]);
    assert_eq!(net.input, ["a", "bc"]);
    let dims: Vec<_> = net.input_shape.iter().map(|s| s.dim.clone()).collect();
    assert_eq!(dims, [vec![], vec![5], vec![6]]);
    assert_eq!(net.layers[0].blob_share_mode, [0, 1]);
}

#[test]
fn strings() {
    let name = |text: &str| layer(&format!("name: {text}")).name().to_string();
    assert_eq!(name("\"a'b\""), "a'b");
    assert_eq!(name("'a\"b' # joined\n \"c\" 'd'"), "a\"bcd");
    assert_eq!(name(r#""\n\t\r\a\b\f\v\\\'\"\?""#), "\n\t\r\x07\x08\x0c\x0b\\'\"?");
    assert_eq!(name(r#""\101\x42\x4a\0617\u00e9\U0001F600""#), "ABJ17é😀");
    assert_eq!(name(r#""\303\251 \xc3\xa9""#), "é é");
    assert_eq!(name("\"# no comment\""), "# no comment");
    assert_eq!(name("\"网\""), "网");
    let datum = parse::<Datum>(r#"data: "\xff\000a" 'b'"#, "t").unwrap().message;
    assert_eq!(datum.data(), [255, 0, b'a', b'b']);
}

#[test]
fn integers() {
    let seed = |text: &str| parse::<SolverParameter>(&format!("random_seed: {text}"), "t");
    for (text, value) in [
        ("0x1F", 31),
        ("0X1f", 31),
        ("017", 15),
        ("0", 0),
        ("-5", -5),
        ("- 0x10", -16),
        ("-9223372036854775808", i64::MIN),
        ("9223372036854775807", i64::MAX),
    ] {
        assert_eq!(seed(text).unwrap().message.random_seed, Some(value), "{text}");
    }
    for text in
        ["9223372036854775808", "1.0", "1e3", "08", "0x", "1a", "--1", "true", "'1'", "0xfffffffffffffffff"]
    {
        assert!(seed(text).is_err(), "{text}");
    }
    assert_eq!(
        layer("transform_param { crop_size: 4294967295 }").transform_param.unwrap().crop_size(),
        u32::MAX
    );
    assert!(parse::<LayerParameter>("transform_param { crop_size: -1 }", "t").is_err());
}

#[test]
fn floats() {
    let rate = |text: &str| parse::<SolverParameter>(&format!("base_lr: {text}"), "t");
    for (text, value) in [
        ("1", 1.0),
        ("-1.5", -1.5),
        (".5", 0.5),
        ("5.", 5.0),
        ("1e-3", 1e-3),
        ("1E+3", 1e3),
        ("2.5f", 2.5),
        ("3F", 3.0),
        ("0", 0.0),
        ("0.01", 0.01),
        ("00.5", 0.5),
        ("inf", f32::INFINITY),
        ("-INF", f32::NEG_INFINITY),
        ("infinity", f32::INFINITY),
        ("1e39", f32::INFINITY),
        ("123456789012345678901234567890", 1.2345679e29),
    ] {
        assert_eq!(rate(text).unwrap().message.base_lr, Some(value), "{text}");
    }
    assert!(rate("nan").unwrap().message.base_lr().is_nan());
    assert!(rate("-nan").unwrap().message.base_lr().is_nan());
    for text in ["1..2", "1e", "1.2.3", "0x10", "010", "true", "'1'", "", "+1"] {
        assert!(rate(text).is_err(), "{text}");
    }
    let blob = parse::<BlobProto>("double_data: 1e300", "t").unwrap().message;
    assert_eq!(blob.double_data, [1e300]);
}

#[test]
fn booleans_and_enums() {
    for (text, value) in
        [("true", true), ("True", true), ("t", true), ("1", true), ("0", false), ("false", false)]
    {
        let solver = parse::<SolverParameter>(&format!("debug_info: {text}"), "t").unwrap().message;
        assert_eq!(solver.debug_info, Some(value), "{text}");
    }
    let pool = |text: &str| parse::<LayerParameter>(&format!("pooling_param {{ pool: {text} }}"), "t");
    for text in ["AVE", "1", "0x1"] {
        assert_eq!(pool(text).unwrap().message.pooling_param.unwrap().pool, Some(1), "{text}");
    }
    for text in ["7", "-1", "ave", "'AVE'", "AVERAGE", "1.0"] {
        assert!(pool(text).is_err(), "{text}");
    }
}

#[test]
fn nothing_is_an_empty_message() {
    for text in ["", " \n", "# only a comment", "\u{feff}"] {
        assert_eq!(parse::<NetParameter>(text, "t").unwrap().message, NetParameter::default());
    }
}

/// A schema of a user's own, with extensions of a message of his.
fn extended() -> DescriptorPool {
    let field = |name: &str, number, kind: Type, extendee: Option<&str>| FieldDescriptorProto {
        name: Some(name.into()),
        number: Some(number),
        r#type: Some(kind.into()),
        label: Some(if name == "many" { 3 } else { 1 }),
        extendee: extendee.map(str::to_string),
        type_name: (kind == Type::Message).then(|| ".my.Base".to_string()),
        ..Default::default()
    };
    let range = ExtensionRange { start: Some(100), end: Some(200), options: None };
    let base = DescriptorProto {
        name: Some("Base".into()),
        field: vec![field("plain", 1, Type::Int32, None), field("again", 2, Type::Message, None)],
        extension_range: vec![range],
        ..Default::default()
    };
    let file = FileDescriptorProto {
        name: Some("my.proto".into()),
        package: Some("my".into()),
        message_type: vec![base],
        extension: vec![
            field("one", 100, Type::String, Some(".my.Base")),
            field("many", 101, Type::Int32, Some(".my.Base")),
            field("deep", 102, Type::Message, Some(".my.Base")),
        ],
        ..Default::default()
    };
    let mut pool = DescriptorPool::new();
    pool.add_file_descriptor_proto(file).unwrap();
    pool
}

#[test]
fn extensions() {
    let pool = extended();
    let base = pool.get_message_by_name("my.Base").unwrap();
    let text = "plain: 1 [my.one]: 'x' [my.many]: [1, 2] [ my.many ]: 3 [my.deep] { [my.one]: 'y' }";
    let (message, _) = parse_dynamic(text, "t", &base).unwrap();
    let get = |name: &str| message.get_extension(&pool.get_extension_by_name(name).unwrap()).into_owned();
    assert_eq!(get("my.one"), Value::String("x".into()));
    assert_eq!(get("my.many"), Value::List(vec![Value::I32(1), Value::I32(2), Value::I32(3)]));
    let printed = cortado::proto::print::print_dynamic(&message);
    assert!(printed.contains("[my.deep] {\n  [my.one]: \"y\"\n}"), "{printed}");
    assert_eq!(parse_dynamic(&printed, "t", &base).unwrap().0, message);
    let error = parse_dynamic("[my.on]: 'x'", "t", &base).unwrap_err();
    assert_eq!(error.suggestion(), Some("did you mean \"my.one\"?"));
    assert!(parse_dynamic("[my.one]: 'x' [my.one]: 'x'", "t", &base).is_err());
    assert!(parse::<NetParameter>("[caffe.none]: 1", "t").is_err());
}

#[test]
fn deep_nesting_is_refused_without_harm() {
    let base = extended().get_message_by_name("my.Base").unwrap();
    let nested = |depth: usize| format!("{}{}", "again {".repeat(depth), "}".repeat(depth));
    let (message, _) = parse_dynamic(&nested(90), "t", &base).unwrap();
    assert!(message.encoded_len() > 90);
    let error = parse_dynamic(&nested(1_000_000), "t", &base).unwrap_err();
    assert!(error.to_string().contains("inside each other"), "{}", error.message());
}

const NET: &str = "name: 'n'
layer { name: 'a' bottom: 'x' bottom: 'y'
  convolution_param { stride: [1, 2] weight_filler { type: 'xavier' } } }
layer {
  type: 'ReLU'
  name: 'b'
}
layer { name: 'a' param { lr_mult: 1 } param { lr_mult: 7 } include { phase: TEST } }
";

fn at(source: &Source, layer: &str, nth: usize, field: &str) -> (usize, usize, usize) {
    let field = if field.is_empty() { None } else { Some(field) };
    let place = source.place_of_layer(layer, nth, field).unwrap();
    (place.line, place.column, place.width)
}

#[test]
fn places_of_layers_and_fields() {
    let source = parse_net(NET, "net.prototxt").unwrap().source;
    assert_eq!(source.file(), "net.prototxt");
    assert_eq!(at(&source, "a", 0, ""), (2, 15, 3));
    assert_eq!(at(&source, "b", 0, ""), (6, 9, 3));
    assert_eq!(at(&source, "a", 1, ""), (8, 15, 3));
    assert!(source.place_of_layer("a", 2, None).is_none());
    assert!(source.place_of_layer("none", 0, None).is_none());
    assert_eq!(at(&source, "a", 0, "bottom[1]"), (2, 39, 3));
    assert_eq!(at(&source, "a", 0, "convolution_param"), (3, 3, 17));
    assert_eq!(at(&source, "a", 0, "convolution_param.stride[1]"), (3, 35, 1));
    assert_eq!(at(&source, "a", 0, "convolution_param.weight_filler.type"), (3, 60, 8));
    assert_eq!(at(&source, "a", 1, "param[1].lr_mult"), (8, 57, 1));
    // As deep as the file goes.
    assert_eq!(at(&source, "a", 0, "convolution_param.kernel_size"), (3, 3, 17));
    assert_eq!(at(&source, "a", 1, "param[1].decay_mult"), (8, 40, 5));
    assert_eq!(at(&source, "b", 0, "pooling_param.pool"), (6, 9, 3));
    for odd in ["", ".", "[", "bottom[", "bottom[99999999999999999999]", "a..b[]]."] {
        assert!(source.place_of_layer("a", 0, Some(odd)).is_some(), "{odd}");
    }
    let place = source.place_of_field("name").unwrap();
    assert_eq!((place.line, place.text.as_str()), (1, "name: 'n'"));
    assert!(source.place_of_field("force_backward").is_none());
}

#[test]
fn places_in_older_formats_and_solvers() {
    let text = "layers { name: 'a' blobs_lr: 1 blobs_lr: 2 type: DATA param: 'w' data_param { scale: 3 } }
layers { layer { name: 'c' type: 'conv' kernelsize: 3 num_output: 4 } bottom: 'x' }";
    let source = cortado::proto::text::parse::<NetParameter>(text, "t").unwrap().source;
    assert_eq!(at(&source, "a", 0, "param[1].lr_mult"), (1, 42, 1));
    assert_eq!(at(&source, "a", 0, "param[0].name"), (1, 62, 3));
    assert_eq!(at(&source, "a", 0, "transform_param.scale"), (1, 86, 1));
    assert_eq!(at(&source, "c", 0, ""), (2, 24, 3));
    assert_eq!(at(&source, "c", 0, "convolution_param.kernel_size[0]").1, 53);
    assert_eq!(at(&source, "c", 0, "convolution_param.num_output").1, 67);
    let text = "test_iter: [1,\n 2] net_param { layer { name: 'r' } }";
    let source = parse::<SolverParameter>(text, "s").unwrap().source;
    assert_eq!(source.place_of_field("test_iter[1]").unwrap().line, 2);
    assert_eq!(at(&source.within("net_param").unwrap(), "r", 0, ""), (2, 31, 3));
    assert!(source.within("train_net_param").is_none());
}
