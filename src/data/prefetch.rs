//! Batches made ahead of time by a thread.
//!
//! What a batch holds depends on its position in the run alone, never on timing: the order of the records and the
//! draws for crop and mirror are functions of (seed, layer, position).

use super::{Record, RecordSource, Sampler, Transformer};
use crate::device::{Gpu, Pinned};
use crate::error::{Error, Kind, Result};
use crate::math::{Purpose, Real, Stream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

/// The batches of a run, one after the other. A steady state allocates nothing: the same few buffers go round.
///
/// The thread starts with the first batch and ends when this is dropped.
pub struct Batches<T> {
    shape: [usize; 4],
    labels: bool,
    depth: usize,
    position: u64,
    /// What the thread is made of, while it does not run.
    loader: Option<Loader<T>>,
    thread: Option<Prefetch<T>>,
    failed: Option<Error>,
    /// The device that batches are made for.
    device: Option<Gpu>,
    /// The next batch, where it was looked at already.
    next: Option<Batch<T>>,
}

/// More batches than this are not made ahead; how many are changes no number.
const MOST_BATCHES: usize = 1024;

/// Reads and transforms records into batches.
pub(super) struct Loader<T> {
    pub source: Box<dyn RecordSource>,
    pub sampler: Sampler,
    pub transformer: Transformer<T>,
    pub seed: u64,
    pub layer: u32,
    /// Batch size, channels, height, width.
    pub shape: [usize; 4],
    /// Whether each record must have a label.
    pub labels: bool,
    pub record: Record,
    pub position: u64,
}

/// The values of a batch.
pub struct Batch<T> {
    /// Batch size × channels × height × width.
    pub data: Pinned<T>,
    /// One for each; none where they are not wanted.
    pub labels: Pinned<T>,
}

struct Prefetch<T> {
    full: Receiver<Result<Batch<T>>>,
    empty: SyncSender<Batch<T>>,
    thread: JoinHandle<Loader<T>>,
}

impl<T: Real> Batches<T> {
    pub(super) fn new(loader: Loader<T>, depth: usize) -> Batches<T> {
        let Loader { shape, labels, position, .. } = loader;
        Batches {
            shape,
            labels,
            depth: depth.clamp(1, MOST_BATCHES),
            position,
            loader: Some(loader),
            thread: None,
            failed: None,
            device: None,
            next: None,
        }
    }

    /// Shape of a batch: batch size, channels, height, width (after the crop).
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// Shape of one transformed record: channels, height, width.
    pub fn record_shape(&self) -> [usize; 3] {
        let [_, channels, height, width] = self.shape;
        [channels, height, width]
    }

    /// Records handed out so far, those before a resumed run started included: what a snapshot keeps.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Goes on from a position of the run, as a snapshot kept it. Batches made ahead, and an error, are forgotten.
    pub fn seek(&mut self, position: u64) {
        if position != self.position || self.failed.is_some() {
            self.stop();
            self.position = position;
            self.failed = None;
        }
    }

    /// Copies the next batch to `data` (batch size × channels × height × width) and its labels to `labels` (batch
    /// size; empty where the labels are not wanted).
    ///
    /// Errors: a record that cannot be read or used; every later call then gives the same error.
    pub fn next(&mut self, data: &mut [T], labels: &mut [T]) -> Result<()> {
        let wanted = (self.shape.iter().product(), if self.labels { self.shape[0] } else { 0 });
        if (data.len(), labels.len()) != wanted {
            return Err(Error::new(Kind::Shape, "the buffers do not fit a batch")
                .expected(format!("{} values and {} labels", wanted.0, wanted.1))
                .found(format!("{} and {}", data.len(), labels.len())));
        }
        let batch = self.peek()?;
        data.copy_from_slice(&batch.data);
        labels.copy_from_slice(&batch.labels);
        self.advance();
        Ok(())
    }

    /// The next batch, to be looked at until [`Batches::advance`]. Errors: those of [`Batches::next`].
    pub fn peek(&mut self) -> Result<&Batch<T>> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let batch = match self.next.take() {
            Some(batch) => batch,
            None => self.receive().inspect_err(|error| self.failed = Some(error.clone()))?,
        };
        Ok(self.next.insert(batch))
    }

    /// Hands out the batch that was looked at.
    pub fn advance(&mut self) {
        let Some(batch) = self.next.take() else { return };
        self.position += self.shape[0] as u64;
        if let Some(prefetch) = &self.thread {
            // A thread that has met a bad record further on takes no more; the batches before it, and its error, still come.
            let _ = prefetch.empty.send(batch);
        }
    }

    /// Takes only each `count`th record (or group of records) of the order from number `rank` on: [`Sampler::set_share`]. Positions count the
    /// records of this share.
    pub fn set_share(&mut self, rank: u64, count: u64) {
        self.stop();
        if let Some(loader) = &mut self.loader {
            loader.sampler.set_share(rank, count);
        }
    }

    /// Makes the batches to come in memory that a device copies from by itself, or in plain memory. Nothing else changes.
    pub fn set_device(&mut self, device: Option<&Gpu>) {
        if self.device.as_ref() != device {
            self.stop();
            self.device = device.cloned();
        }
    }

    fn receive(&mut self) -> Result<Batch<T>> {
        let prefetch = match self.thread.take() {
            Some(thread) => self.thread.insert(thread),
            None => {
                let started = self.start()?;
                self.thread.insert(started)
            }
        };
        let ended = |_| Error::new(Kind::Data, "the thread that reads the data has ended");
        prefetch.full.recv().map_err(ended)?
    }

    fn start(&mut self) -> Result<Prefetch<T>> {
        let lost = || Error::new(Kind::Data, "the thread that reads the data cannot be started");
        let (fill, full) = sync_channel(self.depth);
        let (empty, free) = sync_channel(self.depth);
        for _ in 0..self.depth {
            let data = zeros(self.shape.iter().product())?;
            let labels = zeros(if self.labels { self.shape[0] } else { 0 })?;
            let [data, labels] = [data, labels].map(|values| Pinned::new(self.device.as_ref(), values));
            empty.send(Batch { data, labels }).map_err(|_| lost())?;
        }
        let mut loader = self.loader.take().ok_or_else(lost)?;
        loader.position = self.position;
        let thread = thread::Builder::new()
            .name("prefetch".into())
            .spawn(move || loader.run(&free, &fill))
            .map_err(|e| lost().found(e))?;
        Ok(Prefetch { full, empty, thread })
    }
}

/// A buffer for a part of a batch; one too large for the machine is an error.
fn zeros<T: Real>(count: usize) -> Result<Vec<T>> {
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(count).map_err(|_| {
        Error::new(Kind::Value, "there is not enough memory for the batches")
            .found(format!("{count} values in each"))
            .in_field("data_param.batch_size")
    })?;
    buffer.resize(count, T::zero());
    Ok(buffer)
}

impl<T> Batches<T> {
    /// Ends the thread, if it runs, and takes back what it was made of.
    fn stop(&mut self) {
        self.next = None;
        if let Some(Prefetch { full, empty, thread }) = self.thread.take() {
            // With both ends closed the thread stops at its next batch.
            drop((full, empty));
            self.loader = thread.join().ok();
        }
    }
}

impl<T> Drop for Batches<T> {
    fn drop(&mut self) {
        self.stop();
    }
}

impl<T: Real> Loader<T> {
    /// Fills free batches until the other side goes away or a record is bad.
    fn run(mut self, free: &Receiver<Batch<T>>, full: &SyncSender<Result<Batch<T>>>) -> Loader<T> {
        while let Ok(mut batch) = free.recv() {
            let result = self.fill(&mut batch).map(|()| batch);
            let bad = result.is_err();
            if full.send(result).is_err() || bad {
                break;
            }
        }
        self
    }

    fn fill(&mut self, batch: &mut Batch<T>) -> Result<()> {
        let size: usize = self.shape[1..].iter().product();
        for (item, out) in batch.data.chunks_mut(size).enumerate() {
            let place = self.sampler.place(self.position);
            let index = self.sampler.at(place);
            self.source.read(index, &mut self.record)?;
            self.transform(place, out).map_err(|e| e.in_file(self.source.name()))?;
            if let Some(label) = batch.labels.get_mut(item) {
                let found = self.record.label.ok_or_else(|| super::datum::missing_label(&self.record.key));
                *label = T::from_f64(found.map_err(|e| e.in_file(self.source.name()))?.into());
            }
            self.position += 1;
        }
        Ok(())
    }

    fn transform(&mut self, place: u64, out: &mut [T]) -> Result<()> {
        let record = &self.record;
        let shape = self.transformer.output_shape(record.shape);
        if shape.as_ref().ok().is_none_or(|shape| *shape != self.shape[1..]) {
            let [c, h, w] = record.shape;
            let message = format!("record \"{}\" has another shape than the first one", record.key);
            let error = Error::new(Kind::Data, message).found(format!("{c} x {h} x {w}"));
            let [_, c, h, w] = self.shape;
            return Err(error.expected(format!("a record that gives {c} x {h} x {w} after the crop")));
        }
        let mut stream = Stream::of(Purpose::Record, self.seed, self.layer, place);
        self.transformer.apply(record, &mut stream, out)
    }
}
