# SPDX-License-Identifier: Apache-2.0
"""Trains a row with TensorFlow, as a user writes it: a compiled step of Keras on batches that are drawn by index.

Speaks as peer_torch.py does; one rank only, and the number of threads is fixed at the start.
"""

import json
import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy  # noqa: E402
import tensorflow as tf  # noqa: E402

import datasets  # noqa: E402

keras = tf.keras


def layer(kind, options):
    activation = options.get("activation") or None
    if kind == "flatten":
        return keras.layers.Flatten()
    if kind == "reshape":
        # Keras keeps channels last.
        channels, height, width = options["target_shape"]
        return keras.layers.Reshape((height, width, channels))
    if kind == "dropout":
        return keras.layers.Dropout(options["rate"])
    if kind == "max_pooling2d":
        return keras.layers.MaxPooling2D()
    if kind == "dense":
        return keras.layers.Dense(options["units"], activation=activation)
    if kind == "conv2d":
        return keras.layers.Conv2D(options["filters"], options["kernel_size"], padding=options["padding"].lower(),
                                   activation=activation)
    raise ValueError(kind)


def optimizer(spec):
    (kind, options), = spec.items()
    if kind == "adam":
        return keras.optimizers.Adam(options["learning_rate"])
    return keras.optimizers.SGD(options["learning_rate"], momentum=options.get("momentum", 0.0))


class Training:
    def __init__(self, setup):
        tf.config.threading.set_intra_op_parallelism_threads(setup["threads"])
        tf.config.threading.set_inter_op_parallelism_threads(1)
        samples, labels = datasets.load_training(setup["root"], setup["dataset"])
        x = samples.astype(numpy.float32) / 255
        if x.ndim == 4:
            x = x.transpose(0, 2, 3, 1)
        self.x, self.y = tf.constant(x), tf.constant(labels)
        model = keras.Sequential([keras.Input(x.shape[1:])] + [layer(*next(iter(l.items()))) for l in setup["layers"]])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        update = optimizer(setup["optimizer"])
        update.build(model.trainable_variables)

        @tf.function
        def step(index):
            with tf.GradientTape() as tape:
                value = loss(tf.gather(self.y, index), model(tf.gather(self.x, index), training=True))
            update.apply_gradients(zip(tape.gradient(value, model.trainable_variables), model.trainable_variables))

        self.step = step
        self.batch = setup["batch"]
        self.batches = self.epoch()

    def epoch(self):
        while True:
            order = tf.random.shuffle(tf.range(len(self.x)))
            for i in range(0, len(order) - self.batch + 1, self.batch):
                yield order[i:i + self.batch]

    def run(self, steps, threads, precision):
        del threads, precision
        began = time.perf_counter()
        for _ in range(steps):
            self.step(next(self.batches))
        return time.perf_counter() - began


def main():
    training = Training(json.loads(sys.argv[1]))
    print(json.dumps({"version": tf.__version__, "blas": "its own"}), flush=True)
    for line in sys.stdin:
        print(json.dumps({"seconds": training.run(**json.loads(line))}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
