"""Network: all parameters in one flat vector, with a view for each layer."""

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

from fastbp import initialization, losses, readers
from fastbp.alone import Alone
from fastbp.checks import counted, known_as, level_of_caller, one_of, positive, truth, whole_number
from fastbp.core import activations
from fastbp.core.samples import KINDS, Samples, address_of_array
from fastbp.files import read_tensors, write_tensors
from fastbp.inference import MOST_THREADS, WORTH_TRYING, Choice, infer, outputs_of
from fastbp.initialization import INITIALIZERS, MATCHING, Initializer
from fastbp.inputs import as_inputs, decide, of_each_class, several_decisions
from fastbp.names import as_classes, as_feature_names, as_target_names, classifies, listed
from fastbp.randomness import WEIGHTS, generator
from fastbp.workspace import Array, Workspace, aligned, overlap, parameter_offsets, room_for

MOST_SAMPLES = 1 << 40  # samples at once: more would not fit the memory of any machine
FORMAT, FIRST_FORMAT = "fastbp-network-2", "fastbp-network-1"
# Arguments that cannot be changed later: they determine theta.
FIXED = {"layer_sizes", "activations", "dtype", "n_parameters", "W", "b"}
HIDDEN_ACTIVATIONS = [name for name in activations.CODES if name != "softmax"]


class Network:
    """A dense network: layer sizes, activations, and all parameters in one flat vector.

    Parameters
    ----------
    layer_sizes : sequence of int
        Neurons of the input, of each hidden layer and of the output: at least two numbers, each >= 1.
    hidden : str or sequence of str
        Activation of the hidden layers, one for all or one each: identity, sigmoid, tanh, relu, leaky_relu, elu, selu,
        gelu, gelu_tanh (its tanh form), silu, mish, softplus; formulas, errors and sources: fastbp.core.activations.
    output : str
        Activation of the output: one of those or, for 2 outputs or more, softmax.
    dtype : "float32" or "float64"
    seed : int
        >= 0. Seed of the initial weights.
    weights : str or function, optional
        Initial weights: lecun_normal, lecun_uniform, glorot_normal, glorot_uniform, he_normal, he_uniform,
        orthogonal, zeros, or a function (generator, n_in, n_out) -> array (n_in, n_out). None: what suits
        each activation: lecun_normal for selu, he_normal for relu and its smooth or leaky variants, glorot_uniform for
        identity, sigmoid, tanh, softplus and softmax. Biases start at 0.
    input_scale : float
        > 0. Factor by which inputs of any type are multiplied when they are read: 1/255 for images of bytes.

    Attributes
    ----------
    theta : ndarray (n_parameters,)
        All parameters in one vector.
    W, b : lists of ndarray (n_in, n_out) and (n_out,)
        Views into theta: a change of one changes the other. Assigning to W[l] or b[l] copies into it.
    n_parameters : int
    layer_sizes : tuple of int
    activations : tuple of str
    multilabel : bool
        Whether `predict` decides yes or no for each of several sigmoid outputs, instead of choosing the largest one.
        Initially True; training sets it from the targets: False for labels (n,), True for rows (n, n_out). `save`
        keeps it.
    feature_names : tuple of str, or None
        Column names of the frame that it was first trained on.
    classes : ndarray (classes,) of str, or None
        Names of the classes, if it was trained on names.
    target_names : tuple of str, or None
        Column names of the frame of targets that it was first trained on, if its outputs are values.

    Raises
    ------
    ValueError, TypeError
        A size, an activation, the dtype, the seed, the weights or the scale is not valid.

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
        self.activations = activation_names(hidden, output, len(self.layer_sizes) - 2)
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
        """Refuse assignments that would separate views from theta, and values of multilabel that are not booleans."""
        if name in FIXED and name in vars(self):
            advice = f"copy into its layers, {name}[l] = ..." if name in ("W", "b") else "make a new Network"
            raise AttributeError(f"{name} of a network cannot be assigned; {advice}")
        object.__setattr__(self, name, truth(name, value) if name == "multilabel" else value)

    def _allocate(self) -> None:
        *offsets, (self.n_parameters, _) = parameter_offsets(self.layer_sizes)
        self._theta = aligned(self.n_parameters, self.dtype)
        self.W, self.b = self.views(self._theta)
        self.few = WORTH_TRYING // self.n_parameters  # samples for which one thread is enough
        self.choices: dict[int, Choice] = {}  # numbers of threads for calls of different sizes
        self._idle: list[Workspace] = []  # a Python thread takes one out while it uses it: pop and append are atomic
        self.alone = Alone()  # held by the thread that trains it

    def _initialize(self, seed: int, weights: str | Initializer | None) -> None:
        if weights is not None and not callable(weights):
            weights = one_of("weights", weights, INITIALIZERS, initialization.ALIASES)
        for l, (W, activation) in enumerate(zip(self.W, self.activations, strict=True)):
            chosen = MATCHING[activation] if weights is None else weights
            make = INITIALIZERS[chosen] if isinstance(chosen, str) else chosen
            made = np.asarray(make(generator(WEIGHTS, seed, l), *W.shape))
            if made.shape != W.shape:
                raise ValueError(f"the function weights must return an array of shape {W.shape}, got {made.shape}")
            W[:] = made
        check_theta(self)

    @property
    def theta(self) -> Array:
        """All parameters (n_parameters,): W[0], b[0], W[1], ..., contiguous and aligned to 64 bytes.

        `W` and `b` are views into it. An assignment copies the values.

        Raises
        ------
        ValueError
            The assigned array has another shape.

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
            raise ValueError(f"theta must have shape ({self.n_parameters},), got {np.shape(values)}")
        self._theta[:] = values

    @property
    def input_scale(self) -> float:
        """Factor by which inputs are multiplied when they are read, > 0. `save` keeps it.

        Raises
        ------
        ValueError, TypeError
            The assigned value is not a number above 0.

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
        """Column names of the frame (pandas, Polars or PyArrow) that the network was first trained on, as strings.

        Later frames may have them in another order, but none may be missing or added. Arrays have no names and are
        taken as they are. The columns of a frame may also be the numbers 0, 1, ..., n_in - 1, in any order. The names
        can be set; None removes them. `save` keeps them.

        Raises
        ------
        ValueError, TypeError
            The assigned value is not None or n_in different strings.

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
        """Names of the classes (classes,), if the network was first trained on names; `predict` returns them.

        They are sorted, or in the column order of a frame of rows (such as pandas.get_dummies returns), or as set.
        Later frames of targets may have the columns in another order, as for `feature_names`. Set them before training
        if the data lack a class; None removes them. `save` keeps them.

        Raises
        ------
        ValueError, TypeError
            The assigned value is not None or a different string for each class; or outputs are values.

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
        """Column names of the frame of targets that the network was first trained on, if its outputs are values.

        They follow the rules of `feature_names`.

        Raises
        ------
        ValueError, TypeError
            The assigned value is not None or a different string for each output; or outputs are classes.

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
        """Return weights (n_in, n_out) and biases (n_out,) of each layer, as views into a vector laid out like theta.

        Parameters
        ----------
        vector : ndarray (n_parameters,)

        Returns
        -------
        weights, biases : lists of ndarray
            One view per layer.

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
            raise ValueError(f"vector must have shape ({self.n_parameters},), as theta has, got {vector.shape}")
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
            Layers counted from 0; None: all.

        Raises
        ------
        ValueError, TypeError
            A layer has another shape in the other network; or, for layer 0, input_scale or the feature names differ;
            or, for the last layer, the names of classes or targets differ. Then nothing is copied.

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

    def workspace(self, capacity: int, *, sparse: bool = False) -> Workspace:
        """Return buffers for up to `capacity` samples at a time, for users of the kernels.

        Parameters
        ----------
        capacity : int
            >= 1, number of samples.
        sparse : bool
            Whether samples are sparse: then there is no room for a[0].

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
        return Workspace(self.layer_sizes, self.activations, self.dtype, capacity, sparse)

    def forward(self, X: npt.ArrayLike, threads: int | None = None, *, out: Array | None = None) -> Array:
        """Return the outputs a[L] for samples.

        Parameters
        ----------
        X : array_like (n, n_in), a frame, or a sparse array; or one sample, an array (n_in,)
            Multiplied by input_scale. A contiguous array of the network's dtype is fastest.
        threads : int, optional
            None: one, or all if this was measured to be faster. The result is bit-identical.
        out : ndarray (n, n_out), of the network's dtype, optional
            Where to write the outputs; then it is also returned, and nothing is allocated. It may be X itself or
            overlap it; then a copy of X is read.

        Returns
        -------
        ndarray (n, n_out); for one sample (n_out,)

        Raises
        ------
        ValueError, TypeError
            X does not fit the network or is not finite; then the content of `out` is undefined. Or `out` does not fit.

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
        """Whether a kernel can read these samples as they are."""
        return (X.ndim == 2 and X.shape[1] == self.layer_sizes[0] and len(X) > 0
                and (X.dtype == self.dtype or X.dtype == np.float64) and X.flags.carray)

    def _forward_any(self, X: npt.ArrayLike, threads: int | None, out: Array | None) -> Array:
        """Return the outputs for samples of every accepted kind."""
        samples = _as_it_lies(X, self)
        if samples is not None:
            n = len(X)  # type: ignore[arg-type]
            outputs = room_for(out, (n, self.layer_sizes[-1]), self.dtype)
            if outputs_of(self, samples, n, threads, outputs):
                return outputs
        x = as_inputs(X, self, sparse=True)
        if out is not None and any(overlap(out, array) for array in x.arrays):
            x = x.taken()
        outputs = room_for(out, (len(x), self.layer_sizes[-1]), self.dtype)
        if x.is_sparse:
            fits = x.array.fits(self.input_scale, self.dtype)
            infer(self, x, None, None, threads, outputs=outputs)
        else:
            fits = outputs_of(self, x.samples, len(x), threads, outputs)
        if not fits:
            raise ValueError(f"X times the network's input_scale={self.input_scale} is too large for {self.dtype}")
        return outputs

    def take_workspace(self, rows: int) -> Workspace:
        """Return a workspace for at least `rows` samples, an idle one if possible, for one caller until `give_back`."""
        try:
            workspace = self._idle.pop()
        except IndexError:
            return self.workspace(rows)
        return workspace if workspace.capacity >= rows else self.workspace(rows)

    def give_back(self, workspace: Workspace) -> None:
        """Mark a workspace as idle; one that is lost, as after Ctrl-C, is replaced when needed."""
        self._idle.append(workspace)

    def predict(self, X: npt.ArrayLike, threads: int | None = None) -> Array:
        """Return predictions for samples: labels of classes, or values.

        A sigmoid output of at least 1/2 means yes, label 1.

        Parameters
        ----------
        X, threads
            See `forward`.

        Returns
        -------
        ndarray
            Sigmoid and softmax outputs: labels (n,), as names if `classes` is set, else as numbers. If each of several
            sigmoid outputs is a class of its own (see multilabel): rows of 0 and 1 (n, n_out). Other outputs: the
            outputs themselves, (n, n_out), or (n,) for a single output, so that y - predict(X) is (n,) for values y
            (n,). For one sample, an array (n_in,): the result without the first axis.

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
        """Return the predictions that outputs (n, n_out) mean."""
        if not classifies(self.activations[-1]):
            return outputs[:, 0] if outputs.shape[1] == 1 else outputs
        if np.isnan(outputs.sum()):  # in a third of the time of checking each element
            unknown = int(np.isnan(outputs).any(axis=1).sum())
            warnings.warn(f"{unknown} of {counted(len(outputs), 'output')} {'is' if len(outputs) == 1 else 'are'} NaN, "
                          "and their labels say nothing: the parameters or the inputs are too large", RuntimeWarning,
                          stacklevel=level_of_caller())
        if self.multilabel and several_decisions(self.layer_sizes[-1], self.activations[-1]):
            return (outputs >= 0.5).astype(np.int64)
        labels = decide(outputs)
        return labels if self._classes is None else np.asarray(self._classes[labels])

    def predict_proba(self, X: npt.ArrayLike, threads: int | None = None) -> Array:
        """Return the probability of each class: the outputs; for a single sigmoid output, with that of label 0 added.

        Parameters
        ----------
        X, threads
            See `forward`.

        Returns
        -------
        ndarray (n, classes); for one sample (classes,)
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
            An existing file is replaced atomically; it stays intact if the new one cannot be written.

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
    def from_sklearn(cls, model: Any) -> Network:
        """Make the network of a fitted MLPClassifier or MLPRegressor, scikit-learn's or that of fastbp.sklearn.

        It gives the same outputs, in the type of the model's weights, and has its names of features. Texts as labels
        become `classes`; other labels are counted from 0, in the order of ``model.classes_``.

        Parameters
        ----------
        model : MLPClassifier or MLPRegressor
            Its weights are copied.

        Returns
        -------
        Network

        Raises
        ------
        TypeError
            The model is another one, or not fitted.
        ValueError
            Its output is exp (loss="poisson").

        Examples
        --------
        >>> from sklearn.neural_network import MLPRegressor
        >>> X, y = np.array([[0.0], [1.0]] * 20), np.array([0.0, 3.0] * 20)
        >>> model = MLPRegressor(hidden_layer_sizes=(4,), solver="lbfgs", random_state=0).fit(X, y)
        >>> bool(np.allclose(Network.from_sklearn(model).predict(X), model.predict(X)))
        True
        """
        return readers.from_sklearn(cls, model)  # type: ignore[no-any-return]

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
            The file is damaged, or does not hold a fastbp network.

        Warns
        -----
        UserWarning
            The file was written by a version that did not save input_scale.

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
            if held != needed:  # checked before memory is allocated
                raise ValueError(f"it has {held} parameters, but layer sizes {layer_sizes} need {needed}")
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
            warnings.warn(f"{os.fspath(path)} was written by an earlier version, which divided uint8 inputs by 255; if "
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
        onnx.write(onnx.model_of(self, input_dtype), path)

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
            weights, biases = [layer.W for layer in layers], [layer.b for layer in layers]
            network: Network = readers.dense(cls, weights, biases, hidden, output)
            network.input_scale = scale
            check_theta(network)
            for name in names:
                if name in ("multilabel", "feature_names", "target_names", "classes"):
                    setattr(network, name, names[name])
        except (TypeError, ValueError) as error:
            raise ValueError(f"{os.fspath(path)} is no network of fastbp: {error}") from None
        return network

    @classmethod
    def from_fann(cls, path: str | os.PathLike[str]) -> Network:
        """Read a network that FANN, the Fast Artificial Neural Network Library, has saved as text: ``*.net``.

        Its steepness becomes part of the weights: FANN's sigmoid of z with steepness s is ``sigmoid(2 s z)``, its
        symmetric one ``tanh(s z)``. Source: Nissen, Implementation of a Fast Artificial Neural Network Library, 2003.

        Parameters
        ----------
        path : str or path
            Of a file in the format FANN_FLO_2.0 or 2.1, which FANN 2 writes.

        Returns
        -------
        Network
            It gives what `fann_run` gives, except for linear outputs that FANN cuts off: at 150 / steepness. float32
            if all numbers of the file are of that type, as those of FANN's float library are; otherwise float64.

        Warns
        -----
        UserWarning
            The activation is a stepwise one, FANN's default, of which the Network computes the exact function; or the
            file holds a scaling of inputs and outputs, which the Network leaves out.

        Raises
        ------
        FileNotFoundError
            There is no such file.
        ValueError
            The file is cut off or damaged; or the network has sparse or shortcut connections, or an activation, which
            is named, that fastbp does not have.

        Examples
        --------
        >>> net = Network.from_fann("xor.net")  # doctest: +SKIP
        """
        from fastbp import fann_reading

        weights, biases, (*hidden, output) = fann_reading.read(path)
        network: Network = readers.dense(cls, weights, biases, hidden, output)
        check_theta(network)
        return network

    @classmethod
    def from_keras(cls, path: str | os.PathLike[str], hidden: str | Sequence[str], output: str) -> Network:
        """Read the weights of a Keras model that is a chain of Dense layers.

        Parameters
        ----------
        path : str or path
            Of a file that `model.save_weights` of Keras 3 (``*.weights.h5``) or of Keras 2 (``*.h5``) wrote, or
            `model.save` to ``*.h5``.
        hidden, output
            Activations as Network takes them: a file of weights does not have them. Keras' leaky_relu is another
            function than fastbp's.

        Returns
        -------
        Network
            Of the weights' dtype. Dropout, noise, Flatten and activations are passed by.

        Raises
        ------
        ImportError
            h5py is not installed: pip install "fastbp[frames]".
        FileNotFoundError
            There is no such file.
        ValueError
            The file is damaged; or a layer, which is named, is no Dense, or the order of the layers is not clear; or
            an activation is unknown.

        Examples
        --------
        >>> net = Network.from_keras("model.weights.h5", hidden="relu", output="softmax")  # doctest: +SKIP
        """
        from fastbp import keras_reading

        kernels, biases = keras_reading.read(path)
        network: Network = readers.dense(cls, kernels, biases, hidden, output)
        check_theta(network)
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
        """Return a table of the layers: shape of W[l], activation, number of parameters (W[l] and b[l]).

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
        """Return a heading, the layers and their total, as strings."""
        layers = zip(self.W, self.b, self.activations, strict=True)
        return [["layer", "W", "activation", "parameters"],
                *([str(l), str(W.shape), name, f"{W.size + b.size:,}"] for l, (W, b, name) in enumerate(layers)),
                ["total", "", "", f"{self.n_parameters:,}"]]

    def __repr__(self) -> str:
        scale = "" if self.input_scale == 1 else f", input_scale={self.input_scale!r}"
        return (f"Network({list(self.layer_sizes)}, hidden={list(self.activations[:-1])}, "
                f"output={self.activations[-1]!r}, dtype={self.dtype.name!r}{scale})")

    def _repr_html_(self) -> str:
        """Return the table of `summary` as HTML, for notebooks."""
        heading, *rows = ["".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row)
                          for row, tag in zip(self._rows(), ["th"] + ["td"] * (len(self.W) + 1), strict=True)]
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        return (f"<p>{html.escape(repr(self))}</p>"
                f"<table><thead><tr>{heading}</tr></thead><tbody>{body}</tbody></table>")


class _Views(list[Array]):
    """One view per layer; an assignment copies, so that a view never separates from its vector."""

    def __setitem__(self, l: SupportsIndex, values: npt.ArrayLike) -> None:  # type: ignore[override]
        self[l][...] = values


def activation_names(hidden: str | Sequence[str], output: str, n_hidden: int) -> tuple[str, ...]:
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
    """Return `network` if it is a Network; otherwise raise TypeError."""
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
    """Return the loss, given as such or by name; None: the one that matches the output activation. Raise if it does not
    fit the activation or the number of outputs."""
    if loss is None:
        return next((kind() for kind in losses.LOSSES.values() if output in kind.outputs), losses.Quadratic())
    if isinstance(loss, str):
        aliases = losses.ALIASES | ({"logloss": "binary_cross_entropy"} if output == "sigmoid" else {})
        loss = losses.LOSSES[one_of("loss", loss, losses.LOSSES, aliases)]()
    if not isinstance(loss, losses.Loss):
        own = "; for a function of your own use losses.Custom(function)" if callable(loss) else ""
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
    """Return the samples of an array that needs no conversion, in a tenth of the time of the general path; None if X is
    anything else, or invalid."""
    if not (type(X) is np.ndarray and X.ndim == 2 and X.shape[1] == network.layer_sizes[0] and len(X)
            and X.dtype in KINDS and X.flags.c_contiguous and X.flags.aligned):
        return None
    return Samples(address_of_array(X), X.strides[0], 1, KINDS[X.dtype], network.input_scale)
