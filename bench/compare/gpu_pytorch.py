#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Lockstep beside PyTorch on GPUs: the same models and batches, in turns in one run; prints ratios.

PyTorch is measured as eager code, as torch.compile, and as a CUDA graph of the whole step, each with the samples on the
GPU and batches by index; with several GPUs also as DistributedDataParallel, by torchrun. Lockstep is measured as it is
used: `lockstep run` of a job file.

Usage: gpu_pytorch.py --lockstep BIN_FOLDER [--only NAME,...] [--seconds S] [--rounds N] [--json FILE]
Exits with 77 where PyTorch finds no GPU.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from gpu_rows import ROWS, draw, job, network
from sides import Lockstep, SideError

# Before a step is recorded: libraries choose their algorithms.
GRAPH_WARM_UP = 3
DDP_WARM_UP, DDP_STEPS = 20, 200


class Training:
    """A row with PyTorch on one GPU; `step` is what one step of a user's loop does."""

    def __init__(self, torch, row, precision, mode, rank=0, ranks=1):
        self.torch, self.row, self.batch = torch, row, row.batch // ranks
        self.device = torch.device("cuda", rank)
        torch.cuda.set_device(self.device)
        torch.manual_seed(1)
        # "highest": no TF32 in FP32 work.
        torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
        torch.backends.cudnn.allow_tf32 = precision == "tf32"
        data, memory = row.data, torch.channels_last if row.channels_last else torch.contiguous_format
        self.x = torch.rand((data.samples, *data.shape), device=self.device).contiguous(memory_format=memory)
        self.y = torch.randint(data.classes, (data.samples,), device=self.device)
        self.autocast = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
        model = network(row).to(self.device, memory_format=memory)
        if ranks > 1:
            model = torch.nn.parallel.DistributedDataParallel(model, device_ids=[rank])
        self.loss = torch.nn.CrossEntropyLoss()
        options = dict(next(iter(row.optimizer.values())))
        rate = options.pop("learning_rate")
        if "adam" in row.optimizer:
            # A graph needs the step count on the GPU.
            self.optimizer = torch.optim.Adam(model.parameters(), lr=rate, capturable=mode == "graph")
        else:
            self.optimizer = torch.optim.SGD(model.parameters(), lr=rate, **options)
        self.model = torch.compile(model) if mode == "compile" else model
        self.step = self.graph() if mode == "graph" else self.eager
        self.order = torch.randperm(data.samples, device=self.device)
        self.at = 0

    def index(self):
        if self.at + self.batch > len(self.order):
            self.order = self.torch.randperm(len(self.order), device=self.device)
            self.at = 0
        self.at += self.batch
        return self.order[self.at - self.batch:self.at]

    def work(self, x, y):
        with self.torch.autocast("cuda", dtype=self.autocast, enabled=self.autocast is not None):
            loss = self.loss(self.model(x), y)
        loss.backward()
        self.optimizer.step()

    def eager(self):
        index = self.index()
        self.optimizer.zero_grad(set_to_none=True)
        self.work(self.x[index], self.y[index])

    def graph(self):
        """The step of PyTorch's manual: gathered batches are copied into the graph's inputs."""
        torch = self.torch
        x, y = self.x[:self.batch].clone(), self.y[:self.batch].clone()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(GRAPH_WARM_UP):
                self.optimizer.zero_grad(set_to_none=True)
                self.work(x, y)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.cuda.graph(graph):
            self.work(x, y)

        def step():
            index = self.index()
            torch.index_select(self.x, 0, index, out=x)
            torch.index_select(self.y, 0, index, out=y)
            graph.replay()

        return step

    def measure(self, seconds):
        """Steps per second, after a warm-up of a tenth of a second at least."""
        self.run_for(0.1)
        return self.run_for(seconds)

    def run_for(self, seconds):
        torch, steps, chunk = self.torch, 0, 1
        torch.cuda.synchronize()
        began = time.perf_counter()
        while True:
            for _ in range(chunk):
                self.step()
            torch.cuda.synchronize()
            steps += chunk
            spent = time.perf_counter() - began
            if spent >= seconds:
                return steps / spent
            chunk = min(1000, chunk * 2)


def measure_torch(torch, row, precision, mode, seconds):
    """Steps per second; None and why not."""
    try:
        training = Training(torch, row, precision, mode)
        speed = training.measure(seconds)
    except Exception as error:  # A compiler that is missing, say: the other sides go on.
        return None, (str(error).strip() or repr(error)).splitlines()[0]
    finally:
        training = None
        torch.cuda.empty_cache()
    return speed, ""


def ddp_main(arguments):
    """One rank under torchrun; rank 0 prints steps per second."""
    import torch
    import torch.distributed

    rank, ranks = int(os.environ["LOCAL_RANK"]), int(os.environ["WORLD_SIZE"])
    torch.distributed.init_process_group("nccl")
    row = next(row for row in ROWS if row.name == arguments.ddp)
    training = Training(torch, row, arguments.precision, "eager", rank, ranks)
    # The same steps on every rank.
    for _ in range(DDP_WARM_UP):
        training.step()
    torch.cuda.synchronize()
    torch.distributed.barrier()
    began = time.perf_counter()
    for _ in range(DDP_STEPS):
        training.step()
    torch.cuda.synchronize()
    if rank == 0:
        print(json.dumps({"steps_per_second": DDP_STEPS / (time.perf_counter() - began)}))
    torch.distributed.destroy_process_group()


def measure_ddp(row, precision, gpus):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={gpus}", __file__,
               "--ddp", row.name, "--precision", precision]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode != 0:
        return None, done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "failed"
    return json.loads(done.stdout.strip().splitlines()[-1])["steps_per_second"], ""


def measure_lockstep(side, row, precision, ranks, root, seconds):
    spec = job(row, precision, ranks)
    why = side.refuses(spec, root)
    if why:
        return None, why.splitlines()[0]
    try:
        return side.measure(spec, root, seconds) / row.batch, ""
    except (SideError, subprocess.TimeoutExpired, ValueError) as error:
        return None, (str(error).strip() or repr(error)).splitlines()[0]


def median_of(rounds):
    """(median or None, why not) of [(speed, why)]."""
    speeds = [speed for speed, _ in rounds if speed is not None]
    return (statistics.median(speeds), "") if speeds else (None, rounds[0][1])


def compare(torch, arguments, side, root):
    gpus = torch.cuda.device_count()
    results = []
    for row in ROWS:
        if arguments.only and row.name not in arguments.only.split(","):
            continue
        draw(row.data, root, side.lockstep)
        for precision in row.precisions:
            rounds = {}
            for _ in range(arguments.rounds):
                # In turns: what slows the machine down meets all of them.
                for mode in ("eager", "compile", "graph"):
                    rounds.setdefault(mode, []).append(measure_torch(torch, row, precision, mode, arguments.seconds))
                rounds.setdefault("lockstep", []).append(
                    measure_lockstep(side, row, precision, 1, root, arguments.seconds))
                if gpus > 1:
                    rounds.setdefault("ddp", []).append(measure_ddp(row, precision, gpus))
                    rounds.setdefault(f"lockstep x{gpus}", []).append(
                        measure_lockstep(side, row, precision, gpus, root, arguments.seconds))
            medians = {side_name: median_of(of) for side_name, of in rounds.items()}
            results.append({"name": row.name, "what": row.what, "precision": precision,
                            "steps_per_second": {k: v for k, (v, _) in medians.items()},
                            "why_not": {k: why for k, (v, why) in medians.items() if v is None}})
            print(describe(results[-1], gpus), flush=True)
            write(torch, arguments, side, results)


def write(torch, arguments, side, results):
    """After each row: what is known is there, however this ends."""
    if not arguments.json:
        return
    with open(arguments.json, "w", encoding="utf-8") as file:
        json.dump({"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "lockstep": side.name,
                   "results": results}, file, indent=2)


def ratio(result, ours, theirs):
    speeds = result["steps_per_second"]
    if speeds.get(ours) is None or speeds.get(theirs) is None:
        return "–"
    return f"{speeds[ours] / speeds[theirs]:.2f}"


def number(value):
    return "–" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def describe(result, gpus):
    """A row of the table."""
    speeds = result["steps_per_second"]
    cells = [result["what"], result["precision"], *(number(speeds.get(k)) for k in
                                                     ("lockstep", "eager", "compile", "graph")),
             *(ratio(result, "lockstep", k) for k in ("eager", "compile", "graph"))]
    if gpus > 1:
        ours = f"lockstep x{gpus}"
        cells += [number(speeds.get(ours)), number(speeds.get("ddp")), ratio(result, ours, "ddp")]
    why = "; ".join(f"{k}: {v}" for k, v in result["why_not"].items())
    return "| " + " | ".join(cells) + " |" + (f"  ({why})" if why else "")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lockstep", help="folder of Lockstep's programs")
    parser.add_argument("--only", help="names of rows, separated by commas")
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", help="also write everything here")
    parser.add_argument("--ddp", help=argparse.SUPPRESS)
    parser.add_argument("--precision", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.ddp:
        return ddp_main(arguments)
    try:
        import torch
    except ImportError:
        print("gpu_pytorch: no PyTorch in this Python", file=sys.stderr)
        return 77
    if not torch.cuda.is_available():
        print("gpu_pytorch: PyTorch finds no GPU", file=sys.stderr)
        return 77
    if not arguments.lockstep:
        parser.error("--lockstep is needed: the folder of Lockstep's programs")
    side = Lockstep(arguments.lockstep)
    print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}, {side.name}; steps per second\n")
    header = ["work", "precision", "Lockstep", "eager", "torch.compile", "CUDA graph", "by eager", "by compile",
              "by graph"]
    if torch.cuda.device_count() > 1:
        header += ["Lockstep, all GPUs", "DDP", "ratio"]
    print("| " + " | ".join(header) + " |\n|" + " --- |" * len(header))
    with tempfile.TemporaryDirectory(prefix="lockstep-gpu-") as folder:
        compare(torch, arguments, side, pathlib.Path(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
