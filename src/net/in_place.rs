//! Refuses nets in which a layer overwrites in place what is still needed. Caffe runs them and is silently wrong.

use super::Net;
use crate::error::{Error, Kind, Result};
use crate::math::Real;

pub(super) fn check<T: Real>(net: &Net<T>) -> Result<()> {
    for (i, node) in net.nodes.iter().enumerate() {
        let Some(&blob) = node.top.first().filter(|t| node.bottom.first() == Some(t)) else { continue };
        let data = net.blobs[blob].data;
        let on = |ids: &[usize]| ids.iter().any(|&b| net.blobs[b].data == data);
        let refuse = |what: String| {
            Err(Error::new(
                Kind::Net,
                format!("\"{}\" may not be overwritten in place: {what}", net.blobs[blob].name),
            )
            .suggest("give the top a name of its own")
            .in_field("top[0]")
            .in_nth_layer(&node.name, node.nth))
        };
        if node.need_backward && node.layer.reads().bottom {
            return refuse(format!(
                "the backward pass of a {} layer like this one needs the values before it",
                node.param.r#type()
            ));
        }
        for before in net.nodes[..i].iter().filter(|n| n.need_backward) {
            let reads = before.layer.reads();
            let needed = reads.top && on(&before.top) || reads.bottom && on(&before.bottom);
            if needed && !(reads.sign_only && node.layer.keeps_sign()) {
                return refuse(format!("the backward pass of layer \"{}\" reads it", before.name));
            }
        }
        // Other blobs on the same memory (through Split or Reshape) that are read afterwards with their old value.
        let made_before = |b: usize| b != blob && net.nodes[..i].iter().any(|n| n.top.contains(&b));
        for after in &net.nodes[i + 1..] {
            if after.bottom.iter().any(|&b| net.blobs[b].data == data && made_before(b)) {
                return refuse(format!("layer \"{}\" reads the same values later", after.name));
            }
        }
    }
    Ok(())
}
