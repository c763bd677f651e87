#!/usr/bin/env bash
# numba 0.68.1: the key under which njit(cache=True) keeps machine code has a digest of the function's bytecode, but not of
# its constants. Two functions of one name that begin on one line of a file, as lambdas do, and differ by a number only,
# share an entry: the second runs the first one's code, in the same process and in later ones. Fails if this changes.
# Seen: 2 2, then 2 2 (3 x 1 is wanted of the second)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet numba==0.68.1 numpy==2.4.6
cat > "$folder/constants.py" <<'PYTHON'
from numba import njit

twice, thrice = njit(cache=True)(lambda x: 2 * x), njit(cache=True)(lambda x: 3 * x)
print(twice(1), thrice(1))
PYTHON
seen=$(for process in 1 2; do
    NUMBA_CACHE_DIR="$folder/cache" "$folder/venv/bin/python" "$folder/constants.py"
done | paste -sd, | sed 's/,/, then /')
echo "$seen"
[ "$seen" = "2 2, then 2 2" ]
