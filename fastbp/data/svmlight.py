"""SVMlight text: a line a sample, its target and then index:value of what is not zero, with rising indices.

Read by fastbp itself: scikit-learn's reader took as long, or up to 1.5 times (2 million entries in 20,000 lines); it
must be told the number of columns to read in pieces, and its errors name no line.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastbp.data.dataset import DataError
from fastbp.sparse import Rows

BLOCK = 1 << 18  # bytes of text read at a time
REMARK = re.compile(rb"#[^\n]*|\bqid:\S+")  # comments, and the queries of rankings
Array = npt.NDArray[Any]


class Block(NamedTuple):
    """Samples in compressed sparse rows (CSR): sample i is values[indptr[i]:indptr[i + 1]], in the columns `indices`.

    Indices are the file's own; y: the targets, float64.
    """

    values: Array
    indices: Array
    indptr: Array
    y: Array


class SVMlight:
    """A file of which each line was checked once; see `fastbp.data.stores.Store`.

    Indices count from 1, or from 0 if index 0 occurs. n_features: number of columns; None: up to the highest index;
    keep: whether the entries stay in memory.
    """

    at_once = 1  # a part is short
    features = None
    dtype = np.dtype(np.float64)

    def __init__(self, path: Path, n_features: int | None = None, keep: bool = False):
        self.path, self.n = path, 0
        self.blocks: list[tuple[int, int, Block | None]] = []  # offset, number of the first sample, the samples if kept
        lowest, highest, line, at, self.whole = 1, 0, 1, 0, True
        for lines in _blocks(path, 0):
            rows = _checked(lines, path, line)
            self.blocks.append((at, self.n, rows if keep else None))
            lowest = min(lowest, int(rows.indices.min(initial=lowest)))
            highest = max(highest, int(rows.indices.max(initial=0)))
            self.whole = self.whole and bool((rows.y == np.floor(rows.y)).all())
            self.n, line, at = self.n + len(rows.y), line + len(lines), at + sum(map(len, lines))
        self.base = lowest
        self.n_features = highest + 1 - lowest if n_features is None else n_features
        if self.n == 0 or self.n_features == 0:
            raise DataError(f"{path}: has no {'samples' if self.n == 0 else 'features'}; expected lines such as "
                            "1 3:0.5 7:2")
        if self.n_features > np.iinfo(np.int32).max:
            raise DataError(f"{path}: has the index {highest}; at most {np.iinfo(np.int32).max} features are possible")
        if highest - lowest >= self.n_features:
            raise DataError(f"{path}: has the index {highest}, but only {n_features} features are expected")

    def parts(self, rows: int) -> Sequence[tuple[int, int, Block | None]]:
        return self.blocks

    def pieces(self, parts: Sequence[tuple[int, int, Block | None]], rows: int) -> Iterator[tuple[int, Rows, Array]]:
        for at, first, kept in parts:
            block = kept or _rows(next(_blocks(self.path, at)))
            for begin in range(0, len(block.y), rows):
                yield first + begin, *self._samples(block, begin, begin + rows)

    def _samples(self, block: Block, begin: int, end: int) -> tuple[Rows, Array]:
        """Return some samples, and their targets (n,), integers if those of the file are."""
        y, begins = block.y[begin:end], block.indptr[begin : end + 1]
        own = slice(begins[0], begins[-1])
        rows = Rows(begins - begins[0], (block.indices[own] - self.base).astype(np.int32), block.values[own],
                    self.n_features)
        return rows, y.astype(np.int64) if self.whole else y


def _blocks(path: Path, at: int) -> Iterator[list[bytes]]:
    """Yield lines, some at a time, from this offset in bytes on."""
    try:
        with path.open("rb") as file:
            file.seek(at)
            while lines := file.readlines(BLOCK):
                yield lines
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; expected SVMlight text") from None


def _checked(lines: list[bytes], path: Path, line: int) -> Block:
    """Return the samples in these lines; raise DataError that names the first wrong one, counted from `line` on."""
    try:
        return _rows(lines)
    except (ValueError, OverflowError):
        for i, one in enumerate(lines):
            try:
                _rows([one])
            except (ValueError, OverflowError) as error:
                raise DataError(f"{path}, line {line + i}: {error}; expected a target and index:value, such as "
                                "1 3:0.5 7:2") from None
        raise


def _rows(lines: list[bytes]) -> Block:
    text = b"".join(lines)
    if b"#" in text or b"qid:" in text:
        lines = REMARK.sub(b"", text).split(b"\n")
    labels: list[bytes] = []
    words: list[bytes] = []
    indptr = [0]
    for line in lines:
        if parts := line.split():
            labels.append(parts[0])
            words += parts[1:]
            indptr.append(len(words))
    odd = next((word for word in words if word.count(b":") != 1), None)
    if odd is not None:
        raise ValueError(f"{odd.decode(errors='replace')!r} is not index:value")
    entries = b":".join(words).split(b":") if words else []
    rows = Block(np.fromiter(map(float, entries[1::2]), np.float64), np.fromiter(map(int, entries[::2]), np.int64),
                 np.array(indptr), np.fromiter(map(float, labels), np.float64))
    if not (np.isfinite(rows.values).all() and np.isfinite(rows.y).all()):
        raise ValueError("a number is not finite")
    if rows.indices.min(initial=0) < 0:
        raise ValueError(f"index {rows.indices.min()} is negative")
    falls = np.flatnonzero(np.diff(rows.indices) <= 0) + 1
    falls = falls[~np.isin(falls, rows.indptr)]  # not from one sample to the next
    if len(falls):
        one, other = rows.indices[falls[0] - 1 : falls[0] + 1]
        raise ValueError(f"index {other} comes after {one}, but indices must rise")
    return rows
