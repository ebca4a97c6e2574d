//! The whole way from files to batches.

use super::*;
use crate::proto::caffe::Datum;
use heed::types::Bytes;
use heed::{CommitOrAbort, Database, EnvOpenOptions};
use prost::Message;
use std::collections::BTreeSet;
use std::path::PathBuf;

fn golden(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/interop").join(name).display().to_string()
}

fn lmdb() -> DataParameter {
    let source = Some(golden("mnist200_lmdb"));
    DataParameter { source, backend: Some(Db::Lmdb as i32), batch_size: Some(6), ..Default::default() }
}

fn idx() -> DataParameter {
    let source = Some(golden("mnist200-images-idx3-ubyte"));
    DataParameter { source, backend: Some(Db::Idx as i32), ..lmdb() }
}

fn train() -> Options {
    Options::new(Phase::Train, 5, 0)
}

/// Data and labels of `count` batches.
fn run(
    param: &DataParameter,
    transform: &TransformationParameter,
    options: Options,
    count: usize,
) -> Result<Vec<f32>> {
    let mut batches = open::<f32>(param, transform, &options)?;
    let size: usize = batches.shape().iter().product();
    let mut all = Vec::new();
    for _ in 0..count {
        let (mut data, mut labels) = (vec![f32::NAN; size], vec![f32::NAN; batches.shape()[0]]);
        batches.next(&mut data, &mut labels)?;
        all.extend(data);
        all.extend(labels);
    }
    Ok(all)
}

fn labels(param: &DataParameter, count: usize) -> Vec<f32> {
    let mut batches = open::<f32>(param, &Default::default(), &train()).unwrap();
    let mut all = Vec::new();
    let mut labels = vec![0.0; batches.shape()[0]];
    let mut data = vec![0.0; labels.len() * 784];
    for _ in 0..count {
        batches.next(&mut data, &mut labels).unwrap();
        all.extend_from_slice(&labels);
    }
    all
}

/// Writes a data base as Caffe's tools do, keys "00000000" and so on.
fn write_lmdb(records: &[Vec<u8>]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    // SAFETY: a folder of our own that nobody else opens.
    let env = unsafe { EnvOpenOptions::new().map_size(1 << 24).open(folder.path()) }.unwrap();
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
    folder
}

fn at(folder: &tempfile::TempDir) -> DataParameter {
    DataParameter { source: Some(folder.path().display().to_string()), ..lmdb() }
}

fn datum(width: i32, label: Option<i32>) -> Datum {
    let data = Some(vec![7; width as usize]);
    Datum { channels: Some(1), height: Some(1), width: Some(width), data, label, ..Default::default() }
}

#[test]
fn lmdb_and_idx_give_identical_records() {
    let mut db = LmdbSource::open(Path::new(&golden("mnist200_lmdb"))).unwrap();
    let mut files = IdxSource::open(Path::new(&golden("mnist200-images-idx3-ubyte"))).unwrap();
    assert_eq!((db.count(), files.count()), (200, 200));
    let (mut a, mut b) = (Record::default(), Record::default());
    for i in 0..200 {
        db.read(i, &mut a).unwrap();
        files.read(i, &mut b).unwrap();
        assert_eq!((a.shape, &a.bytes, a.label), (b.shape, &b.bytes, b.label));
        assert_eq!(a.key, format!("{i:08}"));
    }
    assert_eq!(a.shape, [1, 28, 28]);
    assert_eq!(db.labels().unwrap(), files.labels().unwrap());
    assert!(db.read(200, &mut a).is_err());
    // Jumps, before and after the keys are known.
    for _ in 0..2 {
        for i in [150, 3, 4, 199, 0, 77] {
            db.read(i, &mut a).unwrap();
            files.read(i, &mut b).unwrap();
            assert_eq!((&a.bytes, a.label), (&b.bytes, b.label));
        }
        db.index().unwrap();
    }
    assert_eq!(
        run(&lmdb(), &Default::default(), train(), 70).unwrap(),
        run(&idx(), &Default::default(), train(), 70).unwrap()
    );
}

#[test]
fn one_data_base_is_opened_by_many_and_closed_by_the_last() {
    let folder = write_lmdb(&[datum(2, Some(1)).encode_to_vec()]);
    let path = folder.path();
    let indirect = path.join(".");
    for _ in 0..3 {
        let (mut a, mut b) = (LmdbSource::open(path).unwrap(), LmdbSource::open(&indirect).unwrap());
        let mut record = Record::default();
        a.read(0, &mut record).unwrap();
        drop(a);
        b.read(0, &mut record).unwrap();
    }
    // Closed: heed opens it again for writing.
    // SAFETY: nobody else has it open.
    unsafe { EnvOpenOptions::new().open(path) }.unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..50).for_each(|_| drop(LmdbSource::open(path).unwrap())));
        }
    });
}

#[test]
fn resuming_anywhere_equals_not_stopping() {
    let transform = TransformationParameter { crop_size: Some(5), mirror: Some(true), ..Default::default() };
    for param in [lmdb(), idx()] {
        let variants = [
            param.clone(),
            DataParameter { rand_skip: Some(9), ..param.clone() },
            DataParameter { shuffle: Some(true), ..param.clone() },
            DataParameter { pair_size: Some(2), ..param.clone() },
        ];
        for param in variants {
            let whole = run(&param, &transform, train(), 80).unwrap();
            let per_batch = 6 * 26;
            let prefetch = DataParameter { prefetch: Some(1), ..param.clone() };
            assert_eq!(run(&prefetch, &transform, train(), 80).unwrap(), whole, "depth changes nothing");
            for start in [1, 33, 34, 79] {
                let options = Options { position: start * 6, ..train() };
                let rest = run(&param, &transform, options, 80 - start as usize).unwrap();
                assert_eq!(rest, whole[start as usize * per_batch..]);
            }
            let other = Options { seed: 6, ..train() };
            assert_ne!(run(&param, &transform, other, 80).unwrap(), whole);
        }
    }
}

#[test]
fn seek_goes_back_and_forth() {
    let mut batches = open::<f64>(&idx(), &Default::default(), &train()).unwrap();
    assert_eq!(
        (batches.shape(), batches.record_shape(), batches.position()),
        ([6, 1, 28, 28], [1, 28, 28], 0)
    );
    let (mut data, mut labels) = (vec![0.0; 6 * 784], vec![0.0; 6]);
    let mut next = |batches: &mut Batches<f64>| {
        batches.next(&mut data, &mut labels).unwrap();
        labels.clone()
    };
    let first = next(&mut batches);
    let second = next(&mut batches);
    assert_eq!(batches.position(), 12);
    batches.seek(0);
    assert_eq!(next(&mut batches), first);
    batches.seek(6);
    assert_eq!(next(&mut batches), second);
    assert!(batches.next(&mut [0.0; 3], &mut []).is_err(), "buffers of another size");
    assert_eq!(next(&mut batches).len(), 6, "which is no error of the data");
}

#[test]
fn shuffle_and_pairs_visit_the_records() {
    let sequential = labels(&lmdb(), 100);
    let shuffled = labels(&DataParameter { shuffle: Some(true), ..lmdb() }, 100);
    let sorted = |v: &[f32]| {
        let mut v = v.to_vec();
        v.sort_by(f32::total_cmp);
        v
    };
    // 600 records are three epochs.
    assert_ne!(sequential, shuffled);
    assert_eq!(sorted(&sequential), sorted(&shuffled));
    let pairs = labels(&DataParameter { pair_size: Some(3), ..lmdb() }, 20);
    assert!(pairs.chunks(3).all(|group| group.iter().all(|label| *label == group[0])));
    assert_eq!(pairs.iter().map(|&l| l as i32).collect::<BTreeSet<_>>().len(), 10);
}

#[test]
fn bad_parameters_name_their_field() {
    let cases = [
        (DataParameter { batch_size: None, ..lmdb() }, Kind::Value, "data_param.batch_size"),
        (DataParameter { pair_size: Some(4), ..lmdb() }, Kind::Value, "data_param.batch_size"),
        (
            DataParameter { pair_size: Some(150), batch_size: Some(150), ..lmdb() },
            Kind::Data,
            "data_param.pair_size",
        ),
        (DataParameter { source: None, ..lmdb() }, Kind::Value, "data_param.source"),
        (DataParameter { source: Some("/no/such".into()), ..lmdb() }, Kind::Io, "data_param.source"),
        (DataParameter { source: Some("/no/such".into()), ..idx() }, Kind::Io, "data_param.source"),
        (DataParameter { backend: None, ..lmdb() }, Kind::Unsupported, "data_param.backend"),
        (DataParameter { backend: Some(77), ..lmdb() }, Kind::Value, "data_param.backend"),
    ];
    for (param, kind, field) in cases {
        let error = open::<f32>(&param, &Default::default(), &train()).err().unwrap();
        assert_eq!((error.kind(), error.field()), (kind, Some(field)), "{error}");
    }
    let crop = TransformationParameter { crop_size: Some(29), ..Default::default() };
    let error = open::<f32>(&lmdb(), &crop, &train()).err().unwrap();
    assert!(error.to_string().contains("mnist200_lmdb"), "{error}");
}

#[test]
fn a_bad_record_is_one_error_with_file_and_key() {
    let good = || datum(2, Some(1)).encode_to_vec();
    for (bad, word) in [
        (datum(3, Some(1)).encode_to_vec(), "another shape"),
        (datum(2, None).encode_to_vec(), "no label"),
        (b"\xff\xff\xff".to_vec(), "corrupt"),
        (Datum { encoded: Some(true), ..datum(2, Some(1)) }.encode_to_vec(), "encoded"),
    ] {
        let folder = write_lmdb(&[good(), good(), bad]);
        let mut batches = open::<f32>(&at(&folder), &Default::default(), &train()).unwrap();
        let mut messages = Vec::new();
        for _ in 0..2 {
            messages.push(batches.next(&mut [0.0; 12], &mut [0.0; 6]).unwrap_err().to_string());
        }
        assert_eq!(messages[0], messages[1]);
        assert!(messages[0].contains(word) && messages[0].contains("00000002"), "{}", messages[0]);
        assert!(messages[0].contains(&folder.path().display().to_string()), "{}", messages[0]);
    }
    // Without a top for labels none is missed.
    let folder = write_lmdb(&[datum(2, None).encode_to_vec()]);
    let mut batches =
        open::<f32>(&at(&folder), &Default::default(), &Options { labels: false, ..train() }).unwrap();
    batches.next(&mut [0.0; 12], &mut []).unwrap();
    let pairs = DataParameter { pair_size: Some(1), ..at(&folder) };
    assert!(open::<f32>(&pairs, &Default::default(), &train()).err().unwrap().message().contains("no label"));
}

#[test]
fn broken_data_bases_are_refused() {
    let refused = |folder: &tempfile::TempDir, word: &str| {
        let error = LmdbSource::open(folder.path()).err().unwrap().to_string();
        assert!(error.contains(word), "{error}");
    };
    refused(&write_lmdb(&[]), "empty");
    refused(&tempfile::tempdir().unwrap(), "data.mdb");
    let whole = std::fs::read(PathBuf::from(golden("mnist200_lmdb")).join("data.mdb")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (length, word) in
        [(0, "no LMDB"), (100, "no LMDB"), (8000, "no LMDB"), (8192, "cut short"), (200_000, "cut short")]
    {
        std::fs::write(folder.path().join("data.mdb"), &whole[..length]).unwrap();
        refused(&folder, word);
    }
    // The number of records, in both meta pages.
    let mut lying = whole.clone();
    (lying[126], lying[4096 + 126]) = (0xff, 0xff);
    std::fs::write(folder.path().join("data.mdb"), &lying).unwrap();
    refused(&folder, "corrupt");
    std::fs::write(folder.path().join("data.mdb"), vec![1; 20_000]).unwrap();
    refused(&folder, "no LMDB");
    std::fs::write(folder.path().join("data.mdb"), &whole).unwrap();
    assert!(LmdbSource::open(folder.path()).is_ok());
}

#[test]
fn dropping_in_the_middle_ends_the_thread() {
    for wanted in 0..3 {
        let batches =
            run(&DataParameter { prefetch: Some(2), ..idx() }, &Default::default(), train(), wanted);
        assert_eq!(batches.unwrap().len(), wanted * 6 * 785);
    }
}

#[test]
fn mnist_itself() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("nets/mnist/data");
    let mut source = IdxSource::open(&folder.join("t10k-images-idx3-ubyte.gz")).unwrap();
    let labels = source.labels().unwrap();
    assert_eq!((source.count(), labels.len(), &labels[..5]), (10_000, 10_000, &[7, 2, 1, 0, 4][..]));
    let mut record = Record::default();
    source.read(9_999, &mut record).unwrap();
    assert_eq!((record.shape, record.label), ([1, 28, 28], Some(6)));
}
