"""Weights of Keras in HDF5 files, read; `Network.from_keras` calls it.

Keras 3 (`*.weights.h5`) has a group for each layer, named after its class: dense, dense_1, ... in the model's order,
whatever the layers' own names are. HDF5 lists them as text, dense_10 before dense_2. Older files (`*.h5`) have groups
of the layers' own names, whose order is in the attribute layer_names; with a whole model its classes are there, too.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp.data.stores import needed

# Layers without weights that a prediction passes by, or activations, which `hidden` and `output` say.
PASSED_BY = {"inputlayer", "input", "dropout", "alphadropout", "gaussiandropout", "gaussiannoise", "flatten",
             "activation", "relu", "softmax"}
Array = npt.NDArray[Any]


def read(path: str | os.PathLike[str]) -> tuple[list[Array], list[Array]]:
    """Return kernels (n_in, n_out) and biases (n_out,) in the order of the layers; see Network.from_keras."""
    h5py = needed("h5py", Path(path))
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {os.fspath(path)}")
    try:
        with open(path, "rb") as file:
            if file.read(2) == b"PK":
                raise ValueError("it is a whole model (.keras): load it in Keras, and write model.save_weights("
                                 "'model.weights.h5')")
        with h5py.File(path, "r") as file:
            pairs = [_pair(name, arrays) for name, arrays in (_layers if "layers" in file else _old_layers)(file)]
        return _chained(pairs)
    except Exception as error:  # of a damaged file they may be of any type
        said = str(error) if isinstance(error, (ValueError, OSError)) else f"it is damaged: {error}"
        raise ValueError(f"{os.fspath(path)} cannot be read as Dense weights of Keras: {said}") from None


def _layers(file: Any) -> Iterator[tuple[str, list[Array]]]:
    """Yield name and arrays of each Dense of Keras 3."""
    others = sorted(set(file) - {"layers", "optimizer", "vars"})
    if others:
        raise ValueError(f"it has {others[0]!r} beside its layers, so their order is not clear: its model is neither "
                         "Sequential nor functional")
    found = {}
    for name, layer in file["layers"].items():
        kind, number = re.fullmatch(r"(.*?)(?:_([0-9]{1,9}))?", name).groups()  # type: ignore[union-attr]
        arrays = layer["vars"]
        if _is_dense(name, kind, len(arrays), set(layer) - {"vars"}):
            found[int(number or 0)] = [arrays[str(i)][...] for i in range(len(arrays))]
    if sorted(found) != list(range(len(found))):
        raise ValueError(f"its Dense layers are numbered {', '.join(map(str, sorted(found)))}; one is missing")
    for number in range(len(found)):
        yield f"dense_{number}" if number else "dense", found[number]


def _old_layers(file: Any) -> Iterator[tuple[str, list[Array]]]:
    """Yield name and arrays of each Dense of a file of older form."""
    root = file.get("model_weights", file)
    if "layer_names" not in root.attrs:
        raise ValueError("it has neither layers nor layer_names")
    config = json.loads(file.attrs.get("model_config", "{}")).get("config", [])
    listed = config if isinstance(config, list) else config["layers"]  # a list in 2018
    classes = {layer["config"]["name"]: layer["class_name"] for layer in listed}
    for name in _texts(root.attrs["layer_names"]):
        weights = _texts(root[name].attrs["weight_names"])
        last = [each.rpartition("/")[2].partition(":")[0] for each in weights]
        kind = classes.get(name, "dense" if last in (["kernel"], ["kernel", "bias"]) else re.sub("_[0-9]+$", "", name))
        if _is_dense(name, kind, len(weights), set()):
            yield name, [root[name][each][...] for each in weights]


def _texts(names: Any) -> list[str]:
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


def _is_dense(name: str, kind: str, n_arrays: int, within: set[str]) -> bool:
    """Whether a layer is a Dense; others are passed by, or refused."""
    kind = kind.replace("_", "").lower()
    if kind == "dense" and n_arrays in (1, 2) and not within:
        return True
    if kind in PASSED_BY and not n_arrays:
        return False
    what = f"has {n_arrays} arrays, not a kernel and a bias" if kind == "dense" else "is no Dense"
    raise ValueError(f"layer {name!r} {what}; a Network takes Dense layers alone, and passes by those that change "
                     "nothing in a prediction")


def _pair(name: str, arrays: list[Array]) -> tuple[str, Array, Array]:
    """Return a layer's name, kernel and bias, which is 0 if it has none."""
    kernel, bias = arrays if len(arrays) == 2 else (*arrays, np.zeros(arrays[0].shape[-1:], arrays[0].dtype))
    if kernel.ndim != 2 or bias.shape != kernel.shape[1:]:
        raise ValueError(f"layer {name!r} has a kernel {kernel.shape} and a bias {bias.shape}; expected (n_in, n_out) "
                         "and (n_out,)")
    for array in kernel, bias:
        if array.dtype.name not in ("float32", "float64"):
            raise ValueError(f"layer {name!r} has weights of type {array.dtype}; expected float32 or float64")
    return name, kernel, bias


def _chained(pairs: list[tuple[str, Array, Array]]) -> tuple[list[Array], list[Array]]:
    if not pairs:
        raise ValueError("it has no Dense layer")
    for (before, given, _), (name, kernel, _) in zip(pairs, pairs[1:], strict=False):
        if len(kernel) != given.shape[1]:
            raise ValueError(f"layer {name!r} takes {len(kernel)} numbers a sample, and {before!r} before it gives "
                             f"{given.shape[1]}: they are no chain")
    types = sorted({array.dtype.name for _, *arrays in pairs for array in arrays})
    if len(types) > 1:
        raise ValueError(f"its weights are {' and '.join(types)}")
    return [kernel for _, kernel, _ in pairs], [bias for _, _, bias in pairs]
