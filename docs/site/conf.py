"""Settings of Sphinx for `course site`, which gathers the pages first. Warnings are errors there."""

from html import escape
from textwrap import shorten

from docutils import nodes

project = "Fine-tuning pretrained CNNs"
author = "the course's authors"
copyright = "the course's authors, MIT licence"
html_title = project

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.githubpages",  # a file that tells Pages to leave _static alone
    "sphinx.ext.napoleon",
    "sphinx_design",
    "sphinx_copybutton",
]
exclude_patterns = ["extra"]
html_extra_path = ["../../build/site-extra"]  # replaced by `course site`: pictures of the lessons, notebooks, slides

# lessons: nothing is run, the pages show what the built notebooks hold
nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["colon_fence", "attrs_block"]
myst_heading_anchors = 4
suppress_warnings = ["myst.header"]  # a document may go from a first to a third heading

# reference
default_role = "code"  # docstrings write `names` in single ticks
add_module_names = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 72
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_type_aliases = {name: name for name in ("Batches", "Inputs", "Loss", "Key", "Record", "Row")}
napoleon_numpy_docstring = False

# the look; nothing is fetched from elsewhere
html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["custom.css"]
html_js_files = [("rates.js", {"defer": "defer"})]
html_favicon = "static/icon.svg"
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
templates_path = ["templates"]
pygments_style = "default"
pygments_dark_style = "github-dark"
copybutton_selector = "div.cell_input pre, .highlight-sh pre, .highlight-bat pre, .highlight-python pre"
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#00639c", "color-brand-content": "#00639c"},
    "dark_css_variables": {"color-brand-primary": "#7cc4f0", "color-brand-content": "#7cc4f0"},
}


def code_below_a_colon(app, what, name, obj, options, lines):
    """Docstrings show code as an indented block below a line that ends in a colon."""
    for place in range(len(lines) - 2):
        if lines[place].endswith(":") and not lines[place + 1].strip() and lines[place + 2].startswith("    "):
            lines[place] += ":"


def leave_out(app, what, name, obj, skip, options):
    """The fields of a named tuple have no words of their own; they stand in its signature."""
    return True if (getattr(obj, "__doc__", None) or "").startswith("Alias for field number") else None


def describe(app, pagename, templatename, context, doctree):
    """What a page is about, for those who search or share it: its first paragraph."""
    found = [one for one in doctree.findall(nodes.paragraph) if isinstance(one.parent, nodes.section)] if doctree else []
    if found:
        about = escape(shorten(found[0].astext(), 160, placeholder=" …"))
        title = escape(next(doctree.findall(nodes.title)).astext())
        context["metatags"] += f"""
<meta name="description" content="{about}">
<meta property="og:type" content="website">
<meta property="og:title" content="{title}">
<meta property="og:description" content="{about}">"""


def wait(app, pagename, templatename, context, doctree):
    """Pictures below the first are loaded when one comes near them."""
    first, mark, rest = context.get("body", "").partition("<img ")
    context["body"] = first + mark + rest.replace("<img ", '<img loading="lazy" ')


def setup(app):
    app.connect("html-page-context", describe)
    app.connect("html-page-context", wait)
    app.connect("autodoc-process-docstring", code_below_a_colon, priority=400)  # before napoleon
    app.connect("autodoc-skip-member", leave_out)
