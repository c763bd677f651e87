"""The sum of gradients that were computed apart, each with the share of the mini-batch that it is the mean of."""

from __future__ import annotations

from numba import prange

from fastbp.core import compiler


def _add_share(total, share, other, share_of_other, threads):
    """total (n,) = share * total + share_of_other * other (n,), of one dtype, as the shares are."""
    for own in prange(threads):
        for i in range(own * len(total) // threads, (own + 1) * len(total) // threads):
            total[i] = share * total[i] + share_of_other * other[i]


add_share, add_share_serial = compiler.twins(_add_share)
