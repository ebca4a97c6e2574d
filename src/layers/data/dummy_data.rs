//! Blobs filled by fillers.

#[path = "dummy_data_cuda.rs"]
mod cuda;

use crate::blob::Shape;
use crate::device::Context;
use crate::error::{Error, Kind, Result};
use crate::layers::{Backward, DeviceCode, Forward, Layer, Reads, Setup};
use crate::math::{Purpose, Real, Stream, filler};
use crate::proto::caffe::{DummyDataParameter, FillerParameter, LayerParameter};
use std::ops::RangeInclusive;

/// Tops of given shapes, filled by fillers: constants and test data.
///
/// ```prototxt
/// layer {
///   name: "data" type: "DummyData" top: "data" top: "label"
///   dummy_data_param {
///     data_filler { type: "gaussian" std: 1 } data_filler { type: "constant" value: 3 }
///     shape { dim: 64 dim: 3 dim: 32 dim: 32 } shape { dim: 64 }
///   }
/// }
/// ```
///
/// One shape for all tops or one for each, or the older `num`, `channels`, `height`, `width`, likewise; no filler (zeros),
/// one for all tops, or one for each. What a `constant` filler gives is filled once, the rest anew in every forward
/// pass, from the layer's stream.
///
/// Errors: another number of shapes or fillers, `shape` beside `num`, a filler that makes no sense.
/// Source: Caffe's DummyData.
pub struct DummyData {
    shapes: Vec<Shape>,
    fillers: Vec<FillerParameter>,
    /// Whether the constant tops hold their values.
    filled: bool,
}

/// Makes the layer.
pub fn new<T: Real>(param: &LayerParameter) -> Result<Box<dyn Layer<T>>> {
    let fields = param.dummy_data_param.clone().unwrap_or_default();
    let tops = param.top.len();
    let shapes = shapes(&fields, tops)?;
    let mut fillers = fields.data_filler;
    if !matches!(fillers.len(), 0 | 1) && fillers.len() != tops {
        return Err(count_error("data_filler", &format!("0, 1 or {tops}"), fillers.len()));
    }
    if fillers.len() <= 1 {
        fillers = vec![fillers.pop().unwrap_or_default(); tops];
    }
    for (i, (fill, shape)) in fillers.iter().zip(&shapes).enumerate() {
        try_out::<T>(fill, shape).map_err(|e| e.in_field(&format!("dummy_data_param.data_filler[{i}]")))?;
    }
    Ok(Box::new(DummyData { shapes, fillers, filled: false }))
}

impl DummyData {
    /// The tops that are to be filled in this pass: all, but for constants that are there.
    fn to_fill(&self) -> impl Iterator<Item = (usize, &FillerParameter)> {
        let there = |fill: &FillerParameter| self.filled && fill.r#type() == "constant";
        self.fillers.iter().enumerate().filter(move |(_, fill)| !there(fill))
    }
}

fn shapes(fields: &DummyDataParameter, tops: usize) -> Result<Vec<Shape>> {
    let legacy = [
        ("num", &fields.num),
        ("channels", &fields.channels),
        ("height", &fields.height),
        ("width", &fields.width),
    ];
    let given = legacy.iter().find(|(_, values)| !values.is_empty());
    if let (Some((name, _)), false) = (given, fields.shape.is_empty()) {
        return Err(Error::new(Kind::Value, format!("{name} and shape cannot both be given"))
            .expected("shape alone")
            .in_field(&format!("dummy_data_param.{name}")));
    }
    if given.is_none() {
        check_count("shape", fields.shape.len(), tops)?;
        let shapes = (0..tops).filter_map(|i| fields.shape.get(i).or(fields.shape.first())).enumerate();
        return shapes
            .map(|(i, s)| {
                Shape::from_dims(&s.dim).map_err(|e| e.in_field(&format!("dummy_data_param.shape[{i}]")))
            })
            .collect();
    }
    for (name, values) in legacy {
        check_count(name, values.len(), tops)?;
    }
    (0..tops)
        .map(|i| {
            let sizes = legacy.iter().filter_map(|(_, values)| values.get(i).or(values.first()));
            let sizes: Vec<usize> = sizes.map(|&size| size as usize).collect();
            Shape::new(sizes).map_err(|e| e.in_field("dummy_data_param.num"))
        })
        .collect()
}

fn check_count(field: &str, found: usize, tops: usize) -> Result<()> {
    if found == 1 || found == tops {
        return Ok(());
    }
    Err(count_error(field, &format!("1 or {tops}"), found))
}

fn count_error(field: &str, expected: &str, found: usize) -> Error {
    Error::new(Kind::Value, format!("the number of {field} fields does not fit the number of tops"))
        .expected(expected)
        .found(found)
        .in_field(&format!("dummy_data_param.{field}"))
}

/// Fills a small blob of as many axes, so that a mistake shows when the net is built.
fn try_out<T: Real>(fill: &FillerParameter, shape: &Shape) -> Result<()> {
    // The first extent counts for sparse fillers.
    let small: Vec<usize> =
        shape.iter().enumerate().map(|(i, &d)| if i == 0 { d } else { d.min(2) }).collect();
    let mut values = vec![T::zero(); small.iter().product()];
    filler::fill(fill, &small, &mut Stream::of(Purpose::Check, 0, 0, 0), &mut values)
}

impl<T: Real> Layer<T> for DummyData {
    fn bottoms(&self) -> RangeInclusive<usize> {
        0..=0
    }

    fn tops(&self) -> RangeInclusive<usize> {
        1..=usize::MAX
    }

    fn reads(&self) -> Reads {
        Reads::NOTHING
    }

    fn refills(&self, top: usize) -> bool {
        self.fillers.get(top).is_some_and(|f| f.r#type() != "constant")
    }

    fn reshape(&mut self, _: &[&Shape], _: &mut Setup<T>) -> Result<Vec<Shape>> {
        self.filled = false;
        Ok(self.shapes.clone())
    }

    fn forward(&mut self, cx: &Context<T>, mut io: Forward<T>) -> Result<()> {
        let mut stream = Stream::new(cx.seed, cx.layer, cx.pass);
        for (i, fill) in self.to_fill() {
            let shape = io.top.shape(i);
            filler::fill(fill, shape, &mut stream, io.top.get(i))
                .map_err(|e| e.in_field(&format!("dummy_data_param.data_filler[{i}]")))?;
        }
        self.filled = true;
        Ok(())
    }

    fn backward(&mut self, _: &Context<T>, _: Backward<T>) -> Result<()> {
        Ok(())
    }

    fn device_code(&mut self) -> Option<&mut dyn DeviceCode<T>> {
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Bench, assert_close, refusal};

    fn layer(fields: &str) -> String {
        format!("layer {{ name: 'd' type: 'DummyData' top: 'a' top: 'b' dummy_data_param {{ {fields} }} }}")
    }

    #[test]
    fn shapes_and_values() {
        let text = layer("shape { dim: 2 dim: 3 } shape { dim: 4 } data_filler { value: 7 }");
        let mut bench = Bench::<f32>::new(&text, &[]).unwrap();
        bench.forward();
        assert_close(&bench.get("a"), &[7.0; 6], 0.0);
        assert_close(&bench.get("b"), &[7.0; 4], 0.0);
        let text = layer("num: 2 channels: 3 height: 1 height: 5 width: 4");
        let mut bench = Bench::<f64>::new(&text, &[]).unwrap();
        bench.forward();
        assert_eq!(bench.shape("b").to_string(), "2 3 5 4 (120)");
        assert_close(&bench.get("a"), &[0.0; 24], 0.0);
    }

    #[test]
    fn constants_are_filled_once_and_draws_follow_the_pass() {
        let text =
            layer("shape { dim: 3 } data_filler { value: 7 } data_filler { type: 'uniform' min: 1 max: 2 }");
        let mut bench = Bench::<f32>::new(&text, &[]).unwrap();
        bench.forward();
        let first = bench.get("b");
        assert!(first.iter().all(|x| (1.0..2.0).contains(x)));
        bench.set("a", &[1.0, 2.0, 3.0]);
        bench.forward();
        assert_close(&bench.get("a"), &[1.0, 2.0, 3.0], 0.0);
        assert_ne!(bench.get("b"), first);
        bench.net.set_next_pass(0);
        bench.forward();
        assert_eq!(bench.get("b"), first);
    }

    #[test]
    fn bad_fields() {
        let shape = "shape { dim: 2 }";
        for (fields, field) in [
            (String::new(), "shape"),
            (format!("{shape} {shape} {shape}"), "shape"),
            (format!("{shape} num: 1"), "num"),
            ("num: 1 channels: 1 height: 1".into(), "width"),
            (format!("{shape} data_filler {{ }} data_filler {{ }} data_filler {{ }}"), "data_filler"),
            (format!("{shape} data_filler {{ }} data_filler {{ type: 'gausian' }}"), "data_filler[1]"),
            ("shape { dim: -1 }".into(), "shape[0]"),
        ] {
            let error = refusal(&layer(&fields), &[]);
            assert_eq!(error.field(), Some(&*format!("dummy_data_param.{field}")), "{fields}");
        }
    }
}
