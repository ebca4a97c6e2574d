//! Writing prototxt, with the same bytes as protobuf's own printer: one field per line in the order of their
//! numbers, two spaces of indent.

use super::number::{print_f32, print_f64};
use super::schema;
use crate::error::{Error, Kind, Result};
use prost::{Message, Name};
use prost_reflect::{DynamicMessage, Kind as Type, Value};
use std::fmt::Write;

/// The text of a message.
pub fn print<M: Message + Name>(message: &M) -> Result<String> {
    let mut dynamic = DynamicMessage::new(schema::descriptor::<M>()?);
    dynamic
        .transcode_from(message)
        .map_err(|error| Error::new(Kind::Value, format!("cannot print a {}: {error}", M::NAME)))?;
    Ok(print_dynamic(&dynamic))
}

/// The text of a message of any schema. Fields that its schema does not know are left out.
pub fn print_dynamic(message: &DynamicMessage) -> String {
    let mut out = String::new();
    fields(&mut out, message, 0);
    out
}

fn fields(out: &mut String, message: &DynamicMessage, depth: usize) {
    let plain = message.fields().map(|(f, v)| (f.number(), f.name().to_string(), f.kind(), v));
    let extensions =
        message.extensions().map(|(e, v)| (e.number(), format!("[{}]", e.full_name()), e.kind(), v));
    let mut all: Vec<_> = plain.chain(extensions).collect();
    all.sort_by_key(|(number, ..)| *number);
    for (_, name, kind, value) in all {
        let values = match value {
            Value::List(list) => list.as_slice(),
            one => std::slice::from_ref(one),
        };
        for value in values {
            field(out, &name, &kind, value, depth);
        }
    }
}

fn field(out: &mut String, name: &str, kind: &Type, value: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    // Writing to a String does not fail.
    let _ = match value {
        Value::Message(message) => {
            let _ = writeln!(out, "{indent}{name} {{");
            fields(out, message, depth + 1);
            writeln!(out, "{indent}}}")
        }
        value => writeln!(out, "{indent}{name}: {}", scalar(kind, value)),
    };
}

fn scalar(kind: &Type, value: &Value) -> String {
    match value {
        Value::Bool(v) => v.to_string(),
        Value::I32(v) => v.to_string(),
        Value::I64(v) => v.to_string(),
        Value::U32(v) => v.to_string(),
        Value::U64(v) => v.to_string(),
        Value::F32(v) => print_f32(*v),
        Value::F64(v) => print_f64(*v),
        Value::String(v) => quote(v.as_bytes()),
        Value::Bytes(v) => quote(v),
        Value::EnumNumber(n) => {
            let name = kind.as_enum().and_then(|e| e.get_value(*n));
            name.map_or_else(|| n.to_string(), |v| v.name().to_string())
        }
        Value::Message(_) | Value::List(_) | Value::Map(_) => String::new(),
    }
}

/// In double quotes; everything but printable ASCII is escaped.
fn quote(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for &byte in bytes {
        match byte {
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            b'"' | b'\'' | b'\\' => out.extend(['\\', char::from(byte)]),
            0x20..=0x7e => out.push(char::from(byte)),
            _ => out.push_str(&format!("\\{byte:03o}")),
        }
    }
    out.push('"');
    out
}
