//! Blobs side by side.

#[path = "concat_cuda.rs"]
pub(crate) mod cuda;

use crate::blob::Shape;
use crate::device::Context;
use crate::error::{Error, Kind, Result};
use crate::layers::{Backward, Channels, DeviceCode, Forward, InBlocks, Layer, Reads, Setup, Sharing};
use crate::math::{Far, Layouts, Real, parallel, vector};
use crate::proto::caffe::LayerParameter;
use std::ops::RangeInclusive;

/// The bottoms joined along an axis; their gradients are the pieces of the top's.
///
/// ```prototxt
/// layer { name: "concat" type: "Concat" bottom: "a" bottom: "b" top: "ab" concat_param { axis: 1 } }
/// ```
///
/// Bottoms: one or more, of the same shape but along `axis` (1 by default; −1 is the last). The older `concat_dim`
/// stands for `axis`. With one bottom the top shares its memory.
///
/// Errors: shapes that do not fit, an axis that is not there, `axis` and `concat_dim` together.
/// Source: Caffe's Concat.
pub struct Concat {
    axis: i32,
    field: &'static str,
    single: bool,
    /// Channels of the bottoms and of the top, where the axis has them.
    channels: Vec<Channels>,
    outer: usize,
    /// For each bottom, the elements that one outer index has.
    widths: Vec<usize>,
}

/// Makes the layer.
pub fn new<T: Real>(param: &LayerParameter) -> Result<Box<dyn Layer<T>>> {
    let fields = param.concat_param.unwrap_or_default();
    let (axis, field) =
        legacy_axis(fields.axis, fields.concat_dim, ["concat_param.axis", "concat_param.concat_dim"])?;
    Ok(Box::new(Concat {
        axis,
        field,
        single: param.bottom.len() == 1,
        channels: Vec::new(),
        outer: 0,
        widths: Vec::new(),
    }))
}

/// The axis that a field or its older name gives (1 where neither is there), and the field that gave it.
pub(super) fn legacy_axis(
    axis: Option<i32>,
    dim: Option<u32>,
    [field, legacy]: [&'static str; 2],
) -> Result<(i32, &'static str)> {
    match (axis, dim) {
        (Some(_), Some(_)) => {
            Err(Error::new(Kind::Value, format!("{field} and {legacy} cannot both be given"))
                .expected("axis alone")
                .in_field(legacy))
        }
        (None, Some(dim)) => Ok((i32::try_from(dim).unwrap_or(i32::MAX), legacy)),
        (axis, None) => Ok((axis.unwrap_or(1), field)),
    }
}

/// Elements that one task copies.
const GRAIN: usize = 1 << 15;

/// Copies rows of `width` elements: row i of `from`, which starts at `from_at` in a row of `from_row` elements, to row i
/// of `to`, likewise.
pub(super) fn copy_rows<T: Real>(
    width: usize,
    [from_at, from_row]: [usize; 2],
    from: &[T],
    [to_at, to_row]: [usize; 2],
    to: &mut [T],
) {
    if width == 0 {
        return;
    }
    if to.len() == to_row {
        return vector::copy(&from[from_at..][..width], &mut to[to_at..][..width]); // one row: cut it
    }
    let len = to.len();
    parallel::for_each_chunk(to, GRAIN.div_ceil(to_row) * to_row, |at, to| {
        let far = Far::of(len);
        let from = from[at / to_row * from_row..].chunks(from_row);
        for (to, from) in to.chunks_mut(to_row).zip(from) {
            far.copy(&from[from_at..][..width], &mut to[to_at..][..width]);
        }
    });
}

/// Copies rows of `width` elements out of rows as [`copy_rows`] does, where `gate` is positive; 0 elsewhere.
fn gate_rows<T: Real>(width: usize, [from_at, from_row]: [usize; 2], from: &[T], gate: &[T], to: &mut [T]) {
    let len = to.len();
    parallel::for_each_chunk(
        to,
        GRAIN,
        #[inline(always)]
        |at, to| {
            let far = Far::of(len);
            let mut done = 0;
            while done < to.len() {
                let (row, column) = ((at + done) / width, (at + done) % width);
                let n = (width - column).min(to.len() - done);
                let from = &from[row * from_row + from_at + column..][..n];
                let gate = &gate[at + done..][..n];
                far.write(
                    &mut to[done..done + n],
                    #[inline(always)]
                    |i, to| {
                        for ((to, &from), &gate) in to.iter_mut().zip(&from[i..]).zip(&gate[i..]) {
                            *to = if gate > T::zero() { from } else { T::zero() };
                        }
                    },
                );
                done += n;
            }
        },
    );
}

impl<T: Real> Layer<T> for Concat {
    fn bottoms(&self) -> RangeInclusive<usize> {
        1..=usize::MAX
    }

    fn sharing(&self) -> Sharing {
        if self.single { Sharing::DataAndDiff } else { Sharing::None }
    }

    fn blocks(&self) -> InBlocks {
        // Whole blocks of channels lie one after another as channels do.
        if self.single { InBlocks::Never } else { InBlocks::Alike(self.channels.clone()) }
    }

    fn reads(&self) -> Reads {
        Reads::NOTHING
    }

    fn gates(&self, _: Layouts) -> bool {
        true
    }

    fn reshape(&mut self, bottom: &[&Shape], _: &mut Setup<T>) -> Result<Vec<Shape>> {
        let first = bottom[0];
        let axis = first.axis(self.axis).map_err(|e| e.in_field(self.field))?;
        let mut top = first.to_vec();
        for (i, shape) in bottom.iter().enumerate().skip(1) {
            let same = |(k, (a, b)): (usize, (&usize, &usize))| k == axis || a == b;
            let fits = shape.len() == first.len() && first.iter().zip(shape.iter()).enumerate().all(same);
            if !fits {
                return Err(Error::new(Kind::Shape, "the bottoms of a Concat layer do not fit together")
                    .expected(format!("the shape {first} but for axis {axis}"))
                    .found(format!("shape {shape}"))
                    .in_field(&format!("bottom[{i}]")));
            }
            top[axis] = top[axis].saturating_add(shape[axis]);
        }
        self.outer = first.count_to(axis);
        let channels = |shape: &[usize]| {
            let product = |extents: &[usize]| extents.iter().product();
            Channels { outer: product(&shape[..axis]), dim: shape[axis], inner: product(&shape[axis + 1..]) }
        };
        self.channels.clear();
        self.channels.extend(bottom.iter().map(|shape| channels(shape)));
        self.channels.push(channels(&top));
        self.widths.clear();
        self.widths.extend(bottom.iter().map(|shape| shape.count_from(axis)));
        Ok(vec![Shape::new(top)?])
    }

    fn forward(&mut self, _: &Context<T>, mut io: Forward<T>) -> Result<()> {
        let row = self.widths.iter().sum();
        let mut at = 0;
        for (i, &width) in self.widths.iter().enumerate() {
            copy_rows(width, [0, width], io.bottom.get(i), [at, row], io.top.get(0));
            at += width;
        }
        Ok(())
    }

    fn device_code(&mut self) -> Option<&mut dyn DeviceCode<T>> {
        Some(self)
    }

    fn backward(&mut self, _: &Context<T>, mut io: Backward<T>) -> Result<()> {
        let row = self.widths.iter().sum();
        let mut at = 0;
        for (i, &width) in self.widths.iter().enumerate() {
            if io.propagate[i] && io.gated.get(i) == Some(&true) {
                gate_rows(width, [at, row], io.top_diff.get(0), io.bottom.get(i), io.bottom_diff.get(i));
            } else if io.propagate[i] {
                copy_rows(width, [at, row], io.top_diff.get(0), [0, width], io.bottom_diff.get(i));
            }
            at += width;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Bench, Feed, assert_close, refusal};

    fn layer(fields: &str) -> String {
        format!(
            "layer {{ name: 'c' type: 'Concat' bottom: 'a' bottom: 'b' top: 'y' concat_param {{ {fields} }} }}"
        )
    }

    const A: Feed = ("a", &[2, 1, 2], &[1.0, 2.0, 3.0, 4.0]);
    const B: Feed = ("b", &[2, 2, 2], &[5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0]);

    #[test]
    fn joined_and_taken_apart() {
        for fields in ["", "axis: 1", "axis: -2", "concat_dim: 1"] {
            let mut bench = Bench::<f32>::new(&layer(fields), &[A, B]).unwrap();
            bench.forward();
            assert_eq!(bench.shape("y").to_string(), "2 3 2 (12)");
            let y = [1.0, 2.0, 5.0, 6.0, 7.0, 8.0, 3.0, 4.0, 9.0, 10.0, 11.0, 12.0];
            assert_close(&bench.get("y"), &y, 0.0);
            bench.backward(&[("y", &y)]);
            assert_close(&bench.grad("a"), A.2, 0.0);
            assert_close(&bench.grad("b"), B.2, 0.0);
        }
    }

    #[test]
    fn along_the_batch_and_the_last_axis() {
        let a: Feed = ("a", &[1, 2], &[1.0, 2.0]);
        let mut bench =
            Bench::<f64>::new(&layer("axis: 0"), &[a, ("b", &[2, 2], &[3.0, 4.0, 5.0, 6.0])]).unwrap();
        bench.forward();
        assert_close(&bench.get("y"), &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 0.0);
        bench.backward(&[("y", &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])]);
        assert_close(&bench.grad("b"), &[3.0, 4.0, 5.0, 6.0], 0.0);
        let mut bench = Bench::<f64>::new(&layer("axis: -1"), &[a, ("b", &[1, 0], &[])]).unwrap();
        bench.forward();
        assert_close(&bench.get("y"), &[1.0, 2.0], 0.0);
    }

    #[test]
    fn one_bottom_is_shared() {
        let text = layer("").replace("bottom: 'b'", "");
        let mut bench = Bench::<f32>::new(&text, &[A]).unwrap();
        bench.forward();
        assert_close(&bench.get("y"), A.2, 0.0);
        bench.backward(&[("y", &[4.0, 3.0, 2.0, 1.0])]);
        assert_close(&bench.grad("a"), &[4.0, 3.0, 2.0, 1.0], 0.0);
    }

    #[test]
    fn a_new_batch_size() {
        let mut bench = Bench::<f32>::new(&layer(""), &[A, B]).unwrap();
        for (name, shape) in [("a", [1, 1, 2]), ("b", [1, 2, 2])] {
            let blob = bench.net.blob(name).unwrap();
            bench.net.set_input_shape(blob, crate::blob::Shape::new(shape).unwrap()).unwrap();
        }
        bench.net.reshape().unwrap();
        bench.forward();
        assert_close(&bench.get("y"), &[1.0, 2.0, 5.0, 6.0, 7.0, 8.0], 0.0);
    }

    #[test]
    fn bad_fields_and_shapes() {
        let field = |text: &str, feeds: &[Feed]| refusal(text, feeds).field().map(str::to_string);
        assert_eq!(field(&layer("axis: 3"), &[A, B]).unwrap(), "concat_param.axis");
        assert_eq!(field(&layer("concat_dim: 3"), &[A, B]).unwrap(), "concat_param.concat_dim");
        assert_eq!(field(&layer("axis: 1 concat_dim: 1"), &[A, B]).unwrap(), "concat_param.concat_dim");
        assert_eq!(field(&layer("axis: 2"), &[A, B]).unwrap(), "bottom[1]");
        assert_eq!(field(&layer(""), &[A, ("b", &[2, 1], &[0.0; 2])]).unwrap(), "bottom[1]");
    }
}
