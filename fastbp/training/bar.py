"""The progress bar of a fit."""

from __future__ import annotations

import contextlib
import sys
import warnings
from typing import Any


def bar_of(total: int, done: int, progress: bool | None) -> Any:
    """A tqdm bar, or a context of None."""
    notebook = _in_notebook()
    if progress is None:
        progress = notebook or (sys.stderr is not None and sys.stderr.isatty())
    if not progress:
        return contextlib.nullcontext()
    if notebook:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # without ipywidgets tqdm warns and shows a bar of text
            from tqdm.auto import tqdm
    else:
        from tqdm import tqdm

    return tqdm(total=total, initial=done, unit="step")


def _in_notebook() -> bool:
    """Whether a Jupyter kernel runs this."""
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return get_ipython is not None and getattr(get_ipython(), "kernel", None) is not None
