//! What the layers of a net cost.

use super::Node;
use crate::math::Real;

impl<T: Real> Node<T> {
    /// Floating-point operations of a forward and of a backward pass of its products and convolutions by the direct method, two for a
    /// multiply-add; backward counts only the gradients that are computed. Zeros for layers that spend their time on other things.
    pub fn flops(&self) -> [u64; 2] {
        let one = 2 * self.layer.multiply_adds();
        let count = |which: &[bool]| which.iter().filter(|&&w| w).count() as u64;
        let forward = one * self.top.len() as u64;
        if !self.need_backward {
            return [forward, 0];
        }
        // The filters are the first parameter; every live top gives them a gradient.
        let filters = if self.learned.first() == Some(&true) { count(&self.live) } else { 0 };
        [forward, one * (filters + count(&self.propagate))]
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    #[test]
    fn only_gradients_that_are_computed_count() {
        let net = "
            layer { name: 'c' type: 'Convolution' bottom: 'x' bottom: 'z' top: 'y' top: 'v'
              convolution_param { num_output: 4 kernel_size: 3 group: 2 } }
            layer { name: 'i' type: 'InnerProduct' bottom: 'y' top: 'w' inner_product_param { num_output: 5 } }
            layer { name: 'f' type: 'InnerProduct' bottom: 'w' top: 'u' param { lr_mult: 0 }
              inner_product_param { num_output: 7 } }
            layer { name: 'r' type: 'ReLU' bottom: 'u' top: 'u' }";
        let zeros = [0.0; 2 * 2 * 5 * 6];
        let shape: &[usize] = &[2, 2, 5, 6];
        let bench = Bench::<f32>::new(net, &[("x", shape, &zeros), ("z", shape, &zeros)]).unwrap();
        let flops = |name: &str| bench.net.nodes().iter().find(|n| n.name == name).unwrap().flops();
        // 2 images of 4 x 3 x 4 numbers, each a sum over 1 channel and 9 taps.
        let c = 2 * 2 * 4 * 12 * 9;
        assert_eq!(flops("c"), [2 * c, 4 * c]);
        let i = 2 * 2 * 48 * 5;
        assert_eq!(flops("i"), [i, 2 * i]);
        let f = 2 * 2 * 5 * 7;
        assert_eq!(flops("f"), [f, f]);
        assert_eq!(flops("r"), [0, 0]);
    }
}
