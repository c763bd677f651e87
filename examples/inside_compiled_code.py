"""A network inside your own @njit function: the serial drivers are plain Numba functions.

A pendulum is pushed by a small network at every time step of a compiled simulation; no Python runs in the loop.
"""

import numba
import numpy as np

from fastbp import Network
from fastbp.core.equations import forward_serial


@numba.njit
def simulate(theta, layers, buffers, state, action, steps, dt):
    """Swing for `steps` of `dt` seconds; `state` and `action` are the network's input and output in its workspace."""
    angle, speed = 0.5, 0.0
    for _ in range(steps):
        state[0, 0], state[0, 1] = angle, speed
        forward_serial(theta, layers, buffers, 1, 1)
        speed += dt * (-9.81 * np.sin(angle) + action[0, 0])
        angle += dt * speed
    return angle, speed


net = Network([2, 16, 1], hidden="tanh", output="identity", dtype="float64", seed=1)
ws = net.workspace(capacity=1)
angle, speed = simulate(net.theta, ws.layers, ws.buffers, ws.a[0], ws.a[-1], 1000, 0.001)
print(f"after one second the angle is {angle:.3f} rad, the speed {speed:.3f} rad/s")

W, b = net.W, net.b  # the same in plain NumPy
x, v = 0.5, 0.0
for _ in range(1000):
    action = np.tanh(np.array([x, v]) @ W[0] + b[0]) @ W[1] + b[1]
    v += 0.001 * (-9.81 * np.sin(x) + action[0])
    x += 0.001 * v
assert np.allclose([angle, speed], [x, v])
