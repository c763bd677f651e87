#!/usr/bin/env bash
# numba 0.68.1: under the threading layer "workqueue" the thread that calls a parallel function computes none of it: it
# only waits, and a team of two is two other threads; under "omp" the caller is one of the two. So what is bound to the
# caller's processor, or measured by its own clock (time.thread_time), is another thing in each. Fails if this changes.
# Seen: workqueue False 2, omp True 2
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet numba==0.68.1 numpy==2.4.6
cat > "$folder/who.py" <<'PYTHON'
import ctypes
import threading

import numba
import numpy as np

gettid = ctypes.CFUNCTYPE(ctypes.c_int)(("gettid", ctypes.CDLL(None)))

@numba.njit(parallel=True)
def who(ids):
    for i in numba.prange(ids.size):
        total = 0.0
        for k in range(20_000_000):
            total += np.sqrt(k + i)
        ids[i] = gettid() + (total < 0)

numba.set_num_threads(2)
ids = np.zeros(2, np.int64)
who(ids)
print(numba.threading_layer(), threading.get_native_id() in ids, len(set(ids.tolist())))
PYTHON
seen=$(for layer in workqueue omp; do
    NUMBA_NUM_THREADS=2 NUMBA_THREADING_LAYER=$layer "$folder/venv/bin/python" "$folder/who.py"
done | paste -sd, | sed 's/,/, /')
echo "$seen"
[ "$seen" = "workqueue False 2, omp True 2" ]
