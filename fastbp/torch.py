"""Networks as modules of PyTorch and back, state dicts, and a module whose gradients the compiled core computes.

State dicts are read and written without PyTorch; all else imports it when it is called.
"""

from __future__ import annotations

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
from fastbp.torch_reading import read
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
    return read(torch, module)


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
    `network.theta`, so that a step of an optimizer of PyTorch changes the network. Second derivatives, and transforms
    of torch.func, are refused.

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
