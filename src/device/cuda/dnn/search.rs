//! Which algorithm of a convolution is the fastest: each that will do is run a few times and timed by the device's own clock, once for equal convolutions on
//! a device, and the answer is kept, on the disk too.

use super::convolution::{Algorithm, Convolution, Direction};
use super::{Dnn, Gpu, api, dotted};
use crate::blob::Element;
use crate::device::cuda::cache::{self, Room};
use crate::device::cuda::libraries;
use crate::device::{Event, Memory, View};
use crate::error::Result;
use std::ffi::c_int;

/// Runs of an algorithm that are timed; the shortest counts. One before them is not, in which the library loads what it needs.
const RUNS: usize = 3;
/// One that takes so many times as long as the best is not run again.
const HOPELESS: f64 = 2.0;
/// Of this share of the best time or more, one that stands behind in the library's order is not better: clocks are not that exact.
const BETTER: f64 = 0.98;

impl<T: Element> Convolution<T> {
    /// The fastest of these algorithms; the first where there is no memory to try them. Nothing is written but what the direction overwrites anyway.
    pub(super) fn fastest(
        &self,
        dnn: &Dnn,
        direction: Direction,
        algorithms: &[Algorithm],
        operands: [View<T>; 2],
        result: View<T>,
    ) -> Result<Option<Algorithm>> {
        let question = self.question(dnn, direction)?;
        // What is not among those that will do is no answer.
        let known = |number: c_int| algorithms.iter().find(|a| a.number == number).copied();
        let mut found = dnn.found.lock().unwrap_or_else(|e| e.into_inner());
        let here = found.get(&question).and_then(|&number| known(number));
        if let Some(algorithm) = here.or_else(|| kept(&self.gpu, &question).and_then(known)) {
            found.insert(question, algorithm.number);
            return Ok(Some(algorithm));
        }
        let timed = self.time_all(dnn, direction, algorithms, operands, result)?;
        let mut best: Option<(Algorithm, f64)> = None;
        for (algorithm, ms) in timed {
            if best.is_none_or(|(_, least)| ms < BETTER * least) {
                best = Some((algorithm, ms));
            }
        }
        let Some((algorithm, _)) = best else { return Ok(algorithms.first().copied()) };
        keep(&self.gpu, &question, algorithm.number);
        found.insert(question, algorithm.number);
        Ok(Some(algorithm))
    }

    /// All that the answer depends on.
    fn question(&self, dnn: &Dnn, direction: Direction) -> Result<String> {
        let (gpu, room) = (&self.gpu, self.gpu.workspace_limit());
        let (library, driver) = (dotted(dnn.version), libraries::dotted(libraries::driver()?));
        let device = format!("{} of compute capability {}", gpu.name(), gpu.0.capability);
        let what = &self.what;
        Ok(format!("{direction:?}, {what}, in {room} bytes by cuDNN {library}, CUDA {driver}, on {device}"))
    }

    /// Milliseconds of each algorithm that works; nothing where there is too little memory to try them all.
    fn time_all(
        &self,
        dnn: &Dnn,
        direction: Direction,
        algorithms: &[Algorithm],
        operands: [View<T>; 2],
        result: View<T>,
    ) -> Result<Vec<(Algorithm, f64)>> {
        let gpu = &self.gpu;
        let most = algorithms.iter().map(|a| a.bytes).max().unwrap_or(0);
        // Not the workspace of all layers: that is to be no larger than what is chosen needs.
        let Ok(room) = Memory::<u8>::new(gpu, most) else { return Ok(Vec::new()) };
        // The gradient of the filters is added to what is there, which must stay.
        let [_, _, written] = self.operands(direction);
        let scratch = match direction {
            Direction::Filters => Memory::<T>::new(gpu, written.len).map(Some),
            _ => Ok(None),
        };
        let Ok(scratch) = scratch else { return Ok(Vec::new()) };
        let result = match &scratch {
            Some(scratch) => scratch.view(),
            None => result,
        };
        if scratch.is_some() {
            gpu.fill(result, result.len, T::default())?;
        }
        let clock = [Event::new(gpu)?, Event::new(gpu)?];
        let (mut timed, mut least) = (Vec::with_capacity(algorithms.len()), f64::INFINITY);
        for &algorithm in algorithms {
            let run = || {
                let workspace = room.view().to(algorithm.bytes);
                let status = self.ask(dnn, direction, algorithm, workspace, operands, result)?;
                Ok(status == api::SUCCESS)
            };
            if let Some(ms) = time(&clock, least, run)? {
                least = least.min(ms);
                timed.push((algorithm, ms));
            }
        }
        Ok(timed)
    }
}

/// Milliseconds of the shortest of a few runs, fewer where that cannot become the `least` any more; nothing where the library refuses one.
fn time([begin, end]: &[Event; 2], least: f64, run: impl Fn() -> Result<bool>) -> Result<Option<f64>> {
    if !run()? {
        return Ok(None);
    }
    let mut shortest = f64::INFINITY;
    for _ in 0..RUNS {
        begin.record()?;
        if !run()? {
            return Ok(None);
        }
        end.record()?;
        end.wait()?;
        shortest = shortest.min(end.since(begin)?);
        if shortest > HOPELESS * least {
            break;
        }
    }
    Ok(Some(shortest))
}

/// The answer on the disk.
fn kept(gpu: &Gpu, question: &str) -> Option<c_int> {
    let answer = cache::read(gpu.0.cache.as_ref()?, Room::Convolutions, question)?;
    std::str::from_utf8(&answer).ok()?.parse().ok()
}

/// Keeps an answer on the disk; where nothing can be written each process times for itself.
fn keep(gpu: &Gpu, question: &str, number: c_int) {
    if let Some(folder) = &gpu.0.cache {
        let _ = cache::write(folder, Room::Convolutions, question, number.to_string().as_bytes());
    }
}
