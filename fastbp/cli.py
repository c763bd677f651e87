"""The command `fastbp`: parses, calls, prints; no numerics."""

from __future__ import annotations

import argparse
import atexit
import contextlib
import difflib
import json
import logging
import os
import platform
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import numpy as np

import fastbp
from fastbp import completion, data, options, report, startup, task
from fastbp.callbacks import Callback, Checkpoint, History
from fastbp.checks import counted
from fastbp.core import build
from fastbp.core.environment import environment
from fastbp.core.simd import cpu
from fastbp.data.sources import files
from fastbp.data.splitting import held_out
from fastbp.export import FORMATS
from fastbp.files import strict, write_whole
from fastbp.inputs import as_targets, right
from fastbp.losses import Quadratic
from fastbp.names import classifies
from fastbp.network import Network
from fastbp.places import STANDARD_OUTPUT, check_folder_to_make, check_places
from fastbp.training.trainer import Trainer
from fastbp.wording import of_command
from fastbp.workspace import Array

RANKS = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "SLURM_PROCID")  # in which launchers tell a process its rank
CLOSE = 0.75  # least similarity of an option that is suggested for a mistyped one
COMMANDS = ("train", "find-eta", "predict", "trace", "check", "export", "info", "warmup")
LOOKS = 100  # at layers, of a training with a report: as many at the least, if there are as many steps


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status.

    0; 2, with one line on standard error, for an error that the user can correct; 130, with one line, after Ctrl-C.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        startup.over()
        parser, train = _parser()
        if given[:1] in (["train"], ["find-eta"]):
            given = options.with_config(parser, train, given)
        _run(_parsed(parser, given))
    except (ValueError, TypeError, OSError, MemoryError, ImportError, ArithmeticError, RecursionError) as error:
        if _is_another_rank(given):  # rank 0 says it
            return 2
        advice = f"; see fastbp{_command_of(given)} -h" if isinstance(error, options.UsageError) else ""
        print(f"fastbp: {_one_line(error)}{advice}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(f"fastbp: interrupted{stop}", file=sys.stderr)
        return startup.INTERRUPTED
    return 0


def _is_another_rank(given: list[str]) -> bool:
    """Whether this is a process of `train --mpi` that is not the first one."""
    return "--mpi" in given and next((os.environ[name] for name in RANKS if name in os.environ), "0") != "0"


def command() -> None:
    """The entry point: run `main` and the exit functions of all libraries, then end the process at once.

    Python would take 0.2 s more, a tenth of `fastbp train mnist`, to take the compiler apart.
    """
    status = main()
    # The way multiprocessing ends its own processes; takes 0.6 ms. From Python 3.14 Numba's lock is a named semaphore:
    # an exit function removes it, without which Python's resource tracker reports a leak on standard error.
    atexit._run_exitfuncs()
    if "mpi4py.MPI" in sys.modules:  # which would do so at a regular exit
        sys.modules["mpi4py.MPI"].Finalize()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # none, full or closed: `main` has said so
            stream.flush()
    os._exit(status)


def _run(given: dict[str, Any]) -> None:
    """Run, and write out what standard output holds back, so that a full disk is noticed here and not at exit."""
    run: Callable[[dict[str, Any]], None] = given["run"]
    try:
        with _hushed(given.get("quiet", False)):
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
    text = str(error)
    if isinstance(error, OSError) and error.strerror:  # of the system: without its number
        text = error.strerror + (f": {error.filename!r}" if error.filename else "")
    text = of_command(text) or type(error).__name__
    return f"{text}; what was trained before that is in {error.kept}" if hasattr(error, "kept") else text


def _command_of(given: list[str]) -> str:
    """The first argument, if it is a command."""
    return f" {given[0]}" if given and given[0] in COMMANDS else ""


def _parsed(parser: argparse.ArgumentParser, given: list[str]) -> dict[str, Any]:
    known, rest = parser.parse_known_args(given)
    if rest:
        valid = options.options_of(parser, given[0])
        near = [match for part in rest for match in difflib.get_close_matches(part.partition("=")[0], valid, 1, CLOSE)]
        raise options.UsageError(f"unrecognized arguments: {' '.join(rest)}"
                                 + (f"; did you mean {near[0]}?" if near else ""))
    return vars(known)


class _Parser(argparse.ArgumentParser):
    """A parser that raises its errors, so that they are printed on a single line."""

    def error(self, message: str) -> NoReturn:
        raise options.UsageError(message)


def _parser() -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    """Return the parsers of the command and of `train`."""
    parser = _Parser(prog="fastbp", description="Train dense neural networks on the CPU.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"fastbp {fastbp.__version__}")
    parser.add_argument("--print-completion", action=completion.Print, metavar="SHELL", default=argparse.SUPPRESS,
                        help="print a script that completes the options in bash, zsh, fish or another shell")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    train = _add_train(commands, "train", "train a network", _train)
    find = _add_train(commands, "find-eta", "find a learning rate: train for some steps, each with a larger one",
                      _find_eta)
    find.add_argument("--plot", metavar="FILE", help="draw the losses (.png, .svg, .pdf; needs matplotlib)")
    _add_predict(commands)
    _add_trace(commands)
    _add_check(commands)
    _add_export(commands)

    info = commands.add_parser("info", help="show versions, CPU, threads and cache", allow_abbrev=False)
    info.add_argument("--json", metavar="FILE", help="write the information as JSON (-: standard output)")
    info.set_defaults(run=_info)

    warmup = commands.add_parser("warmup", help="compile all machine code now and keep it on disk", allow_abbrev=False)
    warmup.set_defaults(run=_warmup)
    return parser, train


def _add_train(commands: Any, name: str, what: str, run: Callable[..., None]) -> argparse.ArgumentParser:
    """Add a command that takes the options of a training."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=what, allow_abbrev=False,
                                                          formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    options.add(parser, whole=run is _train)
    parser.set_defaults(run=run)
    return parser


def _add_predict(commands: Any) -> None:
    predict = commands.add_parser("predict", help="apply a saved network", allow_abbrev=False,
                                  description="Apply a saved network to the test samples, or to the training samples "
                                              "if DATA has no test samples.")
    predict.add_argument("model", metavar="MODEL", help="a file that `fastbp train --save` wrote")
    predict.add_argument("data", metavar="DATA", help=f"{options.DATA_HELP}; targets may be missing")
    predict.add_argument("--target", metavar="NAME", help=options.TARGET_HELP.format(
        "the one that the network was trained on; if it is not known, the only column that holds names of its classes; "
        "for a network without feature names, the last column if there are more columns than features"))
    predict.add_argument("--proba", action="store_true", help="write the probability of each class, not the label; "
                                                              "without --out, to standard output")
    predict.add_argument("--json", metavar="FILE", help="write a summary as JSON (-: standard output)")
    predict.add_argument("--out", metavar="FILE.csv",
                         help="write one line per sample: label, values or probabilities; separated by tabs "
                              "if the name ends in .tsv (-: standard output)")
    predict.set_defaults(run=_predict)


def _add_trace(commands: Any) -> None:
    trace = _add_insight(commands, "trace", "show one sample going through the five equations", _trace)
    trace.add_argument("--row", metavar="N", type=int, default=0, help="which sample, from 0 (default: 0)")
    trace.add_argument("--draw", metavar="FILE", help="draw it (.png, .svg, .pdf; needs matplotlib)")


def _add_check(commands: Any) -> None:
    _add_insight(commands, "check", "compare the gradients of a saved network with differences of its cost", _check)


def _add_insight(commands: Any, name: str, what: str, run: Callable[..., None]) -> argparse.ArgumentParser:
    """Add a command on a saved network, samples and their cost."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=what, allow_abbrev=False)
    parser.add_argument("model", metavar="MODEL", help="a file that `fastbp train --save` wrote")
    parser.add_argument("data", metavar="DATA", help=options.DATA_HELP)
    parser.add_argument("--target", metavar="NAME", help=options.TARGET_HELP.format("as for predict"))
    parser.add_argument("--loss", type=options.loss_choice, metavar="NAME[:...]",
                        help="the cost, as for train (default: the one that matches the output)")
    parser.set_defaults(run=run)
    return parser


def _add_export(commands: Any) -> None:
    export = commands.add_parser("export", help="write a saved network for other software", allow_abbrev=False)
    export.add_argument("model", metavar="MODEL", help="a file that `fastbp train --save` wrote")
    export.add_argument("--format", choices=sorted(FORMATS), required=True,
                        help="numpy: an .npz of all that NumPy alone needs; onnx: a model for ONNX Runtime and others "
                             "(needs onnx); torch: a safetensors file of PyTorch's names and shapes")
    export.add_argument("-o", "--out", metavar="FILE", required=True, help="where to write it")
    export.set_defaults(run=_export)


def _train(given: dict[str, Any]) -> None:
    with options.blamed():
        _check_places(given)
        watchers = options.watchers(given)
    Training(given, watchers).run()


class Training:
    """One run of `fastbp train`."""

    def __init__(self, given: dict[str, Any], watchers: list[Callback]):
        self.given, self.watchers, self.ranks = given, watchers, None
        if given["mpi"]:
            self.ranks = fastbp.mpi.Ranks(fastbp.mpi.world())
            if "class_weight" in given:
                raise ValueError("--class-weight does not go with --mpi; fastbp.mpi.fit takes weights of samples")
            if self.ranks.rank:
                given["quiet"] = True
        self.fraction = given.get("validation_fraction", 0.1 if "early_stopping" in given else None)
        self.say = report.Printer(silent=given["quiet"] or given.get("json") == STANDARD_OUTPUT)
        self.epochs = report.Epochs(self.say, "test" if self.fraction is None else "validation",
                                    next((each for each in watchers if isinstance(each, Checkpoint)), None))
        self.statistics: fastbp.insight.Statistics | None = None  # for the report
        self.load_seconds = self.compile_seconds = self.started = self.ended = 0.0

    def run(self) -> None:
        """Load, train, save and report; after Ctrl-C, save and report what has been trained so far."""
        given, say = self.given, self.say
        dataset = self.ranks.together(self._prepare) if self.ranks else self._prepare()
        for line in report.beginning(given["data"], dataset, self.trainer):
            say(line)
        say.check()
        started = time.perf_counter()
        self.trainer.compile()
        self.compile_seconds = time.perf_counter() - started

        history, interrupted = self._fit()
        if self.ranks and self.ranks.rank:
            return
        self._save(interrupted)
        result = self._result(history, interrupted)
        for line in report.ending(history, result):
            say(line)
        if "json" in given:
            _write_json(given["json"], result)
        if "report" in given:
            self._report(history, interrupted)
        if self.trainer.warned_of:
            _print_notes(self.trainer, dataset)
        say.check()
        if interrupted:
            kept = [f"the network is in {given['save']}"] if "save" in given else []
            kept += [f"the results are in {given['json']}"] if given.get("json", STANDARD_OUTPUT) != "-" else []
            raise KeyboardInterrupt(f" in epoch {len(history.loss) + 1} of {given['epochs']}"
                                    + "".join(f"; {what}" for what in kept))

    def _prepare(self) -> data.Dataset:
        """Return the data, and make network and trainer."""
        given, started = self.given, time.perf_counter()
        dataset = _load(given)
        self.load_seconds = time.perf_counter() - started
        if dataset.target is not None:
            given["target"] = dataset.target
        with options.blamed():
            self.network, self.trainer = options.network_and_trainer(given, dataset)
        self.dataset = dataset = task.named(dataset, self.network.classes)
        return dataset

    def _fit_on_ranks(self, ranks: Any) -> History:
        """Train on all ranks, each of which takes its share of the samples."""
        given, dataset = self.given, self.dataset
        x, y, test = dataset.x_train, dataset.y_train, _test_samples(dataset)
        if self.fraction is not None:
            labels = y if self.network.activations[-1] == "softmax" else None
            chosen, kept = held_out(len(x), self.fraction, labels, given["seed"], "--validation-fraction")
            x, y, test = x[chosen], y[chosen], (x[kept], y[kept])
        own = fastbp.mpi.share(len(x), ranks.comm)
        if test is not None:
            rows = fastbp.mpi.share(len(test[0]), ranks.comm)
            test = test[0][rows], test[1][rows]
        history: History = fastbp.mpi.fit(
            self.trainer, x[own], y[own], given["epochs"], test, False if given["quiet"] else None, comm=ranks.comm,
            metrics=given.get("metrics", ()), callbacks=[*self.watchers, *([self.epochs] if ranks.rank == 0 else [])])
        return history

    def _fit(self) -> tuple[History, bool]:
        """Return the history and whether Ctrl-C ended the fit; a Ctrl-C before the first step is raised."""
        given, dataset, network = self.given, self.dataset, self.network
        self.started = time.perf_counter()
        if self.ranks:
            return self._fit_on_ranks(self.ranks), False
        if "report" in given:
            steps = given["epochs"] * -(-len(dataset.x_train) // self.trainer.batch_size)
            self.statistics = fastbp.insight.Statistics(every=max(1, steps // LOOKS))
        watchers = [*self.watchers, *([self.statistics] if self.statistics else []), self.epochs]
        try:
            history = self.trainer.fit(
                dataset.x_train, dataset.y_train, given["epochs"],
                _test_samples(dataset) if self.fraction is None else None, progress=False if given["quiet"] else None,
                class_weight=given.get("class_weight"), validation_fraction=self.fraction,
                stratify=self.fraction is not None and network.activations[-1] == "softmax",
                metrics=given.get("metrics", ()), callbacks=watchers)
        except KeyboardInterrupt:
            if self.trainer.steps_done == 0:
                raise
            self.ended, self.epochs.history.stopped = time.perf_counter(), "interrupted"
            return self.epochs.history, True
        except (OSError, ArithmeticError) as error:  # save what has been trained, whatever else failed
            if self.trainer.steps_done and "save" in given:
                self._save(interrupted=True)
                error.kept = given["save"]  # type: ignore[union-attr]  # for `_one_line`
            raise
        return history, False

    def _save(self, interrupted: bool) -> None:
        if "save" in self.given:
            self.network.save(self.given["save"])
            write_whole(str(options.config_beside(self.given["save"])),
                        options.config(self.given, interrupted).encode())

    def _report(self, history: History, interrupted: bool) -> None:
        x, y = _test_samples(self.dataset) or (self.dataset.x_train, self.dataset.y_train)
        fastbp.insight.page(self.network, x, y, self.given["report"], None, self.trainer.loss, self.trainer.optimizer,
                            history, batch_size=self.trainer.batch_size,
                            settings=options.config(self.given, interrupted), statistics=self.statistics,
                            threads=self.trainer.threads, frozen=self.trainer.frozen)

    def _result(self, history: History, interrupted: bool) -> dict[str, Any]:
        dataset, trainer, once = self.dataset, self.trainer, self.fraction is not None
        seconds, samples = sum(history.seconds), sum(history.samples)
        if interrupted:  # in an epoch that is not in the history
            seconds, samples = self.ended - self.started, trainer.steps_done * trainer.batch_size
        test, losses, accuracies = _test_samples(dataset), history.validation_loss, history.validation_accuracy
        final = losses[-1] if losses else None, accuracies[-1] if accuracies else None
        if test is None or once or interrupted or final[0] is None or _changes_the_end(self.watchers):
            final = trainer.evaluate(*test) if test else (None, None)
        trained = trainer.evaluate(dataset.x_train, dataset.y_train) if test is None else (None, None)
        return {
            "dataset": self.given["data"],
            "n_train": len(dataset.x_train),
            "n_test": 0 if dataset.x_test is None else len(dataset.x_test),
            "layer_sizes": list(trainer.network.layer_sizes),
            "n_parameters": trainer.network.n_parameters,
            "epochs": len(history.loss),
            "batch_size": trainer.batch_size,
            "seed": self.given["seed"],
            "threads": trainer.threads,
            "load_seconds": self.load_seconds,
            "compile_seconds": self.compile_seconds,
            "train_seconds": seconds,
            "samples_per_second": samples / seconds if seconds else None,
            "train_loss": history.loss,
            "test_loss": _known(final[0]) if once else losses,
            "test_accuracy": _known(final[1]) if once else accuracies,
            "final_test_loss": final[0],
            "final_test_accuracy": final[1],
            "final_train_loss": trained[0],
            "final_train_accuracy": trained[1],
            "validation_loss": losses if once else [],
            "validation_accuracy": accuracies if once else [],
            "metrics": history.metrics,
            "stopped": history.stopped,
        }


def _load(given: dict[str, Any]) -> data.Dataset:
    loss = given.get("loss")
    classes = task.are_said_to_be_classes(loss and loss.name, given.get("task"))
    return data.load(given["data"], given.get("target"), classes)


def _find_eta(given: dict[str, Any]) -> None:
    with options.blamed():
        _check_places(given)
    dataset = _load(given)
    with options.blamed():
        network, trainer = options.network_and_trainer(given, dataset)
    dataset = task.named(dataset, network.classes)
    found = fastbp.find_eta(trainer, dataset.x_train, dataset.y_train)
    if "plot" in given:
        found.plot(given["plot"])
    if found.note:
        raise ValueError(found.note)
    print(f"eta {found.suggestion:.3g}: the loss falls with it; it was lowest at ten times that or more, in "
          f"{len(found.etas)} steps with etas from {found.etas[0]:.3g} to {found.etas[-1]:.3g}")


def _check_places(given: dict[str, Any]) -> None:
    """For `train` and `find-eta`: check that DATA is given and that no output overwrites an input or another output."""
    if "data" not in given:
        raise ValueError("name the DATA to train on: mnist, a folder, an .npz or a table")
    config = options.config_beside(given["save"]) if "save" in given else None
    if str(given.get("save", "")).endswith(".toml"):
        raise ValueError(f"--save {given['save']}: a .toml file keeps the options of the network; choose another "
                         "name for the network, such as one that ends in .safetensors")
    if given.get("report") == STANDARD_OUTPUT:
        raise ValueError("--report writes a page of HTML to a file; name one, such as run.html")
    named = {f"--{name}": given.get(name) for name in ("save", "json", "log", "plot", "report", "checkpoint",
                                                           "tensorboard")}
    folders = {name: named.pop(name) for name in ("--checkpoint", "--tensorboard")}
    check_places({"DATA": files(given["data"]), "--config": given.get("config"),
                  "--init-from": given.get("init_from")} | folders,
                 named | {"the options beside --save,": config}, folders["--checkpoint"])
    if "save" in given:
        options.check_config_beside(given["save"])
    for what, folder in folders.items():
        check_folder_to_make(what, folder)


@contextlib.contextmanager
def _hushed(quiet: bool) -> Iterator[None]:
    """In this block a warning is printed as one line; if `quiet`, neither notes nor warnings are shown."""
    log = logging.getLogger("fastbp")
    level = log.level
    with warnings.catch_warnings():
        warnings.showwarning = _Notes()  # type: ignore[assignment]  # takes any arguments
        if quiet:
            warnings.simplefilter("ignore")
            log.setLevel(logging.ERROR)
        try:
            yield
        finally:
            log.setLevel(level)


def _print_notes(trainer: Trainer, dataset: data.Dataset) -> None:
    """Print why the network may not have learned."""
    for note in fastbp.diagnose(trainer, dataset.x_train, dataset.y_train).notes:
        warnings.warn(note, fastbp.TrainingWarning, stacklevel=2)


class _Notes:
    """Shows each warning once, as one line."""

    def __init__(self) -> None:
        self.said: set[str] = set()

    def __call__(self, message: Warning | str, *_: object) -> None:
        text = of_command(str(message))
        if text not in self.said and sys.stderr is not None:
            self.said.add(text)
            with contextlib.suppress(OSError):  # a note that cannot be printed must not end the training
                print(f"fastbp: {text}", file=sys.stderr)


def _changes_the_end(watchers: list[Callback]) -> bool:
    """Whether the network at the end of a fit differs from that of the last epoch."""
    return any(getattr(watcher, "ends_with", "") for watcher in watchers)


def _test_samples(dataset: data.Dataset) -> tuple[Array, Array] | None:
    if dataset.x_test is None or dataset.y_test is None:
        return None
    return dataset.x_test, dataset.y_test


def _known(value: float | None) -> list[float]:
    return [] if value is None else [value]


def _predict(given: dict[str, Any]) -> None:
    out = given["out"] or (STANDARD_OUTPUT if given["proba"] else None)
    with options.blamed():
        check_places({"MODEL": given["model"], "DATA": files(given["data"])},
                     {"--json": given["json"], "--out": out})
        between = report.delimiter(given["out"] or STANDARD_OUTPUT)
    network = Network.load(given["model"])
    x, y = _samples(given, network)
    if given["target"] and y is None:
        raise ValueError(f"{given['data']} has no targets in column {given['target']!r}")
    if y is None and not given["json"]:  # there is nothing to print but the predictions
        out = out or STANDARD_OUTPUT
    predictions = network.predict_proba(x) if given["proba"] else network.predict(x)
    result = {"model": given["model"], "dataset": given["data"], "n_samples": len(x),
              "layer_sizes": list(network.layer_sizes), **({} if y is None else _score(network, x, y))}
    if out:
        _write(out, report.table(_columns(network, predictions, given["proba"]), predictions, between))
    if given["json"]:
        _write_json(given["json"], result)
    if STANDARD_OUTPUT not in (given["json"], out):
        print(", ".join([counted(len(x), "sample"), *(f"{name} {value:.4g}" for name, value in result.items()
                                                  if name in ("accuracy", "mean_squared_error"))]))


def _samples(given: dict[str, Any], network: Network) -> tuple[Array, Array | None]:
    """Return samples and, if DATA has them, targets."""
    return data.load_samples(given["data"], network.layer_sizes[0], network.feature_names,
                             given["target"] or options.target_beside(given["model"]),
                             None if network.classes is None else network.classes.tolist())


def _with_targets(given: dict[str, Any]) -> tuple[Network, Array, Array]:
    """Return a saved network, samples, and their targets as it takes them."""
    network = Network.load(given["model"])
    x, y = _samples(given, network)
    if y is None:
        raise ValueError(f"{given['data']} has no targets, which the cost needs; --target names their column")
    return network, x, task.as_named(y, network.classes)


def _trace(given: dict[str, Any]) -> None:
    network, x, y = _with_targets(given)
    row = given["row"]
    if not 0 <= row < len(x):
        raise ValueError(f"--row must be 0 to {len(x) - 1}, got {row}")
    traced = fastbp.insight.trace(network, x[row], y[row], options.loss_of(given["loss"]))
    if given["draw"]:
        traced.plot(given["draw"])
    steps = [f"{i}. {title}\n{text}" for i, (title, text) in enumerate(traced.steps(), 1)]
    steps += [f"What the sample asks for\n{traced.asks(k)}" for k in traced.wanting()]
    print(traced.heading())
    read = sys.stdin.isatty() and sys.stdout.isatty()
    for step in steps:
        print(step, flush=True)
        if read and step is not steps[-1] and input("[Enter: next step, q: quit] ").strip() == "q":
            break


def _check(given: dict[str, Any]) -> None:
    network, x, y = _with_targets(given)
    found = fastbp.insight.check_gradients(network, x, y, options.loss_of(given["loss"]))
    print(found)
    if found.verdict != "right":
        raise ValueError(f"the gradient is {found.verdict}: {found.worst if found.verdict == 'wrong' else found.kink}")


def _export(given: dict[str, Any]) -> None:
    with options.blamed():
        if given["out"] == STANDARD_OUTPUT:
            raise ValueError("--out - is for texts; name a file")
        check_places({"MODEL": given["model"]}, {"--out": given["out"]})
    FORMATS[given["format"]](Network.load(given["model"]), given["out"])


def _score(network: Network, x: Array, y: Array) -> dict[str, float]:
    """Return the accuracy, as `Trainer.evaluate` does, or for values the mean squared error."""
    outputs, y = network.forward(x), task.as_named(y, network.classes)
    targets = as_targets(y, len(outputs), network, Quadratic())  # a loss that accepts targets of any range
    shares = right(outputs, targets)
    if shares is not None:
        return {"accuracy": float(shares.mean())}
    return {"mean_squared_error": float(np.mean((outputs - targets.array.astype(np.float64)) ** 2))}


def _columns(network: Network, predictions: Array, proba: bool) -> list[str]:
    if predictions.ndim == 1:
        return ["label" if classifies(network.activations[-1]) else "output0"]
    if not proba:
        return [f"output{j}" for j in range(predictions.shape[1])]
    classes = network.classes
    return [f"p_{name}" for name in (range(predictions.shape[1]) if classes is None else classes)]


def _info(given: dict[str, Any]) -> None:
    check_places({}, {"--json": given["json"]})
    result = {
        "fastbp": fastbp.__version__,
        "python": platform.python_version(),
        **environment(),
        "vector_bits": cpu.VECTOR_BITS,
        "tile_float32": cpu.tile_shape("float32"),
        "tile_float64": cpu.tile_shape("float64"),
        "cached": {dtype: build.cached(dtype) for dtype in ("float32", "float64")},
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
        for y in (np.zeros(1, np.int64), np.eye(1, 2, dtype=dtype)):
            Trainer(network).step(np.zeros((1, 2), dtype), y)
        build.fill_all(dtype)
    print(f"ready after {time.perf_counter() - started:.1f} s; machine code in {environment()['cache_directory']}")


def _write_json(path: str, result: dict[str, Any]) -> None:
    _write(path, json.dumps(strict(result), indent=2, allow_nan=False) + "\n")


def _write(path: str, text: str) -> None:
    """Write text to a file, or to standard output."""
    if path == STANDARD_OUTPUT:
        print(text, end="")
    else:
        write_whole(path, text.encode())


if __name__ == "__main__":
    command()
