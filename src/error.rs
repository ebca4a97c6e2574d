//! The one error type: what went wrong, where in which file, and what would be right.
//!
//! Every fallible function of the crate returns [`Result`]. An [`Error`] is made where the mistake is seen
//! ([`Error::new`]) and gains its place on the way up: the layer knows the field, the net knows the layer,
//! the reader of the prototxt knows file, line and column.

use std::fmt;

/// Result of everything that can fail here.
pub type Result<T> = std::result::Result<T, Error>;

/// What kind of mistake an [`Error`] reports, for programs that react to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A file could not be read or written.
    Io,
    /// A text or binary file is not well formed.
    Syntax,
    /// A name (field, layer type, blob, policy) that does not exist.
    UnknownName,
    /// A field whose value makes no sense, or a required one that is missing.
    Value,
    /// Shapes that do not fit together.
    Shape,
    /// A net whose layers do not fit together.
    Net,
    /// A data base, image or label that cannot be used.
    Data,
    /// A number that is not finite where one is needed.
    NotFinite,
    /// Something Caffe or the format knows and Cortado does not support.
    Unsupported,
    /// The device is missing or failed.
    Device,
    /// A mistake on the command line.
    Usage,
    /// Stopped by the user.
    Interrupted,
}

/// A place in a text file, with the line to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// File as the user named it.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Characters to underline.
    pub width: usize,
    /// Text of the line.
    pub text: String,
}

/// A mistake with its place, what was expected, what was found, and a suggestion.
pub struct Error(Box<Report>);

#[derive(Clone)]
struct Report {
    kind: Kind,
    message: String,
    file: Option<String>,
    place: Option<Place>,
    layer: Option<(String, usize)>,
    field: Option<String>,
    expected: Option<String>,
    found: Option<String>,
    suggestion: Option<String>,
}

impl Error {
    /// A mistake of a kind, said in one sentence without a full stop.
    pub fn new(kind: Kind, message: impl Into<String>) -> Error {
        Error(Box::new(Report {
            kind,
            message: message.into(),
            file: None,
            place: None,
            layer: None,
            field: None,
            expected: None,
            found: None,
            suggestion: None,
        }))
    }

    /// A file that could not be read or written.
    pub fn io(path: impl AsRef<std::path::Path>, doing: &str, error: &std::io::Error) -> Error {
        Error::new(Kind::Io, format!("cannot {doing} {}: {error}", path.as_ref().display()))
    }

    /// What would have been right.
    pub fn expected(mut self, what: impl fmt::Display) -> Error {
        self.0.expected = Some(what.to_string());
        self
    }

    /// What was there instead.
    pub fn found(mut self, what: impl fmt::Display) -> Error {
        self.0.found = Some(what.to_string());
        self
    }

    /// What the user may do about it.
    pub fn suggest(mut self, what: impl fmt::Display) -> Error {
        self.0.suggestion = Some(what.to_string());
        self
    }

    /// Suggests the name of `names` nearest to `wrong`, if one is near.
    pub fn suggest_nearest<'a>(self, wrong: &str, names: impl IntoIterator<Item = &'a str>) -> Error {
        match nearest(wrong, names) {
            Some(name) => self.suggest(format!("did you mean \"{name}\"?")),
            None => self,
        }
    }

    /// The layer it happened in; the innermost one stays.
    pub fn in_layer(self, name: &str) -> Error {
        self.in_nth_layer(name, 0)
    }

    /// As [`Error::in_layer`], for the nth of several layers of that name in the file, from 0.
    pub fn in_nth_layer(mut self, name: &str, nth: usize) -> Error {
        self.0.layer.get_or_insert_with(|| (name.to_string(), nth));
        self
    }

    /// The field it is about, as a path below the layer (`convolution_param.stride`); the innermost one stays.
    pub fn in_field(mut self, path: &str) -> Error {
        self.0.field.get_or_insert_with(|| path.to_string());
        self
    }

    /// The message that the field lies in, for an error that comes from below with a bare field name.
    pub fn under(mut self, message: &str) -> Error {
        if let Some(field) = &mut self.0.field {
            field.insert_str(0, &format!("{message}."));
        }
        self
    }

    /// The file it is about, where no line is known.
    pub fn in_file(mut self, file: impl Into<String>) -> Error {
        let file = file.into();
        self.0.file.get_or_insert(file);
        self
    }

    /// The place in a text file; the first one given stays.
    pub fn at(mut self, place: Place) -> Error {
        self.0.place.get_or_insert(place);
        self
    }

    /// Kind of mistake.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }
    /// The sentence that says what is wrong.
    pub fn message(&self) -> &str {
        &self.0.message
    }
    /// Place in a text file.
    pub fn place(&self) -> Option<&Place> {
        self.0.place.as_ref()
    }
    /// Name of the layer.
    pub fn layer(&self) -> Option<&str> {
        self.0.layer.as_ref().map(|(name, _)| name.as_str())
    }
    /// Which of the layers of that name in the file, from 0.
    pub fn layer_nth(&self) -> usize {
        self.0.layer.as_ref().map_or(0, |&(_, nth)| nth)
    }
    /// Path of the field below the layer.
    pub fn field(&self) -> Option<&str> {
        self.0.field.as_deref()
    }
    /// What would have been right.
    pub fn expectation(&self) -> Option<&str> {
        self.0.expected.as_deref()
    }
    /// The hint for the user.
    pub fn suggestion(&self) -> Option<&str> {
        self.0.suggestion.as_deref()
    }
}

/// One sentence, then the place with the line and a caret, then expected, found and help, in the manner of rustc.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let r = &*self.0;
        if let Some((layer, _)) = &r.layer {
            write!(f, "layer \"{layer}\": ")?;
        }
        if let Some(field) = &r.field {
            write!(f, "{field}: ")?;
        }
        f.write_str(&r.message)?;
        if let Some(p) = &r.place {
            let number = p.line.to_string();
            let gutter = " ".repeat(number.len());
            // Tabs before the caret are kept, so that it stands under what it points at.
            let lead: String =
                p.text.chars().take(p.column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
            write!(f, "\n{gutter}--> {}:{}:{}", p.file, p.line, p.column)?;
            write!(f, "\n{gutter} |\n{number} | {}", p.text)?;
            write!(f, "\n{gutter} | {lead}{}", "^".repeat(p.width.max(1)))?;
            // The line may name a file in which the mistake is, or one beside which that file lies.
            if let Some(file) = r.file.as_ref().filter(|&file| *file != p.file) {
                write!(f, "\n  = file: {file}")?;
            }
        } else if let Some(file) = &r.file {
            write!(f, "\n --> {file}")?;
        }
        for (name, text) in [("expected", &r.expected), ("found", &r.found), ("help", &r.suggestion)] {
            if let Some(text) = text {
                write!(f, "\n  = {name}: {text}")?;
            }
        }
        Ok(())
    }
}

/// As `Display`: a test that fails shows the user's view.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {}

impl Clone for Error {
    fn clone(&self) -> Error {
        Error(self.0.clone())
    }
}

/// The name nearest to `wrong`: fewest edits, at most a third of its length; letter case counts half.
pub fn nearest<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = 2 * wrong.chars().count().div_ceil(3);
    names
        .into_iter()
        .map(|name| (edits(wrong, name), name))
        .filter(|&(d, _)| d <= limit)
        .min_by_key(|&(d, _)| d)
        .map(|(_, name)| name)
}

/// Twice the Damerau-Levenshtein distance (neighbours swapped is one edit), where another letter case costs 1.
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    // Row i begins with the cost of deleting i letters, row 0 holds those of inserting j.
    let mut d: Vec<Vec<usize>> =
        (0..=a.len()).map(|i| (0..=b.len()).map(|j| 2 * (i + j)).collect()).collect();
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let change = match (a[i - 1], b[j - 1]) {
                (x, y) if x == y => 0,
                (x, y) if x.eq_ignore_ascii_case(&y) => 1,
                _ => 2,
            };
            let mut best = (d[i - 1][j - 1] + change).min(d[i - 1][j] + 2).min(d[i][j - 1] + 2);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(d[i - 2][j - 2] + 2);
            }
            d[i][j] = best;
        }
    }
    d[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_name_is_found_and_far_ones_are_not() {
        let names = ["kernel_size", "kernel_h", "stride", "Convolution"];
        assert_eq!(nearest("kernal_size", names), Some("kernel_size"));
        assert_eq!(nearest("convolution", names), Some("Convolution"));
        assert_eq!(nearest("stirde", names), Some("stride"));
        assert_eq!(nearest("dropout", names), None);
    }

    #[test]
    fn display_shows_the_line_with_a_caret() {
        let error = Error::new(Kind::UnknownName, "unknown field \"stirde\"")
            .at(Place {
                file: "a.prototxt".into(),
                line: 12,
                column: 3,
                width: 6,
                text: "\t stirde: 1".into(),
            })
            .in_layer("conv1")
            .suggest("did you mean \"stride\"?");
        let expected = "layer \"conv1\": unknown field \"stirde\"\n  --> a.prototxt:12:3\n   |\n12 | \t stirde: 1\n   | \t ^^^^^^\n  = help: did you mean \"stride\"?";
        assert_eq!(error.to_string(), expected);
        let other = error.clone().in_file("labels.gz").to_string();
        assert!(other.contains("^\n  = file: labels.gz\n  = help"), "{other}");
        assert_eq!(error.in_file("a.prototxt").to_string(), expected);
    }
}
