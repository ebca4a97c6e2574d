//! A temporary folder with a tiny net on 200 digits, and the binary run in it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

pub const IMAGES: &str = "mnist200-images-idx3-ubyte";
pub const LABELS: &str = "mnist200-labels-idx1-ubyte";

/// A perceptron with dropout on shuffled digits. The data layer is on lines 2 and 3, each other layer on one line.
pub const NET: &str = r#"name: "tiny"
layer { name: "data" type: "Data" top: "data" top: "label" transform_param { scale: 0.00390625 }
  data_param { source: "mnist200-images-idx3-ubyte" backend: IDX batch_size: 10 shuffle: true } }
layer { name: "ip1" type: "InnerProduct" bottom: "data" top: "ip1" inner_product_param { num_output: 12 weight_filler { type: "xavier" } } }
layer { name: "relu1" type: "ReLU" bottom: "ip1" top: "ip1" }
layer { name: "drop" type: "Dropout" bottom: "ip1" top: "ip1" }
layer { name: "ip2" type: "InnerProduct" bottom: "ip1" top: "ip2" inner_product_param { num_output: 10 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip2" bottom: "label" top: "loss" }
layer { name: "acc" type: "Accuracy" bottom: "ip2" bottom: "label" top: "acc" include { phase: TEST } }
"#;

/// Trains it for 4 iterations and leaves `snap_iter_4.caffemodel` and `snap_iter_4.solverstate`.
pub const SOLVER: &str = r#"net: "net.prototxt"
base_lr: 0.05
momentum: 0.9
lr_policy: "fixed"
max_iter: 4
snapshot_prefix: "snap"
random_seed: 1
"#;

/// A net of one layer, which needs no data.
pub const SMALL: &str =
    "layer { name: 'data' type: 'Input' top: 'x' input_param { shape { dim: 2 dim: 3 } } }
layer { name: 'relu' type: 'ReLU' bottom: 'x' top: 'y' }
";

/// What a run of the binary came to.
#[derive(Debug)]
pub struct Done {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    pub fn of(output: Output) -> Done {
        let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
        Done { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Asserts success.
    pub fn ok(self) -> Done {
        assert_eq!(self.code, Some(0), "{}\n{}", self.stdout, self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self
    }
}

/// A temporary folder that the binary runs in.
pub struct Folder(TempDir);

impl Folder {
    /// With nothing in it.
    pub fn empty() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    /// With the digits, `net.prototxt` and `solver.prototxt`.
    pub fn new() -> Folder {
        let folder = Folder::empty();
        folder.write("net.prototxt", NET);
        folder.write("solver.prototxt", SOLVER);
        for name in [IMAGES, LABELS] {
            std::fs::copy(repository("tests/golden/interop").join(name), folder.path(name)).unwrap();
        }
        folder
    }

    /// And trained: with the snapshot `snap_iter_4`.
    pub fn trained() -> Folder {
        let folder = Folder::new();
        folder.cortado("train -solver solver.prototxt").ok();
        folder
    }

    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// Keeps the first bytes of a file.
    pub fn cut(&self, name: &str, bytes: usize) {
        self.write(name, &self.read(name)[..bytes]);
    }

    /// Writes the solver with other lines, `field: value` each; the fields named replace those it has.
    pub fn solver(&self, name: &str, lines: &str) {
        let field = |line: &str| line.split(':').next().unwrap_or_default().trim().to_string();
        let given: Vec<String> = lines.lines().map(field).collect();
        let kept = SOLVER.lines().filter(|line| !given.contains(&field(line)));
        let text: Vec<&str> = kept.chain(lines.lines()).collect();
        self.write(name, text.join("\n") + "\n");
    }

    /// A command that runs the binary here; the words have blanks between, `@path` is a path in the repository.
    pub fn command(&self, words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cortado"));
        command.current_dir(self.0.path()).stdin(Stdio::null());
        for word in words.split_whitespace() {
            match word.strip_prefix('@') {
                Some(path) => command.arg(repository(path)),
                None => command.arg(word),
            };
        }
        command
    }

    /// Runs the binary here.
    pub fn cortado(&self, words: &str) -> Done {
        Done::of(self.command(words).output().unwrap())
    }

    /// Runs a command line that must end with exit code 1 and exactly one error, on standard error, that has all these
    /// parts.
    pub fn refused(&self, words: &str, parts: &[&str]) {
        let done = self.cortado(words);
        let all = &done.stderr;
        assert_eq!(done.code, Some(1), "{words}: {all}");
        assert!(!all.contains("panicked"), "{words}: {all}");
        assert_eq!(done.stdout, "", "{words}: an error belongs on standard error");
        let errors: Vec<usize> =
            all.match_indices("error: ").map(|(at, _)| at).filter(|&at| starts_line(all, at)).collect();
        assert_eq!(errors.len(), 1, "{words}: {all}");
        // The error is the last that is said.
        let error = &all[errors[0]..];
        assert!(!error.contains(".cpp:"), "{words}: {error}");
        for part in parts {
            assert!(error.contains(part), "{words}: no {part:?} in\n{error}");
        }
    }

    /// Writes a net as `net.prototxt` and a run of it must be refused.
    pub fn net_refused(&self, net: &str, parts: &[&str]) {
        self.write("net.prototxt", net);
        self.refused("run net.prototxt", parts);
    }
}

fn starts_line(text: &str, at: usize) -> bool {
    at == 0 || text.as_bytes()[at - 1] == b'\n'
}

/// A path in the repository.
pub fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The number behind a text in a line, as 20 behind `Iteration ` in `Iteration 20, lr = 0.1`.
pub fn number_behind(line: &str, text: &str) -> usize {
    let rest = line.split(text).nth(1).unwrap_or_else(|| panic!("no {text:?} in {line}"));
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("no number behind {text:?} in {line}"))
}
