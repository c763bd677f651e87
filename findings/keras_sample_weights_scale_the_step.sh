#!/usr/bin/env bash
# Keras 3.15.1 (JAX 0.10.2): fit divides the weighted sum of the samples' losses by their number, not by the sum of their
# weights. So a common factor of all sample weights is a factor of the gradient: weights of 3 make the first step of SGD
# three times as large, and the same model learns at another rate. Fails if this changes.
# Seen: weights of 1 move W by 1.000, weights of 3 by 3.000
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet keras==3.15.1 jax==0.10.2 numpy==2.4.6
cat > "$folder/weights.py" <<'PYTHON'
import keras
import numpy as np

x, y = np.ones((4, 1), "float32"), np.full((4, 1), 1.0, "float32")
moves = []
for weight in (1.0, 3.0):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")])
    model.compile(keras.optimizers.SGD(0.5), "mse")
    model.fit(x, y, batch_size=4, epochs=1, sample_weight=np.full(4, weight, "float32"), verbose=0)
    moves.append(float(model.layers[-1].kernel[0, 0]))
print(f"weights of 1 move W by {moves[0]:.3f}, weights of 3 by {moves[1]:.3f}")
PYTHON
seen=$(KERAS_BACKEND=jax JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/weights.py")
echo "$seen"
[ "$seen" = "weights of 1 move W by 1.000, weights of 3 by 3.000" ]
