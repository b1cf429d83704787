"""What was handed in: files, folders and archives, read without trusting anything, as one upload for each notebook.

Everything has a limit. What is over it or cannot be read is refused, with a reason that its author can act on, and costs
nobody else anything. Paths inside an archive are only names: nothing is unpacked to disk.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import IO

from course_utils.profiles import HOME

MB = 1 << 20
NOTEBOOK_BYTES, ARCHIVE_BYTES, UNPACKED_BYTES, CLASS_BYTES = 10 * MB, 50 * MB, 100 * MB, 1000 * MB
MEMBERS, NAME = 2000, 1000  # files in an archive, characters of a path
NOTEBOOKS = 200  # of one learner, who gets no more than an archive's bytes for them
UNREADABLE = (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, struct.error)
LESSONS = {path.stem for path in (HOME / "notebooks").glob("[0-9]*.ipynb")}
TAKEN = re.compile(r"\.(ipynb|zip)$", re.IGNORECASE)
MISNAMED = re.compile(r"\.ipynb\.(txt|json)$", re.IGNORECASE)
OTHER = r"\.(zip|py|html?|pdf|docx?|odt|rtf|png|jpe?g|7z|rar|tar|t?gz)"  # what people hand in for a notebook
BESIDE = re.compile(r"\.(csv|xlsx?|ods|md|txt|log)$", re.IGNORECASE)  # what teachers keep beside notebooks
HIDDEN = re.compile(r"(^|/)(\.[^./]|__MACOSX/)")
OWNERS = (  # how a path begins: with the learner's name, and on some platforms a number that nobody else has
    re.compile(r"submitted/([^/]+)"),  # nbgrader
    re.compile(r"([^/]+)_(\d{3,})_assignsubmission_(?:file|onlinetext)_?(?:/|$)"),  # Moodle: a folder, or a file
    re.compile(r"([^/]+?)_(\d{3,})_assignsubmission_(?:file|onlinetext)"),
    re.compile(r"([^/_]+)(?:_LATE)?_(\d{3,})_\d{3,}_[^/]*(?:\.zip/|$)", re.IGNORECASE),  # Canvas: files, no folders
    re.compile(r"/*([^/]*)"),  # a folder of their own, or a file
)

Source = tuple[str, Callable[[], bytes]]  # the name of something handed in, and how to read it


class Refused(ValueError):
    """This cannot be graded; the words say why and what to do."""


@dataclass(frozen=True)
class Upload:
    """One notebook as it was handed in: its path below the folder of submissions, its bytes, or why it was refused."""

    name: str
    blob: bytes
    refused: str = ""


def student_of(name: str) -> str:
    """Whose an upload is: the first folder or file of its path; `Ana Li (12345)` where a platform has named it."""
    found = next(found for pattern in OWNERS if (found := pattern.match(name)))
    student = re.sub(rf"(\.ipynb(\.txt|\.json)?|{OTHER})+$", "", found[1], flags=re.IGNORECASE)
    return f"{student} ({found[2]})" if found.lastindex == 2 else student


def read_submissions(path: Path, of_class: bool = True) -> Iterator[Upload]:
    """Every notebook at or below `path`, one at a time, in the order of their names; `of_class` if of several learners.

    Raises:
        ValueError: if there is nothing at `path`.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"{path} is not there; give a notebook, a zip, or a folder that holds either")
    given = not path.is_dir()
    found = [] if given else list(files(path))
    room = (class_in(notebooks_in(found)) if of_class else None) or ""  # the folder may be around that of the class
    sources = [(path.name, partial(read_once, path, CLASS_BYTES))] if given else sort_out(below(room, found), of_class)
    seen: dict[str, set[str]] = {}
    for upload in read_all(sources, given, Counter()):
        same = seen.setdefault(unicodedata.normalize("NFC", upload.name).casefold(), set())
        if same:
            name = f"{upload.name} ({len(same) + 1})" if upload.name in same else upload.name
            upload = Upload(name, b"", "another upload has this name, or one that differs in case or accents only; rename one")
        same.add(upload.name)
        yield upload


def read_all(sources: Iterable[Source], given: bool, spent: Counter[tuple[str, str]]) -> Iterator[Upload]:
    """The uploads of all sources; `spent` counts what was read of each learner, who cannot keep the others waiting."""
    for name, read in sources:
        student = student_of(name)
        try:
            spent[student, "files"] += 1
            if spent[student, "files"] > NOTEBOOKS or spent[student, "bytes"] > UNPACKED_BYTES:
                if spent[student, "over"]:
                    continue
                spent[student, "over"] += 1
                raise Refused(
                    f"of one learner {NOTEBOOKS} files and {UNPACKED_BYTES // MB} MB are read; leave out older notebooks"
                )
            blob = read()
            spent[student, "bytes"] += len(blob)
            inside = unpack(name, blob, given) if name.lower().endswith(".zip") else None
        except UNREADABLE as error:
            words = f"it cannot be read ({type(error).__name__}); save it or pack it again"
            yield Upload(name, b"", str(error) if isinstance(error, Refused) else words)
            continue
        yield from [Upload(name, blob)] if inside is None else read_all(inside, False, spent)


def files(folder: Path) -> Iterator[Source]:
    """All that is below `folder`; names of folders end in a slash, and links to folders are not followed."""
    for root, folders, names in os.walk(folder):
        for path, slash in (*((Path(root, name), "/") for name in folders), *((Path(root, name), "") for name in names)):
            yield printable(path.relative_to(folder).as_posix()) + slash, partial(read_once, path)


def below(room: str, sources: Iterable[Source]) -> list[Source]:
    return [(name.removeprefix(room), read) for name, read in sources if name.startswith(room)]


def notebooks_in(sources: Iterable[Source]) -> list[str]:
    return [name for name, _ in sources if TAKEN.search(name) and not HIDDEN.search(name)]


def sort_out(sources: Iterable[Source], of_class: bool = True) -> list[Source]:
    """The notebooks and archives; refused are what has almost their name and, of a class, who has no notebook at all."""
    shown = [(name, read) for name, read in sources if not HIDDEN.search(name)]
    found = [(name, read) for name, read in shown if TAKEN.search(name)]
    found += [(name, partial(refuse, "it does not end in .ipynb; rename it")) for name, _ in shown if MISNAMED.search(name)]
    there = {student_of(name) for name, _ in found}
    tops = {name.removeprefix("submitted/").partition("/")[:2] for name, _ in shown if of_class}
    tried = [top + slash for top, slash in tops if top and (slash or not BESIDE.search(top))]
    empty = [name for name in tried if student_of(name) not in there]
    empty = [name[:-1] if name[-1] == "/" and student_of(name) == student_of(name[:-1]) else name for name in empty]
    found += [(name, partial(refuse, "it is no notebook (.ipynb) and holds none, or only a link to one")) for name in empty]
    return sorted(found, key=itemgetter(0))


def refuse(words: str) -> bytes:
    raise Refused(words)


def printable(text: str) -> str:
    """`text` as any format can hold it: what is no Unicode becomes its number, so that different names stay different."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def read_once(path: Path, archive_bytes: int = ARCHIVE_BYTES) -> bytes:
    """The bytes of a regular file that is no link, opened only once, so that what is checked is what is read."""
    if path.is_symlink():
        raise Refused("it is a link; hand in the file itself")
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Refused("it is no regular file; hand in a notebook")
        return read_within(file, archive_bytes if path.suffix.lower() == ".zip" else NOTEBOOK_BYTES)


def read_within(file: IO[bytes], limit: int) -> bytes:
    blob = file.read(limit + 1)
    if len(blob) > limit:
        raise Refused(f"it is larger than {limit // MB} MB; clear the outputs of its notebooks and save them again")
    return blob


def unpack(archive: str, blob: bytes, given: bool = False) -> list[Source]:
    """What is in a zip file, or one of `UNREADABLE`; a `given` one may be a class, and reads as the folder it was made of."""
    if blob.count(b"PK\1\2") > MEMBERS:  # before there is an object for each
        raise Refused(f"the zip holds more than {MEMBERS} files; leave out everything but the notebooks")
    opened = zipfile.ZipFile(io.BytesIO(blob))
    members = [(i.filename.replace("\\", "/")[-NAME:], partial(read_member, opened, i)) for i in opened.infolist()]
    room = class_in(notebooks_in(members)) if given else None
    if room is not None:
        return sort_out(below(room, members))
    if sum(info.file_size for info in opened.infolist() if TAKEN.search(info.filename)) > UNPACKED_BYTES:
        raise Refused(f"the zip unpacks to more than {UNPACKED_BYTES // MB} MB; clear the outputs of its notebooks")
    return sort_out([(f"{archive}/", bytes), *((f"{archive}/{name}", read) for name, read in members)])


def class_in(names: list[str], room: str = "") -> str | None:
    """The folder, with a slash at its end, in which each learner has one or a file; None if all is one learner's."""
    inner = [name.removeprefix(room) for name in names]
    if any(pattern.match(name) for name in inner for pattern in OWNERS[:-1]):
        return room
    if len({name.partition("/")[:2] for name in inner}) == 1 and "/" in inner[0]:
        return class_in(names, f"{room}{inner[0].partition('/')[0]}/")
    learners = {student_of(name) for name in inner}
    return room if len(learners) > 1 and not learners <= LESSONS else None


def read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    if info.filename.lower().endswith(".zip"):
        raise Refused("it is a zip inside a zip; unpack the outer one and hand in the folder")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Refused("it is packed in an unusual way; pack it again with the system's own tool")
    if info.flag_bits & 1:
        raise Refused("it is encrypted; pack it without a password")
    with archive.open(info) as file:  # no more is unpacked than was announced
        return read_within(file, min(NOTEBOOK_BYTES, info.file_size))


def order_of(name: str) -> tuple[list[str | int], str]:
    """By which names are sorted as people mean them: `03 (1).ipynb` after `03.ipynb`, `v10` after `v9`."""
    parts = re.split(r"(\d+)", name.removesuffix(".ipynb"))
    return [int(part) if part.isdecimal() else part for part in parts], name


def safe_name(id: str) -> str:
    """A name for files about `id`: letters, digits and dashes, then 128 bits of its hash, which nobody finds a second time."""
    plain = unicodedata.normalize("NFKD", id[:NAME]).encode("ascii", "ignore").decode()
    slug = re.sub(r"[^A-Za-z0-9]+", "-", plain.removesuffix(".ipynb")).strip("-")[:40].lower()
    return f"{slug or 'submission'}-{hashlib.sha256(id.encode('utf-8', 'replace')).hexdigest()[:32]}"
