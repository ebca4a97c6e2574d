//! The table of subcommands: what they are called, which flags they take, and examples.

use super::{Run, device_query, gradcheck, layers, run, summary, test, time, train, upgrade};

/// A flag. `-name value`, `--name value`, `-name=value` and `--name=value` all mean the same.
#[derive(Debug)]
pub struct Flag {
    /// Name, as Caffe has it where it has it.
    pub name: &'static str,
    /// What its value is; empty for a flag without one.
    pub value: &'static str,
    /// Whether the subcommand cannot do without.
    pub required: bool,
    /// One line of help.
    pub help: &'static str,
}

/// A subcommand.
#[derive(Debug)]
pub struct Command {
    /// Name.
    pub name: &'static str,
    /// What it does.
    pub about: &'static str,
    /// Its arguments without a flag: name and help; all are required.
    pub arguments: &'static [(&'static str, &'static str)],
    /// Its flags.
    pub flags: &'static [Flag],
    /// Examples for `--help`.
    pub examples: &'static [&'static str],
    pub(super) run: Run,
}

const fn flag(name: &'static str, value: &'static str, help: &'static str) -> Flag {
    Flag { name, value, required: false, help }
}

const fn required(name: &'static str, value: &'static str, help: &'static str) -> Flag {
    Flag { name, value, required: true, help }
}

const THREADS: Flag = flag("threads", "N", "threads that compute; one for each core if not given");
const GPU: Flag = flag("gpu", "ID", "NVIDIA GPU to run on, from 0; on the CPU if not given");
const GPUS: Flag = flag(
    "gpu",
    "IDS",
    "NVIDIA GPU to train on, from 0, several with commas between, or all; on the CPU if not given",
);
const GRAPHS: Flag = flag(
    "graphs",
    "WHEN",
    "auto or off: on a GPU, repeat whole iterations from a CUDA graph where the net allows it [default: auto]",
);
const TF32: Flag = flag(
    "tf32",
    "",
    "on a GPU, round to TF32 what convolutions and inner products multiply; sums and results stay in single precision",
);
const AMP: Flag = flag(
    "amp",
    "TYPE",
    "bf16 or off: on a GPU, the same in bfloat16; weights stay in single precision [default: off]",
);
const WORKSPACE: Flag = flag(
    "workspace",
    "SIZE",
    "on a GPU, memory that convolutions and inner products may work in, one for all (1G, 64M, or a number of MiB) [default: 256M]",
);
const CUDNN: Flag = flag(
    "cudnn",
    "HOW",
    "search, forecast or off: on a GPU, convolutions by cuDNN where it is installed, with the algorithms that are the fastest when tried, or those that it expects to be [default: search]",
);
const CUBLASLT: Flag = flag(
    "cublaslt",
    "WHEN",
    "auto or off: on a GPU, inner products by cuBLASLt where it is installed [default: auto]",
);
const LEVEL: Flag = flag("level", "N", "level of the net's state, for include and exclude rules");
const STAGE: Flag = flag("stage", "A,B", "stages of the net's state, for include and exclude rules");
const WEIGHTS: Flag =
    flag("weights", "A,B", "weights to start from (.caffemodel), several with commas between");
const MODEL: Flag = required("model", "NET", "the net (prototxt)");
const ITERATIONS: Flag = flag("iterations", "N", "how many iterations [default: 50]");

/// The subcommands.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "train",
        about: "Train a net as a solver says",
        arguments: &[],
        flags: &[
            required("solver", "SOLVER", "the solver (prototxt)"),
            flag("snapshot", "STATE", "resume from this snapshot (.solverstate)"),
            WEIGHTS,
            flag(
                "sigint_effect",
                "EFFECT",
                "what Ctrl-C does: stop (after a snapshot), snapshot or none [default: stop]",
            ),
            flag(
                "sighup_effect",
                "EFFECT",
                "what SIGHUP does: snapshot (and go on), stop or none [default: snapshot]",
            ),
            LEVEL,
            STAGE,
            GPUS,
            WORKSPACE,
            CUDNN,
            CUBLASLT,
            GRAPHS,
            TF32,
            AMP,
            THREADS,
        ],
        examples: &[
            "cortado train --solver nets/mnist/lenet_solver.prototxt",
            "cortado train -solver solver.prototxt -weights pretrained.caffemodel",
            "cortado train -solver solver.prototxt -snapshot snap_iter_5000.solverstate",
            "cortado train -solver solver.prototxt -gpu 0,1",
        ],
        run: train::run,
    },
    Command {
        name: "test",
        about: "Score a net with given weights",
        arguments: &[],
        flags: &[
            MODEL,
            required("weights", "A,B", "the weights (.caffemodel)"),
            ITERATIONS,
            LEVEL,
            STAGE,
            GPU,
            GRAPHS,
            TF32,
            AMP,
            WORKSPACE,
            CUDNN,
            CUBLASLT,
            THREADS,
        ],
        examples: &[
            "cortado test -model nets/mnist/lenet_train_test.prototxt -weights lenet.caffemodel -iterations 100",
        ],
        run: test::run,
    },
    Command {
        name: "time",
        about: "Measure how long each layer of a net takes",
        arguments: &[],
        flags: &[
            MODEL,
            WEIGHTS,
            ITERATIONS,
            flag("phase", "PHASE", "TRAIN, or TEST: forward alone [default: TRAIN]"),
            flag("batch", "N", "samples of the inputs (Input, DummyData, Data) instead of those of the net"),
            flag(
                "ceiling",
                "WHEN",
                "auto or off: measure what the processor can do, for shares of it: the fused multiply-adds of the \
                 engine's matrix kernel on data in the first-level cache of one core, times the threads [default: auto]",
            ),
            flag("json", "", "print one JSON object to standard output"),
            LEVEL,
            STAGE,
            GPU,
            WORKSPACE,
            CUDNN,
            CUBLASLT,
            GRAPHS,
            TF32,
            AMP,
            THREADS,
        ],
        examples: &[
            "cortado time -model nets/alexnet/deploy.prototxt -iterations 10",
            "cortado time -model net.prototxt -phase TEST -batch 1 --threads 1 --json",
        ],
        run: time::run,
    },
    Command {
        name: "run",
        about: "Run a net once on arrays (.npz)",
        arguments: &[("NET", "the net (prototxt)")],
        flags: &[
            WEIGHTS,
            flag("phase", "PHASE", "TRAIN or TEST [default: TEST]"),
            flag("input", "NPZ", "arrays in/BLOB, param/LAYER/I and topdiff/BLOB; others are ignored"),
            flag("output", "NPZ", "where out/BLOB, param_after/LAYER/I, grad/BLOB and pgrad/LAYER/I go"),
            flag("backward", "", "run backward too, down to the inputs"),
            flag("seed", "N", "seed of all random numbers [default: 1]"),
            LEVEL,
            STAGE,
            GPU,
            TF32,
            AMP,
            WORKSPACE,
            CUDNN,
            CUBLASLT,
            THREADS,
        ],
        examples: &[
            "cortado run deploy.prototxt --weights net.caffemodel --input images.npz --output scores.npz",
            "cortado run net.prototxt --phase TRAIN --input case.npz --output out.npz --backward",
        ],
        run: run::run,
    },
    Command {
        name: "gradcheck",
        about: "Compare the gradients of a net's layers with central differences",
        arguments: &[("NET", "the net (prototxt)")],
        flags: &[
            flag("layer", "NAME", "check this layer only"),
            flag("step", "H", "half the distance of the two points of a difference [default: 1e-3]"),
            flag("threshold", "E", "largest relative error [default: 1e-4]"),
            flag("seed", "N", "seed of values and samples [default: 1701]"),
            flag("phase", "PHASE", "TRAIN or TEST [default: TRAIN]"),
            LEVEL,
            STAGE,
            GPU,
            WORKSPACE,
            CUDNN,
            CUBLASLT,
            THREADS,
        ],
        examples: &[
            "cortado gradcheck tests/gradients/Convolution.prototxt",
            "cortado gradcheck nets/alexnet/deploy.prototxt --layer conv2",
        ],
        run: gradcheck::run,
    },
    Command {
        name: "device_query",
        about: "Show what is known of the GPUs",
        arguments: &[],
        flags: &[flag("gpu", "IDS", "numbers of GPUs with commas between, or all [default: all]")],
        examples: &["cortado device_query -gpu 0"],
        run: device_query::run,
    },
    Command {
        name: "upgrade",
        about: "Bring a net or solver of an older format to today's",
        arguments: &[
            ("IN", "net or solver, as prototxt or binary (.caffemodel)"),
            ("OUT", "where it goes, in the same form"),
        ],
        flags: &[],
        examples: &[
            "cortado upgrade old_net.prototxt net.prototxt",
            "cortado upgrade v1.caffemodel v2.caffemodel",
        ],
        run: upgrade::run,
    },
    Command {
        name: "summary",
        about: "Print a table of a net: layers, shapes, parameters",
        arguments: &[("NET", "the net (prototxt)")],
        flags: &[flag("phase", "PHASE", "TRAIN or TEST [default: TRAIN]"), LEVEL, STAGE],
        examples: &["cortado summary nets/googlenet/deploy.prototxt --phase TEST"],
        run: summary::run,
    },
    Command {
        name: "layers",
        about: "List the layer types",
        arguments: &[],
        flags: &[],
        examples: &["cortado layers"],
        run: layers::run,
    },
];
