# SPDX-License-Identifier: Apache-2.0
"""Fails where a step takes over 15 % more instructions than when bench/guard.json was recorded.

Instructions are counted by valgrind: unlike time they do not depend on what else the machine does. It knows no AVX-512,
so what is counted is the AVX2 path; what another path loses, or what memory costs, is seen by scripts/bench-compare
alone. The steps' own instructions are those of a longer run less those of a shorter one.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "compare"))
import datasets  # noqa: E402
from rows import ROWS, job  # noqa: E402

RECORD = pathlib.Path(__file__).resolve().parent / "guard.json"
LIMIT = 1.15
# Name of a row of the comparison: batch size, and how many steps are counted. Valgrind does seven million instructions a
# second where they are multiplications, so larger networks have smaller batches here, and the largest are left out.
COUNTED = {"a": (32, 20), "a10": (10, 40), "lecture": (32, 8), "b": (128, 2), "c": (16, 1), "e": (32, 1)}


def instructions(program, spec, root, steps):
    done = subprocess.run(
        ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null", program,
         json.dumps(spec), root, str(steps)],
        capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1", "LOCKSTEP_CACHE_DIR": "off"})
    found = re.search(r"I\s+refs:\s+([\d,]+)", done.stderr)
    if done.returncode != 0 or not found:
        sys.exit(f"bench-guard: {spec['name']}: {done.stdout}{done.stderr}")
    return int(found[1].replace(",", ""))


def count(names, programs):
    """Instructions of one step, by row."""
    counted = {}
    with tempfile.TemporaryDirectory(prefix="lockstep-guard-") as folder:
        # Drawn ones wherever it runs.
        os.environ["LOCKSTEP_DATA_DIR"] = ""
        for row in ROWS:
            if row.name not in names:
                continue
            root, dataset = datasets.find(row.data, pathlib.Path(folder), programs / "lockstep", train=2000)
            batch, steps = COUNTED[row.name]
            spec = job(row, dataset, 1, 1, "fp32")
            spec["training"]["batch_size"] = batch
            program = programs / "lockstep-bench-steps"
            # The first steps also plan and touch memory.
            begun, done = (instructions(program, spec, root, n) for n in (2, 2 + steps))
            counted[row.name] = round((done - begun) / steps)
    return counted


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="write what is counted into bench/guard.json")
    parser.add_argument("--only", default=",".join(COUNTED), help="rows, separated by commas")
    parser.add_argument("--programs", default=os.environ.get("LOCKSTEP_BIN_DIR", "build/cpu-release/bin"))
    options = parser.parse_args()
    names = options.only.split(",")
    for name in names:
        if name not in COUNTED:
            parser.error(f"--only: {name} is none of {', '.join(COUNTED)}")
    recorded = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    counted = count(names, pathlib.Path(options.programs).resolve())
    slower = []
    print(f"{'row':8} {'instructions of a step':>22} {'recorded':>14} {'ratio':>6}")
    for name, now in counted.items():
        before = recorded.get(name)
        ratio = now / before if before else None
        print(f"{name:8} {now:22,} {before or 0:14,} {f'{ratio:.3f}' if ratio else '-':>6}")
        if not options.record and not before:
            slower.append(f"{name} is not recorded; scripts/bench-guard --record does so")
        elif not options.record and ratio > LIMIT:
            slower.append(f"a step of {name} takes {ratio:.2f} times the instructions recorded, at most {LIMIT} allowed")
    if options.record:
        # What is counted no more is dropped.
        recorded = {name: recorded[name] for name in recorded if name in COUNTED}
        RECORD.write_text(json.dumps(recorded | counted, indent=2) + "\n", encoding="utf-8")
    for message in slower:
        print(f"bench-guard: {message}", file=sys.stderr)
    sys.exit(1 if slower else 0)


if __name__ == "__main__":
    main()
