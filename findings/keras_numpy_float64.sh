#!/usr/bin/env bash
# Keras 3.15.1, backend numpy (which imports JAX): Dense(dtype="float64") has weights in float32 from its initializers,
# though each says that it is float64. Assigned weights are float64, and outputs are float32 all the same. Files of such
# a model hold what the weights are, not what they say. Fails if this changes.
# Seen: float64 float32 float64 float32
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet keras==3.15.1 numpy==2.4.6 jax==0.10.2
seen=$(KERAS_HOME="$folder" KERAS_BACKEND=numpy "$folder/venv/bin/python" - <<'PYTHON'
import keras
import numpy as np

model = keras.Sequential([keras.layers.Input((2,), dtype="float64"), keras.layers.Dense(1, dtype="float64")])
kernel = model.weights[0]
says, made = kernel.dtype, np.asarray(kernel).dtype
for weight in model.weights:
    weight.assign(np.ones(weight.shape))
print(says, made, np.asarray(kernel).dtype, np.asarray(model(np.ones((1, 2)))).dtype)
PYTHON
)
echo "$seen"
[ "$seen" = "float64 float32 float64 float32" ]
