"""Epochs on images that are transformed at random: the recipe of examples/mnist_99.py, fastbp and PyTorch in turn.

`make bench-augmentation`, or `python benchmarks/augmentation.py [--sizes N ...] [--epochs N] [--results FOLDER]`. A
process for each side, which have the machine for an epoch in turn. All sides train to the end, and their accuracies say
whether they do the same job. With --results, the table goes to augmentation.md there.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

os.environ.pop("OPENBLAS_CORETYPE", None)
os.environ.pop("OPENBLAS_NUM_THREADS", None)
SIZES, EPOCHS, BATCH, ETA, MOMENTUM = [784, 512, 256, 10], 16, 128, 0.1, 0.9
SHIFT, ROTATION, SCALE, SHEAR, ELASTIC = 1, 10, 0.1, 5, 1


def settings():
    from fastbp.data import Augmentation

    return Augmentation(shift=SHIFT, rotation=ROTATION, scale=SCALE, shear=SHEAR, elastic=ELASTIC)


def train_fastbp(sizes, epochs, turn, augmented=False):
    """Call `turn` after each epoch; return the accuracy at the end."""
    import fastbp

    data = fastbp.data.mnist()
    net = fastbp.Network(sizes, hidden="relu", seed=0, input_scale=data.input_scale)
    trainer = fastbp.Trainer(net, optimizer=fastbp.SGD(ETA, MOMENTUM, nesterov=True), schedule="linear",
                             batch_size=BATCH, augmentation=settings() if augmented else None)
    turn()
    trainer.fit(data.x_train, data.y_train, epochs, callbacks=[lambda fit: turn()])
    return trainer.evaluate(data.x_test, data.y_test)[1]


def train_torch(sizes, epochs, turn, augmented=False):
    import torch

    import fastbp

    data, augment = fastbp.data.mnist(), of_torch() if augmented else (lambda images: images)
    layers = [layer for n_in, n_out in zip(sizes, sizes[1:], strict=False)
              for layer in (torch.nn.Linear(n_in, n_out), torch.nn.ReLU())][:-1]
    model = torch.nn.Sequential(*layers)
    for linear in layers[::2]:  # He et al., as fastbp begins
        torch.nn.init.normal_(linear.weight, std=math.sqrt(2 / linear.in_features))
        torch.nn.init.zeros_(linear.bias)
    X, y = torch.from_numpy(data.x_train).float() / 255, torch.from_numpy(data.y_train).long()
    optimizer = torch.optim.SGD(model.parameters(), ETA, MOMENTUM, nesterov=True, fused=True)
    steps = epochs * -(-len(X) // BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    for _ in range(epochs):
        turn()
        for batch in torch.randperm(len(X)).split(BATCH):
            loss = torch.nn.functional.cross_entropy(model(augment(X[batch])), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    turn()
    with torch.inference_mode():
        outputs = model(torch.from_numpy(data.x_test).float() / 255)
    return float((outputs.argmax(1).numpy() == data.y_test).mean())


def of_torch():
    """Return a function that transforms a mini-batch by the same rule: affine and elastic, interpolated once."""
    import torch

    from fastbp.core.augmentation import HEIGHT, KNOT_COLUMNS, KNOT_ROWS, WEIGHTS

    numbers = settings().settings(784)
    side, rows, columns = (int(numbers[i]) for i in (HEIGHT, KNOT_ROWS, KNOT_COLUMNS))
    weights = torch.from_numpy(numbers[WEIGHTS:]).float()
    down, across = weights[: side * rows].reshape(side, rows), weights[side * rows :].reshape(columns, side)
    unit = 2 / (side - 1)  # of grid_sample, a pixel

    def augment(images):
        n = len(images)
        angle, wider, higher, slope, y, x = (2 * torch.rand(6, n) - 1)
        angle, slope = angle * math.radians(ROTATION), slope * math.tan(math.radians(SHEAR))
        wider, higher = 1 + SCALE * wider, 1 + SCALE * higher
        cos, sin = angle.cos(), angle.sin()
        affine = torch.stack([wider * cos, higher * (slope * cos - sin), SHIFT * unit * x,
                              wider * sin, higher * (slope * sin + cos), SHIFT * unit * y], 1).reshape(n, 2, 3)
        grid = torch.nn.functional.affine_grid(affine, [n, 1, side, side], align_corners=True)
        moved = down @ (2 * torch.rand(n, 2, rows, columns) - 1) @ across
        grid += unit * moved.permute(0, 2, 3, 1)
        return torch.nn.functional.grid_sample(images.reshape(n, 1, side, side), grid, padding_mode="border",
                                               align_corners=True).reshape(n, -1)

    return augment


SIDES = {  # name: function, its settings
    "fastbp": (train_fastbp, {}),
    "fastbp, augmented": (train_fastbp, {"augmented": True}),
    "PyTorch": (train_torch, {}),
    "PyTorch, augmented": (train_torch, {"augmented": True}),
}


def serve(side, sizes, epochs):
    """In a child: for each line from the parent the next epoch, its seconds answered; at the end the accuracy."""
    train, chosen = SIDES[side]
    started = None

    def turn():
        nonlocal started
        if started is not None:
            print(json.dumps(time.perf_counter() - started), flush=True)
        sys.stdin.readline()
        started = time.perf_counter()

    print(json.dumps(train(sizes, epochs, turn, **chosen)), flush=True)


def compare(sizes, epochs):
    """Return by side the seconds of each epoch, and the accuracies."""
    given = ["--sizes", *map(str, sizes), "--epochs", str(epochs)]
    children = {side: subprocess.Popen([sys.executable, __file__, "--serve", side, *given], text=True,
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE) for side in SIDES}

    def ask(side):
        children[side].stdin.write("\n")
        children[side].stdin.flush()
        return json.loads(children[side].stdout.readline())

    seconds = {side: [] for side in SIDES}
    for epoch in range(epochs):
        for side in list(SIDES)[:: 1 if epoch % 2 == 0 else -1]:
            seconds[side].append(ask(side))
    return seconds, {side: ask(side) for side in SIDES}


def table(seconds, accuracies):
    rows = ["| | seconds an epoch, median | to that of fastbp without: median of the pairs | accuracy at the end |",
            "|---|---|---|---|"]
    for side, own in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(own[1:], seconds["fastbp"][1:], strict=True))
        rows.append(f"| {side} | {statistics.median(own[1:]):.2f} | {ratio:.3f} | {accuracies[side]:.2%} |")
    return "\n".join(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--results", type=Path)
    parser.add_argument("--serve", metavar="SIDE")
    options = parser.parse_args()
    if options.serve:
        return serve(options.serve, options.sizes, options.epochs)
    import torch
    from machine import describe

    text = (f"{'-'.join(map(str, options.sizes))}, {options.epochs} epochs of 60,000 digits, the first not counted.\n\n"
            f"{table(*compare(options.sizes, options.epochs))}\n\n"
            f"{time.strftime('%Y-%m-%d')}; {describe()}, PyTorch {torch.__version__}; in turn, epoch by epoch\n")
    print(text)
    if options.results:
        (options.results / "augmentation.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
