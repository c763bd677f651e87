"""Fits as scikit-learn 1.9 makes them: by epochs, with its order, penalty, rates and end; or by SciPy's L-BFGS-B."""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from joblib.parallel import get_active_backend
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from fastbp.callbacks import Checkpoint, Fit
from fastbp.checks import shown
from fastbp.core import compiler
from fastbp.core.rules import EPSILON_HAT, L2
from fastbp.inputs import Data, as_data
from fastbp.names import Names
from fastbp.optimizers import SGD, Adam
from fastbp.scipy import objective
from fastbp.training import loop
from fastbp.training.guard import DivergenceError
from fastbp.training.many import Many, Member, Shared
from fastbp.training.settings import OF_A_SAMPLE
from fastbp.training.trainer import Trainer
from fastbp.training.validation import Validation
from fastbp.workspace import Array

AUTO = 200  # batch_size="auto": so many samples, or all of fewer
MOST_EPOCHS = 16  # in one compiled call
SHORT = 15_000_000  # multiply-adds of an epoch, above which one call for several gains nothing
LARGE = 10  # multiples of tol: a penalty above them is computed after each epoch, not interpolated
WORTH_THREADS = 20_000_000  # multiply-adds of an evaluation, below which lbfgs takes one thread: SciPy works in between
LOWEST_RATE, LOWER = 1e-6, 5  # learning_rate="adaptive": divide by LOWER, stop below LOWEST_RATE
# What partial_fit keeps from its first call on, as scikit-learn does with its optimizer.
OF_OPTIMIZER = ("optimizer", "solver", "learning_rate", "learning_rate_init", "power_t", "beta_1", "beta_2", "epsilon",
                "momentum", "nesterovs_momentum")
NOT_FINITE = ("Solver produced non-finite parameter weights. The input data may contain large values and need to be "
              "preprocessed.")


class Work:
    """A call of fit or partial_fit: the estimator, checked data, and the context of scikit-learn's callbacks."""

    def __init__(self, own: Any, X: Array, y: Array, weights: Array | None, random: Any, goes_on: bool, context: Any):
        self.own, self.X, self.y, self.weights, self.random = own, X, y, weights, random
        self.goes_on, self.context = goes_on, context
        self._task: Any = None
        self.metadata = None if weights is None else {"sample_weight": weights}

    def begin_task(self, name: str) -> None:
        if self.context is not None:
            self._task = self.context.subcontext(task_name=name)
            self._task.call_on_fit_task_begin(estimator=self.own, X=self.X, y=self.y, metadata=self.metadata,
                                              reconstruction_attributes=self._fitted)

    def end_task(self) -> bool:
        """Call the callbacks; return whether one of them wants to stop."""
        return self._task is not None and self._task.call_on_fit_task_end(
            estimator=self.own, X=self.X, y=self.y, metadata=self.metadata, reconstruction_attributes=self._fitted)

    def _fitted(self) -> dict[str, Any]:
        return {name: [part.copy() for part in getattr(self.own, name)] for name in ("coefs_", "intercepts_")}


def _trainer(work: Work, batch_size: int) -> Trainer:
    """Make the trainer of these parameters; partial_fit continues with the moments of its last call."""
    own = work.own
    net, kept = own._network(), own._kept[2]
    if work.goes_on and kept is not None:
        kept.batch_size, kept.dropout, kept.loss = batch_size, own.dropout, own._output_and_loss()[1]
        kept.schedule, kept.threads = own.schedule, threads_of(own)
        return kept  # type: ignore[no-any-return]
    if not work.goes_on or "_made_with" not in vars(own):
        own._made_with = {name: getattr(own, name) for name in OF_OPTIMIZER}
        own.__dict__.pop("_moments", None)
    optimizer = _optimizer(**own._made_with)
    seed = own.__dict__.pop("_seed", None)
    if seed is None or not work.goes_on:
        seed = int(work.random.randint(1 << 31)) if np.any(own.dropout) else 0
    trainer = Trainer(net, own._output_and_loss()[1], optimizer, batch_size, threads=threads_of(own),
                      seed=seed, schedule=own.schedule, dropout=own.dropout)
    moments = own.__dict__.pop("_moments", None)
    if moments is not None and moments.shape == trainer.state.rows.shape:
        trainer.state.rows[...], trainer.state.clock[0] = moments, own._steps
    else:
        own._rate = trainer.optimizer.eta
    own._hold(net, trainer)
    return trainer


def _optimizer(optimizer: Any, solver: str, learning_rate_init: float, beta_1: float, beta_2: float, epsilon: float,
               momentum: float, nesterovs_momentum: bool, **_: Any) -> Any:
    if optimizer is not None:
        return optimizer
    if solver == "adam":
        return Adam(learning_rate_init, beta_1, beta_2, epsilon)
    momentum = min(momentum, float(np.nextafter(1, 0)))  # scikit-learn takes 1, too
    return SGD(learning_rate_init, momentum, nesterov=nesterovs_momentum and momentum > 0)


def _rate_changes(own: Any) -> str:
    """Return learning_rate, which only sgd follows."""
    made = own._made_with
    return str(made["learning_rate"]) if made["solver"] == "sgd" and made["optimizer"] is None else "constant"


def by_epochs(work: Work, validation_data: Any) -> None:
    own = work.own
    if own.early_stopping and work.goes_on:
        raise ValueError("partial_fit does not support early_stopping=True")
    if any(isinstance(callback, Checkpoint) for callback in own.callbacks or ()):
        raise ValueError(f"{type(own).__name__} does not support callbacks.Checkpoint, which keeps nothing of an "
                         "estimator; use fastbp.Trainer, or partial_fit and pickle")
    X, y, weights, score = _kept_apart(work)
    if own.batch_size != "auto" and own.batch_size > X.shape[0]:
        warnings.warn("Got `batch_size` less than 1 or larger than sample size. It is going to be clipped",
                      stacklevel=4)
    trainer = _trainer(work, min(X.shape[0], AUTO if own.batch_size == "auto" else own.batch_size))
    trainer.stepper.extra = {L2: own.alpha, EPSILON_HAT: float(own._made_with["optimizer"] is None)}
    names = Names(trainer.network, learning=True)
    data = as_data(X, y, weights, trainer.network, trainer.loss, names, sparse=True)
    watchers = trainer.checked_callbacks(own.callbacks)
    validation = Validation(trainer, _validated(own, trainer, validation_data, names), own.metrics or ())
    own.n_iter_, epochs = 0, 1 if work.goes_on else own.max_iter
    with trainer.reserved():
        after, fit = Epochs(work, len(data), trainer.batch_size, data.weights, score), Fit(trainer.network)
        try:
            if _are_short(work, trainer, data) and not (watchers or validation.data):
                member = Member(trainer, Shared(data, None, names), None, epochs)
                fit = member.fit
                _several_at_once(member, after)
            else:
                fit = trainer.new_fit(epochs, validation)
                fit.eta_factor = own._rate / trainer.optimizer.eta
                source = trainer.source_of(data, None, names, fit, watchers, validation)
                source.once.order_of = after.order  # type: ignore[method-assign, assignment]
                source.watchers = [*watchers, lambda fit: after(fit, [(source.once.order, source.once.costs)])]
                loop.run(trainer, source, fit, validation)
        except DivergenceError as error:
            if after.best is None:
                raise ValueError(NOT_FINITE) from error
            own.validation_scores_.append(math.nan)
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=4)
    own.history_ = {name: list(values) for name, values in fit.history.values().items()}
    if own.early_stopping and after.best is not None:
        trainer.network.theta = after.best
    if own.n_iter_ == own.max_iter and not work.goes_on and not fit.history.stopped:
        warnings.warn(f"Stochastic Optimizer: Maximum iterations ({own.max_iter}) reached and the optimization hasn't "
                      "converged yet.", ConvergenceWarning, stacklevel=4)


def _are_short(work: Work, trainer: Trainer, data: Data) -> bool:
    """Return whether epochs are short, and nothing has to be done between them."""
    own = work.own
    looks_on = own.early_stopping or own.verbose or work.goes_on or work.context is not None
    changes = _rate_changes(own) != "constant"
    at_once = not (looks_on or changes or data.x.is_sparse)
    return at_once and len(data) * (3 * trainer.network.n_parameters + OF_A_SAMPLE) < SHORT


def _several_at_once(member: Member, after: Epochs) -> None:
    """Make all epochs, several in a compiled call, but never beyond the earliest one that can be the last."""
    member.once.order_of = after.order  # type: ignore[method-assign, assignment]
    many = Many([member], 1)
    many.guarded(lambda: _slices(member, many, after))


def _slices(member: Member, many: Many, after: Epochs) -> None:
    while member.steps_left and not member.fit.history.stopped:
        member.plan(member.once.steps * after.until_end(), many.factors)
        made = [(part.order, part.costs) for part in member.parts]
        with compiler.uninterrupted():
            if many.make([member], [member.calls()]):
                raise DivergenceError(NOT_FINITE)
            after(member.fit, made)


def _kept_apart(work: Work) -> tuple[Array, Array, Array | None, Callable[[], float] | None]:
    """Return the samples to train on, their targets and weights, and with early_stopping a function that scores the
    others."""
    own, X, y, weights = work.own, work.X, work.y, work.weights
    if not own.early_stopping:
        return X, y, weights, None
    numbers = np.arange(X.shape[0])
    decides = y.ndim == 1 and 0 < len(getattr(own, "classes_", ())) <= 2  # scikit-learn stratifies only these
    train, kept = train_test_split(numbers, random_state=work.random, test_size=own.validation_fraction,
                                   stratify=y[:, np.newaxis].astype(bool) if decides else None)
    if len(kept) < 2:
        raise ValueError("The validation set is too small. Increase 'validation_fraction' or the size of your dataset.")
    others, meant, their_weights = X[kept], y[kept], None if weights is None else weights[kept]

    def score() -> float:
        return own._score(own._network().forward(others), meant, their_weights)  # type: ignore[no-any-return]

    return X[train], y[train], None if weights is None else weights[train], score


def _validated(own: Any, trainer: Trainer, given: Any, names: Names) -> Data | None:
    """Convert validation_data to what the trainer takes."""
    if given is None:
        return None
    if not (isinstance(given, (tuple, list)) and len(given) in (2, 3)):
        raise TypeError(f"validation_data must be (X, y) or (X, y, sample_weight), got {shown(given)}")
    X, y = own._targets(given[0], given[1], goes_on=True, first=False)
    return trainer.validation_of((X, y, *given[2:]), names)


class Epochs:
    """What scikit-learn does around an epoch: draw the order; then record the loss, score, stop or lower the rate."""

    def __init__(self, work: Work, n: int, batch_size: int, weights: Array, score: Callable[[], float] | None):
        self.work, self.own, self.n, self.score = work, work.own, n, score
        self.numbers, self.best, self.weights = np.arange(n), None, weights
        self.starts = np.arange(0, n, batch_size)
        self.counts = np.diff(self.starts, append=n)
        self.shares = np.arange(len(self.counts)) / len(self.counts)  # of an epoch, before each mini-batch
        self.squares = self._squares()

    def order(self, _: int) -> Array:
        self.work.begin_task("epoch")
        if self.own.shuffle:
            drawn = np.arange(self.n)
            self.work.random.shuffle(drawn)
            self.numbers = self.numbers[drawn]
        return self.numbers

    def _squares(self) -> float:
        return sum(float(np.vdot(W, W)) for W in self.own.coefs_) if self.own.alpha else 0.0

    def until_end(self) -> int:
        """Return how many epochs can be made before the fit could stop; 1 if the penalty is needed after each."""
        own = self.own
        if own.alpha * self.squares > LARGE * own.tol * self.counts[-1]:
            return 1
        return int(max(1, min(own.n_iter_no_change + 1 - own._stalled, MOST_EPOCHS)))

    def _loss(self, order: Array, costs: Array, squares: Array) -> float:
        """Return the mean over the samples of the loss and penalty of their mini-batch."""
        if len(self.weights) == 0:
            each = self.own._in_units(costs) + 0.5 * self.own.alpha * squares / self.counts
            return float(each @ self.counts / self.n)
        weights = np.add.reduceat(self.weights[order], self.starts)
        some = weights > 0  # mini-batches of weight 0 made no step
        each = self.own._in_units(costs[some]) + 0.5 * self.own.alpha * squares[some] / weights[some]
        return float(each @ self.counts[some] / self.n)

    def __call__(self, fit: Fit, epochs: list[tuple[Array, Array]]) -> None:
        """Record epochs, given by their order and costs; the norm of the weights is taken to change evenly."""
        before, self.squares = self.squares, self._squares()
        for i, (order, costs) in enumerate(epochs):
            squares = before + (i + self.shares) / len(epochs) * (self.squares - before)
            self._note(fit, self._loss(order, costs, squares))

    def _note(self, fit: Fit, loss: float) -> None:
        own = self.own
        own.n_iter_ += 1
        own.t_ += self.n
        own.loss_ = loss
        own.loss_curve_.append(own.loss_)
        if own.verbose:
            print(f"Iteration {own.n_iter_}, loss = {own.loss_:.8f}")
        better = self._is_better()
        own._stalled = 0 if better else own._stalled + 1
        made = own._made_with
        if _rate_changes(own) == "invscaling":
            self._set_rate(fit, made["learning_rate_init"] / (own.t_ + 1) ** made["power_t"])
        if own._stalled > own.n_iter_no_change:
            self._stop_or_lower(fit)
        if self.work.end_task():
            fit.stop("a callback of scikit-learn")

    def _is_better(self) -> bool:
        own = self.own
        if self.score is None:
            better = not own.loss_ > own.best_loss_ - own.tol
            own.best_loss_ = min(own.best_loss_, own.loss_)
            return better
        score = self.score()
        own.validation_scores_.append(score)
        if own.verbose:
            print(f"Validation score: {score:f}")
        better = not score < own.best_validation_score_ + own.tol
        if score > own.best_validation_score_:
            own.best_validation_score_, self.best = score, own._network().theta.copy()
        return better

    def _stop_or_lower(self, fit: Fit) -> None:
        own = self.own
        what = "Training loss" if self.score is None else "Validation score"
        told = (f"{what} did not improve more than tol={own.tol:f} for {own.n_iter_no_change} consecutive epochs.")
        adapts = _rate_changes(own) == "adaptive"
        if adapts and own._rate > LOWEST_RATE:
            self._set_rate(fit, own._rate / LOWER)
            told += f" Setting learning rate to {own._rate:f}"
            own._stalled = 0
        else:
            told += " Learning rate too small. Stopping." if adapts else " Stopping."
            fit.stop(told)
        if own.verbose:
            print(told)

    def _set_rate(self, fit: Fit, rate: float) -> None:
        """Set the learning rate. scikit-learn keeps velocities in units of the parameters, a trainer in those of the
        gradient."""
        own, trainer = self.own, self.own._kept[2]
        trainer.state.rows *= own._rate / rate
        own._rate = rate
        fit.eta_factor = rate / trainer.optimizer.eta


def by_lbfgs(work: Work) -> None:
    """SciPy's L-BFGS-B, on the mean loss of all samples and the penalty."""
    from scipy.optimize import minimize

    own, net, weights = work.own, work.own._network(), work.weights
    total = work.X.shape[0] if weights is None else weights.sum()
    threads = threads_of(own) if work.X.shape[0] * net.n_parameters > WORTH_THREADS else 1
    cost = objective(net, work.X, work.y, own._output_and_loss()[1], sample_weight=weights, l2=own.alpha / total,
                     threads=threads)

    def after(intermediate_result: Any) -> None:
        net.theta = intermediate_result.x
        stop = work.end_task()
        work.begin_task("lbfgs-iter")
        if stop:
            raise StopIteration

    work.begin_task("lbfgs-iter")
    found = minimize(cost, cost.x0, method="L-BFGS-B", jac=True, callback=after,
                     options={"maxfun": own.max_fun, "maxiter": own.max_iter, "gtol": own.tol})
    work.end_task()
    net.theta = found.x
    penalty = 0.5 * own.alpha / total * sum(float(np.vdot(W, W)) for W in net.W)
    own.n_iter_, own.loss_ = min(found.nit, own.max_iter), own._in_units(float(found.fun) - penalty) + penalty
    own._hold(net, own._kept[2])
    if found.status == 1:
        warnings.warn(f"lbfgs failed to converge after {found.nit} iterations: {found.message}. Increase max_iter or "
                      "max_fun, or scale the data.", ConvergenceWarning, stacklevel=4)


def threads_of(own: Any) -> int | None:
    """Return the number of threads asked for; for None, 1 in workers and other threads, which share the processors."""
    if own.threads is not None:
        return own.threads  # type: ignore[no-any-return]
    backend = get_active_backend()[0]
    beside = threading.current_thread() is not threading.main_thread() or (backend.nesting_level or 0) > 0
    return 1 if beside else None
