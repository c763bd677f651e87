"""Converters of skl2onnx for the estimators, so that it converts pipelines that hold them."""

from __future__ import annotations

from typing import Any

from sklearn.base import is_classifier

from fastbp.onnx import OPSET, Graph, kind_of
from fastbp.sklearn.mlp import MLPClassifier, MLPRegressor
from fastbp.sklearn.onnx import add, as_labels, widths

# The options of skl2onnx for scikit-learn's MLPClassifier.
OPTIONS = {"zipmap": [True, False, "columns"], "output_class_labels": [False, True], "nocl": [True, False]}
OLDEST_OPSET = 13  # that has all operators, as fastbp writes them, but for single ones of PyTorch's activations


def register_converters() -> None:
    """Register the estimators with skl2onnx, which then converts pipelines and searches that hold them.

    The names and types of the model's outputs are those that skl2onnx gives for scikit-learn's MLP: of a classifier
    `label` and `probabilities` (`output_label` and `output_probability`, unless the option ``zipmap`` is False), of a
    regressor `variable` (N, n_outputs). It is computed in float64 if the estimator's input is, else in float32. One
    call is enough for a process; a further one changes nothing.

    Raises
    ------
    ImportError
        skl2onnx is not installed.

    Examples
    --------
    >>> register_converters()  # doctest: +SKIP
    >>> model = skl2onnx.to_onnx(pipeline, X[:1], options={"zipmap": False})  # doctest: +SKIP
    """
    try:
        from skl2onnx import update_registered_converter
    except ImportError:
        raise ImportError("register_converters needs skl2onnx: pip install skl2onnx") from None
    for kind, options in ((MLPClassifier, OPTIONS), (MLPRegressor, None)):
        update_registered_converter(kind, f"Fastbp{kind.__name__}", _set_types, _convert, options=options)


def _set_types(operator: Any) -> None:
    """Set the types of the outputs; skl2onnx calls it a shape calculator."""
    from skl2onnx.common import data_types as types
    from skl2onnx.common.utils import check_input_and_output_numbers, check_input_and_output_types
    from skl2onnx.common.utils_classifier import get_label_classes

    check_input_and_output_numbers(operator, input_count_range=1)
    check_input_and_output_types(operator, good_input_types=[
        types.BooleanTensorType, types.DoubleTensorType, types.FloatTensorType, types.Int64TensorType])
    own, n = operator.raw_operator, operator.inputs[0].get_first_dimension()
    double = isinstance(operator.inputs[0].type, types.DoubleTensorType)
    kinds = [types.DoubleTensorType if double else types.FloatTensorType]
    if is_classifier(own):  # with the option nocl text is numbered
        text = isinstance(get_label_classes(operator.scope_inst, own)[0], str)
        kinds.insert(0, types.StringTensorType if text else types.Int64TensorType)
    for output, kind, width in zip(operator.outputs, kinds, widths(own), strict=True):
        output.set_type(kind([n, *width]))


def _convert(scope: Any, operator: Any, container: Any) -> None:
    """Add the nodes of an estimator to skl2onnx's graph."""
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
    from skl2onnx.common.utils_classifier import get_label_classes

    own, kind, opset = operator.raw_operator, operator.inputs[0].type, container.target_opset
    if opset < OLDEST_OPSET:
        raise ValueError(f"{type(own).__name__} of fastbp needs target_opset={OLDEST_OPSET} or more, got {opset}")
    graph = Graph("float64" if isinstance(kind, DoubleTensorType) else "float32", f"{operator.full_name}_")
    graph.quick = graph.quick and opset >= OPSET
    samples = operator.inputs[0].full_name
    if not isinstance(kind, (DoubleTensorType, FloatTensorType)):
        samples = graph("Cast", samples, to=kind_of(graph.dtype))
    classes = as_labels(get_label_classes(scope, own)) if is_classifier(own) else None
    add(graph, own, samples, [output.full_name for output in operator.outputs], classes)
    container.initializers.extend(graph.constants.values())  # its add_initializer loses text
    for node in graph.nodes:
        settings = {each.name: graph.onnx.helper.get_attribute_value(each) for each in node.attribute}
        container.add_node(node.op_type, list(node.input), list(node.output), name=node.name, **settings)
