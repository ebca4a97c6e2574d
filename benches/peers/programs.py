"""Runs Cortado and its peers: one process each, timed and watched."""

import importlib.util
import json
import os
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))

PIP = {"torch": "torch", "google.protobuf": "protobuf", "grpc_tools": "grpcio-tools", "onnxruntime": "onnxruntime",
       "onnx": "onnx", "cv2": '"opencv-python-headless<5"', "numpy": "numpy"}


def installed(*modules):
    """Whether all modules are there; says once which command installs those that are not."""
    def found(module):
        try:
            return importlib.util.find_spec(module) is not None
        except ModuleNotFoundError:
            return False

    missing = [PIP[m] for m in modules if not found(m)]
    if missing and missing not in _said:
        _said.append(missing)
        print(f"skipped, not installed: pip install {' '.join(missing)}", file=sys.stderr, flush=True)
    return not missing


_said = []


def bench_net(name):
    return os.path.join(HERE, "nets", name + ".prototxt")


def deploy_net(name):
    return os.path.join(ROOT, "nets", name, "deploy.prototxt")


def binary():
    path = os.environ.get("CORTADO", os.path.join(ROOT, "target", "release", "cortado"))
    if not os.access(path, os.X_OK):
        sys.exit(f"{path} is not there: cargo build --release")
    return path


def cortado(net, threads, iterations, *more, ceiling="auto"):
    """The report of `cortado time --json`."""
    command = [binary(), "time", "-model", net, "-iterations", str(iterations), "--threads", str(threads),
               "--ceiling", ceiling, "--json", *more]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stderr[-2000:]}")
    return json.loads(done.stdout)


def compile_schema(folder):
    """Puts caffe_pb2.py into a folder, made from the project's schema."""
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", "-I", os.path.join(ROOT, "proto"),
                    "--python_out", folder, "caffe.proto"], check=True)


class Server:
    """A peer's process that serves requests (serve.py). `start_s` is the time from its launch until it was ready."""

    def __init__(self, script, *arguments):
        start = time.perf_counter()
        self.command = [sys.executable, os.path.join(HERE, script), *arguments]
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        stderr=subprocess.PIPE)
        self.log = []
        # Its complaints are kept for the error message, and must not fill the pipe.
        threading.Thread(target=lambda: self.log.extend(self.process.stderr), daemon=True).start()
        self.answer()
        self.start_s = time.perf_counter() - start

    def answer(self):
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        self.process.wait()
        raise RuntimeError(f"{' '.join(self.command)} ended:\n{''.join(self.log)[-2000:]}")

    def ask(self, **request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def ms(self, threads, iterations):
        return self.ask(threads=threads, iterations=iterations)["ms"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()


def torch_server(schema, net, *more):
    return Server("torch_net.py", schema, net, "--serve", *more)


def cortado_footprint(net, threads, iterations, *more):
    """Peak resident memory in bytes and seconds from the launch to the first iteration, of `cortado time`."""
    command = [binary(), "time", "-model", net, "-iterations", str(iterations), "--threads", str(threads),
               "--ceiling", "off", *more]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    started = []

    def read():
        for line in process.stderr:
            if "*** Benchmark begins ***" in line:
                started.append(time.perf_counter() - start)

    reader = threading.Thread(target=read)
    reader.start()
    peak = 0
    # The kernel's own high-water mark, read until the process is gone.
    while process.poll() is None:
        try:
            with open(f"/proc/{process.pid}/status") as status:
                peak = max(peak, *[int(l.split()[1]) * 1024 for l in status if l.startswith("VmHWM")], 0)
        except (OSError, TypeError):
            pass
        time.sleep(0.005)
    reader.join()
    if process.returncode != 0 or not started:
        sys.exit(f"failed: {' '.join(command)}")
    return peak, started[0]
