"""The suite that asv runs for each commit: make bench, make bench-compare, make bench-page, make bench-check

Every number is better when it is smaller, since asv takes a larger one for a loss.
"""

import os
import sys
from pathlib import Path

for folder in ("benchmarks", "tests"):  # for machine, probes, process and tile, and for the tests' rig; asv puts none
    sys.path.append(str(Path(__file__).parents[2] / folder))

# Before Numba reads it. A folder a commit: no commit runs the machine code of another, and each compiles only once.
if "ASV_COMMIT" in os.environ:
    os.environ["NUMBA_CACHE_DIR"] = str(Path(os.environ["ASV_ENV_DIR"], "numba", os.environ["ASV_COMMIT"]))
