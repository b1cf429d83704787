"""Grading other people's notebooks: their code produces evidence in a sandbox, a process that never runs it decides."""
