#!/usr/bin/env python3
"""Times Cortado and its peers on the same nets, in turn, on this machine, and prints tables with ratios.

    cargo build --release
    pip install torch grpcio-tools numpy onnx onnxruntime "opencv-python-headless<5"
    python3 benches/peers/compare.py [--only training inference memory] [--nets lenet alexnet ...] [--threads 1 2]
                                     [--rounds 3] [--json FILE] [--picture FILE.svg]

One round runs each program once; a figure is the median of the rounds, a ratio the median of the rounds' ratios, and a
ratio above 1 means that Cortado is faster. Peers that are not installed are left out.

training   forward and backward of the nets in benches/peers/nets, without the making of the batch, beside PyTorch; the
           ceiling is the best rate that anything here reaches on one core during the run, times the threads
inference  nets/*/deploy.prototxt with random weights, beside ONNX Runtime and OpenCV, after a check that the outputs agree
memory     peak resident memory (VmHWM) of processes of their own, and the time from launch to the first iteration

With the defaults it takes about ten minutes on two cores. CORTADO names another binary.
"""

import argparse
import datetime
import json
import os
import platform
import re
import sys
import tempfile

import measure
import tables
from picture import picture
from programs import Server, compile_schema, installed

PARTS = ["training", "inference", "memory"]


def processor():
    try:
        with open("/proc/cpuinfo") as info:
            return re.search(r"model name\s*:\s*(.*)", info.read()).group(1)
    except (OSError, AttributeError):
        return platform.processor()


def versions():
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for package in ["torch", "onnxruntime", "opencv-python-headless", "opencv-python"]:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            pass
    return found


def options():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    args.add_argument("--nets", nargs="+", choices=measure.NETS, default=measure.NETS, metavar="NET")
    args.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    args.add_argument("--rounds", type=int, default=3)
    args.add_argument("--seconds", type=float, default=0.5, help="how long Cortado is timed in a round [default: 0.5]")
    args.add_argument("--json", metavar="FILE", help="all figures")
    args.add_argument("--picture", metavar="FILE", help="a bar chart (SVG)")
    args.add_argument("--redraw", metavar="FILE", help="measure nothing: tables and picture of an earlier --json FILE")
    return args.parse_args()


def run(args):
    """All figures, as --json writes them."""
    result = {"date": datetime.date.today().isoformat(), "processor": processor(), "versions": versions(),
              "rounds": args.rounds}
    if os.getloadavg()[0] > 0.5:
        result["load"] = round(os.getloadavg()[0], 1)
        print(f"other work is running here (load {result['load']}): figures of several threads will mislead, most of "
              "all those of programs whose threads wait for each other", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        has_schema = installed("grpc_tools", "google.protobuf")
        if has_schema:
            compile_schema(folder)
        torch = folder if has_schema and installed("torch") else None
        if "training" in args.only:
            ceiling = measure.Ceiling(Server("torch_ceiling.py") if installed("torch") else None)
            result["training"] = measure.training(args.nets, args.threads, args.rounds, args.seconds, torch, ceiling)
            result["ceiling_gflops"], result["rates"] = ceiling.gflops, ceiling.rates
            if ceiling.server:
                ceiling.server.__exit__()
        if "inference" in args.only and has_schema and installed("numpy", "onnx"):
            result["inference"] = measure.inference(args.nets, args.threads, args.rounds, args.seconds, folder, folder)
        if "memory" in args.only:
            result["memory"] = measure.memory(args.nets, max(args.threads), torch)
    return result


def report(result):
    """The tables."""
    peers = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    parts = [f"{result['date']}, {result['processor']}; {peers}; {result['rounds']} rounds" +
             (f"; load {result['load']} at the start." if "load" in result else ".")]
    if result.get("training"):
        rates = ", ".join(f"{name} {gflops:.0f}" for name, gflops in result["rates"].items())
        parts.append("## Training\n\nForward and backward, milliseconds per iteration; in brackets how many times as long as "
                     f"Cortado. Ceiling: {result['ceiling_gflops'] or 0:.0f} GFLOP/s a core ({rates}).\n")
        parts.append(tables.training(result["training"], result["ceiling_gflops"]))
    if result.get("inference"):
        parts.append("## Inference\n\nForward, milliseconds per batch; in brackets how many times as long as Cortado.\n")
        parts.append(tables.inference(result["inference"]))
    if result.get("memory"):
        parts.append("## Memory and start\n\nPeak resident memory of the whole process.\n")
        parts.append(tables.memory(result["memory"]))
    return "\n".join(parts)


def main():
    args = options()
    if args.redraw:
        with open(args.redraw) as file:
            result = json.load(file)
    else:
        result = run(args)
        if args.json:
            with open(args.json, "w") as file:
                json.dump(result, file, indent=1)
    if args.picture:
        with open(args.picture, "w") as file:
            file.write(picture(result))
    print(report(result))


if __name__ == "__main__":
    sys.exit(main())
