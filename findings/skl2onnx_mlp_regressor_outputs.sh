#!/usr/bin/env bash
# skl2onnx 1.20.0 with scikit-learn 1.9.1: an MLPRegressor with several outputs becomes a graph that ends in a Reshape to
# (-1, 1). ONNX Runtime 1.32.0 returns one long column, (n * outputs, 1) for n rows, where predict gives (n, outputs); the
# values are right, and nothing is raised or warned of. One output is not concerned. Fails if this changes.
# Seen: predict (3, 2), graph (6, 1), declared [None, 1]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet skl2onnx==1.20.0 scikit-learn==1.9.1 onnxruntime==1.32.0 numpy==2.4.6
cat > "$folder/outputs.py" <<'PYTHON'
import warnings

import numpy as np
import onnxruntime
from skl2onnx import to_onnx
from sklearn.neural_network import MLPRegressor

warnings.simplefilter("ignore")
X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
model = MLPRegressor(hidden_layer_sizes=(4,), max_iter=20, random_state=0).fit(X, X[:, :2])
graph = to_onnx(model, X[:1])
session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
(values,) = session.run(None, {session.get_inputs()[0].name: X[:3]})
assert np.allclose(values.ravel(), model.predict(X[:3]).ravel(), atol=1e-5)
print(f"predict {model.predict(X[:3]).shape}, graph {values.shape}, declared {session.get_outputs()[0].shape}")
PYTHON
seen=$("$folder/venv/bin/python" "$folder/outputs.py" 2>/dev/null)
echo "$seen"
[ "$seen" = "predict (3, 2), graph (6, 1), declared [None, 1]" ]
