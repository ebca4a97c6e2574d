//! Tokens of prototxt, as protobuf's tokenizer cuts them.

use super::source::Text;
use crate::error::{Error, Kind, Result};
use std::ops::Range;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Identifier,
    /// Decimal, hex (`0x`) or octal (`0`), without sign.
    Integer,
    /// With a point, an exponent or an `f` behind it.
    Float,
    /// In single or double quotes.
    String,
    Symbol(char),
    End,
}

/// Walks over a text; knows one token at a time.
pub(super) struct Scanner<'a> {
    text: &'a Text,
    /// Kind of the current token.
    pub token: Token,
    /// Bytes of the current token.
    pub span: Range<usize>,
    /// End of the token before.
    pub last_end: usize,
}

impl<'a> Scanner<'a> {
    /// Stands on the first token.
    pub fn new(text: &'a Text) -> Result<Scanner<'a>> {
        let start = if text.text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        let mut scanner = Scanner { text, token: Token::End, span: start..start, last_end: start };
        scanner.next()?;
        Ok(scanner)
    }

    /// The current token as written.
    pub fn written(&self) -> &'a str {
        self.text.slice(&self.span)
    }

    /// The current token for people: `"foo"`, or that the file ends.
    pub fn found(&self) -> String {
        match self.token {
            Token::End => "the end of the file".to_string(),
            Token::String => format!("the string {}", self.written()),
            _ => format!("\"{}\"", self.written()),
        }
    }

    /// Goes to the next token.
    pub fn next(&mut self) -> Result<()> {
        let bytes = self.text.text.as_bytes();
        self.last_end = self.span.end;
        let start = self.skip_space(self.span.end);
        let Some(&first) = bytes.get(start) else {
            (self.token, self.span) = (Token::End, start..start);
            return Ok(());
        };
        let (token, end) = match first {
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => (Token::Identifier, self.skip(start, is_name)),
            b'0'..=b'9' => self.number(start)?,
            b'.' if bytes.get(start + 1).is_some_and(u8::is_ascii_digit) => self.number(start)?,
            b'"' | b'\'' => (Token::String, self.string(start, first)?),
            b'{' | b'}' | b'<' | b'>' | b'[' | b']' | b':' | b';' | b',' | b'-' | b'.' | b'/' => {
                (Token::Symbol(char::from(first)), start + 1)
            }
            _ => return Err(self.stray(start)),
        };
        (self.token, self.span) = (token, start..end);
        Ok(())
    }

    fn skip(&self, start: usize, belongs: impl Fn(u8) -> bool) -> usize {
        let rest = self.text.text.as_bytes().get(start..).unwrap_or_default();
        start + rest.iter().take_while(|&&b| belongs(b)).count()
    }

    fn skip_space(&self, mut at: usize) -> usize {
        loop {
            at = self.skip(at, |b| matches!(b, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c));
            if self.text.text.as_bytes().get(at) != Some(&b'#') {
                return at;
            }
            at = self.skip(at, |b| b != b'\n');
        }
    }

    fn number(&self, start: usize) -> Result<(Token, usize)> {
        let byte = |at: usize| self.text.text.as_bytes().get(at).copied().unwrap_or(0);
        let mut token = Token::Integer;
        let mut at;
        if byte(start) == b'0' && matches!(byte(start + 1), b'x' | b'X') {
            at = self.skip(start + 2, |b| b.is_ascii_hexdigit());
            if at == start + 2 {
                return Err(self.mistake(start..at, "\"0x\" without a hexadecimal digit behind it"));
            }
        } else {
            at = self.skip(start, |b| b.is_ascii_digit());
            if byte(at) == b'.' {
                (token, at) = (Token::Float, self.skip(at + 1, |b| b.is_ascii_digit()));
            }
            if matches!(byte(at), b'e' | b'E') {
                let digits = at + 1 + usize::from(matches!(byte(at + 1), b'+' | b'-'));
                (token, at) = (Token::Float, self.skip(digits, |b| b.is_ascii_digit()));
                if at == digits {
                    return Err(self.mistake(start..at, "an exponent without digits"));
                }
            }
            if matches!(byte(at), b'f' | b'F') {
                (token, at) = (Token::Float, at + 1);
            }
        }
        let end = self.skip(at, |b| is_name(b) || b == b'.');
        if end > at {
            let text = format!("\"{}\" is not a number", self.text.slice(&(start..end)));
            return Err(self.mistake(start..end, text));
        }
        Ok((token, at))
    }

    /// End of the string that starts at `start`; it must end in its line.
    fn string(&self, start: usize, quote: u8) -> Result<usize> {
        let bytes = self.text.text.as_bytes();
        let mut at = start + 1;
        loop {
            match bytes.get(at) {
                None | Some(b'\n') => {
                    let text = format!("a string that its line does not close with {}", char::from(quote));
                    return Err(self.mistake(start..at, text));
                }
                Some(b'\\') if bytes.get(at + 1).is_some_and(|&b| b != b'\n') => at += 2,
                Some(&b) if b == quote => return Ok(at + 1),
                Some(_) => at += 1,
            }
        }
    }

    fn stray(&self, start: usize) -> Error {
        let found = self.text.text.get(start..).and_then(|rest| rest.chars().next()).unwrap_or('\u{fffd}');
        let span = start..start + found.len_utf8();
        let code = u32::from(found);
        if found.is_control() || found == '\u{fffd}' {
            let text = format!("a byte that belongs in no prototxt (U+{code:04X})");
            return self.mistake(span, text).suggest("is this a binary file?");
        }
        let error = self.mistake(span, format!("unexpected character \"{found}\" (U+{code:04X})"));
        if found.is_ascii() {
            error
        } else {
            error.suggest("outside strings and comments only ASCII is valid")
        }
    }

    fn mistake(&self, span: Range<usize>, text: impl Into<String>) -> Error {
        Error::new(Kind::Syntax, text).at(self.text.place(&span))
    }
}

fn is_name(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_'
}

/// The bytes that a quoted string stands for. The error is the offset in `written` and what is wrong there.
pub(super) fn unescape(written: &str) -> std::result::Result<Vec<u8>, (usize, String)> {
    let bytes = written.as_bytes();
    let byte = |at: usize| bytes.get(at).copied().unwrap_or(0);
    let end = bytes.len().saturating_sub(1);
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 1;
    while at < end {
        if byte(at) != b'\\' {
            out.push(byte(at));
            at += 1;
            continue;
        }
        let start = at;
        let letter = byte(at + 1);
        at += 2;
        // Value of up to `most` digits from `at` on.
        let digits = |at: usize, radix: u32, most: usize| {
            let text = &bytes[at.min(end)..(at + most).min(end)];
            let count = text.iter().take_while(|b| char::from(**b).is_digit(radix)).count();
            let value =
                text[..count].iter().fold(0, |v, b| v * radix + char::from(*b).to_digit(radix).unwrap_or(0));
            (count, value)
        };
        match letter {
            b'a' => out.push(7),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'v' => out.push(11),
            b'\\' | b'\'' | b'"' | b'?' => out.push(letter),
            b'0'..=b'7' => {
                let (count, value) = digits(at - 1, 8, 3);
                let value = u8::try_from(value);
                out.push(value.map_err(|_| (start, "an octal escape above \\377".to_string()))?);
                at += count - 1;
            }
            b'x' | b'X' => {
                let (count, value) = digits(at, 16, 2);
                if count == 0 {
                    return Err((start, "\"\\x\" without a hexadecimal digit behind it".to_string()));
                }
                out.push(value as u8);
                at += count;
            }
            b'u' | b'U' => {
                let want = if letter == b'u' { 4 } else { 8 };
                let (count, value) = digits(at, 16, want);
                let found = if count == want { char::from_u32(value) } else { None };
                let found = found.ok_or_else(|| (start, "not a Unicode character".to_string()))?;
                out.extend_from_slice(found.encode_utf8(&mut [0; 4]).as_bytes());
                at += count;
            }
            _ => {
                let letter = written.get(start + 1..).and_then(|s| s.chars().next()).unwrap_or(' ');
                return Err((start, format!("unknown escape \"\\{letter}\"")));
            }
        }
    }
    Ok(out)
}
