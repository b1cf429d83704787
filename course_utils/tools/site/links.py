"""Links of the repository's pages, turned so that they work on the site."""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path

from course_utils.profiles import HOME
from course_utils.tools.address import BRANCH

LINK = re.compile(r"(\]\()([^)\s#:]+)(#[^)\s]*)?(\))")
FENCE = re.compile(r"^ *(`{3,})")


class Links:
    """Where the files of the repository stand on the site: `pages` maps a path in the repository to a page of the site.

    Files without a page are shown where the repository is published, at `address`.
    """

    def __init__(self, pages: dict[str, str], address: str):
        self.pages, self.address = pages, address

    def rewrite(self, text: str, origin: str, place: str) -> str:
        """The Markdown `text` of the file `origin` of the repository, for the page `place` of the site; code stays as it is."""
        lines, fence = [], ""
        for line in text.split("\n"):
            mark = FENCE.match(line)
            if mark and mark[1].startswith(fence):
                fence = "" if fence else mark[1]
            lines.append(line if fence else LINK.sub(lambda found: self.turned(found, origin, place), line))
        return "\n".join(lines)

    def turned(self, found: re.Match, origin: str, place: str) -> str:
        start, href, anchor, end = found.groups(default="")
        return start + self.target(href, origin, place) + anchor + end

    def target(self, href: str, origin: str, place: str) -> str:
        """Where `href`, written in the file `origin`, leads from the page `place`.

        Raises:
            ValueError: if there is no such file.
        """
        path = posixpath.normpath(posixpath.join(posixpath.dirname(origin), href))
        if path in self.pages:
            return posixpath.relpath(self.pages[path], posixpath.dirname(place) or ".")
        if not (HOME / path).exists():
            raise ValueError(f"{origin} links to {href}, and there is no {path} in the repository; mend the link")
        return f"{self.address}/{'tree' if (HOME / path).is_dir() else 'blob'}/{BRANCH}/{path}"


def write(path: Path, content: str | bytes) -> None:
    """Write a file of the gathered source, and the folders above it."""
    os.makedirs(path.parent, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
