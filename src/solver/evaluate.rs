//! Runs of the test nets, and the outputs of nets as Caffe lists them.

use super::Solver;
use super::event::{Action, Event, Observer, Output};
use super::model::{positions, reader};
use crate::error::Result;
use crate::math::Real;
use crate::net::Net;

/// How a run goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// To the next iteration.
    On,
    /// It was stopped; with a snapshot or without.
    Stop { snapshot: bool },
}

impl<T: Real> Solver<T> {
    /// Runs all test nets, each as many passes as its `test_iter`, on the weights of now.
    pub fn test(&mut self, observer: &mut dyn Observer) -> Result<()> {
        self.test_all(observer).map(|_| ())
    }

    pub(super) fn test_all(&mut self, observer: &mut dyn Observer) -> Result<Flow> {
        let start = self.standing();
        for i in 0..self.model.tests.len() {
            let flow = self.test_one(i, &start, observer)?;
            if flow != Flow::On {
                self.move_tests(&start)?;
                return Ok(flow);
            }
        }
        Ok(Flow::On)
    }

    /// Where the data layers of the test nets stand: net, layer, records handed out.
    fn standing(&self) -> Vec<(usize, String, u64)> {
        let tests = self.model.tests.iter().enumerate();
        tests
            .flat_map(|(i, t)| positions::<T>(&t.net).map(move |(name, at)| (i, name.to_string(), at)))
            .collect()
    }

    /// Moves the data layers of the test nets. A snapshot in the midst of a test is one of the moment before it: who
    /// resumes runs the whole test, on the records it would have had.
    fn move_tests(&mut self, to: &[(usize, String, u64)]) -> Result<()> {
        for (i, name, records) in to {
            if let Some(layer) = self.model.tests.get_mut(*i).and_then(|t| reader(&mut t.net, name)) {
                layer.seek(*records).map_err(|e| e.in_layer(name))?;
            }
        }
        Ok(())
    }

    /// One test net; `start` is where all of them stood before the test.
    fn test_one(
        &mut self,
        i: usize,
        start: &[(usize, String, u64)],
        observer: &mut dyn Observer,
    ) -> Result<Flow> {
        let (iteration, passes) = (self.iteration, self.model.tests[i].passes);
        observer.event(&Event::TestStart { iteration, net: i, passes });
        let order = outputs(&self.model.tests[i].net);
        let (mut loss, mut sums, mut values) = (0.0, Vec::new(), Vec::new());
        // Random streams of a test are those of its iteration, however often the run was resumed.
        let first = iteration as u64 * passes as u64;
        self.model.tests[i].net.set_next_pass(first);
        self.model.tests[i].net.set_debug_info(self.settings.debug_info);
        for pass in 0..passes {
            match observer.action() {
                Action::Continue => {}
                Action::Snapshot => {
                    let now = self.standing();
                    self.move_tests(start)?;
                    self.snapshot(observer)?;
                    self.move_tests(&now)?;
                }
                Action::Stop { snapshot } => {
                    observer.event(&Event::TestInterrupted);
                    return Ok(Flow::Stop { snapshot });
                }
            }
            let net = &mut self.model.tests[i].net;
            let result = net.forward(&mut self.model.weights);
            loss += result.map_err(|e| self.plans.tests[i].0.locate(e))?;
            net.fetch_outputs()?;
            net.take_debug().iter().for_each(|line| observer.event(&Event::Debug(line)));
            values.clear();
            order.iter().for_each(|&b| values.extend(net.data(b).iter().map(|v| v.as_f64())));
            if pass == 0 {
                sums.clone_from(&values);
            } else {
                sums.iter_mut().zip(&values).for_each(|(sum, v)| *sum += v);
            }
        }
        let mean = passes.max(1) as f64;
        let mut outputs = describe(&self.model.tests[i].net, &order);
        outputs.truncate(sums.len());
        outputs.iter_mut().zip(&sums).for_each(|(o, sum)| o.value = sum / mean);
        let loss = self.settings.test_compute_loss.then_some(loss / mean);
        observer.event(&Event::TestResult { iteration, net: i, loss, outputs: &outputs });
        Ok(Flow::On)
    }
}

/// The outputs of a net in the order of their names, which is Caffe's.
fn outputs<T: Real>(net: &Net<T>) -> Vec<usize> {
    let mut order = net.outputs();
    order.sort_by(|&a, &b| net.blobs()[a].name.cmp(&net.blobs()[b].name));
    order
}

/// The values of all outputs of a net, by name, with their weights in the loss.
pub fn read_outputs<T: Real>(net: &Net<T>) -> Vec<Output> {
    describe(net, &outputs(net))
}

fn describe<T: Real>(net: &Net<T>, order: &[usize]) -> Vec<Output> {
    let mut all = Vec::new();
    for &blob in order {
        // Of an in-place chain the last layer counts.
        let tops = net.nodes().iter().rev().flat_map(|n| n.top.iter().zip(&n.loss_weight));
        let loss_weight = tops.filter(|(t, _)| **t == blob).map(|(_, &w)| w).find(|&w| w != 0.0);
        all.extend(net.data(blob).iter().map(|v| Output {
            name: net.blobs()[blob].name.clone(),
            value: v.as_f64(),
            loss_weight: loss_weight.unwrap_or(0.0),
        }));
    }
    all
}
