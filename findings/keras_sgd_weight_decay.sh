#!/usr/bin/env bash
# Keras 3.15.1 (JAX 0.10.2): weight_decay of SGD is decoupled, as in AdamW: each step first multiplies the parameters by
# 1 - learning_rate * weight_decay, and the decay does not go through the momentum. PyTorch's SGD of the same arguments adds
# the decay to the gradient. And Keras decays biases. Here the gradient is 0, so that only the decay acts: two steps with
# learning rate 0.1, momentum 0.9 and weight decay 0.5 leave 0.95 ** 2 of a parameter; through the momentum they would
# leave 0.8575. Fails if this changes.
# Seen: kernel 0.9025, bias 0.9025
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet keras==3.15.1 jax==0.10.2 numpy==2.4.6
cat > "$folder/decay.py" <<'PYTHON'
import keras
import numpy as np

model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, kernel_initializer="ones", bias_initializer="ones")])
model.compile(keras.optimizers.SGD(0.1, momentum=0.9, weight_decay=0.5), lambda t, a: 0.0 * a[:, 0])
model.fit(np.ones((2, 1), "float32"), np.ones((2, 1), "float32"), batch_size=1, epochs=1, verbose=0)
kernel, bias = model.layers[-1].get_weights()
print(f"kernel {kernel[0, 0]:.4f}, bias {bias[0]:.4f}")
PYTHON
seen=$(KERAS_BACKEND=jax JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/decay.py")
echo "$seen"
[ "$seen" = "kernel 0.9025, bias 0.9025" ]
