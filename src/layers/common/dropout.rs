//! Dropout.

#[path = "dropout_cuda.rs"]
pub(crate) mod cuda;

use crate::blob::{Element, Shape};
use crate::device::Context;
use crate::error::{Error, Kind, Result};
use crate::layers::{Backward, Channels, DeviceCode, Forward, InBlocks, Layer, Reads, Setup, Sharing};
use crate::math::random::{BLOCKS, side_by_side};
use crate::math::{Real, Stream, parallel, vector};
use crate::proto::caffe::{LayerParameter, Phase};

/// In training each element is dropped (made 0) with probability `dropout_ratio` and else divided by
/// 1 − `dropout_ratio`; in testing the top is the bottom.
///
/// ```prototxt
/// layer { name: "drop6" type: "Dropout" bottom: "fc6" top: "fc6" dropout_param { dropout_ratio: 0.5 } }
/// ```
///
/// Shapes: any; the top has the bottom's. May run in place. Element i costs word i of the layer's random stream.
///
/// Errors: a ratio that is not from 0 up to, but not, 1.
///
/// Source: Caffe's Dropout; Srivastava and others, "Dropout: a simple way to prevent neural networks from
/// overfitting", JMLR 2014.
pub struct Dropout<T> {
    /// Elements whose random word is below are dropped.
    threshold: u32,
    scale: T,
    training: bool,
    /// What it works on, if that may lie in blocks.
    channels: Option<Channels>,
    /// 1 for each element that was kept, as the elements lie.
    kept: Vec<u8>,
}

/// Makes the layer.
pub fn new<T: Real>(param: &LayerParameter) -> Result<Box<dyn Layer<T>>> {
    let ratio = param.dropout_param.unwrap_or_default().dropout_ratio().as_f64();
    if !(0.0..1.0).contains(&ratio) {
        return Err(Error::new(Kind::Value, "not a part that can be dropped")
            .expected("0 or more, less than 1")
            .found(ratio)
            .in_field("dropout_param.dropout_ratio"));
    }
    Ok(Box::new(Dropout {
        threshold: (ratio * 4_294_967_296.0) as u32,
        scale: T::from_f64(1.0 / (1.0 - ratio)),
        training: param.phase() == Phase::Train,
        channels: None,
        kept: Vec::new(),
    }))
}

/// Elements that one task takes; a multiple of the words in a random block.
const GRAIN: usize = 16 * 1024;

impl<T: Real> Dropout<T> {
    /// `to` = `from` (or what `to` holds) where kept, scaled; else 0.
    fn apply(&self, from: Option<&[T]>, to: &mut [T]) {
        let (kept, scale) = (&self.kept, self.scale);
        parallel::for_each_chunk(
            to,
            GRAIN,
            #[inline(always)]
            |at, to| {
                let pairs = to.iter_mut().zip(&kept[at..]);
                match from {
                    None => {
                        pairs.for_each(|(to, &kept)| *to = if kept == 1 { *to * scale } else { T::zero() })
                    }
                    Some(from) => pairs.zip(&from[at..]).for_each(|((to, &kept), &from)| {
                        *to = if kept == 1 { from * scale } else { T::zero() };
                    }),
                }
            },
        );
    }
}

/// Calls `f(i, kept)` for some elements, the first of which is element `first`.
#[inline(always)]
fn draw(stream: &Stream, threshold: u32, first: usize, count: usize, mut f: impl FnMut(usize, u8)) {
    let (mut skipped, mut next, mut at) = (first % 4, first as u64 / 4, 0);
    let mut words = [[0; BLOCKS]; 4];
    while at < count {
        side_by_side(
            next,
            &mut words,
            #[inline(always)]
            |block| stream.block(block),
        );
        let here = (4 * BLOCKS - skipped).min(count - at);
        for i in 0..here {
            let place = skipped + i;
            f(at + i, u8::from(words[place % 4][place / 4] >= threshold));
        }
        (at, next, skipped) = (at + here, next + BLOCKS as u64, 0);
    }
}

impl<T: Real> Layer<T> for Dropout<T> {
    fn blocks(&self) -> InBlocks {
        match self.channels {
            Some(channels) => InBlocks::Alike(vec![channels; 2]),
            None => InBlocks::Never,
        }
    }

    fn sharing(&self) -> Sharing {
        Sharing::InPlace
    }

    fn reads(&self) -> Reads {
        Reads::NOTHING
    }

    fn keeps_sign(&self) -> bool {
        true
    }

    fn reshape(&mut self, bottom: &[&Shape], _: &mut Setup<T>) -> Result<Vec<Shape>> {
        if self.training {
            self.kept.resize(bottom[0].count(), 0);
        }
        let x = bottom[0];
        self.channels = (x.len() > 2).then(|| Channels { outer: x[0], dim: x[1], inner: x.count_from(2) });
        Ok(vec![bottom[0].clone()])
    }

    fn forward(&mut self, cx: &Context<T>, mut io: Forward<T>) -> Result<()> {
        let from = if io.bottom.in_place(0) { None } else { Some(io.bottom.get(0)) };
        let y = io.top.get(0);
        if self.training {
            let (stream, threshold) = (Stream::new(cx.seed, cx.layer, cx.pass), self.threshold);
            // A block of channels has the same elements as their planes: those are drawn one after another wherever they lie.
            let (lanes, pixels) = (io.layouts.top.lanes::<T>(), self.channels.map_or(1, |x| x.inner));
            let block = lanes * pixels;
            let grain = if lanes == 1 { GRAIN } else { block * (GRAIN / block).max(1) };
            parallel::for_each_chunk(
                &mut self.kept,
                grain,
                #[inline(always)]
                |first, kept| {
                    if lanes == 1 {
                        return draw(&stream, threshold, first, kept.len(), |i, is| kept[i] = is);
                    }
                    for (i, kept) in kept.chunks_exact_mut(block).enumerate() {
                        let (mut channel, mut pixel) = (0, 0);
                        draw(&stream, threshold, first + i * block, block, |_, is| {
                            kept[pixel * lanes + channel] = is;
                            pixel += 1;
                            if pixel == pixels {
                                (channel, pixel) = (channel + 1, 0);
                            }
                        });
                    }
                },
            );
            self.apply(from, y);
        } else if let Some(x) = from {
            vector::copy(x, y);
        }
        Ok(())
    }

    fn device_code(&mut self) -> Option<&mut dyn DeviceCode<T>> {
        Some(self)
    }

    fn backward(&mut self, _: &Context<T>, mut io: Backward<T>) -> Result<()> {
        if !io.propagate[0] {
            return Ok(());
        }
        let from = if io.top_diff.in_place(0) { None } else { Some(io.top_diff.get(0)) };
        let dx = io.bottom_diff.get(0);
        if self.training {
            self.apply(from, dx);
        } else if let Some(dy) = from {
            vector::copy(dy, dx);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::draw;
    use crate::math::Stream;
    use crate::testing::{Bench, refusal};

    fn layer(param: &str, top: &str) -> String {
        format!("layer {{ name: 'd' type: 'Dropout' bottom: 'x' top: '{top}' dropout_param {{ {param} }} }}")
    }

    #[test]
    fn drops_its_part_and_scales_the_rest() {
        let n = 10_001;
        let x = vec![3.0; n];
        for top in ["y", "x"] {
            let text = format!("state {{ phase: TRAIN }} {}", layer("dropout_ratio: 0.25", top));
            let mut b = Bench::<f64>::new(&text, &[("x", &[n], &x)]).unwrap();
            b.forward();
            let y = b.get(top);
            let kept = y.iter().filter(|&&y| y == 4.0).count();
            assert_eq!(kept + y.iter().filter(|&&y| y == 0.0).count(), n);
            // 7500 expected, with a standard deviation of 43
            assert!((7300..7700).contains(&kept), "{kept}");
            b.backward(&[(top, &vec![6.0; n])]);
            assert!(b.grad("x").iter().zip(&y).all(|(dx, y)| *dx == 2.0 * y));
            // Another pass drops others; the same pass the same ones.
            b.set("x", &x);
            b.forward();
            assert_ne!(b.get(top), y);
            b.set("x", &x);
            b.net.set_next_pass(0);
            b.forward();
            assert_eq!(b.get(top), y);
        }
    }

    #[test]
    fn element_i_costs_word_i_wherever_a_part_begins() {
        let (stream, threshold) = (Stream::new(7, 1, 2), 1 << 31);
        for (first, count) in [(0, 1), (1, 2), (3, 130), (126, 127), (514, 1000), (6, 0)] {
            let mut kept = vec![9; count];
            draw(&stream, threshold, first, count, |i, is| kept[i] = is);
            for (i, &kept) in kept.iter().enumerate() {
                assert_eq!(kept, u8::from(stream.word((first + i) as u64) >= threshold), "{first} + {i}");
            }
        }
    }

    #[test]
    fn copies_in_testing() {
        for top in ["y", "x"] {
            let text = format!("state {{ phase: TEST }} {}", layer("", top));
            let mut b = Bench::<f64>::new(&text, &[("x", &[2], &[1.0, -2.0])]).unwrap();
            b.forward();
            b.backward(&[(top, &[5.0, 6.0])]);
            assert_eq!((b.get(top), b.grad("x")), (vec![1.0, -2.0], vec![5.0, 6.0]));
        }
    }

    #[test]
    fn bad_ratios_are_refused() {
        for ratio in ["1", "-0.1", "nan"] {
            let e = refusal(&layer(&format!("dropout_ratio: {ratio}"), "y"), &[("x", &[1], &[0.0])]);
            assert_eq!(e.field(), Some("dropout_param.dropout_ratio"), "{e}");
        }
        Bench::<f32>::new(&layer("dropout_ratio: 0", "y"), &[("x", &[1], &[0.0])]).unwrap();
    }
}
