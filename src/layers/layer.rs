//! The trait every layer implements.

use super::normalization::Channels;
use super::{Backward, Forward, Inputs, Setup, Step};
use crate::blob::Shape;
use crate::device::{Context, Gpu, Pinned};
use crate::error::Result;
use crate::math::{Layouts, Real};
use std::ops::RangeInclusive;

/// What a layer's top may share with its bottom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Nothing: the top has memory of its own.
    None,
    /// The layer may overwrite its first bottom, if the prototxt gives both the same name. Whether backward
    /// still works then follows from [`Layer::reads`].
    InPlace,
    /// The last bottom's gradient lies where the top's was: backward costs nothing for it, or one
    /// pass in place (a sum). In such a call the top's diff is [in place](super::Inputs::in_place).
    LastDiff,
    /// Tops are the bottom's values (`Split`): forward costs nothing. The bottom's gradient is added up in the memory of
    /// the last top's; the others are apart.
    Data,
    /// The top is the bottom in another shape (`Reshape`, `Flatten`): neither direction costs anything.
    DataAndDiff,
}

/// Which values a layer's backward reads, besides the gradients and what the layer keeps itself.
///
/// The net refuses an in-place layer that overwrites what another's backward still reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reads {
    /// The values of its bottoms.
    pub bottom: bool,
    /// The values of its tops.
    pub top: bool,
    /// Of what it reads, only whether an element is positive.
    pub sign_only: bool,
}

impl Reads {
    /// Only gradients and the layer's own state.
    pub const NOTHING: Reads = Reads { bottom: false, top: false, sign_only: false };
    /// The bottoms.
    pub const BOTTOM: Reads = Reads { bottom: true, top: false, sign_only: false };
    /// The tops.
    pub const TOP: Reads = Reads { bottom: false, top: true, sign_only: false };
    /// Whether the tops are positive.
    pub const SIGN_OF_TOP: Reads = Reads { bottom: false, top: true, sign_only: true };
    /// Both.
    pub const BOTH: Reads = Reads { bottom: true, top: true, sign_only: false };
}

/// Which blobs of a layer may hold their channels in blocks, values and gradients alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InBlocks {
    /// None.
    Never,
    /// All of them or none, since it takes element by element, or all elements of a channel alike. It sees these channels in its bottoms and
    /// tops, one after the other; an empty list says that it does not matter.
    Alike(Vec<Channels>),
    /// Its bottom and its top, each for itself; what it adds along ([`Step::Add`]) as the top. It sees these channels in the two.
    Apart([Channels; 2]),
}

/// One kind of computation in a net.
///
/// A layer is made from its `LayerParameter` by the constructor in [`crate::layers::registry`], shaped once by
/// [`Layer::reshape`] (again if its bottoms change shape), and then run. It keeps what its backward needs from
/// forward in fields of its own, allocated in `reshape`, so that a steady iteration allocates nothing.
pub trait Layer<T: Real>: Send {
    /// How many bottoms it takes.
    fn bottoms(&self) -> RangeInclusive<usize> {
        1..=1
    }

    /// How many tops it gives.
    fn tops(&self) -> RangeInclusive<usize> {
        1..=1
    }

    /// Whether the net adds tops that the prototxt left out, up to the fewest it gives (losses).
    fn auto_tops(&self) -> bool {
        false
    }

    /// What its tops may share with its bottoms.
    fn sharing(&self) -> Sharing {
        Sharing::None
    }

    /// Which values its backward reads.
    fn reads(&self) -> Reads {
        Reads::BOTH
    }

    /// Whether, run in place, it leaves an element positive or not wherever its gradient is not zero. `Dropout`
    /// does: so a `ReLU` before it, which asks for the sign alone, still finds what it needs.
    fn keeps_sign(&self) -> bool {
        false
    }

    /// Of a layer without bottoms: whether each forward pass writes all values of this top anew. If not, they must stay
    /// from pass to pass, and the net gives them memory of their own.
    fn refills(&self, _top: usize) -> bool {
        false
    }

    /// Weight of a top in the loss where the prototxt gives none: 1 for the first top of a loss.
    fn loss_weight(&self, _top: usize) -> f32 {
        0.0
    }

    /// Whether a gradient with respect to this bottom exists: not for labels and other indices.
    fn differentiable(&self, _bottom: usize) -> bool {
        true
    }

    /// Top shapes from bottom shapes; creates parameters on the first call. Touches no values.
    fn reshape(&mut self, bottom: &[&Shape], setup: &mut Setup<T>) -> Result<Vec<Shape>>;

    /// Computes the tops.
    fn forward(&mut self, cx: &Context<T>, io: Forward<T>) -> Result<()>;

    /// Overwrites the bottom diffs that `propagate` asks for, adds to the diffs of the parameters that are learned.
    fn backward(&mut self, cx: &Context<T>, io: Backward<T>) -> Result<()>;

    /// Multiply-adds of a forward pass over one bottom by the direct method, where they are what the layer's time goes
    /// into; 0 for all others. Each gradient, with respect to parameters and to the bottom, takes as many again.
    fn multiply_adds(&self) -> u64 {
        0
    }

    /// What it does to each element, if another layer may do it along ([`Layer::absorbs`]).
    fn step(&self) -> Option<Step> {
        None
    }

    /// How many of the layers that follow in place on its top it can do along in its own passes, from the first on;
    /// `chain` says what they do, `need_backward` whether backward runs them and this one too.
    ///
    /// Where it takes some, each call may lend it their steps as `tail`, and their parameters and other bottoms behind its own: it then
    /// gives the last one's top, and its backward starts from the last one's gradient and does theirs too. A call
    /// with no tail is for it alone (`debug_info`); backward has the tail that forward had. What their backward reads
    /// of the top stays for it to read.
    fn absorbs(&self, _chain: &[Step], _need_backward: bool) -> usize {
        0
    }

    /// Whether, in a pass that backward follows, its forward may be lent a single [`Step::Relu`] of slope 0 that is in place on its top.
    /// The `ReLU` then goes backward by itself, and so does this layer, without a tail.
    fn ends_in_relu(&self) -> bool {
        false
    }

    /// Whether, with what it reads and writes lying so, its backward may be told to gate bottoms: to write 0 for the gradient of what is not
    /// positive in them. They were made by a `ReLU`, whose way back that is; their values, or others of the same sign, are there to be read.
    fn gates(&self, _layouts: Layouts) -> bool {
        false
    }

    /// Whether it reads and writes blobs whose channels lie in blocks ([`Layout::Blocks`](crate::math::Layout)) on the host, in all passes.
    /// Each call then says which of them lie so.
    fn blocks(&self) -> InBlocks {
        InBlocks::Never
    }

    /// Its code for a GPU, as it is set up; a layer that has none runs on the host.
    fn device_code(&mut self) -> Option<&mut dyn DeviceCode<T>> {
        None
    }

    /// Its batches, of a layer that makes them ahead of time: a device then takes the next one while it works on the one before.
    fn feed(&mut self) -> Option<&mut dyn Feed<T>> {
        None
    }

    /// Records handed out so far, for a layer that reads data: what a snapshot must keep.
    fn records(&self) -> Option<u64> {
        None
    }

    /// Goes on after this many records (resume).
    fn seek(&mut self, _records: u64) -> Result<()> {
        Ok(())
    }

    /// Reads only the share of one of `count` solvers that train together, of number `rank`: each `count`th record from there on. The seed
    /// that it was built with is that of all of them, so the order of the records is the same for all.
    fn set_share(&mut self, _rank: u64, _count: u64) {}

    /// Said once when the net is built, if something looks wrong but works.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
}

/// What a layer does on a GPU, in `<layer>_cuda.rs` beside it, with the kernels in `<layer>.cu`.
///
/// What a pass reads has been brought to the device, and what it writes has memory there; the views are those of
/// [`Inputs::device`](super::Inputs::device) and its like. What other layers' steps it does along it says in [`DeviceCode::leads`].
///
/// A pass may be captured in a graph and then repeated without these being called. So what they ask of the device must be the same in each
/// pass of the same shapes: the number of the pass is on the device for kernels to read
/// ([`Context::pass_on_device`]), memory of the layer's own is taken in the first pass and stays where it is, and nothing goes to the host.
pub trait DeviceCode<T: Real> {
    /// Looks at the bottoms that the host has, before each forward pass: labels, say. The others are empty there. What is wrong with one
    /// of those is to make the results NaN: the net, when it reads them, then asks once more, with all bottoms that have no gradient.
    fn check(&mut self, _bottom: &Inputs<'_, T>) -> Result<()> {
        Ok(())
    }

    /// Whether its forward pass does these steps of the layers behind it along, in its own kernels. It then gives the last one's top, and
    /// finds their parameters and what is added behind its own, as in [`Layer::absorbs`]. In a pass that backward follows it is asked for
    /// a single [`Step::Relu`] alone. Backward has no tail on a device: each layer does its own.
    fn leads(&self, _tail: &[Step]) -> bool {
        false
    }

    /// [`Layer::forward`] on the device.
    fn forward(&mut self, gpu: &Gpu, cx: &Context<T>, io: Forward<T>) -> Result<()>;

    /// [`Layer::backward`] on the device.
    fn backward(&mut self, gpu: &Gpu, cx: &Context<T>, io: Backward<T>) -> Result<()>;
}

/// A layer's data as it is made ahead of time. A net on a device asks it instead of calling [`Layer::forward`].
pub trait Feed<T> {
    /// The values of a top in the coming pass, in memory that the device copies from by itself; the same until [`Feed::advance`].
    fn peek(&mut self, gpu: &Gpu, top: usize) -> Result<&Pinned<T>>;

    /// The values were taken: goes on to the next pass.
    fn advance(&mut self);
}
