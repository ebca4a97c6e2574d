//! Which way each pass goes.

use super::data::DataForm;
use super::direct::{Direct, packed_cycles};
use super::winograd::Tiles;
use super::{Convolution, Geometry};

/// The passes that read windows where they lie, where Winograd's way is not faster.
#[derive(Debug, Default)]
pub(super) struct InPlace {
    pub forward: Option<Direct>,
    pub weights: Option<Direct>,
}

/// The passes that go Winograd's way, and their tiles.
#[derive(Debug, Default)]
pub(super) struct Winograd {
    pub forward: Option<Tiles>,
    /// Forward, for images in blocks and prepared weights.
    pub blocks: Option<Tiles>,
    pub data: Option<Tiles>,
    pub weights: Option<Tiles>,
    /// Gradients of weights for images that are turned into blocks, which goes before the others.
    pub turned: Option<Tiles>,
    /// The same for small images that are turned into blocks, which goes before the others: forward, and the bottom's gradient.
    pub small: [Option<Tiles>; 2],
}

impl Winograd {
    /// The passes that it makes faster than so many cycles.
    fn choose(g: &Geometry, output: &[usize], [forward, data, weights]: [f64; 3]) -> Winograd {
        let Some(tiles) = Tiles::suited(g, output) else { return Winograd::default() };
        let (channels, outputs) = (g.channels / g.groups, g.num_output / g.groups);
        let turned = tiles.turned();
        let small = |t: Tiles, cycles: f64, from, to| {
            let others = cycles.min(t.way_cycles(from, to));
            Some(t).filter(|t| g.groups == 1 && t.saves_time_if_small(others, from, to))
        };
        Winograd {
            small: [small(tiles, forward, channels, outputs), small(turned, data, outputs, channels)],
            forward: Some(tiles).filter(|t| t.saves_time(forward, channels, outputs)),
            blocks: Some(tiles).filter(|t| t.saves_time_in_blocks(forward, channels, outputs)),
            data: Some(turned).filter(|t| t.saves_time(data, outputs, channels)),
            weights: Some(tiles).filter(|t| t.saves_time_for_weights(weights, channels, outputs)),
            turned: Some(tiles).filter(|t| t.saves_time_for_turned_weights(weights, channels, outputs)),
        }
    }

    /// All passes, if the kernel suits.
    #[cfg(test)]
    pub fn forced(g: &Geometry, output: &[usize]) -> Option<Winograd> {
        let tiles = Tiles::suited(g, output)?;
        let (data, tiles) = (Some(tiles.turned()), Some(tiles));
        Some(Winograd { forward: tiles, blocks: tiles, data, weights: tiles, ..Winograd::default() })
    }
}

impl Convolution {
    /// Chooses the way of each pass by the cycles it should take on a core with vectors of 16.
    pub(super) fn choose(&mut self) {
        let g = &self.geometry;
        let (channels, outputs) = (g.channels / g.groups, g.num_output / g.groups);
        let products = (self.multiply_adds() / g.groups) as f64;
        let (windows, depth) = (&self.windows, self.depth());
        let direct = Direct::suited(g, &self.output);
        let mut way = InPlace::default();
        // Packing of filters, which Winograd's way does not need.
        let filters = (outputs * depth) as f64 * 2.0;
        let packed = |products: f64, m: usize| products * packed_cycles(m as f64) + filters;
        let mut cycles = [packed(products, outputs), packed(products, channels), packed(products, outputs)];
        if let Some(time) = direct.and_then(|d| d.saves_time(windows, depth, outputs)) {
            (way.forward, cycles[0]) = (direct, products * time);
        }
        if let Some(time) = direct.and_then(|d| d.saves_time_for_weights(depth, outputs)) {
            (way.weights, cycles[2]) = (direct, products * time);
        }
        if let DataForm::Gather(gather) = &self.data {
            let products = products / windows.pixels.max(1) as f64 * windows.plane() as f64;
            let depth = depth / channels * outputs;
            let time = gather.direct.and_then(|d| d.saves_time(&gather.windows, depth, channels));
            cycles[1] = time.map_or(packed(products, channels), |time| products * time);
        }
        self.winograd = Winograd::choose(g, &self.output, cycles);
        self.direct = way;
    }
}
