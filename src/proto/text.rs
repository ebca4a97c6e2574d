//! Reading prototxt.
//!
//! Accepts what protobuf's text format accepts: comments, `:` before `{` or not, `<>` for `{}`, `;` and `,` behind fields,
//! both quotes, adjacent strings joined, escapes, hex and octal numbers, `inf` and `nan`, `[1, 2]` for repeated
//! fields, enum names or numbers, extensions `[pkg.ext]`. The parser is our own, over the descriptors of
//! prost-reflect: one pass gives the message, the position of every field, and errors that know what was expected.

use super::hint;
use super::scan::{Scanner, Token};
use super::schema;
use super::source::{Node, Source, Text};
use super::value::Field;
use crate::error::{Error, Kind, Result};
use prost::{Message, Name};
use prost_reflect::{DynamicMessage, Kind as Type, MessageDescriptor, ReflectMessage, Value};
use std::{ops::Range, path::Path, sync::Arc};

/// Messages inside messages that are read, as protobuf limits them.
const MOST_NESTED: usize = 100;

/// A message, where its fields stand, and what was upgraded.
#[derive(Clone, Debug)]
pub struct Parsed<M> {
    /// The message.
    pub message: M,
    /// Positions of its fields in the text.
    pub source: Arc<Source>,
    /// What was upgraded from older formats, a sentence each, for the log.
    pub upgrades: Vec<String>,
}

/// Reads a prototxt file. Nothing is upgraded; see [`super::read_net`].
pub fn read<M: Message + Name + Default>(path: impl AsRef<Path>) -> Result<Parsed<M>> {
    let bytes = super::file::read_bytes(&path)?;
    parse_bytes(bytes, &path.as_ref().display().to_string())
}

/// Reads a message from prototxt text; `file` names it in errors.
pub fn parse<M: Message + Name + Default>(text: &str, file: &str) -> Result<Parsed<M>> {
    parse_text(Text { file: file.to_string(), text: text.to_string(), replaced: false })
}

/// As [`parse`], from bytes. Comments need not be UTF-8 (old nets have them in local encodings), strings must.
pub(super) fn parse_bytes<M: Message + Name + Default>(bytes: Vec<u8>, file: &str) -> Result<Parsed<M>> {
    let (text, replaced) = match String::from_utf8(bytes) {
        Ok(text) => (text, false),
        Err(error) => (String::from_utf8_lossy(error.as_bytes()).into_owned(), true),
    };
    parse_text(Text { file: file.to_string(), text, replaced })
}

fn parse_text<M: Message + Name + Default>(text: Text) -> Result<Parsed<M>> {
    let file = text.file.clone();
    let (message, source) = parse_with(text, &schema::descriptor::<M>()?)?;
    let message = message
        .transcode_to()
        .map_err(|e| Error::new(Kind::Unsupported, format!("the built-in schema: {e}")).in_file(file))?;
    Ok(Parsed { message, source: Arc::new(source), upgrades: Vec::new() })
}

/// Reads a message of any descriptor, also of a schema of the user's own with extensions of ours.
pub fn parse_dynamic(
    text: &str,
    file: &str,
    descriptor: &MessageDescriptor,
) -> Result<(DynamicMessage, Source)> {
    parse_with(Text { file: file.to_string(), text: text.to_string(), replaced: false }, descriptor)
}

fn parse_with(text: Text, descriptor: &MessageDescriptor) -> Result<(DynamicMessage, Source)> {
    let text = Arc::new(text);
    let scanner = Scanner::new(&text)?;
    let mut parser = Parser { text: &text, scanner, levels: Vec::new() };
    let (message, nodes) = parser.message(descriptor, "", None)?;
    Ok((message, Source::new(text.clone(), nodes)))
}

/// A message that is being read.
pub(super) struct Level {
    pub descriptor: MessageDescriptor,
    /// Name of the field it is the value of.
    pub name: String,
    /// The brace that opens it.
    open: Option<Range<usize>>,
}

pub(super) struct Parser<'a> {
    pub text: &'a Text,
    pub scanner: Scanner<'a>,
    /// The messages around the current token, outermost first.
    pub levels: Vec<Level>,
}

impl Parser<'_> {
    /// Fields up to the closing symbol, or to the end of the file. The opening brace, if any, is the current token.
    fn message(
        &mut self,
        descriptor: &MessageDescriptor,
        name: &str,
        close: Option<char>,
    ) -> Result<(DynamicMessage, Vec<Node>)> {
        let open = close.map(|_| self.scanner.span.clone());
        if self.levels.len() >= MOST_NESTED {
            let text = format!("more than {MOST_NESTED} messages inside each other");
            return Err(self.mistake(Kind::Syntax, text, &self.scanner.span));
        }
        if close.is_some() {
            self.scanner.next()?;
        }
        self.levels.push(Level { descriptor: descriptor.clone(), name: name.to_string(), open });
        let mut message = DynamicMessage::new(descriptor.clone());
        let mut nodes = Vec::new();
        let read = self.fields(&mut message, &mut nodes, close);
        read.map_err(|error| match (name, nodes.iter().find_map(|n| self.layer_name(n))) {
            ("layer" | "layers", Some(layer)) => error.in_layer(layer),
            _ => error,
        })?;
        self.levels.pop();
        Ok((message, nodes))
    }

    fn layer_name<'n>(&self, node: &'n Node) -> Option<&'n str> {
        if self.text.slice(&node.name) == "name" { node.string.as_deref() } else { None }
    }

    fn fields(
        &mut self,
        message: &mut DynamicMessage,
        nodes: &mut Vec<Node>,
        close: Option<char>,
    ) -> Result<()> {
        loop {
            match self.scanner.token {
                Token::End if close.is_none() => break,
                Token::Symbol(symbol) if close == Some(symbol) => break,
                Token::End => return Err(self.unclosed(close)),
                _ => self.field(message, nodes)?,
            }
        }
        let descriptor = message.descriptor();
        let missing = descriptor.fields().find(|f| f.is_required() && !message.has_field(f));
        if let Some(field) = missing {
            let open = self.levels.last().and_then(|l| l.open.clone());
            let text = format!("required field \"{}\" of {} is missing", field.name(), descriptor.name());
            return Err(self.mistake(Kind::Value, text, &open.unwrap_or(0..0)));
        }
        if close.is_some() { self.scanner.next() } else { Ok(()) }
    }

    /// One field with its value or list of values, and the separator behind it.
    fn field(&mut self, message: &mut DynamicMessage, nodes: &mut Vec<Node>) -> Result<()> {
        let (field, name) = self.field_name(&message.descriptor())?;
        if !field.is_list() && field.is_set(message) {
            let text = format!("field \"{}\" is given twice", field.name());
            let first = nodes.iter().find(|n| self.text.slice(&n.name) == self.text.slice(&name));
            let error = self.mistake(Kind::Value, text, &name);
            let line = first.map(|n| self.text.place(&n.name).line);
            return Err(match line {
                Some(line) => error.expected("it at most once").found(format!("it in line {line} already")),
                None => error,
            });
        }
        if field.is_map() {
            let text = format!("\"{}\" is a map, which prototxt of nets does not have", field.name());
            return Err(self.mistake(Kind::Unsupported, text, &name));
        }
        let colon = self.take(':')?;
        if !colon && field.message().is_none() {
            let error = self.mistake(Kind::Syntax, "\":\" is missing", &self.scanner.span);
            let error = error.expected(format!("\":\" and {}", field.wanted()));
            return Err(error.found(self.scanner.found()).in_field(&self.path(field.name())));
        }
        if self.scanner.token != Token::Symbol('[') {
            self.value(&field, &name, message, nodes)?;
        } else if !field.is_list() {
            let text = format!("\"{}\" takes one value, not a list", field.name());
            let error = self.mistake(Kind::Value, text, &self.scanner.span);
            return Err(error.expected(field.wanted()).found("a list").in_field(&self.path(field.name())));
        } else {
            self.scanner.next()?;
            let mut more = !self.take(']')?;
            while more {
                self.value(&field, &name, message, nodes)?;
                more = self.take(',')?;
                if !more && !self.take(']')? {
                    let error = self.mistake(Kind::Syntax, "a list that is not closed", &self.scanner.span);
                    let error = error.expected("\",\" or \"]\"").found(self.scanner.found());
                    return Err(error.in_field(&self.path(field.name())));
                }
            }
        }
        let _ = self.take(',')? || self.take(';')?;
        Ok(())
    }

    /// The field's name, or `[package.extension]`; its descriptor and where it stands.
    fn field_name(&mut self, descriptor: &MessageDescriptor) -> Result<(Field, Range<usize>)> {
        let start = self.scanner.span.start;
        match self.scanner.token {
            Token::Identifier => {
                let span = self.scanner.span.clone();
                let field = descriptor.get_field_by_name(self.scanner.written());
                let field = field.ok_or_else(|| hint::unknown_field(self, descriptor, &span))?;
                self.scanner.next()?;
                Ok((Field::Plain(field), span))
            }
            Token::Symbol('[') => {
                self.scanner.next()?;
                let inside = self.scanner.span.start;
                while matches!(self.scanner.token, Token::Identifier | Token::Symbol('.' | '/')) {
                    self.scanner.next()?;
                }
                let name = self.text.slice(&(inside..self.scanner.last_end.max(inside)));
                if !self.take(']')? {
                    let error = self.mistake(Kind::Syntax, "a name in [] is not closed", &self.scanner.span);
                    return Err(error.expected("\"]\"").found(self.scanner.found()));
                }
                let span = start..self.scanner.last_end;
                let field = descriptor.get_extension_by_full_name(name);
                let field = field.ok_or_else(|| hint::unknown_extension(self, descriptor, name, &span))?;
                Ok((Field::Extension(field), span))
            }
            _ => {
                let level = self.levels.last();
                let end = if level.is_some_and(|l| l.open.is_some()) { " or \"}\"" } else { "" };
                let error = self.mistake(Kind::Syntax, "not a field", &self.scanner.span);
                Err(error
                    .expected(format!("a field of {}{end}", descriptor.name()))
                    .found(self.scanner.found()))
            }
        }
    }

    /// One value, added to the message and to the positions.
    fn value(
        &mut self,
        field: &Field,
        name: &Range<usize>,
        message: &mut DynamicMessage,
        nodes: &mut Vec<Node>,
    ) -> Result<()> {
        let start = self.scanner.span.start;
        let mut node = Node { name: name.clone(), ..Node::default() };
        let value = if let Some(inner) = field.message() {
            let close = match self.scanner.token {
                Token::Symbol('{') => '}',
                Token::Symbol('<') => '>',
                _ => {
                    let text = format!("\"{}\" is a message", field.name());
                    let error = self.mistake(Kind::Syntax, text, &self.scanner.span);
                    let error = error.expected("\"{\"").found(self.scanner.found());
                    return Err(error.in_field(&self.path(field.name())));
                }
            };
            let (value, children) = self.message(&inner, field.name(), Some(close))?;
            node.children = children;
            Value::Message(value)
        } else {
            self.scalar(field)?
        };
        if let Value::String(string) = &value {
            node.string = Some(string.clone());
        }
        node.value = start..self.scanner.last_end;
        nodes.push(node);
        field.store(message, value);
        Ok(())
    }

    /// Goes past a symbol if it is the current token.
    fn take(&mut self, symbol: char) -> Result<bool> {
        let here = self.scanner.token == Token::Symbol(symbol);
        if here {
            self.scanner.next()?;
        }
        Ok(here)
    }

    /// Path of a field of the current message below its layer.
    pub fn path(&self, field: &str) -> String {
        let names = self.levels.iter().map(|l| l.name.as_str());
        let inner = names.filter(|n| !matches!(*n, "" | "layer" | "layers"));
        inner.chain([field]).collect::<Vec<_>>().join(".")
    }

    pub fn mistake(&self, kind: Kind, text: impl Into<String>, span: &Range<usize>) -> Error {
        Error::new(kind, text).at(self.text.place(span))
    }

    fn unclosed(&self, close: Option<char>) -> Error {
        let open = self.levels.last().and_then(|l| l.open.clone()).unwrap_or(0..0);
        let name = self.levels.last().map_or("", |l| l.name.as_str());
        self.mistake(Kind::Syntax, format!("\"{name}\" is opened here and never closed"), &open)
            .expected(format!("\"{}\"", close.unwrap_or('}')))
            .found("the end of the file")
    }
}

impl Field {
    /// The type of a field that is a message.
    fn message(&self) -> Option<MessageDescriptor> {
        match self.kind() {
            Type::Message(message) => Some(message),
            _ => None,
        }
    }
}
