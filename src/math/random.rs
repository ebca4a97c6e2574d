//! Random numbers by counting: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
//! SC 2011).
//!
//! A [`Stream`] has no hidden state: its word `i` is a function of (seed, layer, pass, i). So threads and a
//! GPU compute element `i` of a fill independently and identically, and a resumed run goes on exactly.
//!
//! | counter word | holds |
//! |---|---|
//! | 0 | block: word `i` of the stream is lane `i % 4` of block `i / 4` |
//! | 1 | [`Purpose`] in the upper 8 bits, layer index in the lower 24 |
//! | 2, 3 | pass, low and high half: what it counts is said at each [`Purpose`] |
//!
//! The key is the seed, low half first.

use std::f64::consts::{LN_2, TAU};

/// What a stream is for. Each purpose has its own counters, so two streams never give the same numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Draws of a layer in its forward pass (dropout, choice of negatives); pass: the forward pass.
    Forward = 0,
    /// First values of parameters; pass: the index of the parameter in its layer.
    Init = 1,
    /// Crop and mirror of one record; pass: the position of the record in the run.
    Record = 2,
    /// Order of the records; pass: the epoch.
    Order = 3,
    /// Samples and directions of the gradient checker and of tests; pass: free.
    Check = 4,
}

/// Blocks that are computed at once.
pub(crate) const BLOCKS: usize = 32;

/// What `four` gives for [`BLOCKS`] blocks from `first` on: its four values down the rows. Blocks are side by side, so that the compiler
/// computes them in vectors where `four` is inlined; value `i` of the fill is `rows[i % 4][i / 4]`.
#[inline(always)]
pub(crate) fn side_by_side<A>(first: u64, rows: &mut [[A; BLOCKS]; 4], four: impl Fn(u64) -> [A; 4]) {
    let [a, b, c, d] = rows;
    let lanes = a.iter_mut().zip(b).zip(c).zip(d);
    for (block, (((a, b), c), d)) in (first..).zip(lanes) {
        [*a, *b, *c, *d] = four(block);
    }
}

/// A counter-based stream of random numbers: 2³⁴ words, in any order ([`Stream::word`]) or one after the
/// other ([`Stream::next_u32`] and what stands on it).
#[derive(Clone, Debug)]
pub struct Stream {
    key: [u32; 2],
    layer: u32,
    pass: u64,
    /// Index of the next word of the sequential draws.
    next: u64,
    /// The block that holds the last sequential word, so that four draws cost one block.
    held: Option<(u64, [u32; 4])>,
}

impl Stream {
    /// The stream of the forward pass number `pass` of a layer: [`Purpose::Forward`].
    pub fn new(seed: u64, layer: u32, pass: u64) -> Stream {
        Stream::of(Purpose::Forward, seed, layer, pass)
    }

    /// The stream of a purpose. The lower 24 bits of `layer` count.
    pub fn of(purpose: Purpose, seed: u64, layer: u32, pass: u64) -> Stream {
        let layer = (purpose as u32) << 24 | (layer & 0x00ff_ffff);
        Stream { key: halves(seed), layer, pass, next: 0, held: None }
    }

    /// What a kernel is told of it besides the pass: word 1 of the counter, and the key.
    pub fn names(&self) -> [u32; 3] {
        let [low, high] = self.key;
        [self.layer, low, high]
    }

    /// The four words `4 * index ..` of the stream.
    #[inline(always)]
    pub fn block(&self, index: u64) -> [u32; 4] {
        let [low, high] = halves(self.pass);
        philox([index as u32, self.layer, low, high], self.key)
    }

    /// Word number `index`.
    #[inline]
    pub fn word(&self, index: u64) -> u32 {
        self.block(index / 4)[(index % 4) as usize]
    }

    /// Element `index` of a fill with a uniform distribution on [0, 1); costs word `index`.
    #[inline]
    pub fn uniform_at(&self, index: u64) -> f64 {
        unit(self.word(index))
    }

    /// Element `index` of a fill that is true with probability `p`; costs word `index`.
    #[inline]
    pub fn bernoulli_at(&self, index: u64, p: f64) -> bool {
        unit(self.word(index)) < p
    }

    /// Element `index` of a fill with the standard normal distribution; neighbours share words
    /// `index & !1` and `index | 1` (Box-Muller: the even one takes the cosine, the odd one the sine).
    #[inline]
    pub fn gaussian_at(&self, index: u64) -> f64 {
        self.gaussians(index / 4)[(index % 4) as usize]
    }

    /// The elements `4 * block ..` of [`Stream::gaussian_at`], at a quarter of the cost.
    #[inline(always)]
    pub fn gaussians(&self, block: u64) -> [f64; 4] {
        let [a, b, c, d] = self.block(block);
        let ([a, b], [c, d]) = (box_muller(a, b), box_muller(c, d));
        [a, b, c, d]
    }

    /// The elements `4 * block ..` of [`Stream::uniform_at`].
    #[inline(always)]
    pub fn uniforms(&self, block: u64) -> [f64; 4] {
        self.block(block).map(unit)
    }

    /// Sets `words` words aside for a fill and returns the index of the first, a multiple of 4; the
    /// sequential draws go on behind them.
    pub fn reserve(&mut self, words: u64) -> u64 {
        let first = self.next.next_multiple_of(4);
        self.next = first + words;
        first
    }

    /// The next word.
    #[inline]
    pub fn next_u32(&mut self) -> u32 {
        let index = self.next / 4;
        let words = match self.held {
            Some((held, words)) if held == index => words,
            _ => {
                let words = self.block(index);
                self.held = Some((index, words));
                words
            }
        };
        let word = words[(self.next % 4) as usize];
        self.next += 1;
        word
    }

    /// The next two words, the first one low.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        let low = u64::from(self.next_u32());
        low | u64::from(self.next_u32()) << 32
    }

    /// A number below `n`, each equally likely (Lemire's method, no bias); 0 for `n` = 0.
    pub fn below(&mut self, n: u64) -> u64 {
        if n <= 1 {
            return 0;
        }
        if let Ok(n) = u32::try_from(n) {
            let threshold = n.wrapping_neg() % n;
            loop {
                let product = u64::from(self.next_u32()) * u64::from(n);
                if product as u32 >= threshold {
                    return product >> 32;
                }
            }
        }
        let threshold = n.wrapping_neg() % n;
        loop {
            let product = u128::from(self.next_u64()) * u128::from(n);
            if product as u64 >= threshold {
                return (product >> 64) as u64;
            }
        }
    }

    /// A number from [lo, hi).
    #[inline]
    pub fn uniform(&mut self, lo: f64, hi: f64) -> f64 {
        lo + (hi - lo) * unit(self.next_u32())
    }

    /// A number with a normal distribution; costs two words.
    pub fn gaussian(&mut self, mean: f64, std: f64) -> f64 {
        let (a, b) = (self.next_u32(), self.next_u32());
        mean + std * box_muller(a, b)[0]
    }

    /// True with probability `p`.
    #[inline]
    pub fn bernoulli(&mut self, p: f64) -> bool {
        unit(self.next_u32()) < p
    }

    /// Puts the elements in a random order, every order equally likely (Fisher-Yates).
    pub fn shuffle<X>(&mut self, items: &mut [X]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u64 + 1) as usize);
        }
    }
}

#[inline(always)]
fn halves(x: u64) -> [u32; 2] {
    [x as u32, (x >> 32) as u32]
}

/// A word as a number from [0, 1).
#[inline(always)]
fn unit(word: u32) -> f64 {
    f64::from(word) / 4_294_967_296.0
}

/// Two independent normal numbers from two words. The first becomes a number from (0, 1], so that the
/// logarithm is finite and no number is further out than √(2·ln 2³²) = 6.66.
///
/// The functions below stand for those of the C library: they are loops of plain arithmetic without a jump, which
/// vectorise, and they give the same bits on every machine.
#[inline(always)]
fn box_muller(a: u32, b: u32) -> [f64; 2] {
    let radius = (-2.0 * ln((f64::from(a) + 1.0) / 4_294_967_296.0)).sqrt();
    let [sin, cos] = sin_cos(b);
    [radius * cos, radius * sin]
}

/// 1/(2k + 1) from the highest power on: ln m = 2·artanh f = 2f·Σ f²ᵏ/(2k + 1), where f = (m − 1)/(m + 1).
const ARTANH: [f64; 12] = {
    let mut c = [0.0; 12];
    let mut k = 0;
    while k < 12 {
        c[11 - k] = 1.0 / (2 * k + 1) as f64;
        k += 1;
    }
    c
};

/// ±1/n! for the n = `first`, `first` + 2, … with alternating signs, from the highest on: the series of sine (1) and
/// cosine (0).
const fn series(first: usize) -> [f64; 9] {
    let mut c = [0.0; 9];
    let (mut k, mut term) = (0, 1.0);
    while k < 9 {
        c[8 - k] = term;
        let n = first + 2 * k;
        term /= -(((n + 1) * (n + 2)) as f64);
        k += 1;
    }
    c
}
const SIN: [f64; 9] = series(1);
const COS: [f64; 9] = series(0);

#[inline(always)]
fn polynomial<const N: usize>(c: &[f64; N], x: f64) -> f64 {
    c[1..].iter().fold(c[0], |sum, c| sum * x + c)
}

/// Natural logarithm of a normal number, to about one unit in the last place.
#[inline(always)]
fn ln(x: f64) -> f64 {
    // x = m · 2ᵉ with m from [√½, √2): the bits of √½ are taken off, so that the exponent comes out rounded.
    const ROOT: u64 = 0x3FE6_A09E_667F_3BCD;
    let bits = x.to_bits().wrapping_sub(ROOT);
    let e = ((bits as i64) >> 52) as i32;
    let m = f64::from_bits((bits & 0x000F_FFFF_FFFF_FFFF).wrapping_add(ROOT));
    let f = (m - 1.0) / (m + 1.0);
    f64::from(e) * LN_2 + 2.0 * f * polynomial(&ARTANH, f * f)
}

/// Sine and cosine of 2π·`b`/2³², to about one unit in the last place.
#[inline(always)]
fn sin_cos(b: u32) -> [f64; 2] {
    // The nearest quarter of the circle, and what is left, at most an eighth to either side: exact, in integers.
    let quarter = b.wrapping_add(1 << 29) >> 30;
    let x = f64::from(b.wrapping_sub(quarter << 30) as i32) * (TAU / 4_294_967_296.0);
    let (sin, cos) = (x * polynomial(&SIN, x * x), polynomial(&COS, x * x));
    let (sin, cos) = if quarter & 1 == 0 { (sin, cos) } else { (cos, sin) };
    [if quarter & 2 == 0 { sin } else { -sin }, if quarter.wrapping_add(1) & 2 == 0 { cos } else { -cos }]
}

/// Philox4x32-10: ten rounds of two 32 by 32 bit products.
#[inline(always)]
fn philox(mut c: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let [p0, q0] = halves(u64::from(c[0]) * 0xD251_1F53);
        let [p1, q1] = halves(u64::from(c[2]) * 0xCD9E_8D57);
        c = [q1 ^ c[1] ^ key[0], p1, q0 ^ c[3] ^ key[1], p0];
        // The Weyl steps: golden ratio and √3 - 1.
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    c
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors published with Random123 (`kat_vectors`, philox4x32 10).
    #[test]
    fn known_answers() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
        assert_eq!(philox([!0; 4], [!0; 2]), [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]);
        let (pi, key) = ([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0]);
        assert_eq!(philox(pi, key), [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1]);
    }

    #[test]
    fn logarithm_and_circle_agree_with_the_library() {
        let mut s = Stream::new(3, 0, 0);
        let corners = [0, 1, u32::MAX, 1 << 29, (1 << 29) - 1, 1 << 30, 3 << 29, 1 << 31, 3 << 30, 7 << 29];
        for word in (0..20_000).map(|_| s.next_u32()).chain(corners) {
            let x = (f64::from(word) + 1.0) / 4_294_967_296.0;
            assert!((ln(x) - x.ln()).abs() <= 4e-16 * x.ln().abs(), "{x}: {} {}", ln(x), x.ln());
            let [sin, cos] = sin_cos(word);
            let angle = TAU * unit(word);
            // The angle itself is rounded, to 2⁻⁵¹ at most.
            assert!((sin - angle.sin()).abs() < 1e-15 && (cos - angle.cos()).abs() < 1e-15, "{word}");
        }
        assert_eq!((ln(1.0), sin_cos(0), sin_cos(1 << 30)), (0.0, [0.0, 1.0], [1.0, 0.0]));
    }

    #[test]
    fn sequential_draws_equal_random_access() {
        let mut s = Stream::new(7, 3, 1 << 40);
        let fixed = s.clone();
        for i in 0..100 {
            assert_eq!(s.next_u32(), fixed.word(i));
        }
        assert_eq!(s.reserve(6), 100);
        assert_eq!(s.next_u32(), fixed.word(106));
        assert_eq!(s.reserve(0), 108);
        assert_eq!(fixed.gaussian_at(9), fixed.gaussians(2)[1]);
    }

    #[test]
    fn streams_differ_in_every_part_of_their_key() {
        use Purpose::*;
        let base = Stream::new(1, 2, 3);
        let others = [
            Stream::new(1 << 32 | 1, 2, 3),
            Stream::new(1, 3, 3),
            Stream::new(1, 2, 4),
            Stream::new(1, 2, 1 << 32 | 3),
        ];
        let purposes = [Init, Record, Order, Check].map(|p| Stream::of(p, 1, 2, 3));
        for s in others.iter().chain(&purposes) {
            assert_ne!(s.block(0), base.block(0));
        }
        assert_eq!(Stream::of(Forward, 1, 2, 3).block(5), base.block(5));
    }

    #[test]
    fn below_is_in_range_and_even() {
        let mut s = Stream::new(1, 0, 0);
        let mut seen = [0u32; 7];
        for _ in 0..70_000 {
            seen[s.below(7) as usize] += 1;
        }
        assert!(seen.iter().all(|&n| (9_600..10_400).contains(&n)), "{seen:?}");
        let n = 3 << 61;
        let big: Vec<u64> = (0..100).map(|_| s.below(n)).collect();
        assert!(big.iter().all(|&x| x < n) && big.iter().any(|&x| x > n / 2));
        assert_eq!((s.below(0), s.below(1)), (0, 0));
    }

    #[test]
    fn moments() {
        let mut s = Stream::new(11, 0, 0);
        let n = 200_000;
        let check = |draws: Vec<f64>, mean: f64, std: f64, fourth: f64| {
            let m = draws.iter().sum::<f64>() / n as f64;
            let central = |k: i32| draws.iter().map(|x| (x - m).powi(k)).sum::<f64>() / n as f64;
            assert!((m - mean).abs() < 0.02 * std, "mean {m}");
            assert!((central(2).sqrt() / std - 1.0).abs() < 0.01, "std {}", central(2).sqrt());
            assert!((central(4) / std.powi(4) / fourth - 1.0).abs() < 0.05);
        };
        check((0..n).map(|i| s.gaussian_at(i)).collect(), 0.0, 1.0, 3.0);
        check((0..n).map(|_| s.gaussian(2.0, 3.0)).collect(), 2.0, 3.0, 3.0);
        check((0..n).map(|_| s.uniform(-1.0, 2.0)).collect(), 0.5, 3.0 / 12f64.sqrt(), 1.8);
        let hits = (0..n).filter(|_| s.bernoulli(0.3)).count() as f64 / n as f64;
        assert!((hits - 0.3).abs() < 0.005);
        assert!((0..1000).all(|i| s.bernoulli_at(i, 1.0) && !s.bernoulli_at(i, 0.0)));
    }

    #[test]
    fn shuffle_gives_every_order_equally_often() {
        let mut s = Stream::new(5, 0, 0);
        let mut seen = std::collections::HashMap::new();
        for _ in 0..24_000 {
            let mut items = [0, 1, 2, 3];
            s.shuffle(&mut items);
            *seen.entry(items).or_insert(0) += 1;
        }
        assert_eq!(seen.len(), 24);
        assert!(seen.values().all(|&n| (850..1150).contains(&n)), "{seen:?}");
    }
}
