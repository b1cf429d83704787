"""What every lesson keeps to: one source, two notebooks that agree, honest measures, a reward early, guesses first."""

from __future__ import annotations

import ast
import builtins
import re
import statistics
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import nbformat
import pytest

from course_utils.profiles import HOME
from course_utils.tools.authoring import TAGS, blank, fingerprint, read_source, solution_of

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
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None), "a guess is worth nothing above its answer"
    verdicts = ["".join(output.get("text", "") for output in c.outputs) for c in answers.cells if "check" in tags(c)]
    assert all(re.fullmatch(r"Exercise \d\d\.\d+: passed\n", verdict) for verdict in verdicts), verdicts


# --------------------------------------------------------------------------------------------------------- measures


STATION = {"cells": 10, "words": 620}  # the most of one station
FRAME = {"cells": 8, "words": 620}  # the most of what stands before and after all stations


@each_lesson
def test_the_measures_of_a_lesson(source):
    cells = code_cells(source)
    lengths = [len(lines_in(cell.source)) for cell in cells]
    words = sum(map(words_in, text_cells(source)))
    count = len(stations(read_source(source).cells))
    least, most = room_of(count)
    assert least["cells"] <= len(cells) <= most["cells"], f"{len(cells)} code cells"
    assert statistics.median(lengths) <= (10 if count else 8), f"median {statistics.median(lengths)} lines"
    assert max(lengths) <= 25, f"a cell of {max(lengths)} lines"
    assert least["words"] <= words <= most["words"], f"{words} words"
    exercises = sum("exercise" in tags(cell) for cell in cells)
    assert exercises <= 4, f"{exercises} exercises"
    size = source.with_suffix(".ipynb").stat().st_size
    assert size <= 1_600_000 + 100_000 * count, f"{source.stem}.ipynb has {size // 1000} KB"


def room_of(stations: int) -> tuple[dict[str, int], dict[str, int]]:
    """The least and the most of a whole lesson; one that is made of stations has room for each of them."""
    if not stations:
        return {"cells": 15, "words": 1000}, {"cells": 25, "words": 2000}
    return {"cells": 5, "words": 250}, {measure: stations * STATION[measure] + FRAME[measure] for measure in STATION}


def lines_in(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def words_in(cell: nbformat.NotebookNode) -> int:
    return len(re.findall(r"\w+(?:['’-]\w+)*", without_code(cell.source)))


@each_lesson
def test_a_first_result_within_five_cells_and_three_hundred_words(source):
    words, cells = 0, 0
    for cell in both(source)[0].cells:
        words += words_in(cell) if cell.cell_type == "markdown" else 0
        cells += cell.cell_type == "code" and "install" not in tags(cell)
        if cell.get("outputs"):
            break
    assert words <= 300, f"{words} words before the first result"
    assert cells <= 5, f"the first result in code cell {cells}"


@each_lesson
def test_no_stretch_of_four_hundred_words_without_a_picture(source):
    stretches, where = [0], ["the beginning"]
    for cell in both(source)[0].cells:
        if cell.cell_type == "markdown" and "solution" not in tags(cell):
            stretches[-1] += words_in(cell)
        if any("image/png" in output.get("data", {}) for output in cell.get("outputs", [])):
            stretches.append(0)
            where.append(cell.id)
    longest = max(range(len(stretches)), key=stretches.__getitem__)
    assert stretches[longest] <= 400, f"{stretches[longest]} words without a picture after {where[longest]}"


@each_lesson
def test_sentences_are_short(source):
    lengths = {
        sentence: len(re.findall(r"\S+", sentence)) for cell in text_cells(source) for sentence in sentences(cell.source)
    }
    longest = max(lengths, key=lengths.__getitem__)
    assert lengths[longest] <= 35, f"{lengths[longest]} words: {longest}"
    assert statistics.mean(lengths.values()) <= 16, f"{statistics.mean(lengths.values()):.1f} words on average"


def sentences(text: str) -> Iterator[str]:
    """The sentences of a text cell: without headings, tables and code; each point of a list is a sentence at least."""
    text = re.sub(r"`[^`]*`", "code", re.sub(r"</?\w+>", "", without_code(text)))
    blocks = re.split(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.) )", text)
    for block in blocks:
        if not re.match(r"\s*(#|\|)", block):
            yield from filter(None, re.split(r"(?<=[.!?:])[\"'”*_)]*\s+", " ".join(block.split())))


@each_lesson
def test_a_guess_stands_alone_and_is_empty(source):
    for cell in code_cells(source):
        made = {name for name in names_defined(code_of(cell)) if name.startswith("guess")}
        if made:
            values = [node.value for node in code_of(cell).body if isinstance(node, ast.Assign)]
            assert len(values) == len(code_of(cell).body), f"{cell.id}: a guess has a cell of its own"
            constants = [node for value in values for node in ast.walk(value) if isinstance(node, ast.Constant)]
            assert constants, cell.id
            assert all(node.value is None or is_key(node, values) for node in constants), f"{cell.id}: no guess yet is None"


def is_key(node: ast.Constant, values: list[ast.expr]) -> bool:
    return any(node in value.keys for value in values if isinstance(value, ast.Dict))


WORDS_A_MINUTE, SECONDS_A_LINE, EXERCISE, TRAINING_EXERCISE = 150, 5, 6, 12


@each_lesson
def test_the_minutes_are_honest(source):
    """Words, lines of code, exercises (those that train take longer); what the cells compute takes less than a minute."""
    words = sum(words_in(cell) for cell in text_cells(source) if "solution" not in tags(cell))
    lines = sum(len(lines_in(cell.source)) for cell in code_cells(source) if "exercise" not in tags(cell))
    exercises = [cell.source for cell in code_cells(source) if "exercise" in tags(cell)]
    training = sum(bool(re.search(r"\bfit\(|\.backward\(", text)) for text in exercises)
    honest = words / WORDS_A_MINUTE + lines * SECONDS_A_LINE / 60 + 1
    honest += EXERCISE * (len(exercises) - training) + TRAINING_EXERCISE * training
    stated = re.search(r"^(\d+) minutes", text_cells(source)[0].source, re.MULTILINE)
    assert stated, "the first cell has a line such as `40 minutes.`"
    assert 0.8 * honest <= int(stated[1]) <= 1.2 * honest, f"stated {stated[1]}, counted {honest:.0f}"


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
                    assert len(lines_in(ast.unparse(node))) - bool(ast.get_docstring(node)) <= 10, (
                        f"{cell.id}: {node.name} belongs into course_utils"
                    )


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


def names_loaded(tree: ast.Module) -> set[str]:
    """Names that `tree` reads, but for the arguments of its functions."""
    read = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    return read - {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}


def names_imported(tree: ast.Module) -> set[str]:
    imports = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    return {(alias.asname or alias.name).partition(".")[0] for node in imports for alias in node.names}


# --------------------------------------------------------------------------------------------------------- stations


def stations(cells: list[nbformat.NotebookNode]) -> dict[str, list[nbformat.NotebookNode]]:
    """By its heading, such as "Station 1: medicine", the cells of each station, up to the next `##`."""
    found: dict[str, list[nbformat.NotebookNode]] = {}
    heading = ""
    for cell in cells:
        if cell.cell_type == "markdown":
            heading = [heading, *re.findall(r"^## (.*)$", without_code(cell.source), re.MULTILINE)][-1]
        if re.match(r"Station \d+: \w", heading):
            found.setdefault(heading, []).append(cell)
    return found


@each_lesson
def test_a_station_keeps_to_its_measures(source):
    for heading, cells in stations(read_source(source).cells).items():
        code = [cell for cell in cells if cell.cell_type == "code"]
        words = sum(words_in(cell) for cell in cells if cell.cell_type == "markdown")
        assert len(code) <= STATION["cells"], f"{heading}: {len(code)} code cells"
        assert words <= STATION["words"], f"{heading}: {words} words"


@each_lesson
def test_each_station_runs_alone(source):
    assert what_keeps_stations_from_running_alone(read_source(source).cells) == []


def what_keeps_stations_from_running_alone(cells: list[nbformat.NotebookNode]) -> list[str]:
    """In words: names that a station misses if only the set-up ran before it, and names of the set-up that it changes."""
    setup = code_of(next(cell for cell in cells if "setup" in tags(cell)))
    shared = names_imported(setup) | names_defined(setup)
    wrong = []
    for heading, own in stations(cells).items():
        made: set[str] = set()
        for tree in (code_of(cell) for cell in own if cell.cell_type == "code"):
            made |= names_defined(tree)
            wrong += [f"{heading} lacks {name}" for name in sorted(names_loaded(tree) - made - shared - {*dir(builtins)})]
        wrong += [f"{heading} overwrites {name} of the set-up" for name in sorted(made & shared)]
    return wrong


TWO_STATIONS = """# %% [markdown]
# # 90. Two stations

# %% tags=["setup"]
import torch

from course_utils import plots as draw

found = {}

# %% [markdown]
# ## Station 1: trees

# %%
leaves = torch.ones(3)


# %%
def total(values):
    return sum([value for value in values])


# %%
found["trees"] = total(leaves)

# %% [markdown]
# ## Station 2: stones

# %%
weights = torch.ones(2)

# %%
found["stones"] = draw.bars(weights)

# %% [markdown]
# ## What they have in common

# %%
print(found, leaves, weights)
"""


@pytest.mark.parametrize(
    ("old", "new", "wrong"),
    [
        ("", "", []),
        ("bars(weights)", "bars(leaves)", ["Station 2: stones lacks leaves"]),
        ("draw.bars(weights)", "total(weights)", ["Station 2: stones lacks total"]),
        ("torch.ones(3)", "total(torch.ones(3))", ["Station 1: trees lacks total"]),
        ("draw.bars", "plots.bars", ["Station 2: stones lacks plots"]),
        ("weights = ", "found = weights = ", ["Station 2: stones overwrites found of the set-up"]),
        ("weights = torch.ones(2)", "def total(values):\n    return 0", ["Station 2: stones lacks weights"]),
    ],
)
def test_what_keeps_a_station_from_running_alone_is_found(tmp_path, old, new, wrong):
    path = tmp_path / "90_two_stations.py"
    path.write_text(TWO_STATIONS.replace(old, new) if old else TWO_STATIONS)
    assert what_keeps_stations_from_running_alone(read_source(path).cells) == wrong


# ---------------------------------------------------------------------------------------------------------- outputs


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
def test_pictures_are_sharp_and_have_words_for_those_who_cannot_see(source):
    found = [
        (cell.id, output.metadata.get("image/png", {}))
        for cell in both(source)[0].cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert found, "a lesson has a picture"
    for id, metadata in found:
        assert metadata.get("width", 9999) <= 800, f"{id}: draw it with `plots`, at most 7.5 inches wide"
        assert len(metadata.get("alt", "").split()) >= 6, f"{id}: the title and one sentence, by plots.described"


STALE = re.compile(r"\b(shall|whoever|by lot|for want of|makes the same of|sets? free|kept features)\b", re.IGNORECASE)


@each_lesson
def test_prose_is_today_s_english_and_each_thing_has_one_name(source):
    for cell in text_cells(source):
        found = STALE.findall(without_code(cell.source))
        assert not found, f"{cell.id}: {found}; see the rules of the pen in CONTRIBUTING.md"


@each_lesson
def test_lessons_that_are_named_exist(source):
    numbers = {int(path.stem[:2]) for path in LESSONS}
    for cell in text_cells(source):
        named = {int(number) for number in re.findall(r"\blessons? (\d+)", cell.source, re.IGNORECASE)}
        assert named <= numbers, f"{cell.id}: lesson {sorted(named - numbers)} is not there"


def test_no_guess_is_asked_twice():
    asked: dict[str, str] = {}
    for source in LESSONS:
        for cell in code_cells(source):
            for line in cell.source.splitlines():
                if re.match(r"guess\w* *=", line) and "#" in line:
                    question = line.partition("#")[2].strip().lower()
                    assert question not in asked, f"{cell.id} asks what {asked[question]} asks"
                    asked[question] = cell.id


SOFTENERS = re.compile(r"\b(simply|just|easily|obviously|trivial(?:ly)?)\b", re.IGNORECASE)


@each_lesson
def test_prose_does_not_belittle(source):
    for cell in text_cells(source):
        found = SOFTENERS.findall(without_code(cell.source))
        assert not found, f"{cell.id}: {found}"
