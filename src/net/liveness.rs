//! Which layers backward runs, and which of their bottoms and tops carry a gradient.

use super::Net;
use crate::error::Result;
use crate::math::Real;

/// Settles `need_backward`, `propagate` and `live` of all nodes, by Caffe's rules: a gradient flows from a blob
/// that takes part in the loss down to the last parameter or forced input.
pub(super) fn settle<T: Real>(net: &mut Net<T>, force: bool) -> Result<()> {
    // Forward: which blobs have something to learn above them.
    let mut wanted = vec![false; net.blobs.len()];
    for node in &mut net.nodes {
        let above = node.bottom.iter().any(|&b| wanted[b]);
        for (p, &b) in node.propagate.iter_mut().zip(&node.bottom) {
            // The prototxt's own `propagate_down: true` asks for a gradient that nobody else wants.
            *p &= !net.forward_only && (wanted[b] || force || !node.param.propagate_down.is_empty());
        }
        node.need_backward = !net.forward_only && (above || force || node.learned.iter().any(|&l| l));
        for &t in &node.top {
            wanted[t] |= node.need_backward;
        }
    }
    // Backward: which blobs take part in the loss.
    let mut in_loss = vec![false; net.blobs.len()];
    let mut read = vec![false; net.blobs.len()];
    for node in net.nodes.iter_mut().rev() {
        for (j, &t) in node.top.iter().enumerate() {
            // With force_backward the user may set the diff of an output.
            node.live[j] = in_loss[t] || node.loss_weight[j] != 0.0 || (force && !read[t]);
        }
        let contributes = node.live.iter().any(|&l| l);
        node.need_backward &= contributes;
        if !contributes || !node.need_backward {
            node.propagate.fill(false);
        }
        // An in-place top hands its role to the bottom of the same blob.
        for (j, &t) in node.top.iter().enumerate() {
            if node.bottom.get(j) != Some(&t) {
                in_loss[t] = false;
            }
        }
        for (&b, &p) in node.bottom.iter().zip(&node.propagate) {
            in_loss[b] = if node.top.contains(&b) { p } else { in_loss[b] || p };
            read[b] = true;
        }
    }
    Ok(())
}
