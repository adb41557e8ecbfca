"""How Sphinx builds these pages: ``.ci/docs`` calls it."""

import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE / "ext")]

import gilmsg

project = "gilmsg"
author = "The gilmsg developers"
copyright = "the gilmsg developers. LGPL, version 2 or later"
version = release = gilmsg.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton", "commands"]
exclude_patterns = ["ext"]
highlight_language = "python3"

# Every name of ours that is referred to must be found (-n); those of others are theirs.
nitpick_ignore_regex = [("py:.*", r"(?!gilmsg).*"), ("py:.*", r"gilmsg\._.*")]

# The docstrings give the types; those of the signatures name modules that nobody imports from.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_use_rtype = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"gilmsg {version}"
html_theme_options = {
    "source_repository": "https://github.com/fedora-infra/gilmsg/",
    "source_branch": "main",
    "source_directory": "docs/",
}
html_show_sphinx = False
html_static_path = ["_static"]
html_css_files = ["site.css"]

# What is copied from a transcript are the commands alone.
copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True
copybutton_exclude = ".linenos, .gp, .go"  # prompts and output, also those of root: his prompt begins comments elsewhere
copybutton_line_continuation_character = "\\"
