#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes metrics.json beside this file: what NumPy computes, for losses_test.cc.

Each metric is written here by its definition, sample by sample or by Keras's formula, and not as the
worker does it. Outputs and targets are rounded to float first.
"""

import json
import pathlib

import numpy as np

RNG = np.random.default_rng(20240609)


def rounded(x):
    return np.asarray(x, np.float32).astype(np.float64)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def auc(yes, probabilities, thresholds=200):
    """keras.metrics.AUC with its defaults: ROC, interpolation."""
    epsilon = 1e-7
    at = [-epsilon] + [(i + 1) / (thresholds - 1) for i in range(thresholds - 2)] + [1 + epsilon]
    tp = np.array([np.sum((probabilities > t) & yes) for t in at])
    fp = np.array([np.sum((probabilities > t) & ~yes) for t in at])
    x, y = fp / np.sum(~yes), tp / np.sum(yes)
    return float(np.sum((x[:-1] - x[1:]) * (y[:-1] + y[1:]) / 2))


def divide(a, b):
    return float(a / b) if b else 0.0


def sides(yes, taken):
    tp, fp, fn = np.sum(yes & taken), np.sum(~yes & taken), np.sum(yes & ~taken)
    return {"precision": divide(tp, tp + fp), "recall": divide(tp, tp + fn), "f1_score": divide(2 * tp, 2 * tp + fp + fn)}


def class_means(labels, taken):
    occurring = sorted(set(labels) | set(taken))
    each = [sides(labels == c, taken == c) for c in occurring]
    return {name: float(np.mean([e[name] for e in each])) for name in each[0]}


def classes_case(rows, classes, targets, loss, k):
    logits = rounded(RNG.normal(size=(rows, classes)) * 2)
    # Two equal outputs: the lower index wins.
    logits[0, 1] = logits[0, 0] = logits[0].max() + 1
    labels = RNG.integers(0, classes - 1, rows)
    # Outputs that know something.
    logits[np.arange(rows), labels] = rounded(logits[np.arange(rows), labels] + 1.5)
    one_hot = np.eye(classes)[labels]
    target = rounded(0.7 * one_hot + 0.3 / classes) if targets == "distributions" else labels
    outputs, logarithms = logits, np.log(softmax(logits))
    if not list(loss.values())[0].get("from_logits"):
        outputs = rounded(softmax(logits))
        logarithms = np.log(outputs)
    taken = outputs.argmax(-1)
    order = np.argsort(-outputs, axis=-1, kind="stable")
    matrix = np.zeros((classes, classes))
    np.add.at(matrix, (labels, taken), 1)
    q = target if targets == "distributions" else one_hot
    probabilities = np.exp(logarithms)
    values = {"accuracy": float(np.mean(taken == labels)),
              "top_k_accuracy": float(np.mean([labels[i] in order[i, :k] for i in range(rows)])),
              **class_means(labels, taken),
              "auc": auc(q > 0.5, probabilities),
              "confusion_matrix": float(np.mean(taken == labels)),
              "perplexity": float(np.exp(np.mean(-(q * logarithms).sum(-1))))}
    return {"loss": loss, "metrics": [{"accuracy": {}}, {"top_k_accuracy": {"k": k}}, {"precision": {}}, {"recall": {}},
                                      {"f1_score": {}}, {"auc": {}}, {"confusion_matrix": {}}, {"perplexity": {}}],
            "output": outputs.tolist(), "target": target.tolist(), "labels": targets == "labels", "values": values,
            "matrix": matrix.flatten().tolist()}


def binary_case(rows, width, labels, loss, threshold, thresholds):
    logits = rounded(RNG.normal(size=(rows, width)))
    yes = RNG.random((rows, width)) < sigmoid(2 * logits)
    from_logits = loss["binary_crossentropy"].get("from_logits")
    outputs = logits if from_logits else rounded(sigmoid(logits))
    probabilities = sigmoid(logits) if from_logits else outputs
    taken, at_half = probabilities > threshold, probabilities > 0.5
    values = {"binary_accuracy": float(np.mean(taken == yes)), **sides(yes, taken), "auc": auc(yes, probabilities, thresholds)}
    given = {"threshold": threshold}
    metrics = [{"binary_accuracy": given}, {"precision": given}, {"recall": given}, {"f1_score": given},
               {"auc": {"num_thresholds": thresholds}}]
    result = {"loss": loss, "metrics": metrics, "output": outputs.tolist(), "values": values, "labels": labels,
              "target": yes[:, 0].astype(int).tolist() if labels else yes.astype(float).tolist()}
    if width == 1:
        values["accuracy"] = values["confusion_matrix"] = float(np.mean(at_half == yes))
        metrics += [{"accuracy": {}}, {"confusion_matrix": {}}]
        result["matrix"] = [int(np.sum((yes == i) & (at_half == j))) for i in (0, 1) for j in (0, 1)]
    return result


def hinge_case(rows):
    outputs = rounded(RNG.normal(size=(rows, 1)))
    yes = RNG.random((rows, 1)) < sigmoid(2 * outputs)
    taken = outputs > 0
    values = {"accuracy": float(np.mean(yes == taken)), "binary_accuracy": float(np.mean(yes == taken)), **sides(yes, taken)}
    return {"loss": {"hinge": {}}, "metrics": [{name: {}} for name in values], "output": outputs.tolist(),
            "target": (2.0 * yes - 1).tolist(), "labels": False, "values": values}


def numbers_case(rows, width, loss):
    target = rounded(RNG.normal(size=(rows, width)) * 3 + 1)
    outputs = rounded(target + RNG.normal(size=(rows, width)))
    error = outputs - target
    values = {"mean_squared_error": float(np.mean(error ** 2)), "mean_absolute_error": float(np.mean(np.abs(error))),
              "r_squared": float(1 - np.sum(error ** 2) / np.sum((target - target.mean()) ** 2))}
    return {"loss": loss, "metrics": [{name: {}} for name in values], "output": outputs.tolist(),
            "target": target.tolist(), "labels": False, "values": values}


def main():
    sparse, dense = "sparse_categorical_crossentropy", "categorical_crossentropy"
    cases = [classes_case(60, 7, "labels", {sparse: {"from_logits": True}}, 3),
             classes_case(40, 3, "labels", {sparse: {}}, 2),
             classes_case(40, 5, "labels", {sparse: {"from_logits": True, "label_smoothing": 0.1}}, 1),
             classes_case(40, 4, "distributions", {dense: {"from_logits": True}}, 2),
             binary_case(60, 1, True, {"binary_crossentropy": {"from_logits": True}}, 0.3, 200),
             binary_case(60, 1, True, {"binary_crossentropy": {}}, 0.6, 50),
             binary_case(30, 4, False, {"binary_crossentropy": {}}, 0.5, 2),
             hinge_case(40),
             numbers_case(40, 1, {"mean_squared_error": {}}),
             numbers_case(40, 3, {"huber": {}}),
             numbers_case(40, 2, {"mean_absolute_error": {}})]
    path = pathlib.Path(__file__).with_name("metrics.json")
    path.write_text(json.dumps(cases, separators=(",", ":")).replace('},{"loss"', '},\n{"loss"') + "\n")


if __name__ == "__main__":
    main()
