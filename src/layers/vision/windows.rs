//! The windows of a convolution, as `convolution_param` gives them.

use crate::error::{Error, Kind, Result};
use crate::proto::caffe::ConvolutionParameter;

/// Extents of the windows along each spatial axis.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Windows {
    pub kernel: Vec<usize>,
    pub stride: Vec<usize>,
    pub pad: Vec<usize>,
    pub dilation: Vec<usize>,
}

impl Windows {
    /// The windows over `axes` spatial axes: each field once for all axes, once for each, or (for two axes) as
    /// `_h` and `_w`. Errors name the field.
    pub fn new(param: &ConvolutionParameter, axes: usize) -> Result<Windows> {
        let p = param;
        let kernel = extents("kernel_size", &p.kernel_size, ("kernel", p.kernel_h, p.kernel_w), axes, None)?;
        let stride = extents("stride", &p.stride, ("stride", p.stride_h, p.stride_w), axes, Some(1))?;
        let pad = extents("pad", &p.pad, ("pad", p.pad_h, p.pad_w), axes, Some(0))?;
        let dilation = extents("dilation", &p.dilation, ("dilation", None, None), axes, Some(1))?;
        for (field, values) in [("kernel_size", &kernel), ("stride", &stride), ("dilation", &dilation)] {
            if values.contains(&0) {
                return Err(Error::new(Kind::Value, format!("a {field} of 0"))
                    .expected("1 or more")
                    .found(0)
                    .in_field(&path(field)));
            }
        }
        Ok(Windows { kernel, stride, pad, dilation })
    }
}

fn path(field: &str) -> String {
    format!("convolution_param.{field}")
}

/// One field: repeated, or as height and width.
fn extents(
    field: &str,
    given: &[u32],
    (stem, h, w): (&str, Option<u32>, Option<u32>),
    axes: usize,
    default: Option<usize>,
) -> Result<Vec<usize>> {
    let refuse = |message: String| Error::new(Kind::Value, message).in_field(&path(field));
    if h.is_some() || w.is_some() {
        if axes != 2 {
            return Err(refuse(format!("{stem}_h and {stem}_w are for two spatial axes"))
                .expected(format!("{field} once, or once for each axis"))
                .found(format!("{axes} spatial axes")));
        }
        if !given.is_empty() {
            return Err(refuse(format!("{field} and {stem}_h or {stem}_w are given"))
                .expected(format!("{field}, or {stem}_h and {stem}_w, not both")));
        }
        return match (h, w, default) {
            (Some(h), Some(w), _) => Ok(vec![h as usize, w as usize]),
            // Caffe's own default is 0 here, for pads and (refused below) for strides.
            (h, w, Some(_)) => Ok(vec![h.unwrap_or(0) as usize, w.unwrap_or(0) as usize]),
            (_, _, None) => Err(refuse(format!("only one of {stem}_h and {stem}_w is given"))
                .expected(format!("both, or {field}"))),
        };
    }
    match (given, default) {
        (&[one], _) => Ok(vec![one as usize; axes]),
        ([], Some(default)) => Ok(vec![default; axes]),
        // With no spatial axis there is no window to give.
        ([], None) if axes == 0 => Ok(Vec::new()),
        (given, _) if given.len() == axes => Ok(given.iter().map(|&v| v as usize).collect()),
        ([], None) => {
            Err(refuse(format!("{field} is missing")).expected(format!("{field}, or {stem}_h and {stem}_w")))
        }
        (given, _) => Err(refuse(format!("{field} is given {} times", given.len()))
            .expected(format!("once, or once for each of the {axes} spatial axes"))
            .found(given.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn param() -> ConvolutionParameter {
        ConvolutionParameter { kernel_size: vec![3], ..Default::default() }
    }

    #[test]
    fn once_each_or_by_height_and_width() {
        let w = Windows::new(&param(), 3).unwrap();
        assert_eq!((w.kernel, w.stride, w.pad, w.dilation), (vec![3; 3], vec![1; 3], vec![0; 3], vec![1; 3]));
        let p = ConvolutionParameter { stride: vec![1, 2], pad_h: Some(4), dilation: vec![2], ..param() };
        let w = Windows::new(&p, 2).unwrap();
        assert_eq!((w.stride, w.pad, w.dilation), (vec![1, 2], vec![4, 0], vec![2, 2]));
        let p = ConvolutionParameter { kernel_h: Some(1), kernel_w: Some(7), ..Default::default() };
        assert_eq!(Windows::new(&p, 2).unwrap().kernel, [1, 7]);
        assert_eq!(Windows::new(&ConvolutionParameter::default(), 0).unwrap().kernel, [0usize; 0]);
    }

    #[test]
    fn what_contradicts_is_refused() {
        let refusal = |p: ConvolutionParameter, axes, field: &str| {
            let e = Windows::new(&p, axes).unwrap_err();
            assert_eq!(e.field(), Some(format!("convolution_param.{field}").as_str()), "{e}");
            e.to_string()
        };
        assert!(refusal(ConvolutionParameter::default(), 2, "kernel_size").contains("missing"));
        let p = ConvolutionParameter { kernel_h: Some(3), ..param() };
        assert!(refusal(p, 2, "kernel_size").contains("not both"));
        let p = ConvolutionParameter { kernel_h: Some(3), ..Default::default() };
        assert!(refusal(p, 2, "kernel_size").contains("only one"));
        let p = ConvolutionParameter { kernel_h: Some(3), kernel_w: Some(3), ..Default::default() };
        assert!(refusal(p, 3, "kernel_size").contains("two spatial axes"));
        let p = ConvolutionParameter { pad: vec![1, 1, 1], ..param() };
        assert!(refusal(p, 2, "pad").contains("3 times"));
        let p = ConvolutionParameter { stride: vec![0], ..param() };
        assert!(refusal(p, 2, "stride").contains("1 or more"));
        let p = ConvolutionParameter { stride_h: Some(2), ..param() };
        assert!(refusal(p, 2, "stride").contains("1 or more"));
        let p = ConvolutionParameter { dilation: vec![0], ..param() };
        refusal(p, 2, "dilation");
    }
}
