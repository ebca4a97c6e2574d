//! Floor 0: the messages of Caffe's schema, prototxt text, binary files, and upgrades of old formats.
//!
//! | module | holds |
//! |---|---|
//! | [`caffe`] | the messages, generated from `proto/caffe.proto` |
//! | [`schema`] | their descriptors: names, types, defaults |
//! | [`text`] | reading prototxt; mistakes come with line, column and the nearest valid name |
//! | [`source`] | where in the text a layer or field stands |
//! | [`print`](mod@print) | writing prototxt as protobuf does |
//! | [`upgrade`] | V0 and V1 nets, old data, input and BatchNorm fields, `solver_type` |
//! | [`net`] | nets and solvers as files: text with upgrades, binary with upgrades |
//! | [`weights`] | layer names, types and blobs of a `.caffemodel` |
//! | [`blob`] | shapes and values of a `BlobProto` |
//! | [`binary`] | `.solverstate`, mean files, `Datum` |
//! | [`file`](mod@file) | whole files, written atomically |

/// Messages generated from `proto/caffe.proto`.
#[allow(missing_docs, clippy::all, rustdoc::all)]
pub mod caffe {
    include!(concat!(env!("OUT_DIR"), "/caffe.rs"));
}

pub mod binary;
pub mod blob;
pub mod file;
pub mod net;
pub mod print;
pub mod schema;
pub mod source;
pub mod text;
pub mod upgrade;
pub mod weights;

mod hint;
mod number;
mod scan;
mod stored;
mod value;
mod window;
mod wire;

pub use file::write_atomic;
pub use net::{encode_net, parse_net, parse_solver, read_net, read_net_binary, read_solver, write_net};
pub use print::print;
pub use source::Source;
pub use text::Parsed;
pub use upgrade::{upgrade_net, upgrade_solver};
pub use weights::{LayerBlobs, StoredBlob, StoredLayer, StoredWeights, WeightsFile, read_weights};
