#!/usr/bin/env bash
# numpy 2.4.6: default_rng([seed, 0]) gives the very numbers of default_rng(seed), since a SeedSequence pads its entropy
# with zeros; [seed, 0, 1] is another stream than [seed, 0], and default_rng([0, 1]) is default_rng(2**32), since words of
# 32 bits are joined. Who makes streams for (seed, layer) or (seed, epoch) so hands the first one to every user of that
# seed. A spawn key comes after the padding. Fails if this changes.
# Seen: True True False False
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet numpy==2.4.6
seen=$("$folder/venv/bin/python" - <<'PYTHON'
import numpy as np

def first(entropy, **more):
    return np.random.default_rng(np.random.SeedSequence(entropy, **more)).integers(1 << 62, size=4).tolist()

print(first([7, 0]) == first(7), first([0, 1]) == first(2**32), first([7, 0, 1]) == first([7, 0]),
      first(7, spawn_key=(0,)) == first(7))
PYTHON
)
echo "$seen"
[ "$seen" = "True True False False" ]
