"""Properties of the CPU that decide how code is emitted: its vector registers, the shape of the tiles."""

from __future__ import annotations

import llvmlite.binding as llvm
from numba import config

# Features that the compiler may use: those of the CPU, or those of Numba's settings instead.
FEATURES = config.CPU_FEATURES
if FEATURES is None:
    FEATURES = ",".join(f"{'+' if on and not (name.startswith('avx') and not config.ENABLE_AVX) else '-'}{name}"
                        for name, on in llvm.get_host_cpu_features().items())
LINE = 64  # bytes of a cache line, and of the widest vector register


def _shape(triple: str, features: str) -> tuple[int, tuple[int, ...], int, int, int, int]:
    """Return, for a kind of CPU: bits of a vector register, rows and vectors of the tile, those of the tile that skips
    zeros, most rows of the low tile.

    The accumulators hide the latency of the FMA units and leave registers for a row of B and for numbers of A. Rows
    left over by the tile height are computed by the next smaller tiles.

    If steps of all zeros are skipped, a low and wide tile skips more: 19 % of MNIST's pixels are nonzero, and of the
    steps 26 % are left with 2 rows, 34 % with 4 rows, 43 % with 8 rows. With AVX-512, tiles of 1 row are as fast
    forward and slower backward; tiles of 8 vectors, whose panel exceeds the nearest cache, take 1.06 times as long. On
    a Zen 1 with AVX2, 1 x 8 takes 0.71 of 2 x 4's time forward and 0.83 backward.
    """
    x86 = triple.startswith("x86_64")
    if x86 and "+avx512f" in features:
        # 32 registers; 16 accumulators are enough, and 8 divides most batches evenly.
        return 512, (8, 4, 2, 1), 2, 2, 4, 4
    if x86:
        return 256 if "+avx" in features else 128, (6, 4, 2, 1), 2, 1, 8, 2  # 16 registers
    # NEON: 32 registers. Up to four units with a latency of four need at least 16 accumulators; 8 x 2 needs ten loads
    # for its 16, with two loads per cycle.
    return 128, (6, 4, 2, 1), 4, 2, 8, 3


VECTOR_BITS, TILE_ROWS, TILE_VECTORS, SKIP_ROWS, SKIP_VECTORS, LOW_ROWS = _shape(llvm.get_process_triple(), FEATURES)
# With fewer rows of A than these, B is read where it lies; with more, a copy of a panel pays. On a Zen 4, 512x512 of 16
# rows takes so 0.79 of the time with AVX-512, of 32 rows 0.88, of 128 rows 0.96, and no shape more; with AVX2 0.92,
# 0.95 and 1.05, and 1024x1024 of 128 rows 1.15: there a panel's rows, half as long, fall into the same sets of the
# cache.
ROWS_IN_PLACE = {512: 1 << 30, 256: 4 * TILE_ROWS[0]}.get(VECTOR_BITS, 2 * TILE_ROWS[0])
DEPTH = 256  # rows of a panel: 32 KB with AVX-512. At 128x784x128, 128 rows give 100 GFLOP/s, 256: 109, 512: 107.


# A single row of A reads each number of B once: by wide tiles, from where it lies, and a few rows at a time, so that
# neighbours in memory are read one after the other. The forward pass of 1024-1024-1024 takes so 0.4 of the time.
ROW_VECTORS = 8  # as many chains of multiply-adds hide the latency of each
ROW_DEPTH = 64
# The next few rows do so too, LOW_ROWS at a time; up to LOW_NEAR of them where B is in the core's own cache, to LOW_FAR
# where it is not. On a Zen 4 1024x1024 of 2, 3, 4, 5, 7 rows takes so 0.49, 0.28, 0.74, 0.72, 0.50 of the time, 784x128
# 0.87, 0.69, 1.00, 1.02, 0.88; with AVX2, of 2 and 3 rows, 0.81, 0.94 and 0.59, 0.58.
LOW_VECTORS = 4
LOW_NEAR, LOW_FAR = {512: (7, 4), 256: (3, 1)}.get(VECTOR_BITS, (1, 1))
ROW_SQUARES = 2  # vectors of columns where these, not rows, are contiguous; with 4 it was as fast on a Zen 3
SUM_VECTORS = 4  # of sums over rows, side by side: each is a chain of additions
SKIP_DEPTH = 112  # rows of the panel of the tile that skips: 28 KB with AVX; with AVX-512 64 to 256 were as fast
SKIP_TILES = 128  # tiles whose steps are looked up at once
WORD = 64  # steps to a word
SKIP_WORDS = -(-SKIP_DEPTH // WORD)
COMPARED = 16  # numbers at a time, where fewer than a word are compared with zero


def tile_shape(dtype: str) -> str:
    """The tile as rows x columns, for people."""
    return f"{TILE_ROWS[0]}x{TILE_VECTORS * VECTOR_BITS // (32 if dtype == 'float32' else 64)}"
