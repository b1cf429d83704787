"""Other people's notebooks, read without running or trusting anything: from a folder or an archive to the text of each answer.

Everything has a limit, and whatever is over it or cannot be read is refused with a reason that its author can act on.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import stat
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from course_utils.checks import all_checks
from course_utils.profiles import HOME

MB = 1 << 20
NOTEBOOK_BYTES, ARCHIVE_BYTES, UNPACKED_BYTES, CELL_CHARACTERS = 10 * MB, 50 * MB, 100 * MB, MB
MEMBERS, RATIO, CELLS, DEPTH, BRACKETS = 2000, 100, 2000, 50, 200_000
LINES, LINE = 300, 500  # of a cell and their characters, when names are looked for


class Refused(ValueError):
    """This cannot be graded; the words say why and what to do."""


@dataclass(frozen=True)
class Upload:
    """One notebook as it was handed in: its path below the folder of submissions, its bytes, or why it was refused."""

    name: str
    blob: bytes
    refused: str = ""

    @property
    def student(self) -> str:
        return student_of(self.name)


@dataclass(frozen=True)
class Submission:
    """What is used of a notebook: its lesson, the text of each answer that was begun, and remarks in our own words."""

    answers: dict[str, str]
    flags: tuple[str, ...] = ()
    lesson: str = ""
    cells: tuple[str, ...] = ()  # the texts of all code cells

    def makes_elsewhere(self, name: str, id: str) -> bool:
        """Whether a cell that is no part of the answer to exercise `id` makes `name`."""
        return any(name in text and text not in self.answers[id] and name in names_made(text) for text in self.cells)


def student_of(name: str) -> str:
    """Whose an upload is: the first folder (or archive) of its path, below `submitted/` if that is there; else the file."""
    parts = PurePosixPath(name).parts
    parts = parts[1:] if parts[:1] == ("submitted",) and len(parts) > 2 else parts
    return parts[0].removesuffix(".ipynb").removesuffix(".zip") if parts else name


# ------------------------------------------------------------------------------------------------- files and archives


def read_submissions(path: Path) -> Iterator[Upload]:
    """Every notebook at or below `path`, one at a time, in the order of their names.

    Raises:
        ValueError: if there is nothing at `path`.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"{path} is not there; give a notebook, a zip, or a folder that holds either")
    for name, file in [(path.name, path)] if not path.is_dir() else entries(path):
        try:
            blob = read_once(file)
        except (OSError, Refused) as error:
            yield Upload(name, b"", str(error) if isinstance(error, Refused) else f"it cannot be read: {error.strerror}")
            continue
        yield from unpack(name, blob) if name.lower().endswith(".zip") else [Upload(name, blob)]


def entries(folder: Path) -> Iterator[tuple[str, Path]]:
    """Names and paths of the notebooks and archives below `folder`; links to folders are not followed."""
    found = []
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__MACOSX"]
        for name in (*folders, *files):
            path = Path(root, name)
            taken = name.lower().endswith((".ipynb", ".zip")) and not name.startswith(".")
            if taken or (name in folders and path.is_symlink()):
                found.append((printable(path.relative_to(folder).as_posix()), path))
        folders[:] = [name for name in folders if not name.lower().endswith((".ipynb", ".zip"))]
    yield from sorted(found)


def printable(name: str) -> str:
    """A file's name that any format can hold: bytes that are no UTF-8 become question marks."""
    return name.encode("utf-8", "replace").decode("utf-8")


def read_once(path: Path) -> bytes:
    """The bytes of a regular file that is no link, opened only once, so that what is checked is what is read."""
    limit = ARCHIVE_BYTES if path.suffix.lower() == ".zip" else NOTEBOOK_BYTES
    if path.is_symlink():
        raise Refused("it is a link; hand in the file itself")
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Refused("it is no regular file; hand in a notebook")
        blob = file.read(limit + 1)
    if len(blob) > limit:
        raise Refused(f"it is larger than {limit // MB} MB; clear its outputs and save it again")
    return blob


def unpack(archive: str, blob: bytes) -> Iterator[Upload]:
    """The notebooks in a zip file; archives inside it are left closed."""
    try:
        with zipfile.ZipFile(io.BytesIO(blob)) as opened:
            for member in members(opened):
                yield Upload(f"{archive}/{printable(member.filename)}", read_member(opened, member))
    except Refused as error:
        yield Upload(archive, b"", str(error))
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, OSError, ValueError) as error:
        yield Upload(archive, b"", f"it is no zip file that can be read ({type(error).__name__}); pack it again")


def members(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The notebooks in `archive`, in the order of their names, once the whole list was found harmless."""
    infos = archive.infolist()
    if len(infos) > MEMBERS:
        raise Refused(f"the zip holds {len(infos)} files; at most {MEMBERS} are read")
    if sum(info.file_size for info in infos) > UNPACKED_BYTES:
        raise Refused(f"the zip unpacks to more than {UNPACKED_BYTES // MB} MB; leave out everything but the notebooks")
    if len({info.filename for info in infos}) < len(infos):
        raise Refused("the zip holds two files of one name; pack it again")
    for info in infos:
        refuse_member(info)
    notebooks = [info for info in infos if info.filename.lower().endswith(".ipynb") and "__MACOSX" not in info.filename]
    if not notebooks:
        raise Refused("the zip holds no notebook (.ipynb)")
    return sorted(notebooks, key=lambda info: info.filename)


def refuse_member(info: zipfile.ZipInfo) -> None:
    kind = stat.S_IFMT(info.external_attr >> 16)
    path = PurePosixPath(info.filename.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in info.filename or "\0" in info.orig_filename:
        raise Refused("the zip holds a name that leads outside of it; pack it again from its own folder")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise Refused("the zip holds a link or a device; hand in plain files")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Refused("the zip is packed in an unusual way; pack it again with the system's own tool")
    if info.flag_bits & 1:
        raise Refused("the zip is encrypted; pack it without a password")
    if info.file_size > RATIO * max(info.compress_size, 1) and info.file_size > MB:
        raise Refused(f"the zip holds a file that is packed more than {RATIO} times smaller than it is")


def read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    with archive.open(info) as file:
        blob = file.read(NOTEBOOK_BYTES + 1)
    if len(blob) > NOTEBOOK_BYTES:
        raise Refused(f"the zip holds a notebook larger than {NOTEBOOK_BYTES // MB} MB; clear its outputs and save it again")
    return blob


def safe_name(id: str) -> str:
    """A name for files about `id`: letters, digits and dashes, and eight digits that no other id shares."""
    ascii_only = unicodedata.normalize("NFKD", id).encode("ascii", "ignore").decode()
    slug = re.sub(r"[^A-Za-z0-9]+", "-", ascii_only.removesuffix(".ipynb")).strip("-")[:40].lower()
    return f"{slug or 'submission'}-{hashlib.sha256(id.encode('utf-8', 'replace')).hexdigest()[:8]}"


# ------------------------------------------------------------------------------------------------------ one notebook


@dataclass(frozen=True)
class Cell:
    """A cell of any notebook: its text, and what it says of itself."""

    kind: str
    source: str
    names: frozenset[str]  # cell id, nbgrader's id, tags

    def defines(self, function: str) -> bool:
        return re.search(rf"^(async )?def {function}\b", self.source, re.MULTILINE) is not None

    def is_for(self, id: str) -> bool:
        """Whether the cell says that it holds the answer of exercise `id`."""
        says = cell_name("exercise", id) in self.names or re.match(rf"\s*# Exercise {re.escape(id)}\b", self.source)
        return bool(says) and (self.kind == "code" or "def " in self.source)


def cell_name(kind: str, id: str) -> str:
    return f"{kind}-{id.replace('.', '-')}"


def cells_of(blob: bytes) -> list[Cell]:
    """The cells of the notebook `blob`; any way in which it can be unreadable is `Refused`."""
    try:
        text = blob.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Refused("it is not UTF-8 text, so it is no notebook; hand in the .ipynb file that Jupyter saved") from None
    refuse_nesting(text)
    try:
        notebook = json.loads(text, object_pairs_hook=once, parse_constant=no_number)
    except Refused:
        raise
    except (ValueError, RecursionError):
        raise Refused("it is no JSON, so it is no notebook; hand in the .ipynb file that Jupyter saved") from None
    cells = notebook.get("cells") if isinstance(notebook, dict) and notebook.get("nbformat") == 4 else None
    if not isinstance(cells, list):
        raise Refused("it is no notebook of format 4; open it in Jupyter and save it")
    if len(cells) > CELLS:
        raise Refused(f"it has {len(cells)} cells; at most {CELLS} are read")
    return [read_cell(cell) for cell in cells]


def refuse_nesting(text: str) -> None:
    """Refuse brackets too deep or too many before the parser meets them."""
    depth = deepest = count = 0
    for found in re.finditer(r'"(?:[^"\\]++|\\.)*+"|[\[{]|[\]}]', text, re.DOTALL):
        if found[0] in "[{":
            depth, count = depth + 1, count + 1
            deepest = max(deepest, depth)
        elif found[0] in "]}":
            depth -= 1
        if deepest > DEPTH or count > BRACKETS:
            raise Refused("it is nested too deeply or has too many parts for a notebook; clear its outputs and save it again")


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise Refused("it names one thing twice, which Jupyter never writes; open it in Jupyter and save it")
    return found


def no_number(_: str) -> None:
    raise Refused("it holds a number that JSON does not have; open it in Jupyter and save it")


def read_cell(cell: Any) -> Cell:
    source = cell.get("source", "") if isinstance(cell, dict) else None
    if isinstance(source, list) and all(isinstance(line, str) for line in source):
        source = "".join(source)
    if not isinstance(source, str):
        raise Refused("it has a cell without text; open it in Jupyter and save it")
    if len(source) > CELL_CHARACTERS:
        raise Refused(f"it has a cell of {len(source)} characters; at most {CELL_CHARACTERS} are read")
    metadata = cell["metadata"] if isinstance(cell.get("metadata"), dict) else {}
    nbgrader = metadata["nbgrader"] if isinstance(metadata.get("nbgrader"), dict) else {}
    tags = metadata["tags"] if isinstance(metadata.get("tags"), list) else []
    names = {name for name in (cell.get("id"), nbgrader.get("grade_id"), *tags) if isinstance(name, str)}
    return Cell(str(cell.get("cell_type", "")), without_cell_magics(printable(source)), frozenset(names))


def without_cell_magics(source: str) -> str:
    """`source` without the magics at its top that only time or silence a cell; its lines keep their numbers."""
    magics = re.match(r"(?:\s*%%(?:time|timeit|capture)\b[^\r\n]*)+", source)
    return re.sub(r"[^\r\n]", "", magics[0]) + source[magics.end() :] if magics else source


# ------------------------------------------------------------------------------------------------------- the answers


def read_answers(blob: bytes) -> Submission:
    """The answers in the notebook `blob` that differ from the blank exercise.

    Raises:
        Refused: if it cannot be read, or holds no exercise of the course.
    """
    cells = cells_of(blob)
    lesson = lesson_of(cells)
    answers, flags = {}, []
    for id, check in all_checks().items():
        if id.startswith(f"{lesson}."):
            source, remarks = answer_in(cells, id, check.answer)
            flags += [f"{id}: {remark}" for remark in remarks]
            if normal(source) not in ("", normal(blank_cells()[cell_name("exercise", id)])):
                answers[id] = source
    return Submission(answers, tuple(flags), lesson, tuple(cell.source for cell in cells if cell.kind == "code"))


def lesson_of(cells: list[Cell]) -> str:
    """The lesson most of whose exercises are there, by what cells say of themselves or else by the functions they define."""
    for belongs in (lambda cell, id, check: cell.is_for(id), lambda cell, id, check: cell.defines(check.answer)):
        found = [id[:2] for id, check in all_checks().items() if any(belongs(cell, id, check) for cell in cells)]
        if found:
            return max(sorted(set(found)), key=found.count)
    raise Refused("it holds no exercise of this course; hand in the notebook of the lesson")


def answer_in(cells: list[Cell], id: str, function: str) -> tuple[str, list[str]]:
    """The text that counts as the answer of exercise `id`, and remarks on how it was found.

    Of several cells that say they are the exercise, the last that is not blank counts. Where none of them defines the
    function, the last cell that does comes along, whatever it says of itself.
    """
    stub = normal(blank_cells()[cell_name("exercise", id)])
    named = [cell for cell in cells if cell.is_for(id)]
    begun = [cell for cell in named if normal(cell.source) not in ("", stub)]
    elsewhere = [cell for cell in cells if cell.defines(function) and cell not in named]
    whole = [cell for cell in begun if cell.defines(function)]
    remarks = ["there is no cell of this exercise"] if not named else []
    if len(begun) > 1:
        remarks.append(f"{len(begun)} cells say that they are this exercise; the last one counts")
    if any(cell_name("check", id) in cell.names and normal(cell.source) != check_text(id) for cell in cells):
        remarks.append("its check cell was changed; it is not used here")
    if whole:
        return whole[-1].source, remarks
    if not elsewhere:
        return (begun[-1].source if begun else ""), remarks
    remarks.append(f"`{function}` was found in another cell")
    return "\n\n".join(cell.source for cell in (*begun[-1:], elsewhere[-1])), remarks


def normal(source: str) -> str:
    """`source` without its first comment, and what an editor changes: line ends, blanks at them, forms of one letter."""
    lines = unicodedata.normalize("NFC", source).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return re.sub(r"^# Exercise .*\n?", "", "\n".join(line.rstrip() for line in lines).strip("\n"))


def check_text(id: str) -> str:
    return normal(blank_cells().get(cell_name("check", id), ""))


@cache
def blank_cells() -> dict[str, str]:
    """The text of each cell of the learners' notebooks, by its id."""
    notebooks = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((HOME / "notebooks").glob("[0-9]*.ipynb"))]
    return {cell["id"]: "".join(cell["source"]) for notebook in notebooks for cell in notebook["cells"]}


def names_made(source: str) -> set[str]:
    """The names that a cell imports, defines or assigns, read line by line: nothing is run, no parser meets hostile text."""
    found, importing = set(), False
    for line in source.splitlines()[:LINES]:
        line = line[:LINE].partition("#")[0].strip()
        start = re.match(r"(?:from\s+[\w.]+\s+)?import\b", line)
        if start or importing:
            line = line[start.end() :] if start else line
            importing = (importing or "(" in line) and ")" not in line
            found |= {part.split()[-1].partition(".")[0] for part in line.strip("() ").split(",") if part.strip()}
        else:
            found |= set(re.findall(r"(?:\bdef|\bclass|\bas|^for)\s+(\w+)", line))
            targets = re.match(r"(\*?\w+(?:\s*,\s*\*?\w+)*)\s*(?::[^=]*)?=(?!=)", line)
            found |= set(re.findall(r"\w+", targets[1])) if targets else set()
    return found
