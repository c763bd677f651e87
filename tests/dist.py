"""`make dist-check`: build the wheel and the sdist, check what is in them, and test each installed, outside the clone.

`python tests/dist.py all` runs the whole fast suite on each, which takes minutes; without `all`, the part that
depends on how fastbp was installed: imports, metadata, data, the command, the README.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
BESIDE = ("tests", "docs", "examples", "benchmarks", "README.md", "LICENSE", "CHANGELOG.md",
          "CITATION.cff", "conftest.py", "pyproject.toml")
PARTS = {"some": [*(f"tests/{name}.py" for name in ("contract/test_import", "contract/test_numba",
                                                    "contract/test_structure", "contract/test_package",
                                                    "data/test_data", "cli/test_completion", "training/test_step")),
                  "README.md"],
         "all": ["tests", "docs", "README.md", "--pyargs", "fastbp"]}
MNIST = [f"fastbp/data/mnist/{which}-ubyte.gz" for which in ("train-images-idx3", "train-labels-idx1",
                                                             "t10k-images-idx3", "t10k-labels-idx1")]
IN_BOTH = ["fastbp/__init__.py", "fastbp/__main__.py", "fastbp/py.typed", "fastbp/data/mnist/README.md", *MNIST]
# Beside PYTHONPATH, what would let an installed fastbp find machine code that another one compiled.
NOT_TOLD = ("PYTHONPATH", "NUMBA_CACHE_DIR", "VIRTUAL_ENV")


def run(*command, folder, **more):
    environment = {name: value for name, value in os.environ.items() if name not in NOT_TOLD} | more
    print("$", *command, flush=True)
    subprocess.run([*map(str, command)], cwd=folder, env=environment, check=True)


def check_contents(wheel, sdist):
    """Both have all that the package needs and its licence; the wheel has nothing else."""
    inside = set(zipfile.ZipFile(wheel).namelist())
    info = f"{'-'.join(wheel.name.split('-')[:2])}.dist-info"
    licences = {f"{info}/licenses/LICENSE", f"{info}/licenses/fastbp/data/mnist/README.md"}
    assert {*IN_BOTH, *licences, f"{info}/METADATA", f"{info}/entry_points.txt"} <= inside, sorted(inside)
    others = {name for name in inside if not name.startswith(("fastbp/", f"{info}/")) or "test" in Path(name).name}
    assert not others, f"in the wheel: {sorted(others)}"
    with tarfile.open(sdist) as archive:
        within = {name.partition("/")[2] for name in archive.getnames()}
    assert {*IN_BOTH, "LICENSE", "README.md", "pyproject.toml", "tests/rig.py", "conftest.py"} <= within, sorted(within)
    rest = {name for name in within if name.startswith((".venv", ".git/", "docs/_build")) or "__pycache__" in name}
    assert not rest, f"in the sdist: {sorted(rest)}"


def check_installed(package, folder, part):
    """In an environment and a folder of its own, with the tests but without the sources."""
    folder.mkdir()
    for name in BESIDE:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "_build"))
        else:
            shutil.copy(ROOT / name, folder / name)
    venv.create(folder / "env", with_pip=True)
    python = folder / "env" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    run(python, "-m", "pip", "install", "--quiet", "--upgrade", "pip>=25.1", folder=folder)
    run(python, "-m", "pip", "install", "--quiet", package, folder=folder)
    run(python, "-c", "import fastbp, pathlib; assert 'site-packages' in fastbp.__file__", folder=folder)
    run(python, "-m", "fastbp", "train", "mnist", "--epochs", "1", folder=folder)  # with what users have, no more
    run(python, "-m", "pip", "install", "--quiet", "--group", "test", folder=folder)
    run(python, "-m", "pytest", "-q", "-m", "not slow", *PARTS[part], folder=folder)


def main(part="some"):
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        run(sys.executable, "-m", "build", "--outdir", place / "dist", ROOT, folder=place)
        (wheel,), (sdist,) = place.glob("dist/*.whl"), place.glob("dist/*.tar.gz")
        check_contents(wheel, sdist)
        run(sys.executable, "-m", "twine", "check", "--strict", wheel, sdist, folder=place)
        for package in (wheel, sdist):
            check_installed(package, place / package.suffix.lstrip("."), part)
    print(f"{wheel.name} and {sdist.name}: installed and tested")


if __name__ == "__main__":
    main(*sys.argv[1:])
