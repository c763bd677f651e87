"""A network as a picture: neurons in columns, shaded by a number each, and lines between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fastbp.workspace import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST = 12  # neurons of a layer that are drawn


def draw_network(axes: Axes, neurons: Sequence[Array], lines: Sequence[Array], importance: Sequence[Array],
                 title: str) -> None:
    """Draw columns of neurons, blue below 0 and red above, and lines of the same colors, the thicker the larger.

    neurons: a number for each neuron, by layer, the input first; lines: (senders, receivers), between two layers each;
    importance: as neurons; of wide layers the most important ones are drawn, and the title of the column says so."""
    from matplotlib.collections import LineCollection

    drawn = [np.sort(np.argsort(-np.nan_to_num(of), kind="stable")[:MOST]) for of in importance]
    places = [np.column_stack([np.full(len(some), float(l)), _heights(len(some))]) for l, some in enumerate(drawn)]
    for l, all_lines in enumerate(lines):
        values = np.nan_to_num(all_lines[np.ix_(drawn[l], drawn[l + 1])])
        ends = [(places[l][j], places[l + 1][k]) for j in range(len(drawn[l])) for k in range(len(drawn[l + 1]))]
        sizes = np.abs(values).ravel() / (np.abs(values).max() or 1)
        axes.add_collection(LineCollection(ends, linewidths=3 * sizes, zorder=1, colors=[
            "tab:red" if value > 0 else "tab:blue" for value in values.ravel()]))
    for l, (some, values, at) in enumerate(zip(drawn, neurons, places, strict=True)):
        most = np.abs(np.nan_to_num(values)).max() or 1
        axes.scatter(at[:, 0], at[:, 1], c=values[some], cmap="coolwarm", vmin=-most, vmax=most, s=420,
                     edgecolors="black", zorder=2)
        for i, place in zip(some, at, strict=True):
            axes.annotate(f"{values[i] + 0:.2g}", place, ha="center", va="center", fontsize=6, zorder=3)
        count = f"{len(some)} of {len(values)}" if len(some) < len(values) else str(len(values))
        axes.annotate(("input" if l == 0 else f"layer {l}") + f": {count}", (l, 0.54), ha="center", fontsize=8)
    axes.set(xlim=(-0.3, len(neurons) - 0.7), ylim=(-0.56, 0.6), xticks=[], yticks=[], title=title)
    for side in axes.spines.values():
        side.set_visible(False)


def _heights(n: int) -> Array:
    """Return evenly spaced heights, the first neuron on top."""
    return 0.46 - 0.92 * (np.arange(n) + 0.5) / n
