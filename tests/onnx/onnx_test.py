# SPDX-License-Identifier: Apache-2.0
"""Models of every kind of layer, checked and run by the format's own package and by onnxruntime."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

BIN = pathlib.Path(os.environ["LOCKSTEP_BIN_DIR"])

try:
    import numpy
    import onnx
    import onnx.reference
    import onnxruntime
except ImportError as missing:
    print(f"skipped: {missing}; scripts/install-peers brings it, from Python's package index")
    sys.exit(77)


def shape_of(value):
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


class OnnxTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="lockstep-onnx-")
        subprocess.run([BIN / "write_onnx_cases", cls.folder.name], check=True)
        cls.cases = json.loads((pathlib.Path(cls.folder.name) / "cases.json").read_text())

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def each(self, check):
        """check(case, model) for each; a failure names the layers."""
        for case in self.cases:
            with self.subTest(kind=case["kind"], layers=case["layers"]):
                check(case, onnx.load(case["file"]))

    def test_the_checker_accepts_every_model_and_finds_the_same_shapes(self):
        def check(case, model):
            onnx.checker.check_model(model, full_check=True)
            # Worked out anew from the operators, not read from the file.
            del model.graph.output[:]
            model.graph.output.append(onnx.ValueInfoProto(name="output"))
            inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
            self.assertEqual(shape_of(inferred.graph.output[0]), ["N", *case["output"]])
            self.assertEqual(shape_of(inferred.graph.input[0]), ["N", *case["input"]])

        self.each(check)

    def run_all(self, session_of):
        worst = []

        def check(case, model):
            session = session_of(model)
            for run in case["runs"]:
                x = numpy.array(run["inputs"], numpy.float32).reshape(run["rows"], *case["input"])
                expected = numpy.array(run["outputs"], numpy.float32).reshape(run["rows"], *case["output"])
                (got,) = session.run(None, {"input": x})
                self.assertEqual(got.shape, expected.shape)
                error = numpy.abs(got - expected) / numpy.maximum(1, numpy.abs(expected))
                self.assertLessEqual(error.max(), case["tolerance"])
                worst.append(error.max() / case["tolerance"])

        self.each(check)
        print(f"largest difference: {max(worst):.2f} of the tolerance", file=sys.stderr)

    def test_the_reference_evaluator_computes_the_same(self):
        self.run_all(onnx.reference.ReferenceEvaluator)

    def test_onnxruntime_computes_the_same(self):
        self.run_all(lambda model: onnxruntime.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]))


if __name__ == "__main__":
    print(f"onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}", file=sys.stderr)
    unittest.main()
