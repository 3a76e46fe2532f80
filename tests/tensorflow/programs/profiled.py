"""Profiles a small model of Keras with TensorFlow's own profiler: python profiled.py MODE FOLDER."""

import sys

import numpy as np

import tensorflow as tf

mode, folder = sys.argv[1:]
keras = tf.keras
model = keras.Sequential(
    [keras.layers.Input((64,)), keras.layers.Dense(256, activation="relu"), keras.layers.Dense(10)]
)
images = np.random.default_rng(0).random((8, 64), dtype="float32")
labels = np.zeros(8, dtype="int64")
serve = tf.function(lambda batch: model(batch, training=False))
serve(images)
model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
model.fit(images, labels, verbose=0)

tf.profiler.experimental.start(folder)
for number in range(4):
    if mode == "functions":
        serve(images)
    elif mode == "steps":
        with tf.profiler.experimental.Trace("infer", step_num=number, _r=1):
            serve(images)
    else:
        model.fit(images, labels, verbose=0)
tf.profiler.experimental.stop()
