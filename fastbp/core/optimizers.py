"""Optimisers: frozen settings, flat state, and for each rule one loop over a range of theta."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
from numba import prange

from fastbp.checks import fraction, known_as, not_negative, number, positive, settle, truth
from fastbp.core import compiler
from fastbp.core.compiler import out_of_line
from fastbp.core.simd.memory import part
from fastbp.core.simd.vectors import fma
from fastbp.core.threads.board import even_share

SGD_RULE, MOMENTUM_RULE, NESTEROV_RULE, ADAM_RULE, NADAM_RULE, RMS_RULE, LION_RULE, RPROP_RULE = range(8)
N_MOMENTS = {SGD_RULE: 0, MOMENTUM_RULE: 1, NESTEROV_RULE: 1, ADAM_RULE: 2, NADAM_RULE: 2, RMS_RULE: 1, LION_RULE: 1,
             RPROP_RULE: 2}
# Slots of the settings vector; the first four numbers mean what the rule says. The last four belong to no rule, and are
# 0 for none: the bound of each number of the gradient, that of the gradient's norm, the decay of the parameters' mean,
# and the bound of the norm of each neuron's weights.
N_SETTINGS = 12
NEAR = 1 << 12  # parameters that stay in the nearest cache, with what belongs to them, for all loops over them
(RULE, FIRST, SECOND, EPSILON, MOMENTUM_DECAY, DECAY, DECAY_BIASES, L1, CLIP_VALUE, CLIP_NORM, MEAN_DECAY,
 MAX_NORM) = range(N_SETTINGS)

Kind = TypeVar("Kind", bound=type)


def _takes_other_names(kind: Kind) -> Kind:
    """Let a class of settings take the names that other libraries have for eta."""
    kind.__init__ = known_as(lr="eta", learning_rate="eta")(kind.__init__)  # type: ignore[misc]
    return kind


@dataclass
class State:
    """What an optimiser keeps for a network that it updates step by step: moments (n_moments, n_parameters)."""

    moments: np.ndarray
    steps: int = 0


@dataclass(frozen=True)
class Optimizer:
    """What all rules have in common; the settings that all take are explained at `AdamW`. lr and learning_rate are
    other names of eta."""

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

    def _rule(self) -> tuple[float, ...]:
        """The rule's code and its own numbers."""
        raise NotImplementedError

    def settings(self) -> np.ndarray:
        """The vector of settings that the compiled update reads."""
        settings, own = np.zeros(N_SETTINGS), self._rule()
        settings[: len(own)] = own
        settings[[DECAY, DECAY_BIASES, L1]] = self.weight_decay, self.decay_biases, self.l1
        return settings

    @property
    def n_moments(self) -> int:
        """Vectors of state, each as long as theta."""
        return N_MOMENTS[int(self._rule()[0])]

    def step(self, network: Any, gradient: Any, eta_factor: float = 1.0) -> None:
        """Update a network's parameters once, by a gradient of one's own.

        Moments and the number of steps are kept by this optimiser, for each network and as long as that lives, and go
        on in a pickle or a copy of both; those of a Trainer are its own. On one thread.

        Parameters
        ----------
        network : Network
        gradient : array_like (n_parameters,)
            Laid out like network.theta.
        eta_factor : float
            >= 0: what eta is multiplied by in this step, as a schedule would.

        Raises
        ------
        ValueError, TypeError
            The gradient has another shape, holds what is no finite number, or the factor is out of its range.

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
            raise ValueError(f"the gradient must be finite, number {int(np.argmin(np.isfinite(g)))} is "
                             f"{g[np.argmin(np.isfinite(g))]}")
        state = self._states.setdefault(network, State(np.zeros((self.n_moments, theta.size), theta.dtype)))
        state.steps += 1
        settings, decaying = self.settings(), [*network.W, *(network.b if self.decay_biases else [])]
        settings[[DECAY, L1]] = 0  # the compiled update does not tell weights from biases
        if self.weight_decay:
            for part_of_theta in decaying:
                part_of_theta *= theta.dtype.type(1 - eta * self.weight_decay)
        update_serial(theta, g, state.moments, settings, eta, state.steps, 1)
        if self.l1:
            toll = theta.dtype.type(eta * self.l1)
            for part_of_theta in decaying:
                part_of_theta -= np.clip(part_of_theta, -toll, toll)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_states": list(self._states.items())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        own = {network: State(kept.moments.copy(), kept.steps) for network, kept in state["_states"]}
        vars(self).update(state, _states=WeakKeyDictionary(own))


@_takes_other_names
@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent, with momentum and Nesterov's look-ahead if asked.

        v ← momentum v + g        theta ← theta − eta v            (momentum)
                                  theta ← theta − eta (g + momentum v)   (Nesterov)

    Parameters
    ----------
    eta : float
        Learning rate, > 0: parameter units per unit of gradient.
    momentum : float
        In [0, 1). 0 keeps no state.
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

    def _rule(self) -> tuple[float, ...]:
        rule = NESTEROV_RULE if self.nesterov else MOMENTUM_RULE if self.momentum else SGD_RULE
        return rule, self.momentum


@_takes_other_names
@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam: steps scaled by running means of the gradient and of its square.

        m ← beta1 m + (1 − beta1) g        v ← beta2 v + (1 − beta2) g²
        theta ← theta − eta m̂ / (√v̂ + epsilon)        with m̂ = m / (1 − beta1ᵗ), v̂ = v / (1 − beta2ᵗ)

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

    def _rule(self) -> tuple[float, ...]:
        return ADAM_RULE, self.beta1, self.beta2, self.epsilon


@_takes_other_names
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
        >= 0, in parameter units per unit of learning rate: after each step weights move towards 0 by eta l1 and no
        further, so many become exactly 0.

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


@_takes_other_names
@dataclass(frozen=True)
class NAdam(Adam):
    """Adam with Nesterov's look-ahead, and a momentum that grows.

        mₜ, vₜ as Adam's; momentum μₜ = beta1 (1 − 0.96^(t momentum_decay) / 2), Πₜ = μ₁ … μₜ
        theta ← theta − eta ((1 − μₜ) / (1 − Πₜ) g + μₜ₊₁ / (1 − Πₜ₊₁) mₜ) / (√v̂ + epsilon)

    Parameters
    ----------
    eta, beta1, beta2, epsilon, weight_decay, decay_biases, l1
        See `AdamW`.
    momentum_decay : float
        >= 0; 0: a momentum of beta1 / 2 always.

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

    def _rule(self) -> tuple[float, ...]:
        return NADAM_RULE, self.beta1, self.beta2, self.epsilon, self.momentum_decay


@_takes_other_names
@dataclass(frozen=True)
class RMSprop(Optimizer):
    """RMSprop: steps scaled by a running mean of the squared gradient.

        v ← decay v + (1 − decay) g²        theta ← theta − eta g / (√v + epsilon)

    Parameters
    ----------
    eta : float
        Learning rate, > 0.
    decay : float
        Of the mean, in [0, 1).
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

    def _rule(self) -> tuple[float, ...]:
        return RMS_RULE, self.decay, 1 - self.decay, self.epsilon


@_takes_other_names
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

    def _rule(self) -> tuple[float, ...]:
        return RMS_RULE, 1.0, 1.0, self.epsilon


@_takes_other_names
@dataclass(frozen=True)
class Lion(Optimizer):
    """Lion: every parameter steps by eta, in the direction that gradient and momentum together have.

        theta ← theta − eta sign(beta1 m + (1 − beta1) g)        m ← beta2 m + (1 − beta2) g

    Parameters
    ----------
    eta : float
        Learning rate, > 0: the change of a parameter in one step; a third to a tenth of Adam's.
    beta1, beta2 : float
        In [0, 1).
    weight_decay, decay_biases, l1
        Regularisation, see `AdamW`; three to ten times Adam's.

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

    def _rule(self) -> tuple[float, ...]:
        return LION_RULE, self.beta1, self.beta2


@_takes_other_names
@dataclass(frozen=True)
class Rprop(Optimizer):
    """Resilient backpropagation: each parameter has a step of its own, which grows while its gradient keeps its sign.

    For batch_size = all samples: of small mini-batches the signs are noise.

        step ← step increase where g has the sign of the step before, step decrease and no step where the other
        theta ← theta − sign(g) step

    Parameters
    ----------
    eta : float
        The first step, > 0. A schedule's factor scales all steps.
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
            raise ValueError(f"least must be at most most, got {self.least!r} and {self.most!r}")

    def _rule(self) -> tuple[float, ...]:
        return RPROP_RULE, self.decrease, self.increase, self.least / self.eta, self.most / self.eta


OPTIMIZERS: dict[str, type[Any]] = {
    "sgd": SGD, "adam": Adam, "adamw": AdamW, "nadam": NAdam, "rmsprop": RMSprop, "adagrad": Adagrad, "lion": Lion,
    "rprop": Rprop,
}


@compiler.inner
def factors_of(settings, eta, step):
    """What the rule's numbers depend on at a step, counted from 1: eta, and where means are corrected for beginning at
    0 the rate of the first, the factor of the second's root, and the rate of the gradient itself. Last, 1: what the
    gradient is multiplied by."""
    rule, beta1 = settings[RULE], settings[FIRST]
    if rule != ADAM_RULE and rule != NADAM_RULE:
        return eta, eta, 1.0, 0.0, 1.0
    unbias = 1 / math.sqrt(1 - settings[SECOND] ** step)
    if rule == ADAM_RULE:
        return eta, eta / (1 - beta1**step), unbias, 0.0, 1.0
    log_q = settings[MOMENTUM_DECAY] * math.log(0.96)
    now, then = beta1 * (1 - 0.5 * math.exp(step * log_q)), beta1 * (1 - 0.5 * math.exp((step + 1) * log_q))
    product = _product_of_momenta(beta1, log_q, step)
    return eta, eta * then / (1 - product * then), unbias, eta * (1 - now) / (1 - product), 1.0


@compiler.inner
def _product_of_momenta(beta1, log_q, n):
    """The product of beta1 (1 - q**i / 2) over i = 1 to n: its logarithm by the series of log(1 - x) for each, summed
    over i first; 0 once it is lost beside 1."""
    total = n * math.log(beta1)
    if total < -40:
        return 0.0
    for k in range(1, 53):
        powers = n if log_q == 0 else math.exp(k * log_q) * math.expm1(k * n * log_q) / math.expm1(k * log_q)
        total -= 0.5**k / k * powers
    return math.exp(total)


@compiler.piece
def update_block(theta, gradient, state, settings, factors, lo, n, first, n_decaying):
    """theta ← theta − eta · (the rule's direction) for `n` parameters from theta[lo] on, whose gradient begins at
    gradient[first] and is clipped in place; `state` (n_moments, theta.size) moves along. Where the parameters' mean is
    kept it is one more row, which moves here unless max-norm comes after. factors: `factors_of` the step. Weight decay
    and L1 are for the first `n_decaying`."""
    out_of_line()
    t, g = part(theta, lo, n), part(gradient, first, n)  # offsets in the loops would stop the vectoriser
    number, rule, decaying = theta.dtype.type, settings[RULE], part(theta, lo, n_decaying)
    eta, rate = number(factors[0]), number(factors[1])
    if settings[CLIP_VALUE] > 0:
        bound = number(settings[CLIP_VALUE])
        for i in range(g.size):
            g[i] = min(max(g[i], -bound), bound)
    if factors[4] != 1:
        clipping = number(factors[4])
        for i in range(g.size):
            g[i] *= clipping
    if settings[DECAY] != 0:
        kept = number(1 - factors[0] * settings[DECAY])
        for i in range(decaying.size):
            decaying[i] *= kept
    if rule == SGD_RULE:
        for i in range(t.size):
            t[i] -= eta * g[i]
    elif rule == ADAM_RULE:
        _adam(t, g, part(state[0], lo, n), part(state[1], lo, n), settings, rate, number(factors[2]))
    elif rule != MOMENTUM_RULE and rule != NESTEROV_RULE:
        update_rarely(t, g, state, settings, factors, lo)
    else:
        v, momentum = part(state[0], lo, n), number(settings[FIRST])
        if rule == MOMENTUM_RULE:
            for i in range(t.size):
                v[i] = momentum * v[i] + g[i]
                t[i] -= eta * v[i]
        else:
            for i in range(t.size):
                v[i] = momentum * v[i] + g[i]
                t[i] -= eta * (g[i] + momentum * v[i])
    if settings[L1] != 0:
        toll = number(factors[0] * settings[L1])
        for i in range(decaying.size):
            decaying[i] -= min(max(decaying[i], -toll), toll)
    if settings[MEAN_DECAY] > 0 and settings[MAX_NORM] == 0:
        move_mean(part(state[len(state) - 1], lo, n), t, settings)


@compiler.rare
def update_rarely(t, g, state, settings, factors, lo):
    """`update_block`, by rules that few use: t and g are its parameters and their gradient."""
    number, rule, n = t.dtype.type, settings[RULE], t.size
    if rule == NADAM_RULE:
        _nadam(t, g, part(state[0], lo, n), part(state[1], lo, n), settings, number(factors[1]), number(factors[2]),
               number(factors[3]))
    elif rule == RMS_RULE:
        _rmsprop(t, g, part(state[0], lo, n), settings, number(factors[0]))
    elif rule == LION_RULE:
        _lion(t, g, part(state[0], lo, n), settings, number(factors[0]))
    elif rule == RPROP_RULE:
        _rprop(t, g, part(state[0], lo, n), part(state[1], lo, n), settings, number(factors[0]))


@compiler.inlined
def move_mean(mean, t, settings):
    """mean ← decay mean + (1 − decay) t, as a step towards t, which leaves equal numbers what they are."""
    rest = mean.dtype.type(1 - settings[MEAN_DECAY])
    for i in range(mean.size):
        mean[i] += rest * (t[i] - mean[i])


@compiler.inlined
def _adam(t, g, m, v, settings, rate, unbias):
    number = t.dtype.type
    beta1, beta2, epsilon = number(settings[FIRST]), number(settings[SECOND]), number(settings[EPSILON])
    rest1, rest2 = number(1 - settings[FIRST]), number(1 - settings[SECOND])
    for i in range(t.size):
        mean, square = fma(beta1, m[i], rest1 * g[i]), fma(beta2, v[i], rest2 * g[i] * g[i])
        m[i], v[i] = mean, square
        t[i] -= rate * mean / fma(np.sqrt(square), unbias, epsilon)


@compiler.inlined
def _nadam(t, g, m, v, settings, rate, unbias, rate_of_gradient):
    number = t.dtype.type
    beta1, beta2, epsilon = number(settings[FIRST]), number(settings[SECOND]), number(settings[EPSILON])
    rest1, rest2 = number(1 - settings[FIRST]), number(1 - settings[SECOND])
    for i in range(t.size):
        mean, square = fma(beta1, m[i], rest1 * g[i]), fma(beta2, v[i], rest2 * g[i] * g[i])
        m[i], v[i] = mean, square
        t[i] -= fma(rate, mean, rate_of_gradient * g[i]) / fma(np.sqrt(square), unbias, epsilon)


@compiler.inlined
def _rmsprop(t, g, v, settings, eta):
    number = t.dtype.type
    old, new, epsilon = number(settings[FIRST]), number(settings[SECOND]), number(settings[EPSILON])
    for i in range(t.size):
        v[i] = old * v[i] + new * g[i] * g[i]
        t[i] -= eta * g[i] / (np.sqrt(v[i]) + epsilon)


@compiler.inlined
def _lion(t, g, m, settings, eta):
    number = t.dtype.type
    beta1, beta2 = number(settings[FIRST]), number(settings[SECOND])
    rest1, rest2 = number(1 - settings[FIRST]), number(1 - settings[SECOND])
    for i in range(t.size):
        direction = beta1 * m[i] + rest1 * g[i]
        t[i] -= (eta if direction > 0 else number(0)) - (eta if direction < 0 else number(0))
        m[i] = beta2 * m[i] + rest2 * g[i]


@compiler.inlined
def _rprop(t, g, before, steps, settings, eta):
    """steps: in units of eta; 0 for the first, which is 1."""
    number = t.dtype.type
    decrease, increase = number(settings[FIRST]), number(settings[SECOND])
    least, most, one, zero = number(settings[EPSILON]), number(settings[MOMENTUM_DECAY]), number(1), number(0)
    for i in range(t.size):
        same = g[i] * before[i]
        step = (steps[i] if steps[i] > 0 else one) * (increase if same > 0 else decrease if same < 0 else one)
        step = min(max(step, least), most)
        slope = zero if same < 0 else g[i]
        t[i] -= (eta * step if slope > 0 else zero) - (eta * step if slope < 0 else zero)
        before[i], steps[i] = slope, step


@compiler.inner
def check_update(theta, gradient, state, settings, threads):
    """Raise ValueError unless the gradient and the rule's moments are as long as theta."""
    rule = settings[RULE]
    if threads < 1:
        raise ValueError("threads must be at least 1")
    n_moments = 0 if rule == SGD_RULE else 2 if rule in (ADAM_RULE, NADAM_RULE, RPROP_RULE) else 1
    n_moments += settings[MEAN_DECAY] > 0
    if gradient.size < theta.size or state.shape[0] < n_moments or (n_moments > 0 and state.shape[1] != theta.size):
        raise ValueError("gradient and each row of state must have as many numbers as theta, and state the rows that "
                         "the rule needs")


def _update(theta, gradient, state, settings, eta, step, threads):
    """`update_block` for all of theta; weight decay and L1 are for all of it too. Raises ValueError, before anything is
    written, if threads is below 1 or an array is too short."""
    check_update(theta, gradient, state, settings, threads)
    factors = factors_of(settings, eta, step)
    for c in prange(threads):
        lo, hi = even_share(theta.size, c, threads, 16)
        for first in range(lo, hi, NEAR):
            n = min(NEAR, hi - first)
            update_block(theta, gradient, state, settings, factors, first, n, first, n)


update, update_serial = compiler.twins(_update)
