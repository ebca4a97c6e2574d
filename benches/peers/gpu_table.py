#!/usr/bin/env python3
"""Times training on a GPU beside PyTorch: each net of benches/peers/nets in turn, and a table with ratios.

    python3 benches/peers/gpu_table.py [--device cuda] [--nets lenet mlp ...] [--iterations 30] [--seconds 240] [--json FILE]

For each net: forward and backward (`cortado time`, layer by layer and as a CUDA graph), and whole steps with SGD (`cortado train`), in
single precision, with TF32 and with bf16; PyTorch the same, each as it is and in channels_last. A ratio is that to Cortado in the same precision: above 1
means that Cortado is faster. Both find their batch on the device. After `--seconds` no further net is begun.
`--device cpu` runs all of it without a GPU, to see that it works; its figures mean little. CORTADO names another binary.
"""

import argparse
import contextlib
import io
import json
import os
import re
import runpy
import subprocess
import sys
import tempfile
import time

from programs import HERE, bench_net, binary, compile_schema, installed

NETS = ["lenet", "mlp", "cifar", "alexnet", "googlenet", "resnet50", "vgg16", "mobilenet", "squeezenet"]
PRECISIONS = {"f32": [], "TF32": ["--tf32"], "bf16": ["--amp"]}  # flags of torch_net.py
OURS = {"f32": [], "TF32": ["--tf32"], "bf16": ["--amp", "bf16"]}
LAYOUTS = {"": [], " channels_last": ["--channels-last"]}


def device_flags(device):
    return ["-gpu", device.partition(":")[2] or "0"] if device.startswith("cuda") else []


def run(command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr[-1500:]}")
    return done


def with_inputs(schema, name, folder):
    """The net with its batch as inputs, which a device has once and for all; its path."""
    sys.path.insert(0, schema)
    import caffe_pb2
    from google.protobuf import text_format

    with open(bench_net(name)) as file:
        net = text_format.Parse(file.read(), caffe_pb2.NetParameter())
    for layer in net.layer:
        if layer.type == "DummyData":
            shapes = list(layer.dummy_data_param.shape)
            layer.ClearField("dummy_data_param")
            layer.type = "Input"
            layer.input_param.shape.extend(shapes)
    path = os.path.join(folder, f"{name}.prototxt")
    with open(path, "w") as file:
        file.write(text_format.MessageToString(net))
    return path


def cortado(net, iterations, device, precision, folder):
    """Milliseconds of forward and backward, layer by layer and as a graph, and of a whole step."""
    flags = device_flags(device)
    flags += OURS[precision] if flags else []  # a CPU has one precision
    done = run([binary(), "time", "-model", net, "-iterations", str(iterations), "--ceiling", "off", "--json", *flags])
    times = json.loads(done.stdout)
    solver = os.path.join(folder, "solver.prototxt")
    with open(solver, "w") as file:
        file.write(f'train_net: "{net}"\nbase_lr: 0.0001\nmomentum: 0.9\nweight_decay: 0.0005\nlr_policy: "fixed"\n'
                   f'display: {iterations}\nmax_iter: {2 * iterations + 1}\nsnapshot_after_train: false\nrandom_seed: 1\n')
    log = run([binary(), "train", "-solver", solver, *flags]).stderr
    # The first display is of the first iteration, the second of the warm-up too; the last is of steady iterations alone.
    rates = re.findall(r"Iteration \d+ \(([0-9.e+-]+) iter/s", log)
    return {"layers": times["forward_backward_ms"], "graph": times["graph_ms"], "step": 1e3 / float(rates[-1]),
            "bytes": times["device_bytes"]}


def torch_run(schema, net, device, iterations, flags):
    """Median milliseconds of an iteration of torch_net.py, run in this process, and the most bytes its tensors took on the GPU; None and
    None where they find no room."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    said, kept = io.StringIO(), sys.argv
    sys.argv = ["torch_net.py", schema, net, "--device", device, "--iters", str(iterations), *flags]
    try:
        with contextlib.redirect_stdout(said):
            runpy.run_path(os.path.join(HERE, "torch_net.py"))
    except torch.OutOfMemoryError:
        return None, None
    finally:
        sys.argv = kept
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
    return float(re.search(r"median ([0-9.]+) ms", said.getvalue()).group(1)), peak


def measure(schema, name, args, folder):
    net, ours, peers = with_inputs(schema, name, folder), {}, {}
    for precision, some in PRECISIONS.items():
        ours[precision] = cortado(net, args.iterations, args.device, precision, folder)
        for layout, more in LAYOUTS.items():
            flags = some + more
            passes, peak = torch_run(schema, bench_net(name), args.device, args.iterations, flags)
            step, _ = torch_run(schema, bench_net(name), args.device, args.iterations, [*flags, "--solver-step"])
            peers[precision + layout] = {"passes": passes, "step": step, "bytes": peak}
    return {"net": name, "Cortado": ours, "PyTorch": peers}


def table(records, what):
    """Rows of nets, for "passes", "step" or "bytes"."""
    unit = 1 << 20 if what == "bytes" else 1
    heads = [head for p in PRECISIONS for head in [f"Cortado {p}", *(f"PyTorch {p}{layout}" for layout in LAYOUTS)]]
    lines = ["| net | " + " | ".join(heads) + " |", "|---|" + "---:|" * len(heads)]
    for r in records:
        cells = []
        for precision in PRECISIONS:
            own = r["Cortado"][precision]
            ours = own["graph"] or own["layers"] if what == "passes" else own[what]
            cells.append(f"{(ours or 0) / unit:.2f}")
            for layout in LAYOUTS:
                v = r["PyTorch"][precision + layout][what]
                cells.append("-" if v is None or not ours else f"{v / unit:.2f} ({v / ours:.2f})")
        lines.append(f"| {r['net']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--device", default="cuda")
    args.add_argument("--nets", nargs="+", choices=NETS, default=NETS, metavar="NET")
    args.add_argument("--iterations", type=int, default=30)
    args.add_argument("--seconds", type=float, default=240)
    args.add_argument("--json", metavar="FILE", help="all figures")
    args = args.parse_args()
    if not installed("torch", "grpc_tools", "google.protobuf"):
        return 1
    import torch

    begin, records = time.monotonic(), []
    with tempfile.TemporaryDirectory() as folder:
        compile_schema(folder)
        for name in args.nets:
            if time.monotonic() - begin > args.seconds:
                print(f"{name} and what follows: no time left", file=sys.stderr, flush=True)
                break
            try:
                records.append(measure(folder, name, args, folder))
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                print(f"{name}: {error}", file=sys.stderr, flush=True)
                continue
            print(f"{name}: {json.dumps(records[-1])}", file=sys.stderr, flush=True)
    where = torch.cuda.get_device_name(args.device) if args.device.startswith("cuda") else "a CPU"
    print(f"On {where}, PyTorch {torch.__version__}. In brackets how many times as long, or as much, as Cortado in that precision.")
    for title, what in [("Forward and backward, milliseconds", "passes"), ("Whole steps with SGD, milliseconds", "step"),
                        ("Memory of forward and backward, MiB (PyTorch: its tensors at most)", "bytes")]:
        print(f"\n{title}:\n\n{table(records, what)}")
    if args.json:
        with open(args.json, "w") as file:
            json.dump(records, file, indent=1)
    return 0 if len(records) == len(args.nets) else 1


if __name__ == "__main__":
    sys.exit(main())
