"""Paths on the command line, looked at before anything slow begins and before any folder is made."""

from __future__ import annotations

import os
from pathlib import Path


def must_be_folder(path: str | None, option: str) -> None:
    """Raises `ValueError` unless nothing or a folder was given."""
    if path is not None and not Path(path).is_dir():
        raise ValueError(f"{option} {path} {'is no folder' if Path(path).exists() else 'is not there'}; give a folder")


def can_be_made(path: str | None, option: str, *, folder: bool) -> None:
    """Raises `ValueError` unless a file, or a `folder`, could be written at `path`."""
    if path is None:
        return
    there = target = Path(path).expanduser().absolute()
    if target.exists() and target.is_dir() != folder:
        raise ValueError(f"{option} {path} is a {'file' if folder else 'folder'}; give the name of a new one")
    while not there.exists():
        there = there.parent
    if there != target and not there.is_dir():
        raise ValueError(f"{option} {path} cannot be made: {there} is a file; choose another place")
    if not os.access(there, os.W_OK):
        raise ValueError(f"{option} {path} cannot be written: you may not write {there}; choose another place")
