"""Modules of PyTorch that are a chain of dense layers, read; `fastbp.torch.from_torch` calls it.

How a module is written tells little of what it computes. So a copy of it runs, in which each Linear returns numbers
that are chosen here. What the next one is given is a function of them, and the activation is the one that gives the
same.
"""

from __future__ import annotations

import copy
import functools
from typing import Any

import numpy as np

from fastbp.network import Network, check_theta
from fastbp.readers import dense
from fastbp.recognition import GRID, SEVERAL, activation_of, places
from fastbp.workspace import Array


def read(torch: Any, module: Any) -> Network:
    """Return the network of a module; see fastbp.torch.from_torch."""
    return _Reader(torch, module).network()


class _Reader:
    """Runs a copy of a module whose Linears return numbers of GRID, and looks at what the next one is given."""

    def __init__(self, torch: Any, module: Any):
        self.torch, self.copy = torch, copy.deepcopy(module).eval()
        self.found: list[tuple[str, Any]] = []  # Linears, in the order in which they are called
        self.activations: list[str] = []  # behind each
        self.between: list[str] = []  # modules that were called since the last of them
        linears = [(name, one) for name, one in self.copy.named_modules() if self._is_linear(name, one)]
        if not linears:
            raise ValueError(f"a {type(module).__name__} without an nn.Linear has no layers for a Network")
        first = linears[0][1]
        self.dtype = np.dtype("float64" if first.weight.dtype == torch.float64 else "float32")
        self.copy.to("cpu", getattr(torch, self.dtype.name))
        self.n_in = first.in_features
        for name, linear in linears:
            linear.forward = functools.partial(self._take, name, linear)

    def _is_linear(self, name: str, module: Any) -> bool:
        """Whether it is a plain Linear; modules without parameters are watched, others refused."""
        own = {parameter for parameter, _ in module.named_parameters(recurse=False)}
        if type(module) is self.torch.nn.Linear and own in ({"weight"}, {"weight", "bias"}):
            return True
        said = f"{name!r} ({type(module).__name__})" if name else type(module).__name__
        if own:
            raise ValueError(f"{said} has no counterpart in a Network, which takes nn.Linear and activations without "
                             "parameters")
        if not any(module.children()):
            module.register_forward_hook(lambda *_: self.between.append(said))
        return False

    def network(self) -> Network:
        try:
            outputs = self._run()
        except _OtherWidthError as error:  # the first Linear that is called is not the first that was made
            self.n_in = error.n_in
            outputs = self._run()
        if not isinstance(outputs, self.torch.Tensor):
            raise ValueError(f"the module returns a {type(outputs).__name__}, expected one tensor")
        if not self.found:
            raise ValueError("the module computes its output without an nn.Linear")
        self._end_segment(outputs, "the output")
        weights = [linear.weight.detach().numpy().T for _, linear in self.found]
        biases = [0 if linear.bias is None else linear.bias.detach().numpy() for _, linear in self.found]
        *hidden, output = self.activations
        network: Network = dense(Network, weights, biases, hidden, output)
        check_theta(network)
        return network

    def _run(self) -> Any:
        X = np.random.default_rng(0).normal(size=(SEVERAL, self.n_in))
        self.samples = self.torch.from_numpy(X.astype(self.dtype))
        with self.torch.no_grad():
            return self.copy(self.samples.clone())

    def _take(self, name: str, linear: Any, inputs: Any) -> Any:
        """Return numbers of GRID in place of the outputs of a Linear."""
        if inputs.shape[-1] != linear.in_features:
            message = f"{name!r} takes {linear.in_features} numbers a sample, and gets {inputs.shape[-1]}"
            raise ValueError(message) if self.found else _OtherWidthError(message, linear.in_features)
        self._end_segment(inputs, repr(name))
        self.found.append((name, linear))
        return self.torch.from_numpy(GRID.astype(self.dtype)[self._places()])

    def _places(self) -> Array:
        """Return places in GRID of what the last Linear returns: each has others."""
        which = places(SEVERAL, self.found[-1][1].out_features)
        return (which + 17 * len(self.found)) % SEVERAL

    def _end_segment(self, values: Any, taker: str) -> None:
        """Find what the modules since the last Linear did to its outputs, or to the samples, to give these values."""
        a, between = values.numpy(), ", ".join(self.between) or "forward"
        self.between.clear()
        if not self.found:
            if not (a.shape == self.samples.shape and np.array_equal(a, self.samples.numpy())):
                raise ValueError(f"{between} changes the samples before the first nn.Linear, {taker}")
            return
        z, which, is_last = GRID.astype(self.dtype), self._places(), taker == "the output"
        name = activation_of(z, which, a) if a.shape == which.shape else None
        with np.errstate(over="ignore"):
            if name is None and is_last and activation_of(z, which, np.exp(a)) == "softmax":
                name = "softmax"
        if name is None or (name == "softmax" and not is_last):
            raise ValueError(f"{between}, between {self.found[-1][0]!r} and {taker}: no activation that fits there "
                             "gives the same")
        self.activations.append(name)


class _OtherWidthError(ValueError):
    """The first Linear takes samples of n_in numbers."""

    def __init__(self, message: str, n_in: int):
        super().__init__(message)
        self.n_in = n_in
