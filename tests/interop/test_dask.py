"""Searches on two worker processes of Dask: estimators through joblib, and groups of networks by fit_many."""

import numpy as np
import pytest

import fastbp

distributed = pytest.importorskip("distributed")
joblib = pytest.importorskip("joblib")

draw = np.random.default_rng(0)
X = draw.normal(size=(300, 5))
Y = (X[:, 0] * X[:, 1] > 0).astype(int)


@pytest.fixture(scope="module")
def client():
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, \
            distributed.Client(cluster) as client:
        yield client


def many(seeds):
    """Train a network for each seed; return their parameters and the process."""
    import os

    trainers = [fastbp.Trainer(fastbp.Network([5, 8, 2], seed=seed), batch_size=20, seed=seed) for seed in seeds]
    fastbp.fit_many(trainers, X, Y, epochs=3)
    return [trainer.network.theta for trainer in trainers], os.getpid()


def test_fit_many_on_two_workers_gives_the_same_bits(client):
    groups = [range(3), range(3, 6)]
    thetas, processes = zip(*client.gather(client.map(many, groups, pure=False)), strict=True)
    np.testing.assert_array_equal(np.concatenate(thetas), np.concatenate([many(group)[0] for group in groups]))
    assert len(set(processes)) == 2


def test_trainer_goes_on_elsewhere(client):
    """A trainer can be sent to a worker and back in the middle of its training."""
    def train(trainer):
        trainer.fit(X, Y, 2)
        return trainer

    here, there = (fastbp.Trainer(fastbp.Network([5, 8, 2], seed=0), dropout=0.2, batch_size=20) for _ in range(2))
    train(train(here))
    there = client.submit(train, client.submit(train, there, pure=False), pure=False).result()
    np.testing.assert_array_equal(here.network.theta, there.network.theta)
    assert there.steps_done == here.steps_done == 60


@pytest.mark.parametrize("estimator", ["MLPClassifier", "MLPRegressor"])
def test_search_on_two_workers_gives_the_same_scores(client, estimator):
    from sklearn.model_selection import GridSearchCV

    import fastbp.sklearn

    model = getattr(fastbp.sklearn, estimator)(max_iter=100, tol=10.0, n_iter_no_change=3, random_state=0)
    search = GridSearchCV(model, {"alpha": [0.01, 1.0], "hidden_layer_sizes": [(4,), (8,)]}, cv=3)
    here = search.fit(X, Y).cv_results_["mean_test_score"]
    with joblib.parallel_backend("dask"):
        there = search.fit(X, Y).cv_results_["mean_test_score"]
    np.testing.assert_array_equal(here, there)
