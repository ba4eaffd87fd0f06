# SPDX-License-Identifier: Apache-2.0
"""Under torchrun: trains one step and leaves the time at which it was done in a file."""

import json
import os
import pathlib
import sys
import time

import peer_torch


def main():
    setup = json.loads(sys.argv[1]) | {"rank": int(os.environ["RANK"])}
    training = peer_torch.Training(setup)
    training.run(1, 1, "fp32")
    done = time.time()
    pathlib.Path(setup["stamps"], f"first-step-{setup['rank']}").write_text(str(done), encoding="utf-8")


if __name__ == "__main__":
    main()
