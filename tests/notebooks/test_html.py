"""A lesson as a web page: the words for those who cannot see a picture arrive in its `alt`."""

import html
import re

import nbformat
import pytest

from course_utils import plots

exporters = pytest.importorskip("nbconvert.exporters", reason="JupyterLab brings nbconvert along")


def test_the_alternative_text_of_a_picture_arrives():
    """In the template `classic`, that is: nbconvert's own choice, `lab`, leaves it out."""
    figure = plots.described(plots.dots({"head": [0.6], "scratch": [0.3]}, title="Head > scratch"), "Two rows with a dot each.")
    data, metadata = figure._repr_mimebundle_()
    output = nbformat.v4.new_output("display_data", data, metadata=metadata)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("figure", outputs=[output])])
    page, _ = exporters.HTMLExporter(template_name="classic").from_notebook_node(notebook)
    (found,) = re.findall(r'<img alt="([^"]*)"', page)
    assert html.unescape(found) == "Head > scratch. Two rows with a dot each."
