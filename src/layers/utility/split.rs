//! One blob for several readers.

#[path = "split_cuda.rs"]
pub(crate) mod cuda;

use crate::blob::Shape;
use crate::device::Context;
use crate::error::Result;
use crate::layers::{Backward, DeviceCode, Forward, InBlocks, Layer, Reads, Setup, Sharing};
use crate::math::{Real, parallel};
use crate::proto::caffe::LayerParameter;
use std::ops::RangeInclusive;

/// Every top is the bottom; the bottom's gradient is the sum of the tops' gradients.
///
/// ```prototxt
/// layer { name: "split" type: "Split" bottom: "x" top: "x1" top: "x2" }
/// ```
///
/// The net inserts one wherever a blob has several readers. Its tops share the bottom's memory, so forward costs
/// nothing. The last top's gradient lies where the bottom's is added up.
///
/// Source: Caffe's Split.
pub struct Split;

/// Makes the layer.
pub fn new<T: Real>(_: &LayerParameter) -> Result<Box<dyn Layer<T>>> {
    Ok(Box::new(Split))
}

const GRAIN: usize = 16 * 1024;

impl<T: Real> Layer<T> for Split {
    fn tops(&self) -> RangeInclusive<usize> {
        1..=usize::MAX
    }

    fn sharing(&self) -> Sharing {
        Sharing::Data
    }

    fn blocks(&self) -> InBlocks {
        InBlocks::Alike(Vec::new())
    }

    fn reads(&self) -> Reads {
        Reads::NOTHING
    }

    fn reshape(&mut self, bottom: &[&Shape], setup: &mut Setup<T>) -> Result<Vec<Shape>> {
        Ok(vec![bottom[0].clone(); setup.tops])
    }

    fn forward(&mut self, _: &Context<T>, _: Forward<T>) -> Result<()> {
        Ok(()) // the net made the tops share the bottom's values
    }

    fn device_code(&mut self) -> Option<&mut dyn DeviceCode<T>> {
        Some(self)
    }

    fn backward(&mut self, _: &Context<T>, mut io: Backward<T>) -> Result<()> {
        if !io.propagate[0] {
            return Ok(());
        }
        // What is there already: the last top's gradient, in whose place the bottom's is, or nothing yet.
        let last = io.top_diff.len().saturating_sub(1);
        let mut begun = io.top_diff.in_place(last) && io.live[last];
        let dx = io.bottom_diff.get(0);
        let mut others = (0..io.top_diff.len()).filter(|&i| io.live[i] && !io.top_diff.in_place(i));
        while let Some(i) = others.next() {
            let a = io.top_diff.get(i);
            // Two at once, where nothing is there.
            let b = if begun { None } else { others.next().map(|i| io.top_diff.get(i)) };
            parallel::for_each_chunk(
                dx,
                GRAIN,
                #[inline(always)]
                |at, dx| {
                    let pairs = dx.iter_mut().zip(&a[at..]);
                    match b {
                        _ if begun => pairs.for_each(|(dx, &a)| *dx += a),
                        Some(b) => pairs.zip(&b[at..]).for_each(|((dx, &a), &b)| *dx = a + b),
                        None => pairs.for_each(|(dx, &a)| *dx = a),
                    }
                },
            );
            begun = true;
        }
        Ok(())
    }
}
