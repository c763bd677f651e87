"""Networks in the text files of FANN, `*.net`, read; `Network.from_fann` calls it.

Behind the first line, FANN_FLO_2.1, lines have the form name=value. Each layer, the output too, counts a neuron for
the bias. A neuron computes f(s z), with a steepness s of its own; its sources are numbered through the whole network,
the bias last. What FANN calls sigmoid is that of 2 s z.
"""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp.checks import counted, level_of_caller
from fastbp.names import listed

HEADERS = "FANN_FLO_2.0", "FANN_FLO_2.1"
# In the order of FANN's codes. Each that fastbp has: its name here and f(x) = g(factor x).
CODES = ("linear", "threshold", "threshold_symmetric", "sigmoid", "sigmoid_stepwise", "sigmoid_symmetric",
         "sigmoid_symmetric_stepwise", "gaussian", "gaussian_symmetric", "gaussian_stepwise", "elliot",
         "elliot_symmetric", "linear_piece", "linear_piece_symmetric", "sin_symmetric", "cos_symmetric", "sin", "cos")
OURS = {"linear": ("identity", 1), "sigmoid": ("sigmoid", 2), "sigmoid_stepwise": ("sigmoid", 2),
        "sigmoid_symmetric": ("tanh", 1), "sigmoid_symmetric_stepwise": ("tanh", 1)}
NEURONS = "neurons (num_inputs, activation_function, activation_steepness)"
CONNECTIONS = "connections (connected_to_neuron, weight)"
Array = npt.NDArray[Any]


def read(path: str | os.PathLike[str]) -> tuple[list[Array], list[Array], list[str]]:
    """Return weights (n_in, n_out), biases (n_out,) and activation of each layer; see Network.from_fann."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {os.fspath(path)}")
    try:
        text = Path(path).read_bytes().decode("ascii", "replace")
        header = text[:12]
        if header not in HEADERS:
            kind = f"of another version or in fixed point: {header}" if header.startswith("FANN_") else "not of FANN"
            raise ValueError(f"it is {kind}; expected {' or '.join(HEADERS)}, as fann_save of FANN 2 writes it")
        return _layers(dict(line.split("=", 1) for line in text.splitlines() if "=" in line))
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)} cannot be read as a network of FANN: {error}") from None


def _layers(fields: dict[str, str]) -> tuple[list[Array], list[Array], list[str]]:
    if _numbers(fields, "network_type", 1)[0] != 0:
        raise ValueError("it has shortcut connections; a Network connects each layer to the next alone")
    sizes = _numbers(fields, "layer_sizes", int(_numbers(fields, "num_layers", 1)[0])).astype(int)
    if len(sizes) < 2 or sizes.min() < 2:
        raise ValueError(f"layer_sizes is {fields['layer_sizes'].strip()}: expected two layers or more, each of a "
                         "neuron or more and one for the bias")
    neurons = np.split(_tuples(fields, NEURONS, 3, int(sizes.sum())), np.cumsum(sizes)[:-1])
    if any((each[:-1, 0] != before).any() for each, before in zip(neurons[1:], sizes[:-1], strict=True)):
        raise ValueError("it is sparse: a neuron lacks connections to the layer before it")
    used, before = sizes[1:] - 1, sizes[:-1]
    rows = np.split(_tuples(fields, CONNECTIONS, 2, int(used @ before)), np.cumsum(used * before)[:-1])
    weights: list[Array] = []
    biases: list[Array] = []
    activations: list[str] = []
    stepwise = False
    for l, (part, own) in enumerate(zip(rows, neurons[1:], strict=True)):
        sources = np.arange(before[l]) + before[:l].sum()
        if (part[:, 0].reshape(used[l], before[l]) != sources).any():
            raise ValueError(f"connections of layer {l + 1} are not from all neurons of the layer before it, in order")
        name, factors, steps = _activation(own[:-1], l + 1)
        whole = part[:, 1].reshape(used[l], before[l]).T * factors
        weights.append(whole[:-1])
        biases.append(whole[-1])
        activations.append(name)
        stepwise |= steps
    _warn(stepwise, "scale_included" in fields and _numbers(fields, "scale_included", 1)[0] != 0)
    dtype = np.float32 if all(_single(rows_of[:, -1]) for rows_of in (*rows, *neurons)) else np.float64
    with np.errstate(over="ignore"):
        return [W.astype(dtype) for W in weights], [b.astype(dtype) for b in biases], activations


def _activation(neurons: Array, layer: int) -> tuple[str, Array, bool]:
    """Return a layer's activation here, the factor of each neuron's weights, and whether FANN's is stepwise."""
    codes = np.unique(neurons[:, 1]).tolist()
    names = [CODES[int(code)] if code in range(len(CODES)) else f"{code:g}" for code in codes]
    missing = [name for name in names if name not in OURS]
    if missing:
        raise ValueError(f"layer {layer} has the activation {missing[0]}, which a Network does not have; it takes "
                         f"FANN's {', '.join(OURS)}")
    if len({OURS[name] for name in names}) > 1:
        raise ValueError(f"neurons of layer {layer} have different activations: {listed(names)}")
    name, factor = OURS[names[0]]
    if not (neurons[:, 2] > 0).all():
        raise ValueError(f"layer {layer} has a steepness of {neurons[:, 2].min():g}; it must be > 0")
    return name, factor * neurons[:, 2], any("stepwise" in each for each in names)


def _warn(stepwise: bool, scaled: bool) -> None:
    if stepwise:
        warnings.warn("FANN draws this network's sigmoid (stepwise) in straight lines, up to 0.034 from the function, "
                      "0.067 for the symmetric one; the Network has the exact function, so outputs differ",
                      stacklevel=level_of_caller())
    if scaled:
        warnings.warn("the file holds a scaling of inputs and outputs, which the Network leaves out, as fann_run does: "
                      "scale samples and outputs as fann_scale_input and fann_descale_output do",
                      stacklevel=level_of_caller())


def _numbers(fields: dict[str, str], name: str, n: int) -> Array:
    """Return the n whole numbers of a line."""
    given = fields.get(name, "").split()
    if len(given) != n or not all(re.fullmatch("[0-9]{1,9}", each) for each in given):
        raise ValueError(f"expected {counted(n, 'whole number')} as {name}, got {' '.join(given)[:60] or 'nothing'}")
    return np.array(given, np.int64)


def _tuples(fields: dict[str, str], name: str, n_columns: int, n_rows: int) -> Array:
    """Return a line's tuples of numbers (n_rows, n_columns)."""
    rows = [row.split(",") for row in re.findall(r"\(([^()]*)\)", fields.get(name, ""))]
    if len(rows) != n_rows:
        raise ValueError(f"{name.partition(' ')[0]}: {len(rows):,} of {n_rows:,} are there; the file is cut off, or "
                         "its layer_sizes are wrong")
    wrong = next((row for row in rows if len(row) != n_columns), None)
    if wrong is None:
        try:
            return np.array(rows, np.float64)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    raise ValueError(f"{name}: ({','.join(wrong)[:60]}) is not {n_columns} numbers")


def _single(numbers: Array) -> bool:
    """Whether all are numbers of float32."""
    with np.errstate(over="ignore"):
        return bool((numbers.astype(np.float32) == numbers).all())
