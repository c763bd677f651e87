"""Many networks in one compiled call: each thread takes one network after the other, and makes its steps alone.

Threads that share a network wait at each stage; with one network per thread they do not wait, and the result is
bit-identical. The work of a thread for a network is `engine.one_thread` with the slip of the network.
"""

from __future__ import annotations

from numba import prange

from fastbp.core import compiler
from fastbp.core.call import CLOCK, SLOTS, START
from fastbp.core.doors import go
from fastbp.core.simd.memory import pointer_from
from fastbp.core.threads.board import take

ORDER, N_ORDER, N_SAMPLES, ETAS, STEP_COSTS, N_STEPS = (SLOTS[name] for name in (
    "order", "n_order", "n_samples", "etas", "step_costs", "n_steps"))

# The row of a network: the address of its slip, and the range of its calls, first and end. The row of a call: addresses
# of the order of samples, rates and costs; numbers of samples and of steps; then the number of steps made.
NETWORK_FIELDS, CALL_FIELDS = 3, 6


def _run_many(networks, calls, board, threads):
    """Make the calls of each network, up to the first call that stops before its last step, see `engine.run`.

    networks (n, 3), calls (m, 6): see above; the last column of calls is written. board (n · SLOT,): zeros.
    """
    for _ in prange(threads):
        for i in range(len(networks)):
            if take(board, i, 1):
                one_network(networks, calls, i)


@compiler.inlined
def one_network(networks, calls, i):
    """Make the calls of network `i`, one after the other."""
    slip = pointer_from(networks[i, 0], networks[i, 0])
    clock = pointer_from(slip[CLOCK], networks[i, 0])
    for c in range(networks[i, 1], networks[i, 2]):
        slip[ORDER], slip[ETAS], slip[STEP_COSTS] = calls[c, 0], calls[c, 1], calls[c, 2]
        slip[N_ORDER] = slip[N_SAMPLES] = calls[c, 3]
        slip[N_STEPS] = calls[c, 4]
        go(slip)
        calls[c, 5] = clock[0] - slip[START]
        if calls[c, 5] < calls[c, 4]:
            break


run, run_serial = compiler.twins(_run_many)
