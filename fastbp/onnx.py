"""Networks as ONNX graphs, for `Network.to_onnx` and the estimators; only this and `onnx_reading` import onnx.

Opset 20 in files of version 10 is what `torch.onnx.export` writes by default; ONNX Runtime reads it from 1.18 on. What
later opsets add, types of few bits above all, has no use here.

Runtimes replace exact functions by quick ones: ONNX Runtime's float32 Sigmoid is exactly 0 at -18, its Elu is
exp(x) - 1. Such errors are below a few roundings of 1, so a hidden layer of float32 is one operator, which every
runtime knows (`QUICK`). The output may be a probability of 1e-9 or a rate: it is built of elementary functions that
keep all digits (`EXACT`), and so is all of float64, for which ONNX Runtime lacks most of the operators.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fastbp.checks import one_of
from fastbp.core.activations import CUBIC, LEAK, SELU_ALPHA, SELU_SCALE, TAIL
from fastbp.files import write_whole
from fastbp.inputs import Described, several_decisions
from fastbp.names import classifies

OPSET, IR_VERSION = 20, 10
KEY = "fastbp"  # of the metadata: what a graph cannot say of a network, as JSON
INPUT, LABEL, PROBABILITIES, VALUES = "X", "label", "probabilities", "variable"  # as skl2onnx calls them
INPUT_DTYPES = ("float32", "float64", "uint8")
MOST_BYTES = 2**31 - 2**20  # of parameters: protobuf's messages end at 2 GiB
Array = npt.NDArray[Any]


class Exported(Described, Protocol):
    """What of a network becomes a graph."""

    multilabel: bool
    W: list[Array]
    b: list[Array]


def needed(what: str) -> Any:
    """The package onnx, with its submodules; an ImportError that says how to get it."""
    try:
        import onnx
        import onnx.checker
        import onnx.helper
        import onnx.inliner
        import onnx.numpy_helper
    except ImportError:
        raise ImportError(f'{what} needs onnx: pip install "fastbp[onnx]"') from None
    return onnx


class Graph:
    """Nodes and constants in the making, for `add_network`.

    Parameters
    ----------
    dtype : "float32" or "float64"
        Of numbers that are given in place of names.
    prefix : str
        All names that are made here begin with it, so that the nodes can be put into a larger graph.

    Attributes
    ----------
    quick : bool
        Whether hidden layers are single operators (`QUICK`). Without it, opset 13 has all operators.
    """

    def __init__(self, dtype: npt.DTypeLike, prefix: str = ""):
        self.onnx = needed("to_onnx")
        self.dtype, self.prefix = np.dtype(dtype), prefix
        self.quick = self.dtype == np.float32
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}  # TensorProto by name

    def constant(self, value: Any, name: str = "") -> str:
        """The name of a constant: of a number the same one each time."""
        array = value if isinstance(value, np.ndarray) else np.asarray(value, self.dtype)
        name = self.prefix + (name or f"constant_{array.item()!r}")
        if name not in self.constants:
            self.constants[name] = self.onnx.numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def __call__(self, operator: str, *inputs: Any, output: str = "", **attributes: Any) -> str:
        """Add a node of which inputs are names, or numbers; returns the name of its output."""
        names = [each if isinstance(each, str) else self.constant(each) for each in inputs]
        output = output or f"{self.prefix}{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(operator, names, [output], output, **attributes))
        return output


# What each activation is: functions of a graph and the name of z, which give the name of a.
Curve = Callable[[Graph, str], str]


def _single(operator: str, **attributes: Any) -> Curve:
    return lambda g, z: g(operator, z, **attributes)


def _small(g: Graph, z: str) -> str:
    """e^-|z|, which does not overflow."""
    return g("Exp", g("Neg", g("Abs", z)))


def _sigmoid(g: Graph, z: str) -> str:
    """1 or e^-|z|, over 1 + e^-|z|."""
    e = _small(g, z)
    return g("Div", g("Where", g("Less", z, 0), e, 1), g("Add", e, 1))


def _expm1(g: Graph, z: str) -> str:
    """e^z - 1 = tanh(z / 2) (e^z + 1), where z < 0; without cancellation."""
    z = g("Min", z, 0)
    return g("Mul", g("Tanh", g("Mul", z, 0.5)), g("Add", g("Exp", z), 1))


def _elu(g: Graph, z: str) -> str:
    return g("Where", g("Greater", z, 0), z, _expm1(g, z))


def _selu(g: Graph, z: str) -> str:
    below = g("Mul", _expm1(g, z), SELU_SCALE * SELU_ALPHA)
    return g("Where", g("Greater", z, 0), g("Mul", z, SELU_SCALE), below)


def _softplus(g: Graph, z: str) -> str:
    """max(z, 0) + log(1 + e) with e = e^-|z|; as u = 1 + e is rounded, log(1 + e) = log(u) e / (u - 1) (Kahan)."""
    e = _small(g, z)
    u = g("Add", e, 1)
    log = g("Mul", g("Log", u), g("Div", e, g("Sub", u, 1)))
    return g("Add", g("Max", z, 0), g("Where", g("Equal", u, 1), e, log))


def _mish(g: Graph, z: str) -> str:
    """z n / d with n / d = tanh(softplus(z)), of e^-|z|: see fastbp.core.activations."""
    e, below = _small(g, z), g("Less", z, 0)
    n = g("Where", below, g("Mul", e, g("Add", e, 2)), g("Add", g("Mul", e, 2), 1))
    rest = g("Where", below, 2, g("Mul", g("Mul", e, e), 2))
    return g("Mul", z, g("Div", n, g("Add", n, rest)))


def _gelu(g: Graph, z: str) -> str:
    """z Phi(z), of the normal distribution's upper tail: see TAIL. 1 + erf would cancel, and Erf has no float64."""
    single = g.dtype == np.float32
    size = g("Min", g("Abs", z), 13.5 if single else 38.5)
    t = g("Div", g("Sub", size, 4), g("Add", size, 4))
    *coefficients, highest = TAIL[single]
    tail = g.constant(highest)
    for coefficient in reversed(coefficients):
        tail = g("Add", g("Mul", tail, t), coefficient)
    bell = g("Exp", g("Mul", g("Mul", size, size), -0.5))
    tail = g("Div", g("Mul", bell, tail), g("Add", size, 1))
    return g("Mul", z, g("Where", g("Less", z, 0), tail, g("Sub", 1, tail)))


def _gelu_tanh(g: Graph, z: str) -> str:
    """z sigmoid(u); beyond 30 it is z or 0, and z**3 would overflow."""
    (a, _), (b, _) = CUBIC[False]
    near = g("Max", g("Min", z, 30), -30)
    return g("Mul", z, _sigmoid(g, g("Mul", near, g("Add", g("Mul", g("Mul", near, near), b), a))))


EXACT: dict[str, Curve] = {
    "identity": lambda g, z: z, "sigmoid": _sigmoid, "tanh": _single("Tanh"), "relu": _single("Relu"),
    "leaky_relu": lambda g, z: g("Where", g("Less", z, 0), g("Mul", z, LEAK), z),
    "elu": _elu, "selu": _selu, "gelu": _gelu, "gelu_tanh": _gelu_tanh,
    "silu": lambda g, z: g("Mul", z, _sigmoid(g, z)), "mish": _mish, "softplus": _softplus,
    "softmax": _single("Softmax", axis=-1)}
QUICK = EXACT | {
    "sigmoid": _single("Sigmoid"), "leaky_relu": _single("LeakyRelu", alpha=LEAK), "elu": _single("Elu"),
    "selu": _single("Selu", alpha=SELU_ALPHA, gamma=SELU_SCALE), "gelu": _single("Gelu"),
    "gelu_tanh": _single("Gelu", approximate="tanh"), "silu": lambda g, z: g("Mul", z, g("Sigmoid", z)),
    "mish": _single("Mish"), "softplus": _single("Softplus")}


def add_network(graph: Graph, network: Exported, samples: str, outputs: str = "") -> str:
    """Add the nodes that compute outputs a[L] of samples.

    Parameters
    ----------
    graph : Graph
        Of the network's dtype.
    network : Network
    samples, outputs : str
        Names of a tensor (N, n_in) of the graph's dtype, which the nodes multiply by input_scale, and of (N, n_out); an
        empty one is made up.

    Returns
    -------
    str
        The name of the outputs.
    """
    size = sum(part.nbytes for part in (*network.W, *network.b))
    if size > MOST_BYTES:
        raise ValueError(f"the network has {size:,} bytes of parameters; a file of ONNX holds less than 2 GiB")
    a = samples if network.input_scale == 1 else graph("Mul", samples, network.input_scale)
    last = len(network.W) - 1
    for l, (W, b, activation) in enumerate(zip(network.W, network.b, network.activations, strict=True)):
        z = graph("Gemm", a, graph.constant(W, f"W{l + 1}"), graph.constant(b, f"b{l + 1}"))
        a = (QUICK if l < last and graph.quick else EXACT)[activation](graph, z)
    return graph("Identity", a, output=outputs) if outputs else a


def add_decisions(graph: Graph, network: Exported, outputs: str, label: str = LABEL,
                  probabilities: str = PROBABILITIES) -> None:
    """Add the nodes that make of sigmoid or softmax outputs what `predict` and `predict_proba` give.

    label: int64 or text (N,); int64 (N, n_out) of a multilabel network. probabilities: (N, classes).
    """
    n_out = network.layer_sizes[-1]
    several = network.multilabel and several_decisions(n_out, network.activations[-1])
    classes = None if network.classes is None else network.classes.astype(object)
    add_labels(graph, outputs, label, n_out, several, classes)
    add_probabilities(graph, outputs, probabilities, n_out)


def add_labels(graph: Graph, outputs: str, label: str, n_out: int, several: bool, classes: Array | None,
               yes: str = "GreaterOrEqual") -> None:
    """Add the nodes that decide: each output for itself if `several`, else for one of `classes`, of int64 or object.

    yes: the operator that compares a single output with one half.
    """
    if n_out == 1 or several:
        number = graph("Cast", graph(yes, outputs, 0.5), to=graph.onnx.TensorProto.INT64,
                       output=label if several else "")
        if several:
            return
        number = graph("Squeeze", number, graph.constant(np.array([1]), "axes"))
    else:
        number = graph("ArgMax", outputs, axis=1, keepdims=0)
    if classes is None:
        graph("Identity", number, output=label)
    else:  # ArrayFeatureExtractor, which skl2onnx takes, gives (1, N)
        graph("Gather", graph.constant(classes, "classes"), number, output=label)


def add_probabilities(graph: Graph, outputs: str, probabilities: str, n_out: int) -> None:
    """Add the nodes that give the probability of each class."""
    if n_out == 1:
        graph("Concat", graph("Sub", 1, outputs), outputs, axis=1, output=probabilities)
    else:
        graph("Identity", outputs, output=probabilities)


def model_of(network: Exported, input_dtype: str | None = None) -> Any:
    """The onnx.ModelProto of a network; see Network.to_onnx."""
    onnx = needed("to_onnx")
    dtype = network.dtype.name if input_dtype is None else one_of("input_dtype", input_dtype, INPUT_DTYPES)
    graph = Graph(network.dtype)
    kind = kind_of(network.dtype)
    samples = INPUT if dtype == network.dtype.name else graph("Cast", INPUT, to=kind)
    n_in, n_out, info = network.layer_sizes[0], network.layer_sizes[-1], onnx.helper.make_tensor_value_info
    if classifies(network.activations[-1]):
        add_decisions(graph, network, add_network(graph, network, samples))
        several = network.multilabel and several_decisions(n_out, network.activations[-1])
        label_kind = onnx.TensorProto.INT64 if several or network.classes is None else onnx.TensorProto.STRING
        outputs = [info(LABEL, label_kind, ["N", n_out] if several else ["N"]),
                   info(PROBABILITIES, kind, ["N", max(2, n_out)])]
    else:
        add_network(graph, network, samples, VALUES)
        outputs = [info(VALUES, kind, ["N", n_out])]
    return model_with(graph, network, info(INPUT, kind_of(dtype), ["N", n_in]), outputs)


def model_with(graph: Graph, network: Exported, samples: Any, outputs: list[Any]) -> Any:
    """The onnx.ModelProto of a graph whose input and outputs are these onnx.ValueInfoProto."""
    helper = graph.onnx.helper
    made = helper.make_graph(graph.nodes, "fastbp", [samples], outputs, list(graph.constants.values()))
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION,
                              producer_name="fastbp")
    helper.set_model_props(model, {KEY: json.dumps(_names(network), sort_keys=True)})
    return model


def kind_of(dtype: npt.DTypeLike) -> int:
    """ONNX's number of a type."""
    return int(needed("to_onnx").helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def _names(network: Exported) -> dict[str, Any]:
    classes = network.classes
    return {"multilabel": network.multilabel, "feature_names": network.feature_names,
            "target_names": network.target_names, "classes": None if classes is None else classes.tolist()}


def write(model: Any, path: str | os.PathLike[str]) -> None:
    """Write an onnx.ModelProto; an old file stays whole if that fails."""
    write_whole(path, model.SerializeToString(deterministic=True))
