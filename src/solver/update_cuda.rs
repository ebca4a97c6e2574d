//! Update rules on a GPU: all parameters stand in one table on the device, and one launch goes over all of them.

use crate::blob::{Buffer, Param, Residence};
use crate::device::{Arg, Gpu, Grid, Memory, Source, Transfers};
use crate::error::Result;
use crate::math::Real;
use crate::solver::Regularizer;
use std::marker::PhantomData;

const LIST: &str = include_str!("parameters.cu");

pub(super) static SGD: Source =
    Source { name: "sgd.cu", parts: &[LIST, include_str!("sgd.cu"), include_str!("update.cu")] };

pub(super) static NORM: Source =
    Source { name: "norm_of_gradients.cu", parts: &[LIST, include_str!("norm_of_gradients.cu")] };

/// An update rule on a device: its kernels, with what they take besides the parameters.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// `parameters.cu`, the rule's own text, `update.cu`.
    pub source: &'static Source,
    /// Its constants.
    pub numbers: [f64; 4],
}

/// Values of a parameter that a block has at a time: `PART` of `parameters.cu`.
const PART: usize = 2048;
/// Words of a parameter: `Param`.
const WORDS: usize = 9;
/// Words of what an iteration asks: `Step`.
const STEP: usize = 5;
/// Blocks that share the sum of squares.
const BLOCKS: usize = 1024;

/// The parameters of a net with their gradients and histories, as the kernels find them.
pub(in crate::solver) struct Table<T> {
    /// What stands on the device, and what is to stand there.
    words: Vec<u64>,
    wanted: Vec<u64>,
    /// Parts of all parameters.
    parts: usize,
    table: Option<Memory<u64>>,
    step: Option<Memory<u64>>,
    sums: Option<Memory<u64>>,
    rule: Rule,
    kind: PhantomData<T>,
}

impl<T: Real> Table<T> {
    /// An empty one.
    pub fn new(rule: Rule) -> Table<T> {
        let (words, wanted) = (Vec::new(), Vec::new());
        Table { words, wanted, parts: 0, table: None, step: None, sums: None, rule, kind: PhantomData }
    }

    /// Brings all parameters, their gradients and histories to the device, and tells it where they are, if that has changed: whether it has.
    pub fn prepare<'a>(
        &mut self,
        gpu: &Gpu,
        params: impl Iterator<Item = (&'a mut Param<T>, &'a mut Vec<Buffer<T>>)>,
        regularizer: &Regularizer,
    ) -> Result<bool> {
        let (mut parts, mut count) = (0, Transfers::default());
        self.wanted.clear();
        for (param, history) in params {
            // What is not learned has no history, unless a snapshot brought one that still fades.
            let learned = param.lr_mult != 0.0 || history.iter().any(|h| h.residence() != Residence::Nowhere);
            if !learned && param.diff.residence() == Residence::Nowhere {
                continue;
            }
            let (l1, l2) = regularizer.factors::<T>(param.decay_mult);
            let mut row = [0; WORDS];
            param.diff.to_device(gpu, &mut count)?;
            row[1] = param.diff.on_device_mut()?.at;
            if learned {
                param.data.to_device(gpu, &mut count)?;
                row[0] = param.data.on_device_mut()?.at;
                for (word, buffer) in row[2..4].iter_mut().zip(history) {
                    buffer.to_device(gpu, &mut count)?;
                    *word = buffer.on_device_mut()?.at;
                }
            }
            let len = param.diff.len();
            let numbers = [f64::from(param.lr_mult), l1.as_f64(), l2.as_f64()].map(f64::to_bits);
            (row[4], row[5]) = (len as u64, parts as u64);
            row[6..].copy_from_slice(&numbers);
            if len > 0 {
                self.wanted.extend(row);
                parts += len.div_ceil(PART);
            }
        }
        self.parts = parts;
        let changed = self.words != self.wanted || self.table.is_none();
        if changed {
            let table = Memory::ready(&mut self.table, gpu, self.wanted.len())?;
            table.write(&self.wanted)?;
            std::mem::swap(&mut self.words, &mut self.wanted);
        }
        if self.step.is_none() {
            let step = Memory::new(gpu, STEP)?;
            step.write(&[0; STEP])?;
            let sums = Memory::new(gpu, BLOCKS)?;
            sums.write(&[0; BLOCKS])?;
            (self.step, self.sums) = (Some(step), Some(sums));
        }
        Ok(changed)
    }

    /// Says what the coming update is to do: learning rate, factor on the gradients, whether they end cleared.
    pub fn set_step(&mut self, rate: f64, scale: f64, clear: bool) -> Result<()> {
        let words = [rate.to_bits(), scale.to_bits(), clear.into()];
        self.step.as_ref().map_or(Ok(()), |step| step.write(&words))
    }

    /// Computes the norm of all gradients, and makes the factor on them such that none above `limit` is left.
    pub fn clip(&self, gpu: &Gpu, limit: f64, iter_size: usize) -> Result<()> {
        let (Some(step), Some(sums)) = (&self.step, &self.sums) else { return Ok(()) };
        let [params, table] = self.list();
        let tail = [step.view().into(), sums.view().into()];
        let args = [params, table, self.parts.into(), limit.into(), iter_size.into(), tail[0], tail[1]];
        gpu.launch::<T>(&NORM, "norm_of_gradients", Grid::Rows(self.parts.min(BLOCKS)), &args)
    }

    /// The norm that [`Table::clip`] found.
    pub fn norm(&self) -> Result<f64> {
        let mut words = [0; STEP];
        self.step.as_ref().map_or(Ok(()), |step| step.read(&mut words))?;
        Ok(f64::from_bits(words[3]))
    }

    /// Updates all parameters, as the last [`Table::set_step`] and [`Table::clip`] say.
    pub fn update(&self, gpu: &Gpu) -> Result<()> {
        let Some(step) = &self.step else { return Ok(()) };
        let ([params, table], [a, b, c, d]) = (self.list(), self.rule.numbers.map(Arg::from));
        let args = [params, table, step.view().into(), a, b, c, d];
        gpu.launch::<T>(self.rule.source, "update", Grid::Rows(self.parts), &args)
    }

    /// Sets all gradients to zero.
    pub fn clear(&self, gpu: &Gpu) -> Result<()> {
        gpu.launch::<T>(self.rule.source, "clear", Grid::Rows(self.parts), &self.list())
    }

    fn list(&self) -> [Arg; 2] {
        let at = self.table.as_ref().map_or(0, |t| t.view().at);
        [(self.words.len() / WORDS).into(), Arg::At(at)]
    }
}
