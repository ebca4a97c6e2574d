//! Where in a prototxt file its layers and fields stand, for errors that are found after reading.

use crate::error::{Error, Place};
use std::{ops::Range, sync::Arc};

/// Characters of a line that an error shows at most.
const SHOWN: usize = 400;

/// A file's name and text.
#[derive(Debug, Default)]
pub(super) struct Text {
    pub file: String,
    pub text: String,
    /// Whether bytes that are no UTF-8 were replaced by U+FFFD.
    pub replaced: bool,
}

impl Text {
    /// The bytes of a range; empty where it does not fit.
    pub fn slice(&self, span: &Range<usize>) -> &str {
        self.text.get(span.clone()).unwrap_or_default()
    }

    /// The place of a range, for an error.
    pub fn place(&self, span: &Range<usize>) -> Place {
        let start = span.start.min(self.text.len());
        let (before, after) = self.text.split_at_checked(start).unwrap_or((&self.text, ""));
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line_end = after.find('\n').map_or(self.text.len(), |at| start + at);
        let line = self.slice(&(line_start..line_end));
        // Control characters would garble the terminal.
        let shown = line.trim_end().chars().take(SHOWN);
        let shown = shown.map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect();
        let column = self.slice(&(line_start..start)).chars().count() + 1;
        Place {
            file: self.file.clone(),
            line: before.matches('\n').count() + 1,
            column,
            width: self.slice(&(start..span.end.min(line_end))).chars().count().clamp(1, SHOWN),
            text: shown,
        }
    }
}

/// One field as it stands in the text.
#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    /// Bytes of its name.
    pub name: Range<usize>,
    /// Bytes of its value; of a message, its braces and what is between them.
    pub value: Range<usize>,
    /// The value of a string.
    pub string: Option<String>,
    /// The fields of a message.
    pub children: Vec<Node>,
}

/// The text of a prototxt file with the positions of all its fields.
///
/// Paths are dotted, with an index where a field is repeated: `convolution_param.stride`, `bottom[1]`,
/// `param[0].lr_mult`. They name the fields of today's schema; in files of older formats the field that was
/// upgraded to it is found (`blobs_lr` for `param.lr_mult`). A path that leads nowhere ends at the deepest part of it that
/// the file has.
#[derive(Clone, Debug, Default)]
pub struct Source {
    text: Arc<Text>,
    nodes: Vec<Node>,
}

impl Source {
    pub(super) fn new(text: Arc<Text>, nodes: Vec<Node>) -> Source {
        Source { text, nodes }
    }

    /// File as the user named it.
    pub fn file(&self) -> &str {
        &self.text.file
    }

    /// Place of the `nth` layer (from 0) of those with a name, or of a field below it.
    pub fn place_of_layer(&self, name: &str, nth: usize, field: Option<&str>) -> Option<Place> {
        let layers = self.nodes.iter().filter(|n| matches!(self.name(n), "layer" | "layers"));
        let Some(layer) = layers.filter(|n| self.layer_name(n) == Some(name)).nth(nth) else {
            // Top-level input fields become a layer of this name.
            return if name == "input" { self.place_of_field("input") } else { None };
        };
        let node = field.and_then(|path| {
            self.find(&layer.children, path).or_else(|| self.find_v0(&layer.children, path))
        });
        let node = node.or_else(|| self.name_of_layer(layer)).unwrap_or(layer);
        Some(self.place(node))
    }

    /// Place of a field of the file's message, as `base_lr` or `test_iter[1]`.
    pub fn place_of_field(&self, path: &str) -> Option<Place> {
        self.find(&self.nodes, path).map(|node| self.place(node))
    }

    /// The part of the text inside a message of the file, as `net_param` or `test_net_param[1]` of a solver.
    pub fn within(&self, path: &str) -> Option<Source> {
        let node = self.find(&self.nodes, path)?;
        Some(Source { text: self.text.clone(), nodes: node.children.clone() })
    }

    /// Gives an error that names its layer or field, but no place, the place of these; at least the file.
    pub fn locate(&self, error: Error) -> Error {
        let place = match (error.layer(), error.field()) {
            _ if error.place().is_some() => None,
            (Some(layer), field) => self.place_of_layer(layer, error.layer_nth(), field),
            (None, Some(field)) => self.place_of_field(field),
            (None, None) => None,
        };
        match place {
            Some(place) => error.at(place),
            None => error.in_file(self.file()),
        }
    }

    fn name(&self, node: &Node) -> &str {
        self.text.slice(&node.name)
    }

    /// The field with a layer's name; V0 has it one level deeper.
    fn name_of_layer<'a>(&'a self, layer: &'a Node) -> Option<&'a Node> {
        let named = |nodes: &'a [Node]| nodes.iter().find(|n| self.name(n) == "name");
        named(&layer.children).or_else(|| named(&self.nth(&layer.children, "layer", 0)?.children))
    }

    fn layer_name<'a>(&'a self, layer: &'a Node) -> Option<&'a str> {
        self.name_of_layer(layer).and_then(|n| n.string.as_deref())
    }

    /// A message by its name, a scalar by its value, which is what errors are about.
    fn place(&self, node: &Node) -> Place {
        let message = matches!(self.text.slice(&node.value).as_bytes().first(), Some(b'{' | b'<'));
        self.text.place(if message { &node.name } else { &node.value })
    }

    /// The deepest node on a path.
    fn find<'a>(&'a self, nodes: &'a [Node], path: &str) -> Option<&'a Node> {
        let (head, rest) = path.split_once('.').unwrap_or((path, ""));
        let (name, index) = match head.split_once('[') {
            Some((name, index)) => (name, index.trim_end_matches(']').parse().unwrap_or(0)),
            None => (head, 0),
        };
        if let Some(node) = self.nth(nodes, name, index) {
            let deeper = if rest.is_empty() { None } else { self.find(&node.children, rest) };
            // V1: `param: "name"` is a string, its multipliers stand elsewhere.
            let older = if node.children.is_empty() { self.older(nodes, name, index, rest) } else { None };
            return deeper.or(older).or(Some(node));
        }
        self.older(nodes, name, index, rest)
    }

    /// The field of an older format that is upgraded to `name[index].rest`.
    fn older<'a>(&'a self, nodes: &'a [Node], name: &str, index: usize, rest: &str) -> Option<&'a Node> {
        match (name, rest) {
            ("param", "lr_mult") => self.find(nodes, &format!("blobs_lr[{index}]")),
            ("param", "decay_mult") => self.find(nodes, &format!("weight_decay[{index}]")),
            ("transform_param", _) if !rest.is_empty() => {
                let old = ["data_param", "image_data_param", "window_data_param"];
                let mut found = old.iter().filter_map(|name| self.nth(nodes, name, 0));
                found.find_map(|n| self.find(&n.children, rest))
            }
            _ => None,
        }
    }

    /// V0 has all fields in one message inside the layer, and writes `kernelsize` for `kernel_size`.
    fn find_v0<'a>(&'a self, layer: &'a [Node], path: &str) -> Option<&'a Node> {
        let v0 = &self.nth(layer, "layer", 0)?.children;
        let last = path.split_once('.').map_or(path, |(_, last)| last);
        self.find(v0, path).or_else(|| self.find(v0, last)).or_else(|| self.find(v0, &last.replace('_', "")))
    }

    fn nth<'a>(&'a self, nodes: &'a [Node], name: &str, index: usize) -> Option<&'a Node> {
        nodes.iter().filter(|n| self.name(n) == name).nth(index)
    }
}
