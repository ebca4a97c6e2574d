"""The records of measure.py as a bar chart: how fast each program is, the fastest peer being 1. SVG by hand, for light and dark."""

from html import escape

STYLE = """
  svg { color-scheme: light dark }
  .page { fill: #ffffff } text { fill: #24292f } .soft { fill: #57606a } .grid { stroke: #d8dee4 } .one { stroke: #8c959f }
  .b0 { fill: #bf3b1d } .b1 { fill: #93a1b5 } .b2 { fill: #5f738f } .ours { font-weight: bold; fill: #a8320f }
  @media (prefers-color-scheme: dark) {
    .page { fill: #0d1117 } text { fill: #e6edf3 } .soft { fill: #9198a1 } .grid { stroke: #30363d } .one { stroke: #6e7681 }
    .b0 { fill: #f2704a } .b1 { fill: #62708a } .b2 { fill: #8fa2bf } .ours { fill: #ff8a66 }
  }
"""
BAR, GAP, TOP, BOTTOM = 11, 12, 74, 26
NAMES = {"lenet": "LeNet", "mlp": "MLP", "cifar": "CIFAR 5×5", "alexnet": "AlexNet", "googlenet": "GoogLeNet",
         "resnet50": "ResNet-50", "vgg16": "VGG-16", "mobilenet": "MobileNet", "squeezenet": "SqueezeNet"}


def milliseconds(ms):
    return f"{ms:.0f} ms" if ms >= 100 else f"{ms:.1f} ms" if ms >= 10 else f"{ms:.2f} ms"


def groups(records):
    """For each record its label and its bars: program, speed relative to the fastest peer, milliseconds."""
    for r in records:
        fastest = min((ms for p, ms in r["ms"].items() if p != "Cortado"), default=r["ms"]["Cortado"])
        label = NAMES.get(r["net"], r["net"]) + (f", batch {r['batch']}" if r.get("batch") else "")
        yield label, [(p, fastest / ms, ms) for p, ms in r["ms"].items()]


def panel(x, width, title, records, label_width):
    """One chart at x: its lines of SVG, and its height."""
    bars = list(groups(records))
    programs = list(dict.fromkeys(p for r in records for p in r["ms"]))
    each = len(programs) * BAR + GAP
    left, right = x + label_width, x + width - 84
    most = max(1.0, *(speed for _, of in bars for _, speed, _ in of))
    at = lambda speed: left + (right - left) * speed / most
    bottom = TOP + len(bars) * each - GAP / 2
    out = [f'<text x="{x}" y="48" font-weight="bold">{escape(title)}</text>']
    legend = x
    for i, program in enumerate(programs):
        out.append(f'<rect x="{legend}" y="56" width="9" height="9" rx="2" class="b{i}"/>')
        out.append(f'<text x="{legend + 13}" y="64.5" class="soft">{escape(program)}</text>')
        legend += 13 + 6.8 * len(program) + 16
    step = next(s for s in (0.25, 0.5, 1, 2, 5, 10) if most / s <= 6 or s == 10)
    tick = 0.0
    while tick <= most + 1e-9:
        out.append(f'<path d="M{at(tick):.1f} {TOP}V{bottom:.1f}" class="grid"/>')
        out.append(f'<text x="{at(tick):.1f}" y="{bottom + 13:.1f}" text-anchor="middle" class="soft">{tick:g}×</text>')
        tick += step
    out.append(f'<path d="M{at(1):.1f} {TOP}V{bottom:.1f}" class="one"/>')
    for g, (label, of) in enumerate(bars):
        y = TOP + g * each + GAP / 2
        middle = y + len(programs) * BAR / 2 + 4
        out.append(f'<text x="{left - 8}" y="{middle:.1f}" text-anchor="end">{escape(label)}</text>')
        for program, speed, ms in of:
            i = programs.index(program)
            top = y + i * BAR
            title = f"<title>{escape(f'{label}: {program}, {milliseconds(ms)}, {speed:.2f}×')}</title>"
            out.append(f'<rect x="{left}" y="{top:.1f}" width="{at(speed) - left:.1f}" height="{BAR - 1.5}" rx="1.5" '
                       f'class="b{i}">{title}</rect>')
            text, kind = (f"{speed:.2f}× · {milliseconds(ms)}", "ours") if i == 0 else (milliseconds(ms), "soft")
            out.append(f'<text x="{at(speed) + 4:.1f}" y="{top + 8.5:.1f}" font-size="9.5" class="{kind}">{text}</text>')
    return out, bottom + BOTTOM


def picture(result):
    """The chart of a result, with as many threads as were measured at most."""
    panels = []
    for key, title, label_width in [("training", "Training: forward and backward", 78),
                                    ("inference", "Inference", 128)]:
        records = result.get(key) or []
        threads = max((r["threads"] for r in records), default=0)
        records = [r for r in records if r["threads"] == threads]
        if records:
            panels.append((f"{title}, {threads} thread{'s' if threads > 1 else ''}", records, label_width))
    width, space = 920, 24
    each = (width - 32 - space * (len(panels) - 1)) / max(len(panels), 1)
    body, height = [], 120.0
    for i, (title, records, label_width) in enumerate(panels):
        lines, tall = panel(16 + i * (each + space), each, title, records, label_width)
        body += lines
        height = max(height, tall)
    head = "Speed on a CPU; the fastest peer is 1×"
    note = f"{result['processor']}, {result['date']}"
    if "load" in result:
        note = f"measured beside other work (load {result['load']}), to be replaced; {note}"
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:.0f}" font-family="sans-serif" font-size="11.5">',
        f"<style>{STYLE}</style>", '<rect width="100%" height="100%" class="page"/>',
        f'<text x="16" y="24" font-size="15" font-weight="bold">{head}</text>',
        f'<text x="{width - 16}" y="24" text-anchor="end" class="soft" font-size="10">{escape(note)}</text>',
        *body, "</svg>"]) + "\n"
