//! The adapter that makes a layer of two functions: f and its derivative.

#[path = "elementwise_cuda.rs"]
mod cuda;

use crate::blob::Shape;
use crate::device::{Context, Source};
use crate::error::Result;
use crate::layers::{Backward, DeviceCode, Forward, InBlocks, Layer, Reads, Setup, Sharing, Step};
use crate::math::{Real, parallel};

/// An element-wise function and its derivative.
pub trait Function<T: Real>: Send + Sync {
    /// Which of x (the bottom) and y (the top) the derivative needs; the other is passed as y resp. x.
    /// A function that needs only y may run in place.
    fn reads(&self) -> Reads;
    /// As [`Layer::keeps_sign`].
    fn keeps_sign(&self) -> bool {
        false
    }
    /// As [`Layer::step`].
    fn step(&self) -> Option<Step> {
        None
    }
    /// The same two functions for a GPU; without them the layer runs on the host.
    fn cuda(&self) -> Option<Formula<T>> {
        None
    }
    /// y = f(x).
    fn f(&self, x: T) -> T;
    /// dy/dx, from whichever of x and y it declared to read.
    fn df(&self, x: T, y: T) -> T;
}

/// A function as a kernel computes it.
pub struct Formula<T> {
    /// A `.cu` with the device functions `f(x, a, b, c, d)` and `df(x, y, a, b, c, d)`, where a to d are the numbers below;
    /// [`Formula::TEMPLATE`] comes behind it.
    pub source: &'static Source,
    /// The layer's own numbers.
    pub numbers: [T; 4],
}

impl<T> Formula<T> {
    /// The kernels of all element-wise layers: the second part of each one's source.
    pub const TEMPLATE: &'static str = include_str!("elementwise.cu");
}

/// A layer that applies a [`Function`] to every element. In place if the prototxt says so.
pub struct Elementwise<F>(pub F);

/// Elements that one task takes: enough to pay for handing it to another thread.
const GRAIN: usize = 16 * 1024;

impl<T: Real, F: Function<T>> Layer<T> for Elementwise<F> {
    fn sharing(&self) -> Sharing {
        Sharing::InPlace
    }

    fn blocks(&self) -> InBlocks {
        InBlocks::Alike(Vec::new())
    }

    fn reads(&self) -> Reads {
        self.0.reads()
    }

    fn keeps_sign(&self) -> bool {
        self.0.keeps_sign()
    }

    fn step(&self) -> Option<Step> {
        self.0.step()
    }

    fn reshape(&mut self, bottom: &[&Shape], _: &mut Setup<T>) -> Result<Vec<Shape>> {
        Ok(vec![bottom[0].clone()])
    }

    fn forward(&mut self, _: &Context<T>, mut io: Forward<T>) -> Result<()> {
        let function = &self.0;
        let y = io.top.get(0);
        let x = if io.bottom.in_place(0) { None } else { Some(io.bottom.get(0)) };
        parallel::for_each_chunk(
            y,
            GRAIN,
            #[inline(always)]
            |at, y| match x {
                None => y.iter_mut().for_each(|y| *y = function.f(*y)),
                Some(x) => y.iter_mut().zip(&x[at..]).for_each(|(y, &x)| *y = function.f(x)),
            },
        );
        Ok(())
    }

    fn device_code(&mut self) -> Option<&mut dyn DeviceCode<T>> {
        if self.0.cuda().is_some() { Some(self) } else { None }
    }

    fn backward(&mut self, _: &Context<T>, mut io: Backward<T>) -> Result<()> {
        if !io.propagate[0] {
            return Ok(());
        }
        let (function, reads) = (&self.0, self.0.reads());
        // What is not read need not be kept, and may have no values.
        let x = if reads.bottom { Some(io.bottom.get(0)) } else { None };
        let y = if reads.top { Some(io.top.get(0)) } else { x };
        let values = x.or(y).zip(y);
        let dx = io.bottom_diff.get(0);
        let dy = if io.top_diff.in_place(0) { None } else { Some(io.top_diff.get(0)) };
        let slope = function.df(T::zero(), T::zero());
        parallel::for_each_chunk(
            dx,
            GRAIN,
            #[inline(always)]
            |at, dx| match (values.map(|(x, y)| x[at..].iter().zip(&y[at..])), dy) {
                (Some(values), None) => {
                    dx.iter_mut().zip(values).for_each(|(d, (&x, &y))| *d *= function.df(x, y));
                }
                (Some(values), Some(dy)) => {
                    let pairs = dx.iter_mut().zip(&dy[at..]);
                    pairs.zip(values).for_each(|((dx, &dy), (&x, &y))| *dx = dy * function.df(x, y));
                }
                (None, None) => dx.iter_mut().for_each(|d| *d *= slope),
                (None, Some(dy)) => dx.iter_mut().zip(&dy[at..]).for_each(|(dx, &dy)| *dx = dy * slope),
            },
        );
        Ok(())
    }
}
