"""The records of measure.py as Markdown."""

import math
from statistics import median


def geometric_mean(values):
    values = [v for v in values if v]
    return math.exp(sum(map(math.log, values)) / len(values)) if values else None


def number(x, digits=3):
    """Three significant digits, as a table wants them."""
    if x is None:
        return ""
    return f"{x:.0f}" if x >= 100 else f"{x:.{max(0, digits - 1 - math.floor(math.log10(x)))}f}" if x > 0 else "0"


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows]) + "\n"


def programs(records, key):
    return list(dict.fromkeys(p for r in records for p in r[key]))


def timed(r, program):
    ms, ratio = r["ms"].get(program), r["ratios"].get(program)
    return number(ms) + (f" ({ratio:.2f})" if ratio else "")


def undisturbed(r):
    """The ratio of the least times to the best peer; runs of older versions have none."""
    return f"{r['least_best']:.2f}" if r.get("least_best") else ""


def means(records, keys):
    """A line for each number of threads: geometric means of the ratios to the best peer."""
    lines = []
    for t in dict.fromkeys(r["threads"] for r in records):
        for key, what in [("best", "medians"), ("least_best", "least times")]:
            of = [r[key] for r in records if r["threads"] == t and r.get(key)]
            if of:
                lines.append(f"- {t} thread{'s' if t > 1 else ''}, {what}: {geometric_mean(of):.2f} times as fast as the best "
                             f"peer in the geometric mean of {len(of)} {keys}, {min(of):.2f} at least")
    return "\n".join(lines) + "\n"


def gains(records):
    """A line for each number of threads above one: how many times as fast Cortado is with them, in the same rounds."""
    rounds = {(r["net"], r["threads"]): r["rounds_ms"]["Cortado"] for r in records}
    lines = []
    for t in sorted({t for _, t in rounds} - {1}):
        of = {net: median(one / some for one, some in zip(rounds[net, 1], rounds[net, t]))
              for net, n in rounds if n == t and (net, 1) in rounds}
        if of:
            lines.append(f"- from 1 to {t} threads: " + ", ".join(f"{net} {gain:.2f}" for net, gain in of.items()) + "\n")
    return "".join(lines)


def training(records, ceiling):
    """`ceiling`: GFLOP/s of one core."""
    columns = programs(records, "ms")
    rows = []
    for r in records:
        least = r["flops"] / (ceiling * r["threads"]) / 1e6 if ceiling else None
        share = f"{100 * least / r['ms']['Cortado']:.0f} %" if least else ""
        best = f"{r['best']:.2f}" if r["best"] else ""
        rows.append([r["net"], r["threads"], *[timed(r, p) for p in columns], best, undisturbed(r), number(least), share])
    text = table(["net", "threads", *columns, "best peer / Cortado", "of the least times", "ceiling", "share"], rows)
    text += "\n" + means(records, "nets")
    return text + gains(records)


def inference(records):
    columns = programs(records, "ms")
    rows = [[r["net"], r["batch"], r["threads"], *[timed(r, p) for p in columns],
             f"{r['best']:.2f}" if r["best"] else "", undisturbed(r)] for r in records]
    text = table(["net", "batch", "threads", *columns, "best peer / Cortado", "of the least times"], rows) + "\n" + means(records, "cases")
    for peer in programs(records, "differences"):
        largest = max(r["differences"][peer] for r in records if peer in r["differences"])
        text += f"- largest difference of an output from {peer}: {largest:.1e} of the largest output\n"
    return text


def memory(records):
    columns = programs(records, "peak_bytes")
    rows = []
    for r in records:
        ours, theirs = r["peak_bytes"]["Cortado"], r["peak_bytes"].get("PyTorch")
        what = "training" if r["batch"] is None else f"inference, batch {r['batch']}"
        rows.append([r["net"], what, *[number(r["peak_bytes"].get(p, 0) / 1e6) for p in columns],
                     f"{ours / theirs:.2f}" if theirs else "", *[f"{r['start_s'].get(p, 0):.2f}" for p in columns]])
    head = ["net", "", *[f"{p}, MB" for p in columns], "Cortado / PyTorch",
            *[f"{p}, s to the first iteration" for p in columns]]
    text = table(head, rows)
    for what, of in [("training", [r for r in records if r["batch"] is None]),
                     ("inference", [r for r in records if r["batch"] is not None])]:
        ratios = [r["peak_bytes"]["Cortado"] / r["peak_bytes"]["PyTorch"] for r in of if r["peak_bytes"].get("PyTorch")]
        if ratios:
            text += f"\n- {what}: {geometric_mean(ratios):.2f} of PyTorch's in the geometric mean, {max(ratios):.2f} at most"
    return text + "\n"
