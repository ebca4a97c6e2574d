//! What a gradient check found.

/// One comparison of backward with central differences: a layer against one of its bottoms or parameters.
#[derive(Clone, Debug, Default)]
pub struct Check {
    /// Name of the layer; of the net for a check of a whole net.
    pub layer: String,
    /// What was varied: `bottom 0 "data"`, `param 1`, or `direction` where all moved at once.
    pub what: String,
    /// Elements compared; 1 for a direction.
    pub elements: usize,
    /// Elements the blob has.
    pub total: usize,
    /// Elements at a point where the function has a kink: its gradient lies between the slopes of the two sides.
    pub kinks: usize,
    /// Elements whose gradient is wrong.
    pub failed: usize,
    /// Largest error, relative to the largest of analytic value, numeric value and the checker's floor.
    pub error: f64,
    /// Element that has it.
    pub index: usize,
    /// Its gradient by backward.
    pub analytic: f64,
    /// Its gradient by central differences.
    pub numeric: f64,
}

/// At most this share of the elements may lie at kinks, or the check says nothing.
const MOST_KINKS: f64 = 0.2;

impl Check {
    /// Whether nothing is wrong, and enough elements were compared to say so.
    pub fn passed(&self) -> bool {
        self.failed == 0 && !self.too_many_kinks()
    }

    /// Whether so many elements lie at kinks that the check says nothing.
    pub fn too_many_kinks(&self) -> bool {
        self.kinks as f64 > 1.0 + MOST_KINKS * self.elements as f64
    }

    /// Takes in one comparison. A kink does not count as an error.
    pub(super) fn add(&mut self, found: &Compared, index: usize) {
        self.elements += 1;
        self.kinks += usize::from(found.kink);
        self.failed += usize::from(!found.kink && !found.close);
        // An error that is no number is the largest.
        if !found.kink
            && (self.elements == self.kinks + 1 || found.error > self.error || found.error.is_nan())
        {
            (self.error, self.index) = (found.error, index);
            (self.analytic, self.numeric) = (found.analytic, found.numeric);
        }
    }
}

/// All checks of a layer or a net.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The checks, in the order of the net.
    pub checks: Vec<Check>,
}

impl Report {
    /// Whether all passed.
    pub fn passed(&self) -> bool {
        self.checks.iter().all(Check::passed)
    }

    /// Those that did not pass.
    pub fn failures(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|c| !c.passed())
    }
}

/// One analytic slope beside the numeric one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Compared {
    pub analytic: f64,
    pub numeric: f64,
    pub error: f64,
    pub close: bool,
    pub kink: bool,
}
