"""The command `fastbp`: parses, calls, prints; no numerics."""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import fastbp
from fastbp import callbacks, data
from fastbp.callbacks import History
from fastbp.core import jit, kernels, simd
from fastbp.core.losses import LOSSES
from fastbp.core.optimizers import OPTIMIZERS
from fastbp.files import check_folder, write_whole
from fastbp.initialisation import INITIALISERS
from fastbp.inputs import as_targets, decide
from fastbp.network import HIDDEN_ACTIVATIONS, Network, check_loss
from fastbp.schedules import SCHEDULES, Schedule, WarmUp
from fastbp.trainer import DivergenceError, Trainer
from fastbp.workspace import Array


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status: 0, or 2 with one line on standard error for what the user can mend."""
    options = _parser().parse_args(arguments)
    try:
        _run(options)
    except (ValueError, TypeError, OSError, MemoryError, DivergenceError) as error:
        print(f"fastbp: {_one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("fastbp: interrupted", file=sys.stderr)
        return 130
    return 0


def command() -> None:
    """The entry point: `main`, then the end of the process at once.

    Python would take 0.2 s more, a tenth of `fastbp train mnist`, to take the compiler apart.
    """
    status = main()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # none, full or closed: `main` has said so
            stream.flush()
    os._exit(status)


def _run(options: argparse.Namespace) -> None:
    """Run, and write out what standard output holds back, so that a full disk is noticed here and not at exit."""
    run: Callable[[argparse.Namespace], None] = options.run
    try:
        run(options)
    finally:
        try:
            if sys.stdout is not None:
                sys.stdout.flush()
        except OSError:
            with contextlib.suppress(OSError):
                sys.stdout.close()  # or it would be tried again at exit
            raise


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fastbp", description="Train dense neural networks on the CPU.",
                                     allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"fastbp {fastbp.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_train(commands)
    _add_predict(commands)

    info = commands.add_parser("info", help="versions, CPU, threads, cache", allow_abbrev=False)
    info.add_argument("--json", metavar="FILE", help="write it as JSON (-: standard output)")
    info.set_defaults(run=_info)

    warmup = commands.add_parser("warmup", help="compile everything now", allow_abbrev=False)
    warmup.set_defaults(run=_warmup)
    return parser


DATA_HELP = ("mnist (packaged); a folder with the four IDX files, plain or .gz; or an .npz with x_train, y_train and "
             "optionally x_test, y_test")


def _add_train(commands: Any) -> None:
    train = commands.add_parser("train", help="train a network", allow_abbrev=False,
                                formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    train.add_argument("data", metavar="DATA", help=DATA_HELP)
    train.add_argument("--hidden", type=_sizes, default="128", metavar="N,N,...",
                       help="neurons of each hidden layer; an empty text for none")
    train.add_argument("--activation", choices=HIDDEN_ACTIVATIONS, default="relu", help="of the hidden layers")
    train.add_argument("--weights", choices=INITIALISERS, default=argparse.SUPPRESS,
                       help="how they start (default: what each layer's activation wants)")
    train.add_argument("--loss", choices=LOSSES, default=argparse.SUPPRESS,
                       help="(default: cross_entropy for classes, quadratic for values); it decides about the output: "
                            "sigmoid, softmax or softplus where it needs one, else softmax for classes, identity for "
                            "values")
    train.add_argument("--label-smoothing", type=float, default=argparse.SUPPRESS, metavar="SHARE",
                       help="of cross_entropy: targets are that much less sure (default: 0)")
    train.add_argument("--epochs", type=int, default=5, help="times through the training samples")
    train.add_argument("--batch-size", type=int, default=128, help="samples of a mini-batch")
    train.add_argument("--optimizer", choices=OPTIMIZERS, default="sgd", help="sgd is with Nesterov's momentum")
    train.add_argument("--eta", type=float, help="learning rate (default: 0.2 for sgd on classes, 0.01 for sgd on "
                                                 "values, for others their own, such as 0.001 for adam)",
                       default=argparse.SUPPRESS)
    train.add_argument("--momentum", type=float, default=argparse.SUPPRESS, help="of sgd (default: 0.9)")
    train.add_argument("--weight-decay", type=float, default=argparse.SUPPRESS,
                       help="share of each weight that decays, per unit of learning rate and step (default: 0.01 for "
                            "adamw, else 0)")
    train.add_argument("--l1", type=float, default=argparse.SUPPRESS,
                       help="how far each weight moves towards 0, per unit of learning rate and step (default: 0)")
    train.add_argument("--schedule", choices=SCHEDULES, default="linear",
                       help="of the learning rate; linear: warm-up over 15%% of the steps, then decay to 0")
    train.add_argument("--warm-up", type=float, default=argparse.SUPPRESS, metavar="SHARE",
                       help="share of the steps in which the learning rate rises, before the schedule (default: 0, but "
                            "for linear)")
    train.add_argument("--class-weight", choices=["balanced"], default=argparse.SUPPRESS,
                       help="as if all classes had as many samples")
    train.add_argument("--dropout", type=_numbers, default=argparse.SUPPRESS, metavar="P[,P,...]",
                       help="share of activations left out in training: of each hidden layer, or of the input and of "
                            "each hidden layer (default: 0)")
    train.add_argument("--seed", type=int, default=0, help="of the initial weights and the order of samples")
    train.add_argument("--validation-fraction", type=float, default=argparse.SUPPRESS, metavar="SHARE",
                       help="of the training samples, to validate with after each epoch; the test samples are then "
                            "looked at once, at the end")
    train.add_argument("--early-stopping", type=int, default=argparse.SUPPRESS, metavar="EPOCHS",
                       help="stop when the validation's loss has not got better for so many, keep the best network; "
                            "implies --validation-fraction 0.1")
    train.add_argument("--max-seconds", type=float, default=argparse.SUPPRESS, metavar="S",
                       help="stop training after so many seconds")
    train.add_argument("--log", metavar="FILE", default=argparse.SUPPRESS,
                       help="write a line an epoch: a table if its name ends in .csv, else JSON")
    train.add_argument("--threads", type=int, default=argparse.SUPPRESS, help="(default: as many as pay)")
    train.add_argument("--save", metavar="FILE", default=argparse.SUPPRESS, help="write the network (safetensors)")
    train.add_argument("--json", metavar="FILE", default=argparse.SUPPRESS,
                       help="write the results as JSON (-: standard output)")
    train.add_argument("--quiet", action="store_true", help="print nothing but errors")
    train.set_defaults(run=_train)


def _add_predict(commands: Any) -> None:
    predict = commands.add_parser("predict", help="apply a saved network", allow_abbrev=False,
                                  description="Apply a saved network to the test samples, or where DATA has none to "
                                              "the training samples.")
    predict.add_argument("model", metavar="MODEL", help="a file that `fastbp train --save` wrote")
    predict.add_argument("data", metavar="DATA", help=DATA_HELP)
    predict.add_argument("--json", metavar="FILE", help="write a summary as JSON (-: standard output)")
    predict.add_argument("--out", metavar="FILE.csv", help="write one line a sample: label or values")
    predict.set_defaults(run=_predict)


def _sizes(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")] if text else []
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected whole numbers with commas between, got {text!r}") from None


def _numbers(text: str) -> float | list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected numbers with commas between, got {text!r}") from None
    return numbers if len(numbers) > 1 else numbers[0]


def _train(options: argparse.Namespace) -> None:
    given = vars(options)
    model, report = given.get("save"), given.get("json")
    _check_outputs(model, report)
    callbacks = _callbacks(given)
    fraction = given.get("validation_fraction", 0.1 if "early_stopping" in given else None)
    say = _silent if options.quiet or report == "-" else print

    started = time.perf_counter()
    dataset = data.load(options.data)
    load_seconds = time.perf_counter() - started

    network, trainer = _set_up(options, dataset)
    say(f"{options.data}: {_count(dataset.x_train)} training and {_count(dataset.x_test)} test samples; "
        f"{'-'.join(map(str, network.layer_sizes))}, {network.n_parameters:,} parameters, {trainer.loss}")
    started = time.perf_counter()
    trainer.compile()
    compile_seconds = time.perf_counter() - started

    test = _test_samples(dataset)
    history = trainer.fit(dataset.x_train, dataset.y_train, options.epochs, test if fraction is None else None,
                          progress=False if options.quiet else None, class_weight=given.get("class_weight"),
                          validation_fraction=fraction,
                          stratify=fraction is not None and network.activations[-1] == "softmax", callbacks=callbacks)
    if model:
        network.save(model)
    tested = _tested(trainer, history, test, fraction is not None)
    result = _result(options, dataset, trainer, history, load_seconds, compile_seconds) | tested
    for line in _lines(history, result):
        say(line)
    if report:
        _write_json(report, result)


def _check_outputs(*paths: str | None) -> None:
    """Refuse what could not be written before time is spent on it."""
    for path in paths:
        if path not in (None, "-"):
            check_folder(path)


def _test_samples(dataset: data.Dataset) -> tuple[Array, Array] | None:
    if dataset.x_test is None or dataset.y_test is None:
        return None
    return dataset.x_test, dataset.y_test


def _set_up(options: argparse.Namespace, dataset: data.Dataset) -> tuple[Network, Trainer]:
    """The network and trainer that fit the targets: labels get softmax and cross-entropy, values least squares."""
    given = vars(options)
    y = dataset.y_train
    labels = y.ndim == 1 and y.dtype.kind in "bui"
    if labels:
        highest = max(int(part.max()) for part in (y, dataset.y_test) if part is not None and part.dtype.kind in "bui")
        n_out, output, name = max(2, highest + 1), "softmax", "cross_entropy"
        if n_out > max(2, len(y)):
            raise ValueError(f"y_train and y_test hold labels up to {highest}, {n_out} classes, but there are "
                             f"only {len(y)} samples; store values that are no labels as floats")
    else:
        n_out, output, name = (1 if y.ndim == 1 else y.shape[1]), "identity", "quadratic"
    name = given.get("loss", name)
    if "label_smoothing" in given and name != "cross_entropy":
        raise ValueError(f"--label-smoothing belongs to --loss cross_entropy, not to {name}")
    smoothing = [given["label_smoothing"]] if "label_smoothing" in given else []
    loss = LOSSES[name](*smoothing)
    output = loss.outputs[0] if loss.outputs else output
    kind = OPTIMIZERS[options.optimizer]
    chosen: dict[str, Any] = {name: given[name] for name in ("eta", "momentum", "weight_decay", "l1") if name in given}
    if kind is fastbp.SGD:
        chosen = {"eta": 0.2 if labels else 0.01, "momentum": 0.9} | chosen
        chosen["nesterov"] = chosen["momentum"] > 0
    elif "momentum" in given:
        raise ValueError(f"--momentum belongs to --optimizer sgd; {options.optimizer} has none or its own")
    optimizer = kind(**chosen)
    sizes = [dataset.x_train.shape[1], *options.hidden, n_out]
    network = Network(sizes, options.activation, output, seed=options.seed, weights=given.get("weights"))
    schedule: Schedule = SCHEDULES[options.schedule]
    if "warm_up" in given:
        schedule = WarmUp(given["warm_up"], schedule.then if isinstance(schedule, WarmUp) else schedule)
    return network, Trainer(network, loss, optimizer, options.batch_size, options.seed, given.get("threads"), schedule,
                            given.get("dropout", 0.0))


def _callbacks(given: dict[str, Any]) -> list[callbacks.Callback]:
    chosen: list[callbacks.Callback] = []
    if "early_stopping" in given:
        chosen.append(callbacks.EarlyStopping(patience=given["early_stopping"]))
    if "max_seconds" in given:
        chosen.append(callbacks.TimeBudget(given["max_seconds"]))
    if "log" in given:
        kind = callbacks.CSVLog if given["log"].endswith(".csv") else callbacks.JSONLog
        chosen.append(kind(given["log"]))
    return chosen


def _tested(trainer: Trainer, history: History, test: tuple[Array, Array] | None, once: bool) -> dict[str, Any]:
    """Loss and accuracy on the test samples, after each epoch or, if others validated, at the end."""
    losses, accuracies = history.validation_loss, history.validation_accuracy
    if once:
        loss, accuracy = trainer.evaluate(*test) if test else (None, None)
        losses, accuracies = [[value] if value is not None else [] for value in (loss, accuracy)]
    return {"test_loss": losses, "test_accuracy": accuracies,
            "final_test_accuracy": accuracies[-1] if accuracies else None,
            "validation_loss": history.validation_loss if once else [],
            "validation_accuracy": history.validation_accuracy if once else [], "stopped": history.stopped}


def _count(x: Array | None) -> str:
    return "no" if x is None else f"{len(x):,}"


def _result(options: argparse.Namespace, dataset: data.Dataset, trainer: Trainer, history: History,
            load_seconds: float, compile_seconds: float) -> dict[str, Any]:
    train_seconds = sum(history.seconds)
    n_train = len(dataset.x_train)
    return {
        "dataset": options.data,
        "n_train": n_train,
        "n_test": 0 if dataset.x_test is None else len(dataset.x_test),
        "layer_sizes": list(trainer.network.layer_sizes),
        "n_parameters": trainer.network.n_parameters,
        "epochs": len(history.loss),
        "batch_size": trainer.batch_size,
        "seed": options.seed,
        "threads": trainer.threads,
        "load_seconds": load_seconds,
        "compile_seconds": compile_seconds,
        "train_seconds": train_seconds,
        "samples_per_second": sum(history.samples) / train_seconds,
        "train_loss": history.loss,
    }


def _lines(history: History, result: dict[str, Any]) -> list[str]:
    """The report: a line an epoch, and what it took."""
    lines, name = [], "validation" if result["validation_loss"] else "test"
    for epoch, loss in enumerate(history.loss):
        line = f"epoch {epoch + 1:>2}   train loss {loss:.4f}"
        if history.validation_loss:
            line += f"   {name} loss {history.validation_loss[epoch]:.4f}"
        if history.validation_accuracy:
            line += f"   {name} accuracy {history.validation_accuracy[epoch]:.2%}"
        lines.append(line)
    if history.stopped:
        lines.append(f"stopped: {history.stopped}")
    if name == "validation" and result["test_loss"]:
        accuracy = result["final_test_accuracy"]
        lines.append(f"test loss {result['test_loss'][0]:.4f}"
                     + (f"   test accuracy {accuracy:.2%}" if accuracy is not None else ""))
    threads = result["threads"]
    lines.append(f"trained in {result['train_seconds']:.2f} s ({result['samples_per_second']:,.0f} samples/s, "
                 f"{threads} thread{'s' if threads > 1 else ''}); "
                 f"loading took {result['load_seconds']:.2f} s, compiling {result['compile_seconds']:.2f} s")
    return lines


def _predict(options: argparse.Namespace) -> None:
    _check_outputs(options.json, options.out)
    network = Network.load(options.model)
    dataset = data.load(options.data)
    x, y = _test_samples(dataset) or (dataset.x_train, dataset.y_train)
    predictions = network.predict(x)
    result = {"model": options.model, "dataset": options.data, "n_samples": len(x),
              "layer_sizes": list(network.layer_sizes), **_score(network, predictions, y)}
    if options.out:
        write_whole(options.out, _table(predictions).encode())
    if options.json:
        _write_json(options.json, result)
    if options.json != "-":
        print(f"{len(x):,} samples, " + ", ".join(f"{name} {value:.4g}" for name, value in result.items()
                                                  if name in ("accuracy", "mean_squared_error")))


def _score(network: Network, predictions: Array, y: Array) -> dict[str, float]:
    n_out, output = network.layer_sizes[-1], network.activations[-1]
    targets = as_targets(y, len(predictions), n_out, output, check_loss(None, output), network.dtype)
    if targets.labels is not None:
        labels = predictions if predictions.ndim == 1 else decide(predictions, output)
        return {"accuracy": float(np.mean(labels == targets.labels))}
    return {"mean_squared_error": float(np.mean((predictions - y.reshape(predictions.shape)) ** 2))}


def _table(predictions: Array) -> str:
    """CSV of the predictions, one line a sample, numbered from 0."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = ["label"] if predictions.ndim == 1 else [f"output{j}" for j in range(predictions.shape[1])]
    writer.writerow(["sample", *columns])
    for i, row in enumerate(predictions.reshape(len(predictions), -1).tolist()):
        writer.writerow([i, *row])
    return text.getvalue()


def _info(options: argparse.Namespace) -> None:
    result = {
        "fastbp": fastbp.__version__,
        "python": platform.python_version(),
        **jit.environment(),
        "vector_bits": simd.VECTOR_BITS,
        "tile_float32": simd.tile_shape("float32"),
        "tile_float64": simd.tile_shape("float64"),
        "cached": {dtype: kernels.cached(dtype) for dtype in ("float32", "float64")},
    }
    if options.json:
        _write_json(options.json, result)
    if options.json != "-":
        for name, value in result.items():
            print(f"{name.replace('_', ' '):16} {_plain(value)}")


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(part)}" for name, part in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _warmup(options: argparse.Namespace) -> None:
    started = time.perf_counter()
    for dtype in ("float32", "float64"):
        network = Network([2, 2], dtype=dtype)
        for threads in (1, 2):
            Trainer(network, threads=threads).compile()
            fastbp.cost_and_gradient(network, np.zeros((1, 2)), [0], threads=threads)
    print(f"ready after {time.perf_counter() - started:.1f} s; machine code in {jit.environment()['cache_directory']}")


def _write_json(path: str, result: dict[str, Any]) -> None:
    text = json.dumps(result, indent=2) + "\n"
    if path == "-":
        print(text, end="")
    else:
        write_whole(path, text.encode())


def _silent(*_: object) -> None:
    pass


if __name__ == "__main__":
    command()
