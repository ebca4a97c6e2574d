//! Descriptors of the messages: what their fields are called, numbered, typed and defaulted.

use crate::error::{Error, Kind, Result};
use prost::Name;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, ReflectMessage, Value};
use std::sync::LazyLock;

/// The schema as the build compiled it.
static SCHEMA: LazyLock<std::result::Result<DescriptorPool, String>> = LazyLock::new(|| {
    DescriptorPool::decode(&include_bytes!(concat!(env!("OUT_DIR"), "/caffe.bin"))[..])
        .map_err(|error| error.to_string())
});

/// All descriptors of `proto/caffe.proto`.
pub fn pool() -> Result<&'static DescriptorPool> {
    SCHEMA.as_ref().map_err(|error| Error::new(Kind::Unsupported, format!("the built-in schema: {error}")))
}

/// Descriptor of a generated message.
pub fn descriptor<M: Name>() -> Result<MessageDescriptor> {
    let name = M::full_name();
    pool()?
        .get_message_by_name(&name)
        .ok_or_else(|| Error::new(Kind::Unsupported, format!("message {name} is not in the built-in schema")))
}

/// Refuses what prost takes silently from a binary file: an enum number that has no name, a required field that
/// is missing.
pub fn check(message: &DynamicMessage) -> Result<()> {
    let descriptor = message.descriptor();
    if let Some(field) = descriptor.fields().find(|f| f.is_required() && !message.has_field(f)) {
        let text = format!("required field \"{}\" of {} is missing", field.name(), descriptor.name());
        return Err(Error::new(Kind::Value, text));
    }
    for (field, value) in message.fields() {
        let values = match value {
            Value::List(list) => list.as_slice(),
            one => std::slice::from_ref(one),
        };
        for value in values {
            match (field.kind(), value) {
                (_, Value::Message(inner)) => check(inner)?,
                (prost_reflect::Kind::Enum(names), Value::EnumNumber(n)) if names.get_value(*n).is_none() => {
                    let text = format!("{} {n} has no name", names.name());
                    return Err(Error::new(Kind::Value, text).in_field(field.name()));
                }
                _ => {}
            }
        }
    }
    Ok(())
}
