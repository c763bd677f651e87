"""A page of HTML that shows one sample going through the five equations, and below it what is known of the training.

The page holds the numbers of the compiled core as their bits. Its script computes the sums of products once more, in
the core's order and with its roundings, and says whether they are equal to the last bit.
"""

from __future__ import annotations

import base64
import copy
import html
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp.checks import shown as told_of
from fastbp.checks import whole_number
from fastbp.core.simd.peak import multiply_adds_a_second
from fastbp.figures import are_bytes, rows_of
from fastbp.files import check_folder, strict, write_whole
from fastbp.history import History
from fastbp.inference import CAPACITY, NO_WEIGHTS, infer
from fastbp.inputs import Data, Targets, as_data, decide
from fastbp.insight.record import image_shape, largest
from fastbp.insight.statistics import PANELS, SATURATES, Statistics, mean_and_rms
from fastbp.insight.trace import Trace, trace
from fastbp.insight.values import layer_values
from fastbp.losses import Loss
from fastbp.metrics import confusion_matrix
from fastbp.network import Network, check_loss, check_network
from fastbp.optimizers import Optimizer
from fastbp.training.trainer import Trainer
from fastbp.workspace import Array

NEURONS, FEW = 16, 4  # most neurons of a layer that are drawn; fewer where their weights are more than NUMBERS
NUMBERS = 120_000  # of weights in a page: a megabyte of float64, or two thirds of one as float32
CLASSES, WORST = 30, 12  # most classes of a confusion matrix; samples that are listed
LOOKS = 200  # most points of a line over the training


def page(network: Network, X: npt.ArrayLike, y: Any, path: str | os.PathLike[str], row: int | None = 0,
         loss: str | Loss | None = None, optimizer: Optimizer | None = None, history: History | None = None, *,
         batch_size: int = 128, settings: str = "", statistics: Statistics | None = None, threads: int | None = None,
         frozen: Sequence[int] = ()) -> None:
    """Write a page of HTML on which one sample goes through the five equations, number by number.

    Neurons and weights can be clicked and open into the sums that they are made of; the arrow keys go from step to
    step. The page computes its sums once more and says whether they are equal to those of the compiled core to the
    last bit. Below it are settings, curves, figures of each layer over the training, its share of what the processors
    can do, the confusion matrix, the samples with the largest errors, first-layer weights and figures of each layer. It
    is one file and needs no network; of wide layers it shows some neurons and says so.

    Parameters
    ----------
    network : Network
        It is not changed.
    X, y : array_like
        Samples (n, n_in) and their labels, names of classes, or targets, as for `Trainer.evaluate`.
    path : str or path
        The file to write; it is overwritten.
    row : int or None
        Which sample is shown, from 0; None: the one that is farthest from its target.
    loss : str or one of fastbp.losses, optional
        See Trainer; None: the loss that matches the output.
    optimizer : one of fastbp.optimizers, optional
        Whose first step is shown; None: SGD().
    history : History, optional
        What `fit` returned: its curves are drawn, and its multiply-adds a second are compared with those of a loop of
        nothing else, which runs for some 0.2 s now (not if X is sparse, of which the core computes stored entries).
    batch_size : int
        What the sample asks for is compared with the mean over a mini-batch: so many samples around it, at most 256.
    settings : str
        Text that is shown as it is, such as the options of a training.
    statistics : Statistics, optional
        The callback that watched the training: errors, gradients, updates, and saturated or dead neurons of each layer
        are drawn over its steps, from up to 200 of its looks.
    threads : int, optional
        Those of the training, as for Trainer: the loop runs on as many.
    frozen : sequence of int
        Layers that were not trained, as for Trainer: less is computed for them.

    Raises
    ------
    ValueError, TypeError
        The samples, targets, loss, statistics or frozen layers do not fit the network, or there is no such row.
    OSError
        The file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> net = Network([2, 3, 2], hidden="tanh", seed=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page(net, [[1.0, 0.5], [0.0, 1.0]], [1, 0], f"{folder}/net.html", row=1)
    ...     print(Path(folder, "net.html").read_text(encoding="utf-8")[:15])
    <!doctype html>
    """
    check_folder(path)
    loss = check_loss(loss, check_network(network).activations[-1], network.layer_sizes[-1])
    data = as_data(X, y, None, network, loss, sparse=True)
    size = min(whole_number("batch_size", batch_size, 1), CAPACITY)
    trainer = Trainer(network, loss, batch_size=batch_size, threads=threads, frozen=frozen)
    over_time = None if statistics is None else _over_time(network, statistics)
    outputs, cost = infer(network, data.x, data.t, loss, None)
    targets = rows_of(data.t, network.layer_sizes[-1])
    with np.errstate(invalid="ignore", over="ignore"):
        far = np.abs(outputs - targets).max(axis=1)
    worst = largest(far, WORST)
    row = worst[0] if row is None else whole_number("row", row, 0, len(data) - 1)
    batch = range(row // size * size, min(row // size * size + size, len(data)))
    side = _side(network, data)
    shown = {"row": row, "n": len(data), "batch": [batch.start, batch.stop], "side": side, "settings": settings,
             "cost": cost, "curves": {} if history is None else history.values(), "statistics": over_time,
             "speed": None if history is None or data.x.is_sparse else _speed(trainer, history),
             "confusion": _confusion(network, data.t, outputs), "names": _names(network),
             "worst": [_sample(network, data, i, outputs[i], targets[i], side) for i in worst],
             "sample": _sample(network, data, row, outputs[row], targets[row], side)}
    own = data.x.taken(np.array([row])).dense().array[0]
    seen = trace(network, own, targets[row].astype(network.dtype), loss, optimizer)
    part = data.taken(np.arange(batch.start, batch.stop))
    shown |= _numbers(seen, Data(part.x.dense(), part.t, NO_WEIGHTS))
    title = f"{'-'.join(map(str, network.layer_sizes))}, sample {row}"
    write_whole(path, _filled(title, shown).encode())


def _filled(title: str, shown: dict[str, Any]) -> str:
    """Return the template with the title and the data, in which nothing can end the script that holds them."""
    told = json.dumps(strict(shown), allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    template = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    before, after = template.replace("{title}", html.escape(title), 1).split("{data}")
    return f"{before}{told}{after}"


# The sample and its mini-batch


def _numbers(seen: Trace, batch: Data) -> dict[str, Any]:
    """Return the numbers of the five equations as bits: vectors whole, of matrices what belongs to neurons shown."""
    net, shown = seen.network, _shown(seen)
    workspace, mean, mean_cost = layer_values(net, batch, seen.loss)
    own = np.concatenate([part.ravel() for pair in zip(seen.dW, seen.db, strict=True) for part in pair])
    after, (dW_mean, db_mean) = copy.deepcopy(net), net.views(mean)
    if np.isfinite(mean).all():
        seen.optimizer.step(after, mean.copy())
    corners = [np.ix_(*pair) for pair in zip(shown, shown[1:], strict=False)]

    def drawn(matrices: Any) -> list[str]:
        return [_bits(W[at]) for W, at in zip(matrices, corners, strict=True)]

    def picked(vectors: Any) -> list[str]:
        return [_bits(b[to]) for b, to in zip(vectors, shown[1:], strict=True)]

    return {
        "sizes": net.layer_sizes, "activations": net.activations, "dtype": net.dtype.name, "loss": repr(seen.loss),
        "optimizer": repr(seen.optimizer), "parameters": net.n_parameters, "scale": net.input_scale, "shown": shown,
        "E": seen.cost, "batch_E": mean_cost, "heading": seen.heading(), "t": _bits(seen.t),
        **{name: [None if v is None else _bits(v) for v in getattr(seen, name)]
           for name in ("a", "z", "delta", "slopes", "sums")},
        "sensitivity": None if seen.sensitivity is None else _bits(seen.sensitivity), "b": [_bits(b) for b in net.b],
        "columns": [_bits(W[:, to].T) for W, to in zip(net.W, shown[1:], strict=True)],
        "rows": [None, *(_bits(W[of]) for W, of in zip(net.W[1:], shown[1:-1], strict=True))],
        "dW": drawn(seen.dW), "db": picked(seen.db), "mean_dW": drawn(dW_mean), "mean_db": picked(db_mean),
        "new_W": drawn(seen.updated.W), "new_b": picked(seen.updated.b), "mean_W": drawn(after.W),
        "mean_b": picked(after.b),
        "saturated": [s[to].tolist() for s, to in zip(seen.saturated, shown[1:], strict=True)],
        "asks": {int(k): seen.asks(int(k)) for k in shown[-1]}, "agreement": _agreement(own, mean),
        "layers": [_figures(net, workspace, dW_mean, l, len(batch)) for l in range(len(net.W))],
    }


def _shown(seen: Trace) -> list[list[int]]:
    """Return the neurons to draw: those with the largest errors, and the inputs that send most to them."""
    sizes, most = seen.network.layer_sizes, NEURONS
    while most > FEW and most * sum(2 * n for n in sizes) > NUMBERS:
        most //= 2
    layers = [sorted(largest(np.abs(delta), most)) for delta in seen.delta]
    with np.errstate(invalid="ignore", over="ignore"):
        sent = np.abs(seen.a[0]) * np.abs(seen.network.W[0][:, layers[0]]).sum(axis=1)
    return [sorted(largest(sent, most)), *layers]


def _agreement(own: Array, mean: Array) -> dict[str, float]:
    """Return the cosine of the sample's gradient and the mean, and the share of parameters that both move one way."""
    a, b = own.astype(np.float64), mean.astype(np.float64)
    both = (a != 0) & (b != 0)
    length = float(np.linalg.norm(a) * np.linalg.norm(b))
    return {"cosine": float(a @ b) / length if length else 0.0,
            "same": float((np.sign(a) == np.sign(b))[both].mean()) if both.any() else 0.0}


def _figures(net: Network, workspace: Any, dW: list[Array], l: int, n: int) -> dict[str, Any]:
    """Return figures of layer l over the mini-batch."""
    z, activation = workspace.z[l][:n], net.activations[l]
    arrays = {"z": z, "a": workspace.a[l + 1][:n], "delta": workspace.delta[l][:n], "dW": dW[l]}
    with np.errstate(invalid="ignore"):
        flat = np.abs(z) > SATURATES[activation] if activation in SATURATES else z <= 0
    known = activation in SATURATES or activation == "relu"
    return {"activation": activation, "figures": {name: mean_and_rms(array) for name, array in arrays.items()},
            "flat": float(flat.mean()) if known else None}


# The training


def _over_time(network: Network, statistics: Statistics) -> dict[str, Any] | None:
    """Return figures of each layer, to four digits, over the steps that were looked at; None if none was."""
    if not isinstance(statistics, Statistics):
        raise TypeError(f"statistics must be an insight.Statistics, got {told_of(statistics)}")
    records, n = statistics.records, len(network.W)
    if not records:
        return None
    if [each["neurons"] for each in records[: records[-1]["layer"] + 1]] != list(network.layer_sizes[1:]):
        raise ValueError("statistics are those of another network; give those of a callback of this one's training")
    looks = np.unique(np.linspace(0, len(records) // n - 1, LOOKS).astype(int))
    layers = [[records[i * n + l] for i in looks] for l in range(n)]

    def lines(*names: str) -> list[list[float | None]]:
        """Return, of each layer and look, the one of these figures that is known; None if none is."""
        known = [[[each[name] for name in names if not math.isnan(each[name])] for each in layer] for layer in layers]
        return [[float(f"{values[0]:.4g}") if values else None for values in line] for line in known]

    panels = {PANELS[name]: lines(name) for name in ("delta_rms", "dW_rms", "update_ratio")}
    return {"every": statistics.interval, "looks": len(records) // n, "steps": [each["step"] for each in layers[0]],
            "panels": panels | {"share of saturated or dead neurons": lines("saturated", "dead")}}


def _speed(trainer: Trainer, history: History) -> dict[str, Any] | None:
    """Return multiply-adds a second of the training, and of a loop on as many threads; None if no time is known."""
    seconds, samples = sum(history.seconds), sum(history.samples)
    if not (samples and 0 < seconds < math.inf):
        return None
    loop, ran = multiply_adds_a_second(trainer.network.dtype.name, trainer.threads)
    return {"training": _multiply_adds(trainer.network.layer_sizes, trainer.frozen) * samples / seconds,
            "loop": loop, "threads": trainer.threads, "ran": ran}


def _multiply_adds(layer_sizes: tuple[int, ...], frozen: tuple[int, ...]) -> int:
    """Return how many a sample takes: forward, for gradients of W, and backward to the lowest layer that is trained."""
    weights = [n_in * n_out for n_in, n_out in zip(layer_sizes, layer_sizes[1:], strict=False)]
    trained = [l for l in range(len(weights)) if l not in frozen]
    return sum(weights) + sum(weights[l] for l in trained) + sum(weights[trained[0] + 1 :])


# All samples


def _confusion(network: Network, t: Targets, outputs: Array) -> list[list[int]] | None:
    """Return counts by class and decision, if they are few classes and all outputs are numbers."""
    if t.labels is None or np.isnan(outputs).any() or max(2, outputs.shape[1]) > CLASSES:
        return None
    counts: list[list[int]] = confusion_matrix(t.labels, outputs).tolist()
    return counts


def _sample(network: Network, data: Data, i: int, outputs: Array, targets: Array, side: int) -> dict[str, Any]:
    """Return a sample, what it should be, and the network's opinion: its largest outputs."""
    labels = data.t.labels
    best = largest(outputs if labels is not None else np.abs(outputs - targets), 3)
    pixels = data.x.taken(np.array([i])).dense().array[0] if side else np.zeros(0)
    return {"row": i, "label": None if labels is None else int(labels[i]),
            "said": None if labels is None or np.isnan(outputs).any() else int(decide(outputs[np.newaxis])[0]),
            "outputs": [[k, float(outputs[k]), float(targets[k])] for k in best],
            "pixels": base64.b64encode(np.clip(pixels, 0, 255).astype(np.uint8).tobytes()).decode()}


def _side(network: Network, data: Data) -> int:
    """Return the side of the pictures that the samples are: squares of grey values from 0 to 255; 0 if they are not."""
    rows, side = image_shape(network.layer_sizes[0])
    if rows == 1 or data.x.is_sparse:
        return 0
    return side if are_bytes(data.x.array) or abs(255 * network.input_scale - 1) < 1e-3 else 0


def _names(network: Network) -> dict[str, list[str] | None]:
    outputs = network.classes if network.classes is not None else network.target_names
    return {name: None if given is None else [str(each) for each in given]
            for name, given in (("inputs", network.feature_names), ("outputs", outputs))}


def _bits(array: Array) -> str:
    return base64.b64encode(array.astype(array.dtype.newbyteorder("<")).tobytes()).decode()
