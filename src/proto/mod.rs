//! Floor 0: the messages of Caffe's schema, prototxt text, binary files, and upgrades of old formats.

/// Messages generated from `proto/caffe.proto`.
#[allow(missing_docs, clippy::all, rustdoc::all)]
pub mod caffe {
    include!(concat!(env!("OUT_DIR"), "/caffe.rs"));
}

/// Stand-in until the reader lands.
#[allow(missing_docs)]
pub struct Parsed<M> {
    pub message: M,
}

/// Stand-in until the reader lands.
pub fn parse_net(text: &str, file: &str) -> crate::Result<Parsed<caffe::NetParameter>> {
    use prost::Message;
    use prost_reflect::{DescriptorPool, DynamicMessage};
    let bad = |e: &dyn std::fmt::Display| {
        crate::Error::new(crate::error::Kind::Syntax, e.to_string()).in_file(file)
    };
    let bytes: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/caffe.bin"));
    let pool = DescriptorPool::decode(bytes).map_err(|e| bad(&e))?;
    let kind = pool.get_message_by_name("caffe.NetParameter").ok_or_else(|| bad(&"no schema"))?;
    let m = DynamicMessage::parse_text_format(kind, text).map_err(|e| bad(&e))?;
    Ok(Parsed { message: caffe::NetParameter::decode(&*m.encode_to_vec()).map_err(|e| bad(&e))? })
}
