//! What devices there are.

use super::{driver_error, libraries};
use crate::error::{Error, Kind, Result};
use cudarc::driver::result::{self, device};
use cudarc::driver::sys::CUdevice_attribute::{self as Attribute, *};

/// What is known of a device, as Caffe's `device_query` prints it.
#[derive(Clone, Debug)]
pub struct Properties {
    /// Name and value of each property, in Caffe's order.
    pub lines: Vec<(&'static str, String)>,
}

/// How many devices the driver has. Errors: no driver, or one that is too old.
pub fn count() -> Result<usize> {
    libraries::driver()?;
    let asked = result::init().and_then(|()| device::get_count());
    match asked {
        Ok(count) => Ok(usize::try_from(count).unwrap_or(0)),
        Err(e) if e.0 == cudarc::driver::sys::CUresult::CUDA_ERROR_NO_DEVICE => Ok(0),
        Err(e) => Err(driver_error("be counted", e)),
    }
}

/// The properties of a device. Errors: those of [`count`]; no such device.
pub fn query(ordinal: usize) -> Result<Properties> {
    let devices = count()?;
    if ordinal >= devices {
        return Err(Error::new(Kind::Device, format!("there is no GPU {ordinal}"))
            .found(format!("{devices} devices")));
    }
    let failed = |e| driver_error("be queried", e);
    let device = device::get(ordinal as i32).map_err(failed)?;
    // SAFETY: the driver gave the device.
    let number = |attribute: Attribute| unsafe { device::get_attribute(device, attribute) }.map_err(failed);
    // SAFETY: the driver gave the device.
    let memory = unsafe { device::total_mem(device) }.map_err(failed)?;
    let triple = |a: [Attribute; 3]| -> Result<String> {
        Ok(format!("{}, {}, {}", number(a[0])?, number(a[1])?, number(a[2])?))
    };
    let yes = |attribute| number(attribute).map(|v| if v != 0 { "Yes" } else { "No" }.to_string());
    let text = |attribute| number(attribute).map(|v| v.to_string());
    let lines = vec![
        ("Device id", ordinal.to_string()),
        ("Major revision number", text(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?),
        ("Minor revision number", text(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?),
        ("Name", device::get_name(device).map_err(failed)?),
        ("Total global memory", memory.to_string()),
        ("Total shared memory per block", text(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK)?),
        ("Total registers per block", text(CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK)?),
        ("Warp size", text(CU_DEVICE_ATTRIBUTE_WARP_SIZE)?),
        ("Maximum memory pitch", text(CU_DEVICE_ATTRIBUTE_MAX_PITCH)?),
        ("Maximum threads per block", text(CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK)?),
        (
            "Maximum dimension of block",
            triple([
                CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X,
                CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y,
                CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z,
            ])?,
        ),
        (
            "Maximum dimension of grid",
            triple([
                CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X,
                CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y,
                CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z,
            ])?,
        ),
        ("Clock rate", text(CU_DEVICE_ATTRIBUTE_CLOCK_RATE)?),
        ("Total constant memory", text(CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY)?),
        ("Texture alignment", text(CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT)?),
        ("Concurrent copy and execution", yes(CU_DEVICE_ATTRIBUTE_GPU_OVERLAP)?),
        ("Number of multiprocessors", text(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?),
        ("Kernel execution timeout", yes(CU_DEVICE_ATTRIBUTE_KERNEL_EXEC_TIMEOUT)?),
    ];
    Ok(Properties { lines })
}
