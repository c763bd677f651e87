"""Every public name has a docstring that says what parameters mean, what is raised and where a formula is from, and
shows an example; and there are no public names but those that are listed."""

import doctest
import inspect
import re
import runpy
from pathlib import Path

import numpydoc.docscrape
import pytest

import fastbp
from fastbp.core.activations import CODES
from fastbp.initialization import INITIALIZERS

PAGES = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "conf.py"))
MODULES = {"fastbp": fastbp} | {f"fastbp.{name}": getattr(fastbp, name) for name in fastbp.__all__
                                if inspect.ismodule(getattr(fastbp, name))} | {
                                    "fastbp.insight": fastbp.insight, "fastbp.mpi": fastbp.mpi,
                                    "fastbp.sklearn": fastbp.sklearn, "fastbp.torch": fastbp.torch}
# They take what they are given, or say it in another way, as all functions for compiled code do.
RAISE_NOTHING = {"fastbp.Diagnosis", "fastbp.EtaRange", "fastbp.History", "fastbp.callbacks.Fit",
                 "fastbp.callbacks.Fit.stop", "fastbp.callbacks.Watcher", "fastbp.data.Dataset",
                 *(f"fastbp.callbacks.Watcher.{name}" for name in ("begin", "end", "restore")),
                 *(f"fastbp.insight.{name}" for name in fastbp.insight.__all__ if name[0].isupper())}
FORMULA = re.compile(r"[Σ√←½∘²∂Π−]|\*\*|\b(sum|log|cos)\b [a-z]|d[Ea][_ \[]")
SOURCE = re.compile(r"\((?:[^()]*\b)?(19|20)\d\d\)|arXiv:\d")


def public():
    """Every public class, function, method and property, by its full name; what two modules have comes once."""
    found = {}
    for place, module in MODULES.items():
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.ismodule(value) or any(value is other for other in found.values()):
                continue
            found[f"{place}.{name}"] = value
            if inspect.isclass(value):
                found |= {f"{place}.{name}.{member}": inspect.getattr_static(value, member)
                          for member in PAGES["public_members"](value)}
    found = {name: getattr(value, "fn", value) for name, value in found.items()}  # scikit-learn's available_if has it
    return {name: value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
            for name, value in found.items()}


def parameters(value):
    """Names of what is to be given."""
    if isinstance(value, property) or (inspect.isclass(value) and issubclass(value, BaseException)):
        return []
    return [name.lstrip("*") for name, one in inspect.signature(value).parameters.items()
            if name not in ("self", "cls") and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]


def lacks(name, value):
    """What the docstring of a public name does not say."""
    text = inspect.getdoc(value)
    if not text or (inspect.isclass(value) and not vars(value).get("__doc__")):
        return ["a docstring"]
    parts = numpydoc.docscrape.NumpyDocString(text)
    entries = {own.strip(): entry for entry in [*parts["Parameters"], *parts["Attributes"]]
               for own in entry.name.split(",")}
    needed, found = parameters(value), []
    found += [f"the parameter {one}" for one in needed if one not in entries]
    found += [f"a meaning of {one}" for one, entry in entries.items() if not (entry.type or any(entry.desc))]
    found += [f"a parameter {one.name}, which it documents" for one in parts["Parameters"]
              if not {own.strip() for own in one.name.split(",")} <= set(needed)]
    found += [f"a shape of {one}" for one, entry in entries.items()
              if re.search("array|vector", entry.type) and not re.search(r"\(", entry.type)
              and not re.search(r"\(|\b[Aa]s |[Ss]ee ", " ".join(entry.desc))]
    settable = isinstance(value, property) and value.fset
    if (needed or settable) and not (parts["Raises"] or name in RAISE_NOTHING or name.startswith("fastbp.compiled.")):
        found.append("what it raises")
    returned = "" if inspect.isclass(value) or isinstance(value, property) else str(
        inspect.signature(value).return_annotation)
    if re.search("Array|tuple|list|float|Dataset", returned) and not parts["Returns"]:
        found.append("what it returns")
    if not doctest.DocTestParser().get_examples(text):
        found.append("an example")
    says = "\n".join(parts["Summary"] + parts["Extended Summary"])
    if FORMULA.search(says) and not (any(parts["References"]) or SOURCE.search(says)):
        found.append("the source of a formula")
    return found


PUBLIC = public()


def test_docstrings_say_all():
    lacking = {name: lacks(name, value) for name, value in PUBLIC.items()}
    assert not {name: found for name, found in lacking.items() if found}


@pytest.mark.parametrize("name", MODULES)
def test_modules_show_public_names_only(name):
    module = MODULES[name]
    assert [shown for shown in dir(module) if shown != "__version__"] == sorted(module.__all__)
    assert module.__doc__ and all(hasattr(module, one) and not one.startswith("_") for one in module.__all__)


def test_pages_show_every_public_name():
    """Each name of the pages is public, and each public class and function is on one page."""
    shown = []
    for page in sorted((Path(PAGES["__file__"]).parent / "api").glob("*.md")):
        place = None
        for line in page.read_text(encoding="utf-8").splitlines():
            place = line.split()[2] if line.startswith(".. currentmodule::") else place
            if re.fullmatch(r"   \w+", line):
                shown.append(getattr(MODULES[place], line.strip()))
    expected = [value for name, value in PUBLIC.items() if not inspect.isclass(PUBLIC.get(name.rpartition(".")[0]))]
    assert len(shown) == len(expected) and {id(one) for one in shown} == {id(one) for one in expected}


def test_tables_of_names_are_whole():
    for page, names in (("activations", CODES), ("initialization", INITIALIZERS)):
        text = (Path(PAGES["__file__"]).parent / "api" / f"{page}.md").read_text(encoding="utf-8")
        assert sorted(re.findall(r"^\| `(\w+)`", text, re.MULTILINE)) == sorted(names)


def test_internal_names_are_there():
    """The list of what classes do not show holds nothing that has gone."""
    kinds = {kind.__name__: kind for kind in PAGES["public_classes"]().values()}
    for name, members in PAGES["INTERNAL"].items():
        assert members <= set(dir(kinds[name]))


def lacking_everything(a, b) -> float:
    """Σ a b.

    Parameters
    ----------
    a : ndarray
    c : int
    """


def test_the_rules_find_what_is_missing():
    assert lacks("", lacking_everything) == [
        "the parameter b", "a parameter c, which it documents", "a shape of a", "what it raises", "what it returns",
        "an example", "the source of a formula"]
    assert lacks("", lambda: None) == ["a docstring"]


def test_every_optimizer_is_a_name_of_the_package():
    assert {kind.__name__ for kind in fastbp.optimizers.OPTIMIZERS.values()} <= set(fastbp.__all__)
