"""From Python functions to machine code: decorators, pieces, the cache. The one door to Numba's internals."""

from fastbp.core.compiler.common import DIGEST, FLAGS, PLAIN, Made, declared, emit_call, out_of_line, uninterrupted

if PLAIN:
    from fastbp.core.compiler.plain import (
        NO_ENTRY,
        apart,
        beside,
        block,
        call,
        fill,
        folder,
        global_compiler_lock,
        inlined,
        inner,
        is_cached,
        is_filled,
        link,
        linking,
        machine_code,
        once,
        piece,
        rare,
        reserve,
        serial,
        twins,
    )
else:
    from fastbp.core.compiler.beside import beside
    from fastbp.core.compiler.cache import folder, is_cached, once
    from fastbp.core.compiler.decorators import inlined, serial, twins
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

__all__ = ["DIGEST", "FLAGS", "NO_ENTRY", "PLAIN", "Made", "apart", "beside", "block", "call", "declared", "emit_call",
           "fill", "folder", "global_compiler_lock", "inlined", "inner", "is_cached", "is_filled", "link", "linking",
           "machine_code", "once", "out_of_line", "piece", "rare", "reserve", "serial", "twins", "uninterrupted"]
