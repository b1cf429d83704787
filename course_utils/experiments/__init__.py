"""The experiments whose tables the lessons ship, each with the command that makes its table anew."""
