# SPDX-License-Identifier: Apache-2.0
"""Models handed on: export, evaluation, prediction, and other models' weights to start from."""

import csv
import gzip
import json
import pathlib
import shutil
import struct
import subprocess
import tempfile
import unittest

import harness
import numpy
from harness import SOURCE, Coordinator, job

LAYERS = [
    {"flatten": {}},
    {"name": "body", "dense": {"units": 32, "use_bias": False}},
    {"name": "norm", "batch_normalization": {"momentum": 0.9}},
    {"name": "bend", "gelu": {}},
    {"dropout": {"rate": 0.2}},
    {"name": "head", "dense": {"units": 10}},
]
METRICS = [{"accuracy": {}}]


def read_safetensors(path):
    raw = pathlib.Path(path).read_bytes()
    end = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:end])
    header.pop("__metadata__", None)
    return {name: numpy.frombuffer(raw[end:], numpy.float32)[t["data_offsets"][0] // 4:t["data_offsets"][1] // 4]
            .reshape(t["shape"]) for name, t in header.items()}


def write_safetensors(path, tensors):
    """As PyTorch's users write them; the types are float32 and int64."""
    header, data = {}, b""
    for name, tensor in tensors.items():
        tensor = numpy.ascontiguousarray(tensor)
        kind = {"float32": "F32", "int64": "I64"}[tensor.dtype.name]
        header[name] = {"dtype": kind, "shape": list(tensor.shape),
                        "data_offsets": [len(data), len(data) + tensor.nbytes]}
        data += tensor.tobytes()
    text = json.dumps(header).encode()
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(text)) + text + data)


def as_pytorch(tensors):
    """The state_dict of a torch.nn.Module with the same layers."""
    names = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
    state = {"net.norm.num_batches_tracked": numpy.array(7, numpy.int64)}
    for name, tensor in tensors.items():
        layer, parameter = name.split("/")
        if parameter == "kernel":
            state[f"net.{layer}.weight"] = tensor.T
        else:
            state[f"net.{layer}.{names.get(parameter, parameter)}"] = tensor
    return state


class ModelsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="lockstep-e2e-models-")
        cls.root = pathlib.Path(cls.folder.name)
        harness.synthetic_data(cls.root, train=1000, test=300)
        cls.images = cls.root / "synthetic-digits/t10k-images-idx3-ubyte"
        cls.labels = numpy.frombuffer((cls.root / "synthetic-digits/t10k-labels-idx1-ubyte").read_bytes()[8:],
                                      numpy.uint8)
        cls.coordinator = Coordinator([cls.root])
        cls.done = cls.coordinator.train(cls.spec("first", epochs=2))
        cls.results = pathlib.Path(cls.done["outputDir"])
        cls.weights = read_safetensors(cls.results / "model.safetensors")

    @classmethod
    def tearDownClass(cls):
        cls.coordinator.__exit__(None)
        cls.folder.cleanup()

    @staticmethod
    def spec(name, layers=None, **options):
        spec = job(name, "synthetic-digits", layers or LAYERS, **options)
        spec["metrics"] = METRICS
        return spec

    def cli(self, *arguments, **options):
        return self.coordinator.cli(*arguments, **options)

    def last_epoch(self, job_id):
        return [e["epochCompleted"] for e in self.coordinator.events(job_id) if "epochCompleted" in e][-1]

    def evaluate(self, *arguments):
        return json.loads(self.cli("-o", "json", "eval", *arguments, "--data-root", self.root).stdout)

    def predict(self, model, file, *options):
        out = self.coordinator.folder / "out.npy"
        self.cli("predict", model, file, "--out", out, *options)
        return numpy.load(out)

    def test_an_evaluation_repeats_the_jobs_figures_bit_for_bit(self):
        reported = self.last_epoch(self.done["jobId"])
        for model in (self.done["jobId"], self.results, self.results / "model.safetensors"):
            found = self.evaluate(model)
            self.assertEqual(found["samples"], 300)
            self.assertEqual(found["loss"], reported["testLoss"])
            self.assertEqual({m["name"]: m["value"] for m in found["metrics"]},
                             {m["name"]: m["value"] for m in reported["testMetrics"]})
        self.assertEqual(self.evaluate(self.results, "--train")["samples"], 1000)
        table = self.cli("eval", self.results, "--data-root", self.root).stdout
        self.assertRegex(table, r"accuracy +0\.\d+")

    def test_a_model_trained_in_bfloat16_is_one_of_float32(self):
        spec = self.spec("mixed", epochs=2)
        spec["training"]["precision"] = "PRECISION_MIXED_BFLOAT16"
        done = self.coordinator.train(spec)
        self.assertNotEqual(pathlib.Path(done["outputDir"], "model.safetensors").read_bytes(),
                            (self.results / "model.safetensors").read_bytes())
        reported = self.last_epoch(done["jobId"])
        self.assertEqual(self.evaluate(done["jobId"])["loss"], reported["testLoss"])
        predicted = self.predict(pathlib.Path(done["outputDir"]), self.images)
        self.assertEqual((predicted.argmax(1) == self.labels).mean(), reported["testAccuracy"])
        self.assertTrue((pathlib.Path(done["outputDir"]) / "model.onnx").exists())

    def test_a_checkpoint_is_a_model_too(self):
        checkpoint = next((self.results / "checkpoints").iterdir())
        self.assertEqual(self.evaluate(checkpoint)["samples"], 300)

    def test_a_data_set_of_another_form_is_refused_with_all_that_is_wrong(self):
        path = self.root / "other.yaml"
        path.write_text("dataset: {csv: {path: none.csv, target_columns: [a]}}\n")
        done = self.cli("eval", self.results, path, check=False)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("dataset.csv", done.stderr)

    def test_predictions_agree_with_the_reported_accuracy_whatever_the_file(self):
        rows = list(csv.DictReader(self.cli("predict", self.results, self.images).stdout.splitlines()))
        classes = numpy.array([int(row["class"]) for row in rows])
        self.assertEqual((classes == self.labels).mean(), self.last_epoch(self.done["jobId"])["testAccuracy"])
        logits = self.predict(self.results, self.images)
        self.assertEqual(logits.shape, (300, 10))
        self.assertTrue((logits.argmax(1) == classes).all())
        exact = numpy.exp(logits.astype(numpy.float64) - logits.max(1, keepdims=True))
        exact /= exact.sum(1, keepdims=True)
        got = numpy.array([float(row["probability"]) for row in rows])
        numpy.testing.assert_allclose(got, exact.max(1), rtol=1e-6)

        pixels = numpy.frombuffer(self.images.read_bytes()[16:], numpy.uint8).reshape(300, 28, 28)
        numpy.save(self.root / "pixels.npy", pixels)
        numpy.savez_compressed(self.root / "pixels.npz", other=pixels[:1], images=pixels.astype(numpy.float64))
        with gzip.open(self.root / "pixels.gz", "wb") as packed:
            packed.write(self.images.read_bytes())
        for file in ("pixels.npy", "pixels.npz:images", "pixels.gz"):
            self.assertEqual(self.predict(self.results, self.root / file).tobytes(), logits.tobytes(), file)

        top = list(csv.reader(self.cli("predict", self.results, self.images, "--top", "3").stdout.splitlines()))
        self.assertEqual(top[0], [f"{what}_{i}" for i in (1, 2, 3) for what in ("class", "probability")])
        self.assertEqual([int(cell) for cell in top[1][::2]], list(numpy.argsort(-logits[0], kind="stable")[:3]))
        line = json.loads(self.cli("-o", "json", "predict", self.results, self.images).stdout.splitlines()[0])
        self.assertEqual(line["classes"][0]["index"], classes[0])

    def test_samples_that_do_not_fit_are_refused_with_their_place(self):
        numpy.save(self.root / "small.npy", numpy.zeros((3, 7), numpy.float32))
        (self.root / "cut.npy").write_bytes((self.root / "small.npy").read_bytes()[:-4])
        (self.root / "text.csv").write_text("a,b\n1,2\n")
        for file, words in (("small.npy", "[3, 7]"), ("cut.npy", "cut.npy"), ("text.csv", "not trained on a table"),
                            ("missing.npy", "cannot open")):
            done = self.cli("predict", self.results, self.root / file, check=False)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(words, done.stderr)
        done = self.cli("predict", self.root, self.images, check=False)
        self.assertEqual(done.returncode, 4)
        self.assertIn("model.safetensors", done.stderr)

    def test_the_onnx_file_computes_what_predict_does(self):
        out = self.root / "again.onnx"
        self.cli("export", self.done["jobId"], "--out", out)
        self.assertEqual(out.read_bytes(), (self.results / "model.onnx").read_bytes())
        copy = self.root / "copy.safetensors"
        self.cli("export", self.results, "--format", "safetensors", "--out", copy)
        self.assertEqual(copy.read_bytes(), (self.results / "model.safetensors").read_bytes())
        numpy.save(self.root / "expected.npy", self.predict(copy, self.images))
        pixels = numpy.frombuffer(self.images.read_bytes()[16:], numpy.uint8).reshape(300, 28, 28)
        numpy.save(self.root / "inputs.npy", pixels.astype(numpy.float32) * numpy.float32(1 / 255))
        program = """
import json, sys, numpy, onnx, onnxruntime
model = onnx.load(sys.argv[1])
onnx.checker.check_model(model, full_check=True)
metadata = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
assert abs(metadata["preprocessing"]["scale"] - 1 / 255) < 1e-12, metadata
assert metadata["job"]["loss"] == {"sparse_categorical_crossentropy": {"from_logits": True}}, metadata
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
(got,) = session.run(None, {"input": numpy.load(sys.argv[2])})
expected = numpy.load(sys.argv[3])
# Sums of 784 and of 32 rounded terms on both sides.
tolerance = 2 * (784 + 32 + 8) * numpy.finfo(numpy.float32).eps
assert (numpy.abs(got - expected) / numpy.maximum(1, numpy.abs(expected))).max() <= tolerance
"""
        ran = subprocess.run([SOURCE / "scripts/with-peers", "-c", program, out, self.root / "inputs.npy",
                              self.root / "expected.npy"], capture_output=True, text=True, check=False)
        if ran.returncode == 77:
            self.skipTest(ran.stdout.strip())
        self.assertEqual(ran.returncode, 0, ran.stderr)

    def started_from(self, name, weights, layers, **options):
        spec = self.spec(name, layers, **options)
        spec["model"]["initial_weights"] = weights
        return spec

    def refusals(self, spec):
        path = self.root / "refused.json"
        path.write_text(json.dumps(spec))
        done = self.cli("submit", path, check=False)
        self.assertEqual(done.returncode, 2, done.stderr)
        return done.stderr

    def test_a_new_head_is_trained_on_a_frozen_body(self):
        shutil.copy(self.results / "model.safetensors", self.root / "first.safetensors")
        frozen = [{**layer, "trainable": False} if layer.get("name") in ("body", "norm") else layer
                  for layer in LAYERS[:-1]]
        layers = [*frozen, {"name": "new_head", "dense": {"units": 10}}]
        weights = {"path": "first.safetensors", "exclude_layers": ["head", "new_head"]}
        found = {}
        for workers in (1, 2):
            spec = self.started_from(f"tuned-{workers}", weights, layers, epochs=3, workers=workers, shards=2, seed=9,
                                     optimizer={"adam": {"learning_rate": 0.02}})
            done = self.coordinator.train(spec)
            found[workers] = pathlib.Path(done["outputDir"]) / "model.safetensors"
        self.assertEqual(found[1].read_bytes(), found[2].read_bytes())
        tuned = read_safetensors(found[1])
        for name, tensor in self.weights.items():
            if not name.startswith("head/"):
                self.assertEqual(tuned[name].tobytes(), tensor.tobytes(), name)
        self.assertNotIn("head/kernel", tuned)
        self.assertGreater(self.evaluate(found[1].parent)["metrics"][0]["value"], 0.5)

    def test_pytorchs_weights_are_taken_over_bit_for_bit(self):
        write_safetensors(self.root / "torch.safetensors", as_pytorch(self.weights))
        # Nothing is trained, so that what was read is still there at the end.
        layers = [{**layer, "trainable": False} for layer in LAYERS]
        for layer in layers:
            if "name" in layer:
                layer["name"] = f"net_{layer['name']}"
        weights = {"path": "torch.safetensors", "names": "TENSOR_NAMES_PYTORCH"}
        done = self.coordinator.train(self.started_from("torch", weights, layers))
        found = read_safetensors(pathlib.Path(done["outputDir"]) / "model.safetensors")
        self.assertEqual({name: t.tobytes() for name, t in found.items()},
                         {f"net_{name}": t.tobytes() for name, t in self.weights.items()})

    def test_weights_that_do_not_fit_are_refused_at_submit_one_by_one(self):
        tensors = dict(self.weights)
        tensors.pop("norm/beta")
        tensors["head/bias"] = numpy.zeros(3, numpy.float32)
        tensors["tail/kernel"] = numpy.zeros((2, 2), numpy.float32)
        write_safetensors(self.root / "bad.safetensors", tensors)
        told = self.refusals(self.started_from("bad", {"path": "bad.safetensors", "exclude_layers": ["boddy"]}, LAYERS))
        for words in ("norm/beta [32]", "head/bias has the shape [3]", "tail/kernel [2, 2]", "exclude_layers[0]",
                      'did you mean "body"'):
            self.assertIn(words, told)
        (self.root / "text.safetensors").write_text("no tensors")
        for path, words in (("text.safetensors", "not a valid safetensors file"), ("none.safetensors", "none.safetensors"),
                            ("", "is missing"), ("../x.safetensors", "../x.safetensors")):
            self.assertIn(words, self.refusals(self.started_from("bad", {"path": path}, LAYERS)))

    def test_a_table_keeps_its_statistics_and_classes(self):
        source = numpy.random.default_rng(3)
        lines = ["size,color,junk,kind"]
        for _ in range(400):
            size, color = source.normal(5, 2), source.choice(["red", "blue"])
            kind = "large, red" if size > 5 and color == "red" else "other"
            lines.append(f'{size:.4f},{color},x,"{kind}"')
        (self.root / "things.csv").write_text("\n".join(lines) + "\n")
        spec = self.spec("table", [{"dense": {"units": 16, "activation": "relu"}}, {"dense": {"units": 2}}], epochs=8,
                         optimizer={"adam": {"learning_rate": 0.02}})
        spec["dataset"] = {"csv": {"path": "things.csv", "target_columns": ["kind"], "ignore_columns": ["junk"],
                                   "categorical_columns": ["color"], "classify_target": True,
                                   "standardize_features": True}}
        done = self.coordinator.train(spec)
        reported = self.last_epoch(done["jobId"])
        found = self.evaluate(done["outputDir"])
        self.assertEqual((found["loss"], found["metrics"][0]["value"]),
                         (reported["testLoss"], reported["testAccuracy"]))
        whole = self.evaluate(done["outputDir"], self.root / "things.csv")
        self.assertEqual(whole["samples"], 400)
        # Columns in another order, one that is not known, and none for the target.
        (self.root / "new.csv").write_text("color,more,size\nred,1,9.5\nblue,2,9.5\n")
        rows = list(csv.DictReader(self.cli("predict", done["outputDir"], self.root / "new.csv").stdout.splitlines()))
        self.assertEqual([row["class"] for row in rows], ["large, red", "other"])


if __name__ == "__main__":
    unittest.main()
