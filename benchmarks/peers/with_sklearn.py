"""scikit-learn: MLPClassifier and MLPRegressor, an epoch each partial_fit.

What differs: its reported quadratic loss is also divided by the number of outputs (the gradient is not), its Adam adds
epsilon before the correction of bias, and Adam's update passes through float64 (its learning rate is a NumPy float64).
"""

from __future__ import annotations

import numpy as np
from sklearn.neural_network import MLPClassifier, MLPRegressor
from workloads import BETA1, BETA2, EPSILON, Piece, Workload, one_by_one


def network(workload: Workload, x: np.ndarray, y: np.ndarray) -> MLPClassifier | MLPRegressor:
    settings = dict(hidden_layer_sizes=workload.sizes[1:-1], activation=workload.hidden, alpha=0,
                    solver="adam" if workload.optimizer == "Adam" else "sgd", learning_rate_init=workload.eta,
                    momentum=workload.momentum, nesterovs_momentum=workload.momentum > 0, beta_1=BETA1, beta_2=BETA2,
                    epsilon=EPSILON, batch_size=workload.batch, shuffle=False)
    model = MLPClassifier(**settings) if workload.labels else MLPRegressor(**settings)
    first = slice(workload.batch)
    # A first mini-batch makes the arrays. Then the parameters are ours, and the optimiser has seen nothing.
    if workload.labels:
        model.partial_fit(x[first], y[first], classes=np.arange(workload.sizes[-1]))
    else:
        model.partial_fit(x[first], y[first])
    model.coefs_ = [W for W, _ in workload.parameters]
    model.intercepts_ = [b for _, b in workload.parameters]
    del model._optimizer
    return model


class Training:
    def __init__(self, workload: Workload):
        self.workload = workload
        x, y = workload.data
        self.x = x.astype(np.float32) / 255 if workload.labels else x
        self.y = y if y.shape[1:] != (1,) else y.ravel()
        self.model = network(workload, self.x, self.y)

    def __call__(self, piece: Piece) -> float:
        """shuffle=True would draw an order of its own, so the data are shuffled before."""
        losses = []
        for order in self.workload.order(piece).reshape(piece.epochs, -1):
            self.model.partial_fit(self.x[order], self.y[order])
            losses.append(self.model.loss_)
        return float(np.mean(losses)) * (1 if self.workload.labels else self.workload.sizes[-1])


def forward(workload: Workload):
    x, y = workload.data
    model = network(workload, x, y)
    return one_by_one(model.predict, [x[i : i + 1] for i in range(len(x))])
