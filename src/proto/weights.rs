//! The weights in a `.caffemodel`.
//!
//! Only names, types and blobs of the layers are looked at. Forks of Caffe gave the numbers of the parameter messages to
//! messages of their own; their weights read all the same.

use super::binary::{decode, not_hdf5};
use super::caffe::{BlobProto, v1_layer_parameter::LayerType};
use super::file::read_bytes;
use super::upgrade::type_name;
use super::wire::{Record, Records, Wire};
use crate::error::{Error, Kind, Result};
use std::path::Path;

/// Numbers of the fields that are read: the net's, then the layer's in each of the three formats.
const NET_NAME: u64 = 1;
const NET_LAYERS: u64 = 2;
const NET_LAYER: u64 = 100;
const V1_V0: u64 = 1;
const V1: Fields = Fields { name: 4, kind: 5, blobs: 6 };
const V0: Fields = Fields { name: 1, kind: 2, blobs: 50 };
const V2: Fields = Fields { name: 1, kind: 2, blobs: 7 };

struct Fields {
    name: u64,
    kind: u64,
    blobs: u64,
}

/// The learned blobs of one layer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LayerBlobs {
    /// Name of the layer.
    pub name: String,
    /// Its type: of V1 layers today's name (`"Convolution"`), of V0 layers as it stands there (`"conv"`).
    pub kind: String,
    /// Weights, bias, and so on.
    pub blobs: Vec<BlobProto>,
}

/// What a weight file holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WeightsFile {
    /// Name of the net.
    pub name: String,
    /// All layers in the order of the file, those without blobs too.
    pub layers: Vec<LayerBlobs>,
}

/// Reads a `.caffemodel` of any version of Caffe.
///
/// Errors, with the file: it cannot be read, is HDF5 or something else, breaks off (at which byte), has no layer,
/// or has a blob whose number of values is not what its dimensions say (in which layer).
pub fn read_weights(path: impl AsRef<Path>) -> Result<WeightsFile> {
    let bytes = read_bytes(&path)?;
    decode_weights(&bytes).map_err(|e| e.in_file(path.as_ref().display().to_string()))
}

/// As [`read_weights`], from the bytes of the file.
pub fn decode_weights(bytes: &[u8]) -> Result<WeightsFile> {
    not_hdf5(bytes)?;
    let mut file = WeightsFile::default();
    for record in Records::new(bytes) {
        let record = record?;
        match (record.number, record.wire) {
            (NET_NAME, Wire::Bytes) => file.name = text(record.payload),
            (NET_LAYER, Wire::Bytes) => file.layers.push(layer(&record, &V2)?),
            (NET_LAYERS, Wire::Bytes) => file.layers.push(v1_layer(&record)?),
            _ => {}
        }
    }
    if file.layers.is_empty() {
        return Err(
            Error::new(Kind::Data, "a weight file without layers").found(format!("{} bytes", bytes.len()))
        );
    }
    Ok(file)
}

fn v1_layer(record: &Record) -> Result<LayerBlobs> {
    for inner in record.records() {
        let inner = inner?;
        if inner.bytes(V1_V0).is_some() {
            return layer(&inner, &V0);
        }
    }
    layer(record, &V1)
}

fn layer(record: &Record, fields: &Fields) -> Result<LayerBlobs> {
    let mut layer = LayerBlobs::default();
    let mut blobs = Vec::new();
    for field in record.records() {
        let field = field.map_err(|e| if layer.name.is_empty() { e } else { e.in_layer(&layer.name) })?;
        if let Some(bytes) = field.bytes(fields.name) {
            layer.name = text(bytes);
        } else if let Some(bytes) = field.bytes(fields.kind) {
            layer.kind = text(bytes);
        } else if field.number == fields.kind && field.wire == Wire::Varint {
            layer.kind = v1_kind(field.payload);
        } else if field.bytes(fields.blobs).is_some() {
            blobs.push(field);
        }
    }
    for (index, field) in blobs.iter().enumerate() {
        let at = |e: Error| e.in_layer(&layer.name).in_field(&format!("blobs[{index}]"));
        // Errors inside a blob count from the start of the file.
        if let Some(error) = field.records().find_map(|r| r.err()) {
            return Err(at(error));
        }
        let blob: BlobProto = decode(field.payload).map_err(at)?;
        blob.check().map_err(at)?;
        layer.blobs.push(blob);
    }
    Ok(layer)
}

fn v1_kind(payload: &[u8]) -> String {
    let number = prost::encoding::decode_varint(&mut &payload[..]).unwrap_or(0);
    let kind = i32::try_from(number).ok().and_then(|n| LayerType::try_from(n).ok());
    kind.map_or_else(|| format!("V1 layer type {number}"), |k| type_name(k).to_string())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
