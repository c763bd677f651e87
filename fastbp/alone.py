"""Alone: a lock that does not block."""

from __future__ import annotations


class Alone:
    """Held by one thread, which may take it again; for another thread it is taken.

    `owner` is read and set without a call in between, and reset in a `finally`. Python handles Ctrl-C and switches
    threads where calls end, such as a lock's `acquire`; a lock interrupted there would stay locked for good.
    """

    __slots__ = ("owner",)

    def __init__(self) -> None:
        self.owner: int | None = None  # threading.get_ident() of the thread
