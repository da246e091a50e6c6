"""Configure Sphinx: `make docs` builds the site into build/docs, without network and with warnings as errors."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from bias_lab import __version__  # noqa: E402
from bias_lab.report.figures.palette import DARK, LIGHT  # noqa: E402

project = "bias_lab"
author = "the bias_lab authors"
copyright = "the bias_lab authors"  # noqa: A001  Sphinx reads this name
version = release = __version__

extensions = ["myst_parser", "from_source"]
myst_enable_extensions = ["colon_fence", "attrs_inline"]
myst_heading_anchors = 3
exclude_patterns = ["results"]
smartquotes = False  # `--set` in a comment is an option, not a dash
suppress_warnings = ["myst.header"]  # an included part of CONTRIBUTING.md begins with a second-level heading
pygments_style, pygments_dark_style = "friendly", "github-dark"
python_use_unqualified_type_names = True
add_module_names = False
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = "bias_lab"
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_show_sphinx = False
_BRAND = {"color-brand-primary": "cnn", "color-brand-content": "cnn", "color-brand-visited": "cnn"}
html_theme_options = {
    # charts name these variables in place of colours, so they follow the switch between light and dark
    f"{mode}_css_variables": {**colours, **{name: colours[hue] for name, hue in _BRAND.items()}}
    for mode, colours in (("light", LIGHT), ("dark", DARK))
}
