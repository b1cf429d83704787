"""The board of a room: learners who agree send their verdicts, the instructor sees on one page where the room is stuck."""
