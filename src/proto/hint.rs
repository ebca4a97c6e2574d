//! What the user may have meant, where a name in a prototxt is wrong.

use super::scan::Token;
use super::text::Parser;
use super::value::Field;
use crate::error::{Error, Kind, nearest};
use prost_reflect::{EnumDescriptor, Kind as Type, MessageDescriptor};
use std::ops::Range;

/// The names of an enum, for "expected".
pub(super) fn names_of(names: &EnumDescriptor) -> String {
    let all: Vec<_> = names.values().map(|v| v.name().to_string()).collect();
    match all.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => all.join(""),
    }
}

/// A name that is no field of the message: the nearest one, or the message that has it.
pub(super) fn unknown_field(parser: &Parser, descriptor: &MessageDescriptor, span: &Range<usize>) -> Error {
    let name = parser.text.slice(span);
    let text = format!("unknown field \"{name}\" in {}", descriptor.name());
    let error =
        parser.mistake(Kind::UnknownName, text, span).expected(format!("a field of {}", descriptor.name()));
    let around = parser.levels.iter().rev().skip(1).find(|l| l.descriptor.get_field_by_name(name).is_some());
    if let Some(level) = around {
        let inner = parser.levels.last().map_or("", |l| l.name.as_str());
        let owner = level.descriptor.name();
        return error.suggest(format!("\"{name}\" is a field of {owner}: is \"{inner}\" closed before it?"));
    }
    let below = descriptor.fields().filter(|f| match f.kind() {
        Type::Message(inner) => inner.get_field_by_name(name).is_some(),
        _ => false,
    });
    let below: Vec<_> = below.map(|f| f.name().to_string()).collect();
    let fields: Vec<_> = descriptor.fields().collect();
    let near = nearest(name, fields.iter().map(|f| f.name()));
    match (near, below.as_slice()) {
        (Some(near), _) => error.suggest(format!("did you mean \"{near}\"?")),
        (None, []) => error,
        // Too many to be of use: `axis` is in a dozen messages.
        (None, [first, second, third, _, ..]) => {
            error.suggest(format!("it is a field of {first}, {second}, {third} and others"))
        }
        (None, some) => error.suggest(format!("it is a field of {}", some.join(" and "))),
    }
}

/// An extension that does not exist or belongs to another message.
pub(super) fn unknown_extension(
    parser: &Parser,
    descriptor: &MessageDescriptor,
    name: &str,
    span: &Range<usize>,
) -> Error {
    let text = format!("unknown extension \"{name}\" of {}", descriptor.name());
    let names: Vec<_> = descriptor.extensions().map(|e| e.full_name().to_string()).collect();
    parser.mistake(Kind::UnknownName, text, span).suggest_nearest(name, names.iter().map(String::as_str))
}

/// A name or number that the enum does not have.
pub(super) fn unknown_value(
    parser: &Parser,
    field: &Field,
    names: &EnumDescriptor,
    span: &Range<usize>,
) -> Error {
    let found = parser.text.slice(span);
    let text = format!("\"{found}\" is no value of \"{}\"", field.name());
    let error = parser.mistake(Kind::UnknownName, text, span).expected(names_of(names));
    suggest_value(error, found, names).in_field(&parser.path(field.name()))
}

fn suggest_value(error: Error, found: &str, names: &EnumDescriptor) -> Error {
    let values: Vec<_> = names.values().map(|v| v.name().to_string()).collect();
    match values.iter().find(|v| v.eq_ignore_ascii_case(found)) {
        Some(same) => error.suggest(format!("did you mean \"{same}\"?")),
        None => error.suggest_nearest(found, values.iter().map(String::as_str)),
    }
}

/// A value of another type: quotes that are missing or too many, as where `layer` and `layers` are mixed up.
pub(super) fn other_type(error: Error, parser: &Parser, field: &Field) -> Error {
    let written = parser.scanner.written();
    let level = parser.levels.last().map_or("", |l| l.name.as_str());
    match (parser.scanner.token, field.kind()) {
        (Token::String, Type::Enum(_)) if level == "layers" && field.name() == "type" => {
            error.suggest("\"layers\" is Caffe's old format; with a type in quotes write \"layer\"")
        }
        (Token::String, Type::Enum(names)) => suggest_value(error, written.trim_matches(['"', '\'']), &names),
        (Token::String, _) => error.suggest("write it without quotes"),
        (Token::Identifier, Type::String) if level == "layer" && field.name() == "type" => error
            .suggest(format!("write the type in quotes; {written} without quotes is Caffe's old \"layers\"")),
        (Token::Identifier | Token::Integer, Type::String) => error.suggest(format!("write \"{written}\"")),
        (Token::Identifier, Type::Bool) => {
            error.suggest_nearest(&written.to_ascii_lowercase(), ["true", "false"])
        }
        _ => error,
    }
}
