"""The workshop: the command `course`, and what builds, checks and measures the course. Nothing in the library imports it."""
