"""mlpfile, a C++ library on Eigen for small relu networks with identity outputs: forward of one sample at a time.

It reads networks from files of its own format only, which its README describes: numbers of 32 bits, little-endian; the
layers' kinds and sizes, then for each dense layer W (n_out, n_in) by rows, and b.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import mlpfile
import numpy as np
from workloads import Workload, one_by_one

LINEAR, RELU = 2, 3


def content(workload: Workload) -> bytes:
    """Of the file."""
    sizes, parameters = workload.sizes, workload.parameters
    kinds = [LINEAR, sizes[1]]
    for n_out in sizes[2:]:
        kinds += [RELU, LINEAR, n_out]
    header = np.array([2 * len(parameters) - 1, sizes[0], *kinds], "<u4")
    return header.tobytes() + b"".join(W.T.astype("<f4").tobytes() + b.astype("<f4").tobytes() for W, b in parameters)


def network(workload: Workload) -> mlpfile.Model:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.mlp"
        path.write_bytes(content(workload))
        return mlpfile.Model.load(str(path))


def forward(workload: Workload):
    return one_by_one(network(workload).forward, list(workload.data[0]))
