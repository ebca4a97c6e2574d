//! The weights in a `.caffemodel`.
//!
//! Only names, types and blobs of the layers are looked at. Forks of Caffe gave the numbers of the parameter messages to
//! messages of their own; their weights read all the same.
//!
//! A file is read twice: once for what it holds and where ([`StoredWeights::open`]), which leaves out the values, and then value by
//! value to where they are wanted ([`StoredWeights::read`]). So there is never a second copy of the weights in memory.

use super::binary::{decode, not_hdf5};
use super::caffe::{BlobProto, v1_layer_parameter::LayerType};
use super::stored::Values;
use super::upgrade::type_name;
use super::window::Window;
use super::wire::{Place, Places, Wire};
use crate::error::{Error, Kind, Result};
use num_traits::Float;
use std::ops::Range;
use std::path::Path;

/// Numbers of the fields that are read: the net's, then the layer's in each of the three formats.
const NET_NAME: u64 = 1;
const NET_LAYERS: u64 = 2;
const NET_LAYER: u64 = 100;
const V1_V0: u64 = 1;
const V1: Fields = Fields { name: 4, kind: 5, blobs: 6 };
const V0: Fields = Fields { name: 1, kind: 2, blobs: 50 };
const V2: Fields = Fields { name: 1, kind: 2, blobs: 7 };

/// Fields of a blob that make its shape: num, channels, height, width, shape.
const SHAPE: [u64; 5] = [1, 2, 3, 4, 7];

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

/// What a weight file holds, all in memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WeightsFile {
    /// Name of the net.
    pub name: String,
    /// All layers in the order of the file, those without blobs too.
    pub layers: Vec<LayerBlobs>,
}

/// A weight file whose values are still where they are: what it holds, and where.
pub struct StoredWeights<'a> {
    /// Name of the net.
    pub name: String,
    /// All layers in the order of the file, those without blobs too.
    pub layers: Vec<StoredLayer>,
    window: Window<'a>,
}

/// One layer of a weight file.
#[derive(Clone, Debug, Default)]
pub struct StoredLayer {
    /// Name of the layer.
    pub name: String,
    /// Its type, as [`LayerBlobs::kind`].
    pub kind: String,
    /// Weights, bias, and so on.
    pub blobs: Vec<StoredBlob>,
}

/// One blob of a weight file: its shape, and where its values stand.
#[derive(Clone, Debug, Default)]
pub struct StoredBlob {
    /// The blob without values.
    pub shape: BlobProto,
    payload: Range<usize>,
    pub(super) values: Values,
}

/// Reads all of a `.caffemodel` of any version of Caffe.
///
/// Errors: those of [`StoredWeights::open`].
pub fn read_weights(path: impl AsRef<Path>) -> Result<WeightsFile> {
    let mut stored = StoredWeights::open(&path)?;
    stored.whole().map_err(|e| e.in_file(path.as_ref().display().to_string()))
}

/// As [`read_weights`], from the bytes of the file.
pub fn decode_weights(bytes: &[u8]) -> Result<WeightsFile> {
    StoredWeights::of(bytes)?.whole()
}

impl StoredWeights<'static> {
    /// Opens a `.caffemodel` of any version of Caffe.
    ///
    /// Errors, with the file: it cannot be read, is HDF5 or something else, breaks off (at which byte), has no layer,
    /// or has a blob whose number of values is not what its dimensions say (in which layer).
    pub fn open(path: impl AsRef<Path>) -> Result<StoredWeights<'static>> {
        let window = Window::open(path.as_ref())?;
        StoredWeights::index(window).map_err(|e| e.in_file(path.as_ref().display().to_string()))
    }
}

impl<'a> StoredWeights<'a> {
    /// As [`StoredWeights::open`], of the bytes of the file.
    pub fn of(bytes: &'a [u8]) -> Result<StoredWeights<'a>> {
        StoredWeights::index(Window::of(bytes))
    }

    fn index(mut window: Window<'a>) -> Result<StoredWeights<'a>> {
        let len = window.len();
        not_hdf5(window.part(0..len.min(4))?)?;
        let (mut name, mut layers) = (String::new(), Vec::new());
        let mut fields = Places::new(0..len);
        while let Some(field) = fields.next(&mut window) {
            let field = field?;
            if field.is(NET_NAME) {
                name = text(window.part(field.payload)?);
            } else if field.is(NET_LAYER) {
                layers.push(layer(&mut window, &field, &V2)?);
            } else if field.is(NET_LAYERS) {
                layers.push(v1_layer(&mut window, &field)?);
            }
        }
        if layers.is_empty() {
            return Err(Error::new(Kind::Data, "a weight file without layers").found(format!("{len} bytes")));
        }
        Ok(StoredWeights { name, layers, window })
    }

    /// Reads the values of a blob, of single or double precision, to where they are wanted.
    ///
    /// Errors: another number of them; a file that has changed since it was opened.
    pub fn read<T: Float>(&mut self, layer: usize, blob: usize, target: &mut [T]) -> Result<()> {
        let stored = self.layers.get(layer).and_then(|l| l.blobs.get(blob));
        let count = stored.map_or(0, |b| b.values.count());
        match stored.filter(|_| count == target.len()) {
            Some(blob) => blob.values.read(&mut self.window, target),
            None => {
                let text = "a blob with another number of values than its shape says";
                Err(Error::new(Kind::Shape, text).expected(target.len()).found(count))
            }
        }
    }

    /// All of it.
    fn whole(&mut self) -> Result<WeightsFile> {
        let StoredWeights { name, layers, window } = self;
        let layers = layers.iter().map(|layer| {
            let blobs = layer.blobs.iter().enumerate().map(|(index, blob)| {
                let blob = window.part(blob.payload.clone()).and_then(decode::<BlobProto>);
                blob.map_err(|e| e.in_layer(&layer.name).in_field(&format!("blobs[{index}]")))
            });
            let blobs = blobs.collect::<Result<_>>()?;
            Ok(LayerBlobs { name: layer.name.clone(), kind: layer.kind.clone(), blobs })
        });
        Ok(WeightsFile { name: name.clone(), layers: layers.collect::<Result<_>>()? })
    }
}

fn v1_layer(window: &mut Window, layers: &Place) -> Result<StoredLayer> {
    let mut fields = layers.places();
    while let Some(field) = fields.next(window) {
        let field = field?;
        if field.is(V1_V0) {
            return layer(window, &field, &V0);
        }
    }
    layer(window, layers, &V1)
}

fn layer(window: &mut Window, message: &Place, numbers: &Fields) -> Result<StoredLayer> {
    let mut layer = StoredLayer::default();
    let mut blobs = Vec::new();
    let mut fields = message.places();
    while let Some(field) = fields.next(window) {
        let field = field.map_err(|e| if layer.name.is_empty() { e } else { e.in_layer(&layer.name) })?;
        if field.is(numbers.name) {
            layer.name = text(window.part(field.payload)?);
        } else if field.is(numbers.kind) {
            layer.kind = text(window.part(field.payload)?);
        } else if field.number == numbers.kind && field.wire == Wire::Varint {
            layer.kind = v1_kind(window.part(field.payload)?);
        } else if field.is(numbers.blobs) {
            blobs.push(field);
        }
    }
    for (index, field) in blobs.iter().enumerate() {
        let blob = blob(window, field);
        let at = |e: Error| e.in_layer(&layer.name).in_field(&format!("blobs[{index}]"));
        layer.blobs.push(blob.map_err(at)?);
    }
    Ok(layer)
}

fn blob(window: &mut Window, message: &Place) -> Result<StoredBlob> {
    let mut values = Values::default();
    // The fields of the shape as they stand there. What others may have added is passed over.
    let mut rest = Vec::new();
    let mut fields = message.places();
    while let Some(field) = fields.next(window) {
        let field = field?;
        if !values.take(&field) && SHAPE.contains(&field.number) {
            rest.extend_from_slice(window.part(field.whole)?);
        }
    }
    let shape: BlobProto = decode(&rest)?;
    values.check()?;
    shape.check_count(values.count())?;
    Ok(StoredBlob { shape, payload: message.payload.clone(), values })
}

fn v1_kind(payload: &[u8]) -> String {
    let number = prost::encoding::decode_varint(&mut &payload[..]).unwrap_or(0);
    let kind = i32::try_from(number).ok().and_then(|n| LayerType::try_from(n).ok());
    kind.map_or_else(|| format!("V1 layer type {number}"), |k| type_name(k).to_string())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
