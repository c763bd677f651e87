"""The bar of a fit: on a terminal and in notebooks, where it is one of text if ipywidgets is not installed."""


import pytest
from rig import python

# A kernel, as far as fastbp and tqdm look at it. A real one was tried as well: ipykernel 7.4.0, with and without
# ipywidgets 8.
KERNEL = """
import sys, types
class ZMQInteractiveShell:
    kernel = object()
ipython = types.ModuleType("IPython")
ipython.get_ipython = ZMQInteractiveShell
sys.modules |= {"IPython": ipython, "ipykernel.zmqshell": types.ModuleType("ipykernel.zmqshell"), "ipywidgets": None}
"""
CONSOLE = KERNEL.replace("kernel = object()", "pass")
NO_SHELL = KERNEL.replace("= ZMQInteractiveShell", "= lambda: None")
FIT = """
import numpy as np
from fastbp import Network, Trainer
Trainer(Network([3, 2]), threads=1).fit(np.zeros((10, 3)), np.zeros(10, int), 5{progress})
"""


def written(script):
    """What a process of its own writes on standard error, which is no terminal; warnings are shown, as tqdm itself
    catches those that are errors."""
    done = python(script, warnings="always")
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_a_notebook_shows_a_bar():
    text = written(KERNEL + FIT.format(progress=""))
    assert "5/5" in text
    assert "Warning" not in text


def test_a_bar_can_be_switched_off():
    assert "5/5" not in written(KERNEL + FIT.format(progress=", progress=False"))


@pytest.mark.parametrize("before", ["", CONSOLE, NO_SHELL], ids=["no IPython", "IPython without a kernel", "no shell"])
def test_a_pipe_gets_no_bar_unless_it_is_asked_for(before):
    assert "5/5" not in written(before + FIT.format(progress=""))
    assert "5/5" in written(before + FIT.format(progress=", progress=True"))
