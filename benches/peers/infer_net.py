"""Inference in ONNX Runtime or OpenCV's dnn, as the speed peers.

usage: infer_net.py onnxruntime MODEL.onnx INPUT.npy
       infer_net.py opencv NET.prototxt,NET.caffemodel INPUT.npy

Serves {"threads": T, "iterations": N} with {"ms": ..., "peak": bytes}, and {"output": FILE.npy} by writing there what
the net gives for the input.
"""

import sys

import numpy as np

from serve import median_ms, peak, serve

program, model, x = sys.argv[1], sys.argv[2], np.load(sys.argv[3])


def onnxruntime(threads):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"data": x})[0]


def opencv(threads):
    import cv2

    cv2.setNumThreads(threads)
    net = cv2.dnn.readNetFromCaffe(*model.split(","))

    def run():
        net.setInput(x)
        return net.forward()

    return run


make = {"onnxruntime": onnxruntime, "opencv": opencv}[program]
runs = {}


def answer(threads=1, iterations=0, output=None):
    if threads not in runs:  # one net at a time: its threads and memory go before the next is made
        runs.clear()
        runs[threads] = make(threads)
    if output:
        np.save(output, runs[threads]())
        return {}
    return {"ms": median_ms(runs[threads], iterations), "peak": peak()}


serve(answer)
