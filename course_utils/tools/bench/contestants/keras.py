"""Keras 3 with torch as its backend: torchvision's network as one layer, then compile and fit."""

import keras

from course_utils.tools.bench.task import Task


def train(task: Task) -> float:
    layer = keras.layers.TorchModuleWrapper(task.model, output_shape=(None, task.num_classes))
    inputs = keras.Input(task.image_shape)
    model = keras.Model(inputs, layer(inputs))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(task.lr, momentum=0.9), loss, metrics=["accuracy"])
    history = model.fit(task.train, validation_data=task.val, validation_freq=task.every, epochs=task.epochs, verbose=0)
    return float(history.history["val_accuracy"][-1])
