# 24. Escapes that would colour, link, or write to the clipboard of the instructor's terminal, and letters that turn lines.
# expect 03.3 error

# %% 03.3
print("\x1b[2J\x1b]8;;http://example.org\x07link\x1b]8;;\x07 \x1b]52;c;aGVsbG8=\x07 \u202egnorw [bold]x[/bold]")


def what_moves(gradient, train_mode, in_optimizer):
    raise ValueError("\x1b[31m\x1b]0;passed\x07\u2066 100 points")
