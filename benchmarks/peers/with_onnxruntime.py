"""ONNX Runtime: a network as a graph of Gemm, Relu and Softmax, built by onnx.helper."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from workloads import Workload


def model(workload: Workload) -> bytes:
    """With relu hidden layers and a softmax output: a0 (n, n_in) to "outputs" (n, n_out)."""
    nodes, constants, last = [], [], len(workload.parameters) - 1
    for l, (W, b) in enumerate(workload.parameters):
        constants += [numpy_helper.from_array(W, f"W{l}"), numpy_helper.from_array(b, f"b{l}")]
        nodes.append(helper.make_node("Gemm", [f"a{l}", f"W{l}", f"b{l}"], [f"z{l}"]))
        nodes.append(helper.make_node("Relu", [f"z{l}"], [f"a{l + 1}"]) if l < last else
                     helper.make_node("Softmax", [f"z{l}"], ["outputs"], axis=1))
    a, outputs = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size])
                  for name, size in (("a0", workload.sizes[0]), ("outputs", workload.sizes[-1])))
    graph = helper.make_graph(nodes, "network", [a], [outputs], constants)
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)]).SerializeToString()


def forward(workload: Workload, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model(workload), options, providers=["CPUExecutionProvider"])
    return lambda X: session.run(["outputs"], {"a0": X})[0]
