# SPDX-License-Identifier: Apache-2.0
"""Makes C++ of CUDA sources for the emulator: emulate.py OUT FILE... writes OUT/FILE's name for each."""

import pathlib
import re
import sys

# A name, its template arguments, how it is launched.
LAUNCH = re.compile(r"(?P<kernel>[A-Za-z_]\w*(?:<[\w, <>]+?>)?)\s*<<<(?P<config>.*?)>>>\(", re.DOTALL)


def closing(text, at):
    """The place behind the parenthesis that closes the one before `at`."""
    depth = 1
    while depth > 0:
        depth += {"(": 1, ")": -1}.get(text[at], 0)
        at += 1
    return at


def emulate(text):
    out, at = [], 0
    for match in iter(lambda: LAUNCH.search(text, at), None):
        end = closing(text, match.end())
        arguments = text[match.end() : end - 1]
        out.append(text[at : match.start()])
        out.append(f"::lockstep::emulated::Launch({match['config']}, [=] {{ {match['kernel']}({arguments}); }})")
        at = end
    return '#include "tests/emulator/emulated.h"\n' + "".join(out) + text[at:]


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name in map(pathlib.Path, sys.argv[2:]):
        text = name.read_text()
        # A header of launches, or a source; others stay as they are.
        if name.suffix in (".cu", ".cuh"):
            text = emulate(text)
        (folder / (name.name + ".cc" if name.suffix == ".cu" else name.name)).write_text(text)


main()
