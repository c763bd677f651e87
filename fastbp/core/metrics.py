"""What metrics count, in one pass over labels and outputs; nothing allocated."""

from __future__ import annotations

import math

from fastbp.core import jit


@jit.serial
def count_pairs(labels, predicted, counts):
    """counts[i, j] += samples of label i that were taken for j."""
    for i in range(labels.size):
        counts[labels[i], predicted[i]] += 1


@jit.serial
def count_classes(rows, outputs, counts):
    """Of each output, from 1/2 on a yes: counts (n_out, 2, 2) += samples by target and by output."""
    for i in range(outputs.shape[0]):
        for j in range(outputs.shape[1]):
            counts[j, int(rows[i, j] >= 0.5), int(outputs[i, j] >= 0.5)] += 1


@jit.serial
def count_top(labels, outputs, k):
    """Samples of whose outputs fewer than `k` are larger than that of the label, or as large and before it."""
    hits = 0
    for i in range(labels.size):
        own, before = outputs[i, labels[i]], 0
        for j in range(outputs.shape[1]):
            before += outputs[i, j] > own or (outputs[i, j] == own and j < labels[i])
        hits += before < k
    return hits


@jit.serial
def sum_log_losses(labels, outputs, least):
    """−log of each label's output, which counts as at least `least`."""
    total = 0.0
    for i in range(labels.size):
        total -= math.log(max(float(outputs[i, labels[i]]), least))
    return total


@jit.serial
def sum_binary_log_losses(rows, outputs, least):
    """−t log a − (1 − t) log(1 − a) over all outputs."""
    total = 0.0
    for i in range(outputs.shape[0]):
        for j in range(outputs.shape[1]):
            a = min(max(float(outputs[i, j]), least), 1 - least)
            total -= rows[i, j] * math.log(a) + (1 - rows[i, j]) * math.log1p(-a)
    return total


@jit.serial
def sum_errors(rows, outputs, sums):
    """sums (3, n_out) += of each output |a − t|, (a − t)² and (t − mean of t)², by Welford's means."""
    for j in range(outputs.shape[1]):
        mean = 0.0
        for i in range(outputs.shape[0]):
            error, t = float(outputs[i, j]) - rows[i, j], float(rows[i, j])
            sums[0, j] += abs(error)
            sums[1, j] += error * error
            before = t - mean
            mean += before / (i + 1)
            sums[2, j] += before * (t - mean)
