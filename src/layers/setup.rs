//! What a layer has while it is shaped.

use crate::blob::{Buffer, Param, Shape};
use crate::device::Context;
use crate::error::{Error, Kind, Result};
use crate::math::{Purpose, Real, Stream, filler};
use crate::proto::caffe::FillerParameter;

/// Where a layer asks for parameters while it is shaped, and learns how it will be run.
pub struct Setup<'a, T> {
    /// The run: phase, seed, index of the layer.
    pub cx: &'a Context<T>,
    /// How many tops the prototxt names.
    pub tops: usize,
    /// Whether top 0 is bottom 0.
    pub in_place: bool,
    /// Shapes of the parameters from the first call; nothing on the first.
    known: Option<&'a [Shape]>,
    asked: Vec<Param<T>>,
    count: usize,
}

impl<'a, T: Real> Setup<'a, T> {
    /// For a layer with so many tops, whose parameters have these shapes (nothing on the first call).
    pub fn new(cx: &'a Context<T>, tops: usize, in_place: bool, known: Option<&'a [Shape]>) -> Setup<'a, T> {
        Setup { cx, tops, in_place, known, asked: Vec::new(), count: 0 }
    }

    /// Asks for the next parameter. It is created and filled on the first call; later its shape must be the same.
    /// Without a filler it starts at zero.
    pub fn param(&mut self, dims: &[usize], fill: Option<&FillerParameter>) -> Result<()> {
        self.ask(dims, fill, 1.0)
    }

    /// Asks for a parameter that the layer itself keeps and the solver never touches (BatchNorm's statistics).
    pub fn statistic(&mut self, dims: &[usize]) -> Result<()> {
        self.ask(dims, None, 0.0)
    }

    fn ask(&mut self, dims: &[usize], fill: Option<&FillerParameter>, mult: f32) -> Result<()> {
        let shape = Shape::new(dims)?;
        let index = self.count;
        self.count += 1;
        if let Some(known) = self.known {
            return match known.get(index) {
                Some(known) if *known == shape => Ok(()),
                known => Err(Error::new(Kind::Shape, format!("the shape of parameter {index} changes"))
                    .expected(known.map_or("no such parameter".to_string(), Shape::to_string))
                    .found(shape)
                    .suggest("inputs may change their batch size, not what the weights depend on")),
            };
        }
        let mut data = Buffer::new(shape.count());
        data.allocate();
        if let Some(fill) = fill {
            let mut stream = Stream::of(Purpose::Init, self.cx.seed, self.cx.layer, index as u64);
            filler::fill(fill, &shape, &mut stream, data.host_mut())?;
        }
        let diff = Buffer::new(shape.count());
        let layer = String::new();
        self.asked.push(Param { layer, index, shape, data, diff, lr_mult: mult, decay_mult: mult });
        Ok(())
    }

    /// The parameters created by this call.
    pub fn into_params(self) -> Vec<Param<T>> {
        self.asked
    }
}
