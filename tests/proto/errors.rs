//! What a user sees when a prototxt has a mistake.

use cortado::error::{Error, Kind};
use cortado::proto::caffe::{LayerParameter, NetParameter};
use cortado::proto::{read_net, text::parse};

fn error(text: &str) -> Error {
    match parse::<NetParameter>(text, "net.prototxt") {
        Ok(parsed) => panic!("read: {:?}", parsed.message),
        Err(error) => error,
    }
}

/// Line, column and width of a mistake, and the hint.
fn hint(text: &str) -> (usize, usize, usize, String) {
    let error = error(text);
    let place = error.place().unwrap_or_else(|| panic!("{error}"));
    (place.line, place.column, place.width, error.suggestion().unwrap_or_default().to_string())
}

#[test]
fn an_unknown_field_with_line_caret_and_the_nearest_name() {
    let text = "name: \"LeNet\"\nlayer {\n  name: \"conv1\"\n  convolution_param {\n    num_output: 20\n    kernal_size: 5\n  }\n}\n";
    let expected = "layer \"conv1\": unknown field \"kernal_size\" in ConvolutionParameter
 --> net.prototxt:6:5
  |
6 |     kernal_size: 5
  |     ^^^^^^^^^^^
  = expected: a field of ConvolutionParameter
  = help: did you mean \"kernel_size\"?";
    assert_eq!(error(text).to_string(), expected);
    assert_eq!(error(text).kind(), Kind::UnknownName);
}

#[test]
fn an_unknown_enum_value() {
    let text = "layer { name: 'p'\n pooling_param { pool: AVG } }";
    let expected = "layer \"p\": pooling_param.pool: \"AVG\" is no value of \"pool\"
 --> net.prototxt:2:24
  |
2 |  pooling_param { pool: AVG }\u{20}}
  |                        ^^^
  = expected: MAX, AVE or STOCHASTIC
  = help: did you mean \"AVE\"?";
    assert_eq!(error(text).to_string(), expected);
    assert_eq!(hint("state { phase: train }").3, "did you mean \"TRAIN\"?");
    assert_eq!(hint("state { phase: 'TRAIN' }").3, "did you mean \"TRAIN\"?");
    assert_eq!(hint("state { phase: 9 }").0, 1);
}

#[test]
fn fields_that_belong_elsewhere() {
    assert_eq!(hint("layer { kernel_h: 3 }").3, "it is a field of convolution_param and pooling_param");
    let text = "layer { convolution_param { stride: 1\n bottom: 'a' }";
    assert_eq!(
        hint(text),
        (
            2,
            2,
            6,
            "\"bottom\" is a field of LayerParameter: is \"convolution_param\" closed before it?".into()
        )
    );
}

#[test]
fn layer_and_layers_mixed_up() {
    assert!(hint("layers { type: 'Convolution' }").3.contains("write \"layer\""));
    assert!(hint("layer { type: CONVOLUTION }").3.contains("in quotes"));
    assert_eq!(hint("layer { name: conv1 }").3, "write \"conv1\"");
    assert_eq!(hint("force_backward: TRUE").3, "did you mean \"true\"?");
    assert_eq!(hint("input_dim: '3'").3, "write it without quotes");
}

#[test]
fn values_of_another_kind() {
    let text = error("layer { name: 'a' inner_product_param { num_output: 1.5 } }").to_string();
    assert!(text.contains("inner_product_param.num_output"), "{text}");
    assert!(text.contains("expected: a whole number from 0 to 4294967295\n  = found: \"1.5\""), "{text}");
    let text = error("input_dim: 3000000000").to_string();
    assert!(text.contains("-2147483648 to 2147483647"), "{text}");
    let text = error("layer: 3").to_string();
    assert!(text.contains("expected: \"{\"\n  = found: \"3\""), "{text}");
    let text = error("name { }").to_string();
    assert!(text.contains("\":\" is missing"), "{text}");
    let text = error("name: ['a']").to_string();
    assert!(text.contains("one value, not a list"), "{text}");
    assert_eq!(hint("layer { loss_weight: 010 }").3, "write 10 if that is meant; a leading 0 means octal");
}

#[test]
fn brackets_and_quotes_that_do_not_match() {
    let open = error("layer {\n  name: 'a'\n  convolution_param {\n    stride: 1\n}\n");
    assert_eq!(open.place().unwrap().line, 1);
    assert!(open.to_string().contains("never closed"), "{open}");
    assert_eq!(hint("layer { name: 'a' }\n}").0, 2);
    assert_eq!(hint("layer { name: 'a' >").1, 19);
    assert_eq!(hint("name: 'a\nlayer { }").0, 1);
    assert_eq!(hint("name: 'a").1, 7);
    assert_eq!(hint("name: 'a\\q'").1, 9);
    assert_eq!(hint("input_dim: [1 2]").1, 15);
    assert_eq!(hint("input_dim: [1, 2").1, 17);
    assert_eq!(hint("input_dim: [1,]").1, 15);
    assert_eq!(hint("input_dim: 1,,").1, 14);
    assert_eq!(hint("name 'a'").1, 6);
    assert_eq!(hint("[caffe.x").1, 9);
    assert_eq!(hint("name:").1, 6);
    assert_eq!(hint("name").1, 5);
}

#[test]
fn a_field_given_twice_and_one_that_is_missing() {
    let twice = error("name: 'a'\nname: 'b'");
    assert_eq!(twice.place().unwrap().line, 2);
    assert!(twice.to_string().contains("line 1"), "{twice}");
    assert!(parse::<LayerParameter>("pooling_param { pad: 1 } pooling_param { pad: 1 }", "t").is_err());
    let missing = error("layer {\n name: 'c'\n clip_param { min: 0 } }");
    assert_eq!((missing.place().unwrap().line, missing.kind()), (3, Kind::Value));
    assert!(missing.to_string().contains("required field \"max\""), "{missing}");
}

#[test]
fn characters_that_do_not_belong() {
    assert!(hint("name： 'a'").3.contains("ASCII"));
    assert_eq!(hint("name: 'é' \u{201c}a\u{201d}").1, 11);
    let nul = error("name: 'a'\n\0\0\0");
    assert_eq!((nul.place().unwrap().line, nul.suggestion()), (2, Some("is this a binary file?")));
    assert!(!nul.to_string().contains('\0'));
    // Tabs count as one character.
    assert_eq!(hint("\t\tlayer { nme: 'a' }").1, 11);
}

#[test]
fn files_that_are_not_utf8() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gbk.prototxt");
    // A comment in GBK, as in many nets.
    std::fs::write(&path, b"# \xbe\xed\xbb\xfd\nname: 'a'").unwrap();
    assert_eq!(read_net(&path).unwrap().message.name(), "a");
    std::fs::write(&path, b"name: 'a'\nlayer { name: '\xbe\xed' }").unwrap();
    let error = read_net(&path).unwrap_err();
    assert_eq!(error.place().unwrap().line, 2);
    assert!(error.to_string().contains("UTF-8"), "{error}");
    std::fs::write(&path, b"\xff\xfe\x00\x01").unwrap();
    assert!(read_net(&path).is_err());
    let missing = read_net(folder.path().join("none.prototxt")).unwrap_err();
    assert_eq!(missing.kind(), Kind::Io);
    assert!(parse::<NetParameter>("name: '\\xff'", "t").is_err());
}
