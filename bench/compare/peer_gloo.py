# SPDX-License-Identifier: Apache-2.0
"""One process of a gloo group: times all_reduce of gradients that it has just written. The argument is a JSON object."""

import json
import sys
import time

import torch
import torch.distributed

MOVED_BYTES = 256 << 20


def main():
    setup = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{setup['rendezvous']}", rank=setup["rank"],
                                         world_size=setup["ranks"])
    times = {}
    for size in setup["sizes"]:
        gradient = torch.empty(size // 4)
        rounds = max(7, min(400, MOVED_BYTES // size))
        times[size] = []
        for turn in range(-2, rounds):
            gradient.fill_(turn)
            torch.distributed.barrier()
            began = time.perf_counter()
            torch.distributed.all_reduce(gradient)
            took = time.perf_counter() - began
            assert gradient[-1] == setup["ranks"] * turn
            if turn >= 0:
                times[size].append(took * 1e6)
    print(json.dumps(times))


if __name__ == "__main__":
    main()
