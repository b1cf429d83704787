"""The house rules: imports point left, functions are short, the public API is complete, notebooks keep to their measures."""

from __future__ import annotations

import ast
import base64
import re
import statistics
from functools import cache
from pathlib import Path

import nbformat
import pytest

import course_utils
from course_utils.profiles import HOME
from course_utils.tools.authoring import TAGS, blank, fingerprint, read_source, solution_of

PACKAGE = HOME / "course_utils"
LEFT_TO_RIGHT = (
    *("errors", "files", "rng", "profiles", "worlds", "weights", "images", "folders", "data"),
    *("trial", "heads", "models", "finetune", "losses", "train", "prediction"),
    *("fingerprint", "feature_store", "fx_trace", "equivalence", "fx_split", "precomputed"),
    *("sweeps", "experiments", "plots", "checks", "grader"),
)
ON_TOP = "tools"  # the workshop: each tool may use what it needs, and nothing uses the tools
COMMANDS = ("grader/bench.py", "grader/exports.py")  # may use `tools.authoring` besides what stands to their left


# --------------------------------------------------------------------------------------------------------- imports


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def module_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def modules_used(path: Path) -> set[str]:
    """The modules of the course that `path` imports, anywhere in it, through the public API or directly."""
    behind = {name: module for module, names in course_utils.EXPORTS.items() for name in names}
    found: set[str] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("course_utils.")}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path.name}: write `from course_utils.… import`, not a relative import"
            if node.module == "course_utils":
                found |= {behind.get(alias.name, alias.name) for alias in node.names}
            elif node.module.startswith("course_utils."):
                found.add(node.module.split(".")[1])
    return found


def test_every_module_has_its_place():
    known = {*LEFT_TO_RIGHT, ON_TOP, "__init__"}
    assert {module_of(path) for path in sources()} == known


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_left(path):
    module = module_of(path)
    if module in ("__init__", ON_TOP):
        return
    used = modules_used(path) - {module}
    if path.match("checks/lesson_*.py"):
        assert used <= set(LEFT_TO_RIGHT)
    else:
        tools = {ON_TOP} if path.relative_to(PACKAGE).as_posix() in COMMANDS else set()
        assert used <= {*LEFT_TO_RIGHT[: LEFT_TO_RIGHT.index(module)], *tools}


# ------------------------------------------------------------------------------------------------------------ public API


def test_the_public_api_is_sorted_and_complete():
    assert course_utils.__all__ == sorted(course_utils.__all__)
    named = [name for names in course_utils.EXPORTS.values() for name in names]
    assert sorted(named) == course_utils.__all__
    for name in named:
        assert getattr(course_utils, name) is not None


def test_the_public_api_shows_the_same_to_people_and_to_type_checkers():
    block = next(node for node in tree_of(PACKAGE / "__init__.py").body if isinstance(node, ast.If))
    shown = {(node.module, alias.name) for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    modules = {
        ("course_utils" if name == module else f"course_utils.{module}", name)
        for module, names in course_utils.EXPORTS.items()
        for name in names
    }
    assert shown == modules


def test_a_name_that_is_not_behind_the_door():
    with pytest.raises(AttributeError, match="course_utils has no 'frieze'; it has Data, Epoch"):
        course_utils.frieze  # noqa: B018


# ------------------------------------------------------------------------------------------------------- functions


def lines_of(function: ast.FunctionDef) -> int:
    """The number of its lines without the docstring."""
    docstring = function.body[0].end_lineno - function.body[0].lineno + 1 if ast.get_docstring(function) else 0
    return function.end_lineno - function.lineno + 1 - docstring


def functions() -> list[tuple[str, int]]:
    """Every function of the package with its number of lines."""
    nodes = [(path.stem, node) for path in sources() for node in ast.walk(tree_of(path))]
    return [(f"{stem}.{node.name}", lines_of(node)) for stem, node in nodes if isinstance(node, ast.FunctionDef)]


def test_functions_are_short():
    lengths = sorted(lines for _, lines in functions())
    assert statistics.median(lengths) <= 10
    assert sum(lines <= 15 for lines in lengths) / len(lengths) >= 0.8
    assert [(name, lines) for name, lines in functions() if lines > 50] == []


def test_every_public_function_says_what_it_does():
    for name in course_utils.__all__:
        assert (getattr(course_utils, name).__doc__ or "").strip(), name


# ------------------------------------------------------------------------------------------------------- notebooks

LESSONS = sorted((HOME / "solutions").glob("[0-9][0-9]_*.py"))
each_lesson = pytest.mark.parametrize("source", LESSONS, ids=lambda path: path.stem)


@cache
def notebook(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def both(source: Path) -> tuple[nbformat.NotebookNode, nbformat.NotebookNode]:
    return notebook(source.with_suffix(".ipynb")), notebook(learners_path(source))


def learners_path(source: Path) -> Path:
    return HOME / "notebooks" / f"{source.stem}.ipynb"


def tags(cell: nbformat.NotebookNode) -> set[str]:
    return set(cell.metadata.get("tags", []))


def code_cells(source: Path) -> list[nbformat.NotebookNode]:
    return [cell for cell in read_source(source).cells if cell.cell_type == "code"]


def text_cells(source: Path) -> list[nbformat.NotebookNode]:
    return [cell for cell in read_source(source).cells if cell.cell_type == "markdown"]


def code_of(cell: nbformat.NotebookNode) -> ast.Module:
    """The cell's code, without the magics that only the set-up may hold."""
    lines = [line if not line.lstrip().startswith(("%", "!")) else "pass" for line in cell.source.splitlines()]
    return ast.parse("\n".join(lines))


def test_nothing_is_built_without_a_source():
    stems = {path.stem for path in LESSONS}
    for folder in ("solutions", "notebooks"):
        assert {path.stem for path in (HOME / folder).glob("*.ipynb")} == stems, f"run `course build`, or remove from {folder}/"


@each_lesson
def test_source_and_notebooks_agree(source):
    """Both notebooks are what the source says, but for outputs: the same cells, tags, ids and links."""
    anew = read_source(source)
    for built, wanted in zip(both(source), (solution_of(anew, source.stem), blank(anew, source.stem)), strict=True):
        assert built.metadata.get("source") == fingerprint(source), f"stale: run `course build {source.stem[:2]}`"
        assert [(c.cell_type, c.id, tags(c), c.source) for c in built.cells] == [
            (c.cell_type, c.id, tags(c), c.source) for c in wanted.cells
        ]
        nbformat.validate(built)


@each_lesson
def test_the_answers_are_in_one_notebook_only(source):
    answers, learner = both(source)
    assert "### BEGIN SOLUTION" not in str(learner)
    assert not any("solution" in tags(cell) for cell in learner.cells)
    exercises = [cell for cell in learner.cells if "exercise" in tags(cell)]
    assert all('raise NotImplementedError("Your turn.")' in cell.source for cell in exercises)
    for cell in learner.cells:
        if tags(cell) & {"exercise", "check"}:
            assert (cell.outputs, cell.execution_count) == ([], None)
        elif cell.cell_type == "code":
            assert cell.execution_count is not None, "outputs of demonstrations stay, so the page looks finished"
    verdicts = ["".join(output.get("text", "") for output in c.outputs) for c in answers.cells if "check" in tags(c)]
    assert all(re.fullmatch(r"Exercise \d\d\.\d+: passed\n", verdict) for verdict in verdicts), verdicts


@each_lesson
def test_the_measures_of_a_lesson(source):
    cells = code_cells(source)
    lengths = [sum(bool(line.strip()) for line in cell.source.splitlines()) for cell in cells]
    words = sum(len(re.findall(r"\w+(?:['’-]\w+)*", without_code(cell.source))) for cell in text_cells(source))
    assert 15 <= len(cells) <= 25, f"{len(cells)} code cells"
    assert statistics.median(lengths) <= 8, f"median {statistics.median(lengths)} lines"
    assert max(lengths) <= 25, f"a cell of {max(lengths)} lines"
    assert 1200 <= words <= 2500, f"{words} words"
    for path in (source.with_suffix(".ipynb"), learners_path(source)):
        assert path.stat().st_size <= 400_000, f"{path.name} has {path.stat().st_size // 1000} KB"


def without_code(text: str) -> str:
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


@each_lesson
def test_one_heading_and_one_setup(source):
    cells = read_source(source).cells
    headings = [line for cell in text_cells(source) for line in without_code(cell.source).splitlines() if re.match(r"# ", line)]
    assert len(headings) == 1
    assert cells[0].source.startswith(f"# {int(source.stem[:2])}. "), "the title comes first, with the number of the lesson"
    assert [i for i, cell in enumerate(c for c in cells if c.cell_type == "code") if "setup" in tags(cell)] == [0]
    assert all(tags(cell) <= TAGS for cell in cells)


@each_lesson
def test_imports_and_magics_stand_in_the_setup(source):
    for cell in code_cells(source):
        if "setup" not in tags(cell):
            assert not re.search(r"^\s*[%!]", cell.source, re.MULTILINE), f"{cell.id}: a magic"
            imports = [node for node in ast.walk(code_of(cell)) if isinstance(node, (ast.Import, ast.ImportFrom))]
            assert not imports, f"{cell.id}: imports belong into the setup"


@each_lesson
def test_functions_outside_exercises_are_short(source):
    for cell in code_cells(source):
        if "exercise" not in tags(cell):
            for node in ast.walk(code_of(cell)):
                if isinstance(node, ast.FunctionDef):
                    assert lines_of(node) <= 10, f"{cell.id}: {node.name} belongs into course_utils"


@each_lesson
def test_exercises_are_complete(source):
    """A function with a docstring, at most eight lines of answer, then its check, then why; progress at the end."""
    cells = read_source(source).cells
    exercises = [i for i, cell in enumerate(cells) if "exercise" in tags(cell)]
    for i in exercises:
        id = cells[i].id.removeprefix("exercise-").replace("-", ".")
        (function,) = (node for node in code_of(cells[i]).body if isinstance(node, ast.FunctionDef))
        assert ast.get_docstring(function), f"{id}: a docstring says what to do"
        answer = cells[i].source.split("### BEGIN SOLUTION\n")[1].split("### END SOLUTION")[0].strip().splitlines()
        assert len(answer) <= 8, f"{id}: {len(answer)} lines of answer"
        title = rf"^### Exercise {int(id[:2])}\.{id[3:]}\b"
        assert re.search(title, cells[i - 1].source, re.MULTILINE), f"{id}: its text stands above"
        assert cells[i + 1].source.startswith(f'check("{id}", {function.name})'), f"{id}: its check follows"
        assert "solution" in tags(cells[i + 2]), f"{id}: then why this answer"
    code = [cell for cell in cells if cell.cell_type == "code"]
    if exercises:
        assert code[-1].source.strip() == f'progress("{source.stem[:2]}")'


@each_lesson
def test_exercises_are_leaves(source):
    """No later cell uses what an exercise defines, except its check: an unsolved notebook runs to its end."""
    made: dict[str, str] = {}
    for cell in code_cells(source):
        tree = code_of(cell)
        if "check" not in tags(cell):
            used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
            mine = names_defined(tree)
            assert not used & made.keys() - mine, f"{cell.id} uses {sorted(used & made.keys())} of an exercise"
        if "exercise" in tags(cell):
            made |= dict.fromkeys(names_defined(tree), cell.id)


def names_defined(tree: ast.Module) -> set[str]:
    found = {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    return found | {
        node.id
        for part in tree.body
        for node in ast.walk(part)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }


@each_lesson
def test_no_paths_that_depend_on_where_one_stands(source):
    for cell in text_cells(source):
        assert not re.search(r"!\[|<img|attachment:", cell.source), f"{cell.id}: pictures are drawn by cells"
    for cell in code_cells(source):
        texts = [
            node.value for node in ast.walk(code_of(cell)) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
        assert not [text for text in texts if re.match(r"\.{0,2}/|(data|notebooks|solutions|build)/", text)], cell.id


@each_lesson
def test_stored_outputs_are_clean(source):
    for built in both(source):
        for cell in built.cells:
            for output in cell.get("outputs", []):
                assert output.output_type != "error", f"{cell.id}: {output.get('evalue')}"
                assert output.get("name") != "stderr", f"{cell.id}: {output.text[:200]}"
                data = output.get("data", {})
                assert not any("widget" in kind for kind in data), f"{cell.id}: a widget"
                text = output.get("text") or data.get("text/plain", "")
                assert not re.search(r"\d+%\||\r|it/s|s/it| at 0x[0-9a-f]{6,}|/home/|/tmp/|/root/", text), (
                    f"{cell.id}: {text[:200]}"
                )


@each_lesson
def test_cells_of_facts_print_no_times(source):
    for cell in code_cells(source):
        if "nbval-check-output" in tags(cell):
            assert not re.search(r"perf_counter|time\.time|\.speed\b", cell.source), f"{cell.id}: times differ from run to run"


@each_lesson
def test_every_lesson_shows_pictures(source):
    answers, _ = both(source)
    images = [
        output.data["image/png"]
        for cell in answers.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert images, "a lesson has a picture"
    for image in images:
        width = int.from_bytes(base64.b64decode(image[:64])[16:20], "big")
        assert width <= 900, f"a figure of {width} pixels"


SOFTENERS = re.compile(r"\b(simply|just|easily|obviously|trivial(?:ly)?)\b", re.IGNORECASE)


@each_lesson
def test_prose_does_not_belittle(source):
    for cell in text_cells(source):
        found = SOFTENERS.findall(without_code(cell.source))
        assert not found, f"{cell.id}: {found}"


# ------------------------------------------------------------------------------------------------ the whole repository

FOREIGN = re.compile(r"(?<![\w.])/(?:home|root|tmp|work|Users)/\w")  # a place on somebody's own machine


def test_nothing_speaks_of_the_workshop():
    """Texts are for the people who read them: no paths of a machine on which they were written."""
    folders = (PACKAGE, HOME / "solutions", HOME / "notebooks", HOME / "tests", HOME / "docs")
    files = [path for folder in folders for path in folder.rglob("*") if path.suffix in (".py", ".md", ".ipynb")]
    files += [*HOME.glob("*.md"), *HOME.glob("*.toml"), HOME / "data" / "weights" / "README.md"]
    for path in files:
        if path != Path(__file__):
            found = FOREIGN.search(path.read_text(encoding="utf-8"))
            assert not found, f"{path.relative_to(HOME)}: {found[0]}"
