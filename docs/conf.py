"""Settings of Sphinx: make docs"""

import inspect
import re
from pathlib import Path

import fastbp

project, author = "fastbp", "The fastbp developers"
copyright = "the fastbp developers"
version = release = fastbp.__version__
extensions = ["sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc", "myst_parser", "sphinx_gallery.gen_gallery"]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
html_title = f"fastbp {version}"
html_theme = "pydata_sphinx_theme"
html_theme_options = {"navigation_with_keys": False, "show_prev_next": False, "secondary_sidebar_items": ["page-toc"],
                      "footer_start": ["copyright"], "footer_end": [], "navigation_depth": 3,
                      "show_toc_level": 2, "header_links_before_dropdown": 8}
html_sidebars = {"changelog": [], "measured": []}
html_show_sourcelink = False
html_copy_source = False
myst_enable_extensions = ["colon_fence"]  # no formulas of TeX: MathJax would come from a network
myst_heading_anchors = 3
nitpicky = False
default_role = "obj"
# numpydoc writes the sections; the template of a class says which members follow.
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
autosummary_generate = True
autodoc_typehints = "none"
autodoc_preserve_defaults = True
toc_object_entries_show_parents = "hide"
add_module_names = False
sphinx_gallery_conf = {"examples_dirs": "../examples", "gallery_dirs": "gallery",
                       "filename_pattern": r"/(?!long_run|search)[^/]*$", "abort_on_example_error": True,
                       "download_all_examples": False, "show_signature": False, "write_computation_times": False,
                       "show_memory": False}

# Without a leading underscore, as other modules of fastbp call them; not for users.
INTERNAL = {
    "Network": {"take_workspace", "give_back"},
    "Trainer": {"asked_threads", "changed", "go_once", "hold_mean", "reserved", "schedule_of_fit", "source_of",
                "thread_counts", "validation_of", "checked_callbacks", "learn_meaning", "new_fit"},
    "Workspace": {"bind", "board", "new_slip"},
    "Loss": {"check_targets", "rule"},
    "Optimizer": {"settings"},
    "Checkpoint": {"saved"},
    "Statistics": {"after", "before"},
    # scikit-learn's, which it makes of the methods' arguments.
    "MLPClassifier": {"set_fit_request", "set_partial_fit_request", "set_score_request"},
    "MLPRegressor": {"set_fit_request", "set_partial_fit_request", "set_score_request"},
}


def public_members(kind):
    """Names of methods and properties that a class, or a private base of it, defines for users.

    A method that overrides a method of a base class does the same, and is shown there.
    """
    private = [base for base in kind.__mro__ if base.__module__.startswith("fastbp.") and base not in PUBLIC_CLASSES]
    left_out = {name for base in kind.__mro__[1:] if base not in private for name in vars(base)}
    left_out |= INTERNAL.get(kind.__name__, set()) | set(getattr(kind, "__dataclass_fields__", ()))
    return [name for own in dict.fromkeys([kind, *private]) for name, value in vars(own).items()
            if (inspect.isroutine(value) or isinstance(value, (property, classmethod, staticmethod)))
            and not name.startswith("_") and name not in left_out]


def public_classes():
    """Every class that users meet, by its full name."""
    modules = {"fastbp": fastbp} | {f"fastbp.{name}": getattr(fastbp, name) for name in fastbp.__all__
                                    if inspect.ismodule(getattr(fastbp, name))} | {
                                        "fastbp.insight": fastbp.insight, "fastbp.sklearn": fastbp.sklearn}
    return {f"{place}.{name}": getattr(module, name) for place, module in modules.items() for name in module.__all__
            if inspect.isclass(getattr(module, name))}


PUBLIC_CLASSES = list(public_classes().values())
autosummary_context = {"members_of": {name: public_members(kind) for name, kind in public_classes().items()}}


def show_formulas(app, what, name, obj, options, lines):
    """Indented lines of a docstring's text are formulas: keep them as they are, in a block of code."""
    end = next((i for i, line in enumerate(lines) if line.startswith("---")), len(lines))
    for i in range(end - 1, 0, -1):
        if lines[i].startswith("    ") and not lines[i - 1]:
            lines[i:i] = ["::", ""]


def check_nothing_comes_from_outside(app, exception):
    """Scripts, styles and pictures are all in the folder of the site, which works without a network."""
    asked = re.compile(r'<(?:script|img|iframe|link)\b[^>]*\b(?:src|href)="(?:https?:)?//[^"]*')
    for page in Path(app.outdir).rglob("*.html") if exception is None else ():
        found = asked.search(page.read_text(encoding="utf-8"))
        if found:
            raise RuntimeError(f"{page} asks the network: {found.group()}")


def setup(app):
    app.connect("autodoc-process-docstring", show_formulas, priority=400)  # before numpydoc
    app.connect("build-finished", check_nothing_comes_from_outside)
