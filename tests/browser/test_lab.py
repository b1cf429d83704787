"""JupyterLab as a learner sees it: a lesson run to its end, an exercise solved by typing, and nothing on the page that
nobody asked for.

One server serves all tests of the file. On two free cores each lesson takes about half a minute.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from course_utils.profiles import HOME

pytestmark = pytest.mark.notebook

READY = """() => {
  const panel = window.jupyterapp?.shell.currentWidget
  const kernel = panel?.sessionContext?.session?.kernel
  return panel?.content?.model?.cells?.length > 1 && kernel?.status === 'idle'
}"""  # "idle" is shown before a kernel is attached

WATCH = """() => {
  window.bars = new Set()
  const look = () => {
    for (const cell of window.jupyterapp.shell.currentWidget.content.model.sharedModel.toJSON().cells)
      for (const output of cell.outputs ?? [])
        if (/%\\|/.test([output.data?.['text/plain'] ?? ''].flat().join(''))) window.bars.add(cell.id)
  }
  setInterval(look, 100)
}"""  # cells in which a progress bar was seen

OUTPUTS = """() => window.jupyterapp.shell.currentWidget.content.model.sharedModel.toJSON().cells
  .filter(cell => cell.cell_type === 'code').map(cell => ({id: cell.id, outputs: cell.outputs}))"""

SHOW_ALL = """() => {
  const notebook = window.jupyterapp.shell.currentWidget.content
  notebook.notebookConfig = {...notebook.notebookConfig, windowingMode: 'none'}
}"""  # cells that are out of sight are not drawn

EMPTY = """() => [...document.querySelectorAll('.jp-OutputArea, .jp-OutputArea-child')]
  .filter(child => child.getBoundingClientRect().height > 0)
  .filter(child => !child.innerText.trim() && !child.querySelector('img, svg'))
  .map(child => child.outerHTML)"""


OPEN = """async ({name, lesson}) => {
  const {serviceManager, shell, commands} = window.jupyterapp
  const path = shell.currentWidget.context.path.replace(/[^/]*$/, 'other-' + name)
  await serviceManager.contents.save(path, {type: 'notebook', format: 'json', content: lesson})
  const panel = await commands.execute('docmanager:open', {path})
  shell.activateById(panel.id)
  while (shell.currentWidget !== panel) await new Promise(done => setTimeout(done, 50))
}"""  # beside the one that is open, wherever that is

HEADINGS = """() => window.jupyterapp.shell.currentWidget.content.model.sharedModel.toJSON().cells
  .filter(cell => cell.cell_type === 'markdown')
  .flatMap(cell => [cell.source].flat().join('').match(/^#+ .*/gm) ?? []).map(line => line.replace(/^#+ /, ''))"""

SELECT = """id => {
  const notebook = window.jupyterapp.shell.currentWidget.content
  notebook.activeCellIndex = notebook.widgets.findIndex(cell => cell.model.id === id)
  notebook.activeCell.node.scrollIntoView({block: 'center'})
}"""

POPUPS = ".Toastify__toast, .jp-Dialog"
ANSWER = (
    "costs = {name: ask(parts) - ask({other: parts[other] for other in parts if other != name}) for name in parts}",
    "return max(costs.items(), key=lambda pair: pair[1])",
)


@pytest.fixture
def open_lesson(lab, open_page) -> Iterator[Callable]:
    """`open_lesson("05_exercise_vgg16.ipynb")` gives the page with that lesson; without a name it is what the lab opens."""
    pages = []

    def open_lesson(name: str = ""):
        page = open_page(lab)
        pages.append(page)
        page.wait_for_function(READY, timeout=60_000)
        if name:
            lesson = json.loads((HOME / "notebooks" / name).read_text(encoding="utf-8"))
            page.evaluate(OPEN, {"name": name, "lesson": lesson})
            page.wait_for_function(READY, timeout=60_000)
        page.evaluate(SHOW_ALL)
        return page

    yield open_lesson
    for page in pages:  # a kernel takes up to 1.5 GB
        page.evaluate("() => window.jupyterapp.serviceManager.sessions.shutdownAll()")


def run_all(page) -> dict[str, list[dict]]:
    """Runs the lesson to its end; the outputs of each code cell."""
    page.evaluate(WATCH)
    assert page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')"), "a cell stopped"
    return {cell["id"]: cell["outputs"] for cell in page.evaluate(OUTPUTS)}


def text_of(output: dict) -> str:
    return "".join(output.get("text", ""))


def assert_nothing_uncalled_for(page, outputs: dict[str, list[dict]]) -> None:
    """No error, no red box, no empty output, no pop-up."""
    red = [one for found in outputs.values() for one in found if one.get("name") == "stderr" or one["output_type"] == "error"]
    assert red == []
    assert page.locator("[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
    assert page.evaluate(EMPTY) == []
    assert page.locator(POPUPS).all_inner_texts() == []


def test_the_first_lesson_runs_to_its_end_and_an_exercise_is_solved_by_typing(open_lesson):
    page = open_lesson()
    outputs = run_all(page)
    assert text_of(outputs["check-00-1"][0]) == "Exercise 00.1: to do\n"
    assert_nothing_uncalled_for(page, outputs)

    page.locator("li[data-id='table-of-contents']").click()
    page.wait_for_selector(".jp-tocItem-content")
    assert [text.strip() for text in page.locator(".jp-tocItem-content").all_inner_texts()] == page.evaluate(HEADINGS)

    page.evaluate(SELECT, "exercise-00-1")
    page.locator(".jp-mod-active .cm-line", has_text="raise NotImplementedError").click()
    page.keyboard.press("Home")
    page.keyboard.press("Shift+End")
    for number, line in enumerate(ANSWER):
        if number:
            page.keyboard.press("Enter")
        page.keyboard.type(line)
    page.keyboard.press("Shift+Enter")
    page.evaluate(SELECT, "check-00-1")
    page.locator(".jp-mod-active .cm-content").click()
    page.keyboard.press("Shift+Enter")
    page.locator(".jp-OutputArea-output", has_text="Exercise 00.1: passed").wait_for()
    assert_nothing_uncalled_for(page, {cell["id"]: cell["outputs"] for cell in page.evaluate(OUTPUTS)})


def test_progress_bars_are_seen_and_leave_nothing_behind(open_lesson):
    page = open_lesson("05_exercise_vgg16.ipynb")
    outputs = run_all(page)
    assert page.evaluate("() => [...window.bars]"), "no bar was seen while the lesson ran"
    assert_nothing_uncalled_for(page, outputs)
