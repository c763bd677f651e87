"""Networks in the formats of others, each by a function of a network and a path; `fastbp export` takes this table.

To add a format: a row of FORMATS.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable

import numpy as np

from fastbp.files import write_whole
from fastbp.network import Network, check_theta
from fastbp.torch import save_state_dict


def write_npz(network: Network, path: str | os.PathLike[str]) -> None:
    """Write all that NumPy alone needs to compute the outputs, as arrays that `numpy.load` reads without pickle.

    W1, b1, W2, ...; activations (layers,) of str; input_scale (), of the network's dtype; and if the network has them
    classes, feature_names and target_names.
    """
    check_theta(network)
    arrays = {"activations": np.array(network.activations), "input_scale": network.dtype.type(network.input_scale)}
    for l, (W, b) in enumerate(zip(network.W, network.b, strict=True), start=1):
        arrays[f"W{l}"], arrays[f"b{l}"] = W, b
    for name in ("classes", "feature_names", "target_names"):
        if getattr(network, name) is not None:
            arrays[name] = np.array(getattr(network, name))
    file = io.BytesIO()
    np.savez(file, **arrays)  # to a path it would add .npz
    write_whole(path, file.getvalue())


FORMATS: dict[str, Callable[[Network, str], None]] = {"numpy": write_npz, "onnx": Network.to_onnx,
                                                         "torch": save_state_dict}
