"""Initial weights: functions of a random generator and the layer's two sizes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fastbp.core.activations import ACTIVATIONS
from fastbp.workspace import Array

Initializer = Callable[[np.random.Generator, int, int], Array]


Variance = Callable[[int, int, int], float]  # variance of a weight, times a whole number


def _normal(variance: Variance) -> Initializer:
    return lambda draw, n_in, n_out: draw.normal(0, np.sqrt(variance(n_in, n_out, 1)), (n_in, n_out))


def _uniform(variance: Variance) -> Initializer:
    def make(draw: np.random.Generator, n_in: int, n_out: int) -> Array:
        limit = np.sqrt(variance(n_in, n_out, 3))
        return draw.uniform(-limit, limit, (n_in, n_out))

    return make


def _lecun(n_in: int, n_out: int, times: int) -> float:
    """LeCun, Bottou, Orr, Müller: Efficient BackProp (1998), equation 16."""
    return times / n_in


def _glorot(n_in: int, n_out: int, times: int) -> float:
    """Glorot, Bengio: Understanding the difficulty of training deep feedforward neural networks (AISTATS 2010),
    equation 12."""
    return 2 * times / (n_in + n_out)


def _he(n_in: int, n_out: int, times: int) -> float:
    """He, Zhang, Ren, Sun: Delving Deep into Rectifiers (ICCV 2015), equation 10."""
    return 2 * times / n_in


def orthogonal(draw: np.random.Generator, n_in: int, n_out: int) -> Array:
    """Orthonormal columns, or rows of a wide matrix; all such matrices are equally likely (Saxe et al., ICLR 2014)."""
    tall = draw.normal(size=(max(n_in, n_out), min(n_in, n_out)))
    q, r = np.linalg.qr(tall)
    q *= np.sign(np.diag(r))  # else some matrices would be more likely
    return q if n_in >= n_out else q.T


INITIALIZERS: dict[str, Initializer] = {
    "lecun_normal": _normal(_lecun), "lecun_uniform": _uniform(_lecun), "glorot_normal": _normal(_glorot),
    "glorot_uniform": _uniform(_glorot), "he_normal": _normal(_he), "he_uniform": _uniform(_he),
    "orthogonal": orthogonal, "zeros": lambda draw, n_in, n_out: np.zeros((n_in, n_out)),
}
# Names in other libraries; see checks.one_of.
ALIASES = {
    "glorot": "glorot_uniform", "xavier": "glorot_uniform", "xavieruniform": "glorot_uniform",
    "xaviernormal": "glorot_normal", "he": "he_normal", "kaiming": "he_normal", "kaimingnormal": "he_normal",
    "kaiminguniform": "he_uniform", "lecun": "lecun_normal", "zero": "zeros",
}
MATCHING = {row.name: row.weights for row in ACTIVATIONS}  # the default of each activation
