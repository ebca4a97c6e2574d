//! Which blobs keep their values, and how the others take turns in memory.

use super::lifetimes::{Span, take_turns};
use super::{Net, Node};
use crate::blob::{Blob, BufferId};
use crate::error::{Error, Kind, Result};
use crate::layers::Sharing;
use crate::math::Real;

/// Which blobs of a net can be read after a pass.
///
/// The others share memory with blobs that are needed at other times; a net for training then takes about half the
/// memory, one for testing a small part of it. Their values cannot be read ([`Net::data`] gives nothing, [`Net::view`]
/// an error); all results are the same, bit for bit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// All of them, with their gradients.
    #[default]
    All,
    /// Inputs, outputs and losses, with the gradients that backward ends with. A net for testing without
    /// `force_backward` runs forward alone.
    Outputs,
    /// The same and the blobs of these names.
    Blobs(Vec<String>),
}

/// Lets the blobs that `net.keep` does not name take turns in memory.
pub(super) fn settle<T: Real>(net: &mut Net<T>) -> Result<()> {
    if net.keep == Keep::All {
        return Ok(());
    }
    let kept = kept(net)?;
    let lengths = net.store.lengths();
    let spans = spans(net);
    let shared = |id: &usize| !kept[*id] && spans[*id].is_some();
    let ids: Vec<usize> = (0..lengths.len()).filter(shared).collect();
    let items: Vec<(Span, usize)> = ids.iter().filter_map(|&id| Some((spans[id]?, lengths[id]))).collect();
    let mut groups = vec![None; lengths.len()];
    for (id, group) in ids.into_iter().zip(take_turns(&items)) {
        groups[id] = Some(group);
    }
    net.store.share(&groups);
    Ok(())
}

/// For each buffer, whether its values must stay.
pub(super) fn kept<T: Real>(net: &Net<T>) -> Result<Vec<bool>> {
    let mut kept = vec![false; net.store.len()];
    let mut keep = |id: BufferId| kept[id.index()] = true;
    if let Keep::Blobs(names) = &net.keep {
        for name in names {
            let blob = &net.blobs[net.blob(name)?];
            keep(blob.data);
            keep(blob.diff);
        }
    }
    net.outputs().into_iter().for_each(|b| keep(net.blobs[b].data));
    for node in &net.nodes {
        for (j, &t) in node.top.iter().enumerate() {
            // What nobody writes in each pass, the user or an earlier pass has filled.
            if node.loss_weight[j] != 0.0 || node.bottom.is_empty() && !node.layer.refills(j) {
                keep(net.blobs[t].data);
            }
        }
    }
    // Gradients that the user gives (of an output, under `force_backward`) or gets: read before they are written, or
    // never read.
    let (mut written, mut unread) = (vec![false; net.store.len()], vec![false; net.store.len()]);
    for node in net.nodes.iter().rev().filter(|n| n.need_backward) {
        for (j, &t) in node.top.iter().enumerate().filter(|(j, _)| node.live[*j]) {
            let diff = net.blobs[t].diff;
            if !written[diff.index()] && node.loss_weight[j] == 0.0 {
                keep(diff);
            }
            unread[diff.index()] &= node.bottom.is_empty(); // a source of data does nothing with it
        }
        for (&b, _) in node.bottom.iter().zip(&node.propagate).filter(|(_, p)| **p) {
            let diff = net.blobs[b].diff.index();
            (written[diff], unread[diff]) = (true, true);
        }
    }
    kept.iter_mut().zip(unread).for_each(|(kept, unread)| *kept |= unread);
    Ok(kept)
}

/// When the values of each buffer are needed, in steps: layer i of n runs forward in step i, backward in step
/// 2n − 1 − i. None for a buffer that nobody uses.
fn spans<T: Real>(net: &Net<T>) -> Vec<Option<Span>> {
    let mut spans: Vec<Option<Span>> = vec![None; net.store.len()];
    let mut used = |id: BufferId, step: usize| {
        let span = spans[id.index()].get_or_insert(Span { first: step, last: step });
        (span.first, span.last) = (span.first.min(step), span.last.max(step));
    };
    for (i, node) in net.nodes.iter().enumerate() {
        // A leader reads and writes what the layers whose work it does would; without fusion they do it themselves.
        let along = node.along.bottom.iter().chain(&node.along.top);
        node.bottom.iter().chain(&node.top).chain(along).for_each(|&b| used(net.blobs[b].data, i));
        // Labels are looked at once more where a loss on a device is not a number (`Net::ask_again`).
        let labels = node.bottom.iter().enumerate().filter(|(k, _)| !node.layer.differentiable(*k));
        labels.for_each(|(_, &b)| used(net.blobs[b].data, 2 * net.nodes.len()));
        if node.need_backward {
            let step = 2 * net.nodes.len() - 1 - i;
            // Who does the work of others along, reads what they would.
            let leader = node.leader.map_or(step, |leader| 2 * net.nodes.len() - 1 - leader);
            read_backward(node).for_each(|b| {
                used(net.blobs[b].data, step);
                used(net.blobs[b].data, leader);
            });
            diffs_read(node).for_each(|b| used(net.blobs[b].diff, step));
            let wanted = node.bottom.iter().zip(&node.propagate).filter(|(_, p)| **p);
            wanted.for_each(|(&b, _)| used(net.blobs[b].diff, step));
        }
    }
    spans
}

/// The blobs whose values the backward pass of a layer reads.
fn read_backward<T: Real>(node: &Node<T>) -> impl Iterator<Item = usize> {
    let reads = node.layer.reads();
    let bottom = node.bottom.iter().filter(move |_| reads.bottom);
    bottom.chain(node.top.iter().filter(move |_| reads.top)).copied()
}

/// The blobs whose gradients it reads.
fn diffs_read<T: Real>(node: &Node<T>) -> impl Iterator<Item = usize> {
    node.top.iter().zip(&node.live).filter(|(_, live)| **live).map(|(&t, _)| t)
}

impl<T: Real> Net<T> {
    /// An error where a value that layer i reads in its forward pass has made room for another.
    pub(super) fn check_forward(&self, i: usize) -> Result<()> {
        let node = &self.nodes[i];
        let bottom = if self.fused { &node.along.bottom } else { &node.bottom };
        let gone = bottom.iter().find(|&&b| !self.store.holds(self.blobs[b].data));
        gone.map_or(Ok(()), |&b| Err(lost(&self.blobs[b], "values").in_nth_layer(&node.name, node.nth)))
    }

    /// The same for its backward pass.
    pub(super) fn check_backward(&self, i: usize) -> Result<()> {
        let node = &self.nodes[i];
        if node.layer.sharing() == Sharing::DataAndDiff {
            return Ok(()); // it reads nothing
        }
        let at = |e: Error| e.in_nth_layer(&node.name, node.nth);
        if let Some(b) = read_backward(node).find(|&b| !self.store.holds(self.blobs[b].data)) {
            return Err(at(lost(&self.blobs[b], "values")));
        }
        match diffs_read(node).find(|&b| !self.store.holds(self.blobs[b].diff)) {
            Some(b) => Err(at(lost(&self.blobs[b], "gradient"))),
            None => Ok(()),
        }
    }

    /// Whether the net was built for forward passes alone ([`Keep::Outputs`] in the test phase).
    pub fn forward_only(&self) -> bool {
        self.forward_only
    }

    /// What it keeps.
    pub fn keep(&self) -> &Keep {
        &self.keep
    }
}

fn lost(blob: &Blob, what: &str) -> Error {
    Error::new(Kind::Net, format!("the {what} of \"{}\" made room for another blob", blob.name))
        .expected("whole passes: forward through all layers in order, then once backward")
        .suggest("build the net with Keep::All to run its layers one by one")
}

/// The error of asking for a blob that is not kept.
pub(super) fn not_kept(name: &str) -> Error {
    Error::new(
        Kind::Net,
        format!("the values of \"{name}\" are not kept: they share memory with other blobs"),
    )
    .suggest("build the net with Keep::All, or with Keep::Blobs and this name")
}

#[cfg(test)]
mod tests;
