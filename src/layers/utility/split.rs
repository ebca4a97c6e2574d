//! One blob for several readers.

use crate::blob::Shape;
use crate::device::Context;
use crate::error::Result;
use crate::layers::{Backward, Forward, Layer, Reads, Setup, Sharing};
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
/// nothing. Source: Caffe's Split.
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

    fn reads(&self) -> Reads {
        Reads::NOTHING
    }

    fn reshape(&mut self, bottom: &[&Shape], setup: &mut Setup<T>) -> Result<Vec<Shape>> {
        Ok(vec![bottom[0].clone(); setup.tops])
    }

    fn forward(&mut self, _: &Context<T>, _: Forward<T>) -> Result<()> {
        Ok(()) // the net made the tops share the bottom's values
    }

    fn backward(&mut self, _: &Context<T>, mut io: Backward<T>) -> Result<()> {
        if !io.propagate[0] {
            return Ok(());
        }
        let live = (0..io.top_diff.len()).filter(|&i| io.live[i]);
        let dx = io.bottom_diff.get(0);
        for (nth, i) in live.enumerate() {
            let dy = io.top_diff.get(i);
            parallel::for_each_chunk(dx, GRAIN, |at, dx| {
                for (dx, &dy) in dx.iter_mut().zip(&dy[at..]) {
                    *dx = if nth == 0 { dy } else { *dx + dy };
                }
            });
        }
        Ok(())
    }
}
