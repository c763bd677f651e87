"""A loss of your own
==================

A loss of your own: the pinball loss, whose minimum is a quantile. Prints how many of new values lie below each.
"""

import numpy as np

from fastbp import Adam, Network, Trainer, losses


def pinball(z, a, t, delta):
    """Of one sample and three identity outputs: the 10 %, 50 % and 90 % quantiles. Fills dE/dz, returns the cost."""
    cost = 0.0
    for j, quantile in enumerate((0.1, 0.5, 0.9)):
        below = t[j] < a[j]
        delta[j] = 1 - quantile if below else -quantile
        cost += delta[j] * (a[j] - t[j])
    return cost


def draw(random, n):
    """Values around sin(3 x), the wider apart the larger |x|."""
    x = random.uniform(-1, 1, (n, 1))
    return x, np.sin(3 * x) + (0.1 + abs(x)) * random.normal(size=(n, 1))


random = np.random.default_rng(0)
x, y = draw(random, 20_000)
net = Network([1, 64, 64, 3], hidden="gelu", output="identity", seed=0)
loss = losses.Custom(pinball, outputs=("identity",))
trainer = Trainer(net, loss, Adam(0.003), batch_size=256, schedule="cosine")
trainer.fit(x, np.repeat(y, 3, axis=1), epochs=30)

x, y = draw(random, 20_000)
shares = (y < net.predict(x)).mean(axis=0)
print(" ".join(f"{share:.3f}" for share in shares))
assert np.abs(shares - [0.1, 0.5, 0.9]).max() < 0.02
