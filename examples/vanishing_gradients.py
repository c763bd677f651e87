"""Vanishing gradients
===================

How large is the error when it arrives at the first layer? It depends on activation, initial weights and depth.
"""

import numpy as np

from fastbp import Network, data, insight

# %%
# **A chain.** One sigmoid neuron a layer, at z = 0, with weights of 1. The slope of the sigmoid is 1/4 there, its
# largest value, so each step back leaves a quarter of the error: after six, 0.000244140625 of it.
chain = Network([1] * 8, hidden="sigmoid", output="identity", weights=lambda *_: np.ones((1, 1)))
for b in chain.b[1:-1]:
    b[:] = -0.5  # as f(0) = 0.5 comes in
errors = insight.layer_errors(chain, [[0.0]], [[-0.5]])
print(errors)
assert errors.rms[0] == 0.25**6 == 0.000244140625

# %%
# **Networks for digits**, of 64 neurons a layer, before any training. With sigmoids the error vanishes with each of
# these weights. Tanh and relu keep it if the weights suit them: glorot_uniform is made for tanh, he_normal for relu.
digits = data.mnist()
net = Network([784, 64, 10], input_scale=digits.input_scale)
found = insight.vanishing_gradients(net, digits.x_train, digits.y_train)
print(found)
size = {key: errors.rms[0] / errors.rms[-1] for key, errors in found.errors.items()}
assert size["sigmoid", "glorot_uniform", 20] < 1e-9 and size["relu", "he_normal", 20] > 0.1
found.plot()
