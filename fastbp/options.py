"""The options of `fastbp train`, the objects that they stand for, and the file that keeps them."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import fastbp
from fastbp import callbacks, data, initialization, losses, metrics
from fastbp.callbacks import Callback
from fastbp.checks import one_of
from fastbp.core import activations
from fastbp.data.sources import is_table
from fastbp.initialization import INITIALIZERS
from fastbp.losses import LOSSES
from fastbp.metrics import METRICS
from fastbp.network import HIDDEN_ACTIVATIONS, Network
from fastbp.optimizers import OPTIMIZERS
from fastbp.schedules import SCHEDULES, Schedule, WarmUp
from fastbp.task import CLASSES, VALUES, class_names, meaning, n_outputs
from fastbp.training.settings import default_optimizer
from fastbp.training.trainer import Trainer

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DATA_HELP = ("mnist (packaged); a folder with the four IDX files, plain or .gz; an .npz or .h5 with x_train, y_train "
             "and optionally x_test, y_test; a table, .csv, .tsv or .parquet; or SVMlight text, .svm")
TARGET_HELP = "the column of a table, or the array of an .npz or .h5, that holds the targets (default: {})"
# Options of one run that do not change what it computes: they are not kept for another run.
OF_A_RUN = {"config", "save", "json", "log", "report", "tensorboard", "checkpoint", "checkpoint_seconds", "resume",
            "quiet", "run"}


class UsageError(ValueError):
    """An option is unknown, is out of its range, or contradicts another one."""


class Chosen(str):
    """NAME or NAME:SETTING=VALUE,...: the text, with the name and the settings read from it."""

    name: str
    settings: dict[str, Any]


def add(train: argparse.ArgumentParser, whole: bool = True) -> None:
    """Add options to the parser: all, or only those of the network and of how it learns. An option without a default
    is missing from the result unless it is given."""
    train.argument_default = argparse.SUPPRESS
    train.add_argument("data", metavar="DATA", nargs="?", help=DATA_HELP)
    train.add_argument("--config", metavar="FILE", help="read options from a TOML file, such as --save writes beside "
                                                        "the network; options given here take precedence")
    train.add_argument("--target", metavar="NAME", help=TARGET_HELP.format("the last column, or y_train"))
    train.add_argument("--task", choices=[CLASSES, VALUES],
                       help="what the targets are (default: as --loss needs; without --loss, classes if they are text, "
                            "true and false or integers, values if they are numbers with fractions or rows)")
    _add_network(train.add_argument_group("the network"))
    learning = train.add_argument_group("how it learns")
    _add_learning(learning)
    _add_regularization(train.add_argument_group("regularisation"))
    if not whole:
        return
    learning.add_argument("--epochs", type=_whole_number, default=5, help="passes through the training samples")
    learning.add_argument("--class-weight", choices=["balanced"],
                          help="weight the samples as if all classes were equally frequent")
    _add_validation(train.add_argument_group("validation and the end"))
    _add_files(train.add_argument_group("what is written"))


def _add_network(group: Any) -> None:
    group.add_argument("--hidden", type=_whole_numbers, default="128", metavar="N,N,...",
                       help="neurons of each hidden layer; an empty string for none")
    group.add_argument("--activation", type=_names(HIDDEN_ACTIVATIONS, activations.ALIASES), default="relu",
                       metavar="NAME[,NAME,...]",
                       help=f"activation of all hidden layers, or of each: {', '.join(HIDDEN_ACTIVATIONS)}")
    group.add_argument("--weights", type=_name(INITIALIZERS, initialization.ALIASES), metavar="NAME",
                       help=f"initial weights: {', '.join(INITIALIZERS)} (default: what suits each layer's activation)")
    group.add_argument("--input-scale", type=_fraction, metavar="X",
                       help="factor by which inputs are multiplied (default: 1/255 for images in IDX files of bytes, "
                            "else 1)")
    group.add_argument("--init-from", metavar="MODEL",
                       help="copy the first layers of a saved network, as far as their shapes agree")
    group.add_argument("--freeze", type=_whole_numbers, metavar="L,L,...",
                       help="layers that are not trained, counted from 0")
    group.add_argument("--seed", type=_whole_number, default=0,
                       help="seed of the initial weights and of the order of samples")


def _add_learning(group: Any) -> None:
    group.add_argument("--loss", type=loss_choice, metavar="NAME[:...]",
                       help=f"{', '.join(LOSSES)} (default: cross_entropy for classes, quadratic for values), with "
                            "settings after a colon, as in huber:threshold=2; the loss decides the output activation: "
                            "sigmoid, softmax or softplus if it needs one, else softmax for classes, identity for "
                            "values")
    group.add_argument("--label-smoothing", type=_number, metavar="SHARE",
                       help="for cross_entropy: share of each target that is spread evenly over all classes (default: "
                            "0)")
    group.add_argument("--batch-size", type=_whole_number, default=128, help="samples in a mini-batch")
    group.add_argument("--optimizer", type=_chosen(OPTIMIZERS), default="sgd", metavar="NAME[:...]",
                       help=f"{', '.join(OPTIMIZERS)}, with settings after a colon, as in adam:beta2=0.99; sgd uses "
                            "Nesterov momentum")
    group.add_argument("--eta", "--lr", "--learning-rate", type=_number,
                       help="learning rate (default: for sgd 0.2 with sigmoid or softmax outputs, 0.01 with others; "
                            "other optimisers have their own, such as 0.001 for adam)")
    group.add_argument("--momentum", type=_number, help="momentum of sgd (default: 0.9)")
    group.add_argument("--schedule", type=_chosen(SCHEDULES), metavar="NAME[:...]",
                       help=f"schedule of the learning rate: {', '.join(SCHEDULES)}, with settings after a "
                            "colon, as in cosine:cycles=3; linear: warm-up over 15%% of all steps, then decay to 0 "
                            "(default: linear for sgd, constant for others)")
    group.add_argument("--warm-up", type=_number, metavar="SHARE",
                       help="share of the steps in which the learning rate rises, before the schedule begins (default: "
                            "0; 0.15 for linear)")
    group.add_argument("--threads", type=_whole_number, help="number of threads (default: as many as are fastest)")


def _add_regularization(group: Any) -> None:
    group.add_argument("--weight-decay", type=_number,
                       help="share of each weight that decays, per unit of learning rate and step (default: 0.01 for "
                            "adamw, else 0)")
    group.add_argument("--l1", type=_number,
                       help="how far each weight moves towards 0, per unit of learning rate and step (default: 0)")
    group.add_argument("--dropout", type=_numbers, metavar="P[,P,...]",
                       help="share of activations set to 0 in training: one for all hidden layers, or one for the "
                            "input and one for each hidden layer (default: 0)")
    group.add_argument("--noise", type=_number, help="standard deviation of Gaussian noise on the inputs (default: 0)")
    group.add_argument("--clip-norm", type=_number, help="largest norm of the gradient, over all parameters")
    group.add_argument("--clip-value", type=_number, help="largest absolute value of each element of the gradient")
    group.add_argument("--max-norm", type=_number, help="largest norm of a neuron's incoming weights")
    group.add_argument("--ema", type=_number, metavar="DECAY",
                       help="decay of an exponential moving mean of the parameters; validate with it and end with it")
    group.add_argument("--swa", type=_number, metavar="SHARE",
                       help="end with the mean of the parameters over the epochs after this share of all epochs")


def _add_validation(group: Any) -> None:
    group.add_argument("--validation-fraction", type=_number, metavar="SHARE",
                       help="share of the training samples to validate with after each epoch; the test samples are "
                            "then evaluated only once, at the end")
    group.add_argument("--metrics", type=_names(METRICS, metrics.ALIASES), metavar="NAME,NAME,...",
                       help=f"metrics to compute in each validation: {', '.join(METRICS)}")
    group.add_argument("--watch", metavar="NAME",
                       help="value that the next three options watch: loss, validation_loss, validation_accuracy or "
                            "one of --metrics (default: validation_loss)")
    group.add_argument("--early-stopping", type=_whole_number, metavar="EPOCHS",
                       help="stop if the watched value has not improved for so many epochs, and keep the best network; "
                            "implies --validation-fraction 0.1")
    group.add_argument("--reduce-on-plateau", type=_whole_number, metavar="EPOCHS",
                       help="divide the learning rate by ten if the watched value has not improved for so many epochs")
    group.add_argument("--stop-at", type=_number, metavar="VALUE", help="stop if the watched value has reached VALUE")
    group.add_argument("--max-seconds", type=_number, metavar="S", help="stop training after so many seconds")


def _add_files(group: Any) -> None:
    group.add_argument("--save", metavar="FILE", help="write the network (safetensors), and beside it a .toml with "
                                                      "which --config repeats this training to the bit")
    group.add_argument("--json", metavar="FILE", help="write the results as JSON (-: standard output)")
    group.add_argument("--log", metavar="FILE",
                       help="write one line per epoch: a table if the name of the file ends in .csv, else JSON")
    group.add_argument("--report", metavar="FILE",
                       help="write a page of HTML: the worst sample going through the five equations, and the results")
    group.add_argument("--tensorboard", metavar="DIR", help="write event files for TensorBoard (needs tensorboardX)")
    group.add_argument("--checkpoint", metavar="DIR",
                       help="write checkpoints to DIR, from which the training can be resumed if the process is killed")
    group.add_argument("--checkpoint-seconds", type=_number, metavar="S",
                       help="seconds from one checkpoint to the next (default: 60)")
    group.add_argument("--resume", action="store_true", default=False,
                       help="resume from the checkpoint in --checkpoint DIR, if there is one")
    group.add_argument("--mpi", action="store_true", default=False,
                       help="train on all ranks of MPI, as in: mpiexec -n 4 fastbp train DATA --mpi (needs mpi4py)")
    group.add_argument("--quiet", action="store_true", default=False, help="print nothing but errors")


def _whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a whole number, got {text!r}") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, got {text!r}") from None


def _whole_numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")] if text else []
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected whole numbers separated by commas, got {text!r}") from None


def _fraction(text: str) -> float:
    """A number, or a quotient of two such as 1/255."""
    over, slash, under = text.partition("/")
    try:
        return float(over) / float(under) if slash else float(text)
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(f"expected a number or a quotient such as 1/255, got {text!r}") from None


def _numbers(text: str) -> float | list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected numbers separated by commas, got {text!r}") from None
    return numbers if len(numbers) > 1 else numbers[0]


def _name(valid: Iterable[str], aliases: Mapping[str, str] | None = None) -> Callable[[str], str]:
    def name(text: str) -> str:
        try:
            return one_of("name", text, valid, aliases)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return name


def _names(valid: Iterable[str], aliases: Mapping[str, str]) -> Callable[[str], list[str]]:
    name = _name(valid, aliases)
    return lambda text: [name(part) for part in text.split(",")]


def _chosen(valid: Iterable[str], aliases: Mapping[str, str] | None = None) -> Callable[[str], Chosen]:
    def chosen(text: str) -> Chosen:
        choice = Chosen(text)
        name, _, settings = text.partition(":")
        choice.name = _name(valid, aliases)(name)
        pairs = [setting.partition("=") for setting in settings.split(",")] if settings else []
        choice.settings = {name: _value(value) for name, _, value in pairs}
        if len(choice.settings) < len(pairs):
            raise argparse.ArgumentTypeError(f"a setting is given twice in {text!r}; give it once")
        return choice

    return chosen


loss_choice = _chosen(LOSSES, losses.ALIASES)


def loss_of(choice: Chosen | None) -> Any:
    """Return the loss that was chosen, if one was."""
    return choice and _with(LOSSES[choice.name], "loss", choice)


def _value(text: str) -> Any:
    """A setting: a number, true or false."""
    if text in ("true", "false"):
        return text == "true"
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, true or false after =, got {text!r}") from None
    return int(number) if number.is_integer() and "." not in text and "e" not in text.lower() else number


def _with(make: Callable[..., Any], option: str, choice: Chosen, **settings: Any) -> Any:
    """Return `make(**settings)` with the settings of a choice; refuse settings that it does not know."""
    try:
        return make(**settings | choice.settings)
    except TypeError as error:
        _, unknown, name = str(error).partition("unexpected keyword argument ")
        if not unknown:
            raise
        raise ValueError(f"--{option} {choice}: there is no setting {name}") from None


def _of(option: str, make: Callable[..., Any], *values: Any, **settings: Any) -> Any:
    """Return `make(*values, **settings)`; an error names the option."""
    try:
        return make(*values, **settings)
    except (ValueError, TypeError) as error:
        _, _, what = str(error).partition(" must ")
        raise ValueError(f"--{option} must {what}" if what else f"--{option}: {error}") from None


@contextlib.contextmanager
def blamed() -> Iterator[None]:
    """Turn errors of this block, which come from the options, into a UsageError."""
    try:
        yield
    except (ValueError, TypeError) as error:
        if isinstance(error, data.DataError):
            raise
        raise UsageError(str(error)) from error


def network_and_trainer(given: dict[str, Any], dataset: data.Dataset) -> tuple[Network, Trainer]:
    """The network and trainer that fit the targets: classes get softmax and cross-entropy, values least squares."""
    named = given.get("loss")
    task = meaning(dataset.y_train, named and named.name, given.get("task"))
    loss = _loss(given, named or _chosen(LOSSES)("cross_entropy" if task == CLASSES else "quadratic"))
    output = loss.outputs[0] if loss.outputs else "softmax" if task == CLASSES else "identity"
    hidden = given["activation"][0] if len(given["activation"]) == 1 else given["activation"]
    sizes = [dataset.x_train.shape[1], *given["hidden"], n_outputs(dataset, task, loss.name)]
    network = Network(sizes, hidden, output, seed=given["seed"], weights=given.get("weights"),
                      input_scale=given.get("input_scale", dataset.input_scale))
    network.feature_names = dataset.features
    network.classes = class_names(dataset, task)
    if "init_from" in given:
        _take_over(network, given["init_from"])
    names = ("threads", "dropout", "noise", "clip_norm", "clip_value", "max_norm", "ema")
    rest = {name: given[name] for name in names if name in given}
    return network, Trainer(network, loss, _optimizer(given, output), given["batch_size"], given["seed"],
                            schedule=_schedule(given), frozen=given.get("freeze", ()), **rest)


def _loss(given: dict[str, Any], choice: Chosen) -> Any:
    smoothing = {}
    if "label_smoothing" in given:
        if choice.name != "cross_entropy":
            raise ValueError(f"--label-smoothing belongs to --loss cross_entropy, not to {choice.name}")
        smoothing = {"label_smoothing": given["label_smoothing"]}
    _check_once("loss", choice, smoothing)
    return _with(LOSSES[choice.name], "loss", choice, **smoothing)


def _check_once(option: str, choice: Chosen, given: Iterable[str]) -> None:
    """Raise ValueError if a setting is given both by an option of its own and after the colon."""
    for name in given:
        if name in choice.settings:
            raise ValueError(f"{name} is given twice, by --{option} {choice} and by --{name.replace('_', '-')}; give "
                             f"--{option} {choice.name} without it, or leave out the other")


def _take_over(network: Network, path: str) -> None:
    other, n = Network.load(path), 0
    while n < min(len(network.W), len(other.W)) and network.W[n].shape == other.W[n].shape:
        n += 1
    if n == 0:
        raise ValueError(f"no layer of {path} has the shape of this network's: its sizes are {list(other.layer_sizes)}")
    network.take_layers(other, range(n))


def _optimizer(given: dict[str, Any], output: str) -> Any:
    choice = given["optimizer"]
    kind = OPTIMIZERS[choice.name]
    choice.settings = {"eta" if name in ("lr", "learning_rate") else name: value
                       for name, value in choice.settings.items()}
    chosen: dict[str, Any] = {name: given[name] for name in ("eta", "momentum", "weight_decay", "l1") if name in given}
    _check_once("optimizer", choice, chosen)
    if kind is fastbp.SGD:
        default = default_optimizer(output)
        chosen = {"eta": default.eta, "momentum": default.momentum} | chosen
        momentum = choice.settings.get("momentum", chosen["momentum"])
        chosen["nesterov"] = isinstance(momentum, (int, float)) and momentum > 0
    elif "momentum" in given:
        raise ValueError(f"--momentum belongs to --optimizer sgd; {choice.name} has no momentum, or has its own")
    return _with(kind, "optimizer", choice, **chosen)


def _schedule(given: dict[str, Any]) -> Schedule:
    choice = given.get("schedule") or _chosen(SCHEDULES)("linear" if given["optimizer"].name == "sgd" else "constant")
    known = SCHEDULES[choice.name]
    schedule: Schedule = _with(lambda **settings: replace(known, **settings), "schedule", choice)
    if "warm_up" in given:
        then = schedule.then if isinstance(schedule, WarmUp) else schedule
        schedule = _of("warm-up", WarmUp, given["warm_up"], then)
    return schedule


def watchers(given: dict[str, Any]) -> list[Callback]:
    """The callbacks that the options ask for."""
    chosen: list[Callback] = []
    for name in ("checkpoint", "tensorboard"):
        if given.get(name) == "":
            raise ValueError(f"--{name} needs the name of a folder")
    watch = given.get("watch", "validation_loss")
    if "watch" in given and not {"early_stopping", "reduce_on_plateau", "stop_at"} & given.keys():
        raise ValueError("--watch belongs to --early-stopping, --reduce-on-plateau or --stop-at")
    if "reduce_on_plateau" in given:
        chosen.append(_of("reduce-on-plateau", callbacks.ReduceOnPlateau, watch, given["reduce_on_plateau"]))
    if "early_stopping" in given:
        chosen.append(_of("early-stopping", callbacks.EarlyStopping, watch, given["early_stopping"]))
    if "stop_at" in given:
        chosen.append(_of("stop-at", callbacks.StopAt, watch, given["stop_at"]))
    if "swa" in given:
        chosen.append(_of("swa", callbacks.SWA, given["swa"]))
    if "max_seconds" in given:
        chosen.append(_of("max-seconds", callbacks.TimeBudget, given["max_seconds"]))
    if "log" in given:
        kind = callbacks.CSVLog if given["log"].endswith(".csv") else callbacks.JSONLog
        chosen.append(kind(given["log"]))
    if "tensorboard" in given:
        chosen.append(callbacks.TensorBoardLog(given["tensorboard"]))
    if "checkpoint" in given:
        seconds = given.get("checkpoint_seconds", 60.0)
        chosen.append(_of("checkpoint-seconds", callbacks.Checkpoint, given["checkpoint"], seconds,
                          resume=given["resume"]))
    elif given["resume"] or "checkpoint_seconds" in given:
        raise ValueError("--resume and --checkpoint-seconds belong to --checkpoint DIR")
    return chosen


def with_config(parser: argparse.ArgumentParser, train: argparse.ArgumentParser, arguments: list[str]) -> list[str]:
    """Return the arguments, preceded by those of the --config file: the later ones take precedence."""
    given, _ = parser.parse_known_args(arguments)
    path = getattr(given, "config", None)
    if path is None:
        return arguments
    try:
        with open(path, "rb") as file:
            read = tomllib.load(file)
    except FileNotFoundError:
        raise ValueError(f"there is no file {path} for --config") from None
    except OSError as error:
        raise ValueError(f"--config {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is no TOML: {error}") from None
    actions = [action for action in train._actions if action.dest not in ("help", "config")]
    known = {action.dest: action for action in actions}
    others = {option.lstrip("-").replace("-", "_"): action.dest
              for action in actions for option in action.option_strings}
    taken = {action.dest for action in _actions_of(parser, arguments[0])}
    before: dict[str, list[str]] = {}
    for key, value in read.items():
        name = others.get(key.replace("-", "_"), key.replace("-", "_"))
        if name not in known:
            near = difflib.get_close_matches(name, known, 1, 0)
            raise ValueError(f"{path}: unknown key {key!r}; the nearest valid one is {near[0]!r}")
        if name in before:
            raise ValueError(f"{path}: {key} is given twice; give it once")
        before[name] = _as_arguments(f"{path}: {key}", known[name], value)
    if getattr(given, "data", None):
        before.pop("data", None)
        if not is_table(given.data):
            before.pop("target", None)
    return [arguments[0], *(part for name, parts in before.items() if name in taken for part in parts), *arguments[1:]]


def options_of(parser: argparse.ArgumentParser, command: str) -> list[str]:
    """Return all options of a command, as they are written."""
    return [option for action in _actions_of(parser, command) for option in action.option_strings]


def _actions_of(parser: argparse.ArgumentParser, command: str) -> list[argparse.Action]:
    commands = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    actions: list[argparse.Action] = commands.choices[command]._actions
    return actions


def _as_arguments(place: str, action: argparse.Action, value: Any) -> list[str]:
    """Return the command-line form of a key and its value; raise a ValueError that names the place if there is none."""
    if action.nargs == 0:  # a flag
        if not isinstance(value, bool):
            raise ValueError(f"{place} must be true or false, got {value!r}")
        return [action.option_strings[0]] if value else []
    parts = value if isinstance(value, list) else [value]
    if any(isinstance(part, bool) or not isinstance(part, (str, int, float)) for part in parts):
        raise ValueError(f"{place} must be a string, a number or a list of them, got {value!r}")
    text = ",".join(map(str, parts))
    if value == [] and action.type is not _whole_numbers:
        return []
    try:
        read = action.type(text) if callable(action.type) else text
    except (argparse.ArgumentTypeError, ValueError) as error:
        raise ValueError(f"{place}: {error}") from None
    if action.choices is not None and read not in action.choices:
        raise ValueError(f"{place}: unknown name {read!r}; valid: {', '.join(action.choices)}")
    return [f"{action.option_strings[0]}={text}"] if action.option_strings else [text]


OURS = "# fastbp "  # how a file of options begins


def config_beside(model: str) -> Path:
    """Return the path of the file that keeps the options of a saved network."""
    path = Path(model)
    return path.with_name(path.name + ".toml") if path.suffix == ".toml" else path.with_suffix(".toml")


def check_config_beside(model: str) -> None:
    """Raise ValueError if the file of options exists and was not written by fastbp: it would be overwritten."""
    path = config_beside(model)
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            foreign = not file.readline().startswith(OURS) and path.stat().st_size > 0
    except OSError:  # there is none, or nobody can read it
        foreign = path.exists()
    if foreign and path.is_file():
        raise ValueError(f"--save {model}: the options would overwrite {path}, which fastbp did not write; rename that "
                         "file, or give the network another name")


def target_beside(model: str) -> str | None:
    """Return the target column that a saved network was trained on, if the options beside it name one."""
    try:
        target = tomllib.loads(config_beside(model).read_text(encoding="utf-8")).get("target")
    except (OSError, ValueError, RecursionError):  # none, or not ours
        return None
    return target if isinstance(target, str) else None


def config(given: dict[str, Any], interrupted: bool = False) -> str:
    """Return the options as TOML, defaults included: strings, numbers and lists look the same in JSON and TOML."""
    exact = "" if "max_seconds" in given or interrupted else " to the bit"
    lines = [f"{OURS}{fastbp.__version__}: fastbp train --config FILE repeats this training{exact}"
             + (", which was interrupted." if interrupted else ".")]
    for name, value in given.items():
        if name in OF_A_RUN:
            continue
        if name == "init_from" or (name == "data" and os.path.exists(value)):
            value = os.path.abspath(value)
        lines.append(f"{name} = {json.dumps(value, ensure_ascii=False)}")
    return "\n".join(lines) + "\n"
