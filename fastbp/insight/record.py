"""What functions of fastbp.insight return: arrays with names, printed as a table, drawn by matplotlib."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from fastbp.plotting import drawn
from fastbp.workspace import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEAST_SIDE = 8  # of the smallest square of inputs that is taken to be an image


class Record:
    """Base class of the records, each of which draws itself on a figure."""

    def plot(self, path: str | os.PathLike[str] | None = None) -> Figure:
        """Draw it; a notebook shows the returned figure.

        Parameters
        ----------
        path : str or path, optional
            Also write the figure to this file (.png, .svg, .pdf).

        Raises
        ------
        ImportError
            matplotlib is not installed: pip install "fastbp[plot]".
        FileNotFoundError, IsADirectoryError
            The file `path` cannot be written.

        Examples
        --------
        >>> from fastbp import Network, insight
        >>> figure = insight.sensitivity(Network([3, 2]), np.eye(3), [0, 1, 1]).plot()
        """
        return drawn(self._draw, path)

    def _draw(self, figure: Figure) -> None:
        raise NotImplementedError


def table(title: str, *rows: tuple[Any, ...]) -> str:
    """Return a title and rows, of which the first is the heading, as text; numbers with three digits."""
    cells = [[f"{cell:.3g}" if isinstance(cell, (float, np.floating)) else str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join([title, *("  ".join(map(str.rjust, row, widths)).rstrip() for row in cells)])


def largest(sizes: Array, most: int) -> list[int]:
    """Return the indices of up to `most` numbers, the largest first; NaN counts as the largest."""
    return [int(i) for i in np.argsort(-np.where(np.isnan(sizes), np.inf, sizes), kind="stable")[:most]]


def image_shape(n: int) -> tuple[int, int]:
    """Return the shape in which n inputs are drawn: a square if they may be the pixels of one, else a row."""
    side = math.isqrt(n)
    return (side, side) if side * side == n and side >= LEAST_SIDE else (1, n)


def draw_picture(axes: Any, picture: Array, title: str = "", limit: float | None = None) -> Any:
    """Draw numbers from -limit (blue) over 0 (white) to limit (red), or inputs, without a limit, in grey.

    Returns what a color bar needs."""
    colors = {"cmap": "gray_r"} if limit is None else {"cmap": "RdBu_r", "vmin": -(limit or 1), "vmax": limit or 1}
    drawn = axes.imshow(picture, **colors, interpolation="nearest", aspect="auto" if len(picture) == 1 else None)
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=8)
    return drawn
