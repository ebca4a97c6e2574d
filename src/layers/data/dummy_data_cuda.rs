//! DummyData on a GPU: nothing of it comes from the host.

use super::DummyData;
use crate::device::{Context, Gpu};
use crate::error::Result;
use crate::layers::{Backward, DeviceCode, Forward};
use crate::math::{Real, Stream, filler};

impl<T: Real> DeviceCode<T> for DummyData {
    fn forward(&mut self, gpu: &Gpu, cx: &Context<T>, mut io: Forward<T>) -> Result<()> {
        let mut stream = Stream::new(cx.seed, cx.layer, cx.pass);
        for (i, fill) in self.to_fill() {
            let (shape, out) = (io.top.shape(i), io.top.device(i)?);
            filler::fill_on_device(gpu, fill, shape, &mut stream, cx.pass_on_device, out)
                .map_err(|e| e.in_field(&format!("dummy_data_param.data_filler[{i}]")))?;
        }
        self.filled = true;
        Ok(())
    }

    fn backward(&mut self, _: &Gpu, _: &Context<T>, _: Backward<T>) -> Result<()> {
        Ok(())
    }
}
