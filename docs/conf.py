"""The documentation site: ``make docs`` builds it into docs/_build/html.

The source folder is the repository itself, so that a link between two files works on a code host and on the site alike.
"""

import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

from site_extension import find_swagger  # noqa: E402 - found by the path above

from vigil.pipelines.environment import prepare_process  # noqa: E402

prepare_process()

project = html_title = "Vigil"
root_doc = "docs/index"
include_patterns = ["docs/*.md", "docs/reference/*.rst", "notebooks/*.ipynb", "DEVELOPMENT.md", "CHANGELOG.md"]
exclude_patterns = [".*", "docs/_build", "features", "models", "serving", "pipelines", "vigil", "tests"]
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton", "site_extension"]

myst_heading_anchors = 4  # as code hosts make them
nb_execution_mode = "off"  # notebooks are shown as they are stored; a test executes them
copybutton_prompt_text = "$ "

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_preserve_defaults = True  # of this machine, a default may be a path
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_param = False  # of "one, two: what they are", Sphinx would take one for a type
napoleon_custom_sections = [("Attributes", "params_style")]
python_maximum_signature_line_length = 88  # beyond it, a parameter a line
python_use_unqualified_type_names = True

nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(?!vigil\b)\w+\..*"),  # other libraries: a build fetches no index of theirs
    (r"py:class", r"Figure|Kind"),  # imported for annotations only
    (r"py:class", r"(dict|tuple)\[.*"),  # defaults that are empty, such as field(default_factory=dict[str, float])
]

html_theme = "pydata_sphinx_theme"
html_static_path = ["site.css", *find_swagger()]
html_css_files = ["site.css"]
html_extra_path = ["site_root"]  # the page index.html, which leads to docs/index.html
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "footer_start": [],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
}
