"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path


def write_atomic(path: str | os.PathLike, content: bytes | str, *, mode: int = 0o666) -> Path:
    """Write the whole file or nothing: an older file of that name stays until the new one is complete, on the disk too.

    Args:
        mode: permissions of the file, less those that the process masks: 0o600 is for its owner only.

    Raises:
        OSError: if the folder may not be written or the disk is full; nothing is left behind then.
    """
    path = Path(path)
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    data = content.encode("utf-8") if isinstance(content, str) else content
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), mode), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    return path
