"""The measurements: training, inference, memory. Each gives a list of records, which tables and picture are made from.

Programs run in turn within a round, so that what other work leaves of the machine is about the same for all of them. A
figure is the median of the rounds; a ratio, of programs or of numbers of threads, is the median of the rounds' ratios. Other work only ever takes time: so the
least times of some rounds are compared as well, which come nearest to what each program does undisturbed.
"""

import os
import statistics
import subprocess
import sys

from programs import (Server, binary, bench_net, cortado, cortado_footprint, deploy_net, installed, torch_server)

NETS = ["lenet", "mlp", "cifar", "alexnet", "googlenet", "resnet50", "vgg16", "mobilenet", "squeezenet"]
DEPLOYED = ["alexnet", "googlenet", "resnet50"]
BATCHES = [1, 16]
MOST = 200


def say(text):
    print(text, file=sys.stderr, flush=True)


def iterations_for(ms, seconds):
    return max(1, min(MOST, round(seconds * 1e3 / max(ms, 1e-3))))


def record(figures, **more):
    """Medians and ratios to Cortado from {program: [ms of each round]}."""
    ours = figures["Cortado"]
    ratios = {p: statistics.median(t / o for t, o in zip(times, ours))
              for p, times in figures.items() if p != "Cortado"}
    least = {p: min(times) for p, times in figures.items()}
    undisturbed = [t / least["Cortado"] for p, t in least.items() if p != "Cortado"]
    return {**more, "ms": {p: statistics.median(times) for p, times in figures.items()},
            "ratios": ratios, "best": min(ratios.values(), default=None),
            "least_ms": least, "least_best": min(undisturbed, default=None), "rounds_ms": figures}


def in_turn(threads, rounds, seconds, ours, servers):
    """For each number of threads the iterations of a run and {program: [ms of each round]}.

    A round has each program with each number of threads: so what two threads gain is not what the machine did in between.
    """
    iterations = {t: iterations_for(ours(t, 1), seconds) for t in threads}
    figures = {t: {p: [] for p in ["Cortado", *servers]} for t in threads}
    for _ in range(rounds):
        for t in threads:
            figures[t]["Cortado"].append(ours(t, iterations[t]))
            for peer, server in servers.items():
                figures[t][peer].append(server.ms(t, iterations[t]))
    return [(t, iterations[t], figures[t]) for t in threads]


class Ceiling:
    """The best rate that anything installed reaches on one core, in GFLOP/s, over the whole run."""

    def __init__(self, server=None):
        self.server, self.rates = server, {}

    def add(self, name, gflops):
        if gflops:
            self.rates[name] = max(gflops, self.rates.get(name, 0))

    def look(self):
        """Asks PyTorch once more."""
        if self.server:
            for name, gflops in self.server.ask().items():
                self.add(f"PyTorch {name}", gflops)

    @property
    def gflops(self):
        return max(self.rates.values(), default=None)


def training(nets, threads, rounds, seconds, schema, ceiling):
    records = []
    for name in nets:
        net, servers = bench_net(name), {}
        try:
            if schema:
                servers["PyTorch"] = torch_server(schema, net)
                servers["PyTorch channels_last"] = torch_server(schema, net, "--channels-last")
            flops = {}

            def ours(t, iterations):
                ceiling.look()
                report = cortado(net, t, iterations)
                ceiling.add("Cortado's kernel", (report["ceiling_gflops"] or 0) / t)
                flops[t] = report["flops_forward"] + report["flops_backward"]
                # PyTorch has its batch before it starts.
                return report["forward_backward_without_data_ms"]

            for t, iterations, figures in in_turn(threads, rounds, seconds, ours, servers):
                records.append(record(figures, net=name, threads=t, iterations=iterations, flops=flops[t]))
                say(f"{name}, threads: {t}: {figures_text(records[-1])}")
        finally:
            for server in servers.values():
                server.__exit__()
    return records


def figures_text(r):
    return ", ".join(f"{p} {ms:.2f} ms" for p, ms in r["ms"].items())


class Deployed:
    """A net for inference in one batch: its files for every program, with the same random weights and the same input."""

    def __init__(self, name, batch, folder, schema):
        import numpy as np
        import onnx
        from google.protobuf import text_format

        sys.path.insert(0, schema)
        import caffe_pb2
        from caffe_to_onnx import convert
        from random_weights import draw, write_caffemodel

        self.net, self.batch, self.folder = deploy_net(name), batch, folder
        path = lambda ending: os.path.join(folder, f"{name}.{ending}")
        self.weights, self.onnx, self.input = path("caffemodel"), path("onnx"), path(f"{batch}.npy")
        net = text_format.Parse(open(self.net).read(), caffe_pb2.NetParameter())
        channels = net.layer[0].input_param.shape[0].dim[1:]
        x = np.random.default_rng(batch).standard_normal((batch, *channels), dtype=np.float32)
        np.save(self.input, x)
        np.savez(self.input + ".npz", **{"in/" + net.layer[0].top[0]: x})
        self.output = net.layer[-1].top[0]
        if not os.path.exists(self.weights):
            probe = path("probe.npz")
            self.run("--output", probe)
            shapes = {}
            with np.load(probe) as arrays:
                for key in sorted(k for k in arrays.files if k.startswith("param_after/")):
                    shapes.setdefault(key.split("/", 1)[1].rsplit("/", 1)[0], []).append(arrays[key].shape)
            os.remove(probe)
            weights = draw(net, shapes)
            write_caffemodel(self.weights, net, weights)
            onnx.save(convert(net, weights), self.onnx)

    def run(self, *more):
        subprocess.run([binary(), "run", self.net, *more], check=True, stdout=subprocess.DEVNULL)

    def peers(self):
        servers = {}
        if installed("onnxruntime"):
            servers["ONNX Runtime"] = Server("infer_net.py", "onnxruntime", self.onnx, self.input)
        if installed("cv2"):
            servers["OpenCV dnn"] = Server("infer_net.py", "opencv", f"{self.net},{self.weights}", self.input)
        return servers

    def differences(self, servers):
        """Largest difference of each peer's output from Cortado's, relative to the largest output."""
        import numpy as np

        out = os.path.join(self.folder, "out.npz")
        self.run("--weights", self.weights, "--input", self.input + ".npz", "--output", out)
        with np.load(out) as arrays:
            ours = arrays["out/" + self.output]
        if not ours.max() < 0.9:
            sys.exit(f"{self.net}: the weights give outputs of {ours.max()}, which would hide differences")
        found = {}
        for peer, server in servers.items():
            server.ask(output=out + ".npy")
            theirs = np.load(out + ".npy").reshape(ours.shape)
            found[peer] = float(np.abs(ours - theirs).max() / np.abs(ours).max())
            if not found[peer] < 1e-3:
                sys.exit(f"{self.net}: {peer} computes another output: {found[peer]}")
        return found


def inference(nets, threads, rounds, seconds, schema, folder):
    records = []
    for name in [n for n in DEPLOYED if n in nets]:
        for batch in BATCHES:
            deployed = Deployed(name, batch, folder, schema)
            servers = deployed.peers()
            try:
                differences = deployed.differences(servers)
                say(f"{name}, batch {batch}: outputs differ by {differences}")
                more = ["-weights", deployed.weights, "-phase", "TEST", "-batch", str(batch)]

                def ours(t, iterations):
                    return cortado(deployed.net, t, iterations, *more, ceiling="off")["forward_without_data_ms"]

                for t, iterations, figures in in_turn(threads, rounds, seconds, ours, servers):
                    records.append(record(figures, net=name, batch=batch, threads=t, iterations=iterations,
                                          differences=differences))
                    say(f"{name}, batch {batch}, threads: {t}: {figures_text(records[-1])}")
            finally:
                for server in servers.values():
                    server.__exit__()
    return records


def memory(nets, threads, schema):
    """Peak resident memory of processes that do nothing else, and how long they take to the first iteration."""
    records = []
    cases = [(name, None) for name in nets] + [(n, batch) for n in DEPLOYED if n in nets for batch in BATCHES]
    for name, batch in cases:
        net, infer = bench_net(name), batch is not None
        ours = ["-phase", "TEST", "-batch", str(batch)] if infer else []
        peak, start = cortado_footprint(net, threads, 3, *ours)
        peaks, starts = {"Cortado": peak}, {"Cortado": start}
        if schema:
            with torch_server(schema, net, *(["--infer", "--batch", str(batch)] if infer else [])) as server:
                peaks["PyTorch"] = server.ask(threads=threads, iterations=2)["peak"]
                starts["PyTorch"] = server.start_s
        records.append({"net": name, "batch": batch, "threads": threads, "peak_bytes": peaks, "start_s": starts})
        say(f"{name}, {'training' if not infer else f'inference of {batch}'}: " +
            ", ".join(f"{p} {b / 1e6:.0f} MB, first iteration after {starts[p]:.2f} s" for p, b in peaks.items()))
    return records
