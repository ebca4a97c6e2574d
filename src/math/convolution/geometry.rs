//! Sizes of a convolution.

use crate::error::{Error, Kind, Result};

/// Sizes of a convolution layer, as its prototxt and its bottom give them.
///
/// `input`, `kernel`, `pad`, `stride` and `dilation` have one number per spatial axis (none of them is a plain
/// inner product over channels).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Samples.
    pub batch: usize,
    /// Groups that do not see each other's channels.
    pub groups: usize,
    /// Channels of the input.
    pub channels: usize,
    /// Channels of the output.
    pub num_output: usize,
    /// Spatial sizes of the input.
    pub input: Vec<usize>,
    /// Sizes of the kernel.
    pub kernel: Vec<usize>,
    /// Zeros added at both ends of each axis.
    pub pad: Vec<usize>,
    /// Steps of the window.
    pub stride: Vec<usize>,
    /// Steps within the window.
    pub dilation: Vec<usize>,
}

impl Geometry {
    /// Spatial sizes of the output: `(input + 2·pad − (dilation·(kernel − 1) + 1)) / stride + 1`, rounded down.
    ///
    /// # Errors
    /// `Value` for a kernel, stride, dilation or group count of 0, for channels that the groups do not divide and for
    /// lists of different lengths; `Shape` for a window larger than the padded input.
    pub fn output(&self) -> Result<Vec<usize>> {
        let axes = self.input.len();
        for (name, values) in [
            ("kernel_size", &self.kernel),
            ("pad", &self.pad),
            ("stride", &self.stride),
            ("dilation", &self.dilation),
        ] {
            if values.len() != axes {
                return Err(Error::new(Kind::Value, format!("{name} does not fit the spatial axes"))
                    .expected(format!("{axes} values"))
                    .found(values.len())
                    .in_field(name));
            }
            if name != "pad" && values.contains(&0) {
                return Err(Error::new(Kind::Value, format!("{name} must not be 0")).found(0).in_field(name));
            }
        }
        if self.groups == 0 {
            return Err(Error::new(Kind::Value, "group must not be 0").found(0).in_field("group"));
        }
        for (name, value) in [("the channels of the bottom", self.channels), ("num_output", self.num_output)]
        {
            if value % self.groups != 0 {
                return Err(Error::new(Kind::Value, format!("group does not divide {name}"))
                    .expected(format!("a divisor of {value}"))
                    .found(self.groups)
                    .in_field("group"));
            }
        }
        for (name, value) in [("the channels of the bottom", self.channels), ("num_output", self.num_output)]
        {
            if value == 0 {
                return Err(Error::new(Kind::Value, format!("{name} must not be 0")).found(0));
            }
        }
        if self.input.contains(&0) {
            return Err(Error::new(Kind::Shape, "the bottom is empty").found(format!("{:?}", self.input)));
        }
        (0..axes)
            .map(|i| {
                let too_large = || {
                    Error::new(Kind::Shape, format!("the window is larger than the padded input on axis {i}"))
                };
                let window = (self.kernel[i] - 1)
                    .checked_mul(self.dilation[i])
                    .and_then(|w| w.checked_add(1))
                    .ok_or_else(too_large)?;
                let padded = self.pad[i]
                    .checked_mul(2)
                    .and_then(|p| p.checked_add(self.input[i]))
                    .ok_or_else(too_large)?;
                if padded < window {
                    return Err(too_large()
                        .expected(format!("at most {padded} ({} and 2 x {} pad)", self.input[i], self.pad[i]))
                        .found(format!("{window} ({} with dilation {})", self.kernel[i], self.dilation[i]))
                        .in_field("kernel_size"));
                }
                Ok((padded - window) / self.stride[i] + 1)
            })
            .collect()
    }
}
