//! From the gradients of an iteration to new parameters: clearing, clipping, updating, where they are.

use super::event::{Event, Observer};
use super::group::Seat;
use super::model::Model;
use super::settings::Settings;
use super::update::Step;
use super::update::cuda::Table;
use super::{Regularizer, Solver};
use crate::blob::{Buffer, Residence, Weights};
use crate::device::{Gpu, Transfers};
use crate::error::Result;
use crate::math::{Real, vector};
use crate::net::{Hooks, Iterations, Way};

/// What goes along with the last pass of an iteration on a device.
struct Along<'a, T: Real> {
    gpu: &'a Gpu,
    table: &'a mut Table<T>,
    history: &'a mut Vec<Vec<Buffer<T>>>,
    settings: &'a Settings,
    regularizer: &'a Regularizer,
    seat: &'a mut Seat,
}

impl<T: Real> Hooks<T> for Along<'_, T> {
    fn agree(&mut self, way: Way, why: Option<&str>) -> Result<Option<String>> {
        self.seat.agree(way, why)
    }

    fn layer_done(&mut self, i: usize, weights: &mut Weights<T>) -> Result<()> {
        self.seat.layer_done(i, weights)
    }

    fn update(&mut self, weights: &mut Weights<T>) -> Result<()> {
        self.seat.complete(true, weights)?;
        // Gradients of a layer that runs on the host are there.
        self.table.prepare(self.gpu, weights.iter_mut().zip(&mut *self.history), self.regularizer)?;
        if let Some(limit) = self.settings.clip {
            self.table.clip(self.gpu, limit, self.settings.iter_size)?;
        }
        self.table.update(self.gpu)
    }

    fn asked(&mut self) -> Result<()> {
        self.seat.wait()
    }
}

impl<T: Real> Solver<T> {
    /// Sets all gradients to zero, unless the last update has done so.
    pub(super) fn clear_gradients(&mut self) -> Result<()> {
        let cleared = std::mem::take(&mut self.cleared);
        let Some(gpu) = self.model.net.device().cloned() else {
            return if cleared { Ok(()) } else { self.model.weights.clear_diffs() };
        };
        // Values that the host has got in the meantime may have been written there.
        let on_device = |r| matches!(r, Residence::Device | Residence::Nowhere);
        let untouched = self.model.weights.iter().all(|p| on_device(p.diff.residence()));
        if cleared && untouched {
            return Ok(());
        }
        self.prepare(&gpu)?;
        self.table.clear(&gpu)
    }

    /// Brings the parameters to the device and lists them there.
    fn prepare(&mut self, gpu: &Gpu) -> Result<()> {
        let Model { net, weights, history, .. } = &mut self.model;
        if self.table.prepare(gpu, weights.iter_mut().zip(history), &self.regularizer)? {
            net.forget_graph(); // its update is of another list
        }
        Ok(())
    }

    /// The last pass of an iteration on a device, update included, as a graph where it can be; its loss.
    pub(super) fn iterate_on(
        &mut self,
        gpu: &Gpu,
        rate: f64,
        clear: bool,
        observer: &mut dyn Observer,
    ) -> Result<f64> {
        self.prepare(gpu)?;
        self.table.set_step(rate, 1.0 / self.settings.iter_size as f64, clear)?;
        let Solver { table, model, settings, plans, regularizer, seat, .. } = self;
        let Model { net, weights, history, .. } = model;
        let loss = net.iterate(weights, &mut Along { gpu, table, history, settings, regularizer, seat });
        self.cleared = clear && loss.is_ok();
        if let (false, Iterations::Refused(why)) = (self.told, net.iterations()) {
            self.told = true;
            observer.event(&Event::Note(&format!(
                "Iterations are launched layer by layer, not as a graph: {why}"
            )));
        }
        loss.map_err(|e| plans.train.locate(e))
    }

    /// Clips and updates on a device: no more than two launches.
    fn update_on(&mut self, gpu: &Gpu, rate: f64, clear: bool, observer: &mut dyn Observer) -> Result<()> {
        self.prepare(gpu)?;
        self.table.set_step(rate, 1.0 / self.settings.iter_size as f64, clear)?;
        self.seat.complete(false, &mut self.model.weights)?;
        if let Some(limit) = self.settings.clip {
            self.table.clip(gpu, limit, self.settings.iter_size)?;
        }
        self.table.update(gpu)?;
        self.seat.wait()?;
        self.cleared = clear;
        self.tell_clipped(observer)
    }

    /// Tells of clipping on a device, if there was any.
    pub(super) fn tell_clipped(&mut self, observer: &mut dyn Observer) -> Result<()> {
        let Some(limit) = self.settings.clip else { return Ok(()) };
        let norm = self.table.norm()?;
        if norm > limit {
            observer.event(&Event::Clipped { norm, limit, scale: limit / norm });
        }
        Ok(())
    }

    /// Updates all parameters of the training net from their accumulated gradients, which end cleared where `clear` says so: in the
    /// same pass over memory.
    pub(super) fn update(&mut self, rate: f64, clear: bool, observer: &mut dyn Observer) -> Result<()> {
        if let Some(gpu) = self.model.net.device().cloned() {
            return self.update_on(&gpu, rate, clear, observer);
        }
        let scale = self.clip(observer) / self.settings.iter_size as f64;
        let mut count = Transfers::default();
        let params = self.model.weights.iter_mut();
        for (param, history) in params.zip(&mut self.model.history) {
            // What is not learned has no history, unless a snapshot brought one that still fades.
            if param.lr_mult == 0.0 && history.iter().all(|h| h.residence() == Residence::Nowhere) {
                if clear && param.diff.residence() != Residence::Nowhere {
                    param.diff.fill(T::zero())?;
                }
                continue;
            }
            let (l1, l2) = self.regularizer.factors(param.decay_mult);
            let step = Step {
                iteration: self.iteration,
                rate: T::from_f64(rate * f64::from(param.lr_mult)),
                scale: T::from_f64(scale),
                l1,
                l2,
                clear,
            };
            param.data.to_host(&mut count)?;
            param.diff.to_host(&mut count)?;
            self.rule.update(&step, param.data.host_mut(), param.diff.host_mut(), history);
        }
        self.cleared = clear;
        Ok(())
    }

    /// The factor that brings the L2 norm of all gradients together down to `clip_gradients`.
    fn clip(&mut self, observer: &mut dyn Observer) -> f64 {
        let Some(limit) = self.settings.clip else { return 1.0 };
        let params = self.model.weights.iter().take(self.model.history.len());
        let norm = params.map(|p| vector::sum_squares(p.diff.host())).sum::<f64>().sqrt();
        if norm <= limit || norm.is_nan() {
            return 1.0;
        }
        let scale = limit / norm;
        observer.event(&Event::Clipped { norm, limit, scale });
        scale
    }
}
