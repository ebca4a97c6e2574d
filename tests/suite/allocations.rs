//! A steady iteration allocates nothing, and weights are read without a second copy of them.

use cortado::blob::Weights;
use cortado::device::Pool;
use cortado::net::{Keep, Net};
use cortado::proto::caffe::SolverParameter;
use cortado::proto::{parse_net, read_net, read_solver};
use cortado::solver::{Silent, Solver};
use cortado::tools::open::load_weight_files;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Write;

/// The system's allocator, counting what the current thread asks of it.
struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    /// Bytes that this thread has taken and not given back, and the most of them at any time.
    static HELD: Cell<[isize; 2]> = const { Cell::new([0; 2]) };
}

fn count() -> u64 {
    COUNT.with(Cell::get)
}

fn add() {
    // A thread that is ending has no counter any more, and nobody asks for it.
    let _ = COUNT.try_with(|c| c.set(c.get() + 1));
}

fn hold(bytes: isize) {
    let _ = HELD.try_with(|h| {
        let [now, most] = h.get();
        h.set([now + bytes, most.max(now + bytes)]);
    });
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: everything is handed on to the system's allocator as it came; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add();
        hold(layout.size() as isize);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        hold(-(layout.size() as isize));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        add();
        hold(size as isize - layout.size() as isize);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(block, layout, size) }
    }
}

#[test]
fn the_counter_counts() {
    let before = count();
    let boxed = std::hint::black_box(Box::new(1));
    assert_eq!((count() - before, *boxed), (1, 1));
}

#[test]
fn forward_and_backward_of_every_layer() {
    // One thread, whose counter sees all of the work.
    Pool::new(1).unwrap().install(|| {
        for file in std::fs::read_dir("tests/gradients").unwrap().map(|f| f.unwrap().path()) {
            let mut param = read_net(&file).unwrap().message;
            param.force_backward = Some(true);
            let mut weights = Weights::<f32>::new();
            let mut net = Net::keeping(&param, 1, &mut weights, &Keep::Outputs).unwrap();
            let mut pass = |net: &mut Net<f32>| {
                let before = count();
                net.forward(&mut weights).and_then(|_| net.backward(&mut weights)).map(|()| count() - before)
            };
            // Some inputs of zeros are refused (labels of pairs); the others must settle after the first passes.
            if (0..3).all(|_| pass(&mut net).is_ok()) {
                assert_eq!(pass(&mut net).unwrap(), 0, "{}", file.display());
            }
        }
    });
}

#[test]
fn training_lenet_on_mnist() {
    let parsed = read_solver("nets/mnist/lenet_solver.prototxt").unwrap();
    let param = SolverParameter {
        display: Some(0),
        snapshot: Some(0),
        test_interval: Some(0),
        test_iter: vec![],
        train_net: parsed.message.net.clone(),
        net: None,
        ..parsed.message
    };
    Pool::new(1).unwrap().install(|| {
        for keep in [Keep::All, Keep::Outputs] {
            let solver = Solver::<f32>::keeping(&param, Some(&parsed.source), &mut Silent, &keep);
            let mut solver = solver.unwrap();
            solver.step(5, &mut Silent).unwrap();
            let few = allocations(&mut solver, 1);
            let many = allocations(&mut solver, 20);
            assert_eq!(few, many, "each iteration allocates with {keep:?}");
        }
    });
}

/// Allocations of so many iterations; what `step` itself takes is the same for any number.
fn allocations(solver: &mut Solver<f32>, iterations: usize) -> u64 {
    let before = count();
    solver.step(iterations, &mut Silent).unwrap();
    count() - before
}

/// A key with a length, as protobuf has it.
fn field(number: u64, len: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for mut n in [number << 3 | 2, len as u64] {
        while n > 127 {
            out.push(n as u8 & 127 | 128);
            n >>= 7;
        }
        out.push(n as u8);
    }
    out
}

/// A weight file with the parameter of 2000×2000 values of a layer "ip", side by side or each with a key of its own.
fn write_weights(path: &std::path::Path, packed: bool) {
    let values = (0..2000 * 2000).map(|i| (i as f32 * 0.25).to_le_bytes());
    let data: Vec<u8> = match packed {
        true => values.flatten().collect(),
        false => values.flat_map(|[a, b, c, d]| [5 << 3 | 5, a, b, c, d]).collect(),
    };
    let shape = [field(7, 6), field(1, 4), vec![0xd0, 0x0f, 0xd0, 0x0f]].concat();
    let key = if packed { field(5, data.len()) } else { Vec::new() };
    let blob = shape.len() + key.len() + data.len();
    let head = [field(1, 2), b"ip".to_vec(), field(7, blob)].concat();
    let mut file = std::fs::File::create(path).unwrap();
    for part in [field(100, head.len() + blob), head, shape, key, data] {
        file.write_all(&part).unwrap();
    }
}

#[test]
fn weights_are_read_to_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("big.caffemodel");
    let net = "layer { name: 'x' type: 'Input' top: 'x' input_param { shape { dim: 1 dim: 2000 } } }
        layer { name: 'ip' type: 'InnerProduct' bottom: 'x' top: 'y'
          inner_product_param { num_output: 2000 bias_term: false } }";
    let net = parse_net(net, "test").unwrap().message;
    for packed in [true, false] {
        write_weights(&path, packed);
        let mut weights = Weights::<f32>::new();
        let net = Net::new(&net, 1, &mut weights).unwrap();
        weights.iter_mut().for_each(|p| p.data.allocate());
        let before = HELD.get()[0];
        HELD.set([before; 2]);
        let reports = load_weight_files(&net, &mut weights, std::slice::from_ref(&path)).unwrap();
        let taken = HELD.get()[1] - before;
        assert_eq!(reports[0].loaded, ["ip"]);
        let values = weights.iter().next().unwrap().data.host();
        assert!(values.iter().enumerate().all(|(i, &v)| v == i as f32 * 0.25));
        // The file and the values are 16 MB and more.
        assert!(taken < 1 << 20, "{taken} bytes at once, packed: {packed}");
    }
}
