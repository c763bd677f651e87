"""scikit-learn's MLPClassifier and fastbp.sklearn's, in turn: fits of its own sets, predictions, a search.

`make bench-estimators`, or `python benchmarks/estimators.py [--rounds N] [--only TEXT] [--results FOLDER]`. One process
for each side, which have the machine in turn: medians over the rounds, and the ratio of each round's pair. With
--results, the table goes to estimators.md there.
"""

import argparse
import importlib
import os
import warnings
from pathlib import Path

from turns import about, compare, serve, table

os.environ.pop("OPENBLAS_CORETYPE", None)
os.environ.pop("OPENBLAS_NUM_THREADS", None)
SIDES = {"fastbp": "fastbp.sklearn", "scikit-learn": "sklearn.neural_network"}


def sets():
    from sklearn import datasets

    return {name: getattr(datasets, f"load_{name}")(return_X_y=True)
            for name in ("iris", "wine", "breast_cancer", "digits")}


def mnist():
    from fastbp import data

    read = data.mnist()
    return read.x_train, read.y_train


def fits(classifier):
    """Default settings, a whole fit of each of scikit-learn's sets."""
    for name, (X, y) in sets().items():
        classifier(random_state=0).fit(X, y)
        yield f"fit, {name}", lambda X=X, y=y: classifier(random_state=0).fit(X, y), 3


def of_mnist(classifier):
    """One epoch, and predictions; in both types."""
    X, y = mnist()
    yield "an epoch of MNIST, bytes as they are", lambda: classifier(random_state=0, max_iter=1).fit(X, y), 1
    for dtype in ("float64", "float32"):
        X = (X / 255).astype(dtype) if dtype == "float64" else X.astype(dtype)
        model = classifier(random_state=0, max_iter=1).fit(X[:1000], y[:1000])
        yield f"an epoch of MNIST, {dtype}", lambda X=X: classifier(random_state=0, max_iter=1).fit(X, y), 1
        for rows, times in ((1, 200), (100, 100), (60_000, 1)):
            some = X[:rows].copy()
            yield (f"predict_proba of {rows:,} rows, {dtype}",
                   lambda some=some, model=model: model.predict_proba(some), times)


def search(classifier):
    """20 settings on digits, two processes, three folds."""
    from sklearn.model_selection import GridSearchCV

    X, y = sets()["digits"]
    grid = {"alpha": [1e-5, 1e-4, 1e-3, 1e-2, 1e-1], "hidden_layer_sizes": [(50,), (100,)],
            "learning_rate_init": [0.001, 0.01]}
    made = GridSearchCV(classifier(random_state=0, max_iter=30), grid, n_jobs=2, cv=3)
    made.fit(X[:100], y[:100])  # its processes are there
    yield "GridSearchCV of 20 settings on digits, n_jobs=2", lambda: made.fit(X, y), 1


def tasks(module, only):
    classifier = importlib.import_module(module).MLPClassifier
    return [task for part in (fits, of_mnist, search) for task in part(classifier) if only in task[0]]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="")
    parser.add_argument("--results", type=Path)
    parser.add_argument("--serve", metavar="MODULE")
    options = parser.parse_args()
    if options.serve:
        warnings.simplefilter("ignore")
        return serve(tasks(options.serve, options.only))
    import sklearn

    commands = {side: [__file__, "--serve", module, "--only", options.only] for side, module in SIDES.items()}
    told = about(options.rounds, f"scikit-learn {sklearn.__version__}")
    text = f"{table(compare(commands, options.rounds))}\n\n{told}\n"
    print(text)
    if options.results:
        (options.results / "estimators.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
