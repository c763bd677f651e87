"""The history of a fit, epoch by epoch: numbers, a table to read, a pandas frame, a plot."""

from __future__ import annotations

import html
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fastbp.checks import counted
from fastbp.metrics import METRICS
from fastbp.plotting import drawn

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

WATCHED = {"loss": False, "validation_loss": False, "validation_accuracy": True}  # whether larger is better
ROWS = 10  # largest number of epochs in a printed table


@dataclass(repr=False)
class History:
    """The history of a fit, one number per epoch; printed as a table of the first and last epochs and the best values.

    Attributes
    ----------
    loss : list of float
        Mean cost of the training samples, each measured before the step of its mini-batch.
    validation_loss, validation_accuracy : lists of float
        After the epoch, on the validation samples; accuracy is a fraction in [0, 1]. Empty without them.
    metrics : dict of list of float
        By name: the metrics requested from `fit`, on the validation samples.
    seconds : list of float
        Time spent on shuffling and training, without evaluation.
    samples : list of int
        Number of samples trained on.
    stopped : str
        Why the fit ended before its last epoch; empty if it did not.

    Examples
    --------
    >>> History([0.9, 0.5, 0.4], [0.8, 0.5, 0.6], [0.6, 0.75, 0.7], seconds=[1.0, 0.5, 0.5], samples=[500] * 3)
    History of 3 epochs: 1,500 samples in 2 s of training
    epoch  loss  validation_loss  validation_accuracy
        1   0.9              0.8                  0.6
        2   0.5              0.5                 0.75
        3   0.4              0.6                  0.7
     best   0.4              0.5                 0.75
    """

    loss: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    validation_accuracy: list[float] = field(default_factory=list)
    metrics: dict[str, list[float]] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    samples: list[int] = field(default_factory=list)
    stopped: str = ""

    def values(self) -> dict[str, list[float]]:
        """Return all values that can be watched, by name.

        Returns
        -------
        dict of list of float
            Losses, accuracy and metrics, one number per epoch.

        Examples
        --------
        >>> History([0.9, 0.5], metrics={"f1": [0.4, 0.7]}).values()
        {'loss': [0.9, 0.5], 'f1': [0.4, 0.7]}
        """
        return {name: getattr(self, name) for name in WATCHED if getattr(self, name)} | self.metrics

    def to_frame(self) -> pd.DataFrame:
        """Return a pandas DataFrame with one row per epoch; its index "epoch" counts from 1. Values missing because an
        epoch was interrupted are NaN.

        Columns, if the fit had them: loss, validation_loss, validation_accuracy, the metrics, seconds, samples.

        Raises
        ------
        ImportError
            pandas is not installed.

        Examples
        --------
        >>> frame = History([0.9, 0.5], seconds=[1.0, 0.5], samples=[500, 500]).to_frame()
        >>> float(frame.loc[2, "loss"]), list(frame)
        (0.5, ['loss', 'seconds', 'samples'])
        """
        try:
            import pandas as pd
        except ImportError:
            raise ImportError("to_frame needs pandas: pip install pandas") from None
        columns: Mapping[str, list[Any]] = self.values() | {"seconds": self.seconds, "samples": self.samples}
        n = len(self.loss)
        index = pd.RangeIndex(1, n + 1, name="epoch")
        return pd.DataFrame({name: pd.Series(column[:n], index[: len(column)], dtype=None if column else float)
                             for name, column in columns.items()}, index)

    def plot(self, path: str | os.PathLike[str] | None = None) -> Figure:
        """Plot the losses and, if there are any, accuracy and metrics over the epochs; a notebook shows the returned
        figure.

        Parameters
        ----------
        path : str or path, optional
            Also write the plot to this file (.png, .svg, .pdf).

        Raises
        ------
        ImportError
            matplotlib is not installed: pip install "fastbp[plot]".
        FileNotFoundError, IsADirectoryError
            The file `path` cannot be written.

        Examples
        --------
        >>> figure = History([0.9, 0.5, 0.4], [0.8, 0.5, 0.6]).plot()
        >>> figure.axes[0].get_ylabel()
        'loss'
        """
        return drawn(self._draw, path)

    def _draw(self, figure: Figure) -> None:
        from matplotlib.ticker import MaxNLocator

        values = self.values()
        panels = [[name for name in values if name.endswith("loss")],
                  [name for name in values if not name.endswith("loss")]]
        panels = [names for names in panels if names] or [[]]
        figure.set_size_inches(6 * len(panels), 4)
        for axes, names in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            for name in names:
                # A marker: one epoch alone draws no line.
                axes.plot(range(1, len(values[name]) + 1), values[name], marker=".", label=name)
            axes.set(xlabel="epoch", ylabel=names[0] if len(names) == 1 else "loss" if names == panels[0] else "")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            if names:
                axes.legend()

    def __repr__(self) -> str:
        rows = self._rows()
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
        return "\n".join([self._title(), *(lines if self.loss else []), *self._ending()])

    def _repr_html_(self) -> str:
        """Return the table as HTML, for notebooks."""
        heading, *rows = ["".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row)
                          for row, tag in zip(self._rows(), ["th"] + ["td"] * (len(self.loss) + 3), strict=False)]
        table = "".join(f"<tr>{row}</tr>" for row in rows)
        table = f"<table><thead><tr>{heading}</tr></thead><tbody>{table}</tbody></table>" if self.loss else ""
        return "".join([f"<p>{html.escape(self._title())}</p>", table,
                        *(f"<p>{html.escape(line)}</p>" for line in self._ending())])

    def _title(self) -> str:
        n = len(self.loss)
        return (f"History of {counted(n, 'epoch')}: {counted(sum(self.samples), 'sample')} in "
                f"{sum(self.seconds):.3g} s of training")

    def _ending(self) -> list[str]:
        return [f"stopped: {self.stopped}"] if self.stopped else []

    def _rows(self) -> list[list[str]]:
        """Return a heading, some epochs and the best values, as strings."""
        values, n = self.values(), len(self.loss)
        shown = [*range(n)] if n <= ROWS else [0, 1, None, *range(n - ROWS + 2, n)]
        rows = [["epoch", *values]]
        for i in shown:
            rows.append(["..."] * (len(values) + 1) if i is None else
                        [str(i + 1), *(_text(each[i]) if i < len(each) else "" for each in values.values())])
        if n > 1:
            rows.append(["best", *(_text(_best(name, each)) for name, each in values.items())])
        return rows


def joined(first: History, then: History) -> History:
    """Return the epochs of `first` followed by those of `then`, NaN for missing values, and how `then` ended."""
    lengths = [min(len(part.loss), len(part.seconds), len(part.samples)) for part in (first, then)]

    def series(*parts: list[float]) -> list[float]:
        if not any(parts):
            return []
        return [value for part, n in zip(parts, lengths, strict=True) for value in [*part, *[math.nan] * n][:n]]

    named = {name: series(first.metrics.get(name, []), then.metrics.get(name, []))
             for name in {**first.metrics, **then.metrics}}
    return History(series(first.loss, then.loss), series(first.validation_loss, then.validation_loss),
                   series(first.validation_accuracy, then.validation_accuracy), named,
                   series(first.seconds, then.seconds), first.samples[: lengths[0]] + then.samples[: lengths[1]],
                   then.stopped)


def _best(name: str, values: list[float]) -> float | None:
    """Return the best value, ignoring NaN, if it is known whether larger is better."""
    finite = [value for value in values if not math.isnan(value)]
    more = WATCHED[name] if name in WATCHED else METRICS[name].more_is_better if name in METRICS else None
    return None if more is None or not finite else max(finite) if more else min(finite)


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
