//! Rates of layers beside what the processor can do.

use super::summary::table;
use super::time::Timing;

/// A time with what was computed in it.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// Milliseconds.
    pub ms: f64,
    /// Floating-point operations.
    pub flops: u64,
}

impl Rate {
    /// GFLOP/s, where it is operations that the time goes into.
    pub fn gflops(self) -> Option<f64> {
        (self.flops > 0 && self.ms > 0.0).then(|| self.flops as f64 / self.ms / 1e6)
    }

    /// Share of a ceiling in GFLOP/s.
    pub fn share(self, ceiling: Option<f64>) -> Option<f64> {
        Some(self.gflops()? / ceiling.filter(|&c| c > 0.0)?)
    }
}

impl Timing {
    /// The whole net without its data: forward, backward, and both.
    pub fn rates(&self) -> [Rate; 3] {
        let forward = self.layers.iter().map(|l| l.flops_forward).sum();
        let backward = self.layers.iter().map(|l| l.flops_backward).sum();
        [
            Rate { ms: self.forward_without_data_ms, flops: forward },
            Rate { ms: self.backward_ms, flops: backward },
            Rate { ms: self.forward_backward_without_data_ms, flops: forward + backward },
        ]
    }

    /// The layers as a table: time, GFLOP/s and share of the `ceiling` (GFLOP/s of all threads) of each direction,
    /// and which part of the iteration the layer takes; below it the net without its data.
    pub fn lines(&self, ceiling: Option<f64>) -> Vec<String> {
        let ms = |ms: f64| format!("{ms:.3}");
        let number = |x: Option<f64>| x.map_or_else(String::new, |x| format!("{x:.1}"));
        let percent = |x: Option<f64>| x.map_or_else(String::new, |x| format!("{:.0} %", 100.0 * x));
        let direction = |r: Rate| [ms(r.ms), number(r.gflops()), percent(r.share(ceiling))];
        let all: f64 = self.layers.iter().map(|l| l.forward_ms + l.backward_ms).sum();
        let row = |name: &str, kind: &str, [f, b]: [Rate; 2], part: Option<f64>| {
            let ([f, f_rate, f_share], [b, b_rate, b_share]) = (direction(f), direction(b));
            [name.into(), kind.into(), f, f_rate, f_share, b, b_rate, b_share, percent(part)]
        };
        let mut rows = vec![
            ["layer", "type", "forward ms", "GFLOP/s", "share", "backward ms", "GFLOP/s", "share", "time"]
                .map(String::from),
        ];
        rows.extend(self.layers.iter().map(|l| {
            let rates = l.rates();
            let part = (all > 0.0).then(|| (rates[0].ms + rates[1].ms) / all);
            row(&l.name, &l.kind, rates, part)
        }));
        let [forward, backward, both] = self.rates();
        rows.push(row("net without data", "", [forward, backward], None));
        let mut lines = table(&rows, 2);
        let rate = both.gflops().map_or_else(String::new, |g| format!(", {g:.1} GFLOP/s"));
        let share =
            both.share(ceiling).map_or_else(String::new, |s| format!(", {:.0} % of the ceiling", 100.0 * s));
        lines.push(format!("forward and backward without data: {} ms{rate}{share}", ms(both.ms)));
        lines
    }
}

impl super::time::LayerTime {
    /// Forward and backward.
    pub fn rates(&self) -> [Rate; 2] {
        [
            Rate { ms: self.forward_ms, flops: self.flops_forward },
            Rate { ms: self.backward_ms, flops: self.flops_backward },
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::super::time::LayerTime;
    use super::*;

    #[test]
    fn a_rate_needs_operations_and_a_share_a_ceiling() {
        let rate = Rate { ms: 2.0, flops: 300_000_000 };
        assert_eq!(rate.gflops(), Some(150.0));
        assert_eq!(rate.share(Some(200.0)), Some(0.75));
        assert_eq!(rate.share(None), None);
        assert_eq!(Rate { flops: 0, ..rate }.gflops(), None);
        assert_eq!(Rate { ms: 0.0, ..rate }.gflops(), None);
    }

    #[test]
    fn the_table_leaves_open_what_is_no_figure() {
        let layer = |name: &str, forward_ms, backward_ms, flops| LayerTime {
            name: name.into(),
            kind: "Kind".into(),
            leader: None,
            forward_ms,
            backward_ms,
            flops_forward: flops,
            flops_backward: 2 * flops,
        };
        let timing = Timing {
            iterations: 1,
            forward_ms: 4.0,
            backward_ms: 6.0,
            forward_backward_ms: 10.0,
            forward_without_data_ms: 3.0,
            forward_backward_without_data_ms: 9.0,
            mean_forward_ms: 4.0,
            mean_backward_ms: 6.0,
            graph_ms: None,
            total_ms: 10.0,
            layers: vec![
                layer("d", 1.0, 0.0, 0),
                layer("conv", 2.0, 4.0, 100_000_000),
                layer("r", 1.0, 2.0, 0),
            ],
        };
        let lines = timing.lines(Some(100.0));
        let words = |line: &str| line.split_whitespace().map(String::from).collect::<Vec<_>>();
        assert_eq!(words(&lines[1]), ["d", "Kind", "1.000", "0.000", "10", "%"]);
        assert_eq!(
            words(&lines[2])[2..],
            ["2.000", "50.0", "50", "%", "4.000", "50.0", "50", "%", "60", "%"]
        );
        assert!(lines[4].starts_with("net without data "), "{}", lines[4]);
        assert_eq!(words(&lines[4])[3..], ["3.000", "33.3", "33", "%", "6.000", "33.3", "33", "%"]);
        assert!(lines[5].ends_with(": 9.000 ms, 33.3 GFLOP/s, 33 % of the ceiling"), "{}", lines[5]);
        assert!(!timing.lines(None).join("\n").contains("ceiling"));
    }
}
