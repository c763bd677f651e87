"""What insight.Statistics() costs: epochs of MNIST with and without it, in turn in one process, on the same network.

`make bench-looks`, or `python benchmarks/looks.py [--pairs N]`. A control compares epochs without it; the time within
the looks themselves is measured, too, as the machine changes its speed by more than they take.
"""

import argparse
import os
import statistics
import time

os.environ.pop("OPENBLAS_CORETYPE", None)
os.environ.pop("OPENBLAS_NUM_THREADS", None)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=24)
    pairs = parser.parse_args().pairs
    from machine import describe

    import fastbp
    from fastbp import insight

    data = fastbp.data.mnist()
    net = fastbp.Network([784, 512, 512, 10], seed=0, input_scale=data.input_scale)
    trainer = fastbp.Trainer(net, optimizer=fastbp.SGD(0.1, 0.9, nesterov=True), schedule="constant")

    def epoch(callbacks):
        return trainer.fit(data.x_train, data.y_train, 1, callbacks=callbacks).seconds[0]

    within = []

    def timed(look):
        def call(self, *given):
            started = time.perf_counter()
            look(self, *given)
            within.append(time.perf_counter() - started)

        return call

    for name in ("before", "after"):
        setattr(insight.Statistics, name, timed(getattr(insight.Statistics, name)))
    seconds = {"without": [], "control": [], "with": []}
    ways = {"without": lambda: [], "control": lambda: [], "with": lambda: [insight.Statistics()]}
    epoch(ways["with"]())
    within.clear()
    for i in range(pairs):
        names = list(ways)[i % 3 :] + list(ways)[: i % 3]
        for name in names:
            seconds[name].append(epoch(ways[name]()))
    for name in ("control", "with"):
        ratios = sorted(a / b for a, b in zip(seconds[name], seconds["without"], strict=True))
        print(f"{name}: {statistics.median(ratios):.3f} times an epoch without, of the sums "
              f"{sum(seconds[name]) / sum(seconds['without']):.3f}, of the least "
              f"{min(seconds[name]) / min(seconds['without']):.3f}; middle half {ratios[pairs // 4]:.3f} to "
              f"{ratios[3 * pairs // 4]:.3f}")
    print(f"within looks: {sum(within) / sum(seconds['with']):.2%} of the epochs with it")
    print(f"784-512-512-10, {statistics.median(seconds['without']):.2f} s an epoch; {time.strftime('%Y-%m-%d')}; "
          f"{describe()}")


if __name__ == "__main__":
    main()
