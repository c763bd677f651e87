"""The five equations
==================

See backpropagation happen: the five equations on a 2-2-1 network, one compiled kernel each.
"""

import numpy as np

from fastbp import SGD, Network, losses
from fastbp.core import equations, rules

net = Network([2, 2, 1], hidden="sigmoid", output="sigmoid", dtype="float64")
net.W[0][:], net.b[0][:] = [[0.5, -0.5], [0.25, 1.0]], [0.0, 0.1]
net.W[1][:], net.b[1][:] = [[0.4], [-0.4]], [0.2]

ws = net.workspace(capacity=1)  # every buffer of a step: ws.a[0] is the input, ws.z, ws.a[1:], ws.delta the layers'
ws.a[0][:] = [[1.0, 0.5]]
ws.targets[:] = [[1.0]]
gradient = np.zeros_like(net.theta)
dW, db = net.views(gradient)

equations.forward_serial(net.theta, ws.layers, ws.buffers, 1, 1)
for l in range(2):
    print(f"forward pass        z[{l + 1}] = a[{l}] W[{l + 1}] + b[{l + 1}] = {ws.z[l][0]},  "
          f"a[{l + 1}] = f(z[{l + 1}]) = {ws.a[l + 1][0]}")

equations.output_error_serial(ws.layers, ws.buffers, ws.targets, ws.costs, losses.Quadratic().rule(), 1, 1)
print(f"output error        delta[2] = (a[2] - t) f'(z[2]) = {ws.delta[1][0]},  the cost is {ws.costs[0]:.4f}")

equations.backward_serial(net.theta, ws.layers, ws.buffers, 1, 1)
print(f"backward            delta[1] = (delta[2] W[2]ᵀ) f'(z[1]) = {ws.delta[0][0]}")

equations.weight_gradients_serial(gradient, ws.layers, ws.buffers, 1, 1)
print(f"weight gradients    dW[1] = a[0]ᵀ delta[1] =\n{dW[0]},  dW[2] = {dW[1].ravel()},  db = {db}")

# Each weight gradient is the sending activation times the receiving error.
assert np.allclose(dW[0], np.outer(ws.a[0][0], ws.delta[0][0]))

state = np.zeros((0, net.n_parameters))  # plain gradient descent remembers nothing
rules.update_serial(net.theta, gradient, state, SGD(eta=1.0).settings(), 1.0, 1, 1)
equations.forward_serial(net.theta, ws.layers, ws.buffers, 1, 1)
print(f"update              theta = theta - eta dE/dtheta; the output moves towards 1: {ws.a[2][0]}")
