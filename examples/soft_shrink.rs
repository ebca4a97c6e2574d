//! A layer of a library user's own: soft shrinkage. `docs/adding-a-layer.md` walks through it.

use cortado::blob::{Shape, Weights};
use cortado::error::{Error, Kind, Result};
use cortado::layers::activation::{Elementwise, Function};
use cortado::layers::{Layer, Reads, registry};
use cortado::math::Real;
use cortado::net::Net;
use cortado::proto::caffe::{LayerParameter, Phase};
use cortado::proto::parse_net;
use cortado::tools::{GradientChecker, Subject};

/// y = x − λ for x > λ, x + λ for x < −λ, else 0.
///
/// ```prototxt
/// layer { name: "shrink" type: "SoftShrink" bottom: "x" top: "y" threshold_param { threshold: 0.5 } }
/// ```
struct SoftShrink<T> {
    lambda: T,
}

fn new<T: Real>(param: &LayerParameter) -> Result<Box<dyn Layer<T>>> {
    let lambda = param.threshold_param.unwrap_or_default().threshold();
    if lambda.is_nan() || lambda < 0.0 {
        return Err(Error::new(Kind::Value, "a negative threshold")
            .expected("0 or more")
            .found(lambda)
            .in_field("threshold_param.threshold"));
    }
    Ok(Box::new(Elementwise(SoftShrink { lambda: T::from_f64(lambda.into()) })))
}

impl<T: Real> Function<T> for SoftShrink<T> {
    fn reads(&self) -> Reads {
        Reads::TOP
    }

    fn f(&self, x: T) -> T {
        (x.abs() - self.lambda).max(T::zero()) * x.signum()
    }

    fn df(&self, _: T, y: T) -> T {
        if y == T::zero() { T::zero() } else { T::one() }
    }
}

/// Makes the type known to every net, tool and error message of this program.
pub fn register() -> Result<()> {
    registry::register("SoftShrink", "activation", "shrinks towards 0", new, new)
}

const NET: &str = r#"
    layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 2 } } }
    layer { name: "shrink" type: "SoftShrink" bottom: "x" top: "y" threshold_param { threshold: 0.5 } }
"#;

/// Runs the layer in a net.
pub fn run() -> Result<Vec<f32>> {
    let mut weights = Weights::new();
    let mut net = Net::<f32>::new(&parse_net(NET, "soft_shrink")?.message, 1, &mut weights)?;
    let x = net.blob("x")?;
    net.data_mut(x).copy_from_slice(&[-2.0, -0.25, 0.5, 1.0]);
    net.forward(&mut weights)?;
    Ok(net.data(net.blob("y")?).to_vec())
}

/// Compares backward with central differences, in double precision.
pub fn check() -> Result<bool> {
    let layer = &parse_net(NET, "soft_shrink")?.message.layer[1];
    let x = (Shape::new([2, 3])?, vec![-2.0, -0.7, -0.2, 0.1, 0.9, 3.0]);
    let mut subject = Subject::<f64>::new(layer, Phase::Train, &[x], 1)?;
    Ok(GradientChecker::default().check_exhaustive(&mut subject)?.passed())
}

#[allow(dead_code, reason = "the test of the document calls the functions above instead")]
fn main() -> Result<()> {
    register()?;
    println!("y = {:?}", run()?);
    println!("gradients {}", if check()? { "agree" } else { "DISAGREE" });
    Ok(())
}
