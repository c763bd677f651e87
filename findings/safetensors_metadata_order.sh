#!/usr/bin/env bash
# safetensors 0.8.0: the same tensors with the same metadata of several keys are saved as different bytes from save to
# save, even in one process, as the keys come in random order; of one key they are always the same bytes. So a checksum of
# a file tells nothing of two saves, unless all metadata is one text under one key. Fails if this changes.
# Seen: several keys: more than one file; one key: one file
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet safetensors==0.8.0 numpy==2.4.6
seen=$("$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
from safetensors.numpy import save

tensors = {"W1": np.ones((2, 3), np.float32), "b1": np.zeros(3, np.float32)}
several = {save(tensors, metadata={f"key{i}": str(i) for i in range(6)}) for _ in range(40)}
one = {save(tensors, metadata={"key": "0 1 2 3 4 5"}) for _ in range(40)}
print(f"several keys: {'more than one file' if len(several) > 1 else 'one file'}; one key: {len(one)} file".replace("1 file", "one file"))
PYTHON
)
echo "$seen"
[ "$seen" = "several keys: more than one file; one key: one file" ]
