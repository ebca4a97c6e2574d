//! Values of single fields: numbers, booleans, strings, enums.

use super::hint;
use super::scan::{Token, unescape};
use super::text::Parser;
use crate::error::{Error, Kind, Result};
use prost_reflect::{DynamicMessage, ExtensionDescriptor, FieldDescriptor, Kind as Type, Value};
use std::ops::Range;

/// A field of a message or an extension of it.
pub(super) enum Field {
    Plain(FieldDescriptor),
    Extension(ExtensionDescriptor),
}

impl Field {
    pub fn name(&self) -> &str {
        match self {
            Field::Plain(field) => field.name(),
            Field::Extension(field) => field.full_name(),
        }
    }

    pub fn kind(&self) -> Type {
        match self {
            Field::Plain(field) => field.kind(),
            Field::Extension(field) => field.kind(),
        }
    }

    pub fn is_list(&self) -> bool {
        match self {
            Field::Plain(field) => field.is_list(),
            Field::Extension(field) => field.is_list(),
        }
    }

    pub fn is_map(&self) -> bool {
        match self {
            Field::Plain(field) => field.is_map(),
            Field::Extension(field) => field.is_map(),
        }
    }

    pub fn is_set(&self, message: &DynamicMessage) -> bool {
        match self {
            Field::Plain(field) => message.has_field(field),
            Field::Extension(field) => message.has_extension(field),
        }
    }

    /// Sets the field, or adds to its list.
    pub fn store(&self, message: &mut DynamicMessage, value: Value) {
        let list = match self {
            _ if !self.is_list() => None,
            Field::Plain(field) => message.get_field_mut(field).as_list_mut(),
            Field::Extension(field) => message.get_extension_mut(field).as_list_mut(),
        };
        match (list, self) {
            (Some(list), _) => list.push(value),
            (None, Field::Plain(field)) => message.set_field(field, value),
            (None, Field::Extension(field)) => message.set_extension(field, value),
        }
    }

    /// What its value has to be, for errors.
    pub fn wanted(&self) -> String {
        match self.kind() {
            Type::Double | Type::Float => "a number".to_string(),
            Type::Bool => "true or false".to_string(),
            Type::String | Type::Bytes => "a string in quotes".to_string(),
            Type::Message(_) => "\"{\"".to_string(),
            Type::Enum(names) => hint::names_of(&names),
            kind => {
                let (low, high) = range(&kind);
                if low == 0 {
                    format!("a whole number from 0 to {high}")
                } else {
                    "a whole number".to_string()
                }
            }
        }
    }
}

/// Smallest and largest value of an integer type.
fn range(kind: &Type) -> (i128, i128) {
    match kind {
        Type::Int32 | Type::Sint32 | Type::Sfixed32 | Type::Enum(_) => (i32::MIN.into(), i32::MAX.into()),
        Type::Int64 | Type::Sint64 | Type::Sfixed64 => (i64::MIN.into(), i64::MAX.into()),
        Type::Uint32 | Type::Fixed32 => (0, u32::MAX.into()),
        Type::Bool => (0, 1),
        _ => (0, u64::MAX.into()),
    }
}

impl Parser<'_> {
    /// A value that is no message.
    pub fn scalar(&mut self, field: &Field) -> Result<Value> {
        Ok(match field.kind() {
            Type::String | Type::Bytes => return self.string(field),
            Type::Bool => self.boolean(field)?,
            Type::Enum(_) => self.enumeration(field)?,
            Type::Float => Value::F32(self.float(field)? as f32),
            Type::Double => Value::F64(self.float(field)?),
            // The casts are exact: `integer` keeps to the range of the type.
            kind => {
                let number = self.integer(field)?;
                match kind {
                    Type::Int32 | Type::Sint32 | Type::Sfixed32 => Value::I32(number as i32),
                    Type::Int64 | Type::Sint64 | Type::Sfixed64 => Value::I64(number as i64),
                    Type::Uint32 | Type::Fixed32 => Value::U32(number as u32),
                    _ => Value::U64(number as u64),
                }
            }
        })
    }

    /// The value is not what the field takes.
    fn wrong(&self, field: &Field) -> Error {
        let text = format!("\"{}\" takes another value", field.name());
        let error = self.mistake(Kind::Value, text, &self.scanner.span).expected(field.wanted());
        hint::other_type(error.found(self.scanner.found()), self, field).in_field(&self.path(field.name()))
    }

    fn minus(&mut self) -> Result<bool> {
        let minus = self.scanner.token == Token::Symbol('-');
        if minus {
            self.scanner.next()?;
        }
        Ok(minus)
    }

    fn integer(&mut self, field: &Field) -> Result<i128> {
        let start = self.scanner.span.start;
        let minus = self.minus()?;
        if self.scanner.token != Token::Integer {
            return Err(self.wrong(field));
        }
        let span = start..self.scanner.span.end;
        let (digits, radix) = match self.scanner.written() {
            hex if hex.starts_with("0x") || hex.starts_with("0X") => (hex.get(2..).unwrap_or_default(), 16),
            octal if octal.len() > 1 && octal.starts_with('0') => (octal, 8),
            decimal => (decimal, 10),
        };
        let bad_octal = radix == 8 && digits.bytes().any(|b| b > b'7');
        let value = i128::from_str_radix(digits, radix).ok().map(|v| if minus { -v } else { v });
        let (low, high) = range(&field.kind());
        match value.filter(|v| (low..=high).contains(v)) {
            Some(value) => {
                self.scanner.next()?;
                Ok(value)
            }
            None => {
                let text = if bad_octal {
                    "a number that starts with 0 is octal and has no 8 or 9".to_string()
                } else {
                    format!("\"{}\" is outside the range of \"{}\"", self.text.slice(&span), field.name())
                };
                let error = self.mistake(Kind::Value, text, &span).expected(format!("{low} to {high}"));
                Err(error.found(self.text.slice(&span)).in_field(&self.path(field.name())))
            }
        }
    }

    /// As protobuf, through double precision.
    fn float(&mut self, field: &Field) -> Result<f64> {
        let minus = self.minus()?;
        let written = self.scanner.written();
        let value = match self.scanner.token {
            // Protobuf takes neither hex nor octal here; what was meant is not clear.
            Token::Integer if written.len() > 1 && written.starts_with('0') => {
                let decimal = written.trim_start_matches('0');
                let error = self.wrong(field);
                return Err(if decimal.starts_with(|c: char| c.is_ascii_digit()) {
                    error.suggest(format!("write {decimal} if that is meant; a leading 0 means octal"))
                } else {
                    error
                });
            }
            Token::Integer => written.parse().ok(),
            Token::Float => written.trim_end_matches(['f', 'F']).parse().ok(),
            Token::Identifier => match written.to_ascii_lowercase().as_str() {
                "inf" | "infinity" => Some(f64::INFINITY),
                "nan" => Some(f64::NAN),
                _ => None,
            },
            _ => None,
        };
        let value: f64 = value.ok_or_else(|| self.wrong(field))?;
        self.scanner.next()?;
        Ok(if minus { -value } else { value })
    }

    fn boolean(&mut self, field: &Field) -> Result<Value> {
        let value = match (self.scanner.token, self.scanner.written()) {
            (Token::Integer, _) => return Ok(Value::Bool(self.integer(field)? == 1)),
            (Token::Identifier, "true" | "True" | "t") => true,
            (Token::Identifier, "false" | "False" | "f") => false,
            _ => return Err(self.wrong(field)),
        };
        self.scanner.next()?;
        Ok(Value::Bool(value))
    }

    fn enumeration(&mut self, field: &Field) -> Result<Value> {
        let Type::Enum(names) = field.kind() else { return Err(self.wrong(field)) };
        let span = self.scanner.span.clone();
        let number = match self.scanner.token {
            Token::Integer | Token::Symbol('-') => {
                let number = self.integer(field)? as i32;
                names.get_value(number).map(|v| v.number())
            }
            Token::Identifier => {
                let value = names.get_value_by_name(self.scanner.written());
                self.scanner.next()?;
                value.map(|v| v.number())
            }
            _ => return Err(self.wrong(field)),
        };
        number.map(Value::EnumNumber).ok_or_else(|| hint::unknown_value(self, field, &names, &span))
    }

    /// A string in one or more pieces.
    fn string(&mut self, field: &Field) -> Result<Value> {
        if self.scanner.token != Token::String {
            return Err(self.wrong(field));
        }
        let mut bytes = Vec::new();
        let start = self.scanner.span.start;
        while self.scanner.token == Token::String {
            let piece = self.scanner.span.clone();
            let part = unescape(self.scanner.written()).map_err(|(offset, text)| {
                let at = (piece.start + offset).min(piece.end);
                self.mistake(Kind::Syntax, text, &(at..at + 2)).in_field(&self.path(field.name()))
            })?;
            bytes.extend(part);
            self.scanner.next()?;
        }
        let span = start..self.scanner.last_end;
        if matches!(field.kind(), Type::Bytes) {
            return Ok(Value::Bytes(bytes.into()));
        }
        let text = String::from_utf8(bytes).map_err(|_| self.not_utf8(field, &span))?;
        if self.text.replaced && text.contains('\u{fffd}') {
            return Err(self.not_utf8(field, &span));
        }
        Ok(Value::String(text))
    }

    fn not_utf8(&self, field: &Field, span: &Range<usize>) -> Error {
        let error = self.mistake(Kind::Syntax, "a string that is not valid UTF-8", span);
        error.suggest("save the file as UTF-8").in_field(&self.path(field.name()))
    }
}
