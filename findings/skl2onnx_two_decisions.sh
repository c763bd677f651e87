#!/usr/bin/env bash
# skl2onnx 1.20.0 with scikit-learn 1.9.1: an MLPClassifier that was fitted on rows of two decisions (multilabel) is taken
# for one of two classes. Its graph gives four probabilities a sample, 1 - p1, 1 - p2, p1, p2, where predict_proba gives
# p1, p2; the first two columns are those of the opposite. The labels are right, and nothing is raised or warned of. Rows
# of three decisions are not concerned. Fails if this changes.
# Seen: predict_proba (3, 2), graph (3, 4), first two columns are 1 - predict_proba: True, last two predict_proba: True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet skl2onnx==1.20.0 scikit-learn==1.9.1 onnxruntime==1.32.0 numpy==2.4.6
cat > "$folder/decisions.py" <<'PYTHON'
import warnings

import numpy as np
import onnxruntime
from skl2onnx import to_onnx
from sklearn.neural_network import MLPClassifier

warnings.simplefilter("ignore")
X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
rows = np.random.default_rng(1).integers(0, 2, (40, 2))
model = MLPClassifier((4,), max_iter=20, random_state=0).fit(X, rows)
graph = to_onnx(model, X[:1], options={"zipmap": False})
session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
label, given = session.run(["label", "probabilities"], {session.get_inputs()[0].name: X[:3]})
expected = model.predict_proba(X[:3])
assert (label == model.predict(X[:3])).all()
print(f"predict_proba {expected.shape}, graph {given.shape}, first two columns are 1 - predict_proba: "
      f"{np.allclose(given[:, :2], 1 - expected, atol=1e-5)}, last two predict_proba: "
      f"{np.allclose(given[:, 2:], expected, atol=1e-5)}")
PYTHON
seen=$("$folder/venv/bin/python" "$folder/decisions.py" 2>/dev/null)
echo "$seen"
[ "$seen" = "predict_proba (3, 2), graph (3, 4), first two columns are 1 - predict_proba: True, last two predict_proba: True" ]
