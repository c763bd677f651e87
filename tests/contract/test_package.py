"""What others are told: the README as an index shows it, with and without a public address, and how to cite."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fastbp

ROOT = Path(__file__).parents[2]
NONE, ADDRESS = "<!-- -->", "https://host.example/owner/fastbp"
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the metadata are made of."""
    pytest.importorskip("hatch_fancy_pypi_readme")
    folder = tmp_path_factory.mktemp("project")
    above = Path(fastbp.__file__).parents[1]
    for name in ("README.md", "LICENSE", "fastbp/__init__.py", "fastbp/data/mnist/README.md"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy((above if name.startswith("fastbp/") else ROOT) / name, folder / name)
    return folder


def metadata(folder, field, address=NONE):
    """As hatchling builds them, with this comment for an address."""
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert settings.count(f'"{NONE}"') == 1
    (folder / "pyproject.toml").write_text(settings.replace(f'"{NONE}"', f'"{address}"'), encoding="utf-8")
    done = subprocess.run([sys.executable, "-m", "hatchling", "metadata", field], cwd=folder, capture_output=True,
                          encoding="utf-8", timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_an_address_the_text_is_whole(folder):
    """But for pictures; what a relative link says stays."""
    told, readme = metadata(folder, "readme"), (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(where.startswith(("https://", "#")) for _, _, where in LINK.findall(told))
    assert "![" not in told and "<!--" not in told
    kept = LINK.sub(lambda link: "" if link[1] else link[2], readme)
    assert LINK.sub(r"\2", told).split() == kept.split()


def test_with_an_address_links_and_pictures_are_absolute(folder):
    told = metadata(folder, "readme", f"<!-- {ADDRESS} -->")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found, wanted = LINK.findall(told), []
    for picture, text, where in LINK.findall(readme):
        kind = "raw" if picture else "blob"
        wanted.append((picture, text, where if ":" in where else f"{ADDRESS}/{kind}/HEAD/{where}"))
    assert found == wanted and any(picture for picture, *_ in found)
    assert "<!--" not in told


def test_the_version_is_the_same_everywhere():
    version = re.escape(fastbp.__version__)
    assert re.search(rf"^version: {version}$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert re.search(rf"^## \[{version}\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
