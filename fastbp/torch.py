"""Networks as modules of PyTorch and back, state dicts, and a module whose gradients the compiled core computes.

State dicts are read and written without PyTorch; all else imports it when it is called.
"""

from __future__ import annotations

import copy
import functools
import json
import os
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastbp.checks import counted, shown
from fastbp.core.activations import LEAK
from fastbp.files import read_tensors, write_tensors
from fastbp.names import listed
from fastbp.network import Network, check_network, check_theta
from fastbp.readers import dense
from fastbp.recognition import GRID, SEVERAL, activation_of, places
from fastbp.workspace import Array

__all__ = ["from_torch", "function", "load_state_dict", "save_state_dict", "to_torch"]

# Modules of PyTorch that are activations of fastbp, with their settings. By default Softplus(z) is z from 20 on, which
# leaves out 2e-9: in float64 that is more than rounding.
MODULES: dict[str, tuple[str, dict[str, Any]]] = {
    "sigmoid": ("Sigmoid", {}), "tanh": ("Tanh", {}), "relu": ("ReLU", {}),
    "leaky_relu": ("LeakyReLU", {"negative_slope": LEAK}), "elu": ("ELU", {}), "selu": ("SELU", {}),
    "gelu": ("GELU", {}), "gelu_tanh": ("GELU", {"approximate": "tanh"}), "silu": ("SiLU", {}), "mish": ("Mish", {}),
    "softplus": ("Softplus", {"threshold": 40.0}), "softmax": ("Softmax", {"dim": -1})}


def __dir__() -> list[str]:
    return __all__


def _needed(what: str) -> Any:
    """Return the package torch; an ImportError says how to get it."""
    try:
        import torch
    except ImportError:
        raise ImportError(f'{what} needs PyTorch: pip install "fastbp[torch]"') from None
    return torch


def _numbered(network: Network) -> dict[int, tuple[Array, Array]]:
    """Return weight (n_out, n_in) and bias of each layer, by the number of its Linear in the Sequential.

    An identity takes no module. input_scale becomes part of layer 0.
    """
    numbered, number = {}, 0
    for l, (W, b, activation) in enumerate(zip(network.W, network.b, network.activations, strict=True)):
        scale = network.input_scale if l == 0 else 1.0
        numbered[number] = np.ascontiguousarray((W * scale).astype(W.dtype).T), b.copy()
        number += 1 if activation == "identity" else 2
    return numbered


def to_torch(network: Network) -> Any:
    """Make an nn.Sequential of Linear and activation modules that gives the outputs of `network.forward`.

    Parameters
    ----------
    network : Network
        Its parameters are copied. Its input_scale becomes part of the first Linear.

    Returns
    -------
    torch.nn.Sequential
        Of the network's dtype, on the CPU. Softmax or sigmoid at its end is a module: ``model[:-1]`` gives the logits
        that `nn.CrossEntropyLoss` and `nn.BCEWithLogitsLoss` take.

    Raises
    ------
    ImportError
        PyTorch is not installed: pip install "fastbp[torch]".
    TypeError
        It is no Network.
    ValueError
        PyTorch lacks an activation.

    Examples
    --------
    >>> net = Network([4, 8, 3], hidden="tanh")
    >>> to_torch(net)  # doctest: +SKIP
    Sequential(
      (0): Linear(in_features=4, out_features=8, bias=True)
      (1): Tanh()
      (2): Linear(in_features=8, out_features=3, bias=True)
      (3): Softmax(dim=-1)
    )
    """
    torch = _needed("to_torch")
    nn, modules = torch.nn, []
    for activation, (weight, bias) in zip(check_network(network).activations, _numbered(network).values(), strict=True):
        linear = nn.utils.skip_init(nn.Linear, *reversed(weight.shape))  # draws no numbers
        linear.weight, linear.bias = (nn.Parameter(torch.from_numpy(values)) for values in (weight, bias))
        modules.append(linear)
        if activation != "identity":
            if activation not in MODULES:
                raise ValueError(f"PyTorch has no {activation}; it has {', '.join(MODULES)}")
            kind, settings = MODULES[activation]
            modules.append(getattr(nn, kind)(**settings))
    return nn.Sequential(*modules)


def from_torch(module: Any) -> Network:
    """Make a Network of a PyTorch module whose `nn.Linear` layers follow one another, with activations between them.

    How the module is written does not matter: an nn.Sequential, nested or not, or a `forward` of your own. A copy of it
    runs in eval mode on samples (n, n_in). In it, each Linear returns numbers from -1e6 to 1e6, and what the next one
    is given tells the activation between them. Dropout, Identity, and Flatten before the first Linear change nothing.

    Parameters
    ----------
    module : torch.nn.Module
        On any device. Its parameters are copied; a missing bias becomes 0.

    Returns
    -------
    Network
        Of float64 if the first Linear is, otherwise of float32. A last LogSoftmax becomes softmax, so that `forward`
        gives probabilities.

    Raises
    ------
    ImportError
        PyTorch is not installed: pip install "fastbp[torch]".
    TypeError
        It is no nn.Module.
    ValueError
        A module, which is named, has parameters and is no Linear; the layers do not follow one another; between two of
        them is no activation of fastbp; or a parameter is not finite.

    Examples
    --------
    >>> from torch import nn  # doctest: +SKIP
    >>> from_torch(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3), nn.Softmax(-1)))  # doctest: +SKIP
    Network([4, 8, 3], hidden=['relu'], output='softmax', dtype='float32')
    """
    torch = _needed("from_torch")
    if not isinstance(module, torch.nn.Module):
        raise TypeError(f"module must be a torch.nn.Module, got {shown(module)}")
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


def save_state_dict(network: Network, path: str | os.PathLike[str]) -> None:
    """Write the state dict of ``to_torch(network)`` as a safetensors file; PyTorch is not needed.

    The tensors are `0.weight` (n_out, n_in), `0.bias` (n_out,), `2.weight`, ...: numbers between are those of
    activations. `model.load_state_dict(safetensors.torch.load_file(path))` reads it. The names of the activations are
    in its metadata, `fastbp`.

    Parameters
    ----------
    network : Network
        Its input_scale becomes part of the first weight.
    path : str or path
        An old file there is replaced at once, or stays whole if the new one cannot be written.

    Raises
    ------
    OSError
        The file cannot be written.
    ValueError, TypeError
        A parameter is not finite, or it is no Network.

    Examples
    --------
    >>> import os, tempfile
    >>> from safetensors.numpy import load_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_state_dict(Network([4, 8, 3]), os.path.join(folder, "model.safetensors"))
    ...     tensors = load_file(os.path.join(folder, "model.safetensors"))
    >>> tensors["2.weight"].shape
    (3, 8)
    """
    check_theta(check_network(network))
    tensors = {}
    for number, (weight, bias) in _numbered(network).items():
        tensors[f"{number}.weight"], tensors[f"{number}.bias"] = weight, bias
    write_tensors(path, tensors, {"format": "pt", "activations": json.dumps(network.activations)})


def load_state_dict(network: Network, state: Mapping[str, Any] | str | os.PathLike[str]) -> None:
    """Copy the parameters of a PyTorch model, which lie in its state dict or in a safetensors file, into a network.

    Layers are taken by the numbers in their names, `0.weight` and `3.weight` or `fc1.weight` and `fc2.weight`, as files
    do not keep their order. A layer without a bias gets 0. PyTorch is not needed.

    Parameters
    ----------
    network : Network
        With input_scale 1.
    state : dict of tensors or arrays, or path
        ``model.state_dict()``, what `torch.load` gives for one, or the path of a safetensors file.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError, TypeError
        Its names do not say an order, its shapes are not those of the network's layers, or a number is not finite;
        then nothing is copied. Or it is no safetensors file of PyTorch.

    Examples
    --------
    >>> net = Network([3, 2])
    >>> load_state_dict(net, {"0.weight": np.array([[1, 2, 3], [4, 5, 6]]), "0.bias": np.zeros(2)})
    >>> net.W[0]
    array([[1., 4.],
           [2., 5.],
           [3., 6.]], dtype=float32)
    """
    check_network(network)
    if network.input_scale != 1:
        raise ValueError(f"the network multiplies inputs by input_scale={network.input_scale}, which a state dict does "
                         "not know; set it to 1, or set it after loading weights that are made for scaled inputs")
    if isinstance(state, (str, os.PathLike)):
        metadata, state = read_tensors(state, ("pt", None))
        if not state:
            raise ValueError(f"the file has the format {metadata.get('format')!r}, and is no state dict of PyTorch")
    if not isinstance(state, Mapping):
        raise TypeError(f"state must be a dict of tensors or a path, got {shown(state)}")
    left, theta = {name: _as_array(name, value) for name, value in state.items()}, np.zeros_like(network.theta)
    prefixes = _in_order([name.removesuffix("weight") for name in left if re.search(r"(^|\.)weight$", name)])
    if len(prefixes) != len(network.W):
        raise ValueError(f"it has {counted(len(prefixes), 'weight')}, the network {counted(len(network.W), 'layer')}")
    for prefix, W, b in zip(prefixes, *network.views(theta), strict=True):
        for name, own in ((f"{prefix}weight", W.T), (f"{prefix}bias", b)):
            value = left.pop(name, np.zeros(b.shape))
            if value.shape != own.shape:
                raise ValueError(f"{name} is {value.shape}, expected {own.shape}")
            with np.errstate(over="ignore"):
                own[...] = value
            if not np.isfinite(own).all():
                raise ValueError(f"{name} holds NaN or infinity")
    if left:
        raise ValueError(f"it has {listed(list(left))}, which no layer here has")
    network.theta = theta


def _as_array(name: str, value: Any) -> Array:
    """Return a tensor of any type and device, or an array, as an array of numbers."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().double()  # NumPy has no bfloat16
    array = np.asarray(value)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name} must hold numbers, got an array of {array.dtype}")
    return array


def _in_order(prefixes: list[str]) -> list[str]:
    """Return names of layers in the order of their numbers; ValueError: they differ in more than numbers."""
    if len({re.sub(r"\d+", "0", prefix) for prefix in prefixes}) > 1:
        raise ValueError(f"the names {listed(prefixes)} do not say the order of layers; number them: 0.weight, 0.bias, "
                         "1.weight, ...; or load it into the PyTorch model and take from_torch(model)")
    return sorted(prefixes, key=lambda prefix: [int(number) for number in re.findall(r"\d+", prefix)])


def function(network: Network) -> Any:
    """Make a torch.nn.Module of a network, whose outputs and gradients the compiled core computes.

    Gradients flow to the inputs and to `theta`, the only parameter: one vector that shares memory with
    `network.theta`, so that a step of an optimizer of PyTorch changes the network. Second derivatives are refused.

    Parameters
    ----------
    network : Network

    Returns
    -------
    torch.nn.Module
        To be called with a tensor (..., n_in) on the CPU, which gives (..., n_out), as `forward` does. Copies and
        pickles have a network of their own.

    Raises
    ------
    ImportError
        PyTorch is not installed: pip install "fastbp[torch]".
    TypeError
        It is no Network.

    Examples
    --------
    >>> import torch  # doctest: +SKIP
    >>> f = function(Network([4, 8, 3]))  # doctest: +SKIP
    >>> optimizer = torch.optim.Adam(f.parameters())  # doctest: +SKIP
    >>> x = torch.ones(5, 4, requires_grad=True)  # doctest: +SKIP
    >>> f(x).log().mean().backward()  # doctest: +SKIP
    >>> x.grad.shape, f.theta.grad.shape  # doctest: +SKIP
    (torch.Size([5, 4]), torch.Size([67]))
    """
    _needed("function")
    from fastbp.autograd import Differentiable

    return Differentiable(check_network(network))
