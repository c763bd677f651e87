"""Networks inside your own compiled code: in @njit functions of Numba, with prange and cache=True.

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

Arrays may have any strides. The functions allocate nothing and raise nothing: if an argument does not fit the network,
a function does nothing, returns NaN or False, and stores the reason in handle.problem. A handle works on one thread at
a time; for prange make one per thread, or one per network, and pass them together as Handles.
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
    """Gives compiled code access to a network, or to a trainer and its network.

    Parameters
    ----------
    of : Trainer or Network
        The handle of a trainer makes steps with its current settings, with the optimiser's eta instead of a schedule,
        and continues from its state: the steps count in `trainer.steps_done`. The handle of a network makes no steps.
        What `fit` takes from its data must be set by hand: network.classes, and network.multilabel if each of several
        sigmoid outputs decides a class of its own.
    batch_size : int, optional
        Largest number of samples in a call with a backward pass; None: that of the trainer, or 128.
    loss : str or one of fastbp.losses, optional
        Loss for a network, as in Trainer; None: the one that matches the output.

    Attributes
    ----------
    address : int
        Address of the data that compiled functions read. The handle keeps all of it alive.

    Raises
    ------
    TypeError
        `of` is neither of these, or the handle is copied or pickled: it holds addresses of this process.
    ValueError
        The trainer keeps a mean of the parameters (ema), which only fit supports.

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
            raise TypeError(f"a handle needs a Trainer or a Network, got {type(of).__name__}")
        if trainer is not None and loss is not None:
            raise ValueError("a trainer has its own loss; leave out loss")
        if trainer is not None and trainer.ema is not None:
            raise ValueError("a handle does not support ema; set trainer.ema = None before the first step")
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
        """Return a slip for calls that change no parameter, without dropout and noise."""
        slip = self._workspace.bind(self.network.theta, np.zeros(1, np.int64), loss, NO_SETTINGS, purpose, plan)
        slip.point(layers=self._workspace.layers.copy())
        return slip

    def _with_room(self, slip: Slip) -> Slip:
        """Return the slip, with scratch memory if sums over many samples need more than the gradient itself."""
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
        """Return the slips of steps, and of updates by a gradient of the caller."""
        sizes, stepper = self.network.layer_sizes, trainer.stepper
        stepper.prepare_layers(self._workspace.layers)
        self._augmentation = trainer.augmentation  # the layers hold an address of its settings
        stepper.has_changed = True
        room = aligned(max(scratch_size(sizes, 1, self.batch_size), scratch_size(sizes, 1, 1, True)), self.dtype)
        train = stepper.bound(self._workspace, stepper.rule(), stepper.plan(self.batch_size, 1), room)
        rule = stepper.rule()
        rule[CLIP_NORM] = rule[CLIP_NORM] or np.inf  # no norm is larger
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
        """Reason why the last call did nothing; None if it succeeded.

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
        label = (f"y[{found}] is not one of the labels 0 to {n_labels - 1}" if n_labels else
                 "y must hold floating-point numbers: a single output of values has no labels")
        return {
            handles.OK: None,
            handles.FEATURES: f"X has {found} features, the network takes {n_in}",
            handles.DIFFERENT: "y must hold as many labels as there are samples, or have shape "
                               f"(samples, {n_out}); one of its lengths is {found}",
            handles.TOO_MANY: f"the handle takes 1 to batch_size={self.batch_size} samples, got {found}",
            handles.NOT_FINITE: f"X[{found}] has a number that is not finite, or too large for {self.dtype}",
            handles.LABEL: label,
            handles.TARGETS: f"y[{found}] is not finite, or not a valid target for a {self.loss} loss",
            handles.ROOM: f"an array for results has the wrong shape: one of its lengths is {found}",
            handles.DIVERGED: "the cost, or the given gradient, is not finite; nothing was changed",
            handles.NO_STEPS: "step, update and set_eta need an optimizer: make the handle from a Trainer",
            handles.NO_LABELS: "predict needs one class per sample; these outputs are values, or each is a class "
                               "of its own: use forward",
            handles.RATE: "eta must be a finite number >= 0",
            handles.OWN_ROWS: "X or y lies in the handle's own rows, but is not inputs(handle)[:n] or "
                              "targets(handle)[:n]: it would be overwritten while it is read; pass a copy",
            handles.OVERLAP: "results would overwrite samples that are still to be read: for more than "
                             f"batch_size={self.batch_size} samples pass an array that does not overlap X",
        }[status]

    def __reduce__(self) -> NoReturn:
        raise TypeError("a handle holds addresses of this process and cannot be pickled: make one in each process")

    def __repr__(self) -> str:
        return f"Handle({self.of!r}, batch_size={self.batch_size})"


class Handles:
    """Several handles for compiled code: `several[i]` is one of them, len(several) their number.

    Parameters
    ----------
    several : iterable of Handle
        Handles of networks that are all float32 or all float64.

    Raises
    ------
    ValueError
        There is no handle, or the networks differ in dtype.

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
            raise ValueError("Handles needs one handle or more, of networks of one dtype, got "
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
        The handle of a Trainer.
    X : ndarray (n, n_in), or one sample (n_in,)
        float32, float64 or uint8, of any strides; n is at most the handle's batch_size.
    y : ndarray (n,), (n, n_out), or a number
        int64: labels, the indices of the network's classes. float32 or float64: rows of targets, or values (n,) for a
        single output. For one sample: a label, a value or a row (n_out,).

    Returns
    -------
    float
        The mean cost before the step; NaN if nothing was done. A step whose cost is not finite is not made. But no copy
        is kept: if an earlier step has made parameters or moments infinite, they stay so.

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
    """Return the mean cost of samples and write its gradient, laid out like theta.

    Parameters
    ----------
    handle : Handle
    X, y : ndarray
        See `step`.
    gradient : ndarray (n_parameters,), of the network's dtype
        Overwritten; not meaningful if NaN is returned.

    Returns
    -------
    float
        The mean cost; NaN if nothing was done, or if it is not finite.

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
    """Update the parameters once, by a gradient that the caller has computed.

    Parameters
    ----------
    handle : Handle
        The handle of a Trainer.
    gradient : ndarray (n_parameters,), of the network's dtype

    Returns
    -------
    bool
        Whether the update was made: not if an element of the gradient is not finite.

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
        Overwritten; not meaningful if False is returned.

    Returns
    -------
    bool
        Whether all samples could be computed.

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
        The handle of a network whose outputs are classes.
    X : ndarray (n, n_in), or one sample (n_in,)
        float32, float64 or uint8, of any strides.
    labels : ndarray (n,) of int64
        Overwritten by indices of the network's classes; not meaningful if False is returned.

    Returns
    -------
    bool
        Whether all samples could be computed.

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
    """Vector-Jacobian product: the gradient of the sum of cotangent ∘ outputs, or of any E with dE/da[L] = cotangent.

    It runs the backward recurrence of fastbp.core.equations from these errors.

    Parameters
    ----------
    handle : Handle
    X : ndarray (n, n_in), or one sample (n_in,)
        See `step`.
    cotangent : ndarray (n, n_out), or (n_out,) of one sample
        float32 or float64.
    gradient : ndarray (n_parameters,), of the network's dtype
        Overwritten by the gradient with respect to theta, summed over the samples.
    input_gradients : ndarray (n, n_in), or (n_in,) of one sample, contiguous, of the network's dtype, optional
        Overwritten by the gradient with respect to X.

    Returns
    -------
    bool
        Whether the gradients were computed.

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
        The handle of a Trainer.
    eta : float
        >= 0.

    Returns
    -------
    bool
        Whether eta is valid.

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
    """Return the rows in which the network holds its samples: X = inputs(handle)[:n] is not copied.

    They hold what the network sees, after input_scale; dropout, noise and every call with other samples change them.
    y may be inputs(handle)[:n], too: it is read before dropout and noise. Other views of these rows are refused.

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
    """Return the rows in which the network holds its targets: y = targets(handle)[:n] is not copied.

    Other views of these rows are refused.

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
