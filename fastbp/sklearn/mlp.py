"""The estimators: parameters, data in and out, fitted attributes; how they are fitted is in fitting.py."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets, type_of_target, unique_labels
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from fastbp import losses, readers
from fastbp.checks import not_negative, number, one_of, positive, shown, truth, whole_number
from fastbp.network import Network, activation_names
from fastbp.sklearn import onnx
from fastbp.sklearn.fitting import NOT_FINITE, Work, by_epochs, by_lbfgs, threads_of
from fastbp.sparse import Rows
from fastbp.training.trainer import Trainer
from fastbp.workspace import Array

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # before 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        pass

    def with_callbacks(method: Any) -> Any:
        return method


def _poisson(z: Array, a: Array, t: Array, delta: Array) -> float:
    """Half of the deviance of counts t with mean exp(z)."""
    cost = 0.0
    for j in range(len(z)):
        mean = math.exp(z[j])
        delta[j] = mean - t[j]
        cost += mean - t[j] - (t[j] * (z[j] - math.log(t[j])) if t[j] > 0 else 0.0)
    return cost


POISSON = losses.Custom(_poisson, outputs="identity")


class _MLP(CallbackSupportMixin, BaseEstimator):  # type: ignore[misc]
    """What both estimators have in common: fitting, and the network's outputs."""

    def _set(self, given: dict[str, Any]) -> None:
        for name, value in given.items():
            if name not in ("self", "__class__"):
                setattr(self, name, value)

    # Of the two classes.

    def _targets(self, X: Any, y: Any, goes_on: bool, first: bool) -> tuple[Array, Array]:
        raise NotImplementedError

    def _weights(self, y: Array, sample_weight: Array | None) -> Array | None:
        return sample_weight

    def _output_and_loss(self) -> tuple[str, Any]:
        raise NotImplementedError

    def _score(self, outputs: Array, y: Array, sample_weight: Array | None) -> float:
        raise NotImplementedError

    def _in_units(self, loss: float) -> float:
        """Convert a cost of fastbp to what scikit-learn reports."""
        return loss

    def fit(self, X: Any, y: Any, sample_weight: Any = None, validation_data: Any = None) -> Any:
        """Train, from new weights unless warm_start is True.

        Parameters
        ----------
        X : array-like or sparse matrix (n_samples, n_features)
            A sparse matrix in CSR format is read as it is.
        y : array-like (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like (n_samples,), optional
        validation_data : (X, y) or (X, y, sample_weight), optional
            Evaluated after each epoch, into ``history_``.

        Returns
        -------
        estimator
            Itself.

        Raises
        ------
        ValueError, TypeError
            Data or parameters do not fit, or the weights became infinite.

        Warns
        -----
        ConvergenceWarning
            max_iter ended the fit.

        Examples
        --------
        >>> from fastbp.sklearn import MLPClassifier
        >>> X, y = [[0.0], [1.0]] * 20, ["no", "yes"] * 20
        >>> MLPClassifier((4,), solver="lbfgs", random_state=0).fit(X, y).score(X, y)
        1.0
        """
        return self._fit(X, y, sample_weight, validation_data, goes_on=False)

    def _check_solver(self) -> bool:
        if self.solver == "lbfgs" and self.optimizer is None:
            raise AttributeError("partial_fit is only available for stochastic optimizers. lbfgs is not stochastic.")
        return True

    def _fit(self, X: Any, y: Any, sample_weight: Any, validation_data: Any, goes_on: bool) -> Any:
        hidden = _check_parameters(self)
        first = not hasattr(self, "coefs_") or not (self.warm_start or goes_on)
        X, y = self._targets(X, y, goes_on, first)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X, ensure_non_negative=True)
            if not sample_weight.any():
                raise ValueError("sample_weight is zero for every sample; give some of them a weight above 0")
        sample_weight = self._weights(y, sample_weight)
        if not first:
            self._take_activations(hidden)
        random = check_random_state(self.random_state)
        if first:
            self._begin(X, y, hidden, random)
        stochastic = self.solver != "lbfgs" or self.optimizer is not None
        context = None
        if hasattr(self, "_skl_callbacks"):
            context = self._init_callback_context(max_subtasks=self.max_iter if stochastic else None)
        work = Work(self, X, y, sample_weight, random, goes_on, context)
        if context is not None:
            context.call_on_fit_task_begin(estimator=self, X=X, y=y, metadata=work.metadata)
        if stochastic:
            by_epochs(work, validation_data)
        else:
            by_lbfgs(work)
        if context is not None:
            context.call_on_fit_task_end(estimator=self, X=X, y=y, metadata=work.metadata)
        if not np.isfinite(self._network().theta).all():
            raise ValueError(NOT_FINITE)
        return self

    def _begin(self, X: Array, y: Array, hidden: list[int], random: Any) -> None:
        """Draw new weights, and start all counts at 0."""
        self.n_layers_ = len(hidden) + 2
        self.n_iter_ = self.t_ = 0
        output, _ = self._output_and_loss()
        self.n_outputs_ = self._n_outputs(y, output)
        self.out_activation_ = "logistic" if output == "sigmoid" else output
        net = Network([X.shape[1], *hidden, self.n_outputs_], self.activation, output, dtype=X.dtype, weights="zeros")
        self._activations = net.activations[:-1]  # whatever activation is set to after this
        _draw(net, 2.0 if self.activation == "logistic" else 6.0, random)
        self._hold(net)
        self.loss_curve_: list[float] = []
        self._stalled = 0
        self.validation_scores_: list[float] | None = [] if self.early_stopping else None
        self.best_validation_score_ = -math.inf if self.early_stopping else None
        self.best_loss_ = None if self.early_stopping else math.inf

    def _n_outputs(self, y: Array, output: str) -> int:
        return 1 if y.ndim == 1 else y.shape[1]

    def _take_activations(self, hidden: list[int]) -> None:
        """Train on with activations that were set after the last fit."""
        *wanted, _ = activation_names(self.activation, "identity", len(hidden))
        if len(wanted) == len(self.coefs_) - 1 and tuple(wanted) != self.__dict__.get("_activations"):
            _, _, trainer = self.__dict__.get("_kept", (None, (), None))
            self._activations = tuple(wanted)
            self._hold(self._made())
            self.__dict__.update(_state_of(trainer))

    def _hold(self, net: Network, trainer: Trainer | None = None) -> None:
        """Take the parameters of this network as the fitted ones."""
        self.coefs_, self.intercepts_ = list(net.W), list(net.b)
        self._kept = net, [*self.coefs_, *self.intercepts_], trainer

    def _network(self) -> Network:
        """Return the network of coefs_ and intercepts_, also if a user has replaced them."""
        net, views, _ = self.__dict__.get("_kept", (None, (), None))
        now = [*self.coefs_, *self.intercepts_]
        if len(now) == len(views) and all(a is b for a, b in zip(now, views, strict=True)):
            return net  # type: ignore[no-any-return]
        if [np.shape(a) for a in now] == [view.shape for view in views]:
            for view, values in zip(views, now, strict=True):
                view[...] = values
            self._hold(net, self._kept[2])
        else:
            self._hold(self._made())
        return self._kept[0]

    def _made(self) -> Network:
        """Make the network of coefs_ and intercepts_. Of exp outputs `predict` takes the exponential itself."""
        output = "identity" if self.out_activation_ == "exp" else self.out_activation_
        hidden = self.__dict__.get("_activations", self.activation)
        return readers.dense(Network, self.coefs_, self.intercepts_, hidden, output)  # type: ignore[no-any-return]

    def __getstate__(self) -> dict[str, Any]:
        """Keep only arrays, numbers, strings and containers of them."""
        state = dict(super().__getstate__())  # it may be __dict__ itself
        _, _, trainer = state.pop("_kept", (None, None, None))
        return state | _state_of(trainer)

    def _outputs(self, X: Any) -> Array:
        """Return the outputs (n, n_outputs); an array of the network's dtype takes the short way."""
        if "coefs_" not in vars(self):
            check_is_fitted(self)  # 7 us
        net = self._network()
        if not (type(X) is np.ndarray and X.dtype == net.dtype and X.ndim == 2 and len(X) > 0
                and X.shape[1] == self.n_features_in_ and not hasattr(self, "feature_names_in_")):
            X = validate_data(self, _of_scipy(X), accept_sparse="csr", dtype=_types_for(X), reset=False)
        try:
            return net.forward(X, threads=threads_of(self))
        except ValueError:
            validate_data(self, _of_scipy(X), reset=False)  # says it as scikit-learn does
            raise

    def to_onnx(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted estimator as an ONNX model, which ONNX Runtime and others run without fastbp.

        The input `X` is (N, n_features), for any N, in the type of the weights. A classifier gives `label` (N,), int64
        or text, or (N, n_classes) of rows of decisions, and `probabilities` (N, n_classes); a regressor `variable`
        (N, n_outputs). `fastbp.sklearn.register_converters` is for pipelines.

        Parameters
        ----------
        path : str or path
            An old file there is replaced at once, or stays whole if the new one cannot be written.

        Raises
        ------
        ImportError
            onnx is not installed: pip install "fastbp[onnx]".
        NotFittedError
            The estimator is not fitted.
        OSError
            The file cannot be written.
        ValueError
            A parameter is not finite, or the parameters are 2 GiB or more.

        Examples
        --------
        >>> from fastbp.sklearn import MLPClassifier
        >>> X, y = [[0.0], [1.0]] * 20, ["no", "yes"] * 20
        >>> MLPClassifier((4,), solver="lbfgs", random_state=0).fit(X, y).to_onnx("model.onnx")  # doctest: +SKIP
        """
        onnx.write(self, path)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


class MLPClassifier(ClassifierMixin, _MLP):  # type: ignore[misc]
    """scikit-learn's MLPClassifier, trained by the compiled core.

    All parameters of scikit-learn 1.9, with the same names, defaults and meaning, and more. Labels of two classes, of
    many, and rows of several decisions (multilabel). X of float32, of truth values or of integers of 8 or 16 bits is
    computed in float32, everything else in float64.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int
        Neurons of each hidden layer.
    activation : str or sequence of str
        identity, logistic, tanh, relu, or any other of fastbp's; several: one a hidden layer.
    solver : {"adam", "sgd", "lbfgs"}
        lbfgs is SciPy's L-BFGS-B, over all samples at once.
    alpha : float
        >= 0: alpha / 2 times the squared norm of all weights, without biases, divided by the weight of the mini-batch,
        is added to its mean loss.
    batch_size : int or "auto"
        Samples of a mini-batch; "auto": 200, or all of fewer.
    learning_rate : {"constant", "invscaling", "adaptive"}
        Of sgd: constant; learning_rate_init divided by ``(t_ + 1) ** power_t`` after each epoch; or divided by 5 where
        the loss, or the validation score, has not become better by tol for n_iter_no_change epochs.
    learning_rate_init, power_t : float
        > 0, >= 0.
    max_iter : int
        Epochs, or iterations of lbfgs, at the most.
    shuffle : bool
        Whether samples come in a new order in each epoch.
    random_state : int, RandomState or None
        Of initial weights, the order of samples, the validation samples, and dropout.
    tol : float
        >= 0: what counts as better.
    verbose : bool or int
        Print losses and scores.
    warm_start : bool
        Whether `fit` goes on from the weights of the last one.
    momentum, nesterovs_momentum : float, bool
        Of sgd; momentum in [0, 1].
    early_stopping : bool
        Whether a share of the samples, validation_fraction, is kept to end the fit by their score, with the best
        weights.
    validation_fraction : float
        In [0, 1).
    beta_1, beta_2, epsilon : float
        Of adam.
    n_iter_no_change : int or infinity
        Epochs in a row that are not better, after which a fit ends.
    max_fun : int
        Evaluations of the loss that lbfgs makes at the most.
    loss : str or fastbp.losses.Loss, optional
        None: cross-entropy. A loss for softmax outputs gives two classes two outputs.
    optimizer : str or Optimizer of fastbp, optional
        In place of solver, learning_rate_init and what belongs to them; alpha stays.
    schedule : str or schedule of fastbp, optional
        Factor of the learning rate, over all steps of max_iter epochs.
    dropout : float or sequence of float
        See `Trainer`.
    class_weight : "balanced" or dict, optional
        A weight for each class, times the sample's own; "balanced": such that all classes have the same total.
    metrics : sequence of str or Metric
        Of the validation_data of `fit`, into ``history_``.
    callbacks : sequence of functions of a `callbacks.Fit`
        fastbp's callbacks. Those of scikit-learn go to `set_callbacks`.
    threads : int, optional
        None: one in workers of joblib and in threads of Python other than the first, else one or all, whichever is
        measured to be faster. The result is the same to the bit.

    Attributes
    ----------
    classes_ : ndarray (n_classes,)
    coefs_, intercepts_ : lists of ndarray
        Weights (n_in, n_out) and biases (n_out,) of each layer.
    loss_, best_loss_, loss_curve_
        Of the last epoch, the least, and of all epochs; with the penalty, whose change within an epoch is taken to be
        even.
    validation_scores_, best_validation_score_
        With early_stopping: accuracy.
    n_iter_, t_, n_layers_, n_outputs_, out_activation_, n_features_in_, feature_names_in_
        As scikit-learn's.
    history_ : dict of list of float
        A number an epoch, of the last `fit`: loss, and what validation_data and metrics give.

    Raises
    ------
    ValueError, TypeError
        In `fit`: a parameter is out of its range.

    References
    ----------
    Pedregosa et al.: Scikit-learn: Machine Learning in Python (JMLR 2011), whose estimator this is a second
    implementation of.
    Glorot, Bengio: Understanding the difficulty of training deep feedforward neural networks (AISTATS 2010), for the
    initial weights.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from fastbp.sklearn import MLPClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = MLPClassifier(max_iter=1000, random_state=0).fit(X, y)
    >>> bool(model.score(X, y) > 0.95)
    True
    """

    def __init__(self, hidden_layer_sizes: Any = (100,), activation: Any = "relu", *, solver: str = "adam",
                 alpha: float = 0.0001, batch_size: Any = "auto", learning_rate: str = "constant",
                 learning_rate_init: float = 0.001, power_t: float = 0.5, max_iter: int = 200, shuffle: bool = True,
                 random_state: Any = None, tol: float = 1e-4, verbose: Any = False, warm_start: bool = False,
                 momentum: float = 0.9, nesterovs_momentum: bool = True, early_stopping: bool = False,
                 validation_fraction: float = 0.1, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-8,
                 n_iter_no_change: Any = 10, max_fun: int = 15000, loss: Any = None, optimizer: Any = None,
                 schedule: Any = None, dropout: Any = 0.0, class_weight: Any = None, metrics: Any = None,
                 callbacks: Any = None, threads: int | None = None):
        self._set(locals())

    fit = with_callbacks(_MLP.fit)

    def _targets(self, X: Any, y: Any, goes_on: bool, first: bool) -> tuple[Array, Array]:
        """Return samples, and the indices of their classes (n,) or rows of decisions."""
        y = y.toarray() if hasattr(y, "toarray") else y
        X, y = validate_data(self, _of_scipy(X), y, accept_sparse="csr", multi_output=True,
                             dtype=_types_for(X), reset=first)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        if first and not goes_on:
            self._multilabel = y.ndim == 2
            self.classes_ = np.arange(y.shape[1]) if self._multilabel else unique_labels(y)
        if y.ndim == 2 or self._multilabel:
            if not (self._multilabel and y.ndim == 2 and y.shape[1] == len(self.classes_)):
                raise ValueError(f"y has shape {y.shape}, but the estimator was fitted on "
                                 f"{'rows of' if self._multilabel else 'labels of'} {len(self.classes_)} classes")
            return X, (y != 0).astype(X.dtype)
        present = unique_labels(y)
        if self.warm_start and not goes_on and set(present) != set(self.classes_):
            raise ValueError("warm_start can only be used where `y` has the same classes as in the previous call to "
                             f"fit. Previously got {self.classes_}, `y` has {present}")
        if len(np.setdiff1d(present, self.classes_)):
            raise ValueError(f"`y` has classes not in `self.classes_`. `self.classes_` has {self.classes_}. 'y' has "
                             f"{present}.")
        return X, np.searchsorted(self.classes_, np.asarray(y, self.classes_.dtype))

    def _weights(self, y: Array, sample_weight: Array | None) -> Array | None:
        if self.class_weight is None:
            return sample_weight
        if self._multilabel:
            raise ValueError("class_weight is for labels of one class each; rows of decisions take sample_weight")
        own = np.ones(len(y)) if sample_weight is None else sample_weight
        return own * _class_weights(self.class_weight, self.classes_, y, own)[y]

    def _n_outputs(self, y: Array, output: str) -> int:
        return len(self.classes_) if self._multilabel or output == "softmax" else 1

    def _output_and_loss(self) -> tuple[str, Any]:
        decides = self._multilabel or len(self.classes_) <= 2
        if self.loss is None:
            return ("sigmoid", losses.BinaryCrossEntropy()) if decides else ("softmax", losses.CrossEntropy())
        outputs = _outputs_of(self.loss)
        output = outputs[0] if outputs else "sigmoid" if decides else "softmax"
        return output, self.loss

    def _decided(self, outputs: Array) -> Array:
        """Return the labels that outputs stand for."""
        if self._multilabel:
            return (outputs > 0.5).astype(int)
        if outputs.shape[1] > 1:
            return self.classes_[outputs.argmax(1)]  # type: ignore[no-any-return]
        if len(self.classes_) == 1:
            return np.repeat(self.classes_, len(outputs))
        return self.classes_[(outputs[:, 0] > 0.5).astype(int)]  # type: ignore[no-any-return]

    def _score(self, outputs: Array, y: Array, sample_weight: Array | None) -> float:
        meant = y if self._multilabel else self.classes_[y]
        return float(accuracy_score(meant, self._decided(outputs), sample_weight=sample_weight))

    def predict(self, X: Any) -> Array:
        """Return the class of each sample (n,), or rows (n, n_classes) of 0 and 1.

        Parameters
        ----------
        X : array-like or sparse matrix (n_samples, n_features)

        Returns
        -------
        ndarray (n_samples,) or (n_samples, n_classes)

        Raises
        ------
        ValueError
            X does not fit what the estimator was fitted on.

        Examples
        --------
        >>> X, y = [[0.0], [1.0]] * 20, ["no", "yes"] * 20
        >>> model = MLPClassifier((4,), solver="lbfgs", random_state=0).fit(X, y)
        >>> model.predict([[0.9]]).tolist()
        ['yes']
        """
        return self._decided(self._outputs(X))

    def predict_proba(self, X: Any) -> Array:
        """Return the probability of each class (n, n_classes).

        Parameters
        ----------
        X : array-like or sparse matrix (n_samples, n_features)

        Returns
        -------
        ndarray (n_samples, n_classes)

        Raises
        ------
        ValueError
            X does not fit what the estimator was fitted on.

        Examples
        --------
        >>> X, y = [[0.0], [1.0]] * 20, ["no", "yes"] * 20
        >>> model = MLPClassifier((4,), solver="lbfgs", random_state=0).fit(X, y)
        >>> model.predict_proba([[1.0]]).round(1).tolist()
        [[0.0, 1.0]]
        """
        outputs = self._outputs(X)
        return outputs if outputs.shape[1] > 1 or self._multilabel else np.hstack([1 - outputs, outputs])

    def predict_log_proba(self, X: Any) -> Array:
        """Return the logarithm of `predict_proba`.

        Parameters
        ----------
        X : array-like or sparse matrix (n_samples, n_features)

        Returns
        -------
        ndarray (n_samples, n_classes)

        Raises
        ------
        ValueError
            X does not fit what the estimator was fitted on.

        Examples
        --------
        >>> X, y = [[0.0], [1.0]] * 20, ["no", "yes"] * 20
        >>> model = MLPClassifier((4,), solver="lbfgs", random_state=0).fit(X, y)
        >>> bool(model.predict_log_proba([[1.0]])[0, 1] > -0.1)
        True
        """
        shares = self.predict_proba(X)
        with np.errstate(divide="ignore"):
            return np.log(shares, out=shares)

    @available_if(lambda own: own._check_solver())  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> MLPClassifier:
        """Go once through the samples, from the weights and moments as they are.

        Parameters
        ----------
        X, y, sample_weight : array-like
            As for `fit`.
        classes : array-like (n_classes,)
            All that will ever come; needed in the first call.

        Returns
        -------
        MLPClassifier
            Itself.

        Raises
        ------
        ValueError
            As `fit` does; or classes are missing or others than in the first call.

        Examples
        --------
        >>> model = MLPClassifier((4,), random_state=0)
        >>> for _ in range(3):
        ...     model = model.partial_fit([[0.0], [1.0]], ["no", "yes"], classes=["no", "yes"])
        >>> len(model.loss_curve_)
        3
        """
        if not hasattr(self, "classes_"):
            if classes is None:
                raise ValueError("classes must be passed on the first call to partial_fit.")
            self._multilabel = type_of_target(y).startswith("multilabel")
            self.classes_ = np.arange(np.shape(y)[1]) if self._multilabel else unique_labels(classes)
        elif classes is not None and not self._multilabel and not np.array_equal(self.classes_, unique_labels(classes)):
            raise ValueError(f"`classes={classes!r}` is not the same as on last call to partial_fit, was: "
                             f"{self.classes_!r}")
        return self._fit(X, y, sample_weight, None, goes_on=True)  # type: ignore[no-any-return]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class MLPRegressor(RegressorMixin, _MLP):  # type: ignore[misc]
    """scikit-learn's MLPRegressor, trained by the compiled core; hidden_layer_sizes comes first.

    Parameters
    ----------
    hidden_layer_sizes, activation, solver, alpha, batch_size, learning_rate, learning_rate_init, power_t, max_iter, \
shuffle, random_state, tol, verbose, warm_start, momentum, nesterovs_momentum, early_stopping, validation_fraction, \
beta_1, beta_2, epsilon, n_iter_no_change, max_fun, optimizer, schedule, dropout, metrics, callbacks, threads
        As of `MLPClassifier`; the score of early_stopping is R².
    loss : {"squared_error", "poisson"}, or loss of fastbp
        squared_error is half of the squared error; its gradient is that of the sum over the outputs, and ``loss_``
        their mean, as in scikit-learn. poisson: half of the deviance of counts, whose mean is exp of the output.

    Attributes
    ----------
    coefs_, intercepts_, loss_, best_loss_, loss_curve_, validation_scores_, best_validation_score_, n_iter_, t_, \
n_layers_, n_outputs_, out_activation_, n_features_in_, feature_names_in_, history_
        As of `MLPClassifier`.

    Raises
    ------
    ValueError, TypeError
        In `fit`: a parameter is out of its range.

    References
    ----------
    Pedregosa et al.: Scikit-learn: Machine Learning in Python (JMLR 2011), whose estimator this is a second
    implementation of.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from fastbp.sklearn import MLPRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = make_pipeline(StandardScaler(), MLPRegressor((20,), early_stopping=True, max_iter=2000, random_state=0))
    >>> bool(model.fit(X, y / 100).score(X, y / 100) > 0.5)
    True
    """

    def __init__(self, hidden_layer_sizes: Any = (100,), activation: Any = "relu", *, solver: str = "adam",
                 alpha: float = 0.0001, batch_size: Any = "auto", learning_rate: str = "constant",
                 learning_rate_init: float = 0.001, power_t: float = 0.5, max_iter: int = 200, shuffle: bool = True,
                 random_state: Any = None, tol: float = 1e-4, verbose: Any = False, warm_start: bool = False,
                 momentum: float = 0.9, nesterovs_momentum: bool = True, early_stopping: bool = False,
                 validation_fraction: float = 0.1, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-8,
                 n_iter_no_change: Any = 10, max_fun: int = 15000, loss: Any = "squared_error", optimizer: Any = None,
                 schedule: Any = None, dropout: Any = 0.0, metrics: Any = None, callbacks: Any = None,
                 threads: int | None = None):
        self._set(locals())

    fit = with_callbacks(_MLP.fit)

    def _targets(self, X: Any, y: Any, goes_on: bool, first: bool) -> tuple[Array, Array]:
        X, y = validate_data(self, _of_scipy(X), y, accept_sparse="csr", multi_output=True, y_numeric=True,
                             dtype=_types_for(X), reset=first)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if not first and (1 if y.ndim == 1 else y.shape[1]) != self.n_outputs_:
            raise ValueError(f"y has {1 if y.ndim == 1 else y.shape[1]} outputs, the estimator was fitted on "
                             f"{self.n_outputs_}")
        if self.loss == "poisson" and y.min() < 0:
            raise ValueError(f"loss='poisson' needs y >= 0, found {y.min()}")
        return X, y.astype(X.dtype, copy=False)

    def _output_and_loss(self) -> tuple[str, Any]:
        if self.loss in ("squared_error", "poisson"):
            return "identity", losses.Quadratic() if self.loss == "squared_error" else POISSON
        return next(iter(_outputs_of(self.loss)), "identity"), self.loss

    def _begin(self, X: Array, y: Array, hidden: list[int], random: Any) -> None:
        super()._begin(X, y, hidden, random)
        if self.loss == "poisson":
            self.out_activation_ = "exp"

    def _in_units(self, loss: float) -> float:
        return loss / self.n_outputs_ if self.loss == "squared_error" else loss

    def _values(self, outputs: Array) -> Array:
        values = np.exp(outputs) if self.out_activation_ == "exp" else outputs
        return values[:, 0] if values.shape[1] == 1 else values

    def _score(self, outputs: Array, y: Array, sample_weight: Array | None) -> float:
        values = self._values(outputs)
        return float(r2_score(y, values, sample_weight=sample_weight)) if np.isfinite(values).all() else math.nan

    def predict(self, X: Any) -> Array:
        """Return values (n,), or (n, n_outputs) of several outputs.

        Parameters
        ----------
        X : array-like or sparse matrix (n_samples, n_features)

        Returns
        -------
        ndarray (n_samples,) or (n_samples, n_outputs)

        Raises
        ------
        ValueError
            X does not fit what the estimator was fitted on.

        Examples
        --------
        >>> X, y = [[0.0], [1.0]] * 20, [0.0, 3.0] * 20
        >>> model = MLPRegressor((4,), solver="lbfgs", random_state=0).fit(X, y)
        >>> model.predict([[1.0]]).round(1).tolist()
        [3.0]
        """
        return self._values(self._outputs(X))

    @available_if(lambda own: own._check_solver())  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPRegressor:
        """Go once through the samples, from the weights and moments as they are.

        Parameters
        ----------
        X, y, sample_weight : array-like
            As for `fit`.

        Returns
        -------
        MLPRegressor
            Itself.

        Raises
        ------
        ValueError
            As `fit` does.

        Examples
        --------
        >>> model = MLPRegressor((4,), random_state=0)
        >>> for _ in range(3):
        ...     model = model.partial_fit([[0.0], [1.0]], [0.0, 3.0])
        >>> len(model.loss_curve_)
        3
        """
        return self._fit(X, y, sample_weight, None, goes_on=True)  # type: ignore[no-any-return]


# Parameters


def _check_parameters(own: Any) -> list[int]:
    """Raise TypeError or ValueError if one is out of its range; return the sizes of the hidden layers."""
    one_of("solver", own.solver, ("adam", "sgd", "lbfgs"))
    one_of("learning_rate", own.learning_rate, ("constant", "invscaling", "adaptive"))
    for name in ("alpha", "power_t", "tol"):
        not_negative(name, getattr(own, name))
    for name in ("learning_rate_init", "epsilon"):
        positive(name, getattr(own, name))
    for name in ("validation_fraction", "beta_1", "beta_2"):
        number(name, getattr(own, name), 0, 1, high_open=True)
    number("momentum", own.momentum, 0, 1)
    for name in ("max_iter", "max_fun"):
        whole_number(name, getattr(own, name), 1)
    for name in ("shuffle", "warm_start", "nesterovs_momentum", "early_stopping"):
        truth(name, getattr(own, name))
    if own.n_iter_no_change != math.inf:
        whole_number("n_iter_no_change", own.n_iter_no_change, 1)
    if own.batch_size != "auto":
        whole_number("batch_size", own.batch_size, 1)
    sizes = own.hidden_layer_sizes
    hidden = list(sizes) if isinstance(sizes, Iterable) else [sizes]
    if any(not isinstance(size, (int, np.integer)) or size <= 0 for size in hidden):
        raise ValueError(f"hidden_layer_sizes must be > 0, got {shown(hidden)}.")
    if not isinstance(own.activation, str) and len(list(own.activation)) != len(hidden):
        raise ValueError(f"activation names {len(list(own.activation))} layers, hidden_layer_sizes {len(hidden)}")
    return [int(size) for size in hidden]


def _outputs_of(loss: Any) -> Sequence[str]:
    """Return the output activations that a loss of fastbp is for."""
    if isinstance(loss, str):
        return losses.LOSSES[one_of("loss", loss, losses.LOSSES, losses.ALIASES)].outputs  # type: ignore[no-any-return]
    if not isinstance(loss, losses.Loss):
        raise TypeError(f"loss must be a name or one of fastbp.losses, got {shown(loss)}")
    return loss.outputs


def _class_weights(given: Any, classes: Array, y: Array, weights: Array) -> Array:
    """Return the weight of each class; y holds their indices."""
    if isinstance(given, str):
        one_of("class_weight", given, ("balanced",))
        totals = np.bincount(y, weights, len(classes))
        balanced: Array = np.divide(weights.sum(), len(classes) * totals, where=totals > 0, out=np.zeros(len(classes)))
        return balanced
    unknown = [key for key in given if key not in classes]
    if unknown:
        raise ValueError(f"class_weight names {shown(unknown[0])}, the classes are {shown(classes.tolist())}")
    return np.array([not_negative("a class_weight", given.get(name, 1.0)) for name in classes.tolist()])


def _draw(net: Network, factor: float, random: Any) -> None:
    for W, b in zip(net.W, net.b, strict=True):
        bound = math.sqrt(factor / sum(W.shape))
        W[...] = random.uniform(-bound, bound, W.shape)
        b[...] = random.uniform(-bound, bound, b.shape)


def _types_for(X: Any) -> list[Any]:
    """Return the dtypes to compute in, the default first: float32 holds integers of 16 bits exactly."""
    own = getattr(X, "dtype", None)
    small = isinstance(own, np.dtype) and own.kind in "biu" and own.itemsize <= 2
    return [np.float32, np.float64] if small else [np.float64, np.float32]


def _state_of(trainer: Trainer | None) -> dict[str, Any]:
    """Return what another trainer needs to go on."""
    if trainer is None:
        return {}
    return {"_moments": trainer.state.rows.copy(), "_steps": trainer.steps_done, "_seed": trainer.seed}


def _of_scipy(X: Any) -> Any:
    """Return sparse samples of `fastbp.data.batches` as scikit-learn knows them."""
    return X.tocsr() if isinstance(X, Rows) else X
