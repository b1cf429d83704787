"""What this machine has, what is missing, what that means for the lessons, and what to do about it.

It also speaks when torch cannot be imported, so nothing of the course that needs torch is imported at the top.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any

from course_utils.profiles import HOME, Settings, cpu_count

WEIGHTS = HOME / "data" / "weights"
TINY = HOME / "data" / "tiny"
LESSONS_WITH = {"resnet18": "lessons 00 to 04 and 06", "vgg16": "lesson 05"}
SET_UP = f"run `python install.py` in {HOME}"
RESTORE = "`git checkout data` brings it back"


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
    findings = [python(), *pins(), *torches(), cores(), memory(), disk(), lessons()]
    tiny = [*our_weights(), tiny_pictures()]
    findings += tiny if run.profile == "tiny" else [eased(one) for one in tiny]
    torch_runs = not any(one.name.startswith("torch") and one.state == "missing" for one in findings)
    return [*findings, *(imagenet(run, name) for name in LESSONS_WITH), pictures_of_full(run)] if torch_runs else findings


def eased(finding: Finding) -> Finding:
    """The same finding for a profile whose lessons run without the thing."""
    return replace(finding, state="optional") if finding.state == "missing" else finding


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


def python() -> Finding:
    return Finding("Python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}")


def pins() -> list[Finding]:
    """Whether the packages are those of `requirements.txt`."""
    lines = (HOME / "requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = dict(line.split("==") for line in lines if "==" in line)
    found = {name: version_of(name) for name in wanted}
    absent = [name for name in wanted if not found[name]]
    other = [f"{name} {found[name]} for {wanted[name]}" for name in wanted if found[name] not in ("", wanted[name])]
    if absent:
        return [Finding("packages", "missing", f"not installed: {', '.join(absent)}", SET_UP)]
    if other:
        return [Finding("packages", "warning", f"other versions than tested: {', '.join(other)}", SET_UP)]
    return [Finding("packages", "ok", f"all {len(wanted)} as in requirements.txt")]


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


def device() -> Finding:
    import torch

    from course_utils.profiles import settings

    kind = settings().device.type
    if kind == "cpu":
        return Finding("device", "ok", "processor; the profile tiny needs no more, the profile full is slow on it")
    return Finding("device", "ok", torch.cuda.get_device_name() if kind == "cuda" else f"accelerator ({kind})")


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
    free = shutil.disk_usage(HOME).free / 1e9
    if free < 1:
        return Finding("disk", "warning", f"{free:.1f} GB free; saving may fail", f"make room on the disk of {HOME}")
    return Finding("disk", "ok", f"{free:.0f} GB free")


# ------------------------------------------------------------------------------------------------ the profile tiny


def lessons() -> Finding:
    names = {path.stem for path in (HOME / "solutions").glob("[0-9][0-9]_*.py")}
    absent = sorted(name for name in names if not (HOME / "notebooks" / f"{name}.ipynb").exists())
    if absent or not names:
        text = f"missing in notebooks: {', '.join(absent)}" if names else "none found"
        return Finding("lessons", "missing", text, "`git checkout notebooks solutions` brings them back")
    return Finding("lessons", "ok", f"{len(names)} in notebooks")


def our_weights() -> list[Finding]:
    """The files in `data/weights`, compared with the SHA-256 of their cards."""
    try:
        cards = json.loads((WEIGHTS / "cards.json").read_text(encoding="utf-8"))
        return [one_of_ours(name, cards.get(name)) for name in LESSONS_WITH]
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        text = f"{WEIGHTS / 'cards.json'} cannot be read, so no lesson can run ({first_line(error)})"
        return [Finding("weights shapes", "missing", text, RESTORE)]


def one_of_ours(name: str, card: dict | None) -> Finding:
    title, means = f"weights {name}, shapes", f"{LESSONS_WITH[name]} cannot run"
    path = WEIGHTS / (card["file"] if card else f"{name}-shapes.safetensors")
    if card is None or not path.exists():
        return Finding(title, "missing", f"{path} is not there: {means}", RESTORE)
    if hashlib.sha256(path.read_bytes()).hexdigest() != card["sha256"]:
        return Finding(title, "missing", f"{path} is damaged, its SHA-256 is not that of the card: {means}", RESTORE)
    return Finding(title, "ok", f"intact, {card['bytes'] / 1e6:.0f} MB")


def tiny_pictures() -> Finding:
    """Whether `data/tiny` has all its pictures and each of them opens."""
    from PIL import Image

    from course_utils.worlds import TINY as PER_CLASS
    from course_utils.worlds import WORLDS

    for split, count in PER_CLASS.items():
        for name in WORLDS["things"].classes:
            files = sorted((TINY / split / name).glob("*.png"))
            if len(files) != count:
                text = f"{TINY / split / name} holds {len(files)} of {count} pictures: no lesson that trains can run"
                return Finding("data tiny", "missing", text, RESTORE)
            for path in files:
                try:
                    with Image.open(path) as picture:
                        picture.load()
                except (OSError, SyntaxError):
                    return Finding("data tiny", "missing", f"{path} is damaged: no lesson that trains can run", RESTORE)
    return Finding("data tiny", "ok", f"intact, {sum(PER_CLASS.values()) * len(WORLDS['things'].classes)} pictures")


# ------------------------------------------------------------------------------------------------ the profile full


def imagenet(run: Settings, name: str) -> Finding:
    """torchvision's ImageNet weights in torch's own folder; the file's name holds the first digits of its SHA-256."""
    from course_utils.weights import download_place, get_weights

    weights: Any = get_weights(name, "imagenet")
    path, title = download_place(weights), f"weights {name}, ImageNet"
    if not path.exists():
        size = f"{weights.meta['_file_size']:.0f} MB"
        return absent(title, size, run, f"fetch {weights.url} elsewhere and copy it to {path}")
    if not hashlib.sha256(path.read_bytes()).hexdigest().startswith(path.stem.rsplit("-", 1)[-1]):
        state = "missing" if run.profile == "full" else "warning"
        return Finding(title, state, f"{path} is damaged", "delete it; the next lesson that needs it downloads it again")
    return Finding(title, "ok", f"intact, {path.stat().st_size / 1e6:.0f} MB")


def absent(title: str, size: str, run: Settings, by_hand: str) -> Finding:
    """A download that is not there: no matter in the profile tiny; in the profile full it depends on the network."""
    if run.profile != "full":
        return Finding(title, "optional", f"not here; only the profile full needs it ({size})")
    if online():
        return Finding(title, "warning", f"not here; the first lesson that needs it downloads {size}")
    return Finding(title, "missing", f"not here, and there is no network to download {size}", by_hand)


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
    from course_utils.data import FULL, NAMED

    folders = {name: FULL / folder for name, (_, _, folder) in NAMED.items()}
    here = [name for name, folder in folders.items() if folder.is_dir()]
    if run.profile != "full":
        text = f"here: {', '.join(here)}" if here else f"none here ({', '.join(NAMED)}); only the profile full needs one"
        return Finding("data full", "ok" if here else "optional", text)
    if run.data in NAMED and run.data not in here:
        by_hand = f"copy it to {folders[run.data]}, or name a folder of class folders in COURSE_DATA"
        return absent(f"data {run.data}", f"about {NAMED[run.data][1]} MB", run, by_hand)
    return read_pictures(run)


def read_pictures(run: Settings) -> Finding:
    from course_utils.data import FULL, NAMED, read_samples

    title = f"data {run.data}"
    try:
        if run.data in NAMED:
            split, classes = NAMED[run.data][0](FULL, False, run.seed)
        else:
            split, classes, _ = read_samples(run)
    except (OSError, ValueError, RuntimeError) as error:
        remedy = f"delete {FULL / NAMED[run.data][2]} and let it be downloaded again" if run.data in NAMED else ""
        return Finding(title, "missing", str(error), remedy)
    return Finding(title, "ok", f"{sum(map(len, split.values())):,} pictures of {len(classes)} classes")
