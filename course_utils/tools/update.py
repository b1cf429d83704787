"""`course update`: new lessons come in, what a learner did stays. Nothing is deleted, and an interruption loses nothing:
each step first writes what it keeps, then replaces; the same command goes on from there.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from datetime import date
from pathlib import Path

from course_utils.files import write_atomic
from course_utils.profiles import HOME
from course_utils.tools import lessons
from course_utils.tools.copies import (
    as_shipped,
    copies,
    is_untouched,
    make_copies,
    older,
    parse,
    read_copy,
    read_lesson,
    replace_keeping_time,
    with_marks,
    write,
)
from course_utils.tools.renewal import renew

NO_GIT = """This folder is no git clone, so it cannot fetch a newer course. To bring your work along: download the newer course,
copy the folder my/ (and .course/, your verdicts) from here into it, and call `course update` there."""


OPEN = """A lesson that is open in JupyterLab shows its old edition: File, Reload Notebook from Disk. If you typed something
there since you last saved, save instead, choose Overwrite, and call `course update` again: that comes along, too."""


def update(options: argparse.Namespace) -> int:
    if options.only_my:
        renew_all()
        return 0
    if not is_clone():
        print(NO_GIT)
        renew_all()
        return 0
    before = git("rev-parse", "HEAD")
    newer = fetch()
    rescue()
    if newer == before:
        print("this is the newest edition")
    else:
        forward(newer)
    install()
    return subprocess.call([sys.executable, "-m", "course_utils.tools.cli", "update", "--only-my"], cwd=HOME)  # the new code


# --------------------------------------------------------------------------------------------------------------- git


class GitError(ValueError):
    """What git said, without its advice."""


def git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(HOME), *arguments], capture_output=True, text=True, encoding="utf-8", errors="replace"
    )
    if done.returncode:
        raise GitError(cause(done.stderr))
    return done.stdout.rstrip("\n")


def cause(said: str) -> str:
    """Why git failed: what it said up to the first empty line, below which it guesses, in one line."""
    lines = [line.strip() for line in said.strip().split("\n\n")[0].splitlines()]
    lines = [line for line in lines if line and line != "Aborting" and not line.startswith(("hint:", "warning:"))]
    return " ".join(lines).rstrip(".") or "git said nothing"


def is_clone() -> bool:
    """Whether the course is a clone of its own, not a folder inside another repository."""
    try:
        return Path(git("rev-parse", "--show-toplevel")).resolve() == HOME.resolve()
    except (GitError, OSError):
        return False


def fetch() -> str:
    """The newest commit of the branch that this one follows, fetched.

    Raises:
        ValueError: if there is none, it cannot be reached, or it cannot be merged without a decision. Nothing has changed then.
    """
    if own := changed_elsewhere():
        raise ValueError(
            f"you changed {', '.join(own)}; keep that with `git commit` or put it aside with `git stash`, then update again. "
            "Nothing was changed"
        )
    try:
        git("rev-parse", "--abbrev-ref", "@{upstream}")
    except GitError:
        raise ValueError("this branch follows no other one, so there is nothing to fetch; `git switch main` first") from None
    try:
        git("fetch", "--quiet")
    except GitError as error:
        raise ValueError(
            f"the newer course cannot be fetched ({error}); go online and try again. Nothing was changed"
        ) from None
    newer, mine = git("rev-parse", "@{upstream}"), git("rev-parse", "HEAD")
    if git("merge-base", newer, mine) == newer:
        return mine  # perhaps with commits of one's own
    if git("merge-base", newer, mine) != mine:
        raise ValueError(
            "you have commits of your own here, and the course has newer ones; `git pull --rebase` puts yours on top, then "
            "update again. Nothing was changed"
        )
    return newer


def changed(*under: str) -> list[str]:
    """Tracked files that differ from the last commit; new files of the learner's own are none."""
    return [name for name in git("diff", "--name-only", "-z", "HEAD", "--", *under).split("\0") if name]


def is_rescued(name: str) -> bool:
    return name.endswith(".ipynb") and name.startswith(("notebooks/", "solutions/"))


def changed_elsewhere() -> list[str]:
    return [name for name in changed() if not is_rescued(name)]


def rescue() -> None:
    """Bring what was saved in notebooks/ and solutions/ into my/, and restore those files."""
    for name in filter(is_rescued, changed()):
        path = HOME / name
        if path.exists():
            print(f"{name}: {rescued(path)}", flush=True)
        git("checkout", "--quiet", "HEAD", "--", name)


def rescued(path: Path) -> str:
    """Keep what was saved in the lesson at `path`: as the learner's copy, or beside it if there is one; says where."""
    target, blob = lessons.MY / path.name, path.read_bytes()
    mine = read_copy(target)
    try:
        work = parse(blob)
    except ValueError:
        work = None
    if work and mine and work["cells"] == mine["cells"]:
        return f"your changes are in {shown(target)} already"
    if work is None or path.parent != lessons.NOTEBOOKS or (target.exists() and not (mine and is_untouched(mine))):
        return f"your changes are kept in {shown(keep(target, blob, path.parent.name))}"
    lessons.MY.mkdir(exist_ok=True)
    shipped = as_shipped(path)
    write(with_marks(work, shipped) if shipped else work, target)
    return f"your changes are now in {shown(target)}"


def forward(newer: str) -> None:
    try:
        git("merge", "--quiet", "--ff-only", newer)
    except GitError as error:
        raise ValueError(
            f"the newer course cannot be put in place ({error}); put that right, then update again; what you did is in my/"
        ) from None
    print(f"updated to the edition of {git('show', '--no-patch', '--format=%cs', newer)}", flush=True)


def install() -> None:
    """Bring the packages up to date, if this Python is the one that the set-up made; it takes a moment if they are."""
    if Path(sys.prefix).resolve() == (HOME / ".venv").resolve():
        if subprocess.call([sys.executable, str(HOME / "install.py")], cwd=HOME):
            raise ValueError("the packages could not be brought up to date; the same command tries again")
    else:
        print("this Python was not set up by install.py; after an update: `pip install -r requirements.txt`")


# --------------------------------------------------------------------------------------------------------------- my/


def renew_all() -> None:
    """Renew every copy of another edition, and copy lessons that are new; a line for each."""
    old = older()
    for lesson in old:
        print(f"{lesson}: {renewed(lessons.MY / f'{lesson}.ipynb')}", flush=True)
    if old:
        print(OPEN)
    shipped = {path.name for path in lessons.NOTEBOOKS.glob("*.ipynb")}
    for path in copies():
        if path.name not in shipped:
            print(f"{path.stem}: no lesson of this edition; your copy stays as it is")
    for lesson in make_copies():
        print(f"{lesson}: copied into my/")


def renewed(path: Path) -> str:
    """Make the copy at `path` anew from this edition with what the learner did; says what was kept and where the rest is."""
    blob, new = path.read_bytes(), read_lesson(lessons.NOTEBOOKS / path.name)
    try:
        old = parse(blob)
        result = renew(old, new)
    except ValueError as error:
        where = keep(path, blob)
        replace_keeping_time(with_marks(new, new), path)
        return f"your copy could not be read ({error}); it is kept in {shown(where)}; a fresh one stands in its place"
    if is_untouched(old):
        replace_keeping_time(result.notebook, path)
        return "renewed; you had changed nothing"
    where = keep(path, blob)
    replace_keeping_time(result.notebook, path)
    return f"renewed; {result}; your old copy: {shown(where)}"


def keep(path: Path, blob: bytes, origin: str = "") -> Path:
    """Keep an old copy in my/earlier/, under the day; one that is there already is not kept twice."""
    folder, label = lessons.MY / "earlier", f"{origin}, {date.today()}" if origin else str(date.today())
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, 10_000):
        place = folder / f"{path.stem} ({label}{f', {number}' if number > 1 else ''}).ipynb"
        if not place.exists():
            return write_atomic(place, blob)
        if place.read_bytes() == blob:
            return place
    raise ValueError(f"{folder} is full of copies of {path.stem}; move some elsewhere")


def shown(path: Path) -> str:
    return path.relative_to(lessons.MY.parent).as_posix()
