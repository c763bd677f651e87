"""The estimators as ONNX graphs; `to_onnx` writes them, and `converters` puts them into those of skl2onnx."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.utils.validation import check_is_fitted

from fastbp import onnx, readers
from fastbp.network import Network, check_theta
from fastbp.workspace import Array


def write(estimator: Any, path: str | os.PathLike[str]) -> None:
    """Write a fitted estimator; see its to_onnx."""
    check_is_fitted(estimator)
    dtype = estimator._network().dtype
    graph = onnx.Graph(dtype)
    info, kind = graph.onnx.helper.make_tensor_value_info, onnx.kind_of(dtype)
    classes = None
    *of_labels, of_values = widths(estimator)
    outputs = [info(onnx.VALUES, kind, ["N", *of_values])]
    if of_labels:
        classes = as_labels(estimator.classes_)
        outputs = [info(onnx.LABEL, onnx.kind_of(classes.dtype), ["N", *of_labels[0]]),
                   info(onnx.PROBABILITIES, kind, ["N", *of_values])]
    net = add(graph, estimator, onnx.INPUT, [each.name for each in outputs], classes)
    onnx.write(onnx.model_with(graph, net, info(onnx.INPUT, kind, ["N", net.layer_sizes[0]]), outputs), path)


def widths(estimator: Any) -> list[list[int]]:
    """Return the shapes of what the outputs have of a sample: a classifier's label and probabilities, or the values."""
    if not is_classifier(estimator):
        return [[estimator.n_outputs_]]
    n = len(estimator.classes_)
    return [[n] if estimator._multilabel else [], [max(2, n)]]


def as_labels(classes: Any) -> Array:
    """Return classes as ONNX has them: int64, or object for text."""
    return np.asarray(classes).astype(object if isinstance(classes[0], str) else np.int64)


def add(graph: onnx.Graph, estimator: Any, samples: str, outputs: list[str], classes: Array | None) -> Network:
    """Add the nodes that compute outputs with these names; return the network, in the graph's dtype."""
    own = estimator._network()
    *hidden, output = own.activations
    net = Network(own.layer_sizes, hidden, output, graph.dtype, weights="zeros")
    with np.errstate(over="ignore"):  # the check says it
        net.theta[...] = own.theta
    check_theta(net)
    readers.take_names(net, estimator)
    a, n_out = onnx.add_network(graph, net, samples), net.layer_sizes[-1]
    if classes is None:
        graph("Exp" if estimator.out_activation_ == "exp" else "Identity", a, output=outputs[0])
    else:  # of a single class the one output has two sides, too
        onnx.add_labels(graph, a, outputs[0], n_out, estimator._multilabel, np.resize(classes, max(2, len(classes))),
                        "Greater")
        onnx.add_probabilities(graph, a, outputs[1], n_out)
    return net
