# %% [markdown]
# # 7. Two phases and learning rates
#
# "First train the head, then the last layers, slowly." Nearly every tutorial has this recipe, and few test it. Which of its
# lines do the work?
#
# You will be able to
# - train in two phases, and give each part its own learning rate;
# - notice an optimizer that has not heard of what you unfroze;
# - find a rate, and tell a ruined model from one that can be saved.
#
# 50 minutes.

# %% tags=["setup"]
import copy
from math import isfinite
from statistics import median

import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import SGD, Adam, Optimizer

from course_utils import check, evaluate, fit, freeze, lr_range_test, param_groups, plots, predict
from course_utils import progress, settings, steepest_rate, train_mode, train_one_epoch, unfreeze
from course_utils.experiments import two_phases
from course_utils.experiments.channels import all_of, detector

run = settings()
bench = two_phases.Bench(run)  # pictures, 20 of each class for training; cached features

# %% [markdown]
# The recipe has two phases. *Phase one*: freeze the backbone, and train the new head with Adam at 0.001 for five epochs.
# *Phase two*: unfreeze `layer4`, build a new optimizer at a tenth of the rate, and train five more. `bench.cut` does what
# you know from lesson 5: it splits the model where learning begins, and caches the features.

# %%
model = bench.start(seed=0)  # pretrained and frozen, with a new head
half, train, val = bench.cut(model)
one = fit(half, train, val, Adam(model.fc.parameters(), lr=0.001), epochs=5)
after_one = copy.deepcopy(model.state_dict())

unfreeze(model.layer4)
half, train, val = bench.cut(model)
learning = [p for p in model.parameters() if p.requires_grad]
two = fit(half, train, val, Adam(learning, lr=0.0001), epochs=5)
plots.phases(one, {"layer4 + head": two})

# %% [markdown]
# Phase two lifts val from 0.68 to 0.92. A *seed* decides the new head and the order of the pictures; each of five gained
# 0.18 or more. Above after phase one, below the same pictures after phase two:

# %%
first = bench.start(state=after_one)
images, labels = all_of(bench.pictures["val"])
truth = [bench.classes[label] for label in labels]
before = [best for (best,) in predict(first, images, classes=bench.classes, k=1)]
after = [best for (best,) in predict(model, images, classes=bench.classes, k=1)]
wrong = [i for i, (name, _) in enumerate(before) if name != truth[i]]
six = wrong[:: max(1, len(wrong) // 6)][:6]
right = sum(after[i][0] == truth[i] for i in wrong)
title = f"Of {len(wrong)} pictures that phase one gets wrong, phase two repairs {right}"
both = [before[i] for i in six] + [after[i] for i in six]
plots.answers(images[six * 2], both, [truth[i] for i in six * 2], columns=6, title=title)

# %% [markdown]
# ## One optimizer, several rates
#
# An optimizer holds *parameter groups*, each with its own learning rate. So `layer4` and the head need not share one:

# %% tags=["nbval-check-output"]
optimizer = Adam(
    [
        {"params": model.layer4.parameters(), "lr": 0.0001},
        {"params": model.fc.parameters(), "lr": 0.001},
    ]
)
for group in optimizer.param_groups:
    print(f"{sum(p.numel() for p in group['params']):>9,} parameters at {group['lr']}")
try:
    Adam(model.fc.parameters(), Ir=0.001)
except TypeError as error:
    print(error)

# %% [markdown]
# The last line is a friendly bug: a capital I for a small l fails at once.
#
# `param_groups(model, {"layer4": 0.0001, "fc": 0.001})` of this course builds such a list. A popular rule sets all rates at
# once: they *fall* from the head towards the picture, stage by stage, by a constant factor.
#
# ### Exercise 7.1: rates that fall
#
# Write `falling(model, top, factor)`. It returns parameter groups. The head gets the rate `top`, and each stage nearer to
# the picture gets a rate `factor` times smaller. A frozen stage still counts as a step. What is frozen belongs in no group;
# what learns belongs in exactly one. Parts of a stage may be frozen too.
#
# <details><summary>Hint</summary><code>enumerate(STAGES)</code> counts the steps. <code>model.get_submodule("layer4").parameters()</code> gives the parameters of a part.</details>


# %% tags=["exercise"]
# Exercise 07.1
STAGES = [("fc",), ("layer4",), ("layer3",), ("layer2",), ("layer1",), ("conv1", "bn1")]


def falling(model: nn.Module, top: float, factor: float) -> list[dict]:
    """Groups for an optimizer: `top` for the head, `factor` times less at each stage before it."""
    groups = []
    # For each stage: what learns in it, and at which rate?
    ### BEGIN SOLUTION
    for steps, stage in enumerate(STAGES):
        parameters = [p for name in stage for p in model.get_submodule(name).parameters()]
        free = [p for p in parameters if p.requires_grad]
        if free:
            groups.append({"params": free, "lr": top / factor**steps})
    return groups
    ### END SOLUTION


# %% tags=["check"]
check("07.1", falling)

# %% [markdown] tags=["solution"]
# Searching for `"conv1"` inside parameter names is tempting. It also finds `layer1.0.conv1`, and an optimizer refuses a
# parameter that stands in two groups.

# %% [markdown]
# ## A phase two that stands still
#
# A friend sends you a phase two whose val curve is flat. No error. The code:


# %%
def friends_phase_two(model, optimizer, layer, rate):
    """How somebody starts phase two."""
    unfreeze(model.get_submodule(layer))
    for held in optimizer.param_groups:
        held["lr"] = rate
    return optimizer


model = bench.start(seed=0)
half, train, val = bench.cut(model)
optimizer = Adam([p for p in model.parameters() if p.requires_grad], lr=0.001)
fit(half, train, val, optimizer, epochs=5)
optimizer = friends_phase_two(model, optimizer, "layer4", rate=0.0001)
before, flat = copy.deepcopy(model.state_dict()), []
half, train, val = bench.cut(model)
for _ in range(5):
    train_one_epoch(half, train, optimizer)
    flat.append(evaluate(half, val))
plots.phases(one, {"layer4 + head": two, "your friend's": flat})

# %% [markdown]
# **Guess first.** What in `layer4` has moved?

# %%
guess = None  # in layer4 "weights", "statistics", "both" or "nothing" moved

# %%
print("your guess:", guess or "no guess yet")
try:
    fit(half, train, val, optimizer, epochs=1)
except ValueError as error:
    print("fit says:", error)
plots.stillness(before, model)

# %% [markdown]
# Not one weight of `layer4` moved. Its 15 buffers did: mean, variance and count of five batch norms. `unfreeze` puts a
# part into training mode, and there batch norm collects statistics. That takes no optimizer. So `layer4` only drifted.
#
# The optimizer was built when only the head could learn. `requires_grad=True` has gradients computed, but tells no
# optimizer to use them. PyTorch is silent about that. `fit` of this course refuses, so your friend's loop went without it.
#
# Three ways are right:
#
# - *Build a new one*, as the recipe does. It forgets: Adam remembers each parameter's recent gradients, and a new Adam
#   remembers nothing. In its first step every value moves by the full rate, however small its gradient.
# - *Add a group*: `optimizer.add_param_group({"params": …, "lr": …})`. The head keeps its memory.
# - *Give it everything from the start.* The optimizer skips frozen parameters until you unfreeze them.
#
# ### Exercise 7.2: start phase two
#
# Mend your friend's function. In `start_phase_two(model, optimizer, part, rate)`, `part` begins to learn at `rate`,
# otherwise with the optimizer's usual settings (`optimizer.defaults`). Whatever has learnt so far goes on with its own rate,
# settings and memory. Nothing else moves.
#
# The optimizer comes from phase one. It may hold only what learnt there, or everything, in one group or in several. Return
# the one to go on with.
#
# <details><summary>Hint 1</summary>A parameter stands in one group only. If it stands in old ones, take it out there first.</details>
# <details><summary>Hint 2</summary><code>p in parameters</code> compares values, and two tensors may have equal ones. Compare <code>id(p)</code>.</details>


# %% tags=["exercise"]
# Exercise 07.2
def start_phase_two(model: nn.Module, optimizer: Optimizer, part: str, rate: float) -> Optimizer:
    """Let `part` learn at `rate`; what has learnt so far keeps its rate and its memory."""
    parameters = list(model.get_submodule(part).parameters())
    # Unfreeze, see who holds these parameters, and give them a group.
    ### BEGIN SOLUTION
    unfreeze(model.get_submodule(part))
    mine = {id(p) for p in parameters}
    for group in optimizer.param_groups:
        group["params"] = [p for p in group["params"] if id(p) not in mine]
    optimizer.add_param_group({"params": parameters, "lr": rate})
    return optimizer
    ### END SOLUTION


# %% tags=["check"]
check("07.2", start_phase_two)

# %% [markdown] tags=["solution"]
# An optimizer that held everything from the start would train `part` at the head's rate, so its parameters leave the old
# group first. A new Adam would forget.

# %% [markdown]
# That was the quietest bug in fine-tuning, and from now on you will see it.
#
# ## The hill
#
# Does it have to be a tenth of the rate? Run phase two at nine rates, from 0.00001 to 0.1, each time from the end of phase
# one. **Guess first.** From which rate on does phase two end *below* phase one?

# %%
guess_rate = None  # the lowest of the high rates at which phase two does more harm than good


# %%
def phase_two(lr, held=False):
    """Train layer4 and the head at `lr`, from the end of phase one."""
    model = bench.start(state=after_one)
    unfreeze(model.layer4)
    for part in model.layer4.modules():
        if held and isinstance(part, nn.BatchNorm2d):
            freeze(part)
    half, train, val = bench.cut(model)
    optimizer = Adam([p for p in model.parameters() if p.requires_grad], lr=lr)
    return model, half, fit(half, train, val, optimizer, epochs=5)[-1]


runs = {lr: phase_two(lr) for lr in two_phases.RATES}
level = one[-1].val.accuracy
found = {lr: last.val.accuracy for lr, (*_, last) in runs.items()}
below = [lr for lr in found if lr > 0.001 and found[lr] < level]
print(f"your guess: {guess_rate or 'no guess yet'}; measured: {min(below, default='never')}")
for lr in (0.0003, 0.01, 0.1):
    model, half, last = runs[lr]
    asked = evaluate(half, train).accuracy
    print(f"{lr:6}: train {last.train.accuracy:.2f} in the last epoch, {asked:.2f} when asked")
table = [row for row in two_phases.read_table(run.data) if row["per_class"] == 20]
plots.rate_hill({"as trained": found}, level, table)

# %% [markdown]
# The recipe's 0.0001 is good, and 0.0003 is better: 0.96. The pale dots are five seeds, with their own phase ones on the
# left. From 0.0001 to 0.003, each ends at least 0.17 above its own. At 0.1 the drawn seed is an unlucky one: two of the
# five end above theirs even there.
#
# ## Who did it?
#
# Now the slope on the right. The usual verdict: "so high a rate destroys the borrowed features". But the printed lines hold
# a clue. At 0.01, the model got all training pictures right in its last epoch. Asked about them a moment later, it misses
# one in twenty. What is different? In training, batch norm normalises by the batch. When you ask, it uses its *running
# statistics*, a slow average over past batches. The weights moved fast. Has the average kept up?
#
# You can test that without touching a weight: measure the statistics once more.
# **Guess first.** At 0.1, how much of the fall from the top of the hill comes back?

# %%
guess_share = None  # from 0, nothing, to 1, all of it


# %%
def statistics_again(half, train):
    """Each batch norm that learns measures its statistics anew: the plain mean over all batches."""
    train_mode(half)
    norms = [m for m in half.modules() if isinstance(m, nn.BatchNorm2d) and m.training]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # no slow average: each batch counts the same
    with torch.no_grad():
        for features, _ in train:
            half(features.to(run.device))  # no labels, no steps


again = {}
for lr, (_, half, _) in runs.items():
    mended = copy.deepcopy(half)
    statistics_again(mended, train)
    again[lr] = evaluate(mended, val).accuracy
fall = max(found.values()) - found[0.1]
share = (again[0.1] - found[0.1]) / fall if fall > 0 else 1.0
print(f"your guess: {guess_share or 'no guess yet'}; measured at 0.1: {share:.2f}")
series = {"as trained": found, "measured again": again}
plots.rate_hill(series, level, table)

# %% [markdown]
# Not one weight changed, and most of the fall is gone. At 0.01, 0.10 of 0.12. There the verdict "destroyed" is wrong: the
# features were there, and their statistics lagged behind. On five sets of pictures drawn anew, such models then got 99 % or
# more of the training pictures right.
#
# At 0.1 the verdict is half wrong. 0.70 of the fall comes back here, and more than a third for each seed. But the last epoch
# got only 0.79 of train right, and no statistics explain that. On another set of pictures nothing came back.
#
# Does batch norm only hide the damage? Many people freeze the batch norm of `layer4`. Then it normalises by the old
# statistics in training too. `held=True` does that:

# %%
still = {lr: phase_two(lr, held=True) for lr in (0.001, 0.01, 0.1)}
held = {lr: last.val.accuracy for lr, (*_, last) in still.items()}
plots.rate_hill({**series, "statistics held": held}, level, table)

# %% [markdown]
# There is the cliff. At 0.1, three other sets of pictures ended at least 0.2 below phase one as well. In training mode, batch
# norm divides by the spread of the batch: what a large step has blown up comes out at its usual size. Held statistics
# cannot do that.
#
# What became of the features themselves? `layer4` ends in 512 maps, of 2 by 2 places for pictures this small. Here is one:
# a picture is light where the map answers.

# %%
models = {"phase one": first, "0.0003": runs[0.0003][0], "0.1": runs[0.1][0]}
models["0.1,\nheld"] = still[0.1][0]
kind = len(bench.classes) - 2  # house
practised, known = all_of(bench.pictures["train"])
answers = two_phases.maps(models["0.0003"], practised).mean((2, 3))
channel = detector(answers, known, kind)  # train chooses, val shows
shown = [
    i for label in range(min(6, kind + 2)) for i in (labels == label).nonzero()[:2, 0].tolist()
]
maps = {name: two_phases.maps(one, images) for name, one in models.items()}
dark = (maps["0.1,\nheld"].amax((0, 2, 3)) == 0).float().mean()
title = (
    f"A map that likes {bench.classes[kind]} best; at 0.1, held, {dark:.0%} of all maps are dark"
)
lit = {name: one[shown, channel] for name, one in maps.items()}
plots.lit_maps(images[shown], lit, [truth[i] for i in shown], title=title)

# %% [markdown]
# At 0.0003 this map has come to like houses best. At 0.1 a boat and a car light it as well. With held statistics it is
# dead, and so are 97 % of the maps; 70 % or more on the three other sets. No picture of val wakes them, and no gradient
# passes through a dead map. *That* is a ruined model.
#
# ## A rate without nine runs
#
# Nine runs for one number are dear. The *range test* makes one short run. It raises the rate with every batch, writes
# down the loss, and puts the model back as it was:

# %%
model = bench.start(state=after_one)
unfreeze(model.layer4)
half, train, val = bench.cut(model)
tried = lr_range_test(half, train, lambda params, lr: Adam(params, lr=lr), low=1e-6, batches=40)
plots.range_test(tried, chosen=steepest_rate(tried.rates, tried.losses))

# %% [markdown]
# On the left nothing happens yet, in the middle the loss falls, on the right it explodes. Two habits read such a curve: the
# rate where the loss falls most steeply, or a tenth of the rate where it is lowest.
#
# Here they say 0.0002 and 0.0007. For five seeds we trained at what each says. Against the best of nine rates, the steepest
# point lost 0.03 of val at most; a tenth of the lowest lost up to 0.11. The valley is flat and noisy, so its lowest point
# wanders. Neither can tell how training ends: the test saw 40 batches, each at another rate.
#
# ### Exercise 7.3: pick a rate
#
# Write `pick_rate(rates, losses)` for range tests that somebody recorded. At your rate the loss must have begun to fall.
# And stay well below the explosion: at a quarter of the rate where it begins, or lower. Either habit can do that, on a calm
# curve. These are not calm: a batch may be lucky, which `steepest_rate` takes for a steep fall. And the last losses may be
# infinite, which it refuses.
#
# <details><summary>Hint</summary>Look at each loss together with its neighbours. <code>statistics.median</code> does not mind a single odd one.</details>


# %% tags=["exercise"]
# Exercise 07.3
def pick_rate(rates: list[float], losses: list[float]) -> float:
    """A rate to train with, from the losses of a range test."""
    # First a calmer curve. Then which of the two habits, and on which part of it?
    ### BEGIN SOLUTION
    calm = [median(losses[max(0, i - 4) : i + 5]) for i in range(len(losses))]
    kept = [loss for loss in calm if isfinite(loss)]
    return steepest_rate(rates[: len(kept)], kept)
    ### END SOLUTION


# %% tags=["check"]
check("07.3", pick_rate)

# %% [markdown] tags=["solution"]
# The median takes out odd batches, and then the steepest point is what it seems. A tenth of the calm curve's lowest rate
# passes too: safe here, if not always best.

# %% [markdown]
# ## A rate does not travel
#
# "We trained with a learning rate of 0.001." Keep the 0.001, but take SGD with momentum 0.9. Or add up the losses of a
# batch of 32 instead of taking their mean. **Guess first:** where does val end?

# %%
guesses = {"SGD": None, "SGD, summed loss": None, "Adam, summed loss": None}  # Adam reached 0.90


# %%
def summed(outputs, labels):
    return F.cross_entropy(outputs, labels, reduction="sum")


at_a_thousandth = {"Adam": found[0.001]}
for name in guesses:
    model = bench.start(state=after_one)
    unfreeze(model.layer4)
    half, train, val = bench.cut(model)
    groups = param_groups(model, {"layer4": 0.001, "fc": 0.001})
    optimizer = Adam(groups) if "Adam" in name else SGD(groups, momentum=0.9)
    loss = summed if "summed" in name else F.cross_entropy
    last = fit(half, train, val, optimizer, epochs=5, loss_function=loss)[-1]
    at_a_thousandth[name] = last.val.accuracy
print("your guesses:", *(f"{name}: {said or 'no guess yet'}" for name, said in guesses.items()))
least, most = min(at_a_thousandth.values()), max(at_a_thousandth.values())
title = f"The same rate of 0.001: from {least:.2f} to {most:.2f} of val right"
figure = plots.bars(at_a_thousandth, title=title, x="share of val right", label="{:.2f}")
plots.described(figure, "Four bars: Adam and SGD, with the mean and with the summed loss.")

# %% [markdown]
# For SGD, 0.001 is far too low: in our table its own hill has the top at 0.03. The summed loss makes its gradients 32 times
# as large, and so SGD gets there by accident. Adam divides by the size of recent gradients, so it hardly notices. A rate
# means nothing without its optimizer and its loss.
#
# ## Which lines of the recipe do the work?
#
# You know about the rate. Now the rest of the folklore: each custom against doing without it, on test, with five seeds.
# `layer4` learns at about 0.0003.
#
# - *All at once*: no phase one. `layer4` and a new head learn together, for as many updates as both phases have.
# - *Long head*: phase one takes 100 updates at 0.01, so the head is much better before `layer4` begins.
# - *Warm-up*: the rate rises from 0 within ten updates. `fit` takes any scheduler of PyTorch, here
#   `step_scheduler=LambdaLR(optimizer, lambda step: min(1, step / 10))`.
# - *Falling rates*, when `layer3` learns too: as in exercise 7.1, against one rate for all three parts.
# - *Stage by stage*: `layer3` begins two epochs after `layer4`.

# %%
guesses = {  # "better" or "worse" than without, or "cannot tell"
    "all at once": None,
    "long head": None,
    "warm-up": None,
    "falling rates": None,
    "stage by stage": None,
}

# %%
print("your guesses:", *(f"{name}: {said or 'no guess yet'}" for name, said in guesses.items()))
rows = table or two_phases.read_table("tiny")
plots.intervals(two_phases.differences(rows))

# %% [markdown]
# Each dot is a seed; equal ones coincide. The thick bar is the 95 % interval of their *mean*, so dots may lie outside. The
# thin line is what three seeds alone would have said.
#
# One custom stays clear of 0. A long head costs 0.06 of test, and with 5 pictures of each class even 0.13. It lost on every
# seed. Why, nobody has shown here. For the other four, five seeds cannot tell. Leaving out phase one altogether costs
# nothing that you could measure, with 20 pictures or with 5.
#
# A trained head is said to *protect* the borrowed features. [LP-FT](https://arxiv.org/abs/2202.10054) saw that on test
# pictures unlike the training pictures. Here the two are alike. [ULMFiT](https://arxiv.org/abs/1801.06146) saw falling
# rates and stage by stage help, with texts.
#
# So, which lines do the work? Unfreezing `layer4`, and telling the optimizer. A rate that fits this optimizer and this
# loss. And statistics that keep up with the weights. The rest is custom, and you know how to test a custom.
#
# ## What you can do now
#
# - Train in two phases, give each part its rate, and check what the optimizer holds.
# - Tell features that are ruined from statistics that lag.
# - Find a rate with a range test.
#
# ## Going further
#
# - [Cyclical learning rates](https://arxiv.org/abs/1506.01186) brought the range test. In fastai it is `learn.lr_find`, and
#   `learn.fine_tune` is the recipe in one line.
# - timm builds falling rates with `param_groups_layer_decay`. Keras tells you to compile anew after unfreezing: the same
#   bug, and the same cure.

# %%
progress("07")
