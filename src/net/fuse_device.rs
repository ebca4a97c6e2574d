//! What layers do along on a device.
//!
//! The chains are those of the host where only forward passes are run, as far as the layers have kernels for them
//! ([`DeviceCode::leads`](crate::layers::DeviceCode::leads)). Where backward runs too, a `ReLU` is done along forward, and goes backward
//! by itself: it reads the blob alone, which is the same.

use super::{Net, fuse};
use crate::layers::Step;
use crate::math::Real;

/// Settles for every node who does its work in a forward pass on the net's device. Without one it is as [`fuse::settle`] has it.
pub(super) fn settle<T: Real>(net: &mut Net<T>) {
    fuse::settle(net);
    if net.cx.device.is_none() {
        return;
    }
    for leader in 0..net.nodes.len() {
        let tail = net.nodes[leader].along.tail.clone();
        if !tail.is_empty() && (net.nodes[leader].need_backward || !leads(net, leader, &tail)) {
            part(net, leader);
        }
    }
    for leader in 0..net.nodes.len() {
        if let Some((follower, step)) =
            fuse::relu_behind(net, leader).filter(|(_, step)| leads(net, leader, &[*step]))
        {
            net.nodes[follower].leader = Some(leader);
            net.nodes[leader].along.tail.push(step);
        }
    }
}

/// Whether a layer has a kernel that does these steps along.
fn leads<T: Real>(net: &mut Net<T>, leader: usize, tail: &[Step]) -> bool {
    net.nodes[leader].layer.device_code().is_some_and(|code| code.leads(tail))
}

/// Lets each layer of a chain do its own work.
fn part<T: Real>(net: &mut Net<T>, leader: usize) {
    for node in &mut net.nodes {
        if node.leader == Some(leader) {
            node.leader = None;
        }
    }
    let node = &mut net.nodes[leader];
    node.along.tail.clear();
    node.along.forward_alone = false;
    node.along.bottom.clone_from(&node.bottom);
    node.along.top.clone_from(&node.top);
    node.along.params.clone_from(&node.params);
    node.along.learned.clone_from(&node.learned);
}
