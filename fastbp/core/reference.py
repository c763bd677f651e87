"""The five equations in plain NumPy: the oracle of the tests, and the page to read first.

Names, arguments and memory layout are those of the compiled kernels; of their code, only the numeric codes and the
columns of the table of layers are used. What kernels compute from a = f(z), such as f', is computed here from z.
`threads` is ignored.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np

from fastbp.core import call
from fastbp.core.activations import CODES, SOFTMAX
from fastbp.core.costs import BINARY_CROSS_ENTROPY, CROSS_ENTROPY
from fastbp.core.costs import CODES as LOSS_CODES
from fastbp.core.rules import (
    ADAM_RULE,
    BETA1,
    BETA2,
    CLIP_NORM,
    CLIP_VALUE,
    DECREASE,
    EPSILON,
    EPSILON_HAT,
    INCREASE,
    L1,
    L2,
    LEAST,
    LION_RULE,
    MAX_NORM,
    MOMENTUM,
    MOMENTUM_DECAY,
    MOMENTUM_RULE,
    MOST,
    NADAM_RULE,
    NESTEROV_RULE,
    NEW_SQUARES,
    OLD_SQUARES,
    RMS_RULE,
    RPROP_RULE,
    RULE,
    SGD_RULE,
    WEIGHT_DECAY,
)


def identity(z):
    return z


def identity_prime(z):
    return np.ones_like(z)


def sigmoid(z):
    return np.exp(-np.logaddexp(0, -z))  # logaddexp(0, -z) = log(1 + e^-z), and it does not overflow


def sigmoid_prime(z):
    return sigmoid(z) * sigmoid(-z)


def tanh(z):
    return np.tanh(z)


def tanh_prime(z):
    return 4 * sigmoid_prime(2 * z)  # since tanh(z) = 2 sigmoid(2z) - 1; 1 / cosh(z)^2 overflows


def relu(z):
    return np.maximum(z, 0)


def relu_prime(z):
    return (z > 0).astype(z.dtype)


def leaky_relu(z):
    return np.where(z > 0, z, 0.01 * z)


def leaky_relu_prime(z):
    return np.where(z > 0, 1, 0.01).astype(z.dtype)


def elu(z):
    return np.where(z > 0, z, np.expm1(np.minimum(z, 0)))


def elu_prime(z):
    return np.exp(np.minimum(z, 0))


def selu(z):
    return 1.0507009873554805 * np.where(z > 0, z, 1.6732632423543772 * np.expm1(np.minimum(z, 0)))


def selu_prime(z):
    return 1.0507009873554805 * np.where(z > 0, 1, 1.6732632423543772 * np.exp(np.minimum(z, 0)))


def normal_integral(z):
    """The normal distribution's integral up to z."""
    return (np.vectorize(math.erfc, otypes=[float])(-z / math.sqrt(2)) / 2).astype(z.dtype)


def normal_density(z):
    return np.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def gelu(z):
    return z * normal_integral(z)


def gelu_prime(z):
    return normal_integral(z) + z * normal_density(z)


def gelu_tanh(z):
    return z * sigmoid(2 * math.sqrt(2 / math.pi) * (z + 0.044715 * z**3))


def gelu_tanh_prime(z):
    u, u_prime = 2 * math.sqrt(2 / math.pi) * np.array([z + 0.044715 * z**3, 1 + 3 * 0.044715 * z**2])
    return sigmoid(u) + z * sigmoid_prime(u) * u_prime


def silu(z):
    return z * sigmoid(z)


def silu_prime(z):
    return sigmoid(z) + z * sigmoid_prime(z)


def softplus(z):
    return np.logaddexp(0, z)


def softplus_prime(z):
    return sigmoid(z)


def mish(z):
    return z * np.tanh(softplus(z))


def mish_prime(z):
    return np.tanh(softplus(z)) + z * tanh_prime(softplus(z)) * sigmoid(z)


def softmax(z):
    return np.exp(z - log_sum_exp(z)[:, np.newaxis])


def softmax_jacobian(z):
    """da_j / dz_k = a_j (1[j = k] - a_k) of each sample: (n, n_out, n_out)."""
    a = softmax(z)
    return a[:, :, np.newaxis] * (np.eye(z.shape[1], dtype=z.dtype) - a[:, np.newaxis, :])


def log_sum_exp(z):
    """log(sum over j of e^z_j) of each sample, (n,)."""
    return np.logaddexp.reduce(z, axis=1)


# f and f' of each activation, found by name; softmax has none (None), as it works on whole rows
ACTIVATIONS = {name: (globals()[name], globals().get(f"{name}_prime")) for name in CODES}
F = {CODES[name]: f for name, (f, _) in ACTIVATIONS.items()}
F_PRIME = {CODES[name]: f_prime for name, (_, f_prime) in ACTIVATIONS.items() if f_prime}


def through_activation(activation, z, slope):
    """dE/dz from slope = dE/da: slope ∘ f'(z); for softmax, whose a_j depend on every z_k, slope times the Jacobian."""
    if activation == SOFTMAX:
        return np.einsum("ij,ijk->ik", slope, softmax_jacobian(z))
    return slope * F_PRIME[activation](z)


def quadratic(loss, z, a, t):
    return ((a - t) ** 2).sum(axis=1) / 2


def quadratic_slope(loss, a, t):
    return a - t


def mean_absolute(loss, z, a, t):
    return np.abs(a - t).sum(axis=1)


def mean_absolute_slope(loss, a, t):
    return np.sign(a - t)


def huber(loss, z, a, t):
    r, threshold = np.abs(a - t), loss.threshold
    return np.where(r <= threshold, r**2 / 2, threshold * (r - threshold / 2)).sum(axis=1)


def huber_slope(loss, a, t):
    return np.clip(a - t, -loss.threshold, loss.threshold)


def binary_cross_entropy(loss, z, a, t):
    """-t log(a) - (1 - t) log(1 - a) at a = sigmoid(z)."""
    return (np.logaddexp(0, z) - t * z).sum(axis=1)


def cross_entropy(loss, z, a, t):
    """-sum t log(a) at a = softmax(z)."""
    return log_sum_exp(z) - (smoothed(t, loss) * z).sum(axis=1)


def smoothed(t, loss):
    """Targets of the cross-entropy with label smoothing."""
    return (1 - loss.label_smoothing) * t + loss.label_smoothing / t.shape[1]


def poisson(loss, z, a, t):
    return (a - t * np.log(a)).sum(axis=1)


def poisson_slope(loss, a, t):
    return 1 - t / a


def cosine(loss, z, a, t):
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(t, axis=1)
    return 1 - (a * t).sum(axis=1) / np.where(lengths > 0, lengths, 1)


def cosine_slope(loss, a, t):
    of_a, of_t = np.linalg.norm(a, axis=1, keepdims=True), np.linalg.norm(t, axis=1, keepdims=True)
    of_a, of_t = np.where(of_a > 0, of_a, np.inf), np.where(of_t > 0, of_t, np.inf)
    return (a * t).sum(axis=1, keepdims=True) * a / (of_a**3 * of_t) - t / (of_a * of_t)


# Cost and slope dE/da, found by name; None if dE/da cancels f', see output_error
LOSSES: dict[str, tuple[Any, Any]] = {
    name: (globals()[name], globals().get(f"{name}_slope")) for name in LOSS_CODES if name != "custom"}
BY_CODE = {LOSS_CODES[name]: functions for name, functions in LOSSES.items()}


def cost(loss, z, a, t):
    """Cost of each sample, (n,)."""
    if loss.code not in BY_CODE:
        raise ValueError(f"unknown loss {loss}")
    return BY_CODE[loss.code][0](loss, z, a, t)


def slope(loss, a, t):
    """dE/da of each sample, for the losses that are functions of a."""
    if loss.code not in BY_CODE or BY_CODE[loss.code][1] is None:
        raise ValueError(f"unknown loss {loss}")
    return BY_CODE[loss.code][1](loss, a, t)


def parameters(vector, layer):
    """W (n_in, n_out) and b (n_out,) of one layer, views into theta; into a gradient: dW and db."""
    n_in, n_out, w, b = layer[[call.N_IN, call.N_OUT, call.W, call.B]]
    return vector[w : w + n_in * n_out].reshape(n_in, n_out), vector[b : b + n_out]


def neurons(buffers, layer, n):
    """a[l-1] (n, n_in) and z[l], a[l], delta[l] (n, n_out) of one layer: views into buffers."""
    n_in, n_out, ld_input, ld = layer[[call.N_IN, call.N_OUT, call.LD_INPUT, call.LD]]

    def rows(offset, stride, size):
        return buffers[offset : offset + n * stride].reshape(n, stride)[:, :size]

    return rows(layer[call.INPUT], ld_input, n_in), *(
        rows(layer[column], ld, n_out) for column in (call.Z, call.A, call.DELTA))


def mixed(x):
    """dropout.mixed for Python's whole numbers."""
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
    return x ^ x >> 31


def hashes(key, rows, n_in):
    """32 bits for each (row, column): (rows, n_in)."""
    own = np.array([mixed((key + mixed(row % 2**64)) % 2**64) % 2**32 for row in rows], np.uint32)
    x = own[:, np.newaxis] ^ np.arange(n_in, dtype=np.uint32) * np.uint32(0x9E3779B9)
    x = (x ^ x >> np.uint32(16)) * np.uint32(0x85EBCA6B)
    x = (x ^ x >> np.uint32(13)) * np.uint32(0xC2B2AE35)
    return x ^ x >> np.uint32(16)


def dropout_factors(layer, at_row, n, n_in):
    """0 for elements of a layer's input that dropout removes, else 1 / (1 - rate): (n, n_in)."""
    threshold, key = int(layer[call.DROPOUT]), int(layer[call.KEY])
    return (hashes(key, range(at_row, at_row + n), n_in) >= threshold) / (1 - threshold / 2**32)


def noise(layer, at_row, n, n_in):
    """The noise that is added to the input: (n, n_in)."""
    u = uniform(hashes(int(layer[call.KEY]), range(-1 - at_row, -1 - at_row - n, -1), n_in))
    return layer[call.NOISE] / 2**32 * np.vectorize(NormalDist().inv_cdf)(u / 2 + 0.5)


def uniform(bits):
    """Numbers in (-1, 1)."""
    return (bits >> np.uint32(8) | np.uint32(1)) / 2**23 - 1


def cubic_spline(x):
    """The cubic B-spline around 0, by truncated powers."""
    return sum((-1) ** i * math.comb(4, i) * np.maximum(x + 2 - i, 0) ** 3 for i in range(5)) / 6


def augmented(images, own, key, at_row):
    """Images (n, height, width), each as an Augmentation has it."""
    sizes, spacing = np.array(images.shape[1:]), own.smoothness * math.sqrt(3)
    grid = (sizes - 1) // spacing + 4 if own.elastic else np.zeros(2)
    draws = uniform(hashes(key, range(at_row + 2**62, at_row + 2**62 + len(images)), 6 + 2 * int(grid.prod())))
    pixels, middle = np.indices(images.shape[1:]).reshape(2, -1).T, (sizes - 1) / 2
    of_rows, of_columns = (cubic_spline(pixels[:, i, np.newaxis] / spacing - np.arange(-1, grid[i] - 1))
                           for i in range(2))
    result = np.empty(images.shape)
    for image, u, to in zip(images, draws, result, strict=True):
        angle, slope = math.radians(own.rotation) * u[2], math.tan(math.radians(own.shear)) * u[5]
        turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        forward = turn @ np.diag(1 + own.scale * u[3:5]) @ np.array([[1, 0], [slope, 1]])
        place = middle + (pixels - middle - own.shift * u[:2]) @ np.linalg.inv(forward).T
        if own.elastic:
            displacements = u[6:].reshape(2, *grid.astype(int)) * own.elastic * math.sqrt(3) / (151 / 315)
            place += np.einsum("pi,aij,pj->pa", of_rows, displacements, of_columns)
        place = np.clip(place, 0, sizes - 1)
        (above, left), (down, along) = np.floor(place).astype(int).T, (place % 1).T
        wide = np.pad(image, (0, 1), "edge")
        upper, lower = ((1 - along) * wide[r, left] + along * wide[r, left + 1] for r in (above, above + 1))
        to[:] = ((1 - down) * upper + down * lower).reshape(sizes)
    return result


def forward(theta, layers, buffers, n, threads=1, at_row=0):
    """z[l] = a[l-1] W[l] + b[l], a[l] = f(z[l]); a[l-1] is taken after dropout."""
    for layer in layers:
        W, b = parameters(theta, layer)
        sent, z, a, _ = neurons(buffers, layer, n)
        sent[:] = sent * dropout_factors(layer, at_row, *sent.shape)
        z[:] = sent @ W + b
        a[:] = F[layer[call.ACTIVATION]](z)


def output_error(layers, buffers, targets, costs, loss, n, threads=1):
    """delta[L] = dE/da[L] ∘ f'(z[L]); for the cross-entropies, whose dE/da cancels f', a[L] - t."""
    _, z, a, delta = neurons(buffers, layers[-1], n)
    t = targets[:n]
    costs[:n] = cost(loss, z, a, t)
    if loss.code == BINARY_CROSS_ENTROPY:
        delta[:] = a - t
    elif loss.code == CROSS_ENTROPY:
        delta[:] = a - smoothed(t, loss)
    else:
        delta[:] = through_activation(layers[-1, call.ACTIVATION], z, slope(loss, a, t))


def backward(theta, layers, buffers, n, threads=1, at_row=0):
    """delta[l] = (delta[l+1] W[l+1]ᵀ) ∘ f'(z[l]), from the last hidden layer down; 0 for dropped elements."""
    for l in reversed(range(len(layers) - 1)):
        _, z, _, delta = neurons(buffers, layers[l], n)
        W_next, _ = parameters(theta, layers[l + 1])
        *_, delta_next = neurons(buffers, layers[l + 1], n)
        received = delta_next @ W_next.T * dropout_factors(layers[l + 1], at_row, *z.shape)
        delta[:] = through_activation(layers[l, call.ACTIVATION], z, received)


def weight_gradients(gradient, layers, buffers, n, threads=1):
    """dE/dW[l] = a[l-1]ᵀ delta[l] / n, dE/db[l] = mean over samples of delta[l]."""
    for layer in layers:
        dW, db = parameters(gradient, layer)
        sent, _, _, delta = neurons(buffers, layer, n)
        dW[:] = sent.T @ delta / n
        db[:] = delta.mean(axis=0)


def update(theta, gradient, state, settings, eta, step, threads=1, weight=1):
    """theta ← theta − eta · dE/dtheta, or the step of the optimiser's rule; step counts from 1; weight: of the samples
    whose mean gradient it is."""
    rule, beta1, beta2, epsilon, l1 = settings[[RULE, BETA1, BETA2, EPSILON, L1]]
    gradient = gradient + settings[L2] / weight * theta
    theta *= 1 - eta * settings[WEIGHT_DECAY]
    if rule == SGD_RULE:
        theta -= eta * gradient
    elif rule in (ADAM_RULE, NADAM_RULE):
        m, v = state
        m[:] = beta1 * m + (1 - beta1) * gradient
        v[:] = beta2 * v + (1 - beta2) * gradient**2
        unbias = 1 / np.sqrt(1 - beta2**step)
        root = np.sqrt(v) * unbias + epsilon * (unbias if settings[EPSILON_HAT] else 1)
        if rule == ADAM_RULE:
            theta -= eta * m / (1 - beta1**step) / root
        else:
            mu = beta1 * (1 - 0.5 * 0.96 ** (np.arange(1, step + 2) * settings[MOMENTUM_DECAY]))
            theta -= eta * ((1 - mu[-2]) / (1 - mu[:-1].prod()) * gradient + mu[-1] / (1 - mu.prod()) * m) / root
    elif rule == RMS_RULE:
        (v,) = state
        v[:] = settings[OLD_SQUARES] * v + settings[NEW_SQUARES] * gradient**2
        theta -= eta * gradient / (np.sqrt(v) + epsilon)
    elif rule == LION_RULE:
        (m,) = state
        theta -= eta * np.sign(beta1 * m + (1 - beta1) * gradient)
        m[:] = beta2 * m + (1 - beta2) * gradient
    elif rule == RPROP_RULE:
        before, steps = state
        turned, same = gradient * before < 0, gradient * before > 0
        steps[steps == 0] = 1
        steps *= np.where(same, settings[INCREASE], np.where(turned, settings[DECREASE], 1))
        steps[:] = np.clip(steps, settings[LEAST], settings[MOST])
        before[:] = np.where(turned, 0, gradient)
        theta -= eta * steps * np.sign(before)
    elif rule in (MOMENTUM_RULE, NESTEROV_RULE):
        (v,) = state
        v[:] = settings[MOMENTUM] * v + gradient
        theta -= eta * (v if rule == MOMENTUM_RULE else gradient + settings[MOMENTUM] * v)
    else:
        raise ValueError(f"unknown rule {rule}")
    theta[:] = np.sign(theta) * np.maximum(np.abs(theta) - eta * l1, 0) if l1 else theta


def clip(gradient, settings):
    """Limit the norm of the gradient, or each of its elements, to its bound, if there is one."""
    if settings[CLIP_NORM]:
        gradient *= min(1, settings[CLIP_NORM] / np.linalg.norm(gradient))
    elif settings[CLIP_VALUE]:
        np.clip(gradient, -settings[CLIP_VALUE], settings[CLIP_VALUE], out=gradient)


def limit(theta, layers, settings):
    """Limit the norm of the incoming weights of each neuron to its bound."""
    for layer in layers:
        W, _ = parameters(theta, layer)
        W *= np.minimum(1, settings[MAX_NORM] / np.linalg.norm(W, axis=0))
