"""Networks that other libraries have trained."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastbp.checks import shown

OUTPUTS = "logistic", "softmax", "identity", "softplus"


def dense(kind: Any, coefs: list[Any], intercepts: list[Any], hidden: Any, output: str) -> Any:
    """Make a network of weights (n_in, n_out) and biases (n_out,), which are copied, in the weights' dtype."""
    sizes = [len(coefs[0]), *(W.shape[1] for W in coefs)]
    network = kind(sizes, hidden, output, coefs[0].dtype.name, weights="zeros")
    for to, values in zip([*network.W, *network.b], [*coefs, *intercepts], strict=True):
        to[...] = values
    return network


def from_sklearn(kind: Any, model: Any) -> Any:
    """See Network.from_sklearn. Reads attributes alone: scikit-learn need not be there."""
    for name in ("coefs_", "intercepts_", "out_activation_", "activation"):
        if not hasattr(model, name):
            raise TypeError(f"model must be a fitted MLPClassifier or MLPRegressor, got {shown(model)} without {name}")
    if model.out_activation_ not in OUTPUTS:
        raise ValueError(f"the output is {model.out_activation_!r}, which a Network does not have; it takes "
                         f"{', '.join(OUTPUTS)}")
    # Those of the fit, which fastbp's estimators keep; scikit-learn's predict by what is set now.
    hidden = getattr(model, "_activations", model.activation)
    network = dense(kind, model.coefs_, model.intercepts_, hidden, model.out_activation_)
    take_names(network, model)
    return network


def take_names(network: Any, model: Any) -> None:
    """Take the names of features and classes of scikit-learn's estimator."""
    network.feature_names = getattr(model, "feature_names_in_", None)
    classes = np.asarray(getattr(model, "classes_", ()))
    # Of rows of decisions classes_ are the columns' numbers, as many as there are outputs.
    network.multilabel = model.out_activation_ == "logistic" and 1 < len(classes) == network.layer_sizes[-1]
    if len(classes) > 1 and isinstance(classes[0], str):
        network.classes = classes.tolist()
