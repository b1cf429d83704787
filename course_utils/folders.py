"""Folders of pictures: which files are pictures of which class, in three splits that stay when others come.

The contract is that of torchvision's `ImageFolder`: one folder per class, its name is the name of the class, and the
alphabetical order of the names makes the class numbers, in every split the same.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import NoReturn

import numpy as np
from PIL import Image
from torchvision.datasets.folder import IMG_EXTENSIONS

from course_utils.images import HEIC, Sample, heic_is_read, how_to_read_heic, read_at_least, reason_to_refuse, too_large
from course_utils.profiles import cpu_count

SPLITS = ("train", "val", "test")
SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}  # of a folder without splits
Split = dict[str, list[Sample]]

# ----------------------------------------------------------------------------------------------------- one folder

OF_THE_SYSTEM = (
    *("__MACOSX", "__pycache__", "@eaDir", "lost+found", "$RECYCLE.BIN", "System Volume Information"),
    *("Thumbs.db", "desktop.ini", "Icon\r"),
)
NOT_READ_HERE = (".avif", ".gif", ".jfif", ".jp2", ".psd", ".svg", ".dng", ".cr2", ".cr3", ".nef", ".arw")


def class_folders(root: Path) -> list[str]:
    """Names of the class folders of `root`, in order; hidden folders and those of the system are no classes."""
    return [name for name in names_in(root) if (root / name).is_dir() and not is_hidden(name)]


def names_in(root: Path) -> list[str]:
    try:
        return sorted(os.listdir(root))
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no folder {root}; give a folder with one folder of pictures per class") from None
    except NotADirectoryError:
        raise NotADirectoryError(f"{root} is a file; give the folder that holds one folder of pictures per class") from None
    except PermissionError as error:
        unreadable(error)


def is_hidden(name: str) -> bool:
    return name.startswith(".") or name in OF_THE_SYSTEM


def list_folder(root: Path, classes: Sequence[str]) -> tuple[list[Sample], list[str]]:
    """The pictures below `root/<class>/`, in order of their names, and the files that were left out, each with a reason."""
    samples: list[Sample] = []
    left_out = beside(root, classes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # said in `left_out`
        for label, name in enumerate(classes):
            files = [(path, reason_to_leave_out(path, root / name)) for path in files_below(root / name)]
            samples += [(path, label) for path, why in files if not why]
            out = [f"{shown(path, root.parent)}: {why}" for path, why in files if why]
            if len(out) == len(files):
                such = f" ({len(out)} left out, such as {out[0]})" if out else ""
                kinds = ", ".join(IMG_EXTENSIONS)
                raise ValueError(f"the class folder {root / name} holds no picture{such}; add some ({kinds}) or remove it")
            left_out += out
    return samples, left_out


def beside(root: Path, folders: Collection[str]) -> list[str]:
    """What lies in `root` beside these folders and is left out, each with the reason."""
    names = [name for name in names_in(root) if name not in folders]
    reasons = ["hidden" if is_hidden(name) else "outside the class folders" for name in names]
    return [f"{shown(root / name, root.parent)}: {why}" for name, why in zip(names, reasons, strict=True)]


def left_out_in_words(left_out: Sequence[str]) -> str:
    """A line for a person: how many files were left out, with three reasons at most; nothing of what is hidden anyway."""
    reasons: dict[str, list[str]] = {}
    for one in left_out:
        name, _, why = one.partition(": ")
        reasons.setdefault(why, []).append(name)
    reasons.pop("hidden", None)
    count = sum(map(len, reasons.values()))
    if not count:
        return ""
    words = [f"{names[0]}{f' and {len(names) - 1} more' * (len(names) > 1)} ({why})" for why, names in reasons.items()]
    return f"left out {count} file{'s' * (count > 1)}: {', '.join(words[:3])}{', …' * (len(words) > 3)}"


def shown(path: Path, base: Path) -> str:
    """The path below `base`, with what cannot be printed spelt out: a name on Linux may be no UTF-8."""
    return str(path.relative_to(base)).encode("utf-8", "backslashreplace").decode()


def files_below(folder: Path) -> list[Path]:
    """All files in `folder` and its folders, linked ones too, in order of their names; and the folders that were met twice."""
    found, seen = [], {os.path.realpath(folder)}
    for here, folders, names in os.walk(folder, onerror=unreadable, followlinks=True):
        found += [Path(here) / name for name in names]
        inside = sorted((Path(here) / name for name in folders), key=lambda path: (path.is_symlink(), path))
        folders.clear()
        for path in inside:  # links last: of two ways to a folder the plain one counts
            real = os.path.realpath(path)
            if real in seen:
                found.append(path)
            else:
                folders.append(path.name)
            seen.add(real)
    return sorted(found)


def unreadable(error: OSError) -> NoReturn:
    raise PermissionError(f"the folder {error.filename} may not be read; change its permissions or copy the pictures elsewhere")


def reason_to_leave_out(path: Path, folder: Path) -> str | None:
    suffix = path.suffix.lower()
    if any(is_hidden(part) for part in path.relative_to(folder).parts):
        return "hidden"
    if path.is_dir():
        return "a link to a folder that is read already"
    if suffix in HEIC and not heic_is_read():
        return how_to_read_heic()
    if suffix not in (*IMG_EXTENSIONS, *HEIC):
        return f"{suffix} is not read here, save it as JPEG or PNG" if suffix in NOT_READ_HERE else "not a picture by its name"
    try:
        return reason_of_content(path)
    except PermissionError:
        return "may not be read"
    except Image.DecompressionBombError:
        return too_large()
    except Exception as error:
        number = getattr(error, "errno", None)
        if number in (errno.ENOENT, errno.ELOOP):
            return "a link to nothing"
        if number or isinstance(error, MemoryError):  # trouble of the system: the picture may be a good one
            raise
        return "not a picture by its content"


def reason_of_content(path: Path) -> str | None:
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        return "not a file"
    if not found.st_size:
        return "empty"
    with Image.open(path) as image:
        return reason_to_refuse(image)


# --------------------------------------------------------------------------------------------------------- splits

SPELLINGS = {"training": "train", "valid": "val", "validation": "val", "testing": "test"} | {name: name for name in SPLITS}
SPLIT_WORD = re.compile(r"(?<![a-z])(train|val|test)(ing|id|idation)?(set|data)?(?![a-z])", re.IGNORECASE)


def find_splits(root: Path, folders: Sequence[str]) -> dict[str, str] | None:
    """The folder of each split among `folders`, by names such as "train", "Valid" or "TESTING"; None if they are classes.

    A class may be called "train": it takes all three for splits.

    Raises:
        ValueError: if the folders look like splits, but one is missing, is there twice or has another name.
    """
    known = {name: SPELLINGS[name.lower()] for name in folders if name.lower() in SPELLINGS}
    if sorted(known.values()) == sorted(SPLITS):
        return {split: name for name, split in known.items()}
    alike = {name: found[1].lower() for name in folders if (found := SPLIT_WORD.search(name))}
    several = len(set(alike.values())) > 1
    nested = any(holds_folders_only(root / name) for name in (alike if several else known))
    if nested or len(set(known.values())) > 1 or (several and len(alike) == len(folders)):
        missing = [split for split in SPLITS if split not in known.values()]
        wrong = f"missing: {missing}" if missing else f"more than three: {sorted(known)}"
        raise ValueError(
            f"the folders {sorted({*known, *alike})} in {root} look like splits, but those are three, named train (training), "
            f"val (valid, validation) and test (testing), in small or capital letters ({wrong}); name them so, or put "
            "the pictures of each class into one folder to have them divided, or rename a class that only sounds like a split"
        )
    return None


def holds_folders_only(folder: Path) -> bool:
    """Whether there are folders in it and no pictures beside them."""
    return bool(class_folders(folder)) and not loose_pictures(folder)


def loose_pictures(folder: Path) -> list[str]:
    return [name for name in names_in(folder) if name.lower().endswith((*IMG_EXTENSIONS, *HEIC)) and not is_hidden(name)]


def read_splits(root: Path, folders: dict[str, str]) -> tuple[Split, list[str], list[str]]:
    """Samples by split, class names and files left out, from `root/{train,val,test}/<class>/`.

    Args:
        folders: the name of the folder of each split.

    Raises:
        ValueError: if a split lacks a class or has one more, or there are fewer than two classes.
    """
    train = root / folders["train"]
    classes = class_folders(train)
    check_classes(train, classes)
    split, left_out = {}, beside(root, folders.values())
    for name in SPLITS:
        here = class_folders(root / folders[name])
        if here != classes:
            missing, extra = sorted(set(classes) - set(here)), sorted(set(here) - set(classes))
            raise ValueError(
                f"{root / folders[name]} and {train} must hold the same classes, for the names make the class numbers: "
                f"missing in {name} {missing}, only in {name} {extra}; add the folders or remove them everywhere"
            )
        split[name], out = list_folder(root / folders[name], classes)
        left_out += out
    return split, classes, left_out


def read_and_split(root: Path, classes: list[str]) -> tuple[Split, list[str], list[str]]:
    """The same from `root/<class>/` without splits; `divide` makes them, about 70, 15 and 15 % of each class."""
    check_classes(root, classes)
    samples, left_out = list_folder(root, classes)
    warn_of_inner_classes(root, classes, samples)
    return divide(samples, SHARES), classes, left_out


def check_classes(root: Path, classes: list[str]) -> None:
    if len(classes) > 1:
        return
    hint = ""
    if classes and len(class_folders(root / classes[0])) > 1 and holds_folders_only(root / classes[0]):
        hint = f"; if they are the folders in {root / classes[0]}, give that one"
    if loose_pictures(root):
        hint = f"; {len(loose_pictures(root))} pictures lie in the folder itself: move each into one with the name of its class"
    raise ValueError(
        f"{root} holds {len(classes)} class folder(s) {classes}; at least two classes are needed to tell apart{hint}"
    )


def warn_of_inner_classes(root: Path, classes: Sequence[str], samples: Sequence[Sample]) -> None:
    """Say so if classes without pictures of their own hold folders of the same names: these may be the classes meant."""
    places: dict[int, set[Path]] = {}
    for path, label in samples:
        places.setdefault(label, set()).add(path.parent)
    inside = [{one.name for one in found} for label, found in places.items() if root / classes[label] not in found]
    shared = sorted(set.intersection(*inside)) if len(inside) > 1 else []
    if len(shared) > 1:
        warnings.warn(
            f"{root}: the classes are the outer folders ({', '.join(classes[:4])}); several of them hold the same folders "
            f"({', '.join(shared[:4])}): if those are the classes, bring them together in one folder and give that",
            stacklevel=5,
        )


def divide(samples: Sequence[Sample], shares: dict[str, float]) -> Split:
    """Split `samples` by `shares` (which add up to 1) within each class, so that every split has every class.

    What a file holds decides, not its name, its neighbours or a seed: a number between 0 and 1 is computed from its bytes, and
    the shares cut that range. So a picture stays in its split when others are added or removed, when it is renamed or moved,
    and on every machine; equal files fall into one split. The shares hold on average: of 1,000 pictures 70 % ± 1.5 are train.

    A class of few pictures may leave a split empty. It then borrows the one whose number is nearest, and gives it back as soon
    as it has one of its own; meanwhile a picture more or less in the class can move one other for each split that borrows. (No
    rule avoids that: of four pictures two share a split, and without one of the others the rest would have to fill three.)
    With shares of 70, 15 and 15 % a class of 20 borrows in 8 of 100 cases, one of 40 in 3 of 1,000.

    Raises:
        ValueError: if a class has fewer different pictures than there are splits.
    """
    split: Split = {name: [] for name in shares}
    classes: dict[int, list[Path]] = {}
    for path, label in samples:
        classes.setdefault(label, []).append(path)
    for label, paths in sorted(classes.items()):
        digests = [digest(path) for path in paths]
        few = len(set(digests))
        if few < len(shares):
            names = " + ".join(shares)
            raise ValueError(f"{paths[0].parent} holds {few} different picture(s), too few for {names}; add some")
        home = assign(set(digests), shares)
        for path, mark in zip(paths, digests, strict=True):
            split[home[mark]].append((path, label))
    return split


def assign(digests: Iterable[bytes], shares: dict[str, float]) -> dict[bytes, str]:
    """The split of each content, by its number in 0 … 1; a split that gets none borrows the nearest one."""
    places = {one: int.from_bytes(one[:8], "big") / 2**64 for one in digests}
    ends = dict(zip(shares, accumulate(shares.values()), strict=True))
    starts = {name: end - shares[name] for name, end in ends.items()}
    last = list(shares)[-1]  # the ends are sums of fractions, so the last may be a little less than 1
    home = {one: next((name for name, end in ends.items() if place < end), last) for one, place in places.items()}
    for name in reversed(shares):
        if name not in home.values():
            many = Counter(home.values())
            free = [one for one in home if many[home[one]] > 1]
            home[min(free, key=lambda one: (max(starts[name] - places[one], places[one] - ends[name]), one))] = name
    return home


def digest(path: Path) -> bytes:
    """16 bytes that stand for the content of a file: equal for equal files only.

    Read from disk once in a process, unless the file has changed. It takes 1 µs per KB: 0.08 ms for a photo of 500×375
    pixels, which takes 1 ms to decode, so names, which can change, are not worth their speed.
    """
    found = path.stat()
    return _digest(path, found.st_size, found.st_mtime_ns, found.st_ino)


@cache
def _digest(path: Path, *state: int) -> bytes:
    return hashlib.blake2b(path.read_bytes(), digest_size=16, person=b"split of course").digest()


# ----------------------------------------------------------------------------------------------------- duplicates


def find_duplicates(split: Split) -> list[str]:
    """The files that are equal byte for byte and lie in two splits or two classes: each group in words, with what to do."""
    where = [(path, name, label) for name, part in split.items() for path, label in part]
    root = os.path.commonpath([path.parent for path, _, _ in where])
    sizes = [path.stat().st_size for path, _, _ in where]
    counts = Counter(sizes)
    equal: dict[bytes, list[tuple[Path, str, int]]] = {}
    for one, size in zip(where, sizes, strict=True):
        if counts[size] > 1:  # others need not be read
            equal.setdefault(digest(one[0]), []).append(one)
    words = []
    for found in equal.values():
        paths, names, labels = (list(dict.fromkeys(column)) for column in zip(*found, strict=True))
        files = f"{', '.join(shown(path, Path(root)) for path in paths[:4])}{' and more' if len(paths) > 4 else ''}"
        if len(labels) > 1:
            words.append(f"{files}: one picture in {len(labels)} classes; keep it in the right one")
        elif len(names) > 1:
            words.append(f"{files}: one picture in {' and '.join(names)}; keep it in one of them")
    return words


def near_duplicates(split: Split, *, least: float = 0.99) -> list[tuple[Path, Path]]:
    """Pairs of pictures in different splits that look the same, as copies in another size, format, quality or brightness do.

    Each picture is compared as 8×8 pixels in three colours, less the mean of each colour. For each one of val and test it gives
    the most similar one of the splits before, if the correlation is at least `least`: saved again as JPEG, scaled or made
    brighter a picture keeps 0.99 or more as a rule; two different ones seldom reach 0.98. Pictures of one colour are left out,
    and equal files, which `find_duplicates` names.

    Every picture is read: 0.2 ms for 64 pixels, 0.7 ms for a JPEG of 500×375, 16 ms for one of 4000×3000, on one core.

    Raises:
        ValueError: if a picture cannot be read.
    """
    pairs: list[tuple[Path, Path]] = []
    seen: list[Path] = []
    known = np.zeros((0, 192), np.float32)
    for part in split.values():
        paths = [path for path, _ in part]
        with ThreadPoolExecutor(cpu_count()) as pool:
            marks = np.array(list(pool.map(small_view, paths)), np.float32).reshape(-1, 192)
        for start in range(0, len(paths) if seen else 0, 1000):
            scores = marks[start : start + 1000] @ known.T
            found = np.flatnonzero(scores.max(1) >= least)
            pairs += [(seen[scores[i].argmax()], paths[start + i]) for i in found]
        seen, known = seen + paths, np.concatenate([known, marks])
    return [(one, other) for one, other in pairs if digest(one) != digest(other)]


def small_view(path: Path) -> np.ndarray:
    """The picture as 192 numbers with mean 0 and length 1; all zeros if it has one colour only."""
    image = read_at_least(path, (64, 64)).resize((8, 8), Image.Resampling.BOX)
    colours = np.asarray(image, np.float32)
    colours -= colours.mean((0, 1))
    return colours.reshape(-1) / np.linalg.norm(colours) if colours.std() > 2 else np.zeros(192, np.float32)
