# %% [markdown]
# # 0. Start here
#
# Here is a neural network that has only ever seen stars, rings and crosses. It is about to recognise houses and fish, from
# five pictures of each.
#
# One question runs through this lesson: **what is a network worth that has never seen your pictures?**
#
# You will be able to
# - train a new head on a borrowed network, and let it name your own drawings;
# - tell transfer learning, feature extraction and fine-tuning apart;
# - find out which part of a drawing an answer hangs on.
#
# 30 minutes. You should know what a tensor, a gradient, a loss and an optimizer are. If not, begin with
# [PyTorch's introduction](https://docs.pytorch.org/tutorials/beginner/basics/intro.html).

# %% tags=["setup"]
import time
from collections.abc import Callable

import torch
from torch import nn

from course_utils import check, load_model, open_data, plots, progress, settings
from course_utils.checks.lesson_00 import warm_up
from course_utils.drawing import disc, draw, polygon, sketches, without
from course_utils.experiments import first_steps
from course_utils.tools import doctor

run = settings(profile="tiny")  # always the small pictures that come with the course
data = open_data(run)
train, test = first_steps.whole(data.train), first_steps.whole(data.test)

# %% [markdown]
# Run the cells one after the other, from the top, with Shift+Enter. The next one takes the borrowed network and removes its
# last layer, the *head*; the rest is the *backbone*. It trains a new head on thirty pictures. Then it names 270 that it has
# never seen.

# %%
backbone = load_model("resnet18", weights="shapes")  # it has seen shapes, and nothing else
backbone.fc = nn.Identity()  # its last layer, which names shapes, goes
rows = first_steps.few(train.labels, per_class=5, seed=0)

start = time.perf_counter()
with torch.no_grad():
    features = backbone(train.images[rows])
head = first_steps.train_head(features, train.labels[rows], seed=0)
seconds = time.perf_counter() - start

with torch.no_grad():
    test_features = backbone(test.images)
    hits = (head(test_features).argmax(dim=1) == test.labels).sum().item()
share, chance = hits / len(test.labels), 1 / len(data.classes)
print(f"{len(rows)} pictures, {seconds:.1f} seconds of training")
print(f"{hits} of {len(test.labels)} new pictures right: {share:.0%} (guessing: {chance:.0%})")

# %% [markdown]
# You have trained a network. It took less time than reading this sentence. Here are some of its answers.


# %%
def names_for(images, head):
    """The likeliest name of each prepared picture, with its probability."""
    with torch.no_grad():
        probabilities = head(backbone(images)).softmax(dim=1)
    values, places = probabilities.max(dim=1)
    return [(data.classes[place], value) for place, value in zip(places.tolist(), values.tolist())]


# %%
shown = [45 * label + i for i in range(4) for label in range(6)]  # the first four of each class
truth = [data.classes[label] for label in test.labels[shown]]
said = names_for(test.images[shown], head)
title = f"After five pictures of each class: {share:.0%} are right"
plots.answers([test.pictures[i] for i in shown], said, truth, title=title)

# %% [markdown]
# Over half are right, and guessing gets a sixth. Now look at the mistakes. A car called *flower* at over 90 % deserves a second
# glance: which of its parts did the network follow?
#
# ## Two worlds
#
# This is what the network knew, and what you asked of it. A program draws both worlds, with random colours, sizes and
# positions.

# %%
old = first_steps.shapes()
new = {name: test.pictures[45 * label] for label, name in enumerate(data.classes)}
title = "It knows the upper row. You asked for the lower one."
plots.show_images([*old.values(), *new.values()], [*old, *new], columns=6, title=title)

# %% [markdown]
# ## Is your machine ready?
#
# For this lesson it is. The next cell looks at what the others need, and downloads nothing. ✓ means *in order*, and · means *not
# here, and not needed now*. A line with ✗ needs your help: the line with → below it says what to do.

# %%
parts = ("Python", "torch", "device", "cores", "weights", "data")
findings = [finding for finding in doctor.examine(run) if finding.name.startswith(parts)]
print(doctor.report(findings, run.profile))

# %% [markdown]
# A *profile* is a size of the course. `tiny`, the usual one, needs no graphics card and works offline. `full` runs later lessons
# on photographs.
#
# ## Three pieces
#
# A network for pictures has two parts. The *backbone* turns a picture into a list of numbers, its *features*. The *head*, one
# last layer, turns features into one score for each class. Such a score is called a *logit*. The values that training adjusts
# are called *parameters*.

# %% tags=["nbval-check-output"]
print("pictures and features of each:", tuple(features.shape))
print("logits of one picture:", len(head(features[0])))
for name, part in (("backbone", backbone), ("head", head)):
    print(f"{name}: {sum(parameter.numel() for parameter in part.parameters()):,} parameters")

# %% [markdown]
# You trained the head only. Three terms name what you did, and what you did not:
# - *transfer learning*: reuse what was learnt for another task;
# - *feature extraction*: transfer learning with a fixed backbone and a new head;
# - *fine-tuning*: transfer learning in which some or all of the backbone learns too.
#
# In the drawing below, *new* parts start from random values and learn. *Fixed* parts are copied and left alone. Parts marked
# *learns* are copied, then adjusted. A backbone has a *stem*, which reads the pixels, and four groups of layers.

# %%
layers = ["stem", "layer1", "layer2", "layer3", "layer4", "head"]
ways = {
    "from scratch": ["new"] * 6,
    "feature extraction": ["fixed"] * 5 + ["new"],
    "fine-tuning, some layers": ["fixed"] * 4 + ["learns", "new"],
    "fine-tuning, all layers": ["learns"] * 5 + ["new"],
}
figure = plots.networks(
    {way: dict(zip(layers, words)) for way, words in ways.items()},
    title="What happens to each part while the network learns the new task",
    together={"transfer\nlearning": ("feature extraction", "fine-tuning, all layers")},
)
plots.described(figure, "Four rows of six boxes, each box new, fixed or learns.")

# %% [markdown]
# ## Is the borrowed backbone worth it?
#
# You could also start *from scratch*: the same architecture with random values, and all of it learns from the same thirty
# pictures. Nothing is borrowed. Which share of the 270 new pictures will it name correctly?

# %%
guess_scratch = None  # share of new pictures that a network from scratch names correctly, 0 to 1

# %% [markdown]
# One run can be luck, so each way runs three times, with other pictures each time. The *seed* is the number from which all
# random choices start. Each run from scratch takes a few seconds.


# %%
def share_right(model, inputs):
    with torch.no_grad():
        return (model(inputs).argmax(dim=1) == test.labels).float().mean().item()


def from_scratch(rows, seed):
    torch.manual_seed(seed)
    model = load_model("resnet18", weights=None)
    model.fc = nn.Linear(512, len(data.classes))
    first_steps.train(model, train.images[rows], train.labels[rows], rate=0.01, seed=seed)
    return share_right(model, test.images)


def borrowed(rows, seed):
    head = first_steps.train_head(train_features[rows], train.labels[rows], seed)
    return share_right(head, test_features)


# %%
with torch.no_grad():
    train_features = backbone(train.images)  # the backbone is fixed, so it sees each picture once

found = {"scratch": [], "head": []}
for seed in range(3):
    rows = first_steps.few(train.labels, per_class=5, seed=seed)
    found["scratch"].append(from_scratch(rows, seed))
    found["head"].append(borrowed(rows, seed))
    print(f"run {seed}: scratch {found['scratch'][-1]:.2f}, head {found['head'][-1]:.2f}")
print(f"from scratch: your guess {guess_scratch}, measured {sum(found['scratch']) / 3:.2f}")

# %%
wins = sum(head > scratch for scratch, head in zip(found["scratch"], found["head"]))
title = f"Five pictures of each class: borrowed wins {wins} of {len(found['head'])} runs"
figure = plots.dots(found, title=title, x="share of test pictures named correctly")
axes = figure.axes[0]
axes.set_xlim(0, 1)
axes.axvline(chance, color="black", linestyle=":", linewidth=1)
axes.text(chance - 0.01, 0, "guessing", ha="right", va="center", fontsize=9)
plots.described(figure, "Dots are runs, bars their means; those of the head are far to the right.")

# %% [markdown]
# From scratch does a little better than guessing: thirty pictures are few for eleven million parameters. The borrowed backbone
# names twice as many correctly. With five other sets of pictures it named over half each time, and won each time.
#
# How many pictures would make up for it? The next figure tries 1 to 20 of each class, five times each. The grey dots at 20 are
# runs of lesson 06, which looked for the best learning rate first.

# %%
heads = {}
for count in (1, 2, 3, 5, 10, 20):
    rows = [first_steps.few(train.labels, count, seed) for seed in range(5)]
    heads[str(count)] = [borrowed(chosen, seed) for seed, chosen in enumerate(rows)]

scratch = {"5": found["scratch"], "20": first_steps.scratch_with_twenty()}
best = max(scratch["20"])
enough = next(count for count in heads if min(heads[count]) > best)  # even its worst run wins
title = f"{enough} pictures of each class and a borrowed backbone beat 20 from scratch"
x, y = "training pictures of each class", "share of test pictures right"
figure = plots.runs({"head": heads, "scratch": scratch}, title=title, x=x, y=y)
figure.axes[0].set_ylim(0, 1)
plots.described(figure, "The line of the head climbs, far above the one from scratch.")

# %% [markdown]
# A house is none of the shapes that the backbone learnt from. But both worlds are made of edges, corners and stripes, and the
# backbone has learnt to see these.
#
# | reason to borrow | what it means | where you measure it |
# |---|---|---|
# | less data | thirty pictures were enough to start | above, and in lesson 06 |
# | less time | a fixed backbone sees each picture once | above, and in lesson 04 |
# | an existing model | somebody has paid for the long training | lesson 01 loads one |
#
# None of this is special to pictures:
#
# | task | kept | new |
# |---|---|---|
# | sort medical reports by urgency | a language model's words and sentences | medical terms, the head |
# | understand an accent | the sounds and words of the language | how this accent speaks them |
# | recognise rare plants | edges, textures, parts | the plants, the head |
#
# ## Borrowed habits
#
# The rest of this lesson uses the best head so far, trained on all 120 training pictures that came with the course. Show it a picture of nothing: one flat colour.
# What will it say? Guess `"one name, firmly"`, `"a bit of everything"` or `"it refuses"`.

# %%
guess_nothing = None  # what the network says about a flat colour

# %%
namer = first_steps.train_head(train_features, train.labels, seed=0)
prepare = data.test.dataset.transform  # makes of a picture what the network was trained on


def says(pictures):
    return names_for(torch.stack([prepare(picture) for picture in pictures]), namer)


# %%
colours = ("skyblue", "firebrick", "grey", "gold", "seagreen")
sheets = [draw({}, background=colour) for colour in colours]
said = says(sheets)
least = min(probability for _, probability in said)
print(f"your guess: {guess_nothing}; the lowest of the five probabilities: {least:.1%}")
title = f"Five pictures of nothing, called: {', '.join({name for name, _ in said})}"
plots.answers(sheets, said, title=title)

# %% [markdown]
# It says *tree*, and means it. There is no output called *nothing*, so the six probabilities always add up to 1. Heads that
# learnt from five other sets, drawn anew, say *tree* too.
#
# What else does it see? Take drawings apart. A drawing is a dictionary of parts, and `without` leaves some of them out.

# %%
boat, house = sketches()
boats = [(), ("mast",), ("front sail", "back sail"), ("hull",)]  # what is left out
houses = [(), ("walls",), ("left window", "right window"), ("roof",)]
pictures = [draw(without(boat, *names)) for names in boats]
pictures += [draw(without(house, *names)) for names in houses]

truth, said = ["boat"] * 4 + ["house"] * 4, says(pictures)
kept = sum(name == true for (name, _), true in zip(said, truth))
title = f"Take parts away: {kept} of 8 drawings keep their name"
plots.answers(pictures, said, truth, columns=4, title=title)

# %% [markdown]
# To this network a boat needs no sails, and a house needs no walls. Without its roof, the house is a fish. Five networks that
# learnt from other pictures agree about the sails and the roof. The hull is another matter: this network
# needs it, and most of the five do not.
#
# Nobody chose these cues. They were good enough for 120 pictures, and that is all that training asks for.
#
# ## Three verdicts
#
# Next comes your first exercise. You complete a function, and the cell below it checks what your function does. There are
# three verdicts: `to do`, `not yet` with a reason, and `passed`. Nothing breaks if you skip an exercise: no later cell uses your
# answer. Here are three answers to a warm-up, *the mean of some numbers*. Change `wrong` until it passes.


# %% tags=["nbval-check-output"]
def blank(numbers):
    raise NotImplementedError("Your turn.")  # an exercise not begun; your lines replace this one


def wrong(numbers):
    return sum(numbers)


def right(numbers):
    return sum(numbers) / len(numbers)


for answer in (blank, wrong, right):
    print(f"{answer.__name__}: {warm_up(answer)}")

# %% [markdown]
# ### Exercise 0.1: which part makes it a boat?
#
# Taking drawings apart by hand is slow. Write `part_that_counts(parts, ask)`. The dictionary `parts` maps names to drawn parts.
# The function `ask` takes such a dictionary, draws it, and returns the probability of the class that you care about.
#
# Leave out one part at a time. Its *cost* is what the probability of the whole drawing loses. Return the name of the part that
# costs most, and that cost, not rounded, such as `("hull", 0.9560)`. Leave `parts` as it is.
#
# The check invents drawings and networks. A part can be in the way: without it the network is surer, and its cost is negative. In
# some drawings that is so for every part.
#
# <details><summary>Hint 1</summary>What does <code>ask(parts)</code> tell you, before you leave anything out?</details>
# <details><summary>Hint 2</summary>Make a new dictionary for each question, and keep the order of the parts: what is drawn last
# lies on top.</details>


# %% tags=["exercise"]
# Exercise 00.1
def part_that_counts(parts: dict, ask: Callable[[dict], float]) -> tuple[str, float]:
    """The name of the part whose absence costs the most probability, and that cost."""
    # Leave out one part at a time. What does the network lose, compared with the whole drawing?
    ### BEGIN SOLUTION
    whole = ask(parts)
    costs = {}
    for name in parts:
        rest = {other: part for other, part in parts.items() if other != name}
        costs[name] = whole - ask(rest)
    best = max(costs, key=costs.get)
    return best, costs[best]
    ### END SOLUTION


# %% tags=["check"]
check("00.1", part_that_counts)

# %% [markdown] tags=["solution"]
# The question is always about everything but one part. It is tempting to ask about one part alone. But parts count together: a
# sail above a hull says more than a sail in the sky. It is also tempting to start the search at `best = 0`. If every
# part is in the way, that search ends with no part at all.

# %% [markdown]
# ## Your own picture
#
# You have earned some play. The sheet is 64×64: x runs to the right, y downwards, and what comes later lies on top. Move the
# sail, paint the hull, add a cloud. **Can you draw a boat that fools your network?** The rule: everybody in the room must still
# call it a boat. Three small parts, added to this boat, are enough.

# %%
mine = {
    "sun": disc("gold", 8, 9, 5),
    "mast": polygon("#202020", (33, 7), (35, 7), (35, 40), (33, 40)),
    "sail": polygon("#e8d8b0", (37, 9), (37, 37), (55, 37)),
    "hull": polygon("darkgreen", (5, 40), (59, 40), (47, 52), (16, 52)),
}
drawn = draw(mine, background="skyblue")
plots.answers([drawn], says([drawn]), title="Drawn by you")

# %% [markdown]
# The next cell makes an `ask` for this network. If you have solved the exercise, call `part_that_counts(mine, ask)` in a cell of
# your own. It tells you what your boat hangs on, and so where to begin.


# %%
def ask(drawing):
    """The probability of a boat that the network gives to these parts."""
    with torch.no_grad():
        logits = namer(backbone(prepare(draw(drawing, background="skyblue"))[None]))
    return logits.softmax(dim=1)[0, data.classes.index("boat")].item()


print(f"boat: {ask(mine):.4f} as it is, {ask(without(mine, 'sun')):.4f} without the sun")

# %% [markdown] tags=["solution"]
# One boat that fools it has portholes: `disc("white", x, 45, 3)` at x = 20, 32 and 44. People see a boat with windows, the network
# sees a fish. Perhaps round white spots are eyes to it.

# %% [markdown]
# You can also bring a file. Put drawings from a paint program, or photos, into the folder `data/own` of the course. Any size and
# most formats will do. Then run the next cell again. The network gets the middle square of each, in 64×64 pixels, and the
# cell shows you the same. While the folder is empty, it shows two sketches.

# %%
own, unread = first_steps.own_pictures()
own = own or {"sketch of a boat": draw(boat), "sketch of a house": draw(house)}
for why in unread:
    print(why)
captions = [f"{file[-18:]}\n{name} {p:.0%}" for file, (name, p) in zip(own, says(own.values()))]
figure = plots.show_images(list(own.values()), captions, columns=4, title="Your own pictures")
plots.described(figure, "Each with the name of its file and what the network says.")

# %% [markdown]
# Be fair to it with photos. A photo is a third world, with light, textures and crowded backgrounds, and neither backbone nor
# head has seen one. Thick shapes in flat colours are its world. If it fails on your photo, it has told you the truth about its
# training pictures.
#
# ## What you can do now
#
# - Train a head on a borrowed backbone, and let it name new pictures.
# - Say which parts are new, fixed or adjusted in feature extraction, in fine-tuning and from scratch.
# - Take a picture apart, to see what an answer hangs on.
#
# So what is a network worth that has never seen your pictures? With five pictures of each class it names 57 % of new ones; a
# network from scratch, 27 %. It learnt edges and outlines elsewhere, and those travel. It also has habits
# that nobody ordered: it takes an empty sheet for a tree.
#
# That was the longest first page of the course, and you have trained a network on it. The four steps behind it are the next four
# lessons: [load](01_load_a_pretrained_model.ipynb), [replace the head](02_replace_the_head.ipynb), [freeze](03_freeze.ipynb),
# [train](04_train.ipynb). Then you do it alone, in [05](05_exercise_vgg16.ipynb) and [06](06_exercise_freezing.ipynb).
#
# ## Going further
#
# - Other libraries start with one line: `timm.create_model("resnet18", pretrained=True, num_classes=6)`, fastai's
#   `vision_learner(data, resnet18).fine_tune(3)`, Keras' `keras.applications.ResNet50(include_top=False)`. This course opens that
#   line and looks inside.

# %%
progress("00")
