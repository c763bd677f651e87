"""Checks of what users pass, before anything is changed, and its description for the kernels, without a copy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from fastbp import losses
from fastbp.checks import not_negative, one_of, whole_number
from fastbp.core import activations
from fastbp.core.samples import LABELS, Samples, describe, readable
from fastbp.frames import Frame, array_of, check_finite, is_frame, labels_of, warn_of_other_rows
from fastbp.names import Named, Names, classifies, n_classes
from fastbp.sparse import Rows, as_rows, is_sparse
from fastbp.workspace import Array

Kind = TypeVar("Kind", bound="Inputs")


@dataclass(frozen=True)
class Inputs:
    """An array that the kernels can read, or Rows of sparse samples, kept alive, and its description."""

    array: Any
    samples: Samples

    def __len__(self) -> int:
        return len(self.array)

    def taken(self: Kind, chosen: Array | slice | None = None) -> Kind:
        """Return a copy of the samples with these indices, or of all."""
        if self.is_sparse:
            rows = self.array[slice(None) if chosen is None else chosen]
            return replace(self, array=rows, samples=rows.described(self.samples.scale))
        array = np.array(self.array) if chosen is None else self.array[chosen]
        return replace(self, array=array, samples=describe(array, self.samples.kind, self.samples.scale))

    @property
    def is_sparse(self) -> bool:
        """Whether the samples are Rows."""
        return isinstance(self.array, Rows)

    @property
    def arrays(self) -> tuple[Array, ...]:
        """Return the arrays that hold the samples."""
        return self.array.parts if self.is_sparse else (self.array,)

    def numbers(self, chosen: Array | slice) -> Array:
        """Return the samples with these indices as an array."""
        part = self.array[chosen]
        return np.asarray(part.toarray() if self.is_sparse else part)

    def dense(self) -> Inputs:
        """Return the same samples, but not as Rows."""
        if not self.is_sparse:
            return self
        array = self.array.toarray()
        return Inputs(array, describe(array, scale=self.samples.scale))


LABEL, MULTILABEL, VALUE = "labels", "multilabel", "values"  # what the targets of a sample mean


@dataclass(frozen=True)
class Targets(Inputs):
    """Targets and their kind: one label per sample, yes or no for each of several classes, or values.

    labels (n,): for the first kind, also if given as rows; else None.
    """

    array: Array
    kind: str
    labels: Array | None

    def taken(self, chosen: Array | slice | None = None) -> Targets:
        """Return a copy of the samples with these indices, or of all."""
        part = super().taken(chosen)
        if self.labels is None or chosen is None:
            return part
        return replace(part, labels=part.array if self.labels is self.array else self.labels[chosen])


@dataclass(frozen=True)
class Data:
    """Checked arguments of a call: samples, targets, and weights, float64 (n,) or empty if all are 1."""

    x: Inputs
    t: Targets
    weights: Array

    def __len__(self) -> int:
        return len(self.x)

    def taken(self, chosen: Array | slice | None = None) -> Data:
        """Return a copy of the samples with these indices, or of all."""
        own = slice(None) if chosen is None or len(self.weights) == 0 else chosen
        return Data(self.x.taken(chosen), self.t.taken(chosen), self.weights[own])

    @property
    def is_idle(self) -> bool:
        """Whether all weights are 0."""
        return len(self.weights) > 0 and not self.weights.any()

    def with_some_weight(self, name: str = "", chosen: Array | None = None) -> Data:
        """Return itself; raise ValueError if all weights, or all those of the chosen samples, are 0."""
        check_some_weight(self.weights if chosen is None or len(self.weights) == 0 else self.weights[chosen], name)
        return self


class Described(Named, Protocol):
    """The attributes of a network that decide which inputs and targets it accepts."""

    dtype: np.dtype[Any]

    @property
    def input_scale(self) -> float: ...


def as_inputs(x: npt.ArrayLike, network: Described, name: str = "X", names: Names | None = None,
              sparse: bool = False) -> Inputs:
    """Check samples (n, n_in), which the kernels multiply by the network's input_scale.

    uint8, float32 and float64 are read in place, whatever their strides, also if read-only or memory-mapped; other
    types are converted to the network's. Columns of a frame are put in the order of the network's feature_names.

    names: known or learned names of features; None: those of the network. sparse: whether the caller takes samples that
    are Rows, read in place where they can be.
    """
    n_features, dtype = network.layer_sizes[0], network.dtype
    columns: tuple[Any, ...] | None = None
    array: Any
    if is_frame(x):
        frame = Frame(x, (names or Names(network)).order(Frame(x), name))
        array, columns = frame.numbers(name), frame.labels
    else:
        array = as_rows(x, dtype, name) if sparse and is_sparse(x) else array_of(x, name)
    if array.ndim != 2:
        own = name.split()[-1]
        how = f"; numpy.reshape({own}, (1, -1)) is one sample, numpy.reshape({own}, (-1, 1)) has one feature"
        raise ValueError(f"{name} must have 2 dimensions (samples, features), got shape {array.shape}"
                         + how * (array.ndim == 1 and array.size > 0))
    if array.shape[1] != n_features:
        raise ValueError(f"{name} has {array.shape[1]} features, the network takes {n_features}")
    if len(array) == 0:
        raise ValueError(f"{name} is empty: shape {array.shape}")
    if isinstance(array, Rows):
        return Inputs(array, array.described(network.input_scale))
    check_finite(array, dtype, name, columns, x)
    array = readable(array, dtype)
    return Inputs(array, describe(array, scale=network.input_scale))


def as_targets(y: npt.ArrayLike, n_samples: int, network: Described, loss: losses.Loss, name: str = "y",
               names: Names | None = None) -> Targets:
    """Check targets: labels or names of classes (n,) or (n, 1), or rows (n, n_out); for one output also values (n,).

    names: known or learned names of classes or outputs; None: those of the network.
    """
    names, n_out, output = names or Names(network), network.layer_sizes[-1], network.activations[-1]
    columns = labels_of(y)
    if is_frame(y) and len(Frame(y).labels) > 1:
        frame = Frame(y, names.order_of_targets(Frame(y), network, name))
        array, columns = frame.numbers(name), frame.labels
    else:
        array = array_of(y, name, text=True)
    if len(array.shape) == 0 or len(array) != n_samples:
        raise ValueError(f"{name} has shape {array.shape}, but there are {n_samples} samples")
    if columns is not None:
        check_finite(array.reshape(n_samples, -1), network.dtype, name, columns, y)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.dtype.kind == "U":
        if array.ndim != 1:
            raise ValueError(f"{name} holds text; give the name of one class per sample, shape ({n_samples},), "
                             f"got shape {array.shape}")
        return _labels(names.numbers(array, network, name), n_out, name)
    if array.ndim == 1 and _means_labels(array, n_out, output):
        names.check_no_numbers(array, name)
        return _labels(array, n_out, name)
    if array.ndim == 1 and n_out == 1:
        array = array[:, np.newaxis]
    if array.shape != (n_samples, n_out):
        raise ValueError(f"{name} must hold {n_samples} labels or have shape ({n_samples}, {n_out}), "
                         f"got shape {array.shape}")
    check_finite(array, network.dtype, name)
    loss.check_targets(array, name)
    return targets_of(readable(array, network.dtype), network)


def targets_of(array: Array, network: Described) -> Targets:
    """Return the Targets of a checked array: labels (n,) int64, rows (n, n_out) that the kernels can read, or values
    (n,) of a single output."""
    n_out, output = network.layer_sizes[-1], network.activations[-1]
    if array.ndim == 1 and array.dtype == np.int64:
        return Targets(array, describe(array, LABELS), LABEL, array)
    array = array.reshape(len(array), n_out)
    if several_decisions(n_out, output):
        return Targets(array, describe(array), MULTILABEL, None)
    labels = decide(array) if classifies(output) else None
    return Targets(array, describe(array), VALUE if labels is None else LABEL, labels)


def as_data(X: npt.ArrayLike, y: npt.ArrayLike, sample_weight: npt.ArrayLike | None, network: Described,
            loss: losses.Loss, names: Names | None = None, name: str = "", warned_of: set[str] | None = None, *,
            sparse: bool = False) -> Data:
    """Check samples, targets and weights, see `as_inputs` and `as_targets`.

    name: prefix of all their names in messages; warned_of: see `warn_of_other_rows`."""
    x = as_inputs(X, network, f"{name}X", names, sparse)
    t = as_targets(y, len(x), network, loss, f"{name}y", names)
    warn_of_other_rows({f"{name}X": X, f"{name}y": y, f"{name}sample_weight": sample_weight}, warned_of)
    return Data(x, t, as_weights(sample_weight, None, None, len(x)))


def as_weights(sample_weight: npt.ArrayLike | None, class_weight: str | Mapping[Any, float] | None,
               labels: Array | None, n_samples: int, names: Names | None = None, chosen: Array | None = None,
               n_labels: int | None = None) -> Array:
    """Return the weight of each sample (n,), float64; empty if all are 1.

    class_weight: "balanced", total weight / (classes · weight of the class) over the samples `chosen`; or a weight for
    each label below n_labels, or each class in `names`, by default 1. Very large or small weights are all multiplied by
    one factor, so that they fit a float64; this changes no mean.
    """
    weights = np.ones(n_samples)
    if sample_weight is not None:
        weights = checked_weights(sample_weight, n_samples)
    if class_weight is not None:
        if labels is None:
            raise ValueError("class_weight needs labels, y holds values")
        if names is not None and isinstance(class_weight, Mapping):
            class_weight = names.weights(class_weight)
        own = _near_one(weights)
        counted = slice(None) if chosen is None else chosen
        weights = own * _near_one(_class_weights(class_weight, labels, counted, own[counted], n_labels))[labels]
    if sample_weight is None and class_weight is None:
        return np.empty(0)
    return _moderate(weights)


def checked_weights(sample_weight: npt.ArrayLike, n_samples: int) -> Array:
    """Return weights (n,) or (n, 1) as float64 (n,), finite and >= 0; otherwise raise TypeError or ValueError."""
    given = array_of(sample_weight, "sample_weight")
    if given.shape == (n_samples, 1):
        given = given[:, 0]
    if given.shape != (n_samples,):
        raise ValueError(f"sample_weight must have shape ({n_samples},), got {given.shape}")
    weights = given.astype(np.float64)
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        i = int(np.argmin(np.isfinite(weights) & (weights >= 0)))
        raise ValueError(f"sample_weight must be finite and >= 0, sample_weight[{i}] is {weights[i]}")
    return weights


FAR = 2.0**400


def _moderate(weights: Array) -> Array:
    """Return weights whose sums, and quotients of sums, fit a float64.

    The factor is one of four, the last for subnormal weights: batches of a stream keep their proportions unless they
    are far apart. Negligible weights become 0."""
    most = weights.max(initial=0.0)
    small = FAR**2 if most < FAR**-2 else FAR if most < 1 / FAR else 1.0
    near = weights / FAR if most > FAR else weights * small
    return np.where(near < FAR**-1.5, 0.0, near)


def _near_one(weights: Array) -> Array:
    """Return weights whose products fit a float64: if far from 1, they are divided by a power of two."""
    exponent = int(np.frexp(weights.max(initial=0.0))[1])
    return weights if abs(exponent) < 300 else np.ldexp(weights, -exponent)


def check_some_weight(weights: Array, name: str = "") -> Array:
    """Return `weights`; raise ValueError if all are 0."""
    if len(weights) and not weights.any():
        raise ValueError(f"all {name}samples have weight 0")
    return weights


def _class_weights(class_weight: str | Mapping[Any, float], labels: Array, counted: Array | slice, weights: Array,
                   n_labels: int | None) -> Array:
    """Return the weight of each label from 0 to the highest; weights: those of the counted samples."""
    counts = np.bincount(labels[counted], weights, labels.max() + 1)
    if isinstance(class_weight, str):
        one_of("class_weight", class_weight, ["balanced"])
        there = counts > 0
        balanced: Array = np.where(there, counts.sum() / (max(1, there.sum()) * np.where(there, counts, 1)), 0.0)
        return balanced
    if not isinstance(class_weight, Mapping):
        raise TypeError('class_weight must be "balanced" or a weight for each label, {0: 1, 1: 5} say, got '
                        f"{class_weight!r}")
    weights = np.ones(len(counts))
    for label, weight in class_weight.items():
        own = not_negative(f"class_weight of {label}", weight)
        if isinstance(label, (bool, np.bool_)) or (
                isinstance(label, (float, np.floating)) and float(label).is_integer()):
            label = int(label)  # labels may be booleans or whole floats
        label = whole_number("a label of class_weight", label, 0)
        if n_labels is not None and label >= n_labels:
            raise ValueError(f"class_weight has label {label}; the network has labels 0 to {n_labels - 1}")
        if label < len(counts):
            weights[label] = own
    return weights


def _means_labels(array: Array, n_out: int, output: str) -> bool:
    """A vector of targets means labels unless there is a single output that takes values."""
    if n_out == 1:
        return activations.CODES[output] == activations.SIGMOID and array.dtype.kind != "f"
    return True


def _labels(array: Array, n_out: int, name: str) -> Targets:
    classes = n_classes(n_out)
    if array.dtype.kind == "f":
        whole = array == np.floor(array)  # false for NaN; infinities fail the range below
        if not whole.all():
            i = int(np.argmin(whole))
            raise ValueError(f"{name} must hold whole labels 0 to {classes - 1}, {name}[{i}] is {array[i]}")
    low, high = array.min(), array.max()
    if low < 0 or high >= classes:
        raise ValueError(f"{name} must hold labels 0 to {classes - 1} for {n_out} outputs, found {low} to {high}; "
                         f"classes, {name.split()[-1]} = numpy.unique({name.split()[-1]}, return_inverse=True) numbers "
                         "them from 0, and names (text) are taken too")
    labels = np.ascontiguousarray(array, np.int64)
    return Targets(labels, describe(labels, LABELS), LABEL, labels)


def decide(outputs: Array) -> Array:
    """Return labels (n,) from outputs (n, n_out): the largest, or for a single output, whether it is at least 1/2."""
    if outputs.shape[1] == 1:
        return (outputs[:, 0] >= 0.5).astype(np.int64)
    return np.asarray(np.argmax(outputs, axis=1))


def of_each_class(outputs: Array) -> Array:
    """Return outputs (n, classes); for a single output (n, 1), with that of label 0 added."""
    return np.hstack([1 - outputs, outputs]) if outputs.shape[1] == 1 else outputs


def several_decisions(n_out: int, output: str) -> bool:
    """Whether rows of targets say yes or no for each output, instead of choosing one."""
    return n_out > 1 and activations.CODES[output] == activations.SIGMOID


def right(outputs: Array, t: Targets) -> Array | None:
    """Return the share of right decisions of each sample (n,), NaN if an output is NaN; None for values."""
    if t.kind == VALUE:
        return None
    if t.kind == MULTILABEL:
        shares = ((outputs >= 0.5) == (t.array >= 0.5)).mean(axis=1)
    else:
        shares = np.asarray(decide(outputs) == t.labels, np.float64)
    unknown = np.isnan(outputs).any(axis=1)
    return np.where(unknown, np.nan, shares) if unknown.any() else shares
