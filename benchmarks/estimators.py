"""scikit-learn's MLPClassifier and fastbp.sklearn's, in turn: fits of its own sets, predictions, a search.

`make bench-estimators`, or `python benchmarks/estimators.py [--rounds N] [--only TEXT] [--results FOLDER]`. One process
for each side, which have the machine in turn: medians over the rounds, and the ratio of each round's pair. With
--results, the table goes to estimators.md there.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path

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


def serve(module, only):
    """Prepare all, then for each line from the parent measure the task of that number."""
    import importlib

    warnings.simplefilter("ignore")
    classifier = importlib.import_module(module).MLPClassifier
    tasks = [task for part in (fits, of_mnist, search) for task in part(classifier) if only in task[0]]
    print(json.dumps([name for name, _, _ in tasks]), flush=True)
    for line in sys.stdin:
        _, call, times = tasks[int(line)]
        call()
        started = time.perf_counter()
        for _ in range(times):
            call()
        print(json.dumps((time.perf_counter() - started) / times), flush=True)


def compare(rounds, only):
    """By task, seconds of each side in each round."""
    children = {side: subprocess.Popen([sys.executable, __file__, "--serve", module, "--only", only], text=True,
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE) for side, module in SIDES.items()}
    names = [json.loads(child.stdout.readline()) for child in children.values()][0]
    seconds = {name: {side: [] for side in SIDES} for name in names}
    for i, name in enumerate(names):
        for turn in range(rounds):
            for side in list(SIDES)[:: 1 if turn % 2 == 0 else -1]:
                children[side].stdin.write(f"{i}\n")
                children[side].stdin.flush()
                seconds[name][side].append(json.loads(children[side].stdout.readline()))
    for child in children.values():
        child.stdin.close()
        child.wait()
    return seconds


def shown(seconds):
    return f"{seconds * 1e6:,.3g} µs" if seconds < 1e-3 else f"{seconds * 1e3:,.3g} ms" if seconds < 1 else (
        f"{seconds:,.3g} s")


def table(seconds):
    rows = ["| | fastbp | scikit-learn | times as fast | lowest, highest |", "|---|---|---|---|---|"]
    for name, sides in seconds.items():
        ratios = sorted(b / a for a, b in zip(*sides.values(), strict=True))
        mine, theirs = (statistics.median(each) for each in sides.values())
        rows.append(f"| {name} | {shown(mine)} | {shown(theirs)} | **{statistics.median(ratios):.1f}** | "
                    f"{ratios[0]:.1f}, {ratios[-1]:.1f} |")
    return "\n".join(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="")
    parser.add_argument("--results", type=Path)
    parser.add_argument("--serve", metavar="MODULE")
    options = parser.parse_args()
    if options.serve:
        return serve(options.serve, options.only)
    import sklearn
    from machine import describe

    about = (f"{time.strftime('%Y-%m-%d')}; {describe()}, scikit-learn {sklearn.__version__}; medians of "
             f"{options.rounds} rounds in turn, and of the ratios of each round's pair; OPENBLAS_CORETYPE unset")
    text = f"{table(compare(options.rounds, options.only))}\n\n{about}\n"
    print(text)
    if options.results:
        (options.results / "estimators.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
