"""A network inside compiled code of one's own: in Numba's @njit functions, their prange and their cache.

    import numpy as np
    from numba import njit
    from fastbp import Adam, Network, Trainer, compiled

    @njit(cache=True)
    def train(handle, X, y, steps):
        cost = 0.0
        for i in range(steps):
            first = i * 32 % (len(X) - 31)
            cost = compiled.step(handle, X[first : first + 32], y[first : first + 32])
        return cost

    trainer = Trainer(Network([4, 32, 16, 3], hidden="tanh"), optimizer=Adam(0.01))
    handle = compiled.Handle(trainer)
    cost = train(handle, X, y, 1000)
    if handle.problem:
        raise ValueError(handle.problem)

Arrays may have any strides. Nothing is allocated, and nothing is raised: a function that is given what is not for the
network does nothing, returns NaN or False, and leaves why in the handle. A handle works on one thread at a time; for a
prange make one for each thread, or for each network, and give them together as Handles.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

import numpy as np

from fastbp import derivatives
from fastbp.checks import whole_number
from fastbp.core import compiler, handles
from fastbp.core.call import ACCUMULATE, INFER, SLOTS, Slip
from fastbp.core.costs import NO_LOSS
from fastbp.core.derivatives import GRADIENT
from fastbp.core.plan import LIMIT, NORMS, UPDATE, Plan, Stage, plan_for, scratch_size
from fastbp.core.rules import CLIP_NORM
from fastbp.inference import NO_SETTINGS
from fastbp.inputs import several_decisions
from fastbp.losses import Loss
from fastbp.names import classifies
from fastbp.network import MOST_SAMPLES, Network, check_loss
from fastbp.training.trainer import Trainer
from fastbp.workspace import Array, aligned

__all__ = ["Handle", "Handles", "forward", "gradients", "inputs", "predict", "set_eta", "step", "targets", "update",
           "vjp"]


def __dir__() -> list[str]:
    return __all__


class Handle:
    """What compiled code is given of a network, or of a trainer and its network.

    Parameters
    ----------
    of : Trainer or Network
        A trainer's handle makes steps with its settings as they are now, the optimizer's eta instead of a schedule, and
        goes on from its state: steps here count in `trainer.steps_done`. A network's handle makes none. What `fit`
        learns of its data is not learned here: set network.classes yourself, and network.multilabel where several
        sigmoid outputs each decide a class of their own.
    batch_size : int, optional
        The most samples of a call that goes backward, for which buffers are made; as the trainer's, else 128.
    loss : str or one of fastbp.losses, optional
        For a network, as of Trainer; None: the one that matches the output.

    Attributes
    ----------
    problem : str or None
        Why the last call did nothing; None where it did what it should.
    address : int
        Where the numbers of the handle are, which compiled functions take. The handle keeps all of them alive.

    Raises
    ------
    TypeError
        `of` is neither, or the handle is copied or pickled: it holds addresses of this process.
    ValueError
        The trainer keeps a mean of the parameters (ema), which only fit can hold apart from them.

    Examples
    --------
    >>> from numba import njit
    >>> from fastbp import Network, Trainer, compiled
    >>> handle = compiled.Handle(Trainer(Network([2, 8, 1], output="identity", seed=0)))
    >>> @njit
    ... def learn_products(handle, X, steps):
    ...     t, cost = np.empty((len(X), 1), np.float32), 0.0
    ...     for _ in range(steps):
    ...         t[:, 0] = X[:, 0] * X[:, 1]
    ...         cost = compiled.step(handle, X, t)
    ...     return cost
    >>> X = np.random.default_rng(0).normal(size=(100, 2)).astype("f4")
    >>> learn_products(handle, X, 2000) < 0.05, handle.problem
    (True, None)
    """

    def __init__(self, of: Trainer | Network, batch_size: int | None = None, loss: str | Loss | None = None):
        trainer = of if isinstance(of, Trainer) else None
        if not isinstance(of, (Trainer, Network)):
            raise TypeError(f"a handle is made of a Trainer or a Network, got {type(of).__name__}")
        if trainer is not None and loss is not None:
            raise ValueError("a trainer has a loss of its own; leave out loss")
        if trainer is not None and trainer.ema is not None:
            raise ValueError("a handle keeps no mean of the parameters: set trainer.ema = None, before its first step")
        network: Network = trainer.network if trainer else of  # type: ignore[assignment]
        self.of, self.network, self.dtype = of, network, network.dtype
        default = trainer.batch_size if trainer else 128
        self.batch_size = whole_number("batch_size", default if batch_size is None else batch_size, 1, MOST_SAMPLES)
        self.loss = trainer.loss if trainer else check_loss(loss, network.activations[-1], network.layer_sizes[-1])
        self._workspace = network.workspace(self.batch_size)
        self._outputs = aligned(self.batch_size * network.layer_sizes[-1], network.dtype)
        self._slips = {"infer": self._infer(), "gradients": self._gradients(), "vjp": self._vjp()}
        if trainer is not None:
            self._slips |= self._steps(trainer)
        self._numba_type_ = handles.HANDLE_TYPES[network.dtype.name]  # what Numba asks for: 0.7 us, else 6
        self.numbers = np.zeros(self._numba_type_.size, np.int64)
        self._fill()
        self.address = self.numbers.ctypes.data

    def _infer(self) -> Slip:
        sizes = self.network.layer_sizes
        return self._of_plain_layers(INFER, NO_LOSS, plan_for(sizes, self.batch_size, INFER, 1, errors=False))

    def _gradients(self) -> Slip:
        plan = plan_for(self.network.layer_sizes, self.batch_size, ACCUMULATE, 1)
        return self._with_room(self._of_plain_layers(ACCUMULATE, self.loss.rule(self.dtype.name), plan))

    def _of_plain_layers(self, purpose: int, loss: Any, plan: Plan) -> Slip:
        """A slip for calls without dropout and noise, which change no parameter."""
        slip = self._workspace.bind(self.network.theta, np.zeros(1, np.int64), loss, NO_SETTINGS, purpose, plan)
        slip.point(layers=self._workspace.layers.copy())
        return slip

    def _with_room(self, slip: Slip) -> Slip:
        """Where sums of many samples need more room than the gradient that they end in."""
        size, n = scratch_size(self.network.layer_sizes, 1, self.batch_size), self.network.n_parameters
        if size > n:
            slip.point(gradient=aligned(size, self.dtype))
        slip.put(n_gradient=max(size, n))
        return slip

    def _vjp(self) -> Slip:
        slip = derivatives.bound(self.network, self._workspace, GRADIENT, NO_LOSS)
        slip.point(layers=self._workspace.layers.copy())
        return self._with_room(slip)

    def _steps(self, trainer: Trainer) -> dict[str, Slip]:
        """Of steps, and of updates by a gradient that somebody else has made."""
        sizes, stepper = self.network.layer_sizes, trainer.stepper
        stepper.prepare_layers(self._workspace.layers)
        stepper.has_changed = True
        room = aligned(max(scratch_size(sizes, 1, self.batch_size), scratch_size(sizes, 1, 1, True)), self.dtype)
        train = stepper.bound(self._workspace, stepper.rule(), stepper.plan(self.batch_size, 1), room)
        rule = stepper.rule()
        rule[CLIP_NORM] = rule[CLIP_NORM] or np.inf  # than which no norm is longer
        last = [Stage(NORMS, 1), Stage(UPDATE, 1)] + ([Stage(LIMIT, 1)] if trainer.max_norm is not None else [])
        update = stepper.bound(self._workspace, rule, Plan([], last, 1), room)
        update.vector[SLOTS["etas"]] = train.vector[SLOTS["etas"]]
        return {"train": train, "update": update}

    def _fill(self) -> None:
        """Write what the compiled functions read."""
        net, own = self.network, self.numbers
        reals, at, itemsize = own.view(np.float64), handles.HANDLE_SLOTS, self.dtype.itemsize
        first, n_out = self._workspace.a[0], net.layer_sizes[-1]
        labels = n_out > 1 or net.activations[-1] == "sigmoid"
        decides = classifies(net.activations[-1]) and not several_decisions(n_out, net.activations[-1])
        train = self._slips.get("train")
        values = {
            "n_in": net.layer_sizes[0], "n_out": n_out, "n_parameters": net.n_parameters, "itemsize": itemsize,
            "n_classes": max(2, n_out) if labels else 0, "decides": int(decides), "must_be": self.loss.must_be,
            "capacity": self.batch_size, "piece": int(train.vector[SLOTS["piece"]]) if train else self.batch_size,
            "inputs": first.ctypes.data, "row": first.strides[0], "targets": self._workspace.targets.ctypes.data,
            "outputs": self._outputs.ctypes.data, "etas": int(train.vector[SLOTS["etas"]]) if train else 0,
            **{name: slip.vector.ctypes.data for name, slip in self._slips.items()}}
        for name, value in values.items():
            own[at[name]] = value
        reals[at["largest"]], reals[at["scale"]] = np.finfo(self.dtype).max, net.input_scale

    @property
    def problem(self) -> str | None:
        """Why the last call did nothing; None if it did what it should.

        Examples
        --------
        >>> from numba import njit
        >>> from fastbp import Network, compiled
        >>> handle = compiled.Handle(Network([4, 3]))
        >>> @njit
        ... def outputs(handle, X, out):
        ...     return compiled.forward(handle, X, out)
        >>> outputs(handle, np.zeros((2, 5)), np.zeros((2, 3), np.float32)), handle.problem
        (False, 'X has 5 features, the network takes 4')
        """
        status, found, n_labels = (int(self.numbers[handles.HANDLE_SLOTS[name]])
                                   for name in ("status", "found", "n_classes"))
        n_in, n_out = self.network.layer_sizes[0], self.network.layer_sizes[-1]
        label = (f"y[{found}] is none of the labels 0 to {n_labels - 1}" if n_labels else
                 "y must hold floating-point numbers: a single output of values has no labels")
        return {
            handles.OK: None,
            handles.FEATURES: f"X has {found} features, the network takes {n_in}",
            handles.DIFFERENT: "y must hold as many labels as there are samples, or have shape "
                               f"(samples, {n_out}); one of its lengths is {found}",
            handles.TOO_MANY: f"the handle takes 1 to batch_size={self.batch_size} samples, got {found}",
            handles.NOT_FINITE: f"X[{found}] has a number that is not finite, or too large for {self.dtype}",
            handles.LABEL: label,
            handles.TARGETS: f"y[{found}] is not what a {self.loss} loss takes, or not finite",
            handles.ROOM: f"an array for results has another shape than they have: one of its lengths is {found}",
            handles.DIVERGED: "the cost, or what was given as a gradient, is not finite; nothing was changed",
            handles.NO_STEPS: "step, update and set_eta need an optimizer: make the handle of a Trainer",
            handles.NO_LABELS: "predict is for classes, and these outputs are values, or each is a class of its own: "
                               "take forward",
            handles.RATE: "eta must be a finite number >= 0",
        }[status]

    def __reduce__(self) -> NoReturn:
        raise TypeError("a handle holds addresses of this process: make one in each, of the trainer or network")

    def __repr__(self) -> str:
        return f"Handle({self.of!r}, batch_size={self.batch_size})"


class Handles:
    """Handles that compiled code takes one of, by `several[i]`; their number is len(several).

    Parameters
    ----------
    several : iterable of Handle
        One or more; all of float32, or all of float64.

    Raises
    ------
    ValueError
        There is no handle, or the networks have different dtypes.

    Examples
    --------
    >>> from numba import njit
    >>> from fastbp import Network, compiled
    >>> @njit
    ... def outputs(several, X, out):
    ...     for i in range(len(several)):
    ...         compiled.forward(several[i], X, out[i])
    >>> several = compiled.Handles(compiled.Handle(Network([2, 3], seed=i)) for i in range(4))
    >>> out = np.zeros((4, 5, 3), np.float32)
    >>> outputs(several, np.ones((5, 2)), out)
    >>> len(np.unique(out[:, 0, 0]))
    4
    """

    def __init__(self, several: Iterable[Handle]):
        self._handles = tuple(several)
        dtypes = {handle.dtype.name for handle in self._handles}
        if len(dtypes) != 1:
            raise ValueError("Handles takes one handle or more, of networks of one dtype, got "
                             + (" and ".join(sorted(dtypes)) or "none"))
        self._numba_type_ = handles.HANDLES_TYPES[dtypes.pop()]
        self._numbers = np.array([len(self._handles), *(handle.address for handle in self._handles)], np.int64)
        self.address = self._numbers.ctypes.data

    def __len__(self) -> int:
        return len(self._handles)

    def __iter__(self) -> Iterator[Handle]:
        return iter(self._handles)

    def __getitem__(self, i: int) -> Handle:
        return self._handles[i]

    __reduce__ = Handle.__reduce__


# The functions, for compiled callers.


@compiler.inlined
def step(handle: Handle, X: Array, y: Any) -> float:
    """Make one step on one mini-batch; returns its mean cost before it, or NaN where nothing was done.

    A step whose cost is not finite is not made; but no copy is kept to go back to where an earlier one has made
    parameters, or moments, which then hold them still, infinite.

    Parameters
    ----------
    handle : Handle
        Of a trainer.
    X : array (n, n_in), or of one sample (n_in,)
        float32, float64 or uint8, of any strides; n is at most the handle's batch_size.
    y : array, or of one sample a label or value
        Labels (n,) of int64, the places of the network's classes; rows of targets (n, n_out), or values (n,) of a
        single output; of one sample also a row (n_out,).

    Returns
    -------
    float
        In the unit of the loss.

    Examples
    --------
    >>> from numba import njit
    >>> from fastbp import Network, Trainer, compiled
    >>> @njit
    ... def train(handle, X, y, steps):
    ...     for _ in range(steps):
    ...         cost = compiled.step(handle, X, y)
    ...     return cost
    >>> X = np.random.default_rng(0).normal(size=(100, 2))
    >>> handle = compiled.Handle(Trainer(Network([2, 8, 2])))
    >>> train(handle, X, (X[:, 0] > X[:, 1]).astype(np.int64), 200) < 0.2
    True
    """
    return handles.take_step(handle, handles.samples_given(X), handles.targets_given(X, y))


@compiler.inlined
def gradients(handle: Handle, X: Array, y: Any, gradient: Array) -> float:
    """Compute the mean cost of samples and its gradient.

    Parameters
    ----------
    handle : Handle
    X, y
        See `step`.
    gradient : array (n_parameters,), of the network's dtype
        Where to write the gradient, laid out like theta.

    Returns
    -------
    float
        The cost; NaN if nothing was done, or if the cost is not finite and the gradient means nothing.

    Examples
    --------
    >>> from numba import njit
    >>> from fastbp import Network, Trainer, compiled
    >>> @njit
    ... def cost_of(handle, X, y, gradient):
    ...     return compiled.gradients(handle, X, y, gradient)
    >>> net = Network([2, 2], weights="zeros")
    >>> gradient = np.zeros(net.n_parameters, np.float32)
    >>> round(cost_of(compiled.Handle(net), np.ones((1, 2)), np.array([0]), gradient), 3)
    0.693
    >>> gradient
    array([-0.5,  0.5, -0.5,  0.5, -0.5,  0.5], dtype=float32)
    """
    return handles.write_gradient(handle, handles.samples_given(X), handles.targets_given(X, y),
                                  handles.room_given(handle, gradient, None))


@compiler.inlined
def update(handle: Handle, gradient: Array) -> bool:
    """Make one update of the parameters by a gradient of one's own making; returns whether it was made.

    It is not made if a number of the gradient is not finite.

    Parameters
    ----------
    handle : Handle
        Of a trainer.
    gradient : array (n_parameters,), of the network's dtype

    Examples
    --------
    >>> from numba import njit
    >>> from fastbp import Network, Trainer, compiled
    >>> @njit
    ... def move(handle, gradient):
    ...     return compiled.update(handle, gradient)
    >>> net = Network([2, 2], weights="zeros")
    >>> move(compiled.Handle(Trainer(net, optimizer="sgd")), np.ones(6, np.float32))
    True
    >>> bool((net.theta < 0).all())
    True
    """
    return handles.take_update(handle, handles.room_given(handle, gradient, None))


@compiler.inlined
def forward(handle: Handle, X: Array, out: Array) -> bool:
    """Compute outputs a[L] of any number of samples; returns whether all could be computed.

    Parameters
    ----------
    handle : Handle
    X : array (n, n_in), or of one sample (n_in,)
        float32, float64 or uint8, of any strides.
    out : array (n, n_out) or (n_out,), contiguous and of the network's dtype
        Where to write the outputs. If not all could be computed it means nothing.

    Examples
    --------
    >>> from numba import njit
    >>> from fastbp import Network, Trainer, compiled
    >>> @njit
    ... def outputs(handle, X, out):
    ...     return compiled.forward(handle, X, out)
    >>> out = np.zeros((2, 3), np.float32)
    >>> outputs(compiled.Handle(Network([4, 3], weights="zeros")), np.ones((2, 4)), out)
    True
    >>> print(out[0].round(2))
    [0.33 0.33 0.33]
    """
    return handles.write_outputs(handle, handles.samples_given(X), handles.room_given(handle, out, X))


@compiler.inlined
def predict(handle: Handle, X: Array, labels: Array) -> bool:
    """Compute labels of any number of samples; returns whether all could be computed.

    Parameters
    ----------
    handle : Handle
    X : array (n, n_in), or of one sample (n_in,)
        float32, float64 or uint8, of any strides.
    labels : array (n,) of int64
        Where to write the places of the network's classes. If not all could be computed it means nothing.

    Examples
    --------
    >>> from numba import njit
    >>> from fastbp import Network, Trainer, compiled
    >>> @njit
    ... def decide(handle, X, labels):
    ...     return compiled.predict(handle, X, labels)
    >>> labels = np.full(2, -1)
    >>> decide(compiled.Handle(Network([4, 3], weights="zeros")), np.ones((2, 4)), labels), labels.tolist()
    (True, [0, 0])
    """
    return handles.write_labels(handle, handles.samples_given(X), handles.labels_room_given(labels))


@compiler.inlined
def vjp(handle: Handle, X: Array, cotangent: Array, gradient: Array, input_gradients: Array | None = None) -> bool:
    """Vector-Jacobian product: gradient of the sum of cotangent ∘ outputs; returns whether it was computed.

    It is the gradient of any E whose dE / da[L] the cotangents are.

    Parameters
    ----------
    handle : Handle
    X
        See `step`.
    cotangent : array (n, n_out), or of one sample (n_out,)
    gradient : array (n_parameters,), of the network's dtype
        Where to write the gradient with respect to theta, summed over the samples.
    input_gradients : array of the shape of X (n, n_in), of the network's dtype, optional
        Where to write the gradient with respect to X.

    References
    ----------
    Griewank, Walther: Evaluating Derivatives (SIAM 2008), section 3.2, its adjoint or reverse mode.

    Examples
    --------
    >>> from numba import njit
    >>> from fastbp import Network, Trainer, compiled
    >>> @njit
    ... def pull_back(handle, X, cotangent, gradient):
    ...     return compiled.vjp(handle, X, cotangent, gradient)
    >>> gradient = np.zeros(3, np.float32)
    >>> handle = compiled.Handle(Network([2, 1], output="identity"))
    >>> pull_back(handle, np.array([[3.0, 4.0], [5.0, 6.0]]), np.array([[1.0], [10.0]]), gradient), gradient.tolist()
    (True, [53.0, 64.0, 11.0])
    """
    return handles.write_vjp(handle, handles.samples_given(X), handles.targets_given(X, cotangent),
                             handles.room_given(handle, gradient, None),
                             handles.room_given(handle, input_gradients, X))


@compiler.inlined
def set_eta(handle: Handle, eta: float) -> bool:
    """Set the learning rate of the steps from now on; returns whether it is one.

    Parameters
    ----------
    handle : Handle
        Of a trainer.
    eta : float
        >= 0 and finite.

    Examples
    --------
    >>> from numba import njit
    >>> from fastbp import Network, Trainer, compiled
    >>> @njit
    ... def slow_down(handle, eta):
    ...     return compiled.set_eta(handle, eta)
    >>> handle = compiled.Handle(Trainer(Network([2, 2])))
    >>> slow_down(handle, 0.001), slow_down(handle, -1.0)
    (True, False)
    """
    return handles.put_eta(handle, np.float64(eta))


@compiler.inlined
def inputs(handle: Any) -> Array:
    """Return the rows in which the network itself holds its samples: what is given from there, from the first row on,
    is not copied.

    They are what the network sees, after input_scale; dropout and noise change them.

    Parameters
    ----------
    handle : Handle

    Returns
    -------
    array (batch_size, n_in), of the network's dtype

    Examples
    --------
    >>> from numba import njit
    >>> from fastbp import Network, Trainer, compiled
    >>> @njit
    ... def train(handle, steps):
    ...     X, t = compiled.inputs(handle), compiled.targets(handle)
    ...     for _ in range(steps):
    ...         for i in range(len(X)):
    ...             X[i, 0] = i / len(X)
    ...             t[i, 0] = 3 * X[i, 0]
    ...         cost = compiled.step(handle, X, t)
    ...     return cost
    >>> train(compiled.Handle(Trainer(Network([1, 1], output="identity"))), 1000) < 0.01
    True
    """
    return handles.rows_in_place(handle, handle.inputs, handle.row, handle.n_in)


@compiler.inlined
def targets(handle: Any) -> Array:
    """Return the rows in which the network itself holds its targets: see `inputs`.

    Parameters
    ----------
    handle : Handle

    Returns
    -------
    array (batch_size, n_out), of the network's dtype

    Examples
    --------
    >>> from numba import njit
    >>> from fastbp import Network, Trainer, compiled
    >>> @njit
    ... def shape(handle):
    ...     return compiled.targets(handle).shape
    >>> shape(compiled.Handle(Trainer(Network([1, 2], output="identity"), batch_size=32)))
    (32, 2)
    """
    return handles.rows_in_place(handle, handle.targets, handle.n_out * handle.itemsize, handle.n_out)
