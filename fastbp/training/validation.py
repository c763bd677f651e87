"""Validation: evaluation of a network on samples that are not trained on, after each epoch and in `evaluate`."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from fastbp import few
from fastbp.callbacks import Fit
from fastbp.core.call import INFER
from fastbp.history import History
from fastbp.inference import infer
from fastbp.inputs import VALUE, Data, Targets, right, targets_of
from fastbp.metrics import Metric, as_metrics, check
from fastbp.metrics import measure as measure_rows
from fastbp.names import classifies
from fastbp.training.settings import Settings
from fastbp.workspace import Array


class Validation:
    """The validation samples of a fit, if there are any, and the metrics to compute.

    Raises ValueError or TypeError if metrics do not fit the samples.
    """

    def __init__(self, settings: Settings, data: Data | None, metrics: Iterable[str | Metric]):
        self.settings, self.data, self.metrics = settings, data, as_metrics(metrics)
        if data is None:
            if self.metrics:
                raise ValueError("metrics need validation_data or validation_fraction")
            return
        net = settings.network
        made_up = np.full((len(data), net.layer_sizes[-1]), 0.5, net.dtype)
        for metric in self.metrics:
            check(metric, _kind_for(metric, data.t), classifies(net.activations[-1]))
            measure(metric, data, made_up)

    @property
    def arrays(self) -> list[Array]:
        """Return the arrays that a checkpoint must agree with."""
        return [] if self.data is None else [*self.data.x.arrays, self.data.t.array, self.data.weights]

    def announce(self, fit: Fit) -> None:
        """Tell a fit which values can be watched."""
        if self.data is None or self.data.t.kind == VALUE:
            del fit.available["validation_accuracy"]
        if self.data is None:
            del fit.available["validation_loss"]
        fit.available |= {metric.name: metric.more_is_better for metric in self.metrics}
        fit.history.metrics = {metric.name: [] for metric in self.metrics}

    def measure(self, history: History) -> None:
        """Evaluate the network on the samples and add the results to a history."""
        if self.data is None:
            return
        outputs, cost, accuracy = outputs_of(self.settings, self.data)
        history.validation_loss.append(cost)
        if accuracy is not None:
            history.validation_accuracy.append(accuracy)
        for metric in self.metrics:
            history.metrics[metric.name].append(measure(metric, self.data, outputs))


def outputs_of(settings: Settings, data: Data) -> tuple[Array, float, float | None]:
    """Return outputs, mean cost and accuracy (None for values)."""
    outputs, cost = infer(settings.network, data.x, data.t, settings.loss, settings.asked_threads, data.weights)
    shares = right(outputs, data.t)
    weights = data.weights if len(data.weights) else None
    return outputs, cost, None if shares is None else float(np.average(shares, weights=weights))


def evaluate_few(settings: Settings, X: Any, y: Any) -> tuple[float, float | None] | None:
    """Return mean cost and accuracy of few samples by one compiled call; None if it does not apply, see few.run."""
    net, loss = settings.network, settings.loss
    if not few.are_few(net, X):
        return None
    workspace, outputs = net.take_workspace(len(X)), np.empty((len(X), net.layer_sizes[-1]), net.dtype)
    slip = few.slip_for(net, workspace, loss, INFER)
    slip.point(outputs=outputs)
    cost = few.run(slip, net, loss, X, y, workspace.capacity)
    net.give_back(workspace)
    if math.isnan(cost):
        return None
    shares = right(outputs, targets_of(y, net))
    return cost, None if shares is None else float(shares.mean())


def measure(metric: Metric, data: Data, outputs: Array) -> float:
    """Compute a metric from labels, if there are any, or from rows."""
    t, kind = data.t, _kind_for(metric, data.t)
    y = t.array if t.labels is None or kind != t.kind else t.labels
    return measure_rows(metric, y, outputs, kind, data.weights if len(data.weights) else None)


def _kind_for(metric: Metric, t: Targets) -> str:
    """Return the kind of targets for a metric: for a metric of values, rows of class shares are values, too."""
    return VALUE if metric.kind == "values" and t.array.ndim == 2 else t.kind
