"""What was handed in: files, folders and archives, read without trusting anything, as one upload for each notebook.

Everything has a limit, and whatever is over it or cannot be read is refused with a reason that its author can act on.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

MB = 1 << 20
NOTEBOOK_BYTES, ARCHIVE_BYTES, UNPACKED_BYTES, CELL_CHARACTERS = 10 * MB, 50 * MB, 100 * MB, MB
MEMBERS, RATIO, CELLS, DEPTH, BRACKETS = 2000, 100, 2000, 50, 200_000


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


def student_of(name: str) -> str:
    """Whose an upload is: the first folder (or archive) of its path, below `submitted/` if that is there; else the file."""
    parts = PurePosixPath(name).parts
    parts = parts[1:] if parts[:1] == ("submitted",) and len(parts) > 2 else parts
    return parts[0].removesuffix(".ipynb").removesuffix(".zip") if parts else name


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
