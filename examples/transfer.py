"""Transfer from other digits
===========================

Learn from few labels what many labels of another task have taught: a network learns the digits 0 to 4 from all their
images; then 5 to 9 are learned from 100 labels, with its hidden layers or from scratch.

Means of the test accuracy over seeds 0 to 4, with all images: 85.7% from scratch; 86.7% with the first layer taken and
frozen; 82.0% with both layers frozen, for the second one has become special to 0 to 4; 87.4% with both layers taken and
none frozen, which is better than from scratch in four of the five. Arguments: the seed, and the number of images.
"""

import sys

import numpy as np

from fastbp import Network, Trainer, data

seed, most = [int(text) for text in sys.argv[1:]] or (0, 60_000)  # most: of the training images
mnist = data.mnist()
x, y = mnist.x_train[:most], mnist.y_train[:most]
known, late = y < 5, mnist.y_test >= 5

first = Network([784, 256, 128, 5], seed=seed, input_scale=mnist.input_scale)
Trainer(first, optimizer="adam", seed=seed).fit(x[known], y[known], epochs=5)

rest = np.flatnonzero(~known)
_, few = data.split(len(rest), 100 / len(rest), stratify=y[rest], seed=seed)
few = rest[few]
x_test, y_test = mnist.x_test[late], mnist.y_test[late] - 5


def learned(taken, frozen):
    """Return the accuracy on the test digits 5 to 9, with layers taken from the first network, some of them frozen."""
    net = Network([784, 256, 128, 5], seed=seed + 100, input_scale=mnist.input_scale)
    if taken:
        net.take_layers(first, taken)
    trainer = Trainer(net, optimizer="adam", batch_size=10, frozen=frozen, seed=seed)
    trainer.fit(x[few], y[few] - 5, epochs=100)
    return trainer.evaluate(x_test, y_test)[1]


print(f"{known.sum():,} images of 0 to 4, {len(few)} labels of 5 to 9; test digits 5 to 9 that are right:")
for how, taken, frozen in (("from scratch", [], []), ("first layer taken, frozen", [0], [0]),
                           ("both layers taken, frozen", [0, 1], [0, 1]), ("both taken, first frozen", [0, 1], [0]),
                           ("both taken, none frozen", [0, 1], [])):
    print(f"{how:<26} {learned(taken, frozen):.2%}")
