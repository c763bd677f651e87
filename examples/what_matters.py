"""What matters to a network
=========================

Which parameters, which pixels and which pairs of neurons move the cost of a network that reads digits.
"""

import numpy as np

from fastbp import Network, Trainer, data, insight

digits = data.mnist()
X, y = digits.x_train[:10_000], digits.y_train[:10_000]
net = Network([784, 32, 10], input_scale=digits.input_scale)
Trainer(net).fit(X, y, epochs=3)
print(f"{np.mean(net.predict(digits.x_test) == digits.y_test):.1%} of the test digits are read right")

# %%
# **Parameters.** The gradient says how much the cost changes with each parameter. A component of 3.2 matters 32 times
# as much as one of 0.1, for the same small change. The pictures show the weights of some neurons of the first layer,
# and their gradients below: gradient descent makes a weight larger where they are blue.
found = insight.sensitivity(net, X, y)
print(found)
found.plot()

# %%
# **Pixels.** The gradient with respect to the input says which pixels would change the answer. Here it is that of the
# output for the digit in the picture: more ink on red pixels raises it, more ink on blue ones lowers it.
four = X[np.flatnonzero(y == 4)[:8]]
insight.saliency(net, four, output=4).plot()

# %%
# **Pairs.** One sample changes a weight by the activation of its sender times the error of its receiver. So weights
# from active senders to receivers that should be active grow most: "fire together, wire together".
untrained = Network([784, 32, 10], input_scale=digits.input_scale, seed=1)
pairs = insight.hebbian_pairs(untrained, X[0], y[0])
print(pairs)
last = pairs.pairs[pairs.pairs[:, 0] == 1]
assert np.all(last[:, 2] == y[0])  # in the last layer, only weights to the right answer are among them
pairs.plot()
