# %% [markdown]
# # 9. When to use what
#
# Everybody has a rule for which layers to train. Here you find out where each rule holds, and which question decides.
#
# You will be able to
# - read a data-size curve, and say from which size on one method wins;
# - weigh size, target and price before you train;
# - treat a rule of thumb as a hypothesis.
#
# 40 minutes.

# %% tags=["setup"]
import torch

from course_utils import check, evaluate, plots, predict, progress, sweeps, train_one_epoch
from course_utils.experiments import sizes

torch.set_num_threads(1)  # as when the tables were made, so that your runs land on them
CHANCE = 1 / 6

# %% [markdown]
# The weights of this course know 24 kinds of drawn shapes. Below them you see three new tasks, of six classes each:
#
# - `things`: what is it?
# - `spectra`: pictures of sounds. Time runs to the right and pitch upwards. A class is a kind of sound, such as a hum, a
#   hiss or a rising tone.
# - `tints`: shapes again, on grey. The class is the hue.

# %%
rows = sizes.galleries()  # drawn by code, as all pictures of this lesson
plots.galleries(rows, title="One source, three targets: two pictures of each of six classes")

# %% [markdown]
# **Guess first.** On two of these tasks the pretrained weights are worth a lot. On one of them they are in the way: a model
# that starts from random values does better. Which one?

# %%
guess_lost = None  # the pretrained weights are in the way on "things", "spectra" or "tints"

# %% [markdown]
# ## Four curves
#
# Nearly every course has a table like this one:
#
# | pictures of each class | train |
# |---|---|
# | few | the head only |
# | some | the last layers too |
# | many | everything (our addition: the copies end one row above) |
#
# Test all three rows on `things`, the target that looks near. Every run makes 48 updates, as in lesson 6. Rates are chosen
# on val. There are five seeds, and each draws training pictures of its own. All runs together take a core three quarters
# of an hour, so they ship as tables.
#
# **Guess first.** Type accuracies: five numbers for `head` and `layer4 + head`, at 2, 5, 10, 20 and 50 pictures of each
# class. For `all` and `scratch`, which take long, three: at 5, 20 and 50. Chance is 0.17. Your guesses will be dashed.

# %%
guess_curves = {"head": None, "layer4 + head": None, "all": None, "scratch": None}


# %%
def curves(world, stop="48 updates"):
    found = {}
    for row in sizes.read_table(world):
        if row["test"] is not None and row["stop"] == stop:
            scores = found.setdefault(row["configuration"], {})
            scores.setdefault(row["per_class"], []).append(row["test"])
    return found


near = curves("things")
plots.size_curves(near, guess_curves, chance=CHANCE)

# %% [markdown]
# "Few pictures: the head only" is the rule that falls. With 2 of each class the head gets 0.59, and `layer4 + head` 0.68.
# At every size all five seeds agree. The third row holds by a hair: with 5 and 20 of each class nobody can tell `all` from
# `layer4 + head`, and with 50 `all` is ahead, 0.95 to 0.94. `scratch` stays far below.
#
# The first row is not foolish. A head forgives a bad rate: in lesson 6 it lost 6 points at a rate of 0.1, and `all` lost 37.
# Here each configuration has a rate of its own, and then the head is behind.
#
# Do not take the table on trust. The head's column for one seed is yours to run, on cached features:


# %%
def train(world, configuration, per_class, lr, seed=0):
    model, learning = sizes.begin(world, configuration, seed)  # the model, and what of it learns
    data = sizes.loaders(world, per_class, configuration, seed)  # what the frozen part gives
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=lr, momentum=0.9)
    torch.manual_seed(seed)
    train_one_epoch(learning, data["train"], optimizer)  # one pass makes 48 updates
    return model, evaluate(learning, data["test"]).accuracy


# %%
rates = sizes.chosen("things")
for per_class, scores in near["head"].items():
    _, accuracy = train("things", "head", per_class, rates["head", per_class])
    print(f"{per_class:2} of each class: you {accuracy:.3f}, the table {scores[0]:.3f}")

# %% [markdown]
# ### Exercise 9.1: from which size on?
#
# "From 10 pictures on, the second is better." Write `crossing(first, second)`, which finds that size. Both map sizes to
# scores, in any order. Not every size is in both, so ask only at sizes that both have. `first[size][i]` and
# `second[size][i]` come from the same seed. Return the smallest size at which the 95 % interval of the differences
# second − first lies above 0, *there and at every larger size*. If there is none, return `None`.
#
# <details><summary>Hint</summary><code>sweeps.interval(differences)</code> gives both ends. Begin at the largest size.</details>


# %% tags=["exercise"]
# Exercise 09.1
def crossing(first: dict[int, list[float]], second: dict[int, list[float]]):
    """The smallest size from which on `second` is reliably better, or None."""
    # A lead that is lost again at a larger size is no lead.
    ### BEGIN SOLUTION
    earliest = None
    for count in sorted(set(first) & set(second), reverse=True):
        low, high = sweeps.interval([s - f for f, s in zip(first[count], second[count])])
        if low <= 0:
            return earliest
        earliest = count
    return earliest
    ### END SOLUTION


# %% tags=["check"]
check("09.1", crossing)

# %% [markdown] tags=["solution"]
# From the largest size downwards, the first size without a clear lead ends the search. The first size with a higher mean is
# tempting: it reads a crossing off luck.

# %% [markdown]
# Try yours in a cell of its own, on the curves above. `crossing(near["head"], near["layer4 + head"])` gives 2, the smallest
# size there is. `crossing(near["layer4 + head"], near["all"])` gives 50: the hair from above.
#
# ## Two fair questions
#
# Is that fair to the head? It has few parameters, and after 48 updates it may not be finished. "Who wins after equally
# many updates?" is one question. Here is another: "Who wins if each trains until it stops improving?" So both train in
# rounds of 48 updates, until val has not improved for two rounds. The best round counts.
#
# **Guess first.** After 48 updates the lead of `layer4 + head` at 20 of each class was 0.14. What is left of it?

# %%
guess_gap = None  # the lead at 20 of each class if both train until they stop improving


# %%
def gap(one, other):
    return [a - b for a, b in zip(one, other)]


def leads(found):
    head, more = found["head"], found["layer4 + head"]
    return {size: gap(more[size], head[size]) for size in LONG}


patient = curves("things", stop="until it stops")
LONG = list(patient["layer4 + head"])  # sizes at which both were asked
gaps = {"48 updates each": leads(near), "until each stops improving": leads(patient)}
yours = "no guess yet" if guess_gap is None else guess_gap
print(f"your guess: {yours}; measured {sum(leads(patient)[20]) / 5:.2f}")
for name in ("head", "layer4 + head"):
    first, last = (sum(found[name][20]) / 5 for found in (near, patient))
    print(f"{name}, 20 of each class: {first:.2f} after 48 updates, {last:.2f} when it stops")
about = "layer4 + head − head, share of test right (dots: seeds; bars: 95 % interval of the mean)"
plots.two_questions(gaps, size=20, x=about)

# %% [markdown]
# The head does catch up: at 20 of each class it gains 5 points, and `layer4 + head` hardly any. The lead shrinks, and all
# five seeds keep it. So two fair questions have two answers. Lesson 6 asked the first one. Before you quote a
# comparison, say which one it asked.
#
# That is one rule down, and one made more honest. Next: *when* does pretraining pay?
#
# ## Far, twice
#
# "Pretraining helps if your pictures look like those it was made with." Back to your first guess: three targets, the
# same four configurations.

# %%
measured = {world: curves(world) for world in sizes.WORLDS}
strips = {world: rows[world][::3] for world in measured}
print("your guess:", guess_lost or "no guess yet")
plots.targets(measured, strips, size=20, chance=CHANCE)

# %% [markdown]
# No drawn star looks like a hiss. Yet on `spectra`, as on `things`, every pretrained configuration is far ahead of
# `scratch`: the best one by 0.60, and on `things` by 0.48.
#
# `tints` look like home. There `head` and `layer4 + head` stay at chance, whatever the rate. If all layers learn, at 0.3,
# thirty times the rate that `things` wanted, some seeds find the hue again and some only half. `scratch`, at the same price,
# is right on nine of ten.
#
# See it happen. Two runs on `tints`, one seed, 20 of each class:

# %%
images, labels = sizes.drawn("tints", *sizes.drawing("test", seed=0))
hues, some = sizes.WORLDS["tints"].classes, list(range(4, 360, 46))
right, said, rates = {}, [], sizes.chosen("tints")
for name in ("head", "scratch"):
    model, right[name] = train("tints", name, 20, rates[name, 20])
    said += [best for (best,) in predict(model, images[some], classes=hues, k=1)]
truth = [hues[label] for label in labels[some]]
title = f"Above the pretrained model with a new head ({right['head']:.0%} right), below scratch ({right['scratch']:.0%})"
plots.answers(images[some * 2], said, truth * 2, columns=8, title=title)

# %% [markdown]
# The upper row is no bug. Ask the pretrained backbone which pictures are alike:


# %%
def nearest(name):
    places = (sizes.drawing(split, seed=0) for split in ("train", "test"))
    known, new = (sizes.features("tints", name, *place)[0].flatten(1) for place in places)
    return torch.cdist(new, known).topk(5, largest=False).indices.tolist()


known, known_labels = sizes.drawn("tints", *sizes.drawing("train", seed=0))
# Scratch freezes nothing: what it gives are the pictures themselves.
found = {"pixels": nearest("scratch"), "pretrained features": nearest("head")}
named = [
    [(image, hues[label]) for image, label in zip(*pair)]
    for pair in ((images, labels), (known, known_labels))
]
plots.neighbours(*named, found, show=[64, 240])

# %% [markdown]
# Neighbours by pretrained features share the *outline*, and their hue is anything. As many have the right hue as by chance.
#
# Here is why. In the source world every shape came in every colour. To name a star in any colour, a model has to learn
# that colour does not matter. It learnt that well, and it passes it on. Spectra need edges, lines and directions, which
# is what the source was about.
#
# So "how different does my target look?" is the wrong question. Ask: **what has the source learnt to ignore?** Suspect
# whatever its pictures varied at random, or its augmentation did: colour, if they were recoloured; left and right, if they
# were mirrored; size, if they were cropped.
#
# If that surprised you: it surprised us, too, and we had drawn the pictures.
#
# ## The map
#
# Everything on one page: three targets, two sizes, four configurations.

# %%
words = {
    "things": "things: look near",
    "spectra": "spectra: look far",
    "tints": "tints: look near, but the label, the hue, is what the source learnt to ignore",
}
advice = {5: "the head only", 20: "the last layers too"}
plots.decision_map(measured, strips, words, sizes.SECONDS, advice=advice, chance=CHANCE)

# %% [markdown]
# Each field has the colour of the cheapest choice that no other clearly beats; at equal prices the higher bar counts. On
# `spectra` `all` has the higher bar, and five seeds cannot tell. So `all` is no mistake there: it costs more. The usual
# advice, on top, reads 5 as "few" and 20 as "some", which is our reading. It fits two fields of six, both on the right.
#
# "Cheapest" needs prices. One whole run with 20 of each class takes 1 second for `head`, 6 for `layer4 + head` and 16 for
# the two others, on one core, counted as in lesson 6:

# %%
plots.bargains(near, sizes.SECONDS)

# %% [markdown]
# ### Exercise 9.2: recommend
#
# Turn the map into a rule. `recommend` gets what you know *before* any training:
#
# - `per_class`: from 5 to 20 pictures of each class;
# - `looks_far`: the pictures look like nothing in the source;
# - `ignored`: the label is something that the source learnt to ignore (never together with `looks_far`: not measured);
# - `seconds`: what one run may take, at least 1. Prices stand in `sizes.SECONDS`, by name.
#
# Return one of the four names. The check looks up your *regret* in the measured tables: how far is your choice below the
# best one that can be paid for? It tolerates 0.08, as five seeds cannot tell 0.06 on `spectra`.
#
# <details><summary>Hint</summary>Three answers are enough. Which two questions separate them?</details>


# %% tags=["exercise"]
# Exercise 09.2
def recommend(per_class: int, looks_far: bool, ignored: bool, seconds: float) -> str:
    """The configuration to train, such as "head": what you can pay for, and never far below the best."""
    # Not all of the four facts matter.
    ### BEGIN SOLUTION
    if ignored and seconds >= sizes.SECONDS["scratch"]:
        return "scratch"
    if seconds >= sizes.SECONDS["layer4 + head"]:
        return "layer4 + head"
    return "head"
    ### END SOLUTION


# %% tags=["check"]
check("09.2", recommend)

# %% [markdown] tags=["solution"]
# Neither the number of pictures nor the look is asked, and the usual table asks for nothing else. With another source or
# other targets the answers may differ. What stays is the way to them: measure, then compare regrets. Tempting is `all`
# wherever it can be paid for: on `tints` it regrets 0.23.

# %% [markdown]
# ## Five sentences
#
# You will hear all five. Each promises a difference, so each can be measured, in two places. "layer4" is short for
# `layer4 + head`, "gain" its lead over `scratch`. Blue keeps the promise.

# %%
more, hue = (measured[world]["layer4 + head"] for world in ("things", "tints"))
things, spectra, tints = (gap(w["layer4 + head"][20], w["scratch"][20]) for w in measured.values())
plots.sentences(
    {
        "Fine-tuning beats a new head": {
            "things, layer4 − head, 20 each": gap(more[20], near["head"][20]),
            "tints, layer4 − head, 20 each": gap(hue[20], measured["tints"]["head"][20]),
        },
        "Pretraining needs less data": {
            "things, layer4 (5) − scratch (50)": gap(more[5], near["scratch"][50]),
            "tints, layer4 (20) − scratch (5)": gap(hue[20], measured["tints"]["scratch"][5]),
        },
        "Pretraining needs less time": {
            "things, layer4 (6 s) − scratch (16 s)": things,
            "tints, layer4 (6 s) − scratch (16 s)": tints,
        },
        "It helps most where the target looks like the source": {
            "gain on things − gain on spectra": gap(things, spectra),
            "gain on tints − gain on spectra": gap(tints, spectra),
        },
        "Too many layers overfit": {
            f"things, layer4 − all, {n} each": gap(more[n], near["all"][n]) for n in (5, 50)
        },
    }
)

# %% [markdown]
# Three sentences hold in one of the places, and two in none. All five are unfinished: they lack their "where". That goes
# for ours, too. One source, six drawn classes, small pictures: on your data, run the table again.
#
# ### Exercise 9.3: six cards
#
# Decide for each card, and name a measurement that supports you. Some cards have several good answers. A run costs what it
# costs above.
#
# - **A** Leaves of six trees, 20 photos of each kind, an evening on a laptop. Weights from other plants.
# - **B** Spectra of six machine faults, 20 of each. A colleague: "Nothing like photos. Start from scratch!"
# - **C** Is the tomato ripe? Only the hue tells, 50 photos of each class. The weights at hand were made with randomly
#   recoloured photos.
# - **D** Tonight, 400 customers get a model each, 20 near pictures of each class. There are two seconds for each.
# - **E** `layer4 + head` is in production, 20 near pictures of each class. `all` was one point ahead, on one seed.
# - **F** A list of six classes is agreed. The camera arrives next month.
#
# Choices: `"head"`, `"layer4 + head"`, `"all"`, `"scratch"`, `"wait"`. Evidence: `"every size"` (the near curves), `"looks"`
# (spectra), `"ignored"` (tints), `"price"`, `"cannot tell"` (an interval with 0 inside), `"none"`.


# %% tags=["exercise"]
# Exercise 09.3
def decide() -> dict[str, tuple[str, str]]:
    """By card the choice and the evidence, such as {"A": ("all", "price"), …}."""
    ### BEGIN SOLUTION
    return {
        "A": ("layer4 + head", "every size"),
        "B": ("layer4 + head", "looks"),
        "C": ("scratch", "ignored"),
        "D": ("head", "price"),
        "E": ("layer4 + head", "cannot tell"),
        "F": ("wait", "none"),
    }
    ### END SOLUTION


# %% tags=["check"]
check("09.3", decide)

# %% [markdown] tags=["solution"]
# On A and B `all` is a good answer, too: it can be paid for, and five seeds cannot tell it from `layer4 + head`. On C there is
# a better answer in real life than `scratch`: weights that were made without recoloured pictures. F looks like
# a trap, and is one: weights do not replace a test set. Collect the test pictures first.

# %% [markdown]
# ## What you can do now
#
# - Read from which size on a method wins, and say "nowhere" where it is so.
# - Say which question a comparison answers: equal updates, or each at its best.
# - Ask what the source has learnt to ignore, before you ask how far the target looks.
#
# Many pretrained models to choose from? Cache the features of each, train a head on a few pictures, and rank them by val. A
# head at chance is a warning that costs a second.
#
# When to use what? Here: `layer4 + head`, unless the label is something that the source threw away. You did not need a
# rule for that. You needed 24 bars.
#
# ## Going further
#
# - [What should not be contrastive in contrastive learning](https://arxiv.org/abs/2008.05659) meets `tints` in real data: what
#   a model learns to ignore, such as colour, is missing where the task needs it.
# - [Rethinking ImageNet pre-training](https://arxiv.org/abs/1811.08883) trains from scratch until it catches up, with very
#   much more data and time than here.

# %%
progress("09")
