"""A network in a simulation
=========================

A network inside your own @njit function: what it says decides each time step of a simulation.

A pendulum is pushed by a small network; no Python runs in the loop.
"""

import numpy as np
from numba import njit

from fastbp import Network, compiled


@njit(cache=True)
def simulate(handle, steps, dt):
    """Swing for `steps` of `dt` seconds; returns angle and speed."""
    angle, speed = 0.5, 0.0
    state, push = np.empty(2), np.empty(1)
    for _ in range(steps):
        state[0], state[1] = angle, speed
        compiled.forward(handle, state, push)
        speed += dt * (-9.81 * np.sin(angle) + push[0])
        angle += dt * speed
    return angle, speed


net = Network([2, 16, 1], hidden="tanh", output="identity", dtype="float64", seed=1)
angle, speed = simulate(compiled.Handle(net), 1000, 0.001)
print(f"after one second the angle is {angle:.3f} rad, the speed {speed:.3f} rad/s")

W, b = net.W, net.b  # the same in plain NumPy
x, v = 0.5, 0.0
for _ in range(1000):
    push = np.tanh(np.array([x, v]) @ W[0] + b[0]) @ W[1] + b[1]
    v += 0.001 * (-9.81 * np.sin(x) + push[0])
    x += 0.001 * v
assert np.allclose([angle, speed], [x, v])
