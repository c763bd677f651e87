"""Figures of matplotlib, which is imported when something is drawn."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from fastbp.files import check_folder

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def drawn(draw: Callable[[Figure], None], path: str | os.PathLike[str] | None = None) -> Figure:
    """Return a figure on which `draw` has drawn; it is also written to `path`, if there is one.

    Raises ImportError without matplotlib, and FileNotFoundError or IsADirectoryError before anything is drawn."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError('plot needs matplotlib: pip install "fastbp[plot]"') from None
    target, figure = None if path is None else check_folder(path), _shown(Figure)(layout="constrained")
    draw(figure)
    if target is not None:
        figure.savefig(target)
    return figure


def _shown(kind: type[Figure]) -> type[Figure]:
    """Return a figure class that notebooks and the gallery of examples show without pyplot, which would show the figure
    a second time."""
    class Shown(kind):  # type: ignore[misc, valid-type]
        def _repr_png_(self) -> bytes:
            content = io.BytesIO()
            self.savefig(content, format="png")
            return content.getvalue()

        def _repr_html_(self) -> str:
            return f'<img alt="figure" src="data:image/png;base64,{base64.b64encode(self._repr_png_()).decode()}">'

    return Shown
