//! Sum, product or maximum of several blobs, element by element.

#[path = "eltwise_cuda.rs"]
pub(crate) mod cuda;

use crate::blob::{Element, Shape};
use crate::device::{Context, Memory};
use crate::error::{Error, Kind, Result};
use crate::layers::{
    Backward, DeviceCode, Forward, InBlocks, Inputs, Layer, Reads, Setup, Sharing, Step, Tail,
};
use crate::math::{Far, Real, parallel};
use crate::proto::caffe::LayerParameter;
use crate::proto::caffe::eltwise_parameter::EltwiseOp;
use std::ops::RangeInclusive;

/// y = Σ coeffᵢ·xᵢ (`SUM`), Π xᵢ (`PROD`) or max xᵢ (`MAX`) over the bottoms, for each element.
///
/// ```prototxt
/// layer { name: "res2a" type: "Eltwise" bottom: "branch1" bottom: "branch2" top: "res2a"
///   eltwise_param { operation: SUM coeff: 1 coeff: 1 } }
/// ```
///
/// Shapes: two or more bottoms of one shape, which the top has. `coeff` is 1 unless given. The gradient of a product is
/// the product of the other bottoms; with `stable_prod_grad: false` it is y/xᵢ unless some element of xᵢ is 0, which is
/// faster for many bottoms. The gradient of a maximum goes to one bottom: of equal ones the second of the first two, else the first.
/// Not in place. Behind a sum a `ReLU` in place on its top is done in its own pass.
///
/// Errors: bottoms of different shapes, `coeff` with another operation or not once for each bottom.
///
/// Source: Caffe's Eltwise.
pub struct Eltwise<T> {
    operation: EltwiseOp,
    coeff: Vec<T>,
    stable: bool,
    /// Which bottom was largest.
    from: Vec<u32>,
    /// The same on a device.
    device: Option<Memory<u32>>,
}

/// Makes the layer.
pub fn new<T: Real>(param: &LayerParameter) -> Result<Box<dyn Layer<T>>> {
    let p = param.eltwise_param.clone().unwrap_or_default();
    let bottoms = param.bottom.len();
    if !p.coeff.is_empty() && p.operation() != EltwiseOp::Sum {
        return Err(Error::new(Kind::Value, "only a sum has coefficients")
            .expected("operation: SUM")
            .found(p.operation().as_str_name())
            .in_field("eltwise_param.coeff"));
    }
    if !p.coeff.is_empty() && p.coeff.len() != bottoms {
        return Err(Error::new(Kind::Value, "not one coefficient for each bottom")
            .expected(bottoms)
            .found(p.coeff.len())
            .in_field("eltwise_param.coeff"));
    }
    let mut coeff: Vec<T> = p.coeff.iter().map(|c| T::from_f64(c.as_f64())).collect();
    coeff.resize(bottoms, T::one());
    Ok(Box::new(Eltwise {
        operation: p.operation(),
        coeff,
        stable: p.stable_prod_grad(),
        from: Vec::new(),
        device: None,
    }))
}

/// Elements that one task takes.
const GRAIN: usize = 8 * 1024;

/// `y` = f(a, b), element by element.
fn zip<T: Real>(a: &[T], b: &[T], y: &mut [T], f: impl Fn(T, T) -> T + Sync) {
    let len = y.len();
    parallel::for_each_chunk(
        y,
        GRAIN,
        #[inline(always)]
        |at, y| {
            let (a, b) = (&a[at..][..y.len()], &b[at..][..y.len()]);
            Far::of(len).write(
                y,
                #[inline(always)]
                |i, y| y.iter_mut().zip(a[i..].iter().zip(&b[i..])).for_each(|(y, (&a, &b))| *y = f(a, b)),
            );
        },
    );
}

/// `y` = f(y, x), element by element.
fn join<T: Real>(y: &mut [T], x: &[T], f: impl Fn(T, T) -> T + Sync) {
    parallel::for_each_chunk(
        y,
        GRAIN,
        #[inline(always)]
        |at, y| y.iter_mut().zip(&x[at..]).for_each(|(y, &x)| *y = f(*y, x)),
    );
}

/// What a ReLU behind a sum does: one of slope 1 nothing.
#[inline(always)]
fn relu<T: Real>(y: T, slope: T) -> T {
    // Adding 0 turns the −0 of a slope of 0 into 0, as Caffe has it.
    if y > T::zero() { y } else { y * slope + T::zero() }
}

/// The gradient before a ReLU that gave `y`.
#[inline(always)]
fn through<T: Real>(dy: T, y: T, slope: T) -> T {
    if y > T::zero() { dy } else { dy * slope }
}

/// `y` = Σ `coeff`·x through a ReLU, in one pass.
fn sum<T: Real>(bottom: &Inputs<T>, coeff: &[T], slope: T, y: &mut [T]) {
    let (a, b, p, q) = (bottom.get(0), bottom.get(1), coeff[0], coeff[1]);
    if bottom.len() == 2 {
        return zip(
            a,
            b,
            y,
            #[inline(always)]
            |a, b| relu(p * a + q * b, slope),
        );
    }
    parallel::for_each_chunk(
        y,
        GRAIN,
        #[inline(always)]
        |at, y| {
            y.iter_mut().zip(a[at..].iter().zip(&b[at..])).for_each(|(y, (&a, &b))| *y = p * a + q * b);
            for (i, &c) in coeff.iter().enumerate().skip(2) {
                y.iter_mut().zip(&bottom.get(i)[at..]).for_each(|(y, &x)| *y += c * x);
            }
            y.iter_mut().for_each(|y| *y = relu(*y, slope));
        },
    );
}

/// `y` = the largest bottom, `from` = its number.
fn largest<T: Real>(bottom: &Inputs<T>, y: &mut [T], from: &mut [u32]) {
    let (a, b) = (bottom.get(0), bottom.get(1));
    zip(a, b, y, |a, b| if a > b { a } else { b });
    parallel::for_each_chunk(
        from,
        GRAIN,
        #[inline(always)]
        |at, from| {
            for (from, (a, b)) in from.iter_mut().zip(a[at..].iter().zip(&b[at..])) {
                *from = if a > b { 0 } else { 1 };
            }
        },
    );
    for (i, x) in (2..bottom.len()).map(|i| (i as u32, bottom.get(i))) {
        parallel::for_each_chunk2(
            y,
            from,
            GRAIN,
            #[inline(always)]
            |at, y, from| {
                for ((y, from), &x) in y.iter_mut().zip(from).zip(&x[at..]) {
                    (*y, *from) = if x > *y { (x, i) } else { (*y, *from) };
                }
            },
        );
    }
}

/// `dx` = dy times the product of the bottoms other than `i`.
fn product_of_others<T: Real>(bottom: &Inputs<T>, i: usize, dy: &[T], dx: &mut [T]) {
    let mut others = (0..bottom.len()).filter(|&j| j != i).map(|j| bottom.get(j));
    if let Some(first) = others.next() {
        zip(dy, first, dx, |dy, x| dy * x);
    }
    others.for_each(|x| join(dx, x, |dx, x| dx * x));
}

impl<T: Real> Eltwise<T> {
    /// dxᵢ = coeffᵢ · dy, or 0 (slope · that) where a ReLU behind the sum gave 0.
    fn sum_backward(&self, mut io: Backward<T>) {
        let (last, slope) = (io.bottom.len().saturating_sub(1), T::from_f64(Tail::new(io.tail, 0).slope));
        let y = if io.tail.is_empty() { None } else { Some(io.top.get(0)) };
        if !io.top_diff.in_place(0) {
            let dy = io.top_diff.get(0);
            for i in (0..=last).filter(|&i| io.propagate[i]) {
                let c = self.coeff[i];
                match y {
                    Some(y) => zip(dy, y, io.bottom_diff.get(i), |dy, y| c * through(dy, y, slope)),
                    None => zip(dy, dy, io.bottom_diff.get(i), |dy, _| c * dy),
                }
            }
            return;
        }
        // The last bottom's gradient is where the top's is. The first pass takes the ReLU off on its way.
        let mut y = y;
        for i in (0..last).filter(|&i| io.propagate[i]) {
            let (c, (dx, dy)) = (self.coeff[i], io.bottom_diff.pair(i, last));
            match y.take() {
                None => zip(dy, dy, dx, |dy, _| c * dy),
                Some(y) => parallel::for_each_chunk2(
                    dx,
                    dy,
                    GRAIN,
                    #[inline(always)]
                    |at, dx, dy| {
                        Far::of(y.len()).write(
                            dx,
                            #[inline(always)]
                            |i, dx| {
                                for ((dx, dy), &y) in dx.iter_mut().zip(&mut dy[i..]).zip(&y[at + i..]) {
                                    *dy = through(*dy, y, slope);
                                    *dx = c * *dy;
                                }
                            },
                        );
                    },
                ),
            }
        }
        if let Some(y) = y {
            join(io.bottom_diff.get(last), y, |dy, y| through(dy, y, slope));
        }
    }
}

impl<T: Real> Layer<T> for Eltwise<T> {
    fn bottoms(&self) -> RangeInclusive<usize> {
        2..=usize::MAX
    }

    fn sharing(&self) -> Sharing {
        // What a sum's backward gives its last bottom is the top's gradient itself.
        let same = self.coeff.last().is_some_and(T::is_one);
        if self.operation == EltwiseOp::Sum && same { Sharing::LastDiff } else { Sharing::None }
    }

    fn step(&self) -> Option<Step> {
        let plain = self.coeff.len() == 2 && self.coeff.iter().all(T::is_one);
        (self.operation == EltwiseOp::Sum && plain).then_some(Step::Add)
    }

    fn absorbs(&self, chain: &[Step], _: bool) -> usize {
        if self.operation == EltwiseOp::Sum { Tail::length(chain, None) } else { 0 }
    }

    fn blocks(&self) -> InBlocks {
        InBlocks::Alike(Vec::new())
    }

    fn reads(&self) -> Reads {
        match (self.operation, self.stable) {
            (EltwiseOp::Prod, true) => Reads::BOTTOM,
            (EltwiseOp::Prod, false) => Reads::BOTH,
            _ => Reads::NOTHING,
        }
    }

    fn reshape(&mut self, bottom: &[&Shape], _: &mut Setup<T>) -> Result<Vec<Shape>> {
        if let Some(i) = bottom.iter().position(|b| *b != bottom[0]) {
            return Err(Error::new(Kind::Shape, "the bottoms must have one shape")
                .expected(format!("bottom {i} as bottom 0: {}", bottom[0]))
                .found(bottom[i])
                .in_field(&format!("bottom[{i}]")));
        }
        if self.operation == EltwiseOp::Max {
            self.from.resize(bottom[0].count(), 0);
        }
        Ok(vec![bottom[0].clone()])
    }

    fn forward(&mut self, _: &Context<T>, mut io: Forward<T>) -> Result<()> {
        let (bottom, y) = (io.bottom, io.top.get(0));
        match self.operation {
            EltwiseOp::Sum => sum(&bottom, &self.coeff, T::from_f64(Tail::new(io.tail, 0).slope), y),
            EltwiseOp::Prod => {
                zip(bottom.get(0), bottom.get(1), y, |a, b| a * b);
                (2..bottom.len()).for_each(|i| join(y, bottom.get(i), |y, x| y * x));
            }
            EltwiseOp::Max => largest(&bottom, y, &mut self.from),
        }
        Ok(())
    }

    fn device_code(&mut self) -> Option<&mut dyn DeviceCode<T>> {
        Some(self)
    }

    fn backward(&mut self, _: &Context<T>, mut io: Backward<T>) -> Result<()> {
        if self.operation == EltwiseOp::Sum {
            self.sum_backward(io);
            return Ok(());
        }
        let (bottom, dy) = (io.bottom, io.top_diff.get(0));
        for i in (0..bottom.len()).filter(|&i| io.propagate[i]) {
            let dx = io.bottom_diff.get(i);
            match self.operation {
                EltwiseOp::Sum => {}
                EltwiseOp::Prod if self.stable || bottom.get(i).contains(&T::zero()) => {
                    product_of_others(&bottom, i, dy, dx);
                }
                EltwiseOp::Prod => {
                    zip(io.top.get(0), bottom.get(i), dx, |y, x| y / x);
                    join(dx, dy, |dx, dy| dx * dy);
                }
                EltwiseOp::Max => {
                    let (from, i) = (&self.from, i as u32);
                    parallel::for_each_chunk(
                        dx,
                        GRAIN,
                        #[inline(always)]
                        |at, dx| {
                            for ((dx, &dy), &from) in dx.iter_mut().zip(&dy[at..]).zip(&from[at..]) {
                                *dx = if from == i { dy } else { T::zero() };
                            }
                        },
                    );
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Bench, assert_close, refusal};

    const A: [f64; 4] = [1.0, 2.0, 0.0, -4.0];
    const B: [f64; 4] = [3.0, 2.0, 5.0, -1.0];
    const C: [f64; 4] = [2.0, 2.0, 7.0, 0.0];

    fn layer(param: &str) -> String {
        let bottoms = "bottom: 'a' bottom: 'b' bottom: 'c'";
        format!("layer {{ name: 'e' type: 'Eltwise' {bottoms} top: 'y' eltwise_param {{ {param} }} }}")
    }

    fn check(param: &str, y: [f64; 4], grads: [[f64; 4]; 3]) {
        let feeds: [(&str, &[usize], &[f64]); 3] = [("a", &[4], &A), ("b", &[4], &B), ("c", &[4], &C)];
        let mut b = Bench::<f64>::new(&layer(param), &feeds).unwrap();
        b.forward();
        assert_close(&b.get("y"), &y, 1e-12);
        b.backward(&[("y", &[1.0, 2.0, 3.0, 4.0])]);
        for (blob, grad) in ["a", "b", "c"].iter().zip(&grads) {
            assert_close(&b.grad(blob), grad, 1e-12);
        }
    }

    #[test]
    fn sums() {
        let dy = [1.0, 2.0, 3.0, 4.0];
        check("", [6.0, 6.0, 12.0, -5.0], [dy; 3]);
        let grads = [[2.0, 4.0, 6.0, 8.0], [-1.0, -2.0, -3.0, -4.0], [0.0; 4]];
        check("coeff: 2 coeff: -1 coeff: 0", [-1.0, 2.0, -5.0, -7.0], grads);
    }

    #[test]
    fn products_with_zeros_both_ways() {
        let grads = [[6.0, 8.0, 105.0, 0.0], [2.0, 8.0, 0.0, 0.0], [3.0, 8.0, 0.0, 16.0]];
        check("operation: PROD", [6.0, 8.0, 0.0, 0.0], grads);
        check("operation: PROD stable_prod_grad: false", [6.0, 8.0, 0.0, 0.0], grads);
    }

    #[test]
    fn maxima_and_ties() {
        let grads = [[0.0; 4], [1.0, 2.0, 0.0, 0.0], [0.0, 0.0, 3.0, 4.0]];
        check("operation: MAX", [3.0, 2.0, 7.0, 0.0], grads);
    }

    #[test]
    fn bad_parameters_are_refused() {
        let four: &[usize] = &[4];
        let feeds = [("a", four, &A[..]), ("b", four, &B[..]), ("c", four, &C[..])];
        for (param, words) in [("coeff: 1", "one coefficient"), ("operation: MAX coeff: 1", "only a sum")] {
            let e = refusal(&layer(param), &feeds);
            assert_eq!(e.field(), Some("eltwise_param.coeff"), "{e}");
            assert!(e.message().contains(words), "{e}");
        }
        let e = refusal(&layer(""), &[feeds[0], feeds[1], ("c", &[2, 2], &C)]);
        assert_eq!(e.field(), Some("bottom[2]"), "{e}");
        let one = "layer { name: 'e' type: 'Eltwise' bottom: 'a' top: 'y' }";
        assert_eq!(refusal(one, &feeds[..1]).field(), Some("bottom"));
    }
}
