#!/usr/bin/env bash
# numpy 2.4.6: labels held as numpy.dtypes.StringDType, NumPy's own variable-length texts, cannot be cast to the older
# kind: astype(str), the way to turn any other array into texts of fixed length, raises TypeError, and astype("U3") works,
# which needs the length to be known. np.array(labels.tolist()) works for both. Fails if this changes.
# Seen: astype(str) TypeError, astype("U3") ['cat' 'dog'], tolist ['cat' 'dog']
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet numpy==2.4.6
seen=$("$folder/venv/bin/python" - <<'PYTHON'
import numpy as np

labels = np.array(["cat", "dog"], np.dtypes.StringDType())
try:
    plain = labels.astype(str)
except TypeError as error:
    plain = type(error).__name__
print(f'astype(str) {plain}, astype("U3") {labels.astype("U3")}, tolist {np.array(labels.tolist())}')
PYTHON
)
echo "$seen"
[ "$seen" = "astype(str) TypeError, astype(\"U3\") ['cat' 'dog'], tolist ['cat' 'dog']" ]
