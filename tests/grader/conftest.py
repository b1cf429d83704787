"""Lets the tests of the grader import what stands beside them, and the attacks."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parent.parent / "attacks"))
