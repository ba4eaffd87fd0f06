# SPDX-License-Identifier: Apache-2.0
"""Every source file: a licence line first, at most 500 lines, and no conditional compilation but in
the few files that choose a device or an instruction set."""
import re

from source_files import files, main

SUFFIXES = (".h", ".cc", ".cu", ".cuh", ".inc", ".def", ".proto", ".py", ".cmake", "CMakeLists.txt")
MAX_LINES = 500
# Where the preprocessor may choose: device code, and the choice of the instruction set.
SEAMS = re.compile(r"(^|/)(cuda|nccl)/|^common/rng\.h$|^worker/device/cpu/kernels\.cc$|\.def$")
CONDITIONAL = re.compile(r"^\s*#\s*(if|ifdef|ifndef|elif)\b")


def check(root):
    messages = []
    for path in files(root, SUFFIXES):
        lines = (root / path).read_text(encoding="utf-8").splitlines()
        name = str(path)
        first = lines[1] if lines and lines[0].startswith("#!") and len(lines) > 1 else (lines or [""])[0]
        if not re.fullmatch(r"(//|#) SPDX-License-Identifier: Apache-2\.0", first):
            messages.append(f"{name}:1: the first line must be the SPDX-License-Identifier comment")
        if len(lines) > MAX_LINES:
            messages.append(f"{name}: {len(lines)} lines, at most {MAX_LINES}: split it by what it does")
        if name.endswith((".h", ".cc", ".cu", ".cuh")) and not SEAMS.search(name):
            messages += [
                f"{name}:{number}: no conditional compilation here: choose at run time or in CMake"
                for number, line in enumerate(lines, 1) if CONDITIONAL.match(line)
            ]
    return messages


LICENCE = "// SPDX-License-Identifier: Apache-2.0\n"
main(check, [
    ({"common/a.h": "#pragma once\n"}, "SPDX"),
    ({"scripts/a.py": "#!/usr/bin/python3\nprint()\n"}, "SPDX"),
    ({"common/a.cc": LICENCE + "\n" * MAX_LINES}, "at most 500"),
    ({"common/a.cc": LICENCE + "#ifdef LOCKSTEP_CUDA\n#endif\n"}, "conditional"),
])
