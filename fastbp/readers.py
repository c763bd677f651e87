"""Networks that other libraries have trained."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastbp.checks import shown

OUTPUTS = {"logistic": "sigmoid", "softmax": "softmax", "identity": "identity", "softplus": "softplus"}


def from_sklearn(kind: Any, model: Any) -> Any:
    """See Network.from_sklearn. Reads attributes alone: scikit-learn need not be there."""
    for name in ("coefs_", "intercepts_", "out_activation_", "activation"):
        if not hasattr(model, name):
            raise TypeError(f"model must be a fitted MLPClassifier or MLPRegressor, got {shown(model)} without {name}")
    if model.out_activation_ not in OUTPUTS:
        raise ValueError(f"the output is {model.out_activation_!r}, which a Network does not have; it takes "
                         f"{', '.join(OUTPUTS)}")
    coefs, own = model.coefs_, model.activation
    each = [own] * (len(coefs) - 1) if isinstance(own, str) else list(own)
    hidden = ["sigmoid" if one == "logistic" else one for one in each]
    network = kind([len(coefs[0]), *(W.shape[1] for W in coefs)], hidden,
                   OUTPUTS[model.out_activation_], coefs[0].dtype.name, weights="zeros")
    for to, values in zip([*network.W, *network.b], [*coefs, *model.intercepts_], strict=True):
        to[...] = values
    network.feature_names = getattr(model, "feature_names_in_", None)
    classes = np.asarray(getattr(model, "classes_", ()))
    n_outputs = coefs[-1].shape[1]
    # Of rows of decisions classes_ are the columns' numbers, as many as there are outputs.
    network.multilabel = bool(model.out_activation_ == "logistic" and len(classes) > 0 and n_outputs == len(classes))
    if len(classes) > 1 and isinstance(classes[0], str):
        network.classes = classes.tolist()
    return network
