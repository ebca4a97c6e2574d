//! Floor 0: the messages of Caffe's schema, prototxt text, binary files, and upgrades of old formats.

/// Messages generated from `proto/caffe.proto`.
#[allow(missing_docs, clippy::all, rustdoc::all)]
pub mod caffe {
    include!(concat!(env!("OUT_DIR"), "/caffe.rs"));
}
