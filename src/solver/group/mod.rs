//! Solvers that train together, one for each device: what each of them knows of the others.
//!
//! The solver of the first device is the one that the user has. It tests, displays and takes snapshots; the others, each in a thread of its
//! own ([`crew`]), do the same iterations on other records. All have the same weights, since they average their gradients before the
//! update ([`Seat`]). A solver that is alone is a group of one, for which nothing of this does anything.

mod crew;
mod meeting;

pub(super) use crew::{Crew, Threads};

use super::Solver;
use crate::blob::{ParamId, Residence, Weights};
use crate::device::{Event, Gpu, Member, Transfers};
use crate::error::Result;
use crate::math::Real;
use crate::net::{Net, Way};
use meeting::Meeting;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Iterations whose gradients are averaged behind backward, when all have come so far: in these devices take memory and load kernels, which may
/// wait for a device that waits for another.
const WARM_UP: u32 = 2;

/// For so long a thread that waits for its device does nothing else.
const BUSY: Duration = Duration::from_millis(2);

/// A solver's place among those that train together.
#[derive(Default)]
pub(super) struct Seat {
    others: Option<Others>,
}

struct Others {
    rank: u64,
    count: u64,
    meeting: Arc<Meeting>,
    member: Member,
    /// The parameters whose gradients are complete when backward has run a layer.
    last: Vec<Vec<ParamId>>,
    /// Iterations so far, as far as they count for [`WARM_UP`].
    runs: u32,
    done: Event,
}

impl Seat {
    /// Among `count`, with number `rank`.
    fn new<T: Real>(
        rank: usize,
        count: usize,
        meeting: &Arc<Meeting>,
        member: Member,
        net: &Net<T>,
    ) -> Result<Seat> {
        let done = Event::new(member.gpu())?;
        let (rank, count, meeting) = (rank as u64, count as u64, meeting.clone());
        let last = net.last_gradients();
        Ok(Seat { others: Some(Others { rank, count, meeting, member, last, runs: 0, done }) })
    }

    /// Its number and that of all.
    pub fn share(&self) -> (u64, u64) {
        self.others.as_ref().map_or((0, 1), |o| (o.rank, o.count))
    }

    /// Waits for the others; nothing if all go the same way, else why not.
    pub fn agree(&self, way: Way, why: Option<&str>) -> Result<Option<String>> {
        match &self.others {
            Some(others) => {
                let why = why.map(|why| format!("GPU {}: {why}", others.member.gpu().ordinal()));
                others.meeting.meet(way as u8, why.as_deref())
            }
            None => Ok(None),
        }
    }

    /// Backward has run layer i: has the gradients averaged that are complete now, while it goes on.
    pub fn layer_done<T: Real>(&mut self, i: usize, weights: &mut Weights<T>) -> Result<()> {
        match &mut self.others {
            Some(others) if others.runs >= WARM_UP => others.average(i, weights),
            _ => Ok(()),
        }
    }

    /// Has the device wait for the averaged gradients, before the update; `begun` says whether [`Seat::layer_done`] was told of all
    /// layers.
    pub fn complete<T: Real>(&mut self, begun: bool, weights: &mut Weights<T>) -> Result<()> {
        let Some(others) = &mut self.others else { return Ok(()) };
        let warm = others.runs >= WARM_UP;
        if !(begun && warm) {
            others.meeting.meet(0, None)?;
            for i in (0..others.last.len()).rev() {
                others.average(i, weights)?;
            }
        }
        others.member.collect()?;
        if !warm {
            others.runs += 1;
            others.wait()?;
        }
        Ok(())
    }

    /// Gives all the weights and histories of the first. `history` says which of these there are.
    pub fn broadcast<T: Real>(
        &mut self,
        solver: &mut super::model::Model<T>,
        history: &[bool],
    ) -> Result<()> {
        let Some(others) = &mut self.others else { return Ok(()) };
        let gpu = others.member.gpu().clone();
        let mut count = Transfers::default();
        let trained = solver.history.len();
        let values = solver.weights.iter_mut().take(trained).map(|p| &mut p.data);
        let histories =
            solver.history.iter_mut().flatten().zip(history).filter_map(|(h, there)| there.then_some(h));
        let mut views = Vec::new();
        for buffer in values.chain(histories).filter(|b| !b.is_empty()) {
            if others.rank == 0 {
                buffer.to_device(&gpu, &mut count)?;
                views.push(buffer.on_device()?);
            } else {
                buffer.overwrite_on_device(&gpu)?;
                views.push(buffer.on_device_mut()?);
            }
        }
        others.meeting.meet(0, None)?;
        others.member.broadcast(views.into_iter())?;
        others.member.collect()?;
        others.wait()
    }

    /// Waits until the device has done all it was asked for, but not for another solver that has failed.
    pub fn wait(&self) -> Result<()> {
        self.others.as_ref().map_or(Ok(()), Others::wait)
    }

    /// Tells the others that this one has failed, and has the device wait for none of them.
    pub fn fail(&mut self, error: &crate::error::Error) {
        if let Some(others) = &mut self.others {
            let place = format!("this was on GPU {}", others.member.gpu().ordinal());
            let place = error.suggestion().map_or(place.clone(), |s| format!("{s} ({place})"));
            others.meeting.fail(error.clone().suggest(place));
            others.member.abort();
        }
    }

    /// What ended the work together, if anything has.
    pub fn failure(&self) -> Result<()> {
        self.others.as_ref().and_then(|o| o.meeting.failure()).map_or(Ok(()), Err)
    }
}

impl Others {
    fn average<T: Real>(&mut self, i: usize, weights: &mut Weights<T>) -> Result<()> {
        let params = self.last.get(i).map_or(&[][..], Vec::as_slice);
        let mut count = Transfers::default();
        let gpu = self.member.gpu().clone();
        for &p in params {
            // That of a layer that runs on the host is there.
            weights.get_mut(p).diff.to_device(&gpu, &mut count)?;
        }
        if params.is_empty() {
            return Ok(());
        }
        for &p in params {
            weights.get_mut(p).diff.on_device_mut()?;
        }
        let views = params.iter().filter_map(|&p| weights.get(p).diff.on_device().ok());
        self.member.average(views)
    }

    fn wait(&self) -> Result<()> {
        self.done.record()?;
        let began = Instant::now();
        while !self.done.happened()? {
            if let Some(error) = self.meeting.failure() {
                return Err(error);
            }
            match began.elapsed() < BUSY {
                true => std::thread::yield_now(),
                false => {
                    self.member.check()?;
                    std::thread::sleep(Duration::from_micros(50));
                }
            }
        }
        Ok(())
    }
}

/// Where a run stands, but for the weights: what the first solver tells the others before they go on together.
#[derive(Clone)]
struct Standing {
    iteration: usize,
    current_step: usize,
    seed: u64,
    pass: u64,
    graphs: bool,
    /// Records that each data layer has handed out.
    records: Vec<(String, u64)>,
    /// Which histories there are.
    history: Vec<bool>,
}

impl<T: Real> Solver<T> {
    /// Brings the other solvers to where this one stands, weights included.
    pub(super) fn gather(&mut self) -> Result<()> {
        if self.crew.is_empty() {
            return Ok(());
        }
        self.seat.failure()?;
        let there = |h: &crate::blob::Buffer<T>| h.residence() != Residence::Nowhere;
        let standing = Standing {
            iteration: self.iteration,
            current_step: self.current_step,
            seed: self.seed,
            pass: self.model.net.next_pass(),
            graphs: self.graphs,
            records: super::model::positions(&self.model.net).map(|(n, at)| (n.to_string(), at)).collect(),
            history: self.model.history.iter().flatten().map(there).collect(),
        };
        let told = standing.clone();
        self.crew.tell(&self.seat, move || {
            let told = told.clone();
            Box::new(move |solver: &mut Solver<T>| solver.follow(&told))
        })?;
        let Solver { seat, model, .. } = self;
        let done = seat.broadcast(model, &standing.history);
        done.inspect_err(|e| self.seat.fail(e))
    }

    /// Goes to where the first solver stands.
    fn follow(&mut self, standing: &Standing) -> Result<()> {
        if self.seed != standing.seed {
            self.reseed(standing.seed, &mut super::Silent)?;
        }
        if self.graphs != standing.graphs {
            self.set_graphs(standing.graphs);
        }
        (self.iteration, self.current_step) = (standing.iteration, standing.current_step);
        let net = &mut self.model.net;
        net.set_next_pass(standing.pass);
        let now: Vec<(String, u64)> =
            super::model::positions(net).map(|(n, at)| (n.to_string(), at)).collect();
        for (name, records) in standing.records.iter().filter(|there| !now.contains(there)) {
            if let Some(layer) = super::model::reader(net, name) {
                layer.seek(*records).map_err(|e| e.in_layer(name))?;
            }
        }
        self.cleared = false;
        let Solver { seat, model, .. } = self;
        seat.broadcast(model, &standing.history)
    }
}

/// The devices, as Caffe's log has them: `0, 1`.
pub(super) fn ordinals(gpus: &[Gpu]) -> String {
    gpus.iter().map(|gpu| gpu.ordinal().to_string()).collect::<Vec<_>>().join(", ")
}
