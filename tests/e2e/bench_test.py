# SPDX-License-Identifier: Apache-2.0
"""`lockstep bench`: each command measures something real, and its figures fit each other."""

import json
import os
import pathlib
import subprocess
import tempfile
import unittest
import xml.dom.minidom

import harness
import processes


class BenchTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="lockstep-e2e-data-")
        cls.root = pathlib.Path(cls.folder.name)
        # 62 whole batches: whichever steps are traced, all have as many rows.
        harness.synthetic_data(cls.root, train=62 * 32)
        cls.job = cls.root / "job.json"
        cls.job.write_text(json.dumps(harness.job("bench", "synthetic-digits", harness.MLP, workers=2)))

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def bench(self, *arguments):
        done = subprocess.run([harness.BIN / "lockstep", "-o", "json", "bench", *arguments], capture_output=True,
                              text=True, timeout=120, env=os.environ | {"LOCKSTEP_DATA_DIR": str(self.root)})
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return json.loads(done.stdout)

    def test_gemm(self):
        plot = self.root / "gemm.svg"
        report = self.bench("gemm", "--sizes", "64,256", "--seconds", "0.01", "--plot", plot)
        self.assertEqual([(p["name"], p["n"]) for p in report["products"]],
                         [(name, n) for name in ("fp32", "fp64", "bf16") for n in (64, 256)])
        for product in report["products"]:
            self.assertEqual(product["flops"], 2 * product["n"] ** 3)
            self.assertAlmostEqual(product["gflops"] * product["seconds"] * 1e9, product["flops"], delta=1)
            # Between a machine of the last century and one that there is not.
            self.assertTrue(0.01 < product["gflops"] < 1e5, product)
        levels = {level["name"]: level for level in report["levels"]}
        self.assertEqual(list(levels), ["1: axpy", "2: gemv", "3: gemm"])
        self.assertGreater(levels["3: gemm"]["flops_per_byte"], 100 * levels["2: gemv"]["flops_per_byte"])
        self.assertGreater(levels["3: gemm"]["gflops"], levels["1: axpy"]["gflops"])
        self.assertEqual(len(xml.dom.minidom.parse(str(plot)).getElementsByTagName("polyline")), 3)

    def test_step(self):
        plot = self.root / "step.svg"
        report = self.bench("step", self.job, "--seconds", "0.2", "--plot", plot)
        self.assertEqual((report["batch"], report["shards"]), (32, 2))
        self.assertEqual(report["layers"][0]["name"].split("/")[0].split("+")[0], "dense")
        # No gradient of the samples: forward once, and the kernel's gradient.
        self.assertEqual(report["layers"][0]["flops"], 2 * 2 * 32 * 784 * 128)
        self.assertEqual(report["layers"][-1]["flops"], 3 * 2 * 32 * 128 * 10)
        parts = sum(layer["forward_seconds"] + layer["backward_seconds"] for layer in report["layers"])
        parts += report["data_seconds"] + report["loss_seconds"] + report["update_seconds"]
        parts += report["gradient_sum_seconds"]
        # Medians of the parts, against the median of the whole.
        self.assertTrue(0.7 * report["step_seconds"] < parts < 1.2 * report["step_seconds"], report)
        shares = [report[name] for name in ("compute_share", "communication_share", "data_stall_share")]
        self.assertAlmostEqual(sum(shares), 1)
        self.assertTrue(all(0 < share < 1 for share in shares), shares)
        xml.dom.minidom.parse(str(plot))

    def test_trace(self):
        path = self.root / "trace.json"
        report = self.bench("step", self.job, "--seconds", "0.2", "--device", "cpu", "--trace", path)
        trace = json.loads(path.read_text())
        self.assertEqual(trace["otherData"]["device"], report["device"])
        events = [event for event in trace["traceEvents"] if event["ph"] == "X"]
        steps = {event["args"]["step"]: event for event in events if event["cat"] == "step"}
        self.assertEqual(len(steps), 5)
        # Microseconds, of whole nanoseconds.
        reached, parts = {}, dict.fromkeys(steps, 0)
        for event in events:
            self.assertGreaterEqual(event["ts"], reached.get(event["tid"], 0) - 1e-4, event)
            reached[event["tid"]] = event["ts"] + event["dur"]
            step = steps[event["args"]["step"]]
            self.assertLessEqual(reached[event["tid"]], step["ts"] + step["dur"] + 1e-4, event)
            if event["cat"] != "step":
                parts[event["args"]["step"]] += event["dur"]
        for number, step in steps.items():
            self.assertAlmostEqual(parts[number], step["dur"], places=2)
        rows = {event["tid"]: event["args"]["name"] for event in trace["traceEvents"] if event["name"] == "thread_name"}
        self.assertEqual({rows[event["tid"]] for event in events}, {"steps", "data", "compute", "communication"})
        first = next(event for event in events if event["name"] == "dense forward")
        self.assertEqual(first["args"]["shapes"],
                         {"inputs": ["[16, 784]"], "output": "[16, 128]", "dense/kernel": "[784, 128]",
                          "dense/bias": "[128]"})
        self.assertEqual(first["args"]["flops"], 2 * 16 * 784 * 128)
        self.assertAlmostEqual(first["args"]["gflops_per_second"], first["args"]["flops"] / first["dur"] / 1e3, delta=1)

    def test_a_gpu_that_there_is_not_is_an_error(self):
        trace = self.root / "none.json"
        for arguments in (("step", self.job, "--device", "cuda", "--trace", trace), ("gemm", "--device", "CUDA:0"),
                          ("step", self.job, "--set", "resources.device=DEVICE_CUDA")):
            done = subprocess.run([harness.BIN / "lockstep", "bench", *arguments], capture_output=True, text=True,
                                  timeout=60, env=os.environ | {"LOCKSTEP_DATA_DIR": str(self.root),
                                                                "CUDA_VISIBLE_DEVICES": ""})
            self.assertEqual(done.returncode, 6, done.stderr)
            self.assertIn("error: GPU 0 is asked for: ", done.stderr)
            self.assertIn("`lockstep devices`", done.stderr)
        self.assertFalse(trace.exists())

    def test_allreduce(self):
        report = self.bench("allreduce", "--ranks", "2", "--max-bytes", "65536")
        self.assertEqual(report["ranks"], 2)
        sizes = [row["bytes"] for row in report["rows"]]
        self.assertEqual(sizes, sorted(sizes))
        self.assertEqual((sizes[0], sizes[-1]), (4096, 65536))
        for row in report["rows"]:
            self.assertGreater(row["mpi_allreduce_us"], 0)
            self.assertGreater(row["fastest_us"], 0)
            self.assertAlmostEqual(row["algorithm_gb_s"] * row["canonical_us"] * 1e3, row["bytes"],
                                   delta=0.02 * row["bytes"] + 1)

    def test_start(self):
        report = self.bench("start", self.job, "--runs", "1", "--set", "training.epochs=10000")
        times = [phase["seconds"] for phase in report["phases"]]
        self.assertEqual([phase["name"] for phase in report["phases"]][-1], "first step done")
        self.assertEqual(times, sorted(times))
        self.assertTrue(0 < times[0] and times[-1] == report["first_step_seconds"] < 60, report)
        self.assertEqual(processes.find(tempfile.gettempdir() + "/lockstep-bench-"), [], "nothing is left behind")

    def test_bad_input(self):
        for arguments, word in ((("step", self.root / "none.yaml"), "none.yaml"), (("gemm", "--sizes", "0"), "sizes"),
                                (("gemm", "--device", "tpu"), '"tpu" is no device'),
                                (("step", self.job, "--trace", self.root / "no-folder" / "x.json"), "no-folder"),
                                (("allreduce", "--ranks", "1"), "ranks"), (("start", self.root / "none.yaml"), "run")):
            done = subprocess.run([harness.BIN / "lockstep", "bench", *arguments], capture_output=True, text=True,
                                  timeout=60, env=os.environ | {"LOCKSTEP_DATA_DIR": str(self.root)})
            self.assertNotEqual(done.returncode, 0, arguments)
            self.assertIn(word, done.stderr)


if __name__ == "__main__":
    unittest.main()
