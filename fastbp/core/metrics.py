"""What metrics count, in one pass over labels and outputs; nothing allocated.

labels, decided (n,) int64; rows, outputs (n, n_out) and weights (n,) float64, all contiguous and writable, so that each
function is compiled once. Results are added to, so that samples may come in parts.
"""

from __future__ import annotations

import math

from fastbp.core import compiler


@compiler.serial
def count_pairs(labels, decided, weights, counts):
    """counts (classes, classes) += the weight of each sample, at its label and at what it was taken for."""
    for i in range(labels.size):
        counts[labels[i], decided[i]] += weights[i]


@compiler.serial
def count_classes(rows, outputs, weights, counts):
    """Of each output, from 1/2 on a yes: counts (n_out, 2, 2) += the weight of each sample, by target and by output."""
    for i in range(outputs.shape[0]):
        for j in range(outputs.shape[1]):
            counts[j, int(rows[i, j] >= 0.5), int(outputs[i, j] >= 0.5)] += weights[i]


@compiler.serial
def count_top(labels, outputs, weights, k):
    """The weight of the samples of whose outputs fewer than `k` are larger than that of the label, or as large and
    before it."""
    hits = 0.0
    for i in range(labels.size):
        own, before = outputs[i, labels[i]], 0
        for j in range(outputs.shape[1]):
            before += outputs[i, j] > own or (outputs[i, j] == own and j < labels[i])
        if before < k:
            hits += weights[i]
    return hits


@compiler.serial
def sum_log_losses(labels, outputs, weights, least):
    """−log of each label's output, which counts as at least `least` and at most 1."""
    total = 0.0
    for i in range(labels.size):
        total -= weights[i] * math.log(min(max(outputs[i, labels[i]], least), 1.0))
    return total


@compiler.serial
def sum_binary_log_losses(rows, outputs, weights, least, rest):
    """−t log a − (1 − t) log(1 − a) over all outputs; a counts as at least `least`, 1 − a as `rest` where a is 1."""
    total = 0.0
    for i in range(outputs.shape[0]):
        cost = 0.0
        for j in range(outputs.shape[1]):
            a, t = outputs[i, j], rows[i, j]
            log_rest = math.log1p(-a) if a < 1 else math.log(rest)
            cost -= t * math.log(min(max(a, least), 1.0)) + (1 - t) * log_rest
        total += weights[i] * cost
    return total


@compiler.serial
def sum_errors(rows, outputs, weights, sums):
    """sums (5, n_out) += of each output the weights, and weighted |a − t|, (a − t)² and (t − mean of t)² by Welford's
    means, which are in the last row."""
    for i in range(outputs.shape[0]):
        if weights[i] > 0:
            for j in range(outputs.shape[1]):
                error = outputs[i, j] - rows[i, j]
                sums[0, j] += weights[i]
                sums[1, j] += weights[i] * abs(error)
                sums[2, j] += weights[i] * error * error
                before = rows[i, j] - sums[4, j]
                sums[4, j] += before * (weights[i] / sums[0, j])
                sums[3, j] += weights[i] * before * (rows[i, j] - sums[4, j])
