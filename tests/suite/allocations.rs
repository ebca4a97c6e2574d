//! A steady iteration allocates nothing.

use cortado::blob::Weights;
use cortado::device::Pool;
use cortado::net::{Keep, Net};
use cortado::proto::caffe::SolverParameter;
use cortado::proto::{read_net, read_solver};
use cortado::solver::{Silent, Solver};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, counting what the current thread asks of it.
struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

fn count() -> u64 {
    COUNT.with(Cell::get)
}

fn add() {
    // A thread that is ending has no counter any more, and nobody asks for it.
    let _ = COUNT.try_with(|c| c.set(c.get() + 1));
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: everything is handed on to the system's allocator as it came; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        add();
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
