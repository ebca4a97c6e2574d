"""A peer as a server: it says that it is ready, then does what each line of standard input asks for and answers with one
line. So a round costs no import and no building of the net again."""

import json
import sys
import time


def peak():
    """Peak resident memory of this process in bytes; None where the system does not tell."""
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return None


def median_ms(run, iterations, passes=3, seconds=0.3):
    """The median of so many runs in milliseconds, after a warm-up of up to `passes` runs, as `cortado time` has it."""
    begin = time.perf_counter()
    for _ in range(passes):
        run()
        if time.perf_counter() - begin > seconds:
            break
    times = []
    for _ in range(iterations):
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    times.sort()
    n = len(times)
    return times[n // 2] if n % 2 else (times[n // 2 - 1] + times[n // 2]) / 2


def serve(answer):
    """Calls `answer(**request)` for each line, a JSON object, and prints what it returns."""
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(**json.loads(line))), flush=True)
