"""From Python functions to machine code: decorators, pieces, the cache. The one door to Numba's internals."""

from fastbp.core.compiler.cache import Made, is_cached, once
from fastbp.core.compiler.decorators import FLAGS, inlined, out_of_line, serial, twins, uninterrupted
from fastbp.core.compiler.linking import (
    NO_ENTRY,
    apart,
    block,
    call,
    fill,
    inner,
    is_filled,
    link,
    linking,
    machine_code,
    piece,
    rare,
    reserve,
)
from fastbp.core.compiler.numba import global_compiler_lock

__all__ = ["FLAGS", "NO_ENTRY", "Made", "apart", "block", "call", "fill", "global_compiler_lock", "inlined", "inner",
           "is_cached", "is_filled", "link", "linking", "machine_code", "once", "out_of_line", "piece", "rare",
           "reserve", "serial", "twins", "uninterrupted"]
