#!/usr/bin/env python3
"""Times Cortado and PyTorch on the same nets, in turn, on this machine, and prints a table with ratios.

    pip install torch grpcio-tools
    cargo build --release
    python3 benches/peers/compare.py [NET ...] [--threads 1 2] [--rounds 3] [--iterations 20]

NET is a name in benches/peers/nets (default: lenet). One round runs each program once; the figure is the median of
the rounds' medians, forward and backward, in milliseconds per iteration. A ratio above 1 means that Cortado is faster.
"""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))


def cortado(net, threads, iterations):
    binary = os.environ.get("CORTADO", os.path.join(ROOT, "target", "release", "cortado"))
    out = subprocess.run(
        [binary, "time", "-model", net, "-iterations", str(iterations), "--threads", str(threads), "--json"],
        capture_output=True, text=True, check=True,
    )
    return json.loads(out.stdout)["forward_backward_ms"]


def torch(net, threads, iterations, schema, *more):
    out = subprocess.run(
        [sys.executable, os.path.join(HERE, "torch_net.py"), schema, net,
         "--iters", str(iterations), "--threads", str(threads), *more],
        capture_output=True, text=True, check=True,
    )
    return float(re.search(r"median ([\d.]+) ms", out.stdout).group(1))


def processor():
    try:
        with open("/proc/cpuinfo") as f:
            return re.search(r"model name\s*:\s*(.*)", f.read()).group(1)
    except (OSError, AttributeError):
        return platform.processor()


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("nets", nargs="*", default=["lenet"])
    args.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    args.add_argument("--rounds", type=int, default=3)
    args.add_argument("--iterations", type=int, default=20)
    args = args.parse_args()
    with tempfile.TemporaryDirectory() as schema:
        subprocess.run(
            [sys.executable, "-m", "grpc_tools.protoc", "-I", os.path.join(ROOT, "proto"),
             "--python_out", schema, "caffe.proto"], check=True,
        )
        peers = {
            "Cortado": lambda n, t: cortado(n, t, args.iterations),
            "PyTorch": lambda n, t: torch(n, t, args.iterations, schema),
            "PyTorch channels_last": lambda n, t: torch(n, t, args.iterations, schema, "--channels-last"),
        }
        print(f"{processor()}; forward and backward, ms per iteration; ratio to Cortado in brackets\n")
        print("| net | threads | " + " | ".join(peers) + " |")
        print("|---" * (len(peers) + 2) + "|")
        for name in args.nets:
            net = os.path.join(HERE, "nets", name + ".prototxt")
            for threads in args.threads:
                figures = {peer: [] for peer in peers}
                for _ in range(args.rounds):
                    for peer, run in peers.items():
                        figures[peer].append(run(net, threads))
                medians = {peer: statistics.median(v) for peer, v in figures.items()}
                ours = medians["Cortado"]
                cells = [f"{ours:.2f}"]
                cells += [f"{m:.2f} ({m / ours:.2f})" for peer, m in medians.items() if peer != "Cortado"]
                print(f"| {name} | {threads} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
