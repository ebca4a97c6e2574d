//! Compiles `proto/caffe.proto` with protox (pure Rust, no protoc) into Rust types, and keeps the
//! descriptor set, from which the prototxt reader takes the names and types of all fields.

use prost::Message;
use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto/caffe.proto");
    let descriptors = protox::compile(["caffe.proto"], ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("caffe.bin"), descriptors.encode_to_vec())?;
    // Each type knows its name in the schema, by which its descriptor is found.
    prost_build::Config::new().enable_type_names().compile_fds(descriptors)?;
    Ok(())
}
