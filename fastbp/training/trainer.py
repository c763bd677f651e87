"""Trainer: a network, its settings, and the calls that train it."""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import math
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp import callbacks as calls
from fastbp import losses
from fastbp.alone import Alone
from fastbp.callbacks import Callback, Fit, History
from fastbp.checkpoint import without_address
from fastbp.checks import counted, known_as, number, one_of, truth, whole_number
from fastbp.core.plan import Plan
from fastbp.data.augmentation import Augmentation
from fastbp.data.splitting import held_out
from fastbp.inputs import MULTILABEL, Data, as_data, as_weights
from fastbp.metrics import Metric
from fastbp.names import Names, n_classes
from fastbp.network import Network, check_loss, check_theta
from fastbp.optimizers import Optimizer
from fastbp.schedules import SCHEDULES, Function, Schedule
from fastbp.training import loop
from fastbp.training.guard import DivergenceError as DivergenceError
from fastbp.training.notes import warn_of_labels, warn_of_no_learning, warn_of_scales
from fastbp.training.passes import Pass, go_once, one_step
from fastbp.training.settings import MISPLACED, OF_OPTIMIZER, OF_TRAINER, Settings, chosen_threads, rates
from fastbp.training.stepper import Stepper
from fastbp.training.stream import read_ahead
from fastbp.training.validation import Validation, evaluate_few, outputs_of
from fastbp.workspace import Array


class Trainer(Settings):
    """Trains a network by gradient descent on shuffled mini-batches.

    Each parameter except the network is also an attribute and may be assigned between fits, with the same checks:
    `trainer.batch_size = 64`. During a fit, callbacks may assign loss, optimizer, schedule, clip_norm, clip_value,
    max_norm and ema, which apply from the next step on. After the first step, an optimizer or ema that needs another
    state needs a new Trainer.

    Defaults, as in `fastbp train`: SGD with Nesterov momentum 0.9, a learning rate of 0.2 for sigmoid and softmax
    outputs or 0.01 for others, and the linear schedule; mini-batches of 128; the loss that matches the output; 5 epochs
    in `fit`. If an optimiser is given, the default schedule is constant.

    Parameters
    ----------
    network : Network
        Trained in place.
    loss : str or one of fastbp.losses, optional
        quadratic, mean_absolute, huber or cosine; binary_cross_entropy (sigmoid outputs), cross_entropy (softmax
        outputs), poisson (softplus outputs); None: the one that matches the output, or quadratic. losses.Custom: your
        own. Names from other libraries are accepted: "mse" means quadratic, which is half of the squared error summed
        over the outputs, and "log_loss" the cross-entropy that matches the output.
    optimizer : SGD, Adam, AdamW, NAdam, RMSprop, Adagrad, Lion or Rprop
        An optimiser with its settings, or its name for the default settings. None or "sgd": as above.
    batch_size : int
        Samples in a mini-batch, >= 1; the last one of an epoch may be smaller.
    seed : int
        >= 0. The order of samples depends only on the seed and the number of the epoch.
    threads : int, optional
        >= 1; None: one or all, whichever is measured to be faster during the run. The result is bit-identical.
    schedule : str, Schedule or callable, optional
        Factor of the learning rate at each step of a fit: one of fastbp.schedules; its name, constant, linear (warm-up
        over 15 % of the steps, then decay to 0), step, exponential, cosine or one_cycle; or any function
        (step, steps) -> factor, step counting from 0. None: linear for the default optimiser, else constant. Each fit
        starts it again, over all steps of its epochs: if a fit is likely to end early, by early stopping or a time
        budget, use "constant". `step`, `partial_fit` and `fit_batches` do not know the number of steps and use the eta
        of the optimiser; `fit_batches` raises ValueError for a given schedule other than "constant".
    dropout : float or sequence of float
        In [0, 1): the share of activations that each step sets to 0, one for all hidden layers, or one for the input
        and one for each hidden layer; the others are multiplied by 1 / (1 - share). The choice depends only on the
        seed, the step, the layer and the element, not on the threads.
    noise : float
        >= 0: standard deviation of Gaussian noise that each step adds to the inputs, in units of the inputs times the
        network's input_scale; as reproducible as dropout.
    clip_norm, clip_value : float, optional
        > 0. A gradient whose norm over all trained parameters is above clip_norm is scaled to this norm; or each of its
        elements is clipped to [-clip_value, clip_value].
    max_norm : float, optional
        > 0. After each step, the incoming weights of each neuron are scaled to this norm if theirs is larger.
    ema : float, optional
        In (0, 1): decay per step of an exponential moving mean of the parameters, which starts at the initial ones and
        forgets them in some 5 / (1 - ema) steps. Epochs are validated with the mean, and the network holds it after a
        fit; further training continues from the parameters themselves, unless others are assigned to the network.
    frozen : sequence of int
        Layers l whose W[l] and b[l] are not trained; no gradient is computed for them.
    augmentation : fastbp.data.Augmentation, optional
        Random shifts, rotations, deformations of the images in X, others in each step; noise and dropout come after it.

    Attributes
    ----------
    history : History
        All epochs of all calls of fit and fit_batches so far, even if interrupted; NaN for values that an epoch lacks.
        Each call returns its own part.
    epochs_done, steps_done : int
        Number of passes through samples, and of updates of the parameters, so far.

    References
    ----------
    Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov: Dropout: A Simple Way to Prevent Neural Networks from
    Overfitting (JMLR 2014), with section 5.1 for max_norm.
    Pascanu, Mikolov, Bengio: On the difficulty of training recurrent neural networks (ICML 2013), algorithm 1, for
    clip_norm.
    Polyak, Juditsky: Acceleration of Stochastic Approximation by Averaging (SIAM J. Control Optim. 1992), for ema.

    Raises
    ------
    ValueError, TypeError
        A setting is out of its range or does not fit the network.

    Examples
    --------
    >>> from fastbp import Adam, Network, Trainer
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> y = (X[:, 0] * X[:, 1] > 0).astype(int)
    >>> net = Network([2, 16, 2], hidden="tanh", output="softmax")
    >>> history = Trainer(net, optimizer=Adam(eta=0.03), batch_size=20).fit(X, y, epochs=40)
    >>> bool(np.mean(net.predict(X) == y) > 0.95)
    True
    """

    @known_as(MISPLACED)
    def __init__(self, network: Network, loss: str | losses.Loss | None = None,
                 optimizer: Optimizer | str | None = None, batch_size: int = 128, seed: int = 0,
                 threads: int | None = None, schedule: str | Schedule | Function | None = None,
                 dropout: float | Sequence[float] = 0.0, noise: float = 0.0, clip_norm: float | None = None,
                 clip_value: float | None = None, max_norm: float | None = None, ema: float | None = None,
                 frozen: Sequence[int] = (), augmentation: Augmentation | None = None):
        super().__init__(network, {
            "loss": loss, "optimizer": optimizer, "batch_size": batch_size, "seed": seed, "threads": threads,
            "schedule": schedule, "dropout": dropout, "noise": noise, "clip_norm": clip_norm, "clip_value": clip_value,
            "max_norm": max_norm, "ema": ema, "frozen": frozen, "augmentation": augmentation})
        self.alone, self.stepper = Alone(), Stepper(self)

    def changed(self, room: bool) -> None:
        self.stepper.few, self.stepper.has_changed = None, True
        if room:
            self.stepper.renew()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"stepper": None, "alone": None, "_is_training": False}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.alone, self.stepper = Alone(), Stepper(self)

    @contextlib.contextmanager
    def reserved(self) -> Iterator[None]:
        """In this block no other thread may train with this trainer or on its network.

        After it the network holds the mean of the parameters, if there is one; in a callback, what it held before."""
        mine, of_network, me, own = self.alone, self.network.alone, threading.get_ident(), self.__dict__
        for taken, what in ((mine, "trainer"), (of_network, "network")):
            if taken.owner not in (None, me):
                raise RuntimeError(f"this {what} is being trained by another thread; give each thread its own "
                                   "(copy.deepcopy of the trainer copies its network, too), or wait for the other")
        before = mine.owner, of_network.owner, self._is_training  # a callback may also train
        held = self.state.holds_mean or not self._is_training
        try:
            mine.owner = of_network.owner = me
            own["_is_training"] = True
            try:
                yield
            finally:
                try:
                    self.hold_mean(held)
                except KeyboardInterrupt:  # it may have come before it was held back
                    self.hold_mean(held)
                    raise
        finally:
            mine.owner, of_network.owner, own["_is_training"] = before
            self.stepper.has_changed = True  # for a fit, if called in one of its callbacks

    def __repr__(self) -> str:
        """Return the settings that differ from the defaults, and the progress."""
        plain = {name: parameter.default for name, parameter in inspect.signature(Trainer).parameters.items()}
        sizes = self.network.layer_sizes
        plain |= {"loss": check_loss(None, self.network.activations[-1], sizes[-1]),
                  "optimizer": self.default_optimizer, "threads": chosen_threads(self, None),
                  "dropout": rates(0.0, len(sizes) - 2)}
        given = [f"{name}={without_address(getattr(self, name))}" for name, default in plain.items()
                 if name != "network" and (getattr(self, name) is not default if name == "optimizer"
                                           else getattr(self, name) != default)]
        steps = counted(self.steps_done, "step")
        return f"Trainer({', '.join([repr(self.network), *given])}), {steps} done"

    @known_as(OF_TRAINER | OF_OPTIMIZER, validation_split="validation_fraction",
              verbose=("progress", lambda verbose: _progress(verbose)))
    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike, epochs: int = 5,
            validation_data: Sequence[npt.ArrayLike] | None = None,
            progress: bool | None = None, *, sample_weight: npt.ArrayLike | None = None,
            class_weight: str | Mapping[Any, float] | None = None, validation_fraction: float | None = None,
            stratify: bool = False, metrics: Iterable[str | Metric] = (),
            callbacks: Iterable[Callback] = ()) -> History:
        """Train for `epochs` more epochs; a further call continues where the last one ended.

        Parameters
        ----------
        X : array_like (n, n_in), frame of pandas, Polars or PyArrow, or sparse array of SciPy
            Multiplied by the network's input_scale. uint8, float32 and float64 are read where they lie. The network
            keeps the names of a frame's columns, see `Network.feature_names`.
        y : array_like or frame
            Labels (n,), or rows of targets (n, n_out); for one output also values (n,). Labels are numbers from 0, or
            names (strings), which the network keeps, sorted, see `Network.classes`. It also keeps the column names
            of a frame of rows, as classes or as `Network.target_names`. X, y and sample_weight are paired by
            position, whatever their index.
        epochs : int
            >= 1.
        validation_data : (X, y) or (X, y, sample_weight), optional
            Evaluated after each epoch.
        progress : bool, optional
            Show a bar on standard error; None: in terminals and notebooks. Also accepted as
            verbose=0, 1, 2 or "auto".
        sample_weight : array_like (n,), optional
            >= 0: a weight of 2 counts the sample twice in its mini-batch; the gradient is a weighted mean. A mini-batch
            whose weights are all 0 changes no parameter and no moment, but counts as a step.
        class_weight : "balanced" or dict, optional
            A weight for each label or class name, multiplied by the sample weight; "balanced": all classes
            get the same total weight.
        validation_fraction : float, optional
            In (0, 1): this share of the samples, drawn by the trainer's seed and copied, is kept for validation, with
            its sample weights, and not trained on. Also accepted as validation_split.
        stratify : bool
            Whether the share is taken from each class, with at least one sample left for training; needs labels.
        metrics : iterable of str or metrics.Metric
            Computed after each epoch on validation samples, for history.metrics: accuracy, top5, precision, recall and
            f1 (means over the classes), log_loss; r2, mae, rmse.
        callbacks : iterable of functions of a `callbacks.Fit`
            Called after each epoch; those of fastbp.callbacks at their own times.

        Returns
        -------
        History
            The history of this call.

        Raises
        ------
        ValueError, TypeError
            The data do not fit; nothing has been changed.
        DivergenceError
            The cost became NaN or infinite; the network holds the last finite parameters.

        Warns
        -----
        TrainingWarning
            Inputs or targets are absurdly large; some labels of the network never occur; the loss is far worse than
            that of a constant prediction, or no better after 20 epochs or 1,000 steps; it jumps up and down from epoch
            to epoch; the network holds a mean (ema) that is still mostly the initial parameters. Each is given once per
            trainer. `diagnose` says more; so does the callback `insight.Statistics`, during training.
        UserWarning
            X, y or sample_weight are pandas objects with the same index labels in another order.

        Examples
        --------
        >>> X = np.random.default_rng(0).normal(size=(200, 2))
        >>> trainer = Trainer(Network([2, 8, 2]), batch_size=20)
        >>> history = trainer.fit(X, (X[:, 0] > X[:, 1]).astype(int), epochs=3, validation_fraction=0.2)
        >>> len(history.loss), history.samples
        (3, [160, 160, 160])
        """
        epochs = whole_number("epochs", epochs, 1)
        watchers = self.checked_callbacks(callbacks)
        names = Names(self.network, learning=True)
        data = self._check(X, y, sample_weight, names)
        data, chosen, held_out = self._divide(data, validation_fraction, truth("stratify", stratify), validation_data,
                                              names)
        if class_weight is not None:
            data = replace(data, weights=as_weights(sample_weight, class_weight, data.t.labels, len(data), names,
                                                    chosen, n_classes(self.network.layer_sizes[-1])))
        data.with_some_weight(chosen=chosen)
        validation = Validation(self, held_out, metrics)
        fit = self.new_fit(epochs, validation)
        warn_of_scales(self, data, chosen, names.feature_names)
        warn_of_labels(self, data, chosen)
        with self.reserved():
            source = self.source_of(data, chosen, names, fit, watchers, validation)
            loop.run(self, source, fit, validation, progress)
        warn_of_no_learning(self, fit.history.loss, fit.step, data, chosen)
        return fit.history

    def _divide(self, data: Data, share: float | None, stratify: bool, given: Sequence[npt.ArrayLike] | None,
                names: Names) -> tuple[Data, Array | None, Data | None]:
        """Return the samples, the indices of those to train on (None: all), and those to validate with."""
        if stratify and share is None:
            raise ValueError("stratify=True needs validation_fraction")
        if share is None:
            return data, None, self.validation_of(given, names)
        if given is not None:
            raise ValueError("give validation_data or validation_fraction, not both")
        share = number("validation_fraction", share, 0, 1, low_open=True, high_open=True)
        if stratify and data.t.labels is None:
            raise ValueError("stratify=True needs labels, but y holds values")
        labels = data.t.labels if stratify else None
        chosen, kept = held_out(len(data), share, labels, self.seed, "validation_fraction")
        return data, chosen, data.taken(kept).with_some_weight("validation ")

    def source_of(self, data: Data, chosen: Array | None, names: Names, fit: Fit, watchers: list[Callback],
                  validation: Validation) -> loop.Arrays:
        """Return the source that `loop.run` uses for a fit on these samples; in a block of `reserved`."""
        return loop.Arrays(Pass(self.stepper, data, chosen), fit, watchers, validation.arrays,
                           lambda: self.learn_meaning(data, names))

    def learn_meaning(self, data: Data, names: Names) -> None:
        """Let the network predict the kind of targets that it is trained on."""
        names.teach(self.network)
        self.network.multilabel = data.t.kind == MULTILABEL

    def checked_callbacks(self, callbacks: Iterable[Callback] | None) -> list[Callback]:
        """Return the callbacks of a fit in the order of their calls; raise TypeError or ValueError if they are none."""
        if callbacks is None:
            return []
        if not isinstance(callbacks, Iterable):
            raise TypeError(f"callbacks must be a sequence of functions, got {callbacks!r}; give [{callbacks!r}]")
        watchers = list(callbacks)
        for callback in watchers:
            if not callable(callback) or isinstance(callback, type):
                made = f"; make one: {callback.__name__}(...)" if isinstance(callback, type) else ""
                raise TypeError(f"callbacks must be functions, got {callback!r}{made}")
        calls.check_one_end(watchers, self.ema)
        return calls.in_order(watchers)

    def validation_of(self, given: Sequence[npt.ArrayLike] | None, names: Names) -> Data | None:
        """Return the validation samples, checked."""
        if given is None:
            return None
        if not (isinstance(given, (tuple, list)) and len(given) in (2, 3)):
            raise TypeError(f"validation_data must be (X, y) or (X, y, sample_weight), got {_kind(given)}")
        own = given[2] if len(given) == 3 else None
        return self._check(given[0], given[1], own, names, "validation ").with_some_weight("validation ")

    def new_fit(self, epochs: int, validation: Validation) -> Fit:
        """Return a fit as callbacks see it, if the parameters are finite."""
        check_theta(self.network)
        fit = Fit(self.network, epochs=epochs, trainer=self)
        validation.announce(fit)
        return fit

    def step(self, X: npt.ArrayLike, y: npt.ArrayLike, *, sample_weight: npt.ArrayLike | None = None) -> float:
        """Make one step on one mini-batch, all given samples; return their mean cost before the step.

        For your own training loops. The learning rate is the optimiser's eta, without the schedule. A small step takes
        some microseconds if the arrays are contiguous, writeable and of the network's dtype (labels: int64); other data
        are accepted, too.

        Parameters
        ----------
        X, y, sample_weight : array_like
            See `fit`: up to batch_size samples. If all weights are 0, nothing is done, and the cost is NaN.

        Returns
        -------
        float
            In units of the loss.

        Raises
        ------
        ValueError, TypeError
            As for `fit`; or there are more than batch_size samples.
        DivergenceError
            The cost is no longer finite: the step was not made. If an earlier step has made parameters or moments
            infinite, which is noticed by the cost or within 2 s, the network goes back by up to 2 s.

        Examples
        --------
        >>> from fastbp import Adam, Network, Trainer
        >>> net = Network([2, 16, 1], hidden="tanh", output="identity", seed=0)
        >>> trainer, draw = Trainer(net, optimizer=Adam(0.01), batch_size=32), np.random.default_rng(0)
        >>> for _ in range(1000):
        ...     X = draw.normal(size=(32, 2)).astype("f4")
        ...     cost = trainer.step(X, X[:, :1] * X[:, 1:])
        >>> cost < 0.05, trainer.steps_done
        (True, 1000)
        """
        if sample_weight is None:
            cost = self._step_few(X, y)
            if not math.isnan(cost):
                return cost
        names = Names(self.network, learning=True)
        data = self._check(X, y, sample_weight, names, warned_of=self.warned_of)
        if len(data) > self.batch_size:
            raise ValueError(f"a step takes up to batch_size={self.batch_size} samples, got {len(data)}; use fit or "
                             "partial_fit, which make mini-batches")
        return math.nan if data.is_idle else self._step_any(data, names)

    def _step_few(self, X: Any, y: Any) -> float:
        """Make a step on the fast path, unless another thread trains with this trainer or on its network; else NaN."""
        mine, of_network, me = self.alone, self._network.alone, threading.get_ident()
        before = mine.owner, of_network.owner
        if not (mine.owner in (None, me) and of_network.owner in (None, me)):
            return math.nan
        try:
            mine.owner = of_network.owner = me
            return self.stepper.step_few(X, y)
        finally:
            mine.owner, of_network.owner = before
            self.stepper.has_changed = True  # for a fit, if called in one of its callbacks

    def _step_any(self, data: Data, names: Names) -> float:
        """Make a step on the general path, with checked data."""
        with self.reserved():
            self.learn_meaning(data, names)
            self.hold_mean(False)
            return one_step(self.stepper, data)

    def partial_fit(self, X: npt.ArrayLike, y: npt.ArrayLike, *, sample_weight: npt.ArrayLike | None = None) -> float:
        """Make one pass in mini-batches through samples that arrive as a stream; return their mean cost.

        Up to batch_size samples are one `step`, and as fast. More are shuffled by the seed and the number of epochs and
        calls before. The learning rate is the optimiser's eta: a schedule would need the total number of steps.

        Parameters
        ----------
        X, y, sample_weight : array_like
            See `fit`. If all weights are 0, nothing is done.

        Returns
        -------
        float
            In units of the loss; NaN if nothing was done.

        Raises
        ------
        ValueError, TypeError
            The data do not fit; nothing has been changed.
        DivergenceError
            The cost or a parameter is no longer finite; the network goes back by up to 2 s.

        Examples
        --------
        >>> trainer, draw = Trainer(Network([2, 8, 2]), batch_size=20), np.random.default_rng(0)
        >>> for _ in range(10):
        ...     X = draw.normal(size=(100, 2))
        ...     cost = trainer.partial_fit(X, (X[:, 0] > X[:, 1]).astype(int))
        >>> trainer.epochs_done, trainer.steps_done
        (10, 50)
        """
        cost = self._step_few(X, y) if sample_weight is None else math.nan
        if math.isnan(cost):
            names = Names(self.network, learning=True)
            data = self._check(X, y, sample_weight, names, warned_of=self.warned_of)
            if data.is_idle:
                return math.nan
            if len(data) > self.batch_size:
                check_theta(self.network)
                return self.go_once(data, names)
            cost = self._step_any(data, names)
        self.state.epochs_done += 1
        return cost

    def go_once(self, data: Data, names: Names) -> float:
        """Do `partial_fit` with checked data."""
        with self.reserved():
            self.learn_meaning(data, names)
            return go_once(self.stepper, data)[0].cost

    def fit_batches(self, batches: Iterable[Sequence[npt.ArrayLike]], epochs: int = 1,
                    validation_data: Sequence[npt.ArrayLike] | None = None, *,
                    metrics: Iterable[str | Metric] = (), callbacks: Iterable[Callback] = ()) -> History:
        """Train on batches that need not fit in memory together; a thread reads ahead while others compute.

        The learning rate is the optimiser's eta: a schedule would need the total number of steps.

        Parameters
        ----------
        batches : iterable of (X, y) or (X, y, sample_weight)
            Iterated over again in each epoch: a list, or an object whose __iter__ reads files. Each batch is used once,
            shuffled, in mini-batches of batch_size samples; a batch whose weights are all 0 is skipped.
        epochs, validation_data, metrics, callbacks
            See `fit`; callbacks for steps are called after a batch. Checkpoints are not supported: use `fit` with
            memory-mapped arrays.

        Raises
        ------
        ValueError, TypeError
            A batch does not fit, when its turn comes; or there is no batch; or the trainer was given a schedule other
            than "constant".
        DivergenceError
            The cost became NaN or infinite; the network holds the last finite parameters.

        Examples
        --------
        >>> class Batches:
        ...     def __iter__(self):
        ...         draw = np.random.default_rng(0)
        ...         for _ in range(50):
        ...             X = draw.normal(size=(100, 2))
        ...             yield X, (X[:, 0] > X[:, 1]).astype(int)
        >>> net = Network([2, 8, 2], output="softmax")
        >>> history = Trainer(net, batch_size=20).fit_batches(Batches(), epochs=3)
        >>> history.samples, history.loss[-1] < 0.2
        ([5000, 5000, 5000], True)
        """
        epochs = whole_number("epochs", epochs, 1)
        if self.schedule not in (None, SCHEDULES["constant"]):
            raise ValueError(f"fit_batches takes no schedule, as it does not know how many steps there will be, got "
                             f"{without_address(self.schedule)}; set trainer.schedule = \"constant\"")
        watchers = self.checked_callbacks(callbacks)
        if any(isinstance(callback, calls.Checkpoint) for callback in watchers):
            raise ValueError("fit_batches does not support checkpoints; use fit with memory-mapped arrays")
        names = Names(self.network, learning=True)
        validation = Validation(self, self.validation_of(validation_data, names), metrics)
        fit = self.new_fit(epochs, validation)
        source = loop.Batches(self.stepper, lambda: read_ahead(batches, functools.partial(self._check_batch, names)),
                              lambda data: self.learn_meaning(data, names), fit, watchers)
        with self.reserved():
            loop.run(self, source, fit, validation)
        return fit.history

    def _check_batch(self, names: Names, batch: Sequence[npt.ArrayLike]) -> Data:
        if not (isinstance(batch, (tuple, list)) and len(batch) in (2, 3)):
            raise TypeError(f"a batch must be (X, y) or (X, y, sample_weight), got {_kind(batch)}")
        given = batch[2] if len(batch) == 3 else None
        # Copied, as batches are read ahead: the source may fill the same arrays again and again.
        return self._check(batch[0], batch[1], given, names, warned_of=self.warned_of).taken()

    def evaluate(self, X: npt.ArrayLike, y: npt.ArrayLike, *,
                 sample_weight: npt.ArrayLike | None = None) -> tuple[float, float | None]:
        """Return mean cost and accuracy, weighted if weights are given.

        Parameters
        ----------
        X, y, sample_weight : array_like
            See `fit`.

        Returns
        -------
        cost : float
            In units of the loss.
        accuracy : float or None
            In [0, 1]; None for targets that are values. For several sigmoid outputs with rows of targets: the share of
            right yes/no decisions (yes: at least 1/2).

        Raises
        ------
        ValueError, TypeError
            The data do not fit, or all weights are 0.

        Examples
        --------
        >>> trainer = Trainer(Network([2, 2], weights="zeros"))
        >>> cost, accuracy = trainer.evaluate(np.eye(2), [0, 1])
        >>> round(cost, 3), accuracy
        (0.693, 0.5)
        """
        found = evaluate_few(self, X, y) if sample_weight is None else None
        return found or outputs_of(self, self._check(X, y, sample_weight).with_some_weight())[1:]

    def compile(self) -> None:
        """Compile now what `fit` and `evaluate` need, or load it from the cache, instead of in their first call.

        Examples
        --------
        >>> Trainer(Network([2, 8, 2])).compile()
        """
        net, trial, one = self.network, copy.deepcopy(self), np.zeros(1)
        data = self._check(np.zeros((1, net.layer_sizes[0])), np.eye(1, net.layer_sizes[-1]))
        outputs_of(self, data)
        trial.stepper.prepare(1)
        trial.stepper.make(data, one.astype(np.int64), 1, one, one.copy(), self.threads)

    def _check(self, X: npt.ArrayLike, y: npt.ArrayLike, sample_weight: npt.ArrayLike | None = None,
               names: Names | None = None, name: str = "", warned_of: set[str] | None = None) -> Data:
        return as_data(X, y, sample_weight, self.network, self.loss, names, name, warned_of, sparse=True)

    def plan(self, batch_size: int | None = None) -> Plan:
        """Return what a step does, stage by stage, on all threads of the trainer, to be printed.

        Parameters
        ----------
        batch_size : int, optional
            Samples in the step, >= 1; None: as set in the trainer.

        Raises
        ------
        ValueError, TypeError
            batch_size is out of its range.

        Examples
        --------
        >>> print(Trainer(Network([784, 100, 10]), threads=1).plan())
        pieces of 128 samples; each, stage by stage:
          1. SAMPLES: input, layers 0 to 1 forward, output error, layers 0 to 0 backward; 1 part
          2. WEIGHTS: gradients of layers 0 to 1, update; 1 part
        """
        return self.stepper.plan(
            self.batch_size if batch_size is None else whole_number("batch_size", batch_size, 1), self.threads)


def _progress(verbose: Any) -> bool | None:
    """Return the value of `progress` for Keras' verbose: 0, 1, 2, a boolean or "auto"."""
    if isinstance(verbose, (bool, np.bool_)):
        return bool(verbose)
    return None if isinstance(verbose, str) and one_of("verbose", verbose, ["auto"]) else whole_number(
        "verbose", verbose, 0) > 0


def _kind(value: object) -> str:
    """Return a short description of a value whose repr may be long."""
    length = f" of length {len(value)}" if isinstance(value, Sized) else ""
    return type(value).__name__ + length
