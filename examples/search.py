"""A search for settings
=====================

Which settings are best? `GridSearchCV` tries all of a grid: in processes of joblib, or on the workers of Dask, which
may be other machines. Optuna chooses the next settings by the results so far, and a callback ends fits that do worse
than most. This needs ``pip install "fastbp[sklearn]" "dask[distributed]" optuna``.
"""

import joblib
import optuna
from dask.distributed import Client
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastbp import Adam, Network, Trainer
from fastbp.sklearn import MLPClassifier

X_train, X_test, y_train, y_test = train_test_split(*load_digits(return_X_y=True), random_state=0)

mlp = MLPClassifier((32,), max_iter=100, tol=0.01, n_iter_no_change=3, random_state=0)
grid = {"mlpclassifier__alpha": [0.01, 1.0], "mlpclassifier__learning_rate_init": [0.003, 0.03]}
search = GridSearchCV(make_pipeline(StandardScaler(), mlp), grid, cv=3, n_jobs=2)
search.fit(X_train, y_train)  # two processes of joblib, each on one thread
print(f"joblib: {search.best_params_}, {search.score(X_test, y_test):.1%} of the test digits are right")

# Client("tcp://...") is a cluster; this one is two threads of this process.
client = Client(processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None)
with client, joblib.parallel_backend("dask"):
    again = GridSearchCV(search.estimator, grid, cv=3).fit(X_train, y_train)
print(f"Dask:   {again.best_params_}, {again.score(X_test, y_test):.1%}")
assert (again.cv_results_["mean_test_score"] == search.cv_results_["mean_test_score"]).all()

scale = StandardScaler().fit(X_train)
X_fit, X_val, y_fit, y_val = train_test_split(scale.transform(X_train), y_train, random_state=0)


def pruned(trial):
    """Return a callback that reports each epoch to Optuna, and ends the fit if Optuna says so."""
    def report(fit):
        trial.report(fit.history.validation_accuracy[-1], fit.epoch)
        if trial.should_prune():
            raise optuna.TrialPruned

    return report


def accuracy(trial):
    net = Network([64, trial.suggest_int("width", 8, 128, log=True), 10], dtype="float64")
    optimizer = Adam(trial.suggest_float("eta", 1e-4, 0.1, log=True))
    trainer = Trainer(net, optimizer=optimizer, batch_size=32, dropout=trial.suggest_float("dropout", 0, 0.5))
    history = trainer.fit(X_fit, y_fit, epochs=20, validation_data=(X_val, y_val), callbacks=[pruned(trial)])
    return history.validation_accuracy[-1]


optuna.logging.set_verbosity(optuna.logging.WARNING)
study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0),
                            pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=2))
study.optimize(accuracy, n_trials=20)
ended = sum(trial.state == optuna.trial.TrialState.PRUNED for trial in study.trials)
print(f"Optuna: {study.best_params}, {study.best_value:.1%} of the validation digits; {ended} of 20 fits ended early")
assert search.score(X_test, y_test) > 0.95 and study.best_value > 0.95 and ended > 0
