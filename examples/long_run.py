"""A run that may be killed
========================

A run that may be killed: run it, stop it with Ctrl-C, run it again; it goes on where it was, and ends the same.

Fine-tunes a part of a network, too: its first layer comes from another one, and stays what it is.
"""

from fastbp import AdamW, Network, Trainer, data, schedules
from fastbp.callbacks import Checkpoint, EarlyStopping, JSONLog

mnist = data.mnist()
small = mnist.y_train < 5  # the digits 0 to 4 are learned first, then all ten with their first layer
first = Network([784, 128, 5], seed=0, input_scale=mnist.input_scale)
Trainer(first, optimizer="adam").fit(mnist.x_train[small], mnist.y_train[small], epochs=4)

net = Network([784, 128, 64, 10], seed=1, input_scale=mnist.input_scale)
net.take_layers(first, [0])
trainer = Trainer(net, optimizer=AdamW(eta=0.003), schedule=schedules.Cosine(), dropout=[0.0, 0.1, 0.1], clip_norm=1.0,
                  ema=0.99, frozen=[0])
checkpoint = Checkpoint("run", seconds=1, resume=True)
history = trainer.fit(mnist.x_train, mnist.y_train, epochs=8, validation_fraction=0.1, stratify=True, metrics=["f1"],
                      callbacks=[EarlyStopping("f1", patience=3), JSONLog("run.jsonl"), checkpoint])
if checkpoint.resumed:
    print(f"went on from {checkpoint.resumed}")
cost, accuracy = trainer.evaluate(mnist.x_test, mnist.y_test)
print(f"{len(history.loss)} epochs, F1 {max(history.metrics['f1']):.4f}, test accuracy {accuracy:.2%}")
assert accuracy > 0.95
