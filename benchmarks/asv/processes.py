"""What a user waits for, and the memory it takes, before and beside the arithmetic: fresh processes, two threads."""

import os
import subprocess
import sys
from pathlib import Path

from .cases import only_with

BENCHMARKS = Path(__file__).parents[1]

BEFORE = """
import numpy as np
import fastbp
x, y = np.random.default_rng(0).random((128, 784), np.float32), np.arange(128) % 10
trainer = fastbp.Trainer(fastbp.Network([784, 128, 10]))
"""
FIRST_STEP = "assert trainer.fit(x, y, 1, progress=False).loss[0] > 0 and trainer.steps_done == 1"
EMPTY_CACHE = """
import os, tempfile
folder = tempfile.TemporaryDirectory()
os.environ["NUMBA_CACHE_DIR"] = folder.name
"""
MNIST = """
import fastbp
data = fastbp.data.mnist()
net = fastbp.Network([784, 128, 10])
net.input_scale = 1 / 255
trainer = fastbp.Trainer(net)
"""
EPOCH = "trainer.fit(data.x_train, data.y_train, 1, progress=False)"

# By way of a small process: the peak of a process counts that of the one that started it, which holds Numba here.
PEAK = "import sys; from process import run; print(run(sys.argv[2:], sys.argv[1])[1])"


def python(*arguments):
    """What a Python process that can import the other benchmarks prints."""
    return subprocess.run([sys.executable, *arguments], cwd=BENCHMARKS, check=True, stdout=subprocess.PIPE,
                          text=True).stdout


def peak(script):
    """Peak resident MB of a Python process."""
    return float(python("-c", PEAK, os.environ.get("NUMBA_CACHE_DIR", ""), sys.executable, "-c", script))


class Import:
    """Seconds of an import in a fresh process; NumPy's and Numba's are part of fastbp's."""

    params = ["numpy", "numba", "fastbp"]
    param_names = ["package"]
    number, repeat = 1, 5

    def setup(self, package):
        only_with(2)

    def timeraw_import(self, package):
        return f"import {package}"


class FirstStep:
    """Seconds of the first training step of a fresh process (784-128-10, batch 128), its machine code on disk."""

    number, repeat = 1, 5

    def setup(self):
        only_with(2)
        python("-c", BEFORE + FIRST_STEP)  # now it is on disk

    def timeraw_cached(self):
        return FIRST_STEP, BEFORE


class FirstStepEver:
    """Seconds of the same with an empty cache: with what a user waits for the compiler, once."""

    number, repeat, warmup_time = 1, 1, 0

    def setup(self):
        only_with(2)

    def timeraw_compiling(self):
        return FIRST_STEP, EMPTY_CACHE + BEFORE


class Memory:
    """Peak resident MB of a fresh process that sets MNIST and a trainer up; of one that then trains an epoch."""

    unit = "MB"
    params = ["set-up", "training"]
    param_names = ["until"]

    def setup(self, until):
        only_with(2)
        python("-c", MNIST + EPOCH)  # compiles, which takes more memory

    def track_peak(self, until):
        return peak(MNIST + EPOCH if until == "training" else MNIST)
