"""What PyTorch reaches on one core where nothing holds it back: a large matrix product and a large convolution.

Serves {} with {"matmul": GFLOP/s, "convolution": GFLOP/s}, each the best of a few runs.
"""

import time

import torch
import torch.nn.functional as F

from serve import serve

torch.set_num_threads(1)
a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
x = torch.randn(4, 256, 28, 28).contiguous(memory_format=torch.channels_last)
w = torch.randn(256, 256, 3, 3).contiguous(memory_format=torch.channels_last)


def best(run, flops, seconds=0.25):
    with torch.inference_mode():
        run()
        begin, least = time.perf_counter(), float("inf")
        while time.perf_counter() - begin < seconds:
            start = time.perf_counter()
            run()
            least = min(least, time.perf_counter() - start)
    return flops / least / 1e9


serve(lambda: {
    "matmul": best(lambda: a @ b, 2 * 1024**3),
    "convolution": best(lambda: F.conv2d(x, w, padding=1), 2 * 4 * 28 * 28 * 256 * 256 * 9),
})
