"""Optimisers: frozen settings, with their sources, and flat state; the arithmetic of the rules is in core/rules.py."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass, field
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import numpy as np

from fastbp.checks import fraction, known_as, not_negative, number, positive, settle, truth
from fastbp.core import rules

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "Lion", "NAdam", "Optimizer", "RMSprop", "Rprop"]


def __dir__() -> list[str]:
    return __all__


Kind = TypeVar("Kind", bound=type)


def _of_settings(kind: Kind) -> Kind:
    """Let a class of settings accept the names of eta in other libraries, and explain how to change frozen settings."""
    kind.__init__ = known_as(lr="eta", learning_rate="eta")(kind.__init__)  # type: ignore[misc]
    kind.__setattr__ = _refuse_to_change  # type: ignore[assignment]
    return kind


def _refuse_to_change(optimizer: object, name: str, value: object) -> None:
    raise FrozenInstanceError(f"an optimizer keeps its {name}; give the trainer another one: trainer.optimizer = "
                              f"dataclasses.replace(trainer.optimizer, {name}={value!r})")


@dataclass
class State:
    """State of an optimiser for a network that is updated step by step: moments (n_moments, n_parameters)."""

    moments: np.ndarray
    steps: int = 0


@dataclass(frozen=True)
class Optimizer:
    """Base class of the optimisers. lr and learning_rate are other names of eta.

    Parameters
    ----------
    eta : float
        Learning rate, > 0.
    weight_decay, decay_biases, l1
        Regularisation, see `AdamW`.

    Raises
    ------
    ValueError, TypeError
        A setting is out of its range.

    Examples
    --------
    >>> isinstance(Adam(learning_rate=0.01), Optimizer), Adam(learning_rate=0.01).eta
    (True, 0.01)
    """

    eta: float
    weight_decay: float = field(default=0.0, kw_only=True)
    decay_biases: bool = field(default=False, kw_only=True)
    l1: float = field(default=0.0, kw_only=True)
    _states: WeakKeyDictionary[Any, State] = field(default_factory=WeakKeyDictionary, init=False, repr=False,
                                                   compare=False)

    def __post_init__(self) -> None:
        settle(self, "eta", positive)
        settle(self, "weight_decay", not_negative)
        settle(self, "l1", not_negative)
        settle(self, "decay_biases", truth)

    def _rule(self) -> dict[int, float]:
        """Return the slots of the rule's settings and their values: its code and its own numbers."""
        raise NotImplementedError

    def settings(self) -> np.ndarray:
        """Return the vector of settings that the compiled update reads."""
        own = self._rule() | {rules.WEIGHT_DECAY: self.weight_decay, rules.DECAY_BIASES: self.decay_biases,
                              rules.L1: self.l1}
        settings = np.zeros(rules.N_SETTINGS)
        settings[list(own)] = list(own.values())
        return settings

    @property
    def n_moments(self) -> int:
        """Number of vectors of state, each as long as theta.

        Examples
        --------
        >>> SGD().n_moments, Adam().n_moments
        (0, 2)
        """
        return rules.row_of(self._rule()[rules.RULE]).n_moments

    def step(self, network: Any, gradient: Any, eta_factor: float = 1.0) -> None:
        """Update the parameters of a network once, by a gradient that the caller has computed.

        This optimiser keeps moments and the number of steps for each network, as long as the network lives, also in a
        pickle or a copy of both. A Trainer keeps its own. Runs on one thread.

        Parameters
        ----------
        network : Network
        gradient : array_like (n_parameters,)
            Laid out like network.theta.
        eta_factor : float
            >= 0: factor of eta in this step, as from a schedule.

        Raises
        ------
        ValueError, TypeError
            The gradient has another shape or is not finite, or the factor is out of its range.

        Examples
        --------
        >>> import fastbp
        >>> net = fastbp.Network([2, 8, 1], hidden="tanh", output="identity", seed=0)
        >>> X = np.random.default_rng(0).normal(size=(100, 2))
        >>> optimizer = Adam(eta=0.03)
        >>> for step in range(300):
        ...     cost, gradient = fastbp.cost_and_gradient(net, X, X[:, 0] * X[:, 1])
        ...     optimizer.step(net, gradient)
        >>> cost < 0.02
        True
        """
        theta, eta = network.theta, self.eta * not_negative("eta_factor", eta_factor)
        g = np.array(gradient, theta.dtype)
        if g.shape != theta.shape:
            raise ValueError(f"the gradient must have shape {theta.shape}, as theta has, got {g.shape}")
        if not np.isfinite(g).all():
            raise ValueError(f"the gradient must be finite, element {int(np.argmin(np.isfinite(g)))} is "
                             f"{g[np.argmin(np.isfinite(g))]}")
        state = self._states.setdefault(network, State(np.zeros((self.n_moments, theta.size), theta.dtype)))
        state.steps += 1
        settings, decaying = self.settings(), [*network.W, *(network.b if self.decay_biases else [])]
        settings[[rules.WEIGHT_DECAY, rules.L1]] = 0  # the compiled update does not tell weights from biases
        if self.weight_decay:
            for part_of_theta in decaying:
                part_of_theta *= theta.dtype.type(1 - eta * self.weight_decay)
        rules.update_serial(theta, g, state.moments, settings, eta, state.steps, 1)
        if self.l1:
            toll = theta.dtype.type(eta * self.l1)
            for part_of_theta in decaying:
                part_of_theta -= np.clip(part_of_theta, -toll, toll)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_states": list(self._states.items())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        own = {network: State(kept.moments.copy(), kept.steps) for network, kept in state["_states"]}
        vars(self).update(state, _states=WeakKeyDictionary(own))


@_of_settings
@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent, optionally with momentum and Nesterov's look-ahead.

        v ← momentum v + g        theta ← theta − eta v            (momentum)
                                  theta ← theta − eta (g + momentum v)   (Nesterov)

    Parameters
    ----------
    eta : float
        Learning rate, > 0, in parameter units per unit of gradient.
    momentum : float
        In [0, 1); 0 needs no state.
    nesterov : bool
        Needs momentum > 0.
    weight_decay, decay_biases, l1
        Regularisation, see `AdamW`.

    Raises
    ------
    ValueError, TypeError
        A setting is out of its range.

    References
    ----------
    Sutskever, Martens, Dahl, Hinton: On the importance of initialization and momentum in deep learning (ICML 2013),
    equations 1-4, with the velocity in units of the gradient as PyTorch has it.

    Examples
    --------
    >>> SGD(eta=0.1, momentum=0.9, nesterov=True).momentum
    0.9
    """

    eta: float = 0.1
    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        settle(self, "momentum", fraction)
        settle(self, "nesterov", truth)
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov=True needs momentum > 0, got momentum=0")

    def _rule(self) -> dict[int, float]:
        rule = rules.NESTEROV_RULE if self.nesterov else rules.MOMENTUM_RULE if self.momentum else rules.SGD_RULE
        return {rules.RULE: rule, rules.MOMENTUM: self.momentum}


@_of_settings
@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam: steps scaled by running means of the gradient and of its square.

        m ← beta1 m + (1 − beta1) g        v ← beta2 v + (1 − beta2) g²
        theta ← theta − eta m̂ / (√v̂ + epsilon)
        with m̂ = m / (1 − beta1ᵗ), v̂ = v / (1 − beta2ᵗ)

    Parameters
    ----------
    eta : float
        Learning rate, > 0: about the largest change of a parameter in one step.
    beta1, beta2 : float
        Decay of the two means, in [0, 1).
    epsilon : float
        > 0, in units of the gradient.
    weight_decay, decay_biases, l1
        Regularisation, see `AdamW`.

    Raises
    ------
    ValueError, TypeError
        A setting is out of its range.

    References
    ----------
    Kingma, Ba: Adam: A Method for Stochastic Optimization (ICLR 2015), algorithm 1.

    Examples
    --------
    >>> Adam(eta=0.001).beta2
    0.999
    """

    eta: float = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        settle(self, "beta1", fraction)
        settle(self, "beta2", fraction)
        settle(self, "epsilon", positive)

    def _rule(self) -> dict[int, float]:
        return {rules.RULE: rules.ADAM_RULE, rules.BETA1: self.beta1, rules.BETA2: self.beta2,
                rules.EPSILON: self.epsilon}


@_of_settings
@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay: `Adam`, and before each step theta ← (1 − eta weight_decay) theta.

    Parameters
    ----------
    eta, beta1, beta2, epsilon
        See `Adam`.
    weight_decay : float
        >= 0, per unit of learning rate. Neither the gradient nor its moments see the decay.
    decay_biases : bool
        Whether biases shrink too, for `weight_decay` and for `l1`.
    l1 : float
        >= 0, in parameter units per unit of learning rate: after each step weights move towards 0 by eta l1, but not
        beyond 0; many weights become exactly 0.

    Raises
    ------
    ValueError, TypeError
        A setting is out of its range.

    References
    ----------
    Loshchilov, Hutter: Decoupled Weight Decay Regularization (ICLR 2019), algorithm 2.
    Duchi, Singer: Efficient Online and Batch Learning Using Forward Backward Splitting (JMLR 2009), equation 19 (`l1`).

    Examples
    --------
    >>> AdamW(eta=0.001).weight_decay
    0.01
    """

    weight_decay: float = field(default=0.01, kw_only=True)


@_of_settings
@dataclass(frozen=True)
class NAdam(Adam):
    """Adam with Nesterov's look-ahead and a growing momentum.

        mₜ, vₜ as in Adam; momentum μₜ = beta1 (1 − 0.96^(t momentum_decay) / 2), Πₜ = μ₁ … μₜ
        theta ← theta − eta ((1 − μₜ) / (1 − Πₜ) g + μₜ₊₁ / (1 − Πₜ₊₁) mₜ) / (√v̂ + epsilon)

    Parameters
    ----------
    eta, beta1, beta2, epsilon, weight_decay, decay_biases, l1
        See `AdamW`.
    momentum_decay : float
        >= 0; 0: the momentum is always beta1 / 2.

    Raises
    ------
    ValueError, TypeError
        A setting is out of its range.

    References
    ----------
    Dozat: Incorporating Nesterov Momentum into Adam (ICLR workshop 2016), algorithm 2, with the momentum's schedule of
    its section 3 as PyTorch has it.

    Examples
    --------
    >>> NAdam().eta
    0.002
    """

    eta: float = 0.002
    momentum_decay: float = 0.004

    def __post_init__(self) -> None:
        super().__post_init__()
        settle(self, "momentum_decay", not_negative)

    def _rule(self) -> dict[int, float]:
        return super()._rule() | {rules.RULE: rules.NADAM_RULE, rules.MOMENTUM_DECAY: self.momentum_decay}


@_of_settings
@dataclass(frozen=True)
class RMSprop(Optimizer):
    """RMSprop: steps scaled by a running mean of the squared gradient.

        v ← decay v + (1 − decay) g²        theta ← theta − eta g / (√v + epsilon)

    Parameters
    ----------
    eta : float
        Learning rate, > 0.
    decay : float
        Decay of the mean, in [0, 1).
    epsilon : float
        > 0, in units of the gradient.
    weight_decay, decay_biases, l1
        Regularisation, see `AdamW`.

    Raises
    ------
    ValueError, TypeError
        A setting is out of its range.

    References
    ----------
    Tieleman, Hinton: Neural Networks for Machine Learning (Coursera 2012), lecture 6.5.

    Examples
    --------
    >>> RMSprop(eta=0.001).n_moments
    1
    """

    eta: float = 0.01
    decay: float = 0.99
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        settle(self, "decay", fraction)
        settle(self, "epsilon", positive)

    def _rule(self) -> dict[int, float]:
        return {rules.RULE: rules.RMS_RULE, rules.OLD_SQUARES: self.decay, rules.NEW_SQUARES: 1 - self.decay,
                rules.EPSILON: self.epsilon}


@_of_settings
@dataclass(frozen=True)
class Adagrad(Optimizer):
    """Adagrad: steps scaled by the root of the sum of all squared gradients.

        v ← v + g²        theta ← theta − eta g / (√v + epsilon)

    Parameters
    ----------
    eta : float
        Learning rate, > 0: the length of the first step.
    epsilon : float
        > 0, in units of the gradient.
    weight_decay, decay_biases, l1
        Regularisation, see `AdamW`.

    Raises
    ------
    ValueError, TypeError
        A setting is out of its range.

    References
    ----------
    Duchi, Hazan, Singer: Adaptive Subgradient Methods for Online Learning and Stochastic Optimization (JMLR 2011),
    figure 1, with diagonal matrices.

    Examples
    --------
    >>> Adagrad().eta
    0.01
    """

    eta: float = 0.01
    epsilon: float = 1e-10

    def __post_init__(self) -> None:
        super().__post_init__()
        settle(self, "epsilon", positive)

    def _rule(self) -> dict[int, float]:
        return {rules.RULE: rules.RMS_RULE, rules.OLD_SQUARES: 1.0, rules.NEW_SQUARES: 1.0,
                rules.EPSILON: self.epsilon}


@_of_settings
@dataclass(frozen=True)
class Lion(Optimizer):
    """Lion: every parameter moves by eta, with the sign of a mean of gradient and momentum.

        theta ← theta − eta sign(beta1 m + (1 − beta1) g)        m ← beta2 m + (1 − beta2) g

    Parameters
    ----------
    eta : float
        Learning rate, > 0: the change of a parameter in one step; a third to a tenth of the value for Adam.
    beta1, beta2 : float
        In [0, 1).
    weight_decay, decay_biases, l1
        Regularisation, see `AdamW`; three to ten times the values for Adam.

    Raises
    ------
    ValueError, TypeError
        A setting is out of its range.

    References
    ----------
    Chen et al.: Symbolic Discovery of Optimization Algorithms (NeurIPS 2023), algorithm 2.

    Examples
    --------
    >>> Lion().beta2
    0.99
    """

    eta: float = 0.0001
    beta1: float = 0.9
    beta2: float = 0.99

    def __post_init__(self) -> None:
        super().__post_init__()
        settle(self, "beta1", fraction)
        settle(self, "beta2", fraction)

    def _rule(self) -> dict[int, float]:
        return {rules.RULE: rules.LION_RULE, rules.BETA1: self.beta1, rules.BETA2: self.beta2}


@_of_settings
@dataclass(frozen=True)
class Rprop(Optimizer):
    """Resilient backpropagation: each parameter has its own step, which grows while its gradient keeps its sign.

    Use it with batch_size = all samples: with small mini-batches the signs are noise.

        step ← step increase if g has the sign of the step before; step decrease, and no move, if the opposite
        theta ← theta − sign(g) step

    Parameters
    ----------
    eta : float
        The first step, > 0. The factor of a schedule scales all steps.
    decrease, increase : float
        In (0, 1), and > 1.
    least, most : float
        Bounds of a step, 0 < least <= most.
    weight_decay, decay_biases, l1
        Regularisation, see `AdamW`.

    Raises
    ------
    ValueError, TypeError
        A setting is out of its range.

    References
    ----------
    Riedmiller, Braun: A Direct Adaptive Method for Faster Backpropagation Learning: The RPROP Algorithm (ICNN 1993);
    where the sign changes as in Igel, Hüsken: Improving the Rprop Learning Algorithm (NC 2000), "iRprop−".

    Examples
    --------
    >>> Rprop().increase
    1.2
    """

    eta: float = 0.01
    decrease: float = 0.5
    increase: float = 1.2
    least: float = 1e-6
    most: float = 50.0

    def __post_init__(self) -> None:
        super().__post_init__()
        settle(self, "decrease", number, 0, 1, low_open=True, high_open=True)
        settle(self, "increase", number, 1, low_open=True)
        settle(self, "least", positive)
        settle(self, "most", positive)
        if self.least > self.most:
            raise ValueError(f"least must be <= most, got {self.least!r} and {self.most!r}")

    def _rule(self) -> dict[int, float]:
        return {rules.RULE: rules.RPROP_RULE, rules.DECREASE: self.decrease, rules.INCREASE: self.increase,
                rules.LEAST: self.least / self.eta, rules.MOST: self.most / self.eta}


OPTIMIZERS: dict[str, type[Any]] = {
    "sgd": SGD, "adam": Adam, "adamw": AdamW, "nadam": NAdam, "rmsprop": RMSprop, "adagrad": Adagrad, "lion": Lion,
    "rprop": Rprop,
}
