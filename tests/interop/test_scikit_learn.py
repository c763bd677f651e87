"""Beside scikit-learn's MLP on the sets that come with it, at equal settings, from equal parameters, ten seeds."""

import numpy as np
import pytest
from sklearn import datasets
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import StandardScaler

from fastbp import Adam, Network, Trainer, metrics

HIDDEN, EPOCHS, BATCH_SIZE, SEEDS = 50, 100, 32, 10
CLASSES, VALUES = ("iris", "wine", "breast_cancer", "digits"), ("diabetes", "linnerud")


def theirs_and_ours(name, seed):
    """Accuracy or R² on three tenths of the samples, kept from training."""
    X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(X, y, test_size=0.3, random_state=seed,
                                                        stratify=y if name in CLASSES else None)
    scale = StandardScaler().fit(x_train)
    x_train, x_test = scale.transform(x_train), scale.transform(x_test)
    if name in VALUES:
        y_train, y_test = (part.reshape(len(part), -1) for part in (y_train, y_test))
        scale = StandardScaler().fit(y_train)
        y_train, y_test = scale.transform(y_train), scale.transform(y_test)
    n_out = int(y.max()) + 1 if name in CLASSES else y_train.shape[1]
    batch_size = min(BATCH_SIZE, len(x_train))
    kind = MLPClassifier if name in CLASSES else MLPRegressor
    other = kind(hidden_layer_sizes=[HIDDEN], alpha=0, batch_size=batch_size, max_iter=EPOCHS, tol=0,
                 n_iter_no_change=EPOCHS + 1, random_state=seed)
    other.fit(x_train, y_train if n_out > 1 else y_train.ravel())

    net = Network([X.shape[1], HIDDEN, n_out], "relu", "softmax" if name in CLASSES else "identity", seed=seed)
    as_theirs = np.random.RandomState(seed)
    for W, b in zip(net.W, net.b, strict=True):  # scikit-learn's initial parameters, biases too, in their order
        bound = np.sqrt(6 / sum(W.shape))
        W[:], b[:] = as_theirs.uniform(-bound, bound, W.shape), as_theirs.uniform(-bound, bound, b.shape)
    Trainer(net, optimizer=Adam(0.001), batch_size=batch_size, seed=seed).fit(x_train, y_train, EPOCHS)
    measure = metrics.accuracy if name in CLASSES else metrics.r2
    return other.score(x_test, y_test), measure(y_test, net.forward(x_test))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")  # all epochs are wanted
@pytest.mark.parametrize("name", CLASSES + VALUES)
def test_at_least_as_good(name):
    """As far as ten seeds tell: the mean difference is above twice its standard error below 0."""
    theirs, ours = np.array([theirs_and_ours(name, seed) for seed in range(SEEDS)]).T
    gain = ours - theirs
    print(f"{name}: {theirs.mean():.4f} scikit-learn, {ours.mean():.4f} fastbp")
    assert gain.mean() > -2 * gain.std(ddof=1) / np.sqrt(SEEDS) - 1e-3
