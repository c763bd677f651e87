"""Batches that a separate thread reads ahead, while compiled code works on the previous ones."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from typing import Any, TypeVar

Item = TypeVar("Item")
Checked = TypeVar("Checked")
AHEAD = 2  # batches that wait at most
PATIENCE = 1.0  # seconds to wait at the end for the reader, which may be blocked by the source of the items
END = object()


def read_ahead(items: Iterable[Item], check: Callable[[Item], Checked], most: int = AHEAD
               ) -> Generator[Checked, None, None]:
    """Yield check(item) for each item in order; an error of either is raised at its turn. most: how many may wait.

    The thread ends with the generator: when it is exhausted, closed or garbage-collected.
    """
    waiting: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(most)
    ended = threading.Event()

    def put(checked: Any, error: BaseException | None) -> None:
        while not ended.is_set():
            try:
                return waiting.put((checked, error), timeout=0.1)
            except queue.Full:
                pass

    def read() -> None:
        try:
            for item in items:
                put(check(item), None)
                if ended.is_set():
                    return
            put(END, None)
        except BaseException as error:  # noqa: BLE001  # raised where the items are used
            put(None, error)

    thread = threading.Thread(target=read, name="fastbp reader", daemon=True)
    thread.start()
    try:
        while True:
            checked, error = waiting.get()
            if error is not None:
                raise RuntimeError("a batch raised StopIteration") if isinstance(error, StopIteration) else error
            if checked is END:
                return
            yield checked
    finally:
        ended.set()
        thread.join(PATIENCE)
