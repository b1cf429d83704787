# %% [markdown]
# # 6. Exercise: which layers should learn?
#
# Ask five people which layers to fine-tune, and you get five answers, each with an experiment behind it. Here you run the
# experiment so that it deserves its answer.
#
# You will be able to
# - set up any freezing configuration, stage by stage;
# - compare configurations so that nobody can call it luck;
# - say "not distinguishable" when that is what you measured.
#
# 55 minutes.

# %% tags=["setup"]
from statistics import mean

import torch
from torch import nn

from course_utils import check, evaluate, freeze, open_data, plots, precompute, predict, progress
from course_utils import settings, split_frozen, sweeps, train_mode, train_one_epoch, unfreeze
from course_utils.experiments import freezing
from course_utils.experiments.channels import all_of, channels, detector

run = settings()
classes = open_data(run).classes
loaders = freezing.open_splits(run, per_class=20)  # "train", "val" and "test"

# %% [markdown]
# Two contestants: train a new head on a frozen backbone, or train everything. Both start from the same pretrained
# ResNet-18 and see the same 120 pictures. We let them meet twelve times. Each run is one row of a table: here are five rows,
# then the twelve meetings.

# %%
table = [row for row in freezing.read_table(run.data) if row["per_class"] == 20]
for row in table:
    if row["configuration"] == "layer4 + head" and row["lr"] == 0.03:
        print({key: row[key] for key in ("configuration", "lr", "seed", "val", "test")})
plots.duels(table, "head", "all")

# %% [markdown]
# `all` wins eight times and `head` four. Each tile alone would have made a convincing paragraph. Nobody has to
# cheat for that. You pick a rate, you run it once, and you report what you saw.
#
# ## Five configurations
#
# The backbone of a ResNet-18 has five *stages*: the stem (`conv1` with its batch norm) and `layer1` to `layer4`. Early
# stages find edges and textures, which most pictures have. Late ones find what the old task needed. So people freeze from
# the picture's side on.

# %%
title = "Five configurations, and the share of the parameters that learns in each"
plots.networks(freezing.boxes(run, len(classes)), title=title)

# %% [markdown]
# One stage of five, `layer4`, holds three quarters of the parameters. `scratch` has the same architecture, so only the
# pretraining is missing.
#
# ### Exercise 6.1: set up a configuration
#
# Write `configure(model, frozen, lr)`. It freezes the first `frozen` stages, from the stem on. All later stages and the head
# learn. It returns an SGD optimizer with momentum 0.9 for what learns, and for nothing else. With `frozen=0` everything
# learns, with `frozen=5` only the head does.
#
# The model may come from an earlier experiment, so parts of it may be frozen already, and in any mode. The check trains two
# steps in the modes that you leave, and looks at what moved, and how far.
#
# <details><summary>Hint 1</summary>Let everything learn first. Then freeze stage by stage. The optimizer comes last.</details>
# <details><summary>Hint 2</summary>Frozen means no gradients <em>and</em> no new statistics: <code>freeze</code> does both. <code>train_mode(model)</code> puts what learns into training mode and leaves the rest alone.</details>


# %% tags=["exercise"]
# Exercise 06.1
STAGES = [("conv1", "bn1"), ("layer1",), ("layer2",), ("layer3",), ("layer4",)]


def configure(model: nn.Module, frozen: int, lr: float) -> torch.optim.Optimizer:
    """Freeze the first `frozen` of five stages; return an optimizer for all that learns."""
    # 1. what learns, 2. in which mode is it, 3. what does the optimizer get?
    ### BEGIN SOLUTION
    unfreeze(model)
    for stage in STAGES[:frozen]:
        for part in stage:
            freeze(model.get_submodule(part))
    train_mode(model)
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=lr, momentum=0.9)
    ### END SOLUTION


# %% tags=["check"]
check("06.1", configure)

# %% [markdown] tags=["solution"]
# The order matters: unfreeze, freeze, then build the optimizer, which gets what learns and nothing else. A common bug: one
# line freezes a part, and the next, which lacks an `else`, unfreezes everything. An optimizer that is built first never
# hears of a stage that you unfreeze later.

# %% [markdown]
# ## A fair protocol
#
# Four rules, and the tile that each of them would have prevented.
#
# 1. *Same pictures, same number of updates.* With more updates a winner may only have trained longer. Here every run
#    makes 48 updates with batches of 32.
# 2. *A rate of its own for each*, all from one list, chosen by the mean on val. One rate for both wrote the whole column at
#    0.1. If the best rate is the first or the last that you tried, try one more on that side.
# 3. *Several seeds, the same for all.* At 0.03 a single seed made `head` the winner of the bottom tile.
# 4. *Test once*, at the chosen rates. Five seeds were planned from the start: three for every rate, all five at the
#    chosen one.
#
# There is no magic in a sweep:


# %%
def sweep(start, train, val, rates, seeds):
    rows = []
    for lr in rates:
        for seed in seeds:
            model = start(seed)  # a fresh one for each run
            optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
            torch.manual_seed(seed)  # the order of the pictures
            train_one_epoch(model, train, optimizer)  # one pass makes all 48 updates
            rows.append({"lr": lr, "seed": seed, "val": evaluate(model, val).accuracy})
    return rows


# %% [markdown]
# What is frozen needs to see each picture only once. So cut the model where learning begins, and train on cached features,
# as in lesson 5.


# %%
def learning(name, seed):
    return split_frozen(freezing.start(name, run, len(classes), seed)).learning


def cached(name, split):
    frozen, _ = split_frozen(freezing.start(name, run, len(classes), seed=0))
    return precompute(frozen, loaders[split], cache=None)


# %%
head_train, head_val = cached("head", "train"), cached("head", "val")
live = sweep(
    lambda seed: learning("head", seed), head_train, head_val, freezing.RATES, freezing.SEEDS
)
known = {(row["lr"], row["seed"]): row["val"] for row in table if row["configuration"] == "head"}
apart = max(abs(row["val"] - known[row["lr"], row["seed"]]) for row in live)
print(f"{len(live)} runs of `head`; the furthest from the shipped table by {apart:.3f}")

# %% [markdown]
# Twelve runs, and they land where the table has them. Its rows were made by the same protocol with whole
# models and without any cache. The other configurations take longer, so you read theirs from the table.
#
# **Guess first.** `head` is best at 0.03. Let more and more stages learn: where does the best rate go?

# %%
guess = None  # with more stages that learn the best rate goes "up", "down" or "nowhere"

# %%
chosen = freezing.best_rates(table)
print(
    f"your guess: {guess or 'no guess yet'}; measured:",
    *(f"{name} {lr:g}" for name, lr in chosen.items()),
    sep="\n  ",
)
plots.hills(table, chosen)

# %% [markdown]
# Here down, from 0.03 to 0.01. At 0.1 `head` is 6 points below its best, and `all` is 37 below. That is no law: with 5
# pictures of each class, `head` is best at 0.01 and `all` at 0.03. So each configuration needs a search of its own.
#
# ### Exercise 6.2: referee
#
# Write `referee(rows, rates)`. Each row is one run, with the keys `configuration`, `lr`, `seed`, `updates`, `val`, and
# `test`, which is `None` where nobody has looked. `rates` is the list that all have to try. Return `"fair"`, or the first
# of these rules that the table breaks:
#
# - `"updates"`: all runs made the same number of updates;
# - `"seeds"`: all configurations have the same seeds, counted over all of their rates;
# - `"rates"`: each configuration was tried at every rate of the list (more are allowed);
# - `"edge"`: a chosen rate is neither the first nor the last that its configuration tried;
# - `"test"`: the test pictures were seen at chosen rates only.
#
# <details><summary>Hint</summary>One expression for each rule, and the rows stay as they are. Sets forget order and repetition: compare sets.</details>


# %% tags=["exercise"]
# Exercise 06.2
def referee(rows: list[dict], rates: list[float]) -> str:
    """`"fair"`, or the first rule that this table of runs breaks."""
    best = freezing.best_rates(rows)  # by configuration the chosen rate, from the means on val
    runs = {name: [row for row in rows if row["configuration"] == name] for name in best}
    tried = {name: sorted({row["lr"] for row in mine}) for name, mine in runs.items()}
    ### BEGIN SOLUTION
    faults = {
        "updates": len({row["updates"] for row in rows}) > 1,
        "seeds": len({frozenset(row["seed"] for row in mine) for mine in runs.values()}) > 1,
        "rates": any(not set(rates) <= set(mine) for mine in tried.values()),
        "edge": any(best[name] in (mine[0], mine[-1]) for name, mine in tried.items()),
        "test": any(r["test"] is not None and r["lr"] != best[r["configuration"]] for r in rows),
    }
    return next((name for name, found in faults.items() if found), "fair")
    ### END SOLUTION


# %% tags=["check"]
check("06.2", referee)

# %% [markdown] tags=["solution"]
# `best` comes from means. The best single run speaks for a lucky seed: in a table of four rates and three seeds you would
# pick the luckiest of twelve. Paste this function under your next sweep: it may save a retraction.

# %% [markdown]
# Now referee the real table. Every run of it made 48 updates. Paste this into a cell of your own:
# `referee([row | {"updates": 48} for row in table], freezing.RATES)`.
#
# ## Is the difference real?
#
# All rates are chosen, so the test pictures may leave their box. Here are the first three of the five planned seeds:

# %%
tested = {name: [] for name in chosen}
for row in table:
    if row["test"] is not None:
        tested[row["configuration"]].append(row["test"])
first_three = {name: scores[:3] for name, scores in tested.items() if name != "scratch"}
title = "Four pretrained configurations: how many really differ? (3 seeds)"
plots.dots(
    first_three, title=title, x="share of test pictures right (the axis does not begin at 0)"
)

# %% [markdown]
# **Guess first.** For each pair: is the first one better, also with other seeds? Write "yes", "no" or "cannot tell".

# %%
guesses = {
    "layer4 + head − head": None,
    "layer3–4 + head − layer4 + head": None,
    "all − layer4 + head": None,
}

# %% [markdown]
# A seed decides how the new head starts and in which order the pictures come. The same seed gave every pretrained
# configuration the same head and the same order. So compare seed by seed: three seeds give three differences.
#
# Their mean is your best estimate. Their *standard deviation* says how much they scatter. Divided by the square root of
# their number it becomes the *standard error*: how far the mean itself may be off. The *95 % interval* reaches a factor
# times the standard error to both sides of the mean. The factor is 4.30 for three values, 2.78 for five, and about 2 for
# many. Few values leave the scatter itself uncertain, so their interval is wider.
#
# If 0 lies inside the interval, you have *not* shown that the two are equal. You have shown that you cannot tell.
#
# ### Exercise 6.3: better, worse, or not distinguishable
#
# Write `compare(a, b)`. Both are lists of accuracies, and `a[i]` and `b[i]` come from the same seed. Return `"better"` if
# the 95 % interval for the mean of the differences a − b lies above 0, `"worse"` if it lies below, else
# `"not distinguishable"`. The check draws many such pairs: most differ by chance alone, others have a true gap.
#
# <details><summary>Hint</summary><code>torch.tensor(values).std()</code> and <code>statistics.stdev(values)</code> both give the standard deviation.</details>


# %% tags=["exercise"]
# Exercise 06.3
FACTORS = {3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57}  # standard errors to each side, by number of seeds


def compare(a: list[float], b: list[float]) -> str:
    """Is the first configuration better or worse than the second, or can you not tell?"""
    # The differences, their mean, their standard error, half the interval.
    ### BEGIN SOLUTION
    differences = torch.tensor(a) - torch.tensor(b)
    half = FACTORS[len(a)] * differences.std() / len(a) ** 0.5
    if differences.mean() > half:
        return "better"
    if differences.mean() < -half:
        return "worse"
    return "not distinguishable"
    ### END SOLUTION


# %% tags=["check"]
check("06.3", compare)

# %% [markdown] tags=["solution"]
# Comparing the means names a winner in every pair, also where chance alone made the difference. Taking 1.96 standard
# errors, the factor for many values, still names one in about every fifth of those pairs. `np.std` divides by n, and makes
# the interval of three seeds a fifth too narrow. And the scatter of `a` and of `b` hides gaps: what a seed does to both
# cancels in the difference.

# %% [markdown]
# That was the hardest page of statistics in this course. Here is what it buys: the same pairs, with three seeds and with
# five.

# %%
print(
    "your guesses:",
    *(f"{pair}: {said or 'no guess yet'}" for pair, said in guesses.items()),
    sep="\n  ",
)
pairs = [
    ("head", "scratch"),
    ("layer4 + head", "head"),
    ("layer3–4 + head", "layer4 + head"),
    ("all", "layer4 + head"),
]
plots.intervals({(a, b): [x - y for x, y in zip(tested[a], tested[b])] for a, b in pairs})

# %% [markdown]
# After 48 updates each, pretraining pays, and letting `layer4` learn pays again. Beyond that, even five seeds cannot
# tell. For `all` two more seeds cut the interval to less than half, and it still holds 0. "Not distinguishable" is a
# result. It is cheaper to write than a wrong winner.
#
# Three limits. With more updates the head catches up in part: lesson 9 asks that question. Of 100 pairs without a
# difference about five get a winner all the same, so do not compare everything with everything. And all runs saw the
# same pictures. Other pictures would move the numbers too, which no seed can show.
#
# ## What has layer4 learnt?
#
# It ends in 512 *channels*. Each answers every picture with one number, which is large if the picture excites it. Train
# `layer4 + head` yourself, stop after 6, 12 and 48 updates, and look at a single channel.


# %%
images, labels = all_of(loaders["val"])
model = freezing.start("layer4 + head", run, len(classes), seed=0)
half, layer4_train = split_frozen(model).learning, cached("layer4 + head", "train")
optimizer = torch.optim.SGD(half.parameters(), lr=chosen["layer4 + head"], momentum=0.9)
torch.manual_seed(0)
batches, film = list(layer4_train), {0: channels(model, images)}
for first, last in ((0, 6), (6, 12), (12, 48)):
    train_one_epoch(half, batches[first:last], optimizer)
    film[last] = channels(model, images)
print(f"after 48 updates {evaluate(model, loaders['val']).accuracy:.3f} of val right")

# %%
kind = len(classes) - 2  # house
train_images, train_labels = all_of(loaders["train"])
channel = detector(channels(model, train_images), train_labels, kind)  # train chooses, val shows
shown = [i for label in range(len(classes)) for i in (labels == label).nonzero()[:2, 0].tolist()]
strength = {updates: one[shown, channel].tolist() for updates, one in film.items()}
title = f"Channel {channel} becomes a {classes[kind]} detector (strong answer, clear picture)"
plots.filmstrip(images[shown], strength, [classes[label] for label in labels[shown]], title=title)

# %% [markdown]
# The run landed on its row of the table, the first of the five above: 0.911. At the start this channel likes many things. Nobody told it to be about
# houses; the gradient did. It is no perfect detector: the second car still excites it.
#
# Does that help? Take eight test pictures that a new head alone names wrongly, and ask again.

# %%
head = freezing.start("head", run, len(classes), seed=0)
torch.manual_seed(0)
half = split_frozen(head).learning
train_one_epoch(
    half, head_train, torch.optim.SGD(half.parameters(), lr=chosen["head"], momentum=0.9)
)

# %%
images, labels = all_of(loaders["test"])
truth = [classes[label] for label in labels]
before = [best for (best,) in predict(head, images, classes=classes, k=1)]
after = [best for (best,) in predict(model, images, classes=classes, k=1)]
wrong = [i for i, (name, _) in enumerate(before) if name != truth[i]]
eight = wrong[:: len(wrong) // 8][:8]
both = [before[i] for i in eight] + [after[i] for i in eight]
right = sum(after[i][0] == truth[i] for i in wrong)
title = f"Of {len(wrong)} pictures that the head alone gets wrong, layer4 repairs {right}"
plots.answers(images[eight * 2], both, [truth[i] for i in eight * 2], columns=8, title=title)

# %% [markdown]
# Above the head alone, below the same pictures after `layer4` has learnt as well.
#
# ## What does it cost?
#
# Where accuracy does not decide, the price may. It counts everything: running the frozen part once, 48 updates, and one
# look at val. Seven updates are timed, and stand for all 48.

# %%
compared = list(first_three)
seconds = {name: freezing.seconds_of_a_run(name, run, loaders) for name in compared}
share = seconds["layer4 + head"] / seconds["all"]
title = f"layer4 + head takes {share:.0%} of the time that all takes (accuracy: 5 seeds)"
plots.prices(seconds, {name: tested[name] for name in compared}, title=title)

# %% [markdown]
# So `layer4 + head` is a good first choice. It has not won. Nothing beats it measurably, and it costs less than half of
# `all`. With 5 pictures of each class instead of 20, the two were again not distinguishable, and both again clearly ahead of
# `head`.
#
# ### Exercise 6.4: a whole comparison
#
# Two configurations, `"a"` and `"b"`, and no rates but those of the list. `train(name, lr, seed)` gives a trained model. `val(model)` and `open_test(model)` give
# its accuracy. Plan, run and judge: a rate for each by its mean on val, then the test pictures, once, then the verdict of
# 6.3 on a − b. Return `{"rates": {"a": …, "b": …}, "verdict": …}`.
#
# The models are stand-ins, so everything takes an instant. The check writes down each of your calls.
#
# <details><summary>Hint</summary><code>sweeps.interval(differences)</code> gives both ends of the 95 % interval. Choose both rates before you test either.</details>


# %% tags=["exercise"]
# Exercise 06.4
def run_protocol(train, val, open_test, rates: list[float], seeds: list[int]) -> dict:
    """Compare "a" and "b" by the protocol: `{"rates": {"a": …, "b": …}, "verdict": …}`."""
    # Train all, choose by means on val, open the box for what is chosen, judge the differences.
    ### BEGIN SOLUTION
    runs = {(name, lr): [train(name, lr, seed) for seed in seeds] for name in "ab" for lr in rates}
    vals = {run: mean(val(model) for model in models) for run, models in runs.items()}
    chosen = {name: max(rates, key=lambda lr: vals[name, lr]) for name in "ab"}
    a, b = ([open_test(model) for model in runs[name, chosen[name]]] for name in "ab")
    low, high = sweeps.interval([x - y for x, y in zip(a, b)])
    verdict = "better" if low > 0 else "worse" if high < 0 else "not distinguishable"
    return {"rates": chosen, "verdict": verdict}
    ### END SOLUTION


# %% tags=["check"]
check("06.4", run_protocol)

# %% [markdown] tags=["solution"]
# All val runs come before the first look into the box, so no test number can talk you into a rate. The tempting shortcut
# takes the best single run of each: it picks a lucky seed, and the lucky rate with it.

# %% [markdown]
# ## What you can do now
#
# - Freeze what a configuration's name says, and nothing else.
# - Choose a rate for each, over seeds, and open the test box once.
# - Put an interval on a difference, and say "not distinguishable" where it belongs.
#
# You have done what many papers skip. It took little computing and some patience. The patience was the harder part.
#
# In lesson 5, block 5 was a worse place to cut than block 4. Here the last stage is the one most worth training. Both fit
# one explanation: the end of a model knows its old task best.
#
# Which layers should learn? On these pictures the last stage or more, and beyond that nobody can tell yet. Elsewhere the
# order may differ. What you keep is the way to find out.
#
# ## Going further
#
# - [How transferable are features in deep neural networks?](https://arxiv.org/abs/1411.1792) froze and fine-tuned layer by
#   layer in 2014: the first layers are general, the last ones special to their task.
# - [Accounting for variance in machine learning benchmarks](https://arxiv.org/abs/2103.03098) measures how much seeds,
#   splits and rates move a result. Tools such as Optuna or Ray Tune run the sweep for you; they do not make it fair.

# %%
progress("06")
