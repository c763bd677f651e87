#!/usr/bin/env bash
# PyArrow 26.0.1: to NumPy, a column of dictionary type loses its nulls. table.column(...) of ["a", None, "b"] comes as
# ["a", "b", "b"], and [3, None, 5] as [3, 5, 5]: a missing entry looks like another class, without an error. The same as
# a single Array keeps its null. So categories that come out of a Parquet file must be cast to their value type before
# NumPy reads them. Fails if this changes.
# Seen: Table column ['a', 'b', 'b']; ChunkedArray.to_numpy ['a', 'b', 'b']; numbers [3, 5, 5]; Array ['a', None, 'b'];
# cast ['a', None, 'b']
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet pyarrow==26.0.1 numpy==2.4.6
cat > "$folder/nulls.py" <<'PYTHON'
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

words = pa.array(["a", None, "b"]).dictionary_encode()
pq.write_table(pa.table({"y": words}), "words.parquet")
column = pq.read_table("words.parquet").column("y")
assert column.null_count == 1
print("Table column", np.asarray(column).tolist(), end="; ")
print("ChunkedArray.to_numpy", column.to_numpy().tolist(), end="; ")
print("numbers", np.asarray(pa.chunked_array([pa.array([3, None, 5]).dictionary_encode()])).tolist(), end="; ")
print("Array", np.asarray(words).tolist(), end="; ")
print("cast", np.asarray(column.cast(pa.string())).tolist())
PYTHON
cd "$folder"
seen=$("$folder/venv/bin/python" nulls.py)
echo "$seen"
[ "$seen" = "Table column ['a', 'b', 'b']; ChunkedArray.to_numpy ['a', 'b', 'b']; numbers [3, 5, 5]; Array ['a', None, 'b']; cast ['a', None, 'b']" ]
