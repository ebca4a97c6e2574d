//! The layer suite on a device.

use crate::{golden, gradients};

#[test]
fn layers_on_a_device_compute_what_caffe_computes() {
    if let Some(gpu) = super::gpu() {
        golden::all_cases(Some(&gpu));
    }
}

#[test]
fn gradients_hold_on_a_device() {
    if let Some(gpu) = super::gpu() {
        gradients::check_all(Some(&gpu));
    }
}
