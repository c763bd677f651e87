"""An optimizer of SciPy
=====================

Parameters are one vector and so is the gradient: give both to any optimiser, here SciPy's L-BFGS.
"""

import numpy as np
from scipy.optimize import minimize

from fastbp import Network, cost_and_gradient

x = np.linspace(-3, 3, 200)[:, np.newaxis]
y = np.sin(2 * x)
net = Network([1, 30, 1], hidden="tanh", output="identity", dtype="float64", seed=0)


def cost(theta):
    net.theta = theta
    return cost_and_gradient(net, x, y, loss="quadratic")


result = minimize(cost, net.theta.copy(), jac=True, method="L-BFGS-B", options={"maxiter": 1000})
net.theta = result.x
error = np.abs(net.forward(x) - y).max()
print(f"sin(2x) to within {error:.4f} after {result.nit} iterations and {result.nfev} gradients")
assert error < 0.1
