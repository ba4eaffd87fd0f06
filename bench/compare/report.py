# SPDX-License-Identifier: Apache-2.0
"""Tables of what compare.py measured."""

import datetime
import os
import platform
import sys

import allreduce

SAMPLES_OF_AN_EPOCH = 60_000
BUSY = ("**Other programs wanted the cores at the same time:** these figures tell little of what a quiet machine does, least "
        "of all with two ranks.")
BEGIN, END = "<!-- results: written by scripts/bench-compare -->", "<!-- end of results -->"


def machine():
    model = "unknown CPU"
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return {"date": datetime.date.today().isoformat(), "cpu": model, "cores": os.cpu_count(),
            "system": platform.freedesktop_os_release().get("PRETTY_NAME", "Linux"),
            "load": round(os.getloadavg()[0], 1)}


def rate(value):
    if not value:
        return "–"
    if value >= 1e6:
        return f"{value / 1e6:.2f} M"
    if value >= 1e4:
        return f"{value / 1e3:.0f} k"
    return f"{value / 1e3:.2f} k" if value >= 1e3 else f"{value:.0f}"


def asked(value, goal):
    if value is None:
        return "–"
    text = f"{value:.2f}"
    return f"{text} (asked {goal:g}{', not reached' if value < goal else ''})" if goal else text


def ratio(line, precision):
    return asked(line["ratio"].get(precision), line["goal"].get(precision))


def progress(line):
    values = line["samples_per_second"]
    parts = [f"{side} {rate(values[side])}" for side in values]
    ratios = ", ".join(f"{precision} x{value:.2f}" for precision, value in line["ratio"].items())
    print(f"{line['row']:8} {line['ranks']}x{line['threads']} {line['peer']:18} {', '.join(parts)}: {ratios}",
          file=sys.stderr, flush=True)


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def markdown(out):
    at = out["machine"]
    peers = ", ".join(f"{name} ({out['blas'][name]})" if name in out["blas"] else name for name in out["peers"])
    parts = [f"{at['date']}, {at['cpu']}, {at['cores']} cores, {at['system']}, load at the start {at['load']}. "
             f"{out['lockstep']} against {peers}.", f"`{out['command'].strip()}`"]
    if at["load"] > at["cores"] / 2:
        parts.append(BUSY)
    rows = []
    for line in out["lines"]:
        values = line["samples_per_second"]
        rows.append([f"{line['row']}: {line['what']}", f"{line['ranks']} x {line['threads']}", line["peer"],
                     rate(values.get("peer_fp32")), rate(values.get("peer_bf16")), rate(values.get("lockstep_fp32")),
                     rate(values.get("lockstep_bf16")), ratio(line, "fp32"), ratio(line, "bf16")])
    if rows:
        parts.append("Samples per second; ratios are against the other side's FP32.\n\n" + table(
            ["work", "ranks x threads", "against", "its FP32", "its BF16", "Lockstep FP32", "Lockstep BF16",
             "ratio FP32", "ratio BF16"], rows))
    parts += scaling(out["lines"]) + canonical(out["lines"]) + epochs(out["lines"]) + summed(out["allreduce"])
    parts += started(out["start"])
    return "\n\n".join(parts)


def scaling(lines):
    """Two ranks over one, from the same run."""
    rates = {(line["row"], line["ranks"], line["threads"]): line["samples_per_second"].get("lockstep_fp32")
             for line in lines}
    rows = []
    for (row, ranks, threads), value in rates.items():
        one = rates.get((row, 1, 1))
        if (ranks, threads) == (2, 1) and one and value:
            rows.append([row, rate(one), rate(value), f"{value / one / 2:.0%}"])
    if not rows:
        return []
    return ["Two ranks against one:\n\n" + table(["work", "1 rank", "2 ranks", "efficiency"], rows)]


def canonical(lines):
    rows = [[line["row"], rate(line["samples_per_second"]["lockstep_fp32"]),
             rate(line["samples_per_second"]["lockstep_fastest"]), f"{line['canonical_cost']:+.1%}"]
            for line in lines if "canonical_cost" in line]
    if not rows:
        return []
    return ["The canonical order against `REDUCTION_FASTEST`, two ranks (asked: at most 1 % of a step more):\n\n" +
            table(["work", "canonical", "FASTEST", "its step takes"], rows)]


def epochs(lines):
    rows = []
    for line in lines:
        if line["row"] != "lecture":
            continue
        values = line["samples_per_second"]
        rows.append([f"{line['ranks']} x {line['threads']}", line["peer"],
                     *(f"{SAMPLES_OF_AN_EPOCH / values[side]:.2f} s" if side in values else "–"
                       for side in ("peer_fp32", "lockstep_fp32"))])
    if not rows:
        return []
    return ["The lecture's listing, an epoch of 60,000 samples (asked: at most 0.5 s on two cores):\n\n" +
            table(["ranks x threads", "against", "its epoch", "Lockstep's epoch"], rows)]


def summed(result):
    if not result:
        return []
    rows = []
    for row in result:
        at = [f"{row[key]:.1f}" if key in row else "–" for key in
              ("canonical_us", "gathered_us", "fastest_us", "mpi_allreduce_us", "gloo_us", "copy_us")]
        ratios = [asked(row.get(key), goal) for key, goal in allreduce.GOALS.items()]
        rows.append([f"{row['bytes']:,}", *at, *ratios, f"{row['copy_us'] / row['canonical_us']:.0%}"])
    return ["A gradient's sum over two ranks of a host, microseconds of the slowest rank: each rank has the slice that it "
            "updates; all have all; `REDUCTION_FASTEST`; `MPI_Allreduce`; gloo; a copy of as many bytes as the sum moves "
            "(asked: at least 60 % of its speed at 64 MB):\n\n" +
            table(["bytes", "canonical", "and gathered", "FASTEST", "MPI_Allreduce", "gloo", "copy", "against MPI",
                   "against gloo", "of the copy"], rows)]


def started(result):
    if not result:
        return []
    rows = [[name, f"{seconds:.2f} s", f"{seconds / result['lockstep']:.1f}"] for name, seconds in
            result["peers"].items()]
    return [f"Launch to the end of the first step, MNIST, 2 processes: Lockstep {result['lockstep']:.2f} s (asked: at "
            "most 0.8 s, 4 times faster):\n\n" + table(["against", "seconds", "times as long"], rows)]


def write_page(path, text):
    """Puts the results between the page's marks."""
    page = path.read_text(encoding="utf-8")
    begin, end = page.index(BEGIN) + len(BEGIN), page.index(END)
    path.write_text(page[:begin] + "\n" + text + "\n" + page[end:], encoding="utf-8")
