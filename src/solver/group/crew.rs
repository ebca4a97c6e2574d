//! The solvers of the other devices, each in a thread of its own.
//!
//! A layer that runs on the host spreads its loops over a pool, and each of these solvers has one, as large as that of the first. In a pool that
//! they shared with their caller, a thread that waits for the others ([`Meeting`]) could be the one that they wait for.

use super::meeting::Meeting;
use super::{Seat, ordinals};
use crate::device::{Gpu, Member, Pool};
use crate::error::{Error, Kind, Result};
use crate::math::Real;
use crate::proto::caffe::{SolverParameter, solver_parameter::SolverMode};
use crate::solver::{Event, Observer, Silent, Solver};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

/// Something for a solver to do.
pub(in crate::solver) type Task<T> = Box<dyn FnOnce(&mut Solver<T>) -> Result<()> + Send>;

enum Order<T: Real> {
    /// One iteration; whether its gradients are to be kept.
    Iterate(bool),
    Do(Task<T>),
}

/// The other solvers, as the first one has them. They end when it is dropped.
pub(in crate::solver) struct Crew<T: Real>(Vec<SyncSender<Order<T>>>);

/// Their threads, which are waited for when this is dropped.
pub(in crate::solver) struct Threads(Vec<JoinHandle<()>>);

impl<T: Real> Crew<T> {
    /// Nobody.
    pub fn none() -> Crew<T> {
        Crew(Vec::new())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Has all of them do an iteration. What goes wrong in it shows where they meet.
    pub fn iterate(&self, keep_gradients: bool, seat: &Seat) -> Result<()> {
        self.0.iter().try_for_each(|one| give(one, Order::Iterate(keep_gradients), seat))
    }

    /// Has all of them do something.
    pub fn tell(&self, seat: &Seat, task: impl Fn() -> Task<T>) -> Result<()> {
        self.0.iter().try_for_each(|one| give(one, Order::Do(task()), seat))
    }

    /// Has one of them do something, by its place behind the first solver.
    pub fn tell_one(&self, i: usize, seat: &Seat, task: Task<T>) -> Result<()> {
        self.0.get(i).map_or(Ok(()), |one| give(one, Order::Do(task), seat))
    }
}

fn give<T: Real>(one: &SyncSender<Order<T>>, order: Order<T>, seat: &Seat) -> Result<()> {
    one.send(order).or_else(|_| {
        seat.failure()?;
        Err(Error::new(Kind::Device, "the thread of another GPU has ended"))
    })
}

impl Threads {
    pub fn none() -> Threads {
        Threads(Vec::new())
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        for thread in self.0.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Tells the others if a thread ends by a panic.
struct Watch(Arc<Meeting>, usize);

impl Drop for Watch {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.fail(Error::new(Kind::Device, format!("the thread of GPU {} has ended", self.1)));
        }
    }
}

fn work<T: Real>(mut solver: Solver<T>, orders: Receiver<Order<T>>) {
    while let Ok(order) = orders.recv() {
        let done = match order {
            Order::Iterate(keep) => solver.iterate(keep, &mut Silent),
            Order::Do(task) => task(&mut solver),
        };
        if let Err(error) = done {
            solver.seat.fail(&error);
            break;
        }
    }
}

impl<T: Real> Solver<T> {
    /// Trains on several devices from now on, each with batches of its own from its share of the records; with one it is
    /// [`Solver::set_device`], with none the solver goes to the host.
    ///
    /// The gradients are averaged before each update, so that all devices have the same weights. This solver's net is that of the first
    /// device.
    ///
    /// Errors: NCCL is missing or too old; a device named twice; a net whose inputs a user fills.
    pub fn set_devices(&mut self, gpus: &[Gpu], observer: &mut dyn Observer) -> Result<()> {
        self.set_device(gpus.first())?;
        if gpus.len() < 2 {
            return Ok(());
        }
        if let Some(i) = (1..gpus.len()).find(|&i| gpus[..i].iter().any(|g| g.ordinal() == gpus[i].ordinal()))
        {
            return Err(Error::new(Kind::Usage, format!("GPU {} is named twice", gpus[i].ordinal())));
        }
        if let Some(input) = self.model.net.nodes().iter().find(|n| n.param.r#type() == "Input") {
            return Err(Error::new(
                Kind::Net,
                "a net whose inputs a user fills cannot be trained on several GPUs",
            )
            .suggest("a Data layer gives each GPU its share of the records")
            .in_layer(&input.name));
        }
        let meeting = Arc::new(Meeting::new(gpus.len()));
        let mut members = Member::join(gpus)?.into_iter().enumerate();
        let seat = |member: Member, rank: usize, solver: &mut Solver<T>| {
            let seed = solver.seed;
            solver.model.net.set_share(seed, rank as u64, gpus.len() as u64);
            solver.seat = Seat::new(rank, gpus.len(), &meeting, member, &solver.model.net)?;
            Ok::<_, Error>(())
        };
        let first = members.next();
        let mut others = Vec::new();
        for (rank, member) in members {
            let mut other = self.peer()?;
            other.set_device(Some(member.gpu()))?;
            seat(member, rank, &mut other)?;
            others.push(other);
        }
        if let Some((rank, member)) = first {
            seat(member, rank, self)?;
        }
        for other in others {
            let (orders, taken) = sync_channel(4);
            let ordinal = other.device().map_or(0, Gpu::ordinal);
            let watch = Watch(meeting.clone(), ordinal);
            let thread = thread::Builder::new().name(format!("gpu-{ordinal}"));
            let pool = Pool::alike()?;
            let thread = thread.spawn(move || {
                let _watch = watch;
                pool.install(|| work(other, taken));
            });
            let failed = |e| Error::new(Kind::Device, format!("cannot start a thread: {e}"));
            self.threads.0.push(thread.map_err(failed)?);
            self.crew.0.push(orders);
        }
        observer.event(&Event::Note(&format!(
            "GPUs {} train together: each takes batches of its own, and their gradients are averaged",
            ordinals(gpus)
        )));
        Ok(())
    }

    /// A solver for another device: the same nets and rules, nothing to test, display or write.
    fn peer(&self) -> Result<Solver<T>> {
        let param = SolverParameter {
            test_net: vec![],
            test_net_param: vec![],
            test_iter: vec![],
            test_state: vec![],
            weights: vec![],
            snapshot: Some(0),
            snapshot_after_train: Some(false),
            random_seed: Some(self.seed as i64),
            solver_mode: Some(SolverMode::Cpu as i32),
            ..self.param.clone()
        };
        Solver::keeping(&param, self.source.as_ref(), &mut Silent, &self.plans.keep)
    }

    /// Values of all parameters of the training net on a device, by its place among those that train together: on all the same.
    pub fn weights_on(&mut self, place: usize) -> Result<Vec<Vec<T>>> {
        let read = |solver: &mut Solver<T>| {
            solver.model.fetch()?;
            let params = solver.model.weights.iter().take(solver.model.history.len());
            Ok(params.map(|p| p.data.host().to_vec()).collect())
        };
        let Some(other) = place.checked_sub(1) else { return read(self) };
        let (give, take) = sync_channel(1);
        let task: Task<T> = Box::new(move |solver| {
            let _ = give.send(read(solver)?);
            Ok(())
        });
        self.crew.tell_one(other, &self.seat, task)?;
        take.recv().or_else(|_| {
            self.seat.failure()?;
            Err(Error::new(Kind::Usage, format!("no device trains at place {place}")))
        })
    }
}
