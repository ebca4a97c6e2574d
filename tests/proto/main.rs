//! Floor 0 against files that BVLC Caffe made, and against damage.

mod binary;
mod errors;
mod fuzz;
mod schema;
mod text;
mod upgrade;

/// A file under `tests/golden`.
fn golden(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}
