"""The sums and counts of metrics, in one pass over labels and outputs, without allocation.

labels, decided (n,) int64; rows, outputs (n, n_out) and weights (n,) float64, all contiguous and writable, so that each
function is compiled once. Functions add to the results, so that samples may come in parts.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from fastbp.core import compiler

AT_ONCE = 1 << 14  # numbers that one thread adds up


@compiler.serial
def count_pairs(labels, decided, weights, counts):
    """counts (classes, classes) += the weight of each sample, at its label and its predicted label."""
    for i in range(labels.size):
        counts[labels[i], decided[i]] += weights[i]


@compiler.serial
def count_classes(rows, outputs, weights, counts):
    """counts (n_out, 2, 2) += the weight of each sample, by target and by output; yes is at least 1/2."""
    for i in range(outputs.shape[0]):
        for j in range(outputs.shape[1]):
            counts[j, int(rows[i, j] >= 0.5), int(outputs[i, j] >= 0.5)] += weights[i]


@compiler.serial
def count_top(labels, outputs, weights, k):
    """Return the weight of the samples whose label is among the `k` largest outputs; the first of equal outputs counts
    as larger."""
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
    """Return the sum of −log of each label's output, clipped to [least, 1]."""
    total = 0.0
    for i in range(labels.size):
        total -= weights[i] * math.log(min(max(outputs[i, labels[i]], least), 1.0))
    return total


@compiler.serial
def sum_binary_log_losses(rows, outputs, weights, least, rest):
    """Return the sum of −t log a − (1 − t) log(1 − a); a is at least `least`; if a is 1, 1 − a counts as `rest`."""
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
    """sums (5, n_out) += for each output: weights, weighted |a − t|, (a − t)² and (t − mean of t)²; the last row holds
    the running means (Welford)."""
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


@compiler.serial
def sums_of(numbers):
    """Return the sum and the sum of squares of numbers (rows, columns) of float32 or float64, each from four
    interleaved sums. In blocks as float64, NumPy takes three times as long."""
    a = b = c = d = aa = bb = cc = dd = 0.0
    whole = numbers.shape[1] // 4 * 4
    for i in range(numbers.shape[0]):
        for j in range(0, whole, 4):
            w, x = np.float64(numbers[i, j]), np.float64(numbers[i, j + 1])
            y, z = np.float64(numbers[i, j + 2]), np.float64(numbers[i, j + 3])
            a, b, c, d = a + w, b + x, c + y, d + z
            aa, bb, cc, dd = aa + w * w, bb + x * x, cc + y * y, dd + z * z
        for j in range(whole, numbers.shape[1]):
            w = np.float64(numbers[i, j])
            a, aa = a + w, aa + w * w
    return (a + b) + (c + d), (aa + bb) + (cc + dd)


def _sums_of_update(after, before, gradient, sums, threads):
    """Of parameters (n,) after and before a step, and of their gradient: sums (n / AT_ONCE, 4) rounded up = after²,
    (after - before)², gradient, gradient² of each AT_ONCE numbers."""
    for own in prange(threads):
        for k in range(own * len(sums) // threads, (own + 1) * len(sums) // threads):
            a = b = c = d = aa = bb = cc = dd = 0.0
            for i in range(k * AT_ONCE, min(len(after), (k + 1) * AT_ONCE) // 2 * 2, 2):
                w, x, g, h = (np.float64(after[i]), np.float64(after[i + 1]), np.float64(gradient[i]),
                              np.float64(gradient[i + 1]))
                v, y = np.float64(after[i] - before[i]), np.float64(after[i + 1] - before[i + 1])
                a, b, c, d = a + w * w, b + x * x, c + v * v, d + y * y
                aa, bb, cc, dd = aa + g, bb + h, cc + g * g, dd + h * h
            if len(after) % 2 and k == len(sums) - 1:
                i = len(after) - 1
                w, v, g = np.float64(after[i]), np.float64(after[i] - before[i]), np.float64(gradient[i])
                a, c, aa, cc = a + w * w, c + v * v, aa + g, cc + g * g
            sums[k, 0], sums[k, 1], sums[k, 2], sums[k, 3] = a + b, c + d, aa + bb, cc + dd


sums_of_update, sums_of_update_serial = compiler.twins(_sums_of_update)
