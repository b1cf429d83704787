"""Lets the tests of the grader import what stands beside them, the attacks, and the checks' answers."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
for folder in ("attacks", "checks"):
    sys.path.append(str(Path(__file__).parent.parent / folder))
