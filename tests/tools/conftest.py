"""Lets the tests of the tools import the checks' answers."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "checks"))
