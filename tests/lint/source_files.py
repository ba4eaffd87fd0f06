# SPDX-License-Identifier: Apache-2.0
"""What the lints share: the source tree's files, and how a lint reports and tests itself."""
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def files(root, suffixes):
    """Paths relative to root, sorted; hidden folders and build trees are left out."""
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = [f for f in folders if not f.startswith(".") and f not in ("build", "__pycache__")]
        found += [Path(folder, n).relative_to(root) for n in names if n.endswith(suffixes)]
    return sorted(found)


def main(check, bad_samples):
    """Runs check(root) -> messages on the tree; with --self-test, shows that every bad sample, a map
    of file name to text with the words its message must have, is refused."""
    if sys.argv[1:] == ["--self-test"]:
        for sample, words in bad_samples:
            with tempfile.TemporaryDirectory() as folder:
                for name, text in sample.items():
                    path = Path(folder, name)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(text, encoding="utf-8")
                messages = check(Path(folder))
                if not any(words in m for m in messages):
                    sys.exit(f"self-test: no message with '{words}' for {sorted(sample)}: {messages}")
        print(f"{len(bad_samples)} bad samples refused")
        return
    messages = check(ROOT)
    for message in messages:
        print(message, file=sys.stderr)
    sys.exit(1 if messages else 0)
