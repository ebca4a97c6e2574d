//! Data that is missing, empty, cut short or corrupt: the error points at `source` in the net and names the file.

use crate::support::{Folder, IMAGES, LABELS, NET};
use flate2::{Compression, write::GzEncoder};
use heed::types::Bytes;
use heed::{CommitOrAbort, Database, EnvOpenOptions};
use std::io::Write;

/// Where `source` stands in [`NET`].
const PLACE: &[&str] = &["layer \"data\": data_param.source", "net.prototxt:3:24", "^"];

fn with_source(folder: &Folder, source: &str, backend: &str) {
    let net = NET.replace(IMAGES, source).replace("IDX", backend).replace("shuffle: true ", "");
    folder.write("net.prototxt", net);
}

fn refused(folder: &Folder, parts: &[&str]) {
    folder.refused("run net.prototxt", &[PLACE, parts].concat());
}

#[test]
fn sources_that_are_missing() {
    let folder = Folder::new();
    for (source, backend, part) in [
        ("none-images-idx3-ubyte", "IDX", "cannot read none-images-idx3-ubyte"),
        (".", "IDX", "cannot read ."),
        ("none_lmdb", "LMDB", "cannot open the data base none_lmdb"),
        (".", "LMDB", "source names the folder that holds data.mdb"),
        (IMAGES, "LMDB", "source names the folder that holds data.mdb"),
    ] {
        with_source(&folder, source, backend);
        refused(&folder, &[part]);
        folder.refused("train -solver solver.prototxt", &[part, "net.prototxt:3:24"]);
    }
}

#[test]
fn corrupt_idx() {
    let folder = Folder::new();
    let images = folder.read(IMAGES);
    let changed = |at: usize, bytes: &[u8]| {
        let mut image = images.clone();
        image[at..at + bytes.len()].copy_from_slice(bytes);
        image
    };
    for (bytes, part) in [
        (Vec::new(), "cut short"),
        (images[..7].to_vec(), "cut short"),
        (images[..1000].to_vec(), "984 bytes"),
        ([&images[..], &[0]].concat(), "not the size its header says"),
        (changed(0, &[1, 2]), "no IDX file"),
        (changed(2, &[7]), "unknown type of elements"),
        (changed(4, &[0xff; 4]), "not the size its header says"),
        // No images at all.
        ([&images[..4], &[0; 4], &images[8..16]].concat(), "has no images"),
    ] {
        folder.write(IMAGES, bytes);
        refused(&folder, &[part]);
    }
}

#[test]
fn corrupt_gzip() {
    let folder = Folder::new();
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(&folder.read(IMAGES)).unwrap();
    let gzip = gzip.finish().unwrap();
    folder.write(IMAGES, &gzip);
    folder.cortado("run net.prototxt").ok();
    folder.write(IMAGES, &gzip[..gzip.len() / 2]);
    refused(&folder, &["cut short"]);
    let mut damaged = gzip.clone();
    damaged[500..510].fill(b'a');
    folder.write(IMAGES, &damaged);
    refused(&folder, &["an IDX file"]);
    // Only the check sum tells.
    let mut damaged = gzip.clone();
    let sum = gzip.len() - 8;
    damaged[sum] ^= 1;
    folder.write(IMAGES, &damaged);
    refused(&folder, &["an IDX file cannot be read"]);
}

#[test]
fn labels_that_do_not_belong() {
    let folder = Folder::new();
    let labels = folder.read(LABELS);
    // The error names the labels file, which the net does not.
    folder.write(LABELS, [&labels[..4], &[0, 0, 0, 92], &labels[8..100]].concat());
    refused(&folder, &["not one label for each image", "200 labels", "[92]", &format!("file: {LABELS}")]);
    folder.write(LABELS, &labels[..100]);
    refused(&folder, &["not the size its header says", &format!("file: {LABELS}")]);
    std::fs::remove_file(folder.path(LABELS)).unwrap();
    refused(&folder, &["has no label", "without labels give the layer one top only"]);
}

/// Writes a data base with keys `00000000` and so on.
fn write_lmdb(folder: &Folder, name: &str, records: &[&[u8]]) {
    std::fs::create_dir(folder.path(name)).unwrap();
    // SAFETY: a folder of our own that nobody else opens.
    let env = unsafe { EnvOpenOptions::new().map_size(1 << 24).open(folder.path(name)) }.unwrap();
    let created = env.create_databases_and_commit(env.write_txn().unwrap(), |opener, txn| {
        opener.create_database(txn, None).map(CommitOrAbort::<_, ()>::Commit)
    });
    let database: Database<Bytes, Bytes> = created.unwrap().commit().unwrap();
    let mut txn = env.write_txn().unwrap();
    for (i, record) in records.iter().enumerate() {
        database.put(&mut txn, format!("{i:08}").as_bytes(), record).unwrap();
    }
    txn.commit().unwrap();
    env.prepare_for_closing().wait();
}

/// A `Datum` of 1 x 1 x 2 pixels: channels 1, height 1, width 2, data, label.
const DATUM: [u8; 12] = [0x08, 1, 0x10, 1, 0x18, 2, 0x22, 2, 50, 60, 0x28, 3];

#[test]
fn corrupt_lmdb() {
    let folder = Folder::new();
    let datum = |at: usize, byte: u8| {
        let mut datum = DATUM;
        datum[at] = byte;
        datum
    };
    for (name, records, parts) in [
        ("empty", &[][..], &["the data base is empty", "file: empty"][..]),
        ("cut", &[&DATUM[..9]], &["record \"00000000\" is corrupt", "file: cut"]),
        ("text", &[&DATUM, b"not a Datum"], &["record \"00000001\" is corrupt"]),
        ("length", &[&DATUM, &DATUM, &datum(7, 200)], &["record \"00000002\" is corrupt"]),
        ("channels", &[&datum(1, 3)], &["record \"00000000\"", "3 x 1 x 2 values", "2 values"]),
        ("zero", &[&datum(5, 0)], &["record \"00000000\"", "1 x 1 x 0"]),
        ("nothing", &[&[]], &["record \"00000000\"", "0 x 0 x 0"]),
        ("unlabelled", &[&DATUM[..10]], &["record \"00000000\" has no label"]),
    ] {
        write_lmdb(&folder, name, records);
        with_source(&folder, name, "LMDB");
        refused(&folder, parts);
        folder.refused("train -solver solver.prototxt", parts);
    }
    // Not a data base, and one that is cut short.
    folder.write("empty/data.mdb", [0; 20_000]);
    with_source(&folder, "empty", "LMDB");
    refused(&folder, &["no LMDB data base", "file: "]);
    folder.write("empty/data.mdb", &folder.read("cut/data.mdb")[..8192]);
    refused(&folder, &["cut short", "bytes at least"]);
}

#[test]
fn a_datum_that_breaks_in_the_midst_of_training() {
    let folder = Folder::new();
    let mut records = [&DATUM[..]; 40];
    records[25] = &DATUM[..10 - 1];
    write_lmdb(&folder, "lmdb", &records);
    with_source(&folder, "lmdb", "LMDB");
    // The first batches are good.
    folder.cortado("run net.prototxt").ok();
    let parts = ["record \"00000025\" is corrupt", "file: lmdb"];
    folder.refused("train -solver solver.prototxt", &[PLACE, &parts].concat());
    // An error is no end in order: no snapshot.
    assert!(!folder.path("snap_iter_4.caffemodel").exists());
}
