"""Alone: which thread has a thing to itself."""

from __future__ import annotations


class Alone:
    """Held by a thread, which may take it again; another finds it taken.

    `owner` is looked at and set without a call in between, and set back in a `finally`: Python answers Ctrl-C, and
    changes threads, where calls end, and a lock's `acquire` is one. Interrupted there it stays locked for good.
    """

    __slots__ = ("owner",)

    def __init__(self) -> None:
        self.owner: int | None = None  # threading.get_ident() of the thread
