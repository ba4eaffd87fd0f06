# SPDX-License-Identifier: Apache-2.0
"""One row a fault: what was done, what came of it, and the verdict."""

import dataclasses
import math


def percentile(values, share):
    """Nearest rank; None where there is no value."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


@dataclasses.dataclass
class Row:
    fault: str
    count: int = 0
    jobs: int = 0
    ended_right: int = 0
    digest_equal: int = 0
    redone: list = dataclasses.field(default_factory=list)
    recovery: list = dataclasses.field(default_factory=list)
    leftovers: list = dataclasses.field(default_factory=list)
    # Further figures, and what went wrong.
    notes: list = dataclasses.field(default_factory=list)
    problems: list = dataclasses.field(default_factory=list)
    not_run: str = ""

    def verdict(self):
        if self.not_run:
            return "NOT RUN"
        right = (self.count > 0 and self.jobs > 0 and self.ended_right == self.jobs and
                 self.digest_equal == self.jobs and not self.leftovers and not self.problems)
        return "right" if right else "WRONG"

    def cells(self):
        p50, p99 = percentile(self.recovery, 0.5), percentile(self.recovery, 0.99)
        return [self.fault, str(self.count), f"{self.ended_right}/{self.jobs}", f"{self.digest_equal}/{self.jobs}",
                str(max(self.redone)) if self.redone else "-", "-" if p50 is None else f"{p50:.2f} s",
                "-" if p99 is None else f"{p99:.2f} s", str(len(self.leftovers)), self.verdict()]

    def as_json(self):
        return dataclasses.asdict(self) | {
            "recovery_p50_seconds": percentile(self.recovery, 0.5),
            "recovery_p99_seconds": percentile(self.recovery, 0.99), "verdict": self.verdict()}


HEADER = ["fault", "count", "jobs ended right", "digest equal", "steps redone (most)", "recovery p50", "p99",
          "leftovers", "verdict"]


def text(rows):
    lines = [HEADER] + [row.cells() for row in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADER))]
    out = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |" for line in lines]
    out.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    for row in rows:
        out += [f"{row.fault}: {note}" for note in row.notes]
        out += [f"{row.fault}: left behind: {left}" for left in row.leftovers]
        out += [f"{row.fault}: WRONG: {problem}" for problem in row.problems]
        if row.not_run:
            out.append(f"{row.fault}: NOT RUN, so nothing is known: {row.not_run}")
    return "\n".join(out)
