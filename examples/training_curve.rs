//! Draws the loss and the test accuracy of a training log as an SVG picture.
//!
//! ```text
//! cortado train --solver nets/mnist/lenet_solver.prototxt 2> lenet.log
//! cargo run --release --example training_curve lenet.log docs/pictures/lenet.svg
//! ```
//!
//! It reads Caffe's log lines, so logs of Caffe itself work too.

use std::fmt::Write;
use std::{env, fs, process::ExitCode};

/// (iteration, value) pairs of one curve.
type Curve = Vec<(f64, f64)>;

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let [log, picture] = args.as_slice() else {
        eprintln!("usage: training_curve LOG PICTURE.svg");
        return ExitCode::FAILURE;
    };
    let done = fs::read_to_string(log).map(|text| draw(&read(&text))).and_then(|svg| fs::write(picture, svg));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{log} to {picture}: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Smoothed training loss, and test accuracy.
fn read(log: &str) -> (Curve, Curve) {
    let (mut loss, mut accuracy) = (Curve::new(), Curve::new());
    let mut tested = 0.0;
    for line in log.lines() {
        let after = |mark: &str| line.split_once(mark).map(|(_, rest)| rest);
        let number = |text: &str| {
            let end = text.find(|c: char| !(c.is_ascii_digit() || ".e+-".contains(c))).unwrap_or(text.len());
            text[..end].parse::<f64>().ok()
        };
        if let Some(iteration) = after("Iteration ").and_then(number) {
            if line.contains("Testing net") {
                tested = iteration;
            } else if let Some(value) = after("loss = ").and_then(number) {
                loss.push((iteration, value));
            }
        } else if let Some(value) = after("Test net output").and_then(|r| r.split_once("accuracy = ")) {
            accuracy.extend(number(value.1).map(|v| (tested, v)));
        }
    }
    (loss, accuracy)
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 70.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;

/// Loss on a logarithmic axis to the left, test error (1 − accuracy) to the right, logarithmic as well.
fn draw((loss, accuracy): &(Curve, Curve)) -> String {
    let error: Curve = accuracy.iter().map(|&(i, a)| (i, (1.0 - a).max(1e-4))).collect();
    let last = loss.iter().chain(&error).fold(1.0f64, |m, p| m.max(p.0));
    let x = |i: f64| LEFT + (WIDTH - LEFT - RIGHT) * i / last;
    let y = |v: f64| {
        let (lo, hi) = (1e-3f64.ln(), 3f64.ln());
        TOP + (HEIGHT - TOP - BOTTOM) * (hi - v.clamp(1e-3, 3.0).ln()) / (hi - lo)
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    for (value, label) in [(1.0, "100 %"), (0.1, "10 %"), (0.01, "1 %"), (0.001, "0.1 %")] {
        let (x1, x2, at) = (LEFT, WIDTH - RIGHT, y(value));
        let _ = writeln!(svg, "<path d=\"M{x1} {at:.1}H{x2}\" stroke=\"#ddd\"/>");
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#2166ac\">{value}</text>",
            x1 - 8.0,
            at + 4.0
        );
        let _ =
            writeln!(svg, "<text x=\"{}\" y=\"{:.1}\" fill=\"#b2182b\">{label}</text>", x2 + 8.0, at + 4.0);
    }
    for k in 0..=5 {
        let i = last * f64::from(k) / 5.0;
        let (at, base) = (x(i), HEIGHT - BOTTOM + 18.0);
        let _ = writeln!(
            svg,
            "<text x=\"{at:.1}\" y=\"{base}\" text-anchor=\"middle\" fill=\"#555\">{i:.0}</text>"
        );
    }
    for (curve, colour, width) in [(loss, "#2166ac", 1.2), (&error, "#b2182b", 2.0)] {
        let points: String = curve.iter().map(|&(i, v)| format!("{:.1},{:.1} ", x(i), y(v))).collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\"/>",
            points.trim_end()
        );
    }
    let (middle, bottom) = ((LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 12.0);
    let _ = writeln!(
        svg,
        "<text x=\"{middle}\" y=\"{bottom}\" text-anchor=\"middle\" fill=\"#555\">iteration</text>"
    );
    let _ = writeln!(svg, "<text x=\"{LEFT}\" y=\"22\" fill=\"#2166ac\">training loss</text>");
    let end =
        accuracy.last().map_or(String::new(), |a| format!(" (accuracy at the end {:.2} %)", 100.0 * a.1));
    let right = WIDTH - RIGHT;
    let _ = writeln!(
        svg,
        "<text x=\"{right}\" y=\"22\" text-anchor=\"end\" fill=\"#b2182b\">test error{end}</text>"
    );
    svg + "</svg>\n"
}
