//! Ranking loss with hard negatives.

mod choice;
pub(crate) mod cuda;

use super::{batch, label::position};
use crate::blob::Shape;
use crate::device::Context;
use crate::error::{Error, Kind, Result};
use crate::layers::{Backward, DeviceCode, Forward, Layer, Reads, Setup};
use crate::math::{Real, Stream, Transpose, gemm, parallel};
use crate::proto::caffe::LayerParameter;
use choice::{Anchor, Candidate, Rules};
use std::ops::RangeInclusive;

/// Pulls the rows of a pair together and pushes rows of other labels away, over the negatives that violate the
/// margin: with d(a, b) = −⟨xₐ, x_b⟩ and p = i + 1,
///
/// loss = Σ ( max(0, d(i,p) − d(i,j) + margin) + max(0, d(i,p) − d(p,j) + margin) ) / cnt
///
/// over the anchors i and the negatives j chosen for each, with cnt = 2·⌊neg_num·N / pair_size⌋.
///
/// ```prototxt
/// layer {
///   name: "loss" type: "RankHardLoss" bottom: "norm" bottom: "label" top: "loss" top: "active"
///   rank_param { neg_num: 4 pair_size: 2 hard_ratio: 0.5 rand_ratio: 0.5 margin: 0.5 }
/// }
/// ```
///
/// Bottoms: embeddings, N × D (further axes count as part of D), usually of length 1 (`Norm`); N labels. Rows come in
/// groups of `pair_size`: every row i that is a multiple of it is an anchor, row i + 1 its positive. Labels are compared
/// as they are stored: in f32 those above 2²⁴ may be the same.
///
/// Tops: the loss, a scalar; if a second one is named, the share of active triplets, a scalar: of the 2 hinge terms for
/// each anchor and each row of another label, chosen or not, how many are above 0. It is 1 when all embeddings have
/// become the same (the loss is then stuck at the margin) and falls towards 0 while the net learns. It has no
/// gradient and no loss weight.
///
/// Candidates of an anchor are the rows j of another label whose first hinge term is above 0. At most `neg_num` of
/// them are all chosen. Of more, the `neg_num` nearest (ties by row) are the hard ones: ⌊neg_num·hard_ratio⌋ of these
/// are drawn, then ⌊neg_num·rand_ratio⌋ of all that are left. The draws come from the layer's own stream, so the same
/// pass chooses the same rows: candidate j of anchor i has word 2·(i·N + j) of it for the first draw and the next
/// word for the second, and those with the smallest words win (ties by row).
///
/// Gradient: exact, through anchor, positive and negative, for the chosen triplets.
///
/// Errors: N not a multiple of pair_size; pair_size below 2; neg_num 0; no ratio given, or one outside 0 to 1; an
/// anchor and a positive of different labels; embeddings that are not finite.
///
/// Source: the layer of Wang and Gupta's Caffe for "Unsupervised learning of visual representations using videos",
/// ICCV 2015.
pub struct RankHardLoss<T> {
    rules: Rules<T>,
    /// −⟨xₐ, x_b⟩, N × N.
    distances: Vec<T>,
    /// Candidates of each anchor; after the choice, those chosen, by row.
    anchors: Vec<Anchor<T>>,
    /// The gradient with respect to the embeddings, without scale, is this N × N matrix times them.
    coefficients: Vec<T>,
    rows: usize,
    device: cuda::Room<T>,
}

/// Makes the layer.
pub fn new<T: Real>(param: &LayerParameter) -> Result<Box<dyn Layer<T>>> {
    let rules = Rules::new(&param.rank_param.unwrap_or_default())?;
    let (distances, anchors, coefficients) = (Vec::new(), Vec::new(), Vec::new());
    Ok(Box::new(RankHardLoss {
        rules,
        distances,
        anchors,
        coefficients,
        rows: 0,
        device: Default::default(),
    }))
}

impl<T: Real> RankHardLoss<T> {
    /// The divisor of the loss.
    fn count(&self) -> f64 {
        (2 * (self.rules.neg_num * self.rows / self.rules.pair_size)) as f64
    }

    fn check_batch(&self, x: &[T], x_shape: &Shape, labels: &[T], label_shape: &Shape) -> Result<()> {
        // A row that is not finite, or too large to be squared, shows on the diagonal.
        if let Some(row) = (0..self.rows).find(|i| !self.distances[i * self.rows + i].is_finite()) {
            let size = x.len() / self.rows;
            let values = x[row * size..][..size].iter().enumerate();
            let error = Error::new(Kind::NotFinite, format!("the embedding of row {row} is not finite"));
            let bad = values.clone().find(|(_, v)| !v.is_finite());
            return Err(match bad {
                Some((i, v)) => error.found(format!("{v} at {}", position(row * size + i, x_shape))),
                None => error.found("values whose squares overflow"),
            }
            .in_field("bottom[0]")
            .suggest("a lower base_lr, or a Norm layer before the loss"));
        }
        self.check_labels(labels, label_shape)
    }

    fn check_labels(&self, labels: &[T], label_shape: &Shape) -> Result<()> {
        for i in (0..self.rows).step_by(self.rules.pair_size) {
            if labels[i] != labels[i + 1] {
                let at = [i, i + 1].map(|i| position(i, label_shape));
                return Err(Error::new(Kind::Data, "an anchor and its positive have different labels")
                    .expected(format!("the same label at {} and {}", at[0], at[1]))
                    .found(format!("{} and {}", labels[i], labels[i + 1]))
                    .suggest("a Data layer with pair_size gives groups of one label")
                    .in_field("bottom[1]"));
            }
        }
        Ok(())
    }
}

impl<T: Real> Layer<T> for RankHardLoss<T> {
    fn bottoms(&self) -> RangeInclusive<usize> {
        2..=2
    }

    fn tops(&self) -> RangeInclusive<usize> {
        1..=2
    }

    fn auto_tops(&self) -> bool {
        true
    }

    fn reads(&self) -> Reads {
        Reads::BOTTOM
    }

    fn loss_weight(&self, top: usize) -> f32 {
        if top == 0 { 1.0 } else { 0.0 }
    }

    fn differentiable(&self, bottom: usize) -> bool {
        bottom == 0
    }

    fn reshape(&mut self, bottom: &[&Shape], setup: &mut Setup<T>) -> Result<Vec<Shape>> {
        let (rows, pair_size) = (batch(bottom)?, self.rules.pair_size);
        if !rows.is_multiple_of(pair_size) {
            return Err(Error::new(Kind::Shape, "the batch is not made of whole groups")
                .expected(format!("a multiple of pair_size = {pair_size}"))
                .found(format!("a batch of {rows}"))
                .in_field("rank_param.pair_size"));
        }
        if bottom[1].count() != rows {
            return Err(Error::new(Kind::Shape, "each embedding needs one label")
                .expected(format!("{rows} labels"))
                .found(format!("shape {}", bottom[1]))
                .in_field("bottom[1]"));
        }
        let square = Shape::new([rows, rows])?.count();
        self.rows = rows;
        self.distances.resize(square, T::zero());
        self.coefficients.resize(square, T::zero());
        self.anchors.resize_with(rows / pair_size, Anchor::new);
        for anchor in &mut self.anchors {
            anchor.candidates.clear();
            anchor.candidates.reserve_exact(rows);
        }
        Ok(vec![Shape::scalar(); setup.tops])
    }

    fn forward(&mut self, cx: &Context<T>, mut io: Forward<T>) -> Result<()> {
        let (x, labels, n) = (io.bottom.get(0), io.bottom.get(1), self.rows);
        gemm(
            Transpose::No,
            Transpose::Yes,
            n,
            n,
            x.len() / n,
            -T::one(),
            x,
            x,
            T::zero(),
            &mut self.distances,
        );
        self.check_batch(x, io.bottom.shape(0), labels, io.bottom.shape(1))?;

        let stream = Stream::new(cx.seed, cx.layer, cx.pass);
        let (rules, distances) = (&self.rules, &self.distances);
        let row = |i: usize| &distances[i * n..][..n];
        parallel::for_each_chunk(&mut self.anchors, 1, |at, anchors| {
            for (k, anchor) in anchors.iter_mut().enumerate() {
                let i = (at + k) * rules.pair_size;
                rules.choose(i, labels, [row(i), row(i + 1)], &stream, anchor);
            }
        });

        let mut sum = 0.0;
        self.coefficients.fill(T::zero());
        for (k, anchor) in self.anchors.iter().enumerate() {
            let i = k * rules.pair_size;
            let p = i + 1;
            let mut add = |a: usize, b: usize, sign: T| {
                self.coefficients[a * n + b] += sign;
                self.coefficients[b * n + a] += sign;
            };
            let reach = row(i)[p] + rules.margin;
            for &Candidate { row: j, .. } in &anchor.candidates {
                for from in [i, p] {
                    let hinge = reach - row(from)[j];
                    if hinge > T::zero() {
                        sum += hinge.as_f64();
                        add(i, p, -T::one());
                        add(from, j, T::one());
                    }
                }
            }
        }
        io.top.get(0)[0] = T::from_f64(sum / self.count());
        if io.top.len() > 1 {
            let active: usize = self.anchors.iter().map(|a| a.active).sum();
            let all: usize = self.anchors.iter().map(|a| 2 * a.negatives).sum();
            io.top.get(1)[0] = T::from_f64(active as f64 / all.max(1) as f64);
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
        let dx = io.bottom_diff.get(0);
        if !io.live[0] {
            dx.fill(T::zero()); // only the share of active triplets is asked for, which has no slope
            return Ok(());
        }
        let (x, n) = (io.bottom.get(0), self.rows);
        let scale = T::from_f64(io.top_diff.get(0)[0].as_f64() / self.count());
        gemm(Transpose::No, Transpose::No, n, x.len() / n, n, scale, &self.coefficients, x, T::zero(), dx);
        Ok(())
    }

    fn warnings(&self) -> Vec<String> {
        let Rules { neg_num, hard, random, ratios, .. } = self.rules;
        let mut warnings = Vec::new();
        if (ratios - 1.0).abs() > 1e-6 {
            warnings.push(format!(
                "rank_param: hard_ratio + rand_ratio = {ratios}; the loss is divided as if they were 1 together"
            ));
        } else if hard + random != neg_num {
            warnings.push(format!(
                "rank_param: of neg_num = {neg_num} negatives only {hard} hard and {random} random ones are chosen, \
                 because shares are rounded down"
            ));
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use crate::error::Kind;
    use crate::testing::{Bench, Feed, assert_close, refusal};
    use std::collections::BTreeSet;

    fn layer(fields: &str) -> String {
        format!(
            "layer {{ name: 'r' type: 'RankHardLoss' bottom: 'x' bottom: 't' top: 'y' top: 'active'
             rank_param {{ pair_size: 2 {fields} }} }}"
        )
    }

    /// Two pairs on the unit circle: (1, 0), (0.6, 0.8) and (0.8, 0.6), (0, 1).
    const X: [f64; 8] = [1.0, 0.0, 0.6, 0.8, 0.8, 0.6, 0.0, 1.0];

    #[test]
    fn known_values() {
        let feeds: [Feed; 2] = [("x", &[4, 2], &X), ("t", &[4], &[5.0, 5.0, -1.0, -1.0])];
        let text = layer("neg_num: 2 hard_ratio: 1 margin: 0.5");
        let mut bench = Bench::<f64>::new(&text, &feeds).unwrap();
        let loss = bench.forward();
        // Anchor 0: d(0,1) = −0.6, candidate 2 (−0.8: 0.7) alone, as 3 gives −0.1; with the positive d(1,2) = −0.96:
        // 0.86. Anchor 2: d(2,3) = −0.6, candidates 0 (−0.8: 0.7) and 1 (−0.96: 0.86); with the positive d(3,0) = 0:
        // none, d(3,1) = −0.8: 0.7. cnt = 2·⌊2·4 / 2⌋ = 8.
        assert!((loss - (0.7 + 0.86 + 0.7 + 0.86 + 0.7) / 8.0).abs() < 1e-12);
        // Of 8 terms these 5 and d(0,1) − d(1,3) + margin = 0.7 of a triplet that is no candidate.
        assert_close(&bench.get("active"), &[6.0 / 8.0], 1e-12);
        bench.backward(&[]);
        let row = |i: usize| [X[2 * i], X[2 * i + 1]];
        // (row, other row, how often): the terms above, −⟨i,p⟩ each and +⟨i or p, j⟩.
        let pairs =
            [(0, 1, -2.0), (0, 2, 1.0), (1, 2, 1.0), (2, 3, -3.0), (2, 0, 1.0), (2, 1, 1.0), (3, 1, 1.0)];
        let mut expected = [0.0; 8];
        for (a, b, times) in pairs {
            for k in 0..2 {
                expected[2 * a + k] += times * row(b)[k] / 8.0;
                expected[2 * b + k] += times * row(a)[k] / 8.0;
            }
        }
        assert_close(&bench.grad("x"), &expected, 1e-12);
    }

    #[test]
    fn a_collapse_can_be_seen() {
        let feeds: [Feed; 2] = [("x", &[6, 1], &[1.0; 6]), ("t", &[6], &[0.0, 0.0, 1.0, 1.0, 2.0, 2.0])];
        let text = layer("neg_num: 4 hard_ratio: 0.5 rand_ratio: 0.5 margin: 0.25");
        let mut bench = Bench::<f32>::new(&text, &feeds).unwrap();
        assert_eq!(bench.forward(), 0.25);
        assert_eq!(bench.get("active"), [1.0]);
        // Far apart nothing is active.
        bench.set("x", &[9.0, 9.0, 0.0, 0.0, -9.0, -9.0]);
        bench.set("t", &[0.0, 0.0, 1.0, 1.0, 1.0, 1.0]);
        bench.forward();
        assert!(bench.get("active")[0] < 0.5, "{:?}", bench.get("active"));
    }

    /// One anchor pair of label 0 and ten rows of label 1, row j nearer than row j + 1. The rows whose gradient is not
    /// zero are the chosen ones; their own anchors are kept quiet by their mutual closeness.
    fn chosen(bench: &mut Bench<f64>) -> Vec<usize> {
        bench.forward();
        bench.backward(&[]);
        let grad = bench.grad("x");
        (2..12).filter(|j| grad[2 * j] != 0.0).collect()
    }

    fn crowd(fields: &str) -> Bench<f64> {
        let mut x = vec![1.0, 0.0, 1.0, 0.0];
        let mut labels = vec![0.0, 0.0];
        for j in 2..12 {
            x.extend([1.0 - j as f64 * 0.01, 100.0]);
            labels.push(1.0);
        }
        let feeds: [Feed; 2] = [("x", &[12, 2], &x), ("t", &[12], &labels)];
        Bench::new(&layer(fields), &feeds).unwrap()
    }

    #[test]
    fn hard_ones_are_the_nearest_and_few_are_all_taken() {
        assert_eq!(chosen(&mut crowd("neg_num: 3 hard_ratio: 1")), [2, 3, 4]);
        assert_eq!(chosen(&mut crowd("neg_num: 10 hard_ratio: 0.1")), (2..12).collect::<Vec<_>>());
        assert!(chosen(&mut crowd("neg_num: 3 hard_ratio: 0")).is_empty());
    }

    #[test]
    fn draws_follow_the_pass_and_reach_every_candidate() {
        let mut bench = crowd("neg_num: 4 hard_ratio: 0.5 rand_ratio: 0.5");
        let mut sets = Vec::new();
        for _ in 0..200 {
            let rows = chosen(&mut bench);
            assert_eq!(rows.len(), 4);
            assert!(rows.iter().filter(|&&j| j < 6).count() >= 2, "two are hard: {rows:?}");
            sets.push(rows);
        }
        assert_eq!(sets.iter().flatten().collect::<BTreeSet<_>>().len(), 10);
        assert!(sets.iter().collect::<BTreeSet<_>>().len() > 50);
        bench.net.set_next_pass(17);
        assert_eq!(chosen(&mut bench), sets[17]);
        // Each of the 4 hard ones: drawn first with 1/2, else with 2/8.
        let often = sets.iter().filter(|s| s.contains(&2)).count();
        assert!((95..155).contains(&often), "{often}");
    }

    #[test]
    fn equal_distances_are_taken_by_row() {
        let mut bench = crowd("neg_num: 3 hard_ratio: 1");
        let x: Vec<f64> = (0..12).flat_map(|j| [1.0, if j < 2 { 0.0 } else { 100.0 }]).collect();
        bench.set("x", &x);
        assert_eq!(chosen(&mut bench), [2, 3, 4]);
    }

    #[test]
    fn bad_fields_and_batches() {
        let feeds: [Feed; 2] = [("x", &[4, 2], &X), ("t", &[4], &[0.0; 4])];
        for (fields, field) in [
            ("neg_num: 0 hard_ratio: 1", "neg_num"),
            ("neg_num: 2", "hard_ratio"),
            ("hard_ratio: -0.5", "hard_ratio"),
            ("rand_ratio: nan", "rand_ratio"),
            ("rand_ratio: 1 margin: inf", "margin"),
        ] {
            assert_eq!(refusal(&layer(fields), &feeds).field(), Some(&*format!("rank_param.{field}")));
        }
        let text = layer("hard_ratio: 1");
        for wrong in ["", "pair_size: 0", "pair_size: 1", "pair_size: 3"] {
            let error = refusal(&text.replace("pair_size: 2", wrong), &feeds);
            assert_eq!(error.field(), Some("rank_param.pair_size"), "{wrong}");
        }
        let error = refusal(&text, &[feeds[0], ("t", &[4, 2], &[0.0; 8])]);
        assert_eq!(error.field(), Some("bottom[1]"));
    }

    #[test]
    fn bad_values() {
        let feeds: [Feed; 2] = [("x", &[4, 2], &X), ("t", &[4], &[0.0, 0.0, 1.0, 2.0])];
        let mut bench = Bench::<f32>::new(&layer("hard_ratio: 1"), &feeds).unwrap();
        let error = bench.net.forward(&mut bench.weights).unwrap_err();
        assert!(error.to_string().contains("the same label at [2] and [3]"), "{error}");
        bench.set("t", &[0.0, 0.0, 1.0, 1.0]);
        for bad in [f64::NAN, f64::INFINITY, 1e30] {
            let mut x = X;
            x[5] = bad;
            bench.set("x", &x);
            let error = bench.net.forward(&mut bench.weights).unwrap_err();
            assert_eq!(error.kind(), Kind::NotFinite);
            assert_eq!(error.message(), "the embedding of row 2 is not finite");
        }
    }

    #[test]
    fn ratios_that_do_not_add_up_are_warned_of() {
        let feeds: [Feed; 2] = [("x", &[4, 2], &X), ("t", &[4], &[0.0; 4])];
        let warnings =
            |fields: &str| Bench::<f32>::new(&layer(fields), &feeds).unwrap().net.warnings().to_vec();
        assert!(warnings("neg_num: 10 hard_ratio: 0.7 rand_ratio: 0.3").is_empty());
        assert!(warnings("neg_num: 10 hard_ratio: 0.7")[0].contains("= 0.7;"));
        assert!(warnings("neg_num: 5 hard_ratio: 0.5 rand_ratio: 0.5")[0].contains("2 hard and 2 random"));
    }
}
