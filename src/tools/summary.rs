//! A net as a table.

use super::memory::megabytes;
use crate::blob::{ParamId, Weights};
use crate::math::Real;
use crate::net::Net;
use std::collections::HashSet;

/// A layer in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Name.
    pub layer: String,
    /// Type.
    pub kind: String,
    /// Names of its tops with their extents.
    pub tops: Vec<(String, Vec<usize>)>,
    /// Values of its parameters; those it shares count where they are first.
    pub params: usize,
    /// Whether all of its parameters are kept fixed (`lr_mult: 0`) or are statistics.
    pub fixed: bool,
}

/// The layers of a net, splits left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Name of the net.
    pub name: String,
    /// A line for each layer.
    pub lines: Vec<Line>,
    /// Values of all parameters.
    pub params: usize,
    /// Values of those that are learned.
    pub learned: usize,
    /// Values of all blobs, those that share memory counted once for each name.
    pub values: usize,
    /// Bytes of memory that the blobs take, values and gradients, as the net was built.
    pub blob_bytes: usize,
    /// Bytes that the parameters take, values and gradients.
    pub param_bytes: usize,
}

/// Describes a net.
pub fn summary<T: Real>(net: &Net<T>, weights: &Weights<T>) -> Summary {
    let mut seen: HashSet<ParamId> = HashSet::new();
    let mut summary = Summary {
        name: net.name.clone(),
        lines: Vec::new(),
        params: 0,
        learned: 0,
        values: net.blobs().iter().map(|b| b.shape.count()).sum(),
        blob_bytes: net.bytes(),
        param_bytes: weights.bytes(),
    };
    for node in net.nodes() {
        let new: Vec<_> = node.params.iter().filter(|&&p| seen.insert(p)).map(|&p| weights.get(p)).collect();
        let learned: usize = new.iter().filter(|p| p.lr_mult != 0.0).map(|p| p.shape.count()).sum();
        let params = new.iter().map(|p| p.shape.count()).sum();
        summary.params += params;
        summary.learned += learned;
        let inserted = node.param.r#type() == "Split" && node.name.ends_with("_split");
        if inserted {
            continue;
        }
        let top = |&t: &usize| (net.blobs()[t].name.clone(), net.blobs()[t].shape.to_vec());
        summary.lines.push(Line {
            layer: node.name.clone(),
            kind: node.param.r#type().to_string(),
            tops: node.top.iter().map(top).collect(),
            params,
            fixed: params > 0 && learned == 0,
        });
    }
    summary
}

impl Summary {
    /// The table as text, a line for each layer, with a line of sums at the end.
    pub fn lines(&self) -> Vec<String> {
        let shape = |dims: &[usize]| match dims {
            [] => "scalar".to_string(),
            _ => dims.iter().map(usize::to_string).collect::<Vec<_>>().join("x"),
        };
        let tops = |line: &Line| {
            let tops = line.tops.iter().map(|(name, dims)| format!("{name} {}", shape(dims)));
            tops.collect::<Vec<_>>().join(", ")
        };
        let params = |line: &Line| match (line.params, line.fixed) {
            (0, _) => String::new(),
            (n, false) => grouped(n),
            (n, true) => format!("{} fixed", grouped(n)),
        };
        let mut rows = vec![["layer", "type", "tops", "parameters"].map(String::from)];
        rows.extend(self.lines.iter().map(|l| [l.layer.clone(), l.kind.clone(), tops(l), params(l)]));
        let mut text = table(&rows, 3);
        let (all, learned) = (grouped(self.params), grouped(self.learned));
        text.push(format!("{} layers, {all} parameters, {learned} of them learned", self.lines.len()));
        let (blobs, params) = (megabytes(self.blob_bytes), megabytes(self.param_bytes));
        text.push(format!("memory: {blobs} of blobs, {params} of parameters and their gradients"));
        text
    }
}

/// Rows as lines with columns of equal width; the columns from `right` on stand to the right.
pub fn table<const N: usize>(rows: &[[String; N]], right: usize) -> Vec<String> {
    let width = |c: usize| rows.iter().map(|r| r[c].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(&widths).enumerate();
        let cells =
            cells.map(|(c, (cell, &w))| if c < right { format!("{cell:w$}") } else { format!("{cell:>w$}") });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_string()
    };
    rows.iter().map(line).collect()
}

/// A number with its thousands apart: 431080 as `431,080`.
fn grouped(n: usize) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_and_columns() {
        assert_eq!([0, 999, 1000, 431_080].map(grouped), ["0", "999", "1,000", "431,080"]);
        let rows = [["a", "bb", "1"].map(String::from), ["ccc", "d", "22"].map(String::from)];
        assert_eq!(table(&rows, 2), ["a    bb   1", "ccc  d   22"]);
    }
}
