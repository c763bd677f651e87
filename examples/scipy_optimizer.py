"""An optimizer of SciPy
=====================

Parameters are one vector, and so is the gradient. `fastbp.objective` gives them to the optimisers of SciPy: here to
L-BFGS, which goes by gradients, and to Newton-CG, which takes products with the Hessian, too.
"""

import numpy as np
from scipy.optimize import minimize

from fastbp import Network, objective

x = np.linspace(-3, 3, 200)[:, np.newaxis]
y = np.sin(2 * x)
net = Network([1, 30, 1], hidden="tanh", output="identity", dtype="float64", seed=0)
cost = objective(net, x, y)

for method, options in (("L-BFGS-B", {"maxiter": 1000}), ("Newton-CG", {"maxiter": 300, "xtol": 1e-8})):
    hessp = cost.hessp if method == "Newton-CG" else None
    result = minimize(cost, cost.x0, jac=True, hessp=hessp, method=method, options=options)
    net.theta = result.x
    error = np.abs(net.forward(x) - y).max()
    print(f"{method}: sin(2x) to within {error:.4f} after {result.nit} iterations and {result.nfev} gradients")
    assert error < 0.1
