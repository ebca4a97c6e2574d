//! Silence on a GPU.

use super::Silence;
use crate::device::{Context, Gpu};
use crate::error::Result;
use crate::layers::{Backward, DeviceCode, Forward};
use crate::math::Real;

impl<T: Real> DeviceCode<T> for Silence {
    fn forward(&mut self, _: &Gpu, _: &Context<T>, _: Forward<T>) -> Result<()> {
        Ok(())
    }

    fn backward(&mut self, gpu: &Gpu, _: &Context<T>, mut io: Backward<T>) -> Result<()> {
        for i in (0..io.bottom_diff.len()).filter(|&i| io.propagate[i]) {
            let dx = io.bottom_diff.device(i)?;
            gpu.fill(dx, dx.len, T::zero())?;
        }
        Ok(())
    }
}
