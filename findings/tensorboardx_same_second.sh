#!/usr/bin/env bash
# tensorboardX 2.6.5: the file of a SummaryWriter is named by the second and the host, and opened anew. A second writer on
# the same folder within that second empties the file of the first, without a word: of five short runs one after the other
# the curve of the last is left. With a filename_suffix of its own each run keeps its file. Fails if this changes.
# Seen: without a suffix: 1 file, with one of its own: 5 files
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet tensorboardX==2.6.5 numpy==2.4.6
cat > "$folder/runs.py" <<'PYTHON'
import os
import sys
import time

from tensorboardX import SummaryWriter


def files(folder, suffix):
    """How many are left of five runs that begin in one second."""
    time.sleep(1 - time.time() % 1)
    for run in range(5):
        writer = SummaryWriter(folder, filename_suffix=suffix(run))
        writer.add_scalar("loss", run, 0)
        writer.close()
    return len(os.listdir(folder))


without, own = files(sys.argv[1], lambda run: ""), files(sys.argv[2], lambda run: f".{run}")
print(f"without a suffix: {without} file{'s' * (without > 1)}, with one of its own: {own} files")
PYTHON
seen=$("$folder/venv/bin/python" "$folder/runs.py" "$folder/a" "$folder/b")
echo "$seen"
[ "$seen" = "without a suffix: 1 file, with one of its own: 5 files" ]
