//! `input` with `input_shape` or `input_dim` becomes an Input layer in front.

use crate::error::{Error, Kind, Result};
use crate::proto::caffe::{BlobShape, InputParameter, LayerParameter, NetParameter};

/// Upgrades the inputs. Without any shape they are dropped, as Caffe drops them: such files hold weights.
pub(super) fn upgrade(net: &mut NetParameter, notes: &mut Vec<String>) -> Result<()> {
    let input = std::mem::take(&mut net.input);
    let shapes = std::mem::take(&mut net.input_shape);
    let dims = std::mem::take(&mut net.input_dim);
    if shapes.is_empty() && dims.is_empty() {
        notes.push(format!("input {} without a shape is gone", input.join(", ")));
        return Ok(());
    }
    // Four dims to an input.
    let legacy =
        dims.chunks_exact(4).map(|d| BlobShape { dim: d.iter().copied().map(i64::from).collect() }).collect();
    let (field, mut shape) = if shapes.is_empty() { ("input_dim", legacy) } else { ("input_shape", shapes) };
    if shape.len() < input.len() {
        let text = format!("{} inputs, but {} of them have a shape", input.len(), shape.len());
        let error = Error::new(Kind::Shape, text).in_field(field);
        return Err(error.expected("one input_shape, or four input_dim, for each input"));
    }
    shape.truncate(input.len());
    let layer = LayerParameter {
        name: Some("input".to_string()),
        r#type: Some("Input".to_string()),
        top: input,
        input_param: Some(InputParameter { shape }),
        ..LayerParameter::default()
    };
    net.layer.insert(0, layer);
    notes.push(format!("input and {field} became an Input layer"));
    Ok(())
}
