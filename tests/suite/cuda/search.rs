//! The search for the fastest algorithm of a convolution.

use super::convolutions::{
    TWO, WAYS, all_dnn_runs, distance, dnn_runs, forecasting, largest_workspace, pass, takes,
};
use super::graphs;
use super::training::lenet;
use cortado::device::Gpu;
use std::path::Path;

/// How often each algorithm of each direction has run.
fn runs() -> Vec<[u32; 8]> {
    WAYS.iter().map(|&way| std::array::from_fn(|algorithm| dnn_runs(way, algorithm as i32))).collect()
}

/// How often each has since `before`.
fn since(before: &[[u32; 8]]) -> Vec<[u32; 8]> {
    runs().iter().zip(before).map(|(now, before)| std::array::from_fn(|i| now[i] - before[i])).collect()
}

/// Has the second in the order of the library be the fastest in each direction, or not any more. What may not be taken would be faster still.
fn second_best(on: bool) {
    for (way, algorithm, ms) in [(0, 7, 9.0), (0, 2, 1.0), (1, 5, 9.0), (1, 1, 1.0), (2, 5, 9.0), (2, 1, 1.0)]
    {
        takes(way, algorithm, if on { ms } else { 0.0 });
    }
    for (way, algorithm) in [(1, 0), (2, 0), (2, 3), (0, 4)] {
        takes(way, algorithm, if on { 0.01 } else { 0.0 });
    }
}

#[test]
fn the_fastest_is_taken_and_looked_for_once() {
    let (Some(gpu), Some(forecast)) = (super::gpu(), forecasting()) else { return };
    if super::real() {
        return;
    }
    let text = TWO.replace("ENGINE", "");
    let expected = pass(&text, Some(&forecast)).unwrap();
    second_best(true);
    let (before, held) = (runs(), gpu.bytes());
    assert!(pass(&text, Some(&gpu)).unwrap() == expected, "trying changes nothing");
    // Of each convolution: a run before those that are timed, three of them, one where it can no longer be the fastest, and what was asked for.
    let mut looked = vec![[0; 8]; 3];
    looked[0][7] = 2 * 4;
    looked[0][2] = 2 * (4 + 1);
    looked[0][1] = 2 * 2;
    looked[0][0] = 2 * 2;
    for way in [1, 2] {
        looked[way][5] = 2 * 4;
        looked[way][1] = 2 * (4 + 1);
    }
    assert_eq!(since(&before), looked);
    // What was tried is not held: the largest of those that are taken is the second layer's forward one, the columns of an image.
    assert_eq!(gpu.bytes() - held, 57_600);
    // Another net with such convolutions, whatever the clocks say now.
    second_best(false);
    let before = runs();
    assert!(pass(&text, Some(&gpu)).unwrap() == expected);
    let mut known = vec![[0; 8]; 3];
    (known[0][2], known[1][1], known[2][1]) = (2, 2, 2);
    assert_eq!(since(&before), known);
    // Another device has another answer.
    let before = runs();
    pass(&text, Some(&super::gpu().unwrap())).unwrap();
    let now = since(&before);
    assert_eq!([now[0][7], now[1][5], now[2][5]], [2 * 5; 3], "as the library expects");
}

#[test]
fn what_is_tried_fits_into_the_workspace() {
    for (limit, tried) in
        [(0, [0, 0, 0, 0]), (14_400, [0, 0, 0, 1]), (57_600, [0, 0, 1, 1]), (4 * 57_600, [1, 1, 1, 1])]
    {
        let Some(gpu) = super::gpu() else { return };
        if super::real() {
            return;
        }
        gpu.set_workspace(limit);
        let before = runs();
        pass(&TWO.replace("ENGINE", ""), Some(&gpu)).unwrap();
        assert!(largest_workspace() <= limit, "{} bytes of {limit}", largest_workspace());
        let now = since(&before);
        let ran = [now[0][7] > 5, now[1][5] > 5, now[1][1] > 1, now[0][2] > 0].map(u32::from);
        assert_eq!(ran, tried, "{limit} bytes: {now:?}");
    }
}

/// Two convolutions that share their filters, so that the gradient of the one is added to the other's.
const SHARED: &str = "force_backward: true
    layer { name: 'x' type: 'Input' top: 'x' input_param { shape { dim: 2 dim: 3 dim: 7 dim: 7 } } }
    layer { name: 'a' type: 'Convolution' bottom: 'x' top: 'a' param { name: 'w' } convolution_param { num_output: 3 kernel_size: 3 pad: 1 bias_term: false } }
    layer { name: 'b' type: 'Convolution' bottom: 'a' top: 'b' param { name: 'w' } convolution_param { num_output: 3 kernel_size: 3 bias_term: false } }";

#[test]
fn trying_adds_nothing_to_gradients() {
    let (Some(gpu), Some(forecast)) = (super::gpu(), forecasting()) else { return };
    let (host, with, without) = (pass(SHARED, None), pass(SHARED, Some(&gpu)), pass(SHARED, Some(&forecast)));
    let (host, with, without) = (host.unwrap(), with.unwrap(), without.unwrap());
    assert!(distance(&host, &with) < 3e-6 && distance(&host, &without) < 3e-6);
    assert!(super::real() || with == without);
}

#[test]
fn training_is_the_same_with_the_search() {
    let (Some(gpu), Some(forecast)) = (super::gpu(), forecasting()) else { return };
    let expected = graphs::train(&lenet(), &forecast, true, 5);
    second_best(true);
    let found = graphs::same(&lenet(), &gpu, 5);
    second_best(false);
    assert_eq!(found.iterations, expected.iterations);
    if !super::real() {
        // The stand-in's algorithms differ in nothing but their time.
        assert!(found.losses == expected.losses && found.weights == expected.weights);
    }
}

#[test]
fn what_was_found_is_kept_on_the_disk() {
    if super::gpu().is_none() || super::real() {
        return;
    }
    let (text, folder) = (TWO.replace("ENGINE", ""), tempfile::tempdir().unwrap());
    let counted = |folder: &Path| {
        let before = all_dnn_runs();
        pass(&text, Some(&Gpu::open_caching(0, Some(folder.into())).unwrap())).unwrap();
        all_dnn_runs() - before
    };
    second_best(true);
    let first = counted(folder.path());
    second_best(false);
    let chosen = dnn_runs(0, 2);
    assert!(first > 50, "{first}");
    // Another process does what the first one did.
    assert_eq!((counted(folder.path()), dnn_runs(0, 2) - chosen), (6, 2));
    let mut files: Vec<_> =
        std::fs::read_dir(folder.path().join("convolutions")).unwrap().map(|f| f.unwrap().path()).collect();
    assert_eq!(files.len(), 6);
    files.sort();
    // What is damaged is looked for again, and what cannot be kept each time.
    std::fs::write(&files[0], b"7").unwrap();
    assert!(counted(folder.path()) > 6);
    assert_eq!(counted(folder.path()), 6);
    assert!(counted(&files[0]) > 6 && counted(&files[0]) > 6);
    // Another limit is another question.
    let gpu = Gpu::open_caching(0, Some(folder.path().into())).unwrap();
    gpu.set_workspace(57_600);
    pass(&text, Some(&gpu)).unwrap();
    assert!(std::fs::read_dir(folder.path().join("convolutions")).unwrap().count() > 6);
}
