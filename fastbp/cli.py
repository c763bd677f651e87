"""The command `fastbp`: parses, calls, prints; no numerics."""

from __future__ import annotations

import argparse
import atexit
import contextlib
import csv
import io
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import fastbp
from fastbp import data, options
from fastbp.callbacks import History
from fastbp.core import jit, kernels, simd
from fastbp.files import check_folder, strict, write_whole
from fastbp.inputs import as_targets, decide
from fastbp.network import Network, check_loss
from fastbp.trainer import Trainer
from fastbp.workspace import Array


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status: 0, or 2 with one line on standard error for what the user can mend."""
    parser, train = _parser()
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if given[:1] in (["train"], ["find-eta"]):
            given = options.with_config(parser, train, given)
        _run(vars(parser.parse_args(given)))
    except (ValueError, TypeError, OSError, MemoryError, ImportError, ArithmeticError, RecursionError) as error:
        print(f"fastbp: {_one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("fastbp: interrupted", file=sys.stderr)
        return 130
    return 0


def command() -> None:
    """The entry point: run `main` and the exit functions of all libraries, then end the process at once.

    Python would take 0.2 s more, a tenth of `fastbp train mnist`, to take the compiler apart.
    """
    status = main()
    # The way multiprocessing ends its own processes; takes 0.6 ms. From Python 3.14 Numba's lock is a named semaphore:
    # an exit function removes it, without which Python's resource tracker reports a leak on standard error.
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # none, full or closed: `main` has said so
            stream.flush()
    os._exit(status)


def _run(given: dict[str, Any]) -> None:
    """Run, and write out what standard output holds back, so that a full disk is noticed here and not at exit."""
    run: Callable[[dict[str, Any]], None] = given["run"]
    try:
        run(given)
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


def _parser() -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    """Of the command, and of `train`."""
    parser = argparse.ArgumentParser(prog="fastbp", description="Train dense neural networks on the CPU.",
                                     allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"fastbp {fastbp.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    train = _add_train(commands, "train", "train a network", _train)
    find = _add_train(commands, "find-eta", "find a learning rate: train for some steps, each with a larger one",
                      _find_eta)
    find.add_argument("--plot", metavar="FILE", help="draw the losses (.png, .svg, .pdf; needs matplotlib)")
    _add_predict(commands)

    info = commands.add_parser("info", help="versions, CPU, threads, cache", allow_abbrev=False)
    info.add_argument("--json", metavar="FILE", help="write it as JSON (-: standard output)")
    info.set_defaults(run=_info)

    warmup = commands.add_parser("warmup", help="compile everything now", allow_abbrev=False)
    warmup.set_defaults(run=_warmup)
    return parser, train


def _add_train(commands: Any, name: str, what: str, run: Callable[..., None]) -> argparse.ArgumentParser:
    """A command that takes the options of a training."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=what, allow_abbrev=False,
                                                          formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    options.add(parser, whole=run is _train)
    parser.set_defaults(run=run)
    return parser


def _add_predict(commands: Any) -> None:
    predict = commands.add_parser("predict", help="apply a saved network", allow_abbrev=False,
                                  description="Apply a saved network to the test samples, or where DATA has none to "
                                              "the training samples.")
    predict.add_argument("model", metavar="MODEL", help="a file that `fastbp train --save` wrote")
    predict.add_argument("data", metavar="DATA", help=options.DATA_HELP)
    predict.add_argument("--json", metavar="FILE", help="write a summary as JSON (-: standard output)")
    predict.add_argument("--out", metavar="FILE.csv", help="write one line a sample: label or values")
    predict.set_defaults(run=_predict)


def _train(given: dict[str, Any]) -> None:
    _need_data(given)
    model, report = given.get("save"), given.get("json")
    config = options.config_beside(model) if model else None
    _check_outputs(model, report, config)
    callbacks = options.watchers(given)
    fraction = given.get("validation_fraction", 0.1 if "early_stopping" in given else None)
    say = _silent if given["quiet"] or report == "-" else print

    started = time.perf_counter()
    dataset = data.load(given["data"])
    load_seconds = time.perf_counter() - started

    network, trainer = options.network_and_trainer(given, dataset)
    say(f"{given['data']}: {_count(dataset.x_train)} training and {_count(dataset.x_test)} test samples; "
        f"{'-'.join(map(str, network.layer_sizes))}, {network.n_parameters:,} parameters, {trainer.loss}")
    started = time.perf_counter()
    trainer.compile()
    compile_seconds = time.perf_counter() - started

    test = _test_samples(dataset)
    history = trainer.fit(dataset.x_train, dataset.y_train, given["epochs"], test if fraction is None else None,
                          progress=False if given["quiet"] else None, class_weight=given.get("class_weight"),
                          validation_fraction=fraction,
                          stratify=fraction is not None and network.activations[-1] == "softmax",
                          metrics=given.get("metrics", ()), callbacks=callbacks)
    if model:
        network.save(model)
        write_whole(str(config), options.config(given).encode())
    tested = _tested(trainer, history, test, fraction is not None)
    result = _result(given, dataset, trainer, history, load_seconds, compile_seconds) | tested
    for line in _lines(history, result):
        say(line)
    if report:
        _write_json(report, result)


def _find_eta(given: dict[str, Any]) -> None:
    _need_data(given)
    _check_outputs(given.get("plot"))
    dataset = data.load(given["data"])
    _, trainer = options.network_and_trainer(given, dataset)
    found = fastbp.find_eta(trainer, dataset.x_train, dataset.y_train)
    if "plot" in given:
        found.plot(given["plot"])
    if found.note:
        raise ValueError(found.note)
    print(f"eta {found.suggestion:.3g}: the loss falls with it; it was least at ten times that or more, in "
          f"{len(found.etas)} steps with etas from {found.etas[0]:.3g} to {found.etas[-1]:.3g}")


def _need_data(given: dict[str, Any]) -> None:
    if "data" not in given:
        raise ValueError("name the DATA to train on: mnist, a folder or an .npz")


def _check_outputs(*paths: str | Path | None) -> None:
    """Refuse what could not be written before time is spent on it."""
    for path in paths:
        if path not in (None, "-"):
            check_folder(path)


def _test_samples(dataset: data.Dataset) -> tuple[Array, Array] | None:
    if dataset.x_test is None or dataset.y_test is None:
        return None
    return dataset.x_test, dataset.y_test


def _tested(trainer: Trainer, history: History, test: tuple[Array, Array] | None, once: bool) -> dict[str, Any]:
    """Loss and accuracy on the test samples, after each epoch or, if others validated, at the end."""
    losses, accuracies = history.validation_loss, history.validation_accuracy
    if once:
        loss, accuracy = trainer.evaluate(*test) if test else (None, None)
        losses, accuracies = [[value] if value is not None else [] for value in (loss, accuracy)]
    return {"test_loss": losses, "test_accuracy": accuracies,
            "final_test_accuracy": accuracies[-1] if accuracies else None,
            "validation_loss": history.validation_loss if once else [],
            "validation_accuracy": history.validation_accuracy if once else [], "metrics": history.metrics,
            "stopped": history.stopped}


def _count(x: Array | None) -> str:
    return "no" if x is None else f"{len(x):,}"


def _result(given: dict[str, Any], dataset: data.Dataset, trainer: Trainer, history: History,
            load_seconds: float, compile_seconds: float) -> dict[str, Any]:
    train_seconds = sum(history.seconds)
    n_train = len(dataset.x_train)
    return {
        "dataset": given["data"],
        "n_train": n_train,
        "n_test": 0 if dataset.x_test is None else len(dataset.x_test),
        "layer_sizes": list(trainer.network.layer_sizes),
        "n_parameters": trainer.network.n_parameters,
        "epochs": len(history.loss),
        "batch_size": trainer.batch_size,
        "seed": given["seed"],
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
        line += "".join(f"   {metric} {values[epoch]:.4g}" for metric, values in history.metrics.items())
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


def _predict(given: dict[str, Any]) -> None:
    _check_outputs(given["json"], given["out"])
    network = Network.load(given["model"])
    dataset = data.load(given["data"])
    x, y = _test_samples(dataset) or (dataset.x_train, dataset.y_train)
    predictions = network.predict(x)
    result = {"model": given["model"], "dataset": given["data"], "n_samples": len(x),
              "layer_sizes": list(network.layer_sizes), **_score(network, predictions, y)}
    if given["out"]:
        write_whole(given["out"], _table(predictions).encode())
    if given["json"]:
        _write_json(given["json"], result)
    if given["json"] != "-":
        print(f"{len(x):,} samples, " + ", ".join(f"{name} {value:.4g}" for name, value in result.items()
                                                  if name in ("accuracy", "mean_squared_error")))


def _score(network: Network, predictions: Array, y: Array) -> dict[str, float]:
    targets = as_targets(y, len(predictions), network, check_loss(None, network.activations[-1]))
    if targets.labels is not None:
        labels = predictions if predictions.ndim == 1 else decide(predictions)
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


def _info(given: dict[str, Any]) -> None:
    result = {
        "fastbp": fastbp.__version__,
        "python": platform.python_version(),
        **jit.environment(),
        "vector_bits": simd.VECTOR_BITS,
        "tile_float32": simd.tile_shape("float32"),
        "tile_float64": simd.tile_shape("float64"),
        "cached": {dtype: kernels.cached(dtype) for dtype in ("float32", "float64")},
    }
    if given["json"]:
        _write_json(given["json"], result)
    if given["json"] != "-":
        for name, value in result.items():
            print(f"{name.replace('_', ' '):16} {_plain(value)}")


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(part)}" for name, part in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _warmup(given: dict[str, Any]) -> None:
    started = time.perf_counter()
    for dtype in ("float32", "float64"):
        network = Network([2, 2], dtype=dtype)
        for threads in (1, 2):
            Trainer(network, threads=threads).compile()
            fastbp.cost_and_gradient(network, np.zeros((1, 2)), [0], threads=threads)
        kernels.fill_all(dtype)
    print(f"ready after {time.perf_counter() - started:.1f} s; machine code in {jit.environment()['cache_directory']}")


def _write_json(path: str, result: dict[str, Any]) -> None:
    text = json.dumps(strict(result), indent=2, allow_nan=False) + "\n"
    if path == "-":
        print(text, end="")
    else:
        write_whole(path, text.encode())


def _silent(*_: object) -> None:
    pass


if __name__ == "__main__":
    command()
