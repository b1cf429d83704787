"""What this machine has, what is missing, what that means for the lessons, and what to do about it.

Weights and pictures are opened as a lesson opens them, and what the loaders say is what is shown. It also speaks when torch
cannot be imported, so nothing of the course that needs torch is imported at the top.
"""

from __future__ import annotations

import platform
import shutil
import sys
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any

from course_utils.profiles import HOME, INSTALLED, PROFILES, WORK, Settings, cpu_count, restored

LESSONS_WITH = {"resnet18": "all lessons but 05", "vgg16": "lesson 05"}
SET_UP = "install the course again, with pip" if INSTALLED else f"run `python install.py` in {HOME}"
RESTORE = restored("data")


@dataclass(frozen=True)
class Finding:
    """One thing looked at. The states: "ok"; "optional", not here and not needed now; "warning", lessons run all the
    same; "missing", a lesson of the active profile cannot run."""

    name: str
    state: str
    text: str
    remedy: str = ""


def examine(run: Settings) -> list[Finding]:
    """All findings about this machine for `run`, the settings of the active profile."""
    findings = [python(), *pins(), *torches(), cores(), memory(), disk(), *([] if INSTALLED else [lessons()])]
    if any(one.name.startswith(("packages", "torch")) and one.state == "missing" for one in findings):
        return findings  # no loader runs without them
    tiny = [*(our_weights(name) for name in LESSONS_WITH), tiny_pictures()]
    if run.profile != "tiny":  # its lessons run without these
        tiny = [replace(one, state="optional") if one.state == "missing" else one for one in tiny]
    return [*findings, *tiny, *(imagenet(run, name) for name in LESSONS_WITH), pictures_of_full(run)]


def report(findings: list[Finding], profile: str) -> str:
    """The findings for a person: one line each, the remedy below, the conclusion last."""
    marks = {"ok": "✓", "optional": "·", "warning": "!", "missing": "✗"}
    width = max(len(one.name) for one in findings)
    lines = []
    for one in findings:
        lines.append(f"{marks[one.state]} {one.name:<{width}}  {one.text}")
        if one.remedy:
            lines.append(f"  {'':<{width}}  → {one.remedy}")
    stops = [one.name for one in findings if one.state == "missing"]
    end = f"Not every lesson of the profile {profile} can run: see {', '.join(stops)}." if stops else ""
    return "\n".join([*lines, end or f"The lessons of the profile {profile} can run on this machine."])


# ---------------------------------------------------------------------------------------------------- the programs


OLDEST, NEWEST = (3, 11), (3, 14)  # install.py has the same


def python() -> Finding:
    text = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        return Finding("Python", "warning", f"{text}; the course is tested with 3.11 to 3.14", f"take one of them and {SET_UP}")
    return Finding("Python", "ok", text)


def pins() -> list[Finding]:
    """Whether the packages are those of `requirements.txt`, what learners need; without a repository, in its ranges."""
    if INSTALLED:
        return [ranges()]
    lines = (HOME / "requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = dict(line.split("==") for line in lines if "==" in line)
    found = {name: version_of(name).split("+")[0] for name in wanted}  # without CUDA torch is 2.15.0+cpu
    absent = [name for name in wanted if not found[name]]
    other = [f"{name} {found[name]} for {wanted[name]}" for name in wanted if found[name] not in ("", wanted[name])]
    if absent:
        return [Finding("packages", "missing", f"not installed: {', '.join(absent)}", SET_UP)]
    if other:
        return [Finding("packages", "warning", f"other versions than tested: {', '.join(other)}", SET_UP)]
    return [Finding("packages", "ok", f"all {len(wanted)} as in requirements.txt")]


def ranges() -> Finding:
    """Whether the packages that the host chose are in the ranges of the installed course."""
    from packaging.requirements import Requirement

    wanted = [Requirement(text) for text in metadata.requires("fine-tuning-course") or [] if "extra ==" not in text]
    found = {one.name: version_of(one.name) for one in wanted}
    other = [
        f"{one.name} {found[one.name]} (asked for: {one.specifier})" if found[one.name] else f"no {one.name}"
        for one in wanted
        if not found[one.name] or not one.specifier.contains(found[one.name], prereleases=True)
    ]
    if other:
        return Finding("packages", "warning", f"not what the course asks for: {', '.join(other)}", SET_UP)
    return Finding("packages", "ok", f"all {len(wanted)} are of versions that the course runs with")


def version_of(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def torches() -> Iterator[Finding]:
    """torch, torchvision and the device; only the first that cannot be imported, for the others hang on it."""
    try:
        import torch
    except Exception as error:
        yield Finding("torch", "missing", f"cannot be imported, so no lesson can run ({first_line(error)})", SET_UP)
        return
    yield Finding("torch", "ok", torch.__version__)
    try:
        from torchvision import __version__
        from torchvision.ops import nms

        nms(torch.zeros(1, 4), torch.zeros(1), 0.5)  # compiled against one torch: another one does not know it
    except Exception as error:
        text = f"{version_of('torchvision') or 'none'} does not match torch {torch.__version__}, so no lesson can run"
        yield Finding("torchvision", "missing", f"{text} ({first_line(error)})", SET_UP)
        return
    yield Finding("torchvision", "ok", f"{__version__}, matches torch")
    yield device()
    yield precision()


def device() -> Finding:
    import torch

    from course_utils.profiles import settings

    kind = settings().device.type
    if kind == "cpu":
        return Finding("device", "ok", "processor; the profile tiny needs no more, the profile full is slow on it")
    return Finding("device", "ok", torch.cuda.get_device_name() if kind == "cuda" else f"accelerator ({kind})")


def precision() -> Finding:
    from course_utils.devices import has_bfloat16
    from course_utils.profiles import settings

    if has_bfloat16(settings().device):
        return Finding(
            "precision", "ok", "mixed_precision takes bfloat16 here, and large layers train faster; lessons stay in float32"
        )
    return Finding("precision", "ok", "mixed_precision stays in float32 here, as bfloat16 would not be faster")


def first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error) or 'no message').splitlines()[0]}"


# ---------------------------------------------------------------------------------------------------- the machine


def cores() -> Finding:
    count = cpu_count()
    if count < 2:
        return Finding("cores", "warning", "1; a lesson may take twice the minutes that it names")
    return Finding("cores", "ok", str(count))


def memory() -> Finding:
    try:
        import psutil
    except ImportError:
        return Finding("memory", "warning", "unknown, psutil cannot be imported", SET_UP)
    free, total = (getattr(psutil.virtual_memory(), name) / 1e9 for name in ("available", "total"))
    text = f"{free:.1f} GB free of {total:.1f} GB"
    if free < 2:
        return Finding("memory", "warning", f"{text}; one lesson takes up to 1.5 GB", "close other programs and notebooks")
    return Finding("memory", "ok", text)


def disk() -> Finding:
    free = shutil.disk_usage(WORK if WORK.exists() else HOME).free / 1e9
    if free < 1:
        return Finding("disk", "warning", f"{free:.1f} GB free; saving may fail", f"make room on the disk of {WORK}")
    return Finding("disk", "ok", f"{free:.0f} GB free")


# ------------------------------------------------------------------------------------------------ the profile tiny


def lessons() -> Finding:
    names = {path.stem for path in (HOME / "solutions").glob("[0-9][0-9]_*.py")}
    absent = sorted(name for name in names if not (HOME / "notebooks" / f"{name}.ipynb").exists())
    if absent or not names:
        text = f"missing in notebooks: {', '.join(absent)}" if names else "none found"
        return Finding("lessons", "missing", text, "`git checkout notebooks solutions` brings them back")
    return Finding("lessons", "ok", f"{len(names)} in notebooks")


def opened(title: str, load: Callable[[], str | Finding], means: str = "") -> Finding:
    """What `load` finds, or the words of its error; of what comes with the course `means` says what cannot run without it."""
    try:
        found = load()
        return Finding(title, "ok", found) if isinstance(found, str) else found
    except Exception as error:  # a damaged file may raise anything
        words = str(error) if isinstance(error, (OSError, ValueError)) else ""
        text, _, remedy = (words if "; " in words else f"cannot be opened ({first_line(error)})").partition("; ")
        return Finding(title, "missing", f"{text}: {means}" if means else text, RESTORE if means else remedy)


def our_weights(name: str) -> Finding:
    from course_utils.weights import get_weights

    def load() -> str:
        weights: Any = get_weights(name, "shapes")
        weights.get_state_dict()
        return f"intact, {weights.meta['bytes'] / 1e6:.0f} MB"

    return opened(f"weights {name}, shapes", load, f"{LESSONS_WITH[name]} cannot run")


def tiny_pictures() -> Finding:
    from course_utils.data import read_samples
    from course_utils.images import read_picture
    from course_utils.worlds import TINY, WORLDS

    def load() -> str:
        split, _, _ = read_samples(PROFILES["tiny"])
        found = len([read_picture(path) for part in split.values() for path, _ in part])
        wanted = sum(TINY.values()) * len(WORLDS["things"].classes)
        if found != wanted:
            raise ValueError(f"{found} of {wanted} pictures are there; {RESTORE}")
        return f"intact, {found} pictures"

    return opened("data tiny", load, "no lesson that trains can run")


# ------------------------------------------------------------------------------------------------ the profile full


def imagenet(run: Settings, name: str) -> Finding:
    """torchvision's ImageNet weights in torch's own folder."""
    from course_utils.weights import download_place, get_weights, read_imagenet

    weights: Any = get_weights(name, "imagenet")
    path, title = download_place(weights), f"weights {name}, ImageNet"
    if not path.exists():
        size = f"{weights.meta['_file_size']:.0f} MB"
        return absent(title, size, run, f"fetch {weights.url} elsewhere and copy it to {path}")

    def load() -> str:
        read_imagenet(weights)
        return f"intact, {path.stat().st_size / 1e6:.0f} MB"

    found = opened(title, load)
    return replace(found, state="warning") if found.state == "missing" and run.profile != "full" else found


def absent(title: str, size: str, run: Settings, by_hand: str) -> Finding:
    """A download that is not there: no matter in the profile tiny; in the profile full one has to be online."""
    if run.profile != "full":
        return Finding(title, "optional", f"not here; only the profile full needs it ({size})")
    if online():
        return Finding(title, "warning", f"not here; the first lesson that needs it downloads {size}")
    return Finding(title, "missing", f"not here, and this machine is offline; it has to download {size}", by_hand)


def online() -> bool:
    """Whether downloads work now, through a proxy too if one is set."""
    try:
        with urllib.request.urlopen(urllib.request.Request("https://download.pytorch.org", method="HEAD"), timeout=5):
            return True
    except urllib.error.HTTPError:
        return True  # somebody answered
    except OSError:
        return False


def pictures_of_full(run: Settings) -> Finding:
    """The data set that the profile full would read, or, in the profile tiny, which of the named ones are here."""
    from course_utils.data import NAMED, or_by_hand, pictures_here

    if run.profile == "full":
        if run.data in NAMED and pictures_here(run.data) is None:
            return absent(f"data {run.data}", f"about {NAMED[run.data].megabytes} MB", run, or_by_hand(NAMED[run.data]))
        return opened(f"data {run.data}", lambda: read_pictures(run))
    here = {name: found for name in NAMED if (found := pictures_here(name)) is not None}
    words = [name if n == NAMED[name].pictures else f"{name} ({n:,} of {NAMED[name].pictures:,})" for name, n in here.items()]
    text = f"here: {', '.join(words)}" if here else f"none here ({', '.join(NAMED)}); only the profile full needs one"
    whole = any(found == NAMED[name].pictures for name, found in here.items())
    return Finding("data full", "ok" if whole else "optional", text)


def read_pictures(run: Settings) -> Finding:
    """How many pictures there are, and which of them lie, or nearly so, in two splits or two classes."""
    from course_utils.data import read_samples
    from course_utils.folders import find_duplicates, left_out_in_words, near_duplicates

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        split, classes, left_out = read_samples(run, download=False)
    notes = [*(str(one.message) for one in said), *find_duplicates(split)]
    notes += [f"{one} and {other} look alike and lie in two splits" for one, other in near_duplicates(split)]
    out = left_out_in_words(left_out)
    text = f"{sum(map(len, split.values())):,} pictures of {len(classes)} classes{', ' * bool(out)}{out}"
    if not notes:
        return Finding(f"data {run.data}", "ok", text)
    remedy = "`find_duplicates` and `near_duplicates` in course_utils/data.py name all; keep each picture in one place"
    return Finding(f"data {run.data}", "warning", f"{text}; {len(notes)} to look at: {'; '.join(notes[:3])}", remedy)
