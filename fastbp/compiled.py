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
from fastbp.core.plan import LIMIT, NORMS, UPDATE, Plan, Stage, most_at_once, plan_for, scratch_size
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
            "capacity": self.batch_size, "most": most_at_once(net.layer_sizes, 1), "inputs": first.ctypes.data,
            "row": first.strides[0], "targets": self._workspace.targets.ctypes.data,
            "row_of_targets": self._workspace.targets.strides[0],
            "outputs": self._outputs.ctypes.data, "etas": int(train.vector[SLOTS["etas"]]) if train else 0,
            **{name: slip.vector.ctypes.data for name, slip in self._slips.items()}}
        for name, value in values.items():
            own[at[name]] = value
        reals[at["largest"]], reals[at["scale"]] = np.finfo(self.dtype).max, net.input_scale

    @property
    def problem(self) -> str | None:
        """Why the last call did nothing; None where it did what it should.

        Examples
        --------
        >>> from numba import njit
        >>> from fastbp import Network, compiled
        >>> handle, labels = compiled.Handle(Network([2, 4])), np.empty(1, np.int64)
        >>> njit(lambda handle, X, labels: compiled.predict(handle, X, labels))(handle, np.zeros((1, 3)), labels)
        False
        >>> handle.problem
        'X has 3 features, the network takes 2'
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
            handles.OWN_ROWS: "X or y lies in the handle's own rows, but is not inputs(handle)[:n] or "
                              "targets(handle)[:n]: it would be written over while it is read; give a copy",
            handles.OVERLAP: "results would be written over samples that are still to be read: of more than "
                             f"batch_size={self.batch_size} give an array that does not overlap X",
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
        All of float32, or all of float64.

    Raises
    ------
    ValueError
        There is none, or their networks have two dtypes.

    Examples
    --------
    >>> from numba import njit, prange
    >>> from fastbp import Network, compiled
    >>> @njit(parallel=True)
    ... def outputs_of_all(handles, X, out):
    ...     for i in prange(len(handles)):
    ...         compiled.forward(handles[i], X, out[i])
    >>> handles = compiled.Handles(compiled.Handle(Network([2, 4], seed=seed)) for seed in range(3))
    >>> out = np.empty((3, 1, 4), np.float32)
    >>> outputs_of_all(handles, np.zeros((1, 2), np.float32), out)
    >>> bool((out == 0.25).all())
    True
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
    """Make one step on one mini-batch.

    Parameters
    ----------
    handle : Handle
        Of a Trainer.
    X : ndarray (n, n_in), or one sample (n_in,)
        float32, float64 or uint8, of any strides; n is at most the handle's batch_size.
    y : ndarray (n,), (n, n_out), or a number
        Labels of int64, the places of the network's classes; rows of targets, or values (n,) of a single output, of
        float32 or float64. Of one sample a label, a value or a row (n_out,).

    Returns
    -------
    float
        The mean cost before the step; NaN where nothing was done. A step whose cost is not finite is not made; but no
        copy is kept to go back to where an earlier one has made parameters, or moments, which then hold them still,
        infinite.

    Examples
    --------
    >>> from numba import njit
    >>> from fastbp import Network, Trainer, compiled
    >>> @njit
    ... def learn(handle, X, y, steps):
    ...     cost = 0.0
    ...     for _ in range(steps):
    ...         cost = compiled.step(handle, X, y)
    ...     return cost
    >>> X, y = np.eye(4, dtype=np.float32), np.arange(4)
    >>> handle = compiled.Handle(Trainer(Network([4, 8, 4]), optimizer="adam", batch_size=4))
    >>> learn(handle, X, y, 3000) < 0.1, handle.problem
    (True, None)
    """
    return handles.take_step(handle, handles.samples_given(X), handles.targets_given(X, y))


@compiler.inlined
def gradients(handle: Handle, X: Array, y: Any, gradient: Array) -> float:
    """Mean cost of samples and its gradient, laid out like theta.

    Parameters
    ----------
    handle : Handle
    X, y : ndarray
        As of `step`.
    gradient : ndarray (n_parameters,), of the network's dtype
        Overwritten; where NaN is returned it means nothing.

    Returns
    -------
    float
        The mean cost; NaN where nothing was done, or where it is not finite.

    Examples
    --------
    >>> from numba import njit
    >>> from fastbp import Network, compiled
    >>> net = Network([2, 3, 1], output="identity")
    >>> gradient = np.empty(net.n_parameters, np.float32)
    >>> cost_of = njit(lambda handle, X, y, gradient: compiled.gradients(handle, X, y, gradient))
    >>> cost_of(compiled.Handle(net), np.zeros((5, 2)), np.full(5, 2.0), gradient), float(gradient[-1])
    (2.0, -2.0)
    """
    return handles.write_gradient(handle, handles.samples_given(X), handles.targets_given(X, y),
                                  handles.room_given(handle, gradient, None))


@compiler.inlined
def update(handle: Handle, gradient: Array) -> bool:
    """Make one update of the parameters by a gradient of one's own making.

    Parameters
    ----------
    handle : Handle
        Of a Trainer.
    gradient : ndarray (n_parameters,), of the network's dtype

    Returns
    -------
    bool
        Whether it was made: it is not where a number of the gradient is not finite.

    Examples
    --------
    >>> from numba import njit
    >>> from fastbp import SGD, Network, Trainer, compiled
    >>> net = Network([1, 1], output="identity", weights="zeros")
    >>> handle = compiled.Handle(Trainer(net, optimizer=SGD(0.5)))
    >>> njit(lambda handle, gradient: compiled.update(handle, gradient))(handle, np.ones(2, np.float32)), net.theta
    (True, array([-0.5, -0.5], dtype=float32))
    """
    return handles.take_update(handle, handles.room_given(handle, gradient, None))


@compiler.inlined
def forward(handle: Handle, X: Array, out: Array) -> bool:
    """Write the outputs a[L] of any number of samples.

    Parameters
    ----------
    handle : Handle
    X : ndarray (n, n_in), or one sample (n_in,)
        float32, float64 or uint8, of any strides.
    out : ndarray (n, n_out), or (n_out,), contiguous, of the network's dtype
        Overwritten; where False is returned it means nothing.

    Returns
    -------
    bool
        Whether all could be computed.

    Examples
    --------
    >>> from numba import njit
    >>> from fastbp import Network, compiled
    >>> handle, out = compiled.Handle(Network([2, 4])), np.empty((1, 4), np.float32)
    >>> njit(lambda handle, X, out: compiled.forward(handle, X, out))(handle, np.zeros((1, 2)), out), out
    (True, array([[0.25, 0.25, 0.25, 0.25]], dtype=float32))
    """
    return handles.write_outputs(handle, handles.samples_given(X), handles.room_given(handle, out, X))


@compiler.inlined
def predict(handle: Handle, X: Array, labels: Array) -> bool:
    """Write the labels of any number of samples.

    Parameters
    ----------
    handle : Handle
        Of a network whose outputs are classes.
    X : ndarray (n, n_in), or one sample (n_in,)
        float32, float64 or uint8, of any strides.
    labels : ndarray (n,) of int64
        Overwritten by the places of the network's classes; where False is returned they mean nothing.

    Returns
    -------
    bool
        Whether all could be computed.

    Examples
    --------
    >>> from numba import njit
    >>> from fastbp import Network, compiled
    >>> handle, labels = compiled.Handle(Network([2, 4])), np.empty(1, np.int64)
    >>> njit(lambda handle, X, labels: compiled.predict(handle, X, labels))(handle, np.zeros((1, 2)), labels), labels
    (True, array([0]))
    """
    return handles.write_labels(handle, handles.samples_given(X), handles.labels_room_given(labels))


@compiler.inlined
def vjp(handle: Handle, X: Array, cotangent: Array, gradient: Array, input_gradients: Array | None = None) -> bool:
    """Vector-Jacobian product: gradient of the sum of cotangent ∘ outputs, which is that of any E with these dE/da[L].

    It is the backward recurrence of fastbp.core.equations from these errors on.

    Parameters
    ----------
    handle : Handle
    X : ndarray (n, n_in), or one sample (n_in,)
        As of `step`.
    cotangent : ndarray (n, n_out), or (n_out,) of one sample
        float32 or float64.
    gradient : ndarray (n_parameters,), of the network's dtype
        Overwritten by the gradient with respect to theta, summed over the samples.
    input_gradients : ndarray (n, n_in), or (n_in,) of one sample, contiguous, of the network's dtype, optional
        Overwritten by that with respect to X.

    Returns
    -------
    bool
        Whether it was computed.

    References
    ----------
    Rumelhart, Hinton, Williams: Learning representations by back-propagating errors (Nature 1986).

    Examples
    --------
    >>> from numba import njit
    >>> from fastbp import Network, compiled
    >>> net = Network([2, 1], output="identity")
    >>> pull_back = njit(lambda handle, X, cotangent, gradient: compiled.vjp(handle, X, cotangent, gradient))
    >>> gradient = np.empty(3, np.float32)
    >>> pull_back(compiled.Handle(net), np.array([[2.0, 3.0]]), np.ones((1, 1)), gradient), gradient
    (True, array([2., 3., 1.], dtype=float32))
    """
    return handles.write_vjp(handle, handles.samples_given(X), handles.targets_given(X, cotangent),
                             handles.room_given(handle, gradient, None),
                             handles.room_given(handle, input_gradients, X))


@compiler.inlined
def set_eta(handle: Handle, eta: float) -> bool:
    """Set the learning rate of the steps from now on.

    Parameters
    ----------
    handle : Handle
        Of a Trainer.
    eta : float
        >= 0.

    Returns
    -------
    bool
        Whether it is one.

    Examples
    --------
    >>> from numba import njit
    >>> from fastbp import Network, Trainer, compiled
    >>> handle, set_rate = compiled.Handle(Trainer(Network([2, 2]))), njit(lambda h, eta: compiled.set_eta(h, eta))
    >>> set_rate(handle, 0.1), set_rate(handle, -1.0), handle.problem
    (True, False, 'eta must be a finite number >= 0')
    """
    return handles.put_eta(handle, np.float64(eta))


@compiler.inlined
def inputs(handle: Any) -> Array:
    """Rows in which the network itself holds its samples: X = inputs(handle)[:n] is not copied.

    They are what the network sees, after input_scale; dropout, noise and every call with other samples change them.
    inputs(handle)[:n] may be y, too, which is read before dropout and noise. Other views of them are refused.

    Parameters
    ----------
    handle : Handle

    Returns
    -------
    ndarray (batch_size, n_in), of the network's dtype

    Examples
    --------
    >>> from numba import njit
    >>> from fastbp import Network, Trainer, compiled
    >>> @njit
    ... def autoencode(handle, steps):
    ...     X = compiled.inputs(handle)[:4]
    ...     for i in range(4):
    ...         X[i], X[i, i] = 0, 1
    ...     cost = 0.0
    ...     for _ in range(steps):
    ...         cost = compiled.step(handle, X, X)
    ...     return cost
    >>> net = Network([4, 8, 4], hidden="tanh", output="identity")
    >>> autoencode(compiled.Handle(Trainer(net, optimizer="adam", batch_size=4)), 1000) < 0.01
    True
    """
    return handles.rows_in_place(handle, handle.inputs, handle.row, handle.n_in)


@compiler.inlined
def targets(handle: Any) -> Array:
    """Rows in which the network itself holds its targets: y = targets(handle)[:n] is not copied.

    Other views of them are refused.

    Parameters
    ----------
    handle : Handle

    Returns
    -------
    ndarray (batch_size, n_out), of the network's dtype

    Examples
    --------
    >>> from numba import njit
    >>> from fastbp import Network, compiled
    >>> shape = njit(lambda handle: compiled.targets(handle).shape)
    >>> shape(compiled.Handle(Network([4, 8, 3]), batch_size=32))
    (32, 3)
    """
    return handles.rows_in_place(handle, handle.targets, handle.row_of_targets, handle.n_out)
