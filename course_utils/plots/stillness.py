"""What moved and what stood still: tensors as tiles, two tasks over epochs, features as barcodes, frozen layers as blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor, equal, nn

from course_utils.plots.style import COLOURS, axes, described, label_ends, subplots


def stillness(before: Mapping[str, Tensor], model: nn.Module) -> Figure:
    """One tile for each tensor of `model`, above parameters and below buffers; pink if it differs from `before`, else grey."""
    rows = [{name for name, _ in named} for named in (model.named_parameters(), model.named_buffers())]
    after = model.state_dict()
    moved = {name for name in after if not equal(before[name], after[name])}
    figure, ax = axes(width=7, height=1.5)
    figure.suptitle(title_of_stillness(moved, *rows), x=0.01, ha="left", fontsize=11)
    left = 0.0
    for group in dict.fromkeys(name.partition(".")[0] for name in after):
        tiles = [[name for name in after if name in row and name.partition(".")[0] == group] for row in rows]
        width = max(4, *map(len, tiles))
        for height, names in enumerate(tiles):
            for place, name in enumerate(names):
                colour = COLOURS["moved" if name in moved else "still"]
                ax.barh(-height, 0.85, left=left + (width - len(names)) / 2 + place, height=0.8, align="center", color=colour)
        ax.annotate(group, (left + width / 2, -1.85), ha="center", va="center", fontsize=9)
        left += width + 1.5
    ax.set_yticks([0, -1], ["parameters", "buffers"])
    ax.set(xticks=[], xlim=(-0.5, left), ylim=(-2.2, 0.6))
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    return described(figure, f"Of {len(after)} tensors {len(moved)} moved, which are pink; those that stood still are grey.")


def title_of_stillness(moved: set[str], parameters: set[str], buffers: set[str]) -> str:
    groups = sorted({name.partition(".")[0] for name in moved & parameters})
    where = f"Weights moved in {', '.join(groups)} only" if groups else "No weight moved"
    count = len(moved & buffers)
    buffer = "no buffer" if not count else f"all {count} buffers" if moved >= buffers else f"{count} of {len(buffers)} buffers"
    return f"{where}; {buffer} moved"


Scores = Sequence[tuple[int, float, float]]  # an epoch, the old task, the new task


def two_tasks(results: Mapping[str, Scores]) -> Figure:
    """What each run, such as "night, training", scores on the old and on the new task.

    Runs by day are dotted; a run has the colour of its mode. The title compares the two modes at night.

    Raises:
        ValueError: if there is no run.
    """
    if not results:
        raise ValueError("there is no run to draw; give for each name its epochs with two scores")
    figure, (panels,) = subplots(1, 2, size=(6.4, 3), title=title_of_two_tasks(results), sharey=True)
    for task, ax in enumerate(panels, start=1):
        for name, scores in results.items():
            style = ":" if name.startswith("day") else "-"
            epochs, values = [score[0] for score in scores], [score[task] for score in scores]
            ax.plot(epochs, values, style, color=COLOURS[mode_of(name)], marker=".", linewidth=2)
        ax.set(xlabel="epoch", xticks=epochs, ylim=(0, 1.03))
        ax.set_title(("the old task: answers as before", "the new task: named rightly")[task - 1], fontsize=10)
        ax.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("share of pictures")
    label_ends(panels[1], {name: [scores[-1][2]] for name, scores in results.items()})
    return described(
        figure, "Two panels of lines over epochs: dark for evaluation mode, pink for training mode, dotted by day."
    )


def mode_of(name: str) -> str:
    return "training mode" if name.endswith("training") else "evaluation mode"


def title_of_two_tasks(results: Mapping[str, Scores]) -> str:
    ends = {mode_of(name): scores[-1] for name, scores in results.items() if name.startswith("night")}
    if len(ends) < 2:
        return "The old and the new task, epoch by epoch"
    old, new = (ends["training mode"][task] - ends["evaluation mode"][task] for task in (1, 2))
    return f"Same frozen weights: at night training mode moves the old task by {old:+.2f}, the new by {new:+.2f}"


def barcodes(features: Mapping[str, Sequence[Tensor]], *, first: int = 60) -> Figure:
    """Each list of features of one picture as a barcode, two or more below each name; the title says which share differs."""
    shares = {name: np.mean([not equal(a, b) for a, b in zip(*rows[:2], strict=True)]) for name, rows in features.items()}
    count = len(next(iter(features.values()))[0])
    differ = ", ".join(f"{share:.0%} differ in {name}" for name, share in shares.items())
    title = f"One picture, asked twice: of {count:,} features {differ}"
    figure, grid = subplots(len(features), 1, size=(7, 0.75 * len(features) + 0.35), title=title)
    for (ax,), (name, rows) in zip(grid, features.items(), strict=True):
        bars = np.stack([np.asarray(row)[:first] for row in rows])
        ax.imshow(bars, cmap="Greys", aspect="auto", interpolation="nearest", vmin=0)
        ax.axhline(0.5, color="white", linewidth=3)
        ax.set(xticks=[], yticks=range(len(rows)), yticklabels=["first", "second", "third", "fourth"][: len(rows)])
        ax.set_title(name, fontsize=9, loc="left", pad=2, color=COLOURS.get(name, "black"))
        ax.tick_params(length=0, labelsize=8)
        ax.spines[:].set_visible(False)
    return described(figure, f"Rows of {first} grey bars, one for each feature, dark for large ones; two rows for each mode.")


def sandwich(frozen: Mapping[str, bool], *, meant: str) -> Figure:
    """Layers in their order as blocks, frozen ones grey and learning ones pink; the title says which were `meant`."""
    names = [name for name, still in frozen.items() if still]
    figure, ax = axes(width=7, height=1.1)
    figure.suptitle(f"Meant: {meant}. Frozen: {', '.join(names) or 'none'}", x=0.01, ha="left", fontsize=11)
    for place, (name, still) in enumerate(frozen.items()):
        ax.barh(
            0, 0.92, left=place, height=0.8, align="center", color=COLOURS["still" if still else "moved"], edgecolor="#888888"
        )
        ax.annotate(f"{name}\n{'frozen' if still else 'learns'}", (place + 0.46, 0), ha="center", va="center", fontsize=7.5)
    ax.set(xticks=[], yticks=[], xlim=(0, len(frozen)))
    ax.spines[:].set_visible(False)
    return described(figure, f"{len(frozen)} blocks in a row, {len(names)} of them grey, which are frozen.")
