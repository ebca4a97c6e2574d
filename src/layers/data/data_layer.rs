//! Records of a data base, in batches.

use crate::blob::Shape;
use crate::data::{self, Batches, Options};
use crate::device::{Context, Gpu, Pinned};
use crate::error::{Error, Kind, Result};
use crate::layers::{Backward, Feed, Forward, Layer, Reads, Setup};
use crate::math::Real;
use crate::proto::caffe::{DataParameter, LayerParameter, TransformationParameter};
use std::ops::RangeInclusive;

/// Batches of images and their labels, read and transformed ahead of time by a thread.
///
/// ```prototxt
/// layer {
///   name: "mnist" type: "Data" top: "data" top: "label"
///   transform_param { scale: 0.00390625 mirror: true crop_size: 24 }
///   data_param { source: "nets/mnist/data/train-images-idx3-ubyte.gz" backend: IDX batch_size: 64 shuffle: true }
/// }
/// ```
///
/// Tops: images, batch_size × channels × height × width (after the crop); labels, batch_size, if a second top is
/// named. `backend` is LMDB, or IDX with `source` naming the file of images. Records come in their order, after
/// `rand_skip` of them at most; with `shuffle` each epoch in a seeded order of its own; with `pair_size` k in groups
/// of k that share a label, for `RankHardLoss`. `prefetch` is how many batches are made ahead.
///
/// Nothing is read but the first record before the first forward pass. Where the run stands is [`Layer::records`].
///
/// Errors: a source that is missing, empty or corrupt; a record that has another shape than the first, or no label
/// where labels are named; a field that makes no sense; LEVELDB, which is not supported. Source: Caffe's Data.
pub struct Data<T> {
    param: DataParameter,
    transform: TransformationParameter,
    batches: Option<Batches<T>>,
}

/// Makes the layer.
pub fn new<T: Real>(param: &LayerParameter) -> Result<Box<dyn Layer<T>>> {
    Ok(Box::new(Data::<T> {
        param: param.data_param.clone().unwrap_or_default(),
        transform: param.transform_param.clone().unwrap_or_default(),
        batches: None,
    }))
}

impl<T: Real> Layer<T> for Data<T> {
    fn bottoms(&self) -> RangeInclusive<usize> {
        0..=0
    }

    fn tops(&self) -> RangeInclusive<usize> {
        1..=2
    }

    fn reads(&self) -> Reads {
        Reads::NOTHING
    }

    fn refills(&self, _: usize) -> bool {
        true
    }

    fn reshape(&mut self, _: &[&Shape], setup: &mut Setup<T>) -> Result<Vec<Shape>> {
        let batches = match self.batches.take() {
            Some(batches) => self.batches.insert(batches),
            None => {
                let cx = setup.cx;
                let labels = setup.tops > 1;
                let options = Options { labels, ..Options::new(cx.phase, cx.seed, cx.layer) };
                let opened = data::open(&self.param, &self.transform, &options);
                self.batches.insert(opened.map_err(|e| e.in_field("data_param.source"))?)
            }
        };
        let images = batches.shape();
        let mut tops = vec![Shape::new(images)?, Shape::new([images[0]])?];
        tops.truncate(setup.tops);
        Ok(tops)
    }

    fn forward(&mut self, _: &Context<T>, mut io: Forward<T>) -> Result<()> {
        let Some(batches) = &mut self.batches else {
            return Err(Error::new(Kind::Net, "a Data layer is run before it is shaped"));
        };
        batches.set_device(None);
        let next = match io.top.len() {
            1 => batches.next(io.top.get(0), &mut []),
            _ => {
                let (images, labels) = io.top.pair(0, 1);
                batches.next(images, labels)
            }
        };
        next.map_err(|e| e.in_field("data_param.source"))
    }

    fn backward(&mut self, _: &Context<T>, _: Backward<T>) -> Result<()> {
        Ok(())
    }

    fn feed(&mut self) -> Option<&mut dyn Feed<T>> {
        Some(self)
    }

    fn records(&self) -> Option<u64> {
        self.batches.as_ref().map(Batches::position)
    }

    fn set_share(&mut self, rank: u64, count: u64) {
        if let Some(batches) = &mut self.batches {
            batches.set_share(rank, count);
        }
    }

    fn seek(&mut self, records: u64) -> Result<()> {
        match &mut self.batches {
            Some(batches) => batches.seek(records),
            None => return Err(Error::new(Kind::Net, "a Data layer is moved before it is shaped")),
        }
        Ok(())
    }
}

impl<T: Real> Feed<T> for Data<T> {
    fn peek(&mut self, gpu: &Gpu, top: usize) -> Result<&Pinned<T>> {
        let batches = self.batches.as_mut();
        let batches =
            batches.ok_or_else(|| Error::new(Kind::Net, "a Data layer is run before it is shaped"))?;
        batches.set_device(Some(gpu));
        let batch = batches.peek().map_err(|e| e.in_field("data_param.source"))?;
        Ok(if top == 0 { &batch.data } else { &batch.labels })
    }

    fn advance(&mut self) {
        if let Some(batches) = &mut self.batches {
            batches.advance();
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::error::Kind;
    use crate::testing::{Bench, refusal};
    use std::path::PathBuf;

    fn sample(name: &str) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/interop").join(name)
    }

    fn layer(source: &str, backend: &str, fields: &str) -> String {
        format!(
            "layer {{ name: 'd' type: 'Data' top: 'x' top: 't' transform_param {{ scale: 0.5 }}
             data_param {{ source: '{}' backend: {backend} batch_size: 6 {fields} }} }}",
            sample(source).display()
        )
    }

    const IDX: &str = "mnist200-images-idx3-ubyte";

    fn batches(text: &str, count: usize) -> Vec<(Vec<f64>, Vec<f64>)> {
        let mut bench = Bench::<f32>::new(text, &[]).unwrap();
        next(&mut bench, count)
    }

    fn next(bench: &mut Bench<f32>, count: usize) -> Vec<(Vec<f64>, Vec<f64>)> {
        let mut take = || {
            bench.forward();
            (bench.get("x"), bench.get("t"))
        };
        (0..count).map(|_| take()).collect()
    }

    #[test]
    fn idx_and_lmdb_give_the_records_of_the_file() {
        let idx = batches(&layer(IDX, "IDX", ""), 2);
        assert_eq!(idx, batches(&layer("mnist200_lmdb", "LMDB", ""), 2));
        let images = std::fs::read(sample(IDX)).unwrap();
        let labels = std::fs::read(sample("mnist200-labels-idx1-ubyte")).unwrap();
        for (n, (x, t)) in idx.iter().enumerate() {
            let pixels = &images[16 + n * 6 * 784..][..6 * 784];
            assert!(x.iter().zip(pixels).all(|(&x, &p)| x == f64::from(p) * 0.5));
            assert!(t.iter().zip(&labels[8 + n * 6..]).all(|(&t, &l)| t == f64::from(l)));
        }
        let text = layer(IDX, "IDX", "").replace("top: 't'", "");
        let mut bench = Bench::<f64>::new(&text, &[]).unwrap();
        bench.forward();
        assert_eq!(
            (bench.shape("x").to_string(), bench.get("x")),
            ("6 1 28 28 (4704)".into(), idx[0].0.clone())
        );
    }

    #[test]
    fn a_run_goes_on_where_it_stopped() {
        for fields in ["", "shuffle: true", "pair_size: 3", "rand_skip: 50"] {
            let text = layer(IDX, "IDX", fields);
            let whole = batches(&text, 40);
            let mut bench = Bench::<f32>::new(&text, &[]).unwrap();
            let records = |bench: &Bench<f32>| bench.net.nodes()[0].layer.records();
            // Building and shaping use up nothing.
            bench.net.reshape().unwrap();
            assert_eq!(records(&bench), Some(0));
            assert_eq!(next(&mut bench, 2), whole[..2], "{fields}");
            bench.net.reshape().unwrap();
            assert_eq!(records(&bench), Some(12));
            assert_eq!(next(&mut bench, 1), whole[2..3], "{fields}");
            let mut resumed = Bench::<f32>::new(&text, &[]).unwrap();
            resumed.net.nodes_mut()[0].layer.seek(36 * 6).unwrap();
            assert_eq!(next(&mut resumed, 4), whole[36..], "{fields}");
        }
    }

    #[test]
    fn solvers_that_train_together_share_the_records() {
        // As one batch of both: what is drawn for a record, where it is cut and whether it is mirrored, is drawn alike.
        for fields in ["", "shuffle: true", "pair_size: 3"] {
            let text = layer(IDX, "IDX", fields).replace("scale: 0.5", "mirror: true crop_size: 20");
            let text = format!("state {{ phase: TRAIN }} {text}");
            let whole = batches(&text, 8);
            let mut shares = Vec::new();
            for rank in 0..2 {
                let mut bench = Bench::<f32>::new(&text, &[]).unwrap();
                bench.net.set_share(1, rank, 2);
                shares.push(next(&mut bench, 4));
            }
            let group = if fields.contains("pair") { 3 } else { 1 };
            let all = |batches: &[(Vec<f64>, Vec<f64>)]| {
                let images: Vec<f64> = batches.iter().flat_map(|(x, _)| x.clone()).collect();
                let labels: Vec<f64> = batches.iter().flat_map(|(_, t)| t.clone()).collect();
                (images, labels)
            };
            let (whole, shares) = (all(&whole), [all(&shares[0]), all(&shares[1])]);
            for i in 0..48 {
                let (from, at) = (&shares[i / group % 2], i / group / 2 * group + i % group);
                assert_eq!(whole.0[i * 400..][..400], from.0[at * 400..][..400], "{fields}: image {i}");
                assert_eq!(whole.1[i], from.1[at], "{fields}: label {i}");
            }
        }
    }

    #[test]
    fn pairs_share_their_label() {
        for (_, labels) in batches(&layer(IDX, "IDX", "pair_size: 2"), 10) {
            assert!(labels.chunks(2).all(|pair| pair[0] == pair[1]), "{labels:?}");
        }
    }

    #[test]
    fn bad_fields_name_themselves() {
        for (text, field, kind) in [
            (layer("none", "IDX", ""), "data_param.source", Kind::Io),
            (layer("none", "LMDB", ""), "data_param.source", Kind::Io),
            (layer("mnist200-labels-idx1-ubyte", "LMDB", ""), "data_param.source", Kind::Io),
            (layer(IDX, "LEVELDB", ""), "data_param.backend", Kind::Unsupported),
            (layer(IDX, "IDX", "pair_size: 4"), "data_param.batch_size", Kind::Value),
            (layer(IDX, "IDX", "").replace("batch_size: 6", ""), "data_param.batch_size", Kind::Value),
            (
                layer(IDX, "IDX", "").replace("scale: 0.5", "crop_size: 29"),
                "transform_param.crop_size",
                Kind::Shape,
            ),
            ("layer { name: 'd' type: 'Data' top: 'x' }".into(), "data_param.source", Kind::Value),
        ] {
            let error = refusal(&text, &[]);
            assert_eq!((error.layer(), error.field()), (Some("d"), Some(field)), "{error}");
            assert_eq!(error.kind(), kind, "{error}");
        }
    }
}
