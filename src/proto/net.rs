//! Nets and solvers as files, brought to today's format on reading.

use super::binary::{decode, not_hdf5};
use super::caffe::{LayerParameter, NetParameter, SolverParameter};
use super::file::read_bytes;
use super::text::{self, Parsed};
use super::upgrade::{upgrade_net, upgrade_solver};
use super::wire::{Records, filtered, put_message};
use super::{schema, write_atomic};
use crate::error::{Error, Result};
use prost::Message;
use prost_reflect::DynamicMessage;
use std::path::Path;

/// Reads a net from prototxt, upgraded.
pub fn read_net(path: impl AsRef<Path>) -> Result<Parsed<NetParameter>> {
    upgraded(text::read(path)?, upgrade_net)
}

/// A net from prototxt, upgraded; `file` names it in errors.
pub fn parse_net(text: &str, file: &str) -> Result<Parsed<NetParameter>> {
    upgraded(text::parse(text, file)?, upgrade_net)
}

/// Reads a solver from prototxt, upgraded, with the snapshot prefix that Caffe gives it: the file's own path without its
/// ending if none is set, and its name below the prefix if that is a folder.
pub fn read_solver(path: impl AsRef<Path>) -> Result<Parsed<SolverParameter>> {
    let path = path.as_ref();
    let mut parsed = upgraded(text::read(path)?, upgrade_solver)?;
    parsed.upgrades.extend(default_snapshot_prefix(&mut parsed.message, path));
    Ok(parsed)
}

/// A solver from prototxt, upgraded; `file` names it in errors. Its snapshot prefix stays as it is.
pub fn parse_solver(text: &str, file: &str) -> Result<Parsed<SolverParameter>> {
    upgraded(text::parse(text, file)?, upgrade_solver)
}

fn upgraded<M>(mut parsed: Parsed<M>, upgrade: fn(&mut M) -> Result<Vec<String>>) -> Result<Parsed<M>> {
    parsed.upgrades = upgrade(&mut parsed.message).map_err(|error| parsed.source.locate(error))?;
    Ok(parsed)
}

fn default_snapshot_prefix(solver: &mut SolverParameter, path: &Path) -> Option<String> {
    let (prefix, why) = match &solver.snapshot_prefix {
        None => (path.with_extension(""), "was not given"),
        Some(folder) if Path::new(folder).is_dir() => {
            (Path::new(folder).join(path.file_stem()?), "was a folder")
        }
        Some(_) => return None,
    };
    let prefix = prefix.to_string_lossy().into_owned();
    let note = format!("snapshot_prefix {why} and is \"{prefix}\"");
    solver.snapshot_prefix = Some(prefix);
    Some(note)
}

/// Reads a net from a binary file, blobs included, upgraded; with what was upgraded.
///
/// Its parameters are read by BVLC's numbers. What they make no sense of is an error: a field with another wire
/// type, an enum number without a name, a required field that is missing.
pub fn read_net_binary(path: impl AsRef<Path>) -> Result<(NetParameter, Vec<String>)> {
    decode_net(&read_bytes(&path)?).map_err(|e| e.in_file(path.as_ref().display().to_string()))
}

/// As [`read_net_binary`], from the bytes of the file.
pub fn decode_net(bytes: &[u8]) -> Result<(NetParameter, Vec<String>)> {
    not_hdf5(bytes)?;
    let mut net: NetParameter = decode(bytes)?;
    let slim = skeleton(bytes, |number| number != 7)?;
    let dynamic = DynamicMessage::decode(schema::descriptor::<NetParameter>()?, slim.as_slice());
    // What prost decoded, prost-reflect decodes too.
    if let Ok(dynamic) = dynamic {
        schema::check(&dynamic)?;
    }
    let notes = upgrade_net(&mut net)?;
    Ok((net, notes))
}

/// The binary form of a net.
pub fn encode_net(net: &NetParameter) -> Vec<u8> {
    net.encode_to_vec()
}

/// Writes a net, blobs included, as a binary file (`.caffemodel`), atomically.
pub fn write_net(path: impl AsRef<Path>, net: &NetParameter) -> Result<()> {
    write_atomic(path, &encode_net(net))
}

/// Whether the bytes of a file are a binary message rather than prototxt: those have control characters (lengths,
/// field numbers) within their first fields.
pub fn is_binary(bytes: &[u8]) -> bool {
    let is_control = |b: &u8| matches!(b, 0..=8 | 14..=31 | 127);
    bytes.iter().take(4096).any(is_control)
}

/// Upgrades a binary net. Today's layers keep every byte that needs no change, unknown fields of forks included, and a
/// file that needs no upgrade stays as it is; of V0 and V1 layers, whose numbers mean something else today, only
/// known fields go over.
pub fn upgrade_net_bytes(bytes: &[u8]) -> Result<(Vec<u8>, Vec<String>)> {
    not_hdf5(bytes)?;
    let mut old_layers = 0;
    let mut new_layers = 0;
    for record in Records::new(bytes) {
        match record?.number {
            LAYERS => old_layers += 1,
            LAYER => new_layers += 1,
            _ => {}
        }
    }
    if old_layers > 0 {
        let (net, notes) = decode_net(bytes)?;
        return Ok((encode_net(&net), notes));
    }
    // Names, types and params are all that upgrades of today's layers look at.
    let slim = skeleton(bytes, |number| matches!(number, 1 | 2 | PARAM))?;
    let mut net: NetParameter = decode(&slim)?;
    let notes = upgrade_net(&mut net)?;
    if notes.is_empty() {
        return Ok((bytes.to_vec(), notes));
    }
    let added = net.layer.len().saturating_sub(new_layers);
    let mut layers = net.layer.iter();
    let mut out = Vec::with_capacity(bytes.len() + 256);
    for layer in layers.by_ref().take(added) {
        put_message(&mut out, LAYER as u32, &layer.encode_to_vec());
    }
    for record in Records::new(bytes) {
        let record = record?;
        match (record.bytes(LAYER), layers_if(record.number, &mut layers)) {
            (Some(payload), Some(layer)) => {
                put_message(&mut out, LAYER as u32, &with_params(payload, layer)?)
            }
            _ if INPUTS.contains(&record.number) => {}
            _ => out.extend_from_slice(record.whole),
        }
    }
    Ok((out, notes))
}

const LAYERS: u64 = 2;
const LAYER: u64 = 100;
const PARAM: u64 = 6;
/// `input`, `input_dim`, `input_shape`
const INPUTS: [u64; 3] = [3, 4, 8];

fn layers_if<'a>(
    number: u64,
    layers: &mut impl Iterator<Item = &'a LayerParameter>,
) -> Option<&'a LayerParameter> {
    if number == LAYER { layers.next() } else { None }
}

/// A layer with other `param` and all else as it was.
fn with_params(payload: &[u8], layer: &LayerParameter) -> Result<Vec<u8>> {
    let slim = filtered(payload, |r| r.number == PARAM)?;
    let old: LayerParameter = decode(&slim)?;
    if old.param == layer.param {
        return Ok(payload.to_vec());
    }
    let mut out = filtered(payload, |r| r.number != PARAM)?;
    for spec in &layer.param {
        put_message(&mut out, PARAM as u32, &spec.encode_to_vec());
    }
    Ok(out)
}

/// A net whose `layer` have only some of their fields, and whose `layers` have no blobs.
fn skeleton(bytes: &[u8], keep: impl Fn(u64) -> bool) -> Result<Vec<u8>> {
    const V1_BLOBS: u64 = 6;
    let mut out = Vec::new();
    for record in Records::new(bytes) {
        let record = record?;
        let offset = |e: Error| e.found(format!("in the layer at byte {}", record.offset));
        if let Some(payload) = record.bytes(LAYER) {
            let layer = filtered(payload, |r| keep(r.number)).map_err(offset)?;
            put_message(&mut out, LAYER as u32, &layer);
        } else if let Some(payload) = record.bytes(LAYERS) {
            let layer = filtered(payload, |r| r.number != V1_BLOBS).map_err(offset)?;
            put_message(&mut out, LAYERS as u32, &layer);
        } else {
            out.extend_from_slice(record.whole);
        }
    }
    Ok(out)
}
