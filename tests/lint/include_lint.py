# SPDX-License-Identifier: Apache-2.0
"""Holds the arrows between folders: who may include whom. The table is include_rules.json."""
import json
import re
from pathlib import Path

from source_files import files, main

RULES = json.loads(Path(__file__).with_name("include_rules.json").read_text(encoding="utf-8"))
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def folder_of(path):
    """The longest folder of the table that holds path, 'proto' for generated code, else None."""
    if path.startswith("lockstep/v1/"):
        return "proto"
    known = [f for f in [*RULES["folders"], *RULES["free"]] if path.startswith(f + "/")]
    return max(known, key=len) if known else None


def refusal(root, path, quote, included):
    """Why the file may not include the header, or None."""
    for rule in RULES["outside"]:
        if not re.fullmatch(rule["header"], included):
            continue
        place = "/" + path
        inside = lambda parts: any(("/" + p.lstrip("/")) in place for p in parts)
        if "only" in rule and not inside(rule["only"]):
            return f"<{included}> belongs only in {', '.join(rule['only'])}"
        if "never" in rule and inside(rule["never"]):
            return f"<{included}> must not be known in this folder"
    own, other = folder_of(path), folder_of(included)
    if own in RULES["free"]:
        return None
    if other is None:
        beside = quote == '"' and ((root / path).parent / included).exists()
        return f'"{included}": own headers are included by their path from the root' if beside else None
    if other == own or other in RULES["folders"].get(own, []):
        return None
    return f"{own} must not include {other} ({included})"


def check(root):
    messages = []
    for path in files(root, (".h", ".cc", ".cu", ".cuh", ".inc", ".def")):
        for number, line in enumerate((root / path).read_text(encoding="utf-8").splitlines(), 1):
            match = INCLUDE.match(line)
            reason = match and refusal(root, str(path), match[1], match[2])
            if reason:
                messages.append(f"{path}:{number}: {reason}")
    return messages


main(check, [
    ({"server/core/a.cc": '#include "lockstep/v1/job.pb.h"\n'}, "server/core must not include proto"),
    ({"server/core/a.cc": "#include <grpcpp/grpcpp.h>\n"}, "must not be known"),
    ({"server/rpc/a.cc": '#include "worker/nn/model.h"\n'}, "server/rpc must not include worker/nn"),
    ({"worker/nn/a.h": '#include "worker/comm/communicator.h"\n'}, "worker/nn must not include worker/comm"),
    ({"common/a.h": '#include "common/model/job_plan.h"\n'}, "common must not include common/model"),
    ({"cli/a.cc": '#include "tests/helper.h"\n'}, "cli must not include tests"),
    ({"worker/train/a.cc": "#include <mpi.h>\n"}, "belongs only in"),
    ({"worker/device/a.h": "#include <cuda_runtime.h>\n"}, "belongs only in"),
    ({"worker/device/a.cc": '#include "device.h"\n', "worker/device/device.h": ""}, "from the root"),
])
