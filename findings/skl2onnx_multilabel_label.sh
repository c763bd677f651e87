#!/usr/bin/env bash
# skl2onnx 1.20.0 with scikit-learn 1.9.1: the graph of a multilabel MLPClassifier declares its output `label` as (N,), but
# gives (N, classes). onnx 1.23.2 accepts the file by its plain check and refuses it with full_check=True; ONNX Runtime
# 1.32.0 runs it. Whoever allocates by the declared shape has too little room. Fails if this changes.
# Seen: declared dimensions 1, given (3, 4), plain check passes, full check: InferenceError
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet skl2onnx==1.20.0 scikit-learn==1.9.1 onnx==1.23.2 onnxruntime==1.32.0 \
	numpy==2.4.6
cat > "$folder/label.py" <<'PYTHON'
import warnings

import numpy as np
import onnx
import onnxruntime
from skl2onnx import to_onnx
from sklearn.neural_network import MLPClassifier

warnings.simplefilter("ignore")
X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
rows = np.random.default_rng(1).integers(0, 2, (40, 4))
model = MLPClassifier((4,), max_iter=20, random_state=0).fit(X, rows)
graph = to_onnx(model, X[:1], options={"zipmap": False})
onnx.checker.check_model(graph)
try:
    onnx.checker.check_model(graph, full_check=True)
    full = "passes"
except Exception as error:
    full = type(error).__name__
session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
label = session.run(["label"], {session.get_inputs()[0].name: X[:3]})[0]
declared = next(len(one.type.tensor_type.shape.dim) for one in graph.graph.output if one.name == "label")
print(f"declared dimensions {declared}, given {label.shape}, plain check passes, full check: {full}")
PYTHON
seen=$("$folder/venv/bin/python" "$folder/label.py" 2>/dev/null)
echo "$seen"
[ "$seen" = "declared dimensions 1, given (3, 4), plain check passes, full check: InferenceError" ]
