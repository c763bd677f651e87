"""ONNX graphs that are a chain of dense layers, read; `Network.from_onnx` calls it.

The graph is cut at its products with weights: Gemm, or MatMul. Constants that are added or multiplied right behind one
join its weights and biases. What is left before the next is an activation, however many nodes it was written in: it is
computed by ONNX's reference evaluator at many numbers, and is the activation of fastbp that gives the same.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastbp.onnx import KEY, PROBABILITIES, needed
from fastbp.recognition import GRID, SEVERAL, activation_of, places

Array = npt.NDArray[Any]
PRODUCTS = ("Gemm", "MatMul")
SHAPES = {"Cast", "CastLike", "Concat", "Constant", "ConstantOfShape", "Dropout", "Expand", "Flatten", "Gather",
          "Identity", "Pad", "Reshape", "Shape", "Slice", "Squeeze", "Transpose", "Unsqueeze"}
# What an activation may be written in, or a constant.
KNOWN = SHAPES | {
    "Abs", "Add", "And", "Atan", "Celu", "Clip", "Div", "Elu", "Equal", "Erf", "Exp", "Gelu", "Greater",
    "GreaterOrEqual", "HardSigmoid", "HardSwish", "LeakyRelu", "Less", "LessOrEqual", "Log", "LogSoftmax", "Max", "Min",
    "Mish", "Mul", "Neg", "Not", "Or", "PRelu", "Pow", "Reciprocal", "ReduceMax", "ReduceSum", "Relu", "Selu",
    "Sigmoid", "Sign", "Softmax", "Softplus", "Softsign", "Sqrt", "Sub", "Tanh", "ThresholdedRelu", "Where"}
SCALER = ("ai.onnx.ml", "Scaler")  # how skl2onnx writes StandardScaler and others
ALL = {("", name) for name in (*KNOWN, *PRODUCTS, "BatchNormalization")} | {SCALER}


class Layer(NamedTuple):
    """a W + b of samples a (n, n_in), and what is made of it."""

    W: Array
    b: Array
    activation: str


class Chain(NamedTuple):
    """What a graph is as a network."""

    layers: list[Layer]
    input_scale: float
    names: dict[str, Any]  # what to_onnx wrote of a network: multilabel, feature_names, target_names, classes


def read(path: str | os.PathLike[str]) -> Chain:
    """The dense layers of a file; see Network.from_onnx."""
    onnx = needed("from_onnx")
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {os.fspath(path)}")
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)  # not its full check, which refuses skl2onnx's multilabel networks
        if model.functions:
            model = onnx.inliner.inline_local_functions(model)
    except Exception as error:  # of protobuf, of the checker and of shape inference, which have no common base
        raise ValueError(f"{os.fspath(path)} is no valid ONNX model: {_first_line(error)}") from None
    try:
        return _Reader(onnx, model).chain()
    except (ValueError, TypeError) as error:
        raise ValueError(f"{os.fspath(path)} is no chain of dense layers: {error}") from None


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _called(node: Any) -> str:
    """A node by its name and operator, for a message."""
    operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    return f"node {(node.name or next(iter(node.output), ''))!r} ({operator})"


class _Reader:
    """One graph on its way to a chain."""

    def __init__(self, onnx: Any, model: Any):
        self.onnx, self.model = onnx, model
        graph = model.graph
        self.constants: dict[str, Array] = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
        inputs = [each for each in graph.input if each.name not in self.constants]
        if len(inputs) != 1:
            raise ValueError(f"it has {len(inputs)} inputs, {', '.join(repr(each.name) for each in inputs)}")
        self.input, self.output = inputs[0], self._output()
        self.nodes = self._varying(self._that_make(self.output))
        self.at = 0  # of the nodes: the next one to read
        self.source: str = self.input.name  # the tensor that this one may take
        self.probe = self._samples()  # numbers that stand for it
        self.n_read = 0  # products

    def _output(self) -> str:
        """Of a classifier the probabilities, or else the only output of numbers with a point."""
        floats = [each.name for each in self.model.graph.output
                  if each.type.tensor_type.elem_type in (self.onnx.TensorProto.FLOAT, self.onnx.TensorProto.DOUBLE)]
        floats = [PROBABILITIES] if PROBABILITIES in floats else floats
        if len(floats) != 1:
            raise ValueError(f"it has {len(floats)} outputs of float32 or float64, which must be one")
        return str(floats[0])

    def _that_make(self, output: str) -> list[Any]:
        """The nodes that a tensor comes from, in their order."""
        wanted, found = {output}, []
        for node in reversed(self.model.graph.node):
            if wanted & set(node.output):
                wanted |= set(node.input)
                found.append(node)
        return found[::-1]

    def _varying(self, nodes: Iterable[Any]) -> list[Any]:
        """The nodes that depend on the input, once all others have become constants; refuses those not known."""
        left = []
        for node in nodes:
            if (node.domain, node.op_type) not in ALL:
                raise ValueError(f"{_called(node)} is no part of one")
            if all(name in self.constants for name in node.input if name):
                self.constants[node.output[0]] = self._run([node], {}, node.output[0])
            else:
                left.append(node)
        return left

    def _run(self, nodes: list[Any], given: Mapping[str, Array], wanted: str) -> Array:
        """Compute a tensor by the reference evaluator, from constants and what is given."""
        from onnx.reference import ReferenceEvaluator

        helper, made = self.onnx.helper, {name for node in nodes for name in node.output}
        used = {name for node in nodes for name in node.input if name and name not in made}
        inputs = {name: given[name] if name in given else self.constants[name] for name in sorted(used)}
        graph = helper.make_graph(nodes, "part", [helper.make_empty_tensor_value_info(name) for name in inputs],
                                  [helper.make_empty_tensor_value_info(wanted)])
        model = helper.make_model(graph, opset_imports=self.model.opset_import, ir_version=self.model.ir_version)
        try:
            with np.errstate(all="ignore"):
                return np.asarray(ReferenceEvaluator(model).run(None, inputs)[0])
        except Exception as error:  # whatever an operator's Python raises
            raise ValueError(f"{_listed(nodes)} cannot be computed: {_first_line(error)}") from None

    def _samples(self) -> Array:
        """Numbers in the shape of the input: many samples, and sizes that are open, but for the first, are 1."""
        kind = self.input.type.tensor_type
        sizes = [size.dim_value for size in kind.shape.dim]
        if len(sizes) < 2 or sizes[-1] < 1:
            raise ValueError(f"the input {self.input.name!r} has no shape (n, n_in) in which n_in is known")
        shape = (SEVERAL, *(max(1, size) for size in sizes[1:]))
        return _different(shape, self.onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))

    def chain(self) -> Chain:
        """All of it."""
        scale, shift = self._constants_behind()
        part, end = self._up_to_product()
        if part:
            same = self._run(part, {self.source: self.probe}, end)
            if not _is_same(same, self.probe, scale.ndim == shift.ndim == 0):
                raise ValueError(f"{_called(part[0])} is before the first Gemm or MatMul")
            self.source, self.probe = end, same
        layers: list[Layer] = []
        while self.at < len(self.nodes):
            layers.append(self._layer(self.nodes[self.at]))
        if not layers:
            raise ValueError("it has neither Gemm nor MatMul")
        if np.ndim(scale) == 0 and scale > 0 and not np.any(shift):
            return Chain(layers, float(scale), self._names())
        W, b, activation = layers[0]
        wide = np.broadcast_to(scale, len(W))[:, np.newaxis] * W
        joined = b + np.broadcast_to(shift, len(W)) @ W.astype(np.float64)
        layers[0] = Layer(wide.astype(W.dtype), joined.astype(W.dtype), activation)
        return Chain(layers, 1.0, self._names())

    def _names(self) -> dict[str, Any]:
        text = next((each.value for each in self.model.metadata_props if each.key == KEY), "{}")
        names = json.loads(text)  # which raises ValueError
        if not isinstance(names, dict):
            raise ValueError(f"its metadata {KEY!r} hold no names")
        return names

    def _is_product(self) -> bool:
        return self.at < len(self.nodes) and self.nodes[self.at].op_type in PRODUCTS

    def _step(self, node: Any, probe: Array) -> None:
        """Go on behind a node."""
        self.at, self.source, self.probe = self.at + 1, node.output[0], probe

    def _constants_behind(self) -> tuple[Array, Array]:
        """Read nodes that only multiply by constants or add them, or give what they are given: factors and terms,
        float64, of each number of a sample or one of all."""
        scale, shift = np.ones(()), np.zeros(())
        while self.at < len(self.nodes) and self._is_alone(self.nodes[self.at]):
            node = self.nodes[self.at]
            read = self._affine(node)
            if read is not None:
                scale, shift = scale * read[0], shift * read[0] + read[1]
                self._step(node, self.probe)
                continue
            if node.op_type not in SHAPES or not all(name in self.constants for name in node.input if name
                                                     and name != self.source):
                break
            same = self._run([node], {self.source: self.probe}, node.output[0])
            if not _is_same(same, self.probe, np.ndim(scale) == np.ndim(shift) == 0 == self.n_read):
                break
            self._step(node, same)
        return scale, shift

    def _is_alone(self, node: Any) -> bool:
        """Whether nothing but this node takes the current tensor."""
        return (self.source in node.input and self.source != self.output
                and sum(self.source in other.input for other in self.nodes) == 1)

    def _affine(self, node: Any) -> tuple[Array, Array] | None:
        """Factor and term of a node that multiplies the current tensor by one and adds the other; None: it does
        not."""
        if node.op_type == "BatchNormalization" and node.input[0] == self.source:
            epsilon = self._options(node).get("epsilon", 1e-5)
            gain, bias, mean, variance = (self._vector(name) for name in node.input[1:5])
            if gain is None or bias is None or mean is None or variance is None:
                return None
            factor: Array = gain / np.sqrt(variance + epsilon)
            return factor, bias - mean * factor
        if (node.domain, node.op_type) == SCALER:
            offset, factor = (np.array(self._options(node).get(name, value), np.float64)
                              for name, value in (("offset", 0.0), ("scale", 1.0)))
            return factor, -offset * factor
        if node.op_type not in ("Add", "Sub", "Mul", "Div") or self.probe.dtype.kind != "f":
            return None
        first = node.input[0] == self.source  # of both, the other is no constant
        value = self._vector(node.input[1 if first else 0])
        if value is None or (node.op_type == "Div" and not first):
            return None
        one, none = np.ones(()), np.zeros(())
        return {"Add": (one, value), "Sub": (one, -value) if first else (-one, value), "Mul": (value, none),
                "Div": (one / value, none)}[node.op_type]

    def _vector(self, name: str) -> Array | None:
        """A constant of one number, or of one for each of a sample: float64, () or (n,); None: it is none."""
        value = self.constants.get(name)
        if value is None or value.size not in (1, self.probe.shape[-1]) or value.size != (value.shape or (1,))[-1]:
            return None
        value = value.astype(np.float64)
        return value.reshape(()) if value.size == 1 else value.ravel()

    def _layer(self, node: Any) -> Layer:
        W, b = self._product(node)
        dtype, self.n_read = W.dtype, self.n_read + 1
        self._step(node, _different((*self.probe.shape[:-1], W.shape[1]), dtype))
        scale, shift = self._constants_behind()
        part, end = self._up_to_product()
        activation = self._activation(part, end)
        self.source = end
        return Layer((W * scale).astype(dtype), (b * scale + shift).astype(dtype), activation)

    def _up_to_product(self) -> tuple[list[Any], str]:
        """The nodes before the next product, and the tensor that it takes; or all that are left, and the output."""
        part = []
        while self.at < len(self.nodes) and not self._is_product():
            part.append(self.nodes[self.at])
            self.at += 1
        if self.at == len(self.nodes):
            return part, self.output
        return part, next((name for name in self.nodes[self.at].input if name not in self.constants), "")

    def _activation(self, part: list[Any], end: str) -> str:
        """The name of the activation that these nodes compute, of the current tensor up to another."""
        made = {self.source, *(name for node in part for name in node.output)}
        for node in part:
            if not all(name in made or name in self.constants for name in node.input if name):
                raise ValueError(f"{_called(node)} joins layers that do not follow each other")
        if end not in made:
            taker = _called(self.nodes[self.at]) if self.at < len(self.nodes) else f"output {end!r}"
            raise ValueError(f"{taker} does not take what the layer before it gives")
        if not part:
            return "identity"
        shape = self.probe.shape
        z, which = GRID.astype(self.probe.dtype), places(self.probe.size // shape[-1], shape[-1])
        a = self._run(part, {self.source: z[which].reshape(shape)}, end)
        if a.shape[:-1] == shape[:-1]:
            name = activation_of(z, which, a.reshape(len(which), -1))
            if name is not None:
                return name
        raise ValueError(f"{_listed(part)}: no activation of fastbp gives the same")

    def _options(self, node: Any) -> dict[str, Any]:
        return {each.name: self.onnx.helper.get_attribute_value(each) for each in node.attribute}

    def _product(self, node: Any) -> tuple[Array, Array]:
        """Weights (n_in, n_out) and biases, float64 only where they are so in the graph."""
        options = self._options(node)
        W = self.constants.get(node.input[1])
        if node.input[0] != self.source or W is None or W.ndim != 2 or options.get("transA", 0):
            raise ValueError(f"{_called(node)} is no product of the layer before it with constant weights (n_in, "
                             "n_out)")
        if W.dtype not in (np.float32, np.float64):
            raise ValueError(f"the weights of {_called(node)} are {W.dtype}, expected float32 or float64")
        W = W.T if options.get("transB", 0) else W
        if W.shape[0] != self.probe.shape[-1]:
            raise ValueError(f"{_called(node)} takes {W.shape[0]} numbers a sample, and gets {self.probe.shape[-1]}")
        alpha, beta = (np.float64(options.get(name, 1.0)) for name in ("alpha", "beta"))
        b = np.zeros(W.shape[1], W.dtype)
        if len(node.input) > 2 and node.input[2]:
            given = self.constants.get(node.input[2])
            if given is None or given.size not in (1, len(b)) or (given.ndim == 2 and len(given) > 1):
                raise ValueError(f"{_called(node)} adds what is not a constant of each output")
            b = np.broadcast_to(given.ravel(), W.shape[1])
        return (W * alpha).astype(W.dtype), (b * beta).astype(W.dtype)


def _different(shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
    """Numbers of which few are alike; of floats none is whole."""
    numbers = np.arange(np.prod(shape)).reshape(shape) % 101
    return (numbers + (0.25 if np.dtype(dtype).kind == "f" else 0)).astype(dtype)


def _is_same(a: Array, b: Array, may_be_flat: bool) -> bool:
    """Whether samples hold the same numbers, each in a row of the same length, unless that may change."""
    return (a.ndim > 1 and len(a) == SEVERAL and (a.shape[-1] == b.shape[-1] or may_be_flat)
            and np.array_equal(a.ravel(), b.ravel()))


def _listed(nodes: list[Any]) -> str:
    """Nodes for a message, the first of many."""
    return ", ".join(_called(node) for node in nodes[:4]) + (", ..." if len(nodes) > 4 else "")
