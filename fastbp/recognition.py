"""Which activation numbers come from: for readers of networks whose activations are written in any operations."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp.core import activations, reference
from fastbp.inputs import of_each_class

Array = npt.NDArray[Any]
SEVERAL = 997  # samples at which an activation is computed; a prime, so that no other length is taken for it
# Numbers at which: close together where activations bend, and out to where only their ends are left.
GRID = np.concatenate([np.linspace(-12, 12, 801), -np.geomspace(12, 60, 40), np.geomspace(12, 60, 40),
                       -np.geomspace(1e-9, 1e-2, 20), np.geomspace(1e-9, 1e-2, 20), -np.geomspace(60, 1e6, 37),
                       np.geomspace(60, 1e6, 38), [0.0]])
# By so much an activation may differ from fastbp's: float32's, as attributes of nodes are float32.
ROUNDINGS = 16 * np.finfo(np.float32).eps


def places(n_samples: int, n_out: int) -> Array:
    """Return places (n_samples, n_out) in GRID: each row and each column has others."""
    return (np.arange(n_samples)[:, np.newaxis] + 31 * np.arange(n_out)) % SEVERAL


def activation_of(z: Array, which: Array, a: Array) -> str | None:
    """Return the name of the activation that makes a (n, n_out) of z[which], z being GRID in some dtype; None: none."""
    return next((name for name in activations.CODES if _gives(name, z, which, a)), None)


def _gives(name: str, z: Array, which: Array, a: Array) -> bool:
    """Whether an activation makes a of z[which], to rounding; beyond 60 a may have overflowed."""
    with np.errstate(all="ignore"):
        function, exact = getattr(reference, name), z.astype(np.float64)
        true = function(exact[which]) if name == "softmax" else function(exact)[which]
        if name == "sigmoid" and which.shape[1] == 1 and a.shape[1] == 2:
            true = of_each_class(true)
        if true.shape != a.shape:
            return False
        size = np.clip(np.abs(exact[which]), 1, 60)
        near = np.abs(a - true) <= ROUNDINGS * (np.abs(true) + size)
    return bool((near | (~np.isfinite(a) & (np.abs(exact[which]) > 60))).all())
