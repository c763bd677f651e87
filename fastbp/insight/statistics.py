"""Statistics of each layer during training, of the mini-batches that the compiled core works on, and what they warn of.

A step that is looked at is made alone. Before it the parameters are copied, after it z, a and delta are read from the
buffers of the step. The weight gradients are computed once more from these buffers by the same kernel, as a step
discards each block of them. Nothing is written to what a step reads, so the bits of training stay the same.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from fastbp.callbacks import Fit, Watcher
from fastbp.checks import counted, shown, whole_number
from fastbp.core import equations
from fastbp.core.call import SLOTS
from fastbp.core.metrics import AT_ONCE, sums_of, sums_of_update, sums_of_update_serial
from fastbp.core.samples import describe
from fastbp.core.threads import team
from fastbp.diagnosis import DEAD, SATURATED
from fastbp.figures import LITTLE, MANY, Levels, column_names, columns_of, unscaled_inputs
from fastbp.inputs import VALUE, Inputs, Targets
from fastbp.insight.record import Record, table
from fastbp.training.notes import ABSURD_INPUTS, warn
from fastbp.training.stepper import Stepper
from fastbp.training.trainer import Trainer
from fastbp.workspace import Array, Workspace, aligned

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

# z beyond which sigmoid and tanh are within 1 % of their ends, and z below which a slope is 0 or at most 0.01.
SATURATES = {"sigmoid": 2 * math.atanh(SATURATED), "tanh": math.atanh(SATURATED)}
IDLES = {"relu": 0.0, "elu": -4.61, "selu": -5.18, "gelu": -3.1, "gelu_tanh": -3.1, "silu": -6.3, "mish": -6.3,
         "softplus": -4.61}
FEWEST = 16  # samples, below which nothing is judged: of a few, most relu neurons may be 0
VANISHED, EXPLODED = 1e-3, 1e3  # delta of a hidden layer, as a share of delta of the output layer
LARGE_UPDATE, TINY_UPDATE, IN_A_ROW = 0.1, 1e-6, 3  # update to weight, usually near 1e-3; looks that must agree
GROWN = 20  # steps in which weights that begin at 0 may grow to their size
FIGURES = {"z_mean": "z mean", "z_rms": "z rms", "a_mean": "a mean", "a_rms": "a rms", "delta_mean": "delta mean",
           "delta_rms": "delta rms", "dW_mean": "dW mean", "dW_rms": "dW rms", "saturated": "saturated", "dead": "dead",
           "update_ratio": "update/W"}
PANELS = {"delta_rms": "rms of delta", "dW_rms": "rms of dW", "update_ratio": "rms of update / rms of W",
          "saturated": "share of saturated (line) and dead (dashed) neurons"}


class Statistics(Record, Watcher):
    """Statistics of each layer, taken from every `every`-th mini-batch; a callback that also warns.

    They are those of the step as it was made, with its dropout and noise. The bits of a fit are the same with and
    without it. Of a mini-batch so large that its samples are computed in pieces, they are those of the last piece.

    Once for each trainer, kind and layer it warns of dead or saturated hidden layers, errors that vanish or explode on
    their way back, updates that are far too large or too small for the weights, inputs that are not scaled, and outputs
    that are the same for all samples. It says nothing if the cost of the mini-batch is below half of that of a constant
    prediction, or if the mini-batch has less than 16 samples.

    Parameters
    ----------
    every : int
        >= 1: number of steps of the trainer from one look to the next, counted by `trainer.steps_done`.

    Attributes
    ----------
    records : list of dict
        One for each look and layer, in this order; layers count from 0, as `network.W` does. step, layer, activation,
        neurons, samples (of the piece) and cost (of the mini-batch); z_mean, z_rms, a_mean, a_rms, delta_mean,
        delta_rms, dW_mean and dW_rms: means and root mean squares of the layer's z, a, delta and gradient of W, in the
        units of the core; saturated: the share of activations of a hidden sigmoid or tanh layer within 1 % of their
        ends; dead: the share of hidden neurons whose slope is at most 0.01 (relu: 0) for every sample; update_ratio:
        the root mean square of the change of W in this step, divided by that of W. NaN: a layer has no such value, as
        delta and dW below the lowest trained layer, or dW of the first layer for sparse samples. A new trainer starts
        them anew.

    Raises
    ------
    ValueError, TypeError
        `every` is out of its range; when a fit begins: the trainer is already being looked at by another Statistics.

    Warns
    -----
    TrainingWarning
        See above.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import Network, Trainer
    >>> X = np.random.default_rng(0).normal(size=(2000, 4))
    >>> trainer, statistics = Trainer(Network([4, 16, 8, 2]), batch_size=20), Statistics(every=50)
    >>> _ = trainer.fit(X, (X[:, 0] * X[:, 1] > 0).astype(int), epochs=2, callbacks=[statistics])
    >>> [(each["step"], each["layer"]) for each in statistics.records[:4]]
    [(50, 0), (50, 1), (50, 2), (100, 0)]
    >>> print(str(statistics).splitlines()[0][:65])
    Statistics of 4 looks, every 50 steps; step 200: 20 samples, cost
    """

    def __init__(self, every: int = 100):
        self.interval = whole_number("every", every, 1)
        self.records: list[dict[str, Any]] = []
        self._of: Stepper | None = None  # whose steps are being looked at
        self._theta, self._gradient = np.empty(0), np.empty(0)  # before a step; its gradient

    # When it looks

    def begin(self, fit: Fit) -> None:
        if fit.trainer is not None:
            self._begin(fit.trainer)

    def _begin(self, trainer: Trainer) -> None:
        stepper, net = trainer.stepper, trainer.network
        if stepper.observer not in (None, self) or self._of not in (None, stepper):
            raise ValueError("a trainer takes one insight.Statistics at a time, and a Statistics one trainer; use "
                             "another one for each")
        self._forget(trainer.steps_done)
        self._theta, self._gradient = net.theta.copy(), aligned(net.n_parameters, net.dtype)
        self._of = stepper
        workspace = net.workspace(2)  # compile kernels now, and not within a step whose time is taken
        self._compute(workspace, workspace.layers, 1)
        for array in (net.W[0], workspace.z[0]):
            sums_of(array)
        stepper.observe(self)

    def __call__(self, fit: Fit) -> None:
        """Do nothing at the end of an epoch: it looks at steps."""

    def end(self, fit: Fit) -> None:
        if fit.trainer is not None and fit.trainer.stepper is self._of:
            self._end()

    def _end(self) -> None:
        if self._of is not None:
            self._of.observe(None)
        self._of, self._theta, self._gradient = None, np.empty(0), np.empty(0)

    @contextlib.contextmanager
    def watch(self, trainer: Trainer) -> Iterator[Statistics]:
        """Look at all steps of a trainer in a `with` block: of `partial_fit`, `step` and other calls without callbacks.

        Parameters
        ----------
        trainer : Trainer

        Raises
        ------
        ValueError, TypeError
            `trainer` is not a Trainer, or is already being looked at.

        Examples
        --------
        >>> import numpy as np
        >>> from fastbp import Network, Trainer
        >>> trainer, statistics, draw = Trainer(Network([3, 2])), Statistics(every=10), np.random.default_rng(0)
        >>> with statistics.watch(trainer):
        ...     for _ in range(30):
        ...         X = draw.normal(size=(32, 3))
        ...         cost = trainer.partial_fit(X, (X[:, 0] > 0).astype(int))
        >>> [each["step"] for each in statistics.records]
        [10, 20, 30]
        """
        if not isinstance(trainer, Trainer):
            raise TypeError(f"trainer must be a Trainer, got {shown(trainer)}")
        self._begin(trainer)
        try:
            yield self
        finally:
            self._end()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_of": None, "_theta": np.empty(0), "_gradient": np.empty(0)}

    # What it sees

    def before(self, stepper: Stepper) -> None:
        np.copyto(self._theta, stepper.settings.network.theta)

    def after(self, stepper: Stepper, n: int, eta: float, cost: float) -> None:
        trainer, workspace = stepper.settings, stepper.workspace
        rows = (n - 1) % int(workspace.slip.vector[SLOTS["piece"]]) + 1
        layers = workspace.layers[int(workspace.sparse) :]  # sparse samples are not in the buffers
        updates = self._compute(workspace, layers, rows)
        self._forget(trainer.steps_done - 1)
        known = {"step": trainer.steps_done, "samples": rows, "cost": cost}
        self.records += [known | self._layer(stepper, l, rows, sums) for l, sums in enumerate(updates)]
        self._warn(stepper, rows, eta, cost)

    def _compute(self, workspace: Workspace, layers: Array, rows: int) -> list[Array]:
        """Compute the gradients of these layers; return of each W the sums of `sums_of_update`, on all threads."""
        assert self._of is not None
        own = self._of.settings
        vectors = own.network.theta, self._theta, self._gradient
        parallel, serial = (equations.weight_gradients, sums_of_update), (equations.weight_gradients_serial,
                                                                          sums_of_update_serial)
        with team.team((parallel, serial), own.threads) as ((gradients, add), threads):
            if len(layers):
                gradients(self._gradient, layers, workspace.buffers, rows, threads)
            found = []
            for W, before, dW in zip(*(own.network.views(vector)[0] for vector in vectors), strict=True):
                sums = np.empty((-(-W.size // AT_ONCE), 4))
                add(W.ravel(), before.ravel(), dW.ravel(), sums, threads)
                found.append(sums.sum(0))
        return found

    def _layer(self, stepper: Stepper, l: int, rows: int, sums: Array) -> dict[str, Any]:
        """Return the figures of a layer; sums: of its W, see `sums_of_update`."""
        net, workspace, frozen = stepper.settings.network, stepper.workspace, stepper.settings.frozen
        z, W, activation = workspace.z[l][:rows], net.W[l], net.activations[l]
        known: dict[str, Any] = {"layer": l, "activation": activation, "neurons": W.shape[1]}
        known |= dict.fromkeys(FIGURES, math.nan)
        of = {"z": z, "a": workspace.a[l + 1][:rows]}
        if any(lower not in frozen for lower in range(l + 1)):  # otherwise no error is sent there
            of["delta"] = workspace.delta[l][:rows]
            if l or not workspace.sparse:
                known["dW_mean"], known["dW_rms"] = sums[2] / W.size, math.sqrt(sums[3] / W.size)
        for name, array in of.items():
            known[f"{name}_mean"], known[f"{name}_rms"] = mean_and_rms(array)
        if l + 1 < len(net.W) and activation in SATURATES:
            known["saturated"] = float((np.abs(z) > SATURATES[activation]).mean())
        elif l + 1 < len(net.W) and activation in IDLES:
            known["dead"] = float((z.max(0) <= IDLES[activation]).mean())
        known["update_ratio"] = math.sqrt(sums[1] / sums[0]) if sums[0] else math.nan
        return known

    def _forget(self, step: int) -> None:
        """Drop the records after this step, which is made again or by another trainer."""
        while self.records and self.records[-1]["step"] > step:
            self.records.pop()

    def _looks(self, last: int = 0) -> list[list[dict[str, Any]]]:
        """Return the records of the last looks, or of all, look by look."""
        n = self.records[-1]["layer"] + 1 if self.records else 1
        records = self.records[-last * n :]
        return [records[i : i + n] for i in range(0, len(records), n)]

    # What it says

    def _warn(self, stepper: Stepper, rows: int, eta: float, cost: float) -> None:
        trainer, targets = stepper.settings, stepper.workspace.targets[:rows]
        if rows < FEWEST:
            return
        found = dict([*self._of_units(), *self._of_errors(), *self._of_updates(stepper, eta),
                      *self._of_outputs(stepper, rows), *_of_inputs(stepper, rows)])
        new = [kind for kind in found if kind not in trainer.warned_of]
        if new and not Levels.of(trainer.loss, Targets(targets, describe(targets), VALUE, None),
                                 targets.shape[1]).learned(cost):
            for kind in new:
                warn(trainer, kind, f"at step {trainer.steps_done:,} {found[kind]}")

    def _of_units(self) -> Iterator[tuple[str, str]]:
        for each in self._looks(1)[0]:
            l, activation = each["layer"], each["activation"]
            if each["dead"] > DEAD:
                yield f"dead {l}", (
                    f"hidden layer {l} is dead: {100 * each['dead']:.0f} % of its {each['neurons']} {activation} "
                    f"neurons have no slope for any of {each['samples']} samples and cannot learn; make a new network, "
                    'with a smaller eta or hidden="leaky_relu"')
            elif each["saturated"] > MANY:
                yield f"saturated {l}", (
                    f"hidden layer {l} is saturated: {100 * each['saturated']:.0f} % of its {activation} activations "
                    f"are within {100 - 100 * SATURATED:.0f} % of their ends, where there is hardly a gradient; scale "
                    "the inputs, make a new network with smaller weights, or try a smaller eta")

    def _of_errors(self) -> Iterator[tuple[str, str]]:
        """Compare the errors of the hidden layers with that of the output; dead or saturated units explain theirs."""
        *hidden, last = self._looks(1)[0]
        told = "rms of delta is {:.2g} in hidden layer {} and {:.2g} in the output layer"
        known = [each for each in hidden if each["delta_rms"] >= 0]
        if not known or not last["delta_rms"] > 0:
            return
        least, most = (one(known, key=lambda each: each["delta_rms"]) for one in (min, max))
        idle = any(each["dead"] > DEAD or each["saturated"] > MANY for each in hidden[least["layer"] :])
        if least["delta_rms"] < VANISHED * last["delta_rms"] and not idle:
            yield "vanishing", ("the error vanishes on its way back: "
                                + told.format(least["delta_rms"], least["layer"], last["delta_rms"])
                                + '; try hidden="relu", fewer layers, or a new network with larger weights')
        if most["delta_rms"] > EXPLODED * last["delta_rms"]:
            yield "exploding", ("the error explodes on its way back: "
                                + told.format(most["delta_rms"], most["layer"], last["delta_rms"])
                                + "; make a new network with smaller weights, or try clip_norm=1 and a smaller eta")

    def _of_updates(self, stepper: Stepper, eta: float) -> Iterator[tuple[str, str]]:
        looks = self._looks(IN_A_ROW)
        if len(looks) < IN_A_ROW:
            return
        ratios = np.nan_to_num([[each["update_ratio"] for each in look] for look in looks])
        l = int(ratios.min(0).argmax())
        if ratios[:, l].min() > LARGE_UPDATE and looks[0][0]["step"] >= GROWN:
            yield "large updates", (
                f"the updates are large: a step changes W of layer {l} by {100 * ratios[-1, l]:.0f} % of its size, "
                f"usual is 0.1 %; eta {eta:.3g} may be too large, try {eta / 10:.2g}, or see find_eta")
        # Later they may be small because the minimum is near; in a warm-up, because eta is; without a gradient, anyway.
        first, whole = self.records[0]["step"] <= self.interval, eta >= stepper.settings.optimizer.eta / 2
        has_gradient = any(each["dW_rms"] > 0 for each in looks[-1])
        if first and whole and has_gradient and ratios.max() < TINY_UPDATE and not any(
                each["update_ratio"] >= TINY_UPDATE for each in self.records):
            yield "tiny updates", (
                f"the updates are tiny: a step changes W of no layer by more than {ratios.max():.1g} of its size, "
                f"usual is 0.001; eta {eta:.3g} may be too small, see find_eta")

    def _of_outputs(self, stepper: Stepper, rows: int) -> Iterator[tuple[str, str]]:
        own, workspace = stepper.settings, stepper.workspace
        spread, wanted = (float(array[:rows].std(0, dtype=np.float64).max())
                          for array in (workspace.a[-1], workspace.targets))
        if own.loss.heeds_lengths and spread < LITTLE * wanted and (len(own.network.W) > 1 or own.steps_done > 1):
            yield "constant outputs", (
                f"the outputs are the same for all {rows} samples: their standard deviation is {spread:.2g}, that of "
                f"the targets {wanted:.2g}; make a new network (other seed or weights), with a smaller eta or other "
                "hidden units")

    # How it is shown

    def to_frame(self) -> pd.DataFrame:
        """Return a pandas DataFrame with a row for each look and layer; its index is (step, layer).

        Raises
        ------
        ImportError
            pandas is not installed.

        Examples
        --------
        >>> list(Statistics().to_frame().index.names)
        ['step', 'layer']
        """
        try:
            import pandas as pd
        except ImportError:
            raise ImportError("to_frame needs pandas: pip install pandas") from None
        columns = ["step", "layer", "activation", "neurons", "samples", "cost", *FIGURES]
        return pd.DataFrame(self.records, columns=columns).set_index(["step", "layer"])

    def _draw(self, figure: Figure) -> None:
        """Draw rms of delta and dW, update to weight, and the share of saturated or dead neurons, a line a layer."""
        figure.set_size_inches(12, 8)
        looks = self._looks()
        steps = [look[0]["step"] for look in looks]
        for axes, (name, label) in zip(figure.subplots(2, 2).ravel(), PANELS.items(), strict=True):
            for l, each in enumerate(looks[0] if looks else []):
                axes.plot(steps, [look[l][name] for look in looks], color=f"C{l}", marker=".",
                          label=f"layer {l}, {each['activation']}")
                if name == "saturated":
                    axes.plot(steps, [look[l]["dead"] for look in looks], "--", color=f"C{l}", marker=".")
            axes.set(xlabel="step", ylabel=label)
            if name == "saturated":
                axes.set_ylim(-0.02, 1.02)
            elif any(look[l][name] > 0 for look in looks for l in range(len(look))):
                axes.set_yscale("log")
            if looks:
                axes.legend()

    def __repr__(self) -> str:
        looks = self._looks()
        title = f"Statistics of {counted(len(looks), 'look')}, every {counted(self.interval, 'step')}"
        if not looks:
            return title
        last = looks[-1][0]
        title += f"; step {last['step']:,}: {counted(last['samples'], 'sample')}, cost {last['cost']:.4g}"
        return table(title, ("layer", "", *FIGURES.values()), *(
            (each["layer"], each["activation"], *(_text(name, each[name]) for name in FIGURES)) for each in looks[-1]))


def mean_and_rms(array: Array) -> tuple[float, float]:
    """Return mean and root mean square of an array (rows, columns)."""
    total, squares = sums_of(array)
    return total / array.size, math.sqrt(squares / array.size)


def _of_inputs(stepper: Stepper, rows: int) -> Iterator[tuple[str, str]]:
    """Find inputs that are absurdly large, as `fit` does by itself before it begins; streams are not checked so."""
    x, net = stepper.workspace.a[0][:rows], stepper.settings.network
    if x.size and max(float(x.max()), -float(x.min())) > ABSURD_INPUTS[1]:
        columns = columns_of(x)
        if columns.beyond(*ABSURD_INPUTS):
            yield "inputs", unscaled_inputs(Inputs(x, describe(x)), columns,
                                            column_names(net.feature_names or (), x.shape[1]))


def _text(name: str, value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{100 * value:.0f} %" if name in ("saturated", "dead") else f"{value:.2g}"
