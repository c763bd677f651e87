"""Sparse samples: an epoch and predictions of fastbp, PyTorch and scikit-learn, in turn, and how much memory they take.

`make bench-sparse`, or `python benchmarks/sparse.py [--rounds N] [--samples N] [--results FOLDER]`. 20,000 features,
100 entries a sample, 20000-128-2, mini-batches of 128, float32. PyTorch: EmbeddingBag with a weight for each entry,
whose gradients are sparse with SGD; or mini-batches that are made dense, for Linear. With --results, the tables go to
sparse.md there.
"""

import argparse
import os
import resource
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
from turns import about, compare, serve, table

os.environ.pop("OPENBLAS_CORETYPE", None)
os.environ.pop("OPENBLAS_NUM_THREADS", None)
N_FEATURES, ENTRIES, HIDDEN, BATCH, ETA = 20_000, 100, 128, 128, 0.01


def samples(n):
    """CSR of n samples, and labels."""
    from scipy.sparse import csr_array

    draw = np.random.default_rng(0)
    indices = draw.integers(0, N_FEATURES, n * ENTRIES, np.int32)
    begins = np.arange(0, n * ENTRIES + 1, ENTRIES, dtype=np.int32)
    return csr_array((draw.random(n * ENTRIES, np.float32), indices, begins), (n, N_FEATURES)), draw.integers(0, 2, n)


class Fastbp:
    def __init__(self, rule):
        import fastbp

        net = fastbp.Network([N_FEATURES, HIDDEN, 2], seed=0)
        optimizer = fastbp.SGD(ETA) if rule == "SGD" else fastbp.Adam()
        self.trainer = fastbp.Trainer(net, optimizer=optimizer, schedule="constant", batch_size=BATCH)

    def epoch(self, X, y):
        return self.trainer.fit(X, y, epochs=1).loss[0]

    def predict(self, X):
        return self.trainer.network.predict_proba(X)


class Torch:
    """EmbeddingBag; with `dense`, Linear on mini-batches that are made dense."""

    def __init__(self, rule, dense=False):
        import torch

        self.torch, self.dense = torch, dense
        first = torch.nn.Linear(N_FEATURES, HIDDEN)
        self.bias = first.bias
        self.first = first if dense else torch.nn.EmbeddingBag.from_pretrained(
            first.weight.detach().T.contiguous(), freeze=False, mode="sum", sparse=rule == "SGD",
            include_last_offset=True)
        self.rest = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Linear(HIDDEN, 2))
        parameters = list(dict.fromkeys([*self.first.parameters(), *self.rest.parameters(), self.bias]))
        self.optimizer = torch.optim.SGD(parameters, ETA) if rule == "SGD" else torch.optim.Adam(parameters, fused=True)

    def logits(self, X):
        tensor = self.torch.from_numpy
        if self.dense:
            return self.rest(self.first(tensor(X.toarray())))
        return self.rest(self.bias + self.first(tensor(X.indices), tensor(X.indptr), per_sample_weights=tensor(X.data)))

    def epoch(self, X, y):
        order, labels, total = np.random.default_rng(1).permutation(len(y)), self.torch.from_numpy(y), 0.0
        for first in range(0, len(y), BATCH):
            chosen = order[first : first + BATCH]
            loss = self.torch.nn.functional.cross_entropy(self.logits(X[chosen]), labels[chosen])
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            total += loss.item()
        return total / -(-len(y) // BATCH)

    def predict(self, X):
        with self.torch.inference_mode():
            return [self.logits(X[i : i + 1024]).softmax(1) for i in range(0, X.shape[0], 1024)]


class Sklearn:
    def __init__(self, rule):
        from sklearn.neural_network import MLPClassifier

        self.model = MLPClassifier((HIDDEN,), solver=rule.lower(), batch_size=BATCH, max_iter=1, alpha=0, momentum=0,
                                   learning_rate_init=ETA if rule == "SGD" else 0.001)

    def epoch(self, X, y):
        return self.model.fit(X, y).loss_

    def predict(self, X):
        return self.model.predict_proba(X)


SIDES = {"fastbp": Fastbp, "PyTorch, EmbeddingBag": Torch, "PyTorch, dense": lambda rule: Torch(rule, True),
         "scikit-learn": Sklearn}


def tasks(side, n):
    X, y = samples(n)
    for rule in ("SGD", "Adam"):
        model = SIDES[side](rule)
        loss = model.epoch(X[: 10 * BATCH], y[: 10 * BATCH])
        assert 0.6 < loss < 0.9, (side, loss)  # labels are random
        yield f"an epoch, {rule}", lambda model=model: model.epoch(X, y), 1
    yield "predict_proba of all samples", lambda: model.predict(X), 1


def memory(side, n):
    """Print how much the process has grown by with the samples and an epoch with Adam, in multiples of the CSR; the
    parameters and their moments were there before."""
    X, y = samples(10 * BATCH)
    model = SIDES[side]("Adam")
    model.epoch(X, y)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    X, y = samples(n)
    model.epoch(X, y)
    stored = (X.data.nbytes + X.indices.nbytes + X.indptr.nbytes) // 1024
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / stored)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--results", type=Path)
    parser.add_argument("--serve", metavar="SIDE")
    parser.add_argument("--memory", metavar="SIDE")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.serve:
        return serve(tasks(options.serve, options.samples))
    if options.memory:
        return memory(options.memory, options.samples)
    import sklearn
    import torch

    size = ["--samples", str(options.samples)]
    grown = {side: float(subprocess.run([sys.executable, __file__, "--memory", side, *size], text=True, check=True,
                                        stdout=subprocess.PIPE).stdout) for side in SIDES}
    seconds = compare({side: [__file__, "--serve", side, *size] for side in SIDES}, options.rounds)
    told = about(options.rounds, f"PyTorch {torch.__version__}", f"scikit-learn {sklearn.__version__}")
    rows = "\n".join(f"| {side} | {times:.2f} |" for side, times in grown.items())
    text = (f"{options.samples:,} samples.\n\n{table(seconds)}\n\nHow much larger the process gets by the samples "
            f"and an epoch with Adam, in multiples of the CSR:\n\n| | |\n|---|---|\n{rows}\n\n{told}\n")
    print(text)
    if options.results:
        (options.results / "sparse.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
