"""Network: layer sizes → one flat parameter vector with views into it."""

from __future__ import annotations

import contextlib
import html
import json
import os
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, SupportsIndex

import numpy as np
import numpy.typing as npt

from fastbp import initialization, losses
from fastbp.alone import Alone
from fastbp.checks import counted, known_as, level_of_caller, one_of, positive, truth, whole_number
from fastbp.core import activations
from fastbp.core.samples import KINDS, Samples, address_of_array
from fastbp.files import read_tensors, write_tensors
from fastbp.inference import MOST_THREADS, WORTH_TRYING, Choice, outputs_of
from fastbp.initialization import INITIALIZERS, MATCHING, Initializer
from fastbp.inputs import as_inputs, decide, of_each_class, several_decisions
from fastbp.names import as_classes, as_feature_names, as_target_names, classifies, listed
from fastbp.randomness import WEIGHTS, generator
from fastbp.workspace import Array, Workspace, aligned, overlap, parameter_offsets, room_for

MOST_SAMPLES = 1 << 40  # in flight: beyond, sizes in bytes are no machine's
FORMAT, FIRST_FORMAT = "fastbp-network-2", "fastbp-network-1"
# What a network is made with; another needs another theta.
FIXED = {"layer_sizes", "activations", "dtype", "n_parameters", "W", "b"}
HIDDEN_ACTIVATIONS = [name for name in activations.CODES if name != "softmax"]


class Network:
    """A dense network: neurons of each layer, activations, and all parameters in one flat vector.

    Parameters
    ----------
    layer_sizes : sequence of int
        Neurons of the input, of each hidden layer and of the output: at least two numbers, each >= 1.
    hidden : str or sequence of str
        Activation of the hidden layers, one for all or one each: identity, sigmoid, tanh, relu, leaky_relu, elu, selu,
        gelu, gelu_tanh (its tanh form), silu, mish, softplus; formulas, errors and sources: fastbp.core.activations.
    output : str
        Activation of the output: those and, for 2 outputs or more, softmax.
    dtype : "float32" or "float64"
    seed : int
        >= 0. Of the initial weights.
    weights : str or function, optional
        How all weights start: lecun_normal, lecun_uniform, glorot_normal, glorot_uniform, he_normal, he_uniform,
        orthogonal, zeros, or a function (generator, n_in, n_out) -> array (n_in, n_out). None: for each layer what its
        activation wants: lecun_normal for selu, he_normal for relu and its smooth or leaky like, glorot_uniform for
        identity, sigmoid, tanh, softplus and softmax. Biases start at 0.
    input_scale : float
        > 0. What inputs are multiplied by as they are read, of whatever type they are: 1/255 for images of bytes.

    Attributes
    ----------
    theta : ndarray (n_parameters,)
        All parameters in one vector.
    W, b : lists of ndarray (n_in, n_out) and (n_out,)
        Views into theta: a change of one is a change of the other. Assigning to W[l] or b[l] copies into it.
    n_parameters : int
    layer_sizes : tuple of int
    activations : tuple of str
    multilabel : bool
        Whether `predict` says yes or no to each of several sigmoid outputs, or else names the largest one. True at
        first; a Trainer sets it by its targets: False for labels (n,), True for rows (n, n_out). The file keeps it.
    feature_names : tuple of str, or None
        Columns of the frame that it was first trained on.
    classes : ndarray (classes,) of str, or None
        Names of the classes, if it was trained on names.
    target_names : tuple of str, or None
        Columns of the frame of targets that it was first trained on, for outputs that take values.

    Raises
    ------
    ValueError, TypeError
        A size, an activation, the dtype, the seed, the weights or the scale are not one of those above.

    References
    ----------
    LeCun, Bottou, Orr, Müller: Efficient BackProp (1998), equation 16.
    He, Zhang, Ren, Sun: Delving Deep into Rectifiers (ICCV 2015), equation 10.
    Glorot, Bengio: Understanding the difficulty of training deep feedforward neural networks (AISTATS 2010),
    equations 12 and 16.
    Saxe, McClelland, Ganguli: Exact solutions to the nonlinear dynamics of learning in deep linear neural networks
    (ICLR 2014), for orthogonal.
    Klambauer, Unterthiner, Mayr, Hochreiter: Self-Normalizing Neural Networks (NeurIPS 2017), section "Initialization".

    Examples
    --------
    >>> net = Network([4, 8, 3], hidden="tanh", output="softmax", seed=0)
    >>> net.n_parameters, net.W[1].shape
    (67, (8, 3))
    >>> net.forward(np.zeros((5, 4))).shape
    (5, 3)
    """

    @known_as({"activation": "there are hidden=... and output=..."})
    def __init__(self, layer_sizes: Sequence[int], hidden: str | Sequence[str] = "relu", output: str = "softmax",
                 dtype: npt.DTypeLike = "float32", seed: int = 0, weights: str | Initializer | None = None,
                 input_scale: float = 1.0):
        if not isinstance(layer_sizes, Iterable):
            raise TypeError(f"layer_sizes must be a sequence of whole numbers, got {layer_sizes!r}")
        self.layer_sizes = tuple(whole_number("a layer size", n, 1) for n in layer_sizes)
        if len(self.layer_sizes) < 2:
            raise ValueError(f"layer_sizes must name at least an input and an output, got {list(self.layer_sizes)}")
        self.activations = _activations(hidden, output, len(self.layer_sizes) - 2)
        if self.activations[-1] == "softmax" and self.layer_sizes[-1] == 1:
            raise ValueError("softmax of a single output is always 1; use sigmoid, or 2 outputs")
        self.dtype = _dtype(dtype)
        self.multilabel = several_decisions(self.layer_sizes[-1], self.activations[-1])
        self._feature_names: tuple[str, ...] | None = None
        self._classes: Array | None = None
        self._target_names: tuple[str, ...] | None = None
        self._allocate()
        self.input_scale = input_scale
        self._initialize(whole_number("seed", seed, 0), weights)

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse what would come apart from theta, or what is no truth value for multilabel."""
        if name in FIXED and name in vars(self):
            advice = f"copy into its layers, {name}[l] = ..." if name in ("W", "b") else "make a new Network"
            raise AttributeError(f"{name} of a network cannot be assigned; {advice}")
        object.__setattr__(self, name, truth(name, value) if name == "multilabel" else value)

    def _allocate(self) -> None:
        *offsets, (self.n_parameters, _) = parameter_offsets(self.layer_sizes)
        self._theta = aligned(self.n_parameters, self.dtype)
        self.W, self.b = self.views(self._theta)
        self.few = WORTH_TRYING // self.n_parameters  # samples for which one thread is enough
        self.choices: dict[int, Choice] = {}  # of the number of threads for calls
        self._idle: list[Workspace] = []  # a Python thread takes one out for its use: pop and append are atomic
        self.alone = Alone()  # held by the thread that trains it

    def _initialize(self, seed: int, weights: str | Initializer | None) -> None:
        if weights is not None and not callable(weights):
            weights = one_of("weights", weights, INITIALIZERS, initialization.ALIASES)
        for l, (W, activation) in enumerate(zip(self.W, self.activations, strict=True)):
            chosen = MATCHING[activation] if weights is None else weights
            make = INITIALIZERS[chosen] if isinstance(chosen, str) else chosen
            made = np.asarray(make(generator(WEIGHTS, seed, l), *W.shape))
            if made.shape != W.shape:
                raise ValueError(f"weights gave shape {made.shape} for a layer of {W.shape}")
            W[:] = made
        check_theta(self)

    @property
    def theta(self) -> Array:
        """All parameters (n_parameters,): W[0], b[0], W[1], ..., contiguous and aligned to 64 bytes.

        `W` and `b` are views into it. Assigning copies into it.

        Raises
        ------
        ValueError
            What is assigned has another shape.

        Examples
        --------
        >>> net = Network([2, 3], seed=0)
        >>> net.theta = np.zeros(9)
        >>> net.W[0][1, 2] = 5.0
        >>> net.theta
        array([0., 0., 0., 0., 0., 5., 0., 0., 0.], dtype=float32)
        """
        return self._theta

    @theta.setter
    def theta(self, values: npt.ArrayLike) -> None:
        if np.shape(values) != self._theta.shape:
            raise ValueError(f"theta has {self.n_parameters} numbers, got shape {np.shape(values)}")
        self._theta[:] = values

    @property
    def input_scale(self) -> float:
        """What inputs are multiplied by as they are read, > 0. The file keeps it.

        Raises
        ------
        ValueError, TypeError
            What is assigned is no number above 0.

        Examples
        --------
        >>> net = Network([784, 10])
        >>> net.input_scale = 1 / 255  # of bytes
        """
        return self._input_scale

    @input_scale.setter
    def input_scale(self, scale: float) -> None:
        self._input_scale = positive("input_scale", scale)

    @property
    def feature_names(self) -> tuple[str, ...] | None:
        """Columns of the frame (of pandas, Polars or PyArrow) that the network was first trained on, as texts.

        In later frames they may come in another order, but none may be missing or added. Arrays have no names and are
        taken as they are; so are frames whose columns are the numbers 0, 1, ..., n_in - 1, in the order of these. It
        can be set; None forgets the names. The file keeps them.

        Raises
        ------
        ValueError, TypeError
            What is assigned is not None or n_in different texts.

        Examples
        --------
        >>> net = Network([2, 3])
        >>> net.feature_names = ["width", "height"]
        >>> net.feature_names
        ('width', 'height')
        """
        return self._feature_names

    @feature_names.setter
    def feature_names(self, names: Iterable[str] | None) -> None:
        self._feature_names = as_feature_names(names, self.layer_sizes[0])

    @property
    def classes(self) -> Array | None:
        """Names of the classes (classes,), if the network was first trained on names; `predict` gives them.

        They are sorted, or in the order of the columns of a frame of rows (of pandas.get_dummies, say), or as they are
        set. Columns of later frames of targets may come in another order, as for `feature_names`. Set it before
        training if the data lack some class; None forgets the names. The file keeps them.

        Raises
        ------
        ValueError, TypeError
            What is assigned is not None or a different text for each class; or outputs take values.

        Examples
        --------
        >>> net = Network([4, 3], weights="zeros")
        >>> net.classes = ["setosa", "versicolor", "virginica"]
        >>> print(net.predict(np.zeros((1, 4))))
        ['setosa']
        """
        return self._classes

    @classes.setter
    def classes(self, names: Iterable[str] | None) -> None:
        self._classes = as_classes(names, self.layer_sizes[-1], self.activations[-1])

    @property
    def target_names(self) -> tuple[str, ...] | None:
        """Columns of the frame of targets that the network was first trained on, if its outputs take values.

        They have the rules of `feature_names`.

        Raises
        ------
        ValueError, TypeError
            What is assigned is not None or a different text for each output; or outputs have classes.

        Examples
        --------
        >>> net = Network([4, 2], output="identity")
        >>> net.target_names = ["length", "weight"]
        """
        return self._target_names

    @target_names.setter
    def target_names(self, names: Iterable[str] | None) -> None:
        self._target_names = as_target_names(names, self.layer_sizes[-1], self.activations[-1])

    def views(self, vector: Array) -> tuple[list[Array], list[Array]]:
        """Weights (n_in, n_out) and biases (n_out,) of each layer, as views into a vector laid out like theta.

        Parameters
        ----------
        vector : ndarray (n_parameters,)

        Returns
        -------
        weights, biases : lists of ndarray
            One view a layer.

        Raises
        ------
        ValueError
            The vector has another shape.

        Examples
        --------
        >>> from fastbp import cost_and_gradient
        >>> net = Network([2, 3, 1], output="identity")
        >>> cost, gradient = cost_and_gradient(net, np.ones((4, 2)), np.zeros(4), loss="quadratic")
        >>> dW, db = net.views(gradient)
        >>> dW[0].shape, db[0].shape
        ((2, 3), (3,))
        """
        if vector.shape != (self.n_parameters,):
            raise ValueError(f"expected a vector of {self.n_parameters} numbers, got shape {vector.shape}")
        *offsets, _ = parameter_offsets(self.layer_sizes)
        sizes = list(zip(self.layer_sizes, self.layer_sizes[1:], strict=False))
        weights = _Views(vector[w:b].reshape(shape) for (w, b), shape in zip(offsets, sizes, strict=True))
        biases = _Views(vector[b : b + n_out] for (_, b), (_, n_out) in zip(offsets, sizes, strict=True))
        return weights, biases

    def take_layers(self, other: Network, layers: Iterable[int] | None = None) -> None:
        """Copy W[l] and b[l] of another network, for some or all of the layers l. Names are not copied.

        Parameters
        ----------
        other : Network
        layers : iterable of int, optional
            From 0 on; None: all.

        Raises
        ------
        ValueError, TypeError
            A layer's shape in the other network is another; or for layer 0 input_scale or the names of features, or
            for the last layer the names of classes or targets. Then nothing is copied.

        Examples
        --------
        >>> trained, net = Network([4, 8, 3], seed=1), Network([4, 8, 5], seed=2)
        >>> net.take_layers(trained, [0])
        >>> bool((net.W[0] == trained.W[0]).all())
        True
        """
        check_network(other)
        if not (layers is None or isinstance(layers, Iterable)):
            raise TypeError(f"layers must be a sequence of whole numbers, got {layers!r}")
        chosen = [whole_number("a layer", l, 0) for l in (range(len(self.W)) if layers is None else layers)]
        for l in chosen:
            if l >= min(len(self.W), len(other.W)) or self.W[l].shape != other.W[l].shape:
                shapes = [net.W[l].shape if l < len(net.W) else "not there" for net in (self, other)]
                raise ValueError(f"layer {l} is {shapes[0]} here, {shapes[1]} in the other network")
        last, names = len(self.W) - 1, (self.feature_names, other.feature_names)
        if 0 in chosen and None not in names and names[0] != names[1]:
            raise ValueError(f"feature_names are {listed(names[0] or ())} here, {listed(names[1] or ())} in the other "
                             "network, whose layer 0 is made for them")
        if last in chosen and not (self.classes is None or other.classes is None
                                   or np.array_equal(self.classes, other.classes)):
            raise ValueError(f"classes are {listed(self.classes)} here, {listed(other.classes)} in the other network, "
                             "whose last layer is made for them")
        targets = (self.target_names, other.target_names)
        if last in chosen and None not in targets and targets[0] != targets[1]:
            raise ValueError(f"target_names are {listed(targets[0] or ())} here, {listed(targets[1] or ())} in the "
                             "other network, whose last layer is made for them")
        if 0 in chosen and self.input_scale != other.input_scale:
            raise ValueError(f"input_scale is {self.input_scale} here, {other.input_scale} in the other network, whose "
                             "layer 0 is made for it")
        for l in chosen:
            self.W[l], self.b[l] = other.W[l], other.b[l]

    def workspace(self, capacity: int) -> Workspace:
        """Buffers for up to `capacity` samples at a time, for users of the kernels.

        Parameters
        ----------
        capacity : int
            >= 1, in samples.

        Raises
        ------
        ValueError, TypeError
            The capacity is out of its range.

        Examples
        --------
        >>> Network([4, 8, 3]).workspace(32).a[-1].shape
        (32, 3)
        """
        capacity = whole_number("capacity", capacity, 1, MOST_SAMPLES)
        return Workspace(self.layer_sizes, self.activations, self.dtype, capacity)

    def forward(self, X: npt.ArrayLike, threads: int | None = None, *, out: Array | None = None) -> Array:
        """Outputs a[L] of samples.

        Parameters
        ----------
        X : array_like (n, n_in), or a frame; or one sample, an array (n_in,)
            They are multiplied by input_scale. A contiguous array of the network's dtype costs least.
        threads : int, optional
            None: one, or as many as there are where that was measured to be faster. The bits are the same.
        out : ndarray (n, n_out), of the network's dtype, optional
            Where to write them, which is then what is returned: nothing is allocated. It may be X itself or overlap
            it, of which a copy is then read.

        Returns
        -------
        ndarray (n, n_out); of one sample (n_out,)

        Raises
        ------
        ValueError, TypeError
            X does not fit the network or is not finite, and then `out` may hold anything; or `out` does not fit.

        Examples
        --------
        >>> Network([4, 3], weights="zeros").forward([[1, 2, 3, 4]]).round(2)
        array([[0.33, 0.33, 0.33]], dtype=float32)
        """
        if threads is not None:
            threads = whole_number("threads", threads, 1, MOST_THREADS)
        if type(X) is np.ndarray:
            if out is not None and overlap(out, X):
                X = X.copy()
            if X.ndim == 1 and X.shape == self.layer_sizes[:1]:
                outputs = self.forward(X[np.newaxis], threads, out=None if out is None else np.atleast_2d(out))
                return outputs[0] if out is None else out
            if self._takes_short_way(X):
                n = len(X)
                outputs = room_for(out, (n, self.layer_sizes[-1]), self.dtype)
                if outputs_of(self, X, n, threads, outputs):
                    return outputs
        return self._forward_any(X, threads, out)

    def _takes_short_way(self, X: Array) -> bool:
        """Whether these are samples just as a kernel reads them."""
        return (X.ndim == 2 and X.shape[1] == self.layer_sizes[0] and len(X) > 0
                and (X.dtype == self.dtype or X.dtype == np.float64) and X.flags.carray)

    def _forward_any(self, X: npt.ArrayLike, threads: int | None, out: Array | None) -> Array:
        """Of samples of all kinds."""
        samples = _as_it_lies(X, self)
        if samples is not None:
            n = len(X)  # type: ignore[arg-type]
            outputs = room_for(out, (n, self.layer_sizes[-1]), self.dtype)
            if outputs_of(self, samples, n, threads, outputs):
                return outputs
        x = as_inputs(X, self)
        if out is not None and overlap(out, x.array):
            x = x.taken()
        outputs = room_for(out, (len(x), self.layer_sizes[-1]), self.dtype)
        if not outputs_of(self, x.samples, len(x), threads, outputs):
            raise ValueError(f"X times the network's input_scale={self.input_scale} is too large for {self.dtype}")
        return outputs

    def take_workspace(self, rows: int) -> Workspace:
        """One for at least so many samples, an idle one if it can be, which nobody else uses until `give_back`."""
        try:
            workspace = self._idle.pop()
        except IndexError:
            return self.workspace(rows)
        return workspace if workspace.capacity >= rows else self.workspace(rows)

    def give_back(self, workspace: Workspace) -> None:
        """It is idle again; one that is lost, as where Ctrl-C comes, is made anew at need."""
        self._idle.append(workspace)

    def predict(self, X: npt.ArrayLike, threads: int | None = None) -> Array:
        """Return what the outputs of samples mean: labels of classes, or values.

        A sigmoid output means yes, label 1, from 1/2 on.

        Parameters
        ----------
        X, threads
            As of `forward`.

        Returns
        -------
        ndarray
            Sigmoid and softmax outputs: labels (n,), numbers or, if `classes` has them, names. If each of several
            sigmoid outputs is a class of its own (see multilabel): rows of 0 and 1 (n, n_out). Other outputs: the
            outputs themselves, (n, n_out), or (n,) of a single one, so that y - predict(X) is (n,) for values y (n,).
            Of one sample, an array (n_in,): what its row would be.

        Raises
        ------
        ValueError, TypeError
            X does not fit the network or is not finite.

        Warns
        -----
        RuntimeWarning
            An output is NaN.

        Examples
        --------
        >>> Network([4, 3], output="softmax").predict(np.zeros((2, 4)))
        array([0, 0])
        """
        outputs = self.forward(X, threads)
        return self._decided(outputs) if outputs.ndim == 2 else self._decided(outputs[np.newaxis])[0]

    def _decided(self, outputs: Array) -> Array:
        """What outputs (n, n_out) mean."""
        if not classifies(self.activations[-1]):
            return outputs[:, 0] if outputs.shape[1] == 1 else outputs
        if np.isnan(outputs.sum()):  # at a third of the time of looking at each
            unknown = int(np.isnan(outputs).any(axis=1).sum())
            warnings.warn(f"{unknown} of {counted(len(outputs), 'output')} {'is' if len(outputs) == 1 else 'are'} NaN, "
                          "and their labels say nothing: the parameters or the inputs are too large", RuntimeWarning,
                          stacklevel=level_of_caller())
        if self.multilabel and several_decisions(self.layer_sizes[-1], self.activations[-1]):
            return (outputs >= 0.5).astype(np.int64)
        labels = decide(outputs)
        return labels if self._classes is None else np.asarray(self._classes[labels])

    def predict_proba(self, X: npt.ArrayLike, threads: int | None = None) -> Array:
        """Return the probability of each class: the outputs, and of a single sigmoid output also that of label 0.

        Parameters
        ----------
        X, threads
            As of `forward`.

        Returns
        -------
        ndarray (n, classes); of one sample (classes,)
            In the order of the labels, or of `classes`.

        Raises
        ------
        ValueError, TypeError
            Outputs are values; or X does not fit the network or is not finite.

        Examples
        --------
        >>> Network([4, 1], output="sigmoid").predict_proba(np.zeros((1, 4)))
        array([[0.5, 0.5]], dtype=float32)
        """
        if not classifies(self.activations[-1]):
            raise ValueError(f"predict_proba needs sigmoid or softmax outputs, the network has {self.activations[-1]}")
        outputs = self.forward(X, threads)
        return of_each_class(outputs) if outputs.ndim == 2 else of_each_class(outputs[np.newaxis])[0]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network to a safetensors file: W1, b1, W2, ... and its description.

        Parameters
        ----------
        path : str or path
            An old file there is replaced at once, or stays whole if the new one cannot be written.

        Raises
        ------
        OSError
            The file cannot be written.
        ValueError
            A parameter is not finite.

        Examples
        --------
        >>> import os, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "flowers.safetensors")
        ...     Network([4, 8, 3]).save(path)
        ...     net = Network.load(path)
        >>> net.layer_sizes
        (4, 8, 3)
        """
        check_theta(self)
        tensors = {}
        for l, (W, b) in enumerate(zip(self.W, self.b, strict=True), start=1):
            tensors[f"W{l}"], tensors[f"b{l}"] = W, b
        description = {"format": FORMAT, "layer_sizes": json.dumps(self.layer_sizes),
                       "activations": json.dumps(self.activations), "dtype": self.dtype.name,
                       "input_scale": json.dumps(self.input_scale), "multilabel": json.dumps(self.multilabel),
                       "feature_names": json.dumps(self.feature_names),
                       "target_names": json.dumps(self.target_names),
                       "classes": json.dumps(None if self._classes is None else self._classes.tolist())}
        write_tensors(path, tensors, description)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Network:
        """Read a network that `save` wrote.

        Parameters
        ----------
        path : str or path

        Raises
        ------
        FileNotFoundError
            There is no such file.
        ValueError
            The file is damaged, or is not of a fastbp network.

        Warns
        -----
        UserWarning
            The file is of a version that kept no input_scale.

        Examples
        --------
        >>> try:
        ...     Network.load("missing.safetensors")
        ... except FileNotFoundError:
        ...     print("train one first")
        train one first
        """
        description, tensors = read_tensors(path, (FORMAT, FIRST_FORMAT))
        first = description.get("format") == FIRST_FORMAT
        if not (first or description.get("format") == FORMAT):
            raise ValueError(f"{os.fspath(path)} is not a fastbp network: format {description.get('format')!r}, "
                             f"expected {FORMAT!r}")
        try:
            *hidden, output = json.loads(description["activations"])
            layer_sizes = json.loads(description["layer_sizes"])
            held, needed = sum(tensor.size for tensor in tensors.values()), parameter_offsets(layer_sizes)[-1][0]
            if held != needed:  # found before memory is taken for it
                raise ValueError(f"{held} parameters, layer sizes {layer_sizes} need {needed}")
            scale = 1.0 if first else json.loads(description["input_scale"])
            network = cls(layer_sizes, hidden, output, description["dtype"], weights="zeros", input_scale=scale)
            network.multilabel = not first and truth("multilabel", json.loads(description["multilabel"]))
            network.feature_names = json.loads(description.get("feature_names", "null"))
            network.classes = json.loads(description.get("classes", "null"))
            network.target_names = json.loads(description.get("target_names", "null"))
            network._fill(tensors)
        except KeyError as error:
            raise ValueError(f"{os.fspath(path)} holds no valid fastbp network: it lacks {error}") from None
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"{os.fspath(path)} holds no valid fastbp network: {error}") from None
        if first:
            warnings.warn(f"{os.fspath(path)} is of an earlier version, which divided inputs of type uint8 by 255; if "
                          "it was trained on those, set network.input_scale = 1 / 255 and save it again", stacklevel=2)
        return network

    def to_onnx(self, path: str | os.PathLike[str], input_dtype: str | None = None) -> None:
        """Write the network as an ONNX model, which ONNX Runtime and others run without fastbp.

        The input `X` is (N, n_in), for any N; input_scale is part of the graph. Sigmoid and softmax outputs give
        `label`, as `predict` does, and `probabilities`, as `predict_proba` does; other outputs are `variable` (N,
        n_out), as `forward` gives them.

        Parameters
        ----------
        path : str or path
            An old file there is replaced at once, or stays whole if the new one cannot be written.
        input_dtype : "uint8", "float32" or "float64", optional
            Of X; None: the network's. "uint8" takes bytes of images as they are.

        Raises
        ------
        ImportError
            onnx is not installed: pip install "fastbp[onnx]".
        OSError
            The file cannot be written.
        ValueError
            A parameter is not finite, the parameters are 2 GiB or more, or the type of X is not one of those above.

        Examples
        --------
        >>> net = Network([784, 32, 10], input_scale=1 / 255)
        >>> net.to_onnx("digits.onnx", input_dtype="uint8")  # doctest: +SKIP
        """
        from fastbp import onnx

        check_theta(self)
        onnx.write(self, path, input_dtype)

    @classmethod
    def from_onnx(cls, path: str | os.PathLike[str]) -> Network:
        """Read an ONNX model that is a chain of dense layers, from `to_onnx`, PyTorch, skl2onnx or others.

        Layers are Gemm or MatMul with constant weights. Constants that are added or multiplied before the first or
        right behind one, and batch normalisation, become part of the layer. Activations may be written in any nodes.

        Parameters
        ----------
        path : str or path

        Returns
        -------
        Network
            Of the weights' dtype. Names of features, classes and targets are read of models that `to_onnx` wrote.

        Raises
        ------
        ImportError
            onnx is not installed: pip install "fastbp[onnx]".
        FileNotFoundError
            There is no such file.
        ValueError
            It is no valid ONNX model; or a node, which is named, is no part of a chain of dense layers, or computes an
            activation that fastbp does not have.

        Examples
        --------
        >>> net = Network.from_onnx("digits.onnx")  # doctest: +SKIP
        """
        from fastbp import onnx_reading

        layers, scale, names = onnx_reading.read(path)
        try:
            *hidden, output = [layer.activation for layer in layers]
            dtypes = {layer.W.dtype.name for layer in layers}
            if len(dtypes) > 1:
                raise ValueError(f"its weights are {' and '.join(sorted(dtypes))}")
            network = cls([len(layers[0].W), *(len(layer.b) for layer in layers)], hidden, output, dtypes.pop(),
                          weights="zeros", input_scale=scale)
            for l, layer in enumerate(layers):
                network.W[l], network.b[l] = layer.W, layer.b
            check_theta(network)
            for name in names:
                if name in ("multilabel", "feature_names", "target_names", "classes"):
                    setattr(network, name, names[name])
        except (TypeError, ValueError) as error:
            raise ValueError(f"{os.fspath(path)} is no network of fastbp: {error}") from None
        return network

    def _fill(self, tensors: dict[str, Array]) -> None:
        for l, (W, b) in enumerate(zip(self.W, self.b, strict=True), start=1):
            for name, view in ((f"W{l}", W), (f"b{l}", b)):
                tensor = tensors[name]
                if tensor.shape != view.shape or tensor.dtype != view.dtype:
                    raise ValueError(f"{name} is {tensor.dtype} {tensor.shape}, expected {view.dtype} {view.shape}")
                view[:] = tensor
        check_theta(self)

    def __getstate__(self) -> dict[str, Any]:
        return {"layer_sizes": self.layer_sizes, "activations": self.activations, "dtype": self.dtype,
                "theta": self._theta, "input_scale": self.input_scale, "multilabel": self.multilabel,
                "feature_names": self._feature_names, "classes": self._classes,
                "target_names": self._target_names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.layer_sizes, self.activations, self.dtype = state["layer_sizes"], state["activations"], state["dtype"]
        self.multilabel = state["multilabel"]
        self._feature_names, self._classes = state.get("feature_names"), state.get("classes")
        self._target_names = state.get("target_names")
        self._allocate()
        self._theta[:], self.input_scale = state["theta"], state["input_scale"]

    def summary(self) -> str:
        """Return a table of the layers: weights W[l] of which shape, activation, parameters (W[l] and b[l]).

        Examples
        --------
        >>> print(Network([784, 100, 10]).summary())
        layer  W           activation  parameters
            0  (784, 100)  relu            78,500
            1  (100, 10)   softmax          1,010
        total                              79,510
        """
        rows = self._rows()
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        align = (str.rjust, str.ljust, str.ljust, str.rjust)
        return "\n".join("  ".join(by(cell, width) for by, cell, width in zip(align, row, widths, strict=True))
                         for row in rows)

    def _rows(self) -> list[list[str]]:
        """A heading, the layers and their sum, as texts."""
        layers = zip(self.W, self.b, self.activations, strict=True)
        return [["layer", "W", "activation", "parameters"],
                *([str(l), str(W.shape), name, f"{W.size + b.size:,}"] for l, (W, b, name) in enumerate(layers)),
                ["total", "", "", f"{self.n_parameters:,}"]]

    def __repr__(self) -> str:
        scale = "" if self.input_scale == 1 else f", input_scale={self.input_scale!r}"
        return (f"Network({list(self.layer_sizes)}, hidden={list(self.activations[:-1])}, "
                f"output={self.activations[-1]!r}, dtype={self.dtype.name!r}{scale})")

    def _repr_html_(self) -> str:
        """For notebooks: the table of `summary`."""
        heading, *rows = ["".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row)
                          for row, tag in zip(self._rows(), ["th"] + ["td"] * (len(self.W) + 1), strict=True)]
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        return (f"<p>{html.escape(repr(self))}</p>"
                f"<table><thead><tr>{heading}</tr></thead><tbody>{body}</tbody></table>")


class _Views(list[Array]):
    """One view a layer; assigning to it copies, so that it never comes apart from its vector."""

    def __setitem__(self, l: SupportsIndex, values: npt.ArrayLike) -> None:  # type: ignore[override]
        self[l][...] = values


def _activations(hidden: str | Sequence[str], output: str, n_hidden: int) -> tuple[str, ...]:
    if isinstance(hidden, str) or not isinstance(hidden, Iterable):
        hidden = [one_of("hidden activation", hidden, HIDDEN_ACTIVATIONS, activations.ALIASES)] * n_hidden
    names = [one_of("hidden activation", name, HIDDEN_ACTIVATIONS, activations.ALIASES) for name in hidden]
    if len(names) != n_hidden:
        raise ValueError(f"hidden names {len(names)} activations for "
                         f"{counted(n_hidden, 'hidden layer')}")
    return (*names, one_of("output activation", output, activations.CODES, activations.ALIASES))


def _dtype(dtype: npt.DTypeLike) -> np.dtype[Any]:
    with contextlib.suppress(TypeError):
        if dtype is not None and np.dtype(dtype) in (np.dtype("float32"), np.dtype("float64")):  # None means float64
            return np.dtype(dtype)
    raise ValueError(f"unknown dtype {dtype!r}; valid: float32, float64")


def check_network(network: Network) -> Network:
    """`network`, if it is one; otherwise a TypeError."""
    if not isinstance(network, Network):
        raise TypeError(f"network must be a Network, got {network!r}")
    return network


def all_finite(x: Array) -> bool:
    """Whether every number is finite."""
    return bool(np.isfinite(x).all())


def check_theta(network: Network) -> None:
    """Raise ValueError unless every parameter is finite."""
    if not all_finite(network.theta):
        i = int(np.argmin(np.isfinite(network.theta)))
        raise ValueError(f"theta[{i}] of the network is {network.theta[i]}; every parameter must be finite")


def check_loss(loss: str | losses.Loss | None, output: str, n_out: int) -> losses.Loss:
    """The loss itself or by name, or for None the one that matches the output activation; raises if it does not fit
    that, or the number of outputs."""
    if loss is None:
        return next((kind() for kind in losses.LOSSES.values() if output in kind.outputs), losses.Quadratic())
    if isinstance(loss, str):
        aliases = losses.ALIASES | ({"logloss": "binary_cross_entropy"} if output == "sigmoid" else {})
        loss = losses.LOSSES[one_of("loss", loss, losses.LOSSES, aliases)]()
    if not isinstance(loss, losses.Loss):
        own = "; of your own function make one: losses.Custom(function)" if callable(loss) else ""
        raise TypeError(f"loss must be a name or one of fastbp.losses, got {loss!r}{own}")
    if loss.outputs and output not in loss.outputs:
        others = ", ".join(name for name, kind in losses.LOSSES.items() if not kind.outputs)
        raise ValueError(f"loss {loss} needs {' or '.join(loss.outputs)} outputs, the network has {output}; these take "
                         f"any output: {others}")
    if n_out < loss.least_outputs:
        raise ValueError(f"loss {loss} needs at least {loss.least_outputs} outputs, the network has {n_out}; for a "
                         "single value take quadratic, mean_absolute or huber")
    return loss


def _as_it_lies(X: Any, network: Network) -> Samples | None:
    """The samples of an array that needs no conversion, at a tenth of the time of a call that takes all that may come;
    None where X is something else, or to be refused."""
    if not (type(X) is np.ndarray and X.ndim == 2 and X.shape[1] == network.layer_sizes[0] and len(X)
            and X.dtype in KINDS and X.flags.c_contiguous and X.flags.aligned):
        return None
    return Samples(address_of_array(X), X.strides[0], 1, KINDS[X.dtype], network.input_scale)
