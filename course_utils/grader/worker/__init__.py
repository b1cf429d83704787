"""The process that forks boxes, what runs inside them, and the frames between them and the grader."""
