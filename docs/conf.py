"""Settings of Sphinx: make docs"""

import fastbp

project, author = "fastbp", "The fastbp developers"
copyright = "the fastbp developers"
version = release = fastbp.__version__
extensions = ["sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc", "myst_parser", "sphinx_gallery.gen_gallery"]
exclude_patterns = ["_build"]
html_theme = "pydata_sphinx_theme"
html_theme_options = {"navigation_with_keys": False, "show_prev_next": False, "secondary_sidebar_items": ["page-toc"],
                      "footer_start": ["copyright"], "footer_end": []}
html_sidebars = {"changelog": [], "measured": []}
html_show_sourcelink = False
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
nitpicky = False
numpydoc_show_class_members = False
autosummary_generate = True
autodoc_default_options = {"members": True, "undoc-members": False, "inherited-members": False}
autodoc_typehints = "none"
sphinx_gallery_conf = {"examples_dirs": "../examples", "gallery_dirs": "gallery", "filename_pattern": r"/(?!long_run)[^/]*$",
                       "abort_on_example_error": True, "download_all_examples": False, "show_signature": False,
                       "write_computation_times": False, "show_memory": False}
