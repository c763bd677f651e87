"""One sample, some, all
=====================

What a mini-batch knows of the whole: gradients of 1 to 60,000 digits, and the paths down that they lead to.
"""

import numpy as np

from fastbp import SGD, Network, Trainer, cost_and_gradient, data, insight, per_sample_gradients

digits = data.mnist()
X, y = digits.x_train, digits.y_train


def network():
    return Network([784, 16, 10], input_scale=digits.input_scale)


# %%
# **Each sample wants its own.** A network that is trained on images of the digit 2 alone answers 2 to everything.
twos = X[y == 2]
only = network()
Trainer(only, optimizer=SGD(0.1), batch_size=100).fit(twos, np.full(len(twos), 2), epochs=1)
answers = np.unique(only.predict(digits.x_test))
print(f"trained on 2 alone, it answers to {len(digits.x_test):,} test digits: {answers.tolist()}")
assert answers.tolist() == [2]

# %%
# **So they are averaged.** The gradient of a mini-batch is the mean of its samples' gradients. Much cancels: the
# mean is far shorter than the samples' gradients are.
net = network()
Trainer(net).fit(X[:10_000], y[:10_000], epochs=1)
each = per_sample_gradients(net, X[:100], y[:100])
mean = cost_and_gradient(net, X[:100], y[:100])[1]
assert np.allclose(each.mean(axis=0), mean, atol=1e-6)
length = np.linalg.norm(each, axis=1).mean()
print(f"the gradients have a mean length of {length:.2f}; their mean has {np.linalg.norm(mean):.2f}")

# %%
# **How many are enough?** The cosine between the gradient of a mini-batch and that of all samples is 1 if both point
# the same way, and 0 if the mini-batch knows nothing.
noise = insight.gradient_noise(net, X, y, draws=5)
print(noise)
noise.plot()

# %%
# **Down the slope.** Three walks from one start, with equally many steps of the same eta. The plane goes through the
# start and along the two main directions of all three. One sample staggers, 100 walk nearly as straight as all do, and
# take 1/20 of the work here; of 60,000 samples it would be 1/600.
paths = insight.descent_paths(network(), X[:2_000], y[:2_000], steps=100, eta=0.05)
print(paths)
paths.plot()
