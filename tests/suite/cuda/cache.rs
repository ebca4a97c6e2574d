//! Compiled kernels are kept on the disk.

use super::training::lenet;
use cortado::device::Gpu;
use cortado::solver::{Event, Solver};
use std::path::Path;

/// The first losses of a run that keeps its kernels in a folder, and how many programs were compiled for it.
fn run(folder: Option<&Path>) -> (Vec<f64>, u32) {
    let before = super::compiled();
    let gpu = Gpu::open_caching(0, folder.map(Path::to_path_buf)).unwrap();
    let mut losses = Vec::new();
    let mut watch = |event: &Event<'_>| {
        if let Event::Iterated { loss, .. } = event {
            losses.push(*loss);
        }
    };
    let mut solver = Solver::<f32>::new(&lenet(), None, &mut watch).unwrap();
    solver.set_device(Some(&gpu)).unwrap();
    solver.step(2, &mut watch).unwrap();
    (losses, super::compiled() - before)
}

#[test]
fn kernels_are_compiled_once() {
    if super::gpu().is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let first = run(Some(dir.path()));
    let mut files: Vec<_> =
        std::fs::read_dir(dir.path().join("kernels")).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    assert!(files.len() > 5, "{files:?}");
    let second = run(Some(dir.path()));
    assert_eq!(first.0, second.0);
    // What is damaged is compiled again, and then whole again.
    let whole = std::fs::read(&files[0]).unwrap();
    std::fs::write(&files[0], &whole[..whole.len() / 2]).unwrap();
    std::fs::write(&files[1], b"").unwrap();
    let third = run(Some(dir.path()));
    assert_eq!(third.0, first.0);
    assert_eq!(std::fs::read(&files[0]).unwrap().len(), whole.len());
    if super::runs("").is_some() {
        assert_eq!([first.1, second.1, third.1], [files.len() as u32, 0, 2]);
        assert_eq!(run(None).1, files.len() as u32, "without a folder all are compiled");
        // A folder that cannot be written to hinders nothing.
        assert_eq!(run(Some(&files[0])), (first.0, files.len() as u32));
    }
}
