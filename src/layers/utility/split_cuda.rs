//! Split on a GPU.

use super::Split;
use crate::device::{Context, Gpu, Grid, Source};
use crate::error::Result;
use crate::layers::{Backward, DeviceCode, Forward};
use crate::math::Real;

pub(crate) static KERNELS: Source = Source { name: "split.cu", parts: &[include_str!("split.cu")] };

impl<T: Real> DeviceCode<T> for Split {
    fn forward(&mut self, _: &Gpu, _: &Context<T>, _: Forward<T>) -> Result<()> {
        Ok(()) // the net made the tops share the bottom's values
    }

    fn backward(&mut self, gpu: &Gpu, _: &Context<T>, mut io: Backward<T>) -> Result<()> {
        if !io.propagate[0] {
            return Ok(());
        }
        let last = io.top_diff.len().saturating_sub(1);
        let mut begun = io.top_diff.in_place(last) && io.live[last];
        let dx = io.bottom_diff.device(0)?;
        for i in (0..io.top_diff.len()).filter(|&i| io.live[i] && !io.top_diff.in_place(i)) {
            let dy = io.top_diff.device(i)?;
            match begun {
                true => gpu.launch::<T>(
                    &KERNELS,
                    "add",
                    Grid::Elements(dx.len),
                    &[dx.len.into(), dy.into(), dx.into()],
                )?,
                false => gpu.copy(dy, dx)?,
            }
            begun = true;
        }
        Ok(())
    }
}
