# SPDX-License-Identifier: Apache-2.0
"""Lockstep beside PyTorch, and TensorFlow where there is one: same models, batches and data, in one run.

Each round measures every side once, one after the other, so that a machine that is shared changes its speed for all;
the ratio is the median of the rounds' ratios. scripts/bench-compare installs and builds what this needs.
"""

import argparse
import json
import os
import pathlib
import statistics
import sys
import tempfile

import allreduce
import datasets
import report
from rows import ROWS, SETUPS, fastest, job
from sides import Lockstep, Peer, SideError, has
import start


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [row.name for row in ROWS]
    parser.add_argument("--only", default=",".join(names) + ",allreduce,start",
                        help=f"rows, separated by commas: {', '.join(names)}, allreduce, start")
    parser.add_argument("--setups", default="1x1,1x2,2x1", help="ranks x threads of a rank, separated by commas")
    parser.add_argument("--precisions", default="fp32,bf16", help="separated by commas; BF16 where a figure is asked")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement, after its warm-up")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--python", action="append", default=[],
                        help="another interpreter with PyTorch or TensorFlow; may be given again")
    parser.add_argument("--programs", default=os.environ.get("LOCKSTEP_BIN_DIR", "build/cpu-release/bin"))
    parser.add_argument("-o", "--output", choices=("markdown", "json"), default="markdown")
    parser.add_argument("--page", help="write the results into this page, between its two marks")
    options = parser.parse_args()
    options.only = options.only.split(",")
    options.setups = [tuple(map(int, setup.split("x"))) for setup in options.setups.split(",")]
    options.precisions = options.precisions.split(",")
    for unknown in set(options.only) - set(names) - {"allreduce", "start"}:
        parser.error(f"--only: there is no row {unknown}")
    for setup in set(options.setups) - set(SETUPS):
        parser.error(f"--setups: {setup[0]}x{setup[1]} is none of 1x1, 1x2, 2x1")
    return options


def peers_of(options):
    """(interpreter, program, name) of each framework that there is."""
    found = []
    for python in dict.fromkeys(["/usr/bin/python3", *options.python]):
        for package, program, name in (("torch", "peer_torch.py", "PyTorch"),
                                       ("tensorflow", "peer_tensorflow.py", "TensorFlow")):
            version = has(python, package)
            if version:
                found.append((python, program, f"{name} {version}"))
    return found


class Contest:
    """One row on one setup: Lockstep's precisions and the peers' in turns."""

    def __init__(self, options, lockstep, row, setup, root, dataset):
        self.options, self.lockstep, self.row, self.root = options, lockstep, row, root
        self.ranks, self.threads = setup
        self.jobs, self.blas = {}, {}
        self.precisions = [p for p in options.precisions if p == "fp32" or (1, p) in row.goals]
        for precision in self.precisions:
            spec = job(row, dataset, self.ranks, self.threads, precision)
            if not lockstep.refuses(spec, root):
                self.jobs[precision] = spec
        if self.ranks > 1 and "fp32" in self.jobs:
            self.jobs["fastest"] = fastest(self.jobs["fp32"])
        self.peers = {}
        self.results = {}

    def run(self, found, dataset):
        try:
            for python, program, name in found:
                if self.ranks > 1 and program == "peer_tensorflow.py":
                    continue
                self._try(name, lambda: Peer(python, program, self.row, self.root, dataset, self.ranks, self.threads))
            for _ in range(self.options.rounds):
                self._round()
        finally:
            for peer in self.peers.values():
                peer.close()
        return self.results

    def _try(self, name, make):
        try:
            self.peers[name] = make()
            self.blas[name] = self.peers[name].blas
        except SideError as error:
            print(f"{self.row.name}: {name} is left out: {error}", file=sys.stderr)

    def _round(self):
        seconds = self.options.seconds
        for name, peer in self.peers.items():
            for precision in self.precisions:
                # Its own mixed precision is PyTorch's; TensorFlow's would be another model.
                if precision == "fp32" or name.startswith("PyTorch"):
                    self._add(name, precision, peer.measure(seconds, self.threads, precision))
        for precision, spec in self.jobs.items():
            self._add("Lockstep", precision, self.lockstep.measure(spec, self.root, seconds))

    def _add(self, side, precision, rate):
        self.results.setdefault((side, precision), []).append(rate)


def line_of(row, setup, results, peer):
    """What is reported of one row on one setup against one peer."""
    def rates(side, precision):
        return results.get((side, precision), [])

    def ratio(precision):
        # Of each round, against the peer's FP32: what a user has who changes nothing.
        pairs = list(zip(rates("Lockstep", precision), rates(peer, "fp32")))
        return statistics.median(a / b for a, b in pairs) if pairs else None

    line = {"row": row.name, "what": row.what, "ranks": setup[0], "threads": setup[1], "peer": peer, "batch": row.batch,
            "samples_per_second": {}, "ratio": {}, "goal": {}, "rounds": {}}
    for precision in ("fp32", "bf16"):
        for side, key in (("Lockstep", f"lockstep_{precision}"), (peer, f"peer_{precision}")):
            if rates(side, precision):
                line["samples_per_second"][key] = statistics.median(rates(side, precision))
                line["rounds"][key] = rates(side, precision)
        if ratio(precision):
            line["ratio"][precision] = ratio(precision)
        # Asked of one rank with one thread, and of two ranks.
        if (setup[0], precision) in row.goals and setup != (1, 2):
            line["goal"][precision] = row.goals[setup[0], precision]
    # Of each round, how much longer a step takes in the canonical order.
    pairs = list(zip(rates("Lockstep", "fastest"), rates("Lockstep", "fp32")))
    if pairs:
        line["samples_per_second"]["lockstep_fastest"] = statistics.median(rates("Lockstep", "fastest"))
        line["canonical_cost"] = statistics.median(a / b for a, b in pairs) - 1
    return line


def measure(options, lockstep, found, out):
    """Fills in out["lines"], out["blas"], out["start"] and out["allreduce"], one after the other."""
    with tempfile.TemporaryDirectory(prefix="lockstep-compare-") as folder:
        if "start" in options.only:
            root, dataset = datasets.find("mnist", pathlib.Path(folder), lockstep.lockstep)
            out["start"] = start.measure(lockstep, found, root, dataset, options.rounds)
        if "allreduce" in options.only:
            out["allreduce"] = allreduce.measure(lockstep, found, options.rounds)
        for row in ROWS:
            if row.name not in options.only:
                continue
            root, dataset = datasets.find(row.data, pathlib.Path(folder), lockstep.lockstep)
            for setup in options.setups:
                contest = Contest(options, lockstep, row, setup, root, dataset)
                results = contest.run(found, dataset)
                out["blas"] |= contest.blas
                for peer in [name for _, _, name in found if (name, "fp32") in results]:
                    out["lines"].append(line_of(row, setup, results, peer))
                    report.progress(out["lines"][-1])


def main():
    options = arguments()
    lockstep = Lockstep(options.programs)
    found = peers_of(options)
    if not found:
        sys.exit("compare: no interpreter has PyTorch; scripts/bench-compare installs Debian's")
    out = {"machine": report.machine(), "lockstep": lockstep.name, "peers": [name for _, _, name in found], "blas": {},
           "command": "scripts/bench-compare " + " ".join(sys.argv[1:]), "lines": [], "start": None, "allreduce": []}
    try:
        measure(options, lockstep, found, out)
    except KeyboardInterrupt:
        print("interrupted: this is what was measured until then", file=sys.stderr)
    text = json.dumps(out, indent=2) if options.output == "json" else report.markdown(out)
    print(text)
    if options.page:
        report.write_page(pathlib.Path(options.page), report.markdown(out))


if __name__ == "__main__":
    main()
