"""FASTBP_PLAIN=1, which needs next to nothing of Numba's internals: the same bits, in a process of its own."""


import pytest
from rig import python

FIT = """
import hashlib
import sys
import numpy as np
from fastbp import Adam, Lion, Network, Trainer, cost_and_gradient, losses
from fastbp.core import compiler
from fastbp.data import Augmentation

print(compiler.PLAIN, file=sys.stderr)
x, y = np.random.default_rng(0).normal(size=(400, 5)), np.arange(400) % 3
total = hashlib.sha256()

def fourth_power(z, a, t, delta):
    delta[:] = (a - t) ** 3
    return ((a - t) ** 4).sum() / 4

for threads in (1, 2):
    net = Network([5, 7, 3], hidden="gelu")
    options = dict(dropout=0.1, noise=0.1, clip_norm=1.0, max_norm=2.0, batch_size=100, threads=threads,
                   augmentation=Augmentation(1, 9, elastic=1, shape=(1, 5)))
    Trainer(net, optimizer=Lion(), **options).fit(x, y, 3, sample_weight=np.arange(400) + 1.0)
    total.update(net.theta.tobytes() + net.forward(x[:2].astype("f4")).tobytes() + net.forward(x).tobytes())
    total.update(cost_and_gradient(net, x, y, threads=threads)[1].tobytes())
net = Network([5, 9, 3], hidden="tanh", output="identity")
Trainer(net, losses.Custom(fourth_power, outputs="identity"), Adam(0.01), 50).fit(x, np.eye(3)[y], 2)
print(total.hexdigest(), hashlib.sha256(net.theta.tobytes()).hexdigest())
"""


def fitted(plain):
    done = python(FIT, FASTBP_PLAIN=plain)
    assert done.returncode == 0, done.stderr
    assert str(plain == "1") in done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_same_bits():
    assert fitted("1") == fitted("0")
