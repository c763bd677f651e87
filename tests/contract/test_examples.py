"""Every file in examples/ runs, as a user would run it, with warnings as errors."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

# Needs more than the tests have: `make test-interop` runs it.
PARTNERS = {"search": ("distributed", "optuna")}
# Seed and number of images: the figures in these examples' texts are of all 60,000.
SMALL = {"autoencoder": ["0", "6000"], "transfer": ["0", "6000"]}
EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))


def test_there_are_examples():
    assert len(EXAMPLES) >= 4


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(example, tmp_path):
    for package in PARTNERS.get(example.stem, ()):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{example.name} needs {package}")
    done = subprocess.run([sys.executable, "-W", "error", example, *SMALL.get(example.stem, [])], cwd=tmp_path,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout
