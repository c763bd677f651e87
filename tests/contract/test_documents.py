"""README, site and the other pages: short lines and sentences. Their code runs too, see conftest.py at the root."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(ROOT.glob("CONTRIBUTING.md")), *sorted(
    path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts)]
GUIDE = [page for page in PAGES if page.name not in ("CHANGELOG.md", "CONTRIBUTING.md")]
MOST_LINES, LONGEST_LINE, LONGEST_SENTENCE = 110, 160, 35  # of the README, characters, words


def sentences(text):
    """Of the prose of a page: without code, tables and directives; links are their texts."""
    text = re.sub(r"^(```|:::).*?^\1.*?$", "\n", text, flags=re.S | re.M)
    text = re.sub(r"^(\||#|---).*$", "\n", text, flags=re.M)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    for paragraph in re.split(r"\n\s*\n|\n\s*[-*] |\n\s*\d+\. ", text):
        yield from re.split(r"(?<=[.!?:;])\s+", " ".join(paragraph.lstrip("-* \n").split()))


def test_the_readme_is_two_screens():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_lines(page):
    lines = page.read_text(encoding="utf-8").splitlines()
    assert not [line for line in lines if len(line) > LONGEST_LINE]


@pytest.mark.parametrize("page", GUIDE, ids=lambda path: str(path.relative_to(ROOT)))
def test_sentences(page):
    long = [sentence for sentence in sentences(page.read_text(encoding="utf-8"))
            if len(sentence.split()) > LONGEST_SENTENCE]
    assert not long


def test_a_long_sentence_is_found():
    long = "# A title\n\n- One [two](x.md) three\n  four. Five" + " six" * 40
    code = "```python\n" + "a " * 99 + "\n```\n| " + "b " * 99
    assert [len(one.split()) for one in sentences(long) if one] == [4, 41]
    assert not any(sentences(code))
