# %% [markdown]
# # 4. Train
#
# Training prints a falling number, whether or not it is right. In this lesson you build the whole run, from a folder of
# pictures to one honest result, and you learn what must hold before you believe the curve.
#
# You will be able to
# - say what folders, transforms and splits have to guarantee;
# - write the training loop, take it apart, and read its curves;
# - run the frozen part of a network once, choose on val, and test once.
#
# 45 minutes.

# %% tags=["setup"]
import copy
import random
import shutil
import tempfile
import time
from itertools import islice
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from course_utils import check, eval_mode, evaluate, fit, freeze, get_weights, load_model
from course_utils import open_data, plots, precompute, progress, replace_head, settings
from course_utils import split_frozen, train_mode, train_one_epoch
from course_utils.profiles import HOME

run = settings()
weights = get_weights("resnet18", run.weights)

# %% [markdown]
# Here is the small data set that comes with this course: two pictures of each class, with the number that stands for the class.

# %%
folder = ImageFolder(HOME / "data" / "tiny" / "train")
numbered = [f"{number}: {name}" for number, name in enumerate(folder.classes)]
first = [folder.targets.index(number) for number in range(len(folder.classes))]
images = [folder[i + more][0] for more in (0, 1) for i in first]
plots.show_images(images, numbered * 2, columns=len(numbered))

# %% [markdown]
# ## From folders to numbers
#
# `ImageFolder` of torchvision reads pictures by a contract. Each class has one folder. The folder's name is the name of the
# class, and the order of the names as texts (`Zebra` before `ant`, `10` before `2`) makes the class numbers. Nobody wrote the numbers above down.
#
# A network never sees the names. Its first output means boat because `boat` comes first in the alphabet. A data set has three
# parts, each a folder of this kind: *train* to learn from, *val* and *test* to see how well it went. All three must hold the
# same classes. Without its `boat` folder, val would call every car a 0, and a perfect network would get every picture wrong.
#
# **Guess first.** Jupyter keeps backups in a hidden folder named `.ipynb_checkpoints`. Suppose it turns up among the classes
# and holds one picture. Which number does `boat` get then?

# %% tags=["nbval-check-output"]
guess = 0  # your guess, before you run this cell
with tempfile.TemporaryDirectory() as place:
    copied = Path(shutil.copytree(folder.root, Path(place) / "train"))
    (copied / ".ipynb_checkpoints").mkdir()
    shutil.copy(folder.samples[0][0], copied / ".ipynb_checkpoints")
    numbers = ImageFolder(copied).class_to_idx
print(f"your guess {guess}; measured {numbers['boat']}: the classes are now {list(numbers)}")

# %% [markdown]
# The hidden folder has become class 0, all numbers have moved up by one, and nothing complains. (If the folder is empty,
# `ImageFolder` raises an error. That is the lucky case.)
#
# Next, a picture has to become numbers, in the way in which the network saw pictures while it was trained.
# `weights.transforms()` does that. Written out it is four steps:

# %% tags=["nbval-check-output"]
recipe = weights.transforms()
steps = [
    transforms.Resize(recipe.resize_size),  # the shorter side gets this many pixels
    transforms.CenterCrop(recipe.crop_size),  # a square from the middle
    transforms.ToTensor(),  # channels first, values from 0 to 1
    transforms.Normalize(recipe.mean, recipe.std),  # minus the mean, divided by the deviation
]
by_hand, unnormalised = transforms.Compose(steps), transforms.Compose(steps[:-1])
difference = by_hand(folder[0][0]) - recipe(folder[0][0])
print("largest difference from weights.transforms():", difference.abs().max().item())
for name, transform in {"all four steps": by_hand, "without the last": unnormalised}.items():
    images = torch.stack([transform(image) for image, _ in folder])
    print(f"{name}: mean {images.mean():.2f}, standard deviation {images.std():.2f}")

# %% [markdown]
# The last step is *normalisation*. Mean and deviation are those of the pictures on which the network was trained, so that its
# first layer receives numbers around 0 with a spread of about 1. A chain you meet in many places, "resize 256, crop 224, to
# tensor", ends before it. That chain runs, and the network sees numbers around 0.4. Is that bad? You will
# measure it in the section "Experiments in a blink", where the answer costs a second. Until then, one habit: look at the mean
# and the deviation of a batch before you train.
#
# From here to a loader it is two steps, `ImageFolder(folder.root, transform=recipe)` and a `DataLoader` around it. `open_data` of this
# course does the same for train, val and test. It also skips hidden folders, refuses parts with different classes, lists the
# files it left out in `data.left_out`, and names pictures that lie in two splits in `data.duplicates`.

# %% [markdown]
# ## The loop on one screen
#
# First a *smoke test*: send random numbers through the whole machine once, to see whether its parts fit together. Five
# "pictures" of noise, three classes, random labels, one step.
#
# **Guess first.** The new head knows nothing, so each of the three classes gets a probability of about 1/3. The *cross-entropy*
# loss of a picture is minus the natural logarithm of the probability given to its label. About how large is it here?

# %%
guess = 0.0  # your guess: the loss before the first step; then run this cell
torch.manual_seed(run.seed)
size = recipe.crop_size[0]
noise = [(torch.randn(5, 3, size, size), torch.randint(3, (5,)))]  # one batch of five
model = replace_head(freeze(load_model("resnet18", weights=run.weights)), 3)
optimizer = torch.optim.SGD(model.fc.parameters(), lr=0.001)
before = train_one_epoch(model, noise, optimizer).loss  # the loss of the batch, then a step
print(f"your guess {guess:.2f}; measured {before:.3f}, then {evaluate(model, noise).loss:.3f}")

# %% [markdown]
# A loss near ln 3 = 1.10 is what "knows nothing about three classes" looks like. The step made it smaller: the head has begun
# to learn noise by heart. So the shapes fit and gradients arrive. The test proves nothing else. Some tutorials
# count how many predictions of such a run are right. They were made before the step, and pure guessing gets four or five of five
# right in one run of 22.
#
# Now the pictures. The next cell is the classical recipe: stochastic gradient descent (SGD) with a learning rate of 0.001 and
# momentum 0.9 (each step keeps nine tenths of the one before), batches of 32 in random order, head only. It takes ten *epochs*
# (passes over all training pictures); here are the first three. Five lines do the work. You find the same five in nearly
# every loop written in PyTorch.

# %%
torch.manual_seed(run.seed)
data = open_data(run, transform=weights.transforms())  # loaders for train, val and test
model = freeze(load_model("resnet18", weights=run.weights))
model = replace_head(model, len(data.classes)).to(run.device)
optimizer = torch.optim.SGD(model.fc.parameters(), lr=0.001, momentum=0.9)
for epoch in range(1, 4):
    train_mode(model)  # training mode for what learns
    running_loss = 0.0
    for images, labels in data.train:
        images, labels = images.to(run.device), labels.to(run.device)
        logits = model(images)  # ask
        loss = F.cross_entropy(logits, labels)  # compare
        optimizer.zero_grad()  # clear the gradients of the last batch
        loss.backward()  # compute new ones, backward through the network
        optimizer.step()  # change what learns
        running_loss += loss.item()
    print(f"epoch {epoch}: loss {running_loss / len(data.train):.3f}")

# %% [markdown]
# The loss falls, so something is learnt. But it is one number, of the training pictures only, and a mean of batch means: the
# last batch of 24 pictures counts as much as a full one of 32. The next two exercises repair that.
#
# ### Exercise 4.1: one pass of training
#
# Write `train_epoch(model, loader, optimizer)`: training mode, then the five lines for each batch. Return the mean loss *per
# picture* and the share of pictures that were right, both measured when their batch was shown. In the check all of the model
# learns, and the last batch is short. The first two lines are given.
#
# <details><summary>Hint 1</summary><code>F.cross_entropy</code> gives the mean over a batch. Times the size of the batch, it is a sum over pictures.</details>
# <details><summary>Hint 2</summary>Add up sums of losses and numbers of hits. Divide once, at the end, by <code>len(loader.dataset)</code>.</details>


# %% tags=["exercise"]
# Exercise 04.1
def train_epoch(model: nn.Module, loader: DataLoader, optimizer: Optimizer) -> tuple[float, float]:
    """Train `model` on every batch of `loader` once; return loss and accuracy per picture."""
    model.train()
    total, hits = 0.0, 0  # sums over pictures
    # For each batch: ask, compare, clear, backward, step. Then add to the two sums.
    ### BEGIN SOLUTION
    for images, labels in loader:
        logits = model(images)
        loss = F.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total, hits = total + loss.item() * len(labels), hits + (logits.argmax(1) == labels).sum()
    return total / len(loader.dataset), int(hits) / len(loader.dataset)
    ### END SOLUTION


# %% tags=["check"]
check("04.1", train_epoch)

# %% [markdown] tags=["solution"]
# Sums over pictures, divided once. The tempting `running_loss / len(loader)` gives a picture in a short batch more weight than
# others. Clearing may also stand after the step, or at the top; it may not stand between backward and step.

# %% [markdown]
# The other number you need comes from pictures that the network has *not* learnt from, the *validation* pictures, val for
# short. Asking for it must leave no trace: evaluation mode for the question, afterwards every layer in the mode it was in.
#
# ### Exercise 4.2: evaluate
#
# Write `accuracy_on(model, loader)`: the share of pictures that `model` gets right, in evaluation mode. It must not depend on
# the size of the batches. Leave the model as you found it, and remember lesson 3: part of it may be frozen and in evaluation mode.
#
# <details><summary>Hint</summary><code>with eval_mode(model):</code> of this course gives each layer back its own mode at the end.</details>


# %% tags=["exercise"]
# Exercise 04.2
def accuracy_on(model: nn.Module, loader: DataLoader) -> float:
    """The share of the pictures of `loader` that `model` gets right; leaves it as it was."""
    # No gradients are needed here: torch.no_grad() saves time and memory.
    ### BEGIN SOLUTION
    hits = 0
    with eval_mode(model), torch.no_grad():
        for images, labels in loader:
            hits += (model(images).argmax(1) == labels).sum().item()
    return hits / len(loader.dataset)
    ### END SOLUTION


# %% tags=["check"]
check("04.2", accuracy_on)

# %% [markdown] tags=["solution"]
# Without evaluation mode a picture's answer depends on its batch. With `model.eval()` and no way back, everything stays in
# evaluation mode from the second epoch on. `model.train()` at the end is tempting, and wakes the frozen part too.

# %% [markdown]
# ## Run the frozen part once
#
# Ten epochs show the backbone every picture ten times. It is frozen and in evaluation mode, so ten times it gives the same
# 512 numbers. Why not run it once, and keep them? `split_frozen` cuts a network in two, where learning begins.

# %% tags=["nbval-check-output"]
frozen, learning = split_frozen(model)
for name, half in {"frozen half": frozen, "learning half": learning}.items():
    values = sum(p.numel() for p in half.parameters())
    print(f"{name}: {values:,} values in", ", ".join(part for part, _ in half.named_children()))
images, labels = next(iter(data.val))
features = frozen(images.to(run.device))
print(f"one picture: {images[0].numel():,} numbers go in, {features[0].numel()} come out")
print("the learning half holds the head of the model itself:", learning.fc is model.fc)

# %% [markdown]
# The halves are no copies. When the learning half has learnt, the model has learnt.
#
# `precompute` runs the frozen half over all pictures of a loader, once, and returns a loader of what came out. These are
# *kept features*, and the head learns from them as from pictures. `fit` of this course takes either loader. It runs the loop:
# it trains, evaluates on val after each epoch, and returns both scores of every epoch.
#
# Two runs can be compared if they begin alike. So here is a start that is the same each time:


# %%
def start(network, train):
    """Back to the beginning: head, gradients, order of the pictures; the same each time."""
    torch.manual_seed(run.seed)
    train.generator.manual_seed(run.seed)
    network.fc.reset_parameters()
    network.zero_grad()


def train_head(network, train, val, make_optimizer, **options):
    """Ten epochs from the start, for the head only."""
    start(network, train)
    optimizer = make_optimizer(network.fc.parameters(), **options)
    return fit(network, train, val, optimizer, epochs=10)


# %% [markdown]
# **Guess first.** The classical recipe for ten epochs: once on the pictures, and once on kept features, with the time for
# making them. How many times faster is the second?

# %%
guess = 1  # your guess: how many times faster?

# %%
seen = []  # a hook, as in lesson 1, notes how many pictures of each batch reach the first layer
with model.conv1.register_forward_pre_hook(lambda layer, batch: seen.append(len(batch[0]))):
    started = time.perf_counter()
    on_pictures = train_head(model, data.train, data.val, torch.optim.SGD, lr=0.001, momentum=0.9)
    halfway, long_way = time.perf_counter(), sum(seen)
    train = precompute(frozen, data.train, cache=None)
    val = precompute(frozen, data.val, cache=None)
    on_features = train_head(learning, train, val, torch.optim.SGD, lr=0.001, momentum=0.9)
    ended = time.perf_counter()
print(f"pictures through the backbone: {long_way:,} the long way, then {sum(seen) - long_way:,}")
print(f"your guess {guess}; measured {(halfway - started) / (ended - halfway):.0f} times faster")

# %% [markdown]
# The pictures are counted, train and val together: ten times each, or once (and a few by themselves, in which the library sees
# whether a picture gives the same in every batch). Seconds differ from machine to machine, and from
# run to run. (`cache=None` is there for an honest measurement: it keeps the features for this run alone. Without it, the next
# run finds them in a folder, and the backbone has nothing left to do.)
#
# What is the price? Both runs began with the same head, and saw the same batches, since the loader of features takes over
# the order of the other one. So you can compare their losses, epoch by epoch.

# %%
differences = []
for long, short in zip(on_pictures, on_features):
    a, b = long.train.loss, short.train.loss
    print(f"epoch {long.number:2}: loss {a:.6f} on pictures, {b:.6f} on features")
    differences.append(abs(a - b))
print(f"largest difference: {max(differences):.6f}")

# %% [markdown]
# There is none, for this is no approximation. In evaluation mode, what the backbone says about a picture depends on that
# picture alone, not on the rest of its batch, and not on the epoch. The head got the same numbers in the same order, so it
# took the same steps, up to rounding. And every further run costs the backbone nothing.
#
# It holds as long as nothing in front of the cut changes: not in training mode, not together with *augmentation* (random
# changes to the pictures, lesson 8; there `views` and `in_memory` of this course save part of the work), and not once parts of
# the backbone learn. Then split again: the cut moves towards the pictures. Features that are out of date raise an error.

# %% [markdown]
# ## Experiments in a blink
#
# How does the classical recipe compare with another? *Adam* is an optimizer that finds a step size for each value by itself.
# Let it start from the same head, with the same learning rate of 0.001. Whose loss will be lower after ten epochs?

# %%
adam = train_head(learning, train, val, torch.optim.Adam, lr=0.001)
losses = {}
for name, history in {"SGD": on_features, "Adam": adam}.items():
    losses[f"{name}, train"] = [epoch.train.loss for epoch in history]
    losses[f"{name}, val"] = [epoch.val.loss for epoch in history]
title = "Two recipes, learning rate 0.001"
plots.lines(losses, title=title, x="epoch", y="loss per picture", start=1)

# %% [markdown]
# Adam's loss is lower, and neither is done: after ten epochs all four lines still fall. So ten epochs of the classical recipe are
# a habit, not a result. Lesson 7 is about finding a rate. A train score is collected *during* its epoch, a val score at its
# end, when the head knows more. That is why val can look better at first.
#
# **Guess first.** Now break the loop of the classical recipe. Three runs of 14 epochs, each without one line: clear,
# backward, step. What does the training loss do in each? Choose from "falls", "flat" and "falls, then climbs". A word may fit
# more than one run, or none.

# %%
guess = {"clear": "?", "backward": "?", "step": "?"}  # your guess for the run without this line


# %%
def step(optimizer, features, labels, lines):
    """One step of the loop, with these of its lines."""
    loss = F.cross_entropy(learning(features), labels)
    calls = {"clear": optimizer.zero_grad, "backward": loss.backward, "step": optimizer.step}
    for line in lines:
        calls[line]()


def curve(*lines, epochs=14):
    """The training loss before each epoch, and after the last."""
    start(learning, train)
    optimizer = torch.optim.SGD(learning.parameters(), lr=0.001, momentum=0.9)
    for _ in range(epochs + 1):
        yield evaluate(learning, train).loss
        for features, labels in train:
            step(optimizer, features.to(run.device), labels.to(run.device), lines)


losses = {"complete": list(curve("clear", "backward", "step"))}
for line in guess:
    values = list(curve(*(other for other in guess if other != line)))
    print(f"without {line}: your guess {guess[line]}; measured {values[0]:.2f} at first,", end=" ")
    print(f"{values[5]:.2f} after five epochs, {max(values[5:]):.2f} at worst after that")
    losses[f"without {line}"] = values
plots.lines(losses, title="The loop without one line", x="epoch", y="training loss per picture")

# %% [markdown]
# Without backward there is no gradient, and without step nobody applies it. Both lines are flat, one on top of the other, and
# nothing fails. A copy of the classical loop is in circulation that has lost clear, backward and step; it prints a loss for
# every epoch. With batch norms in training mode that curve even trembles a little, and looks alive.
#
# The missing clear is the sly one. Gradients pile up, so the steps grow, and for some epochs it looks *better* than the
# complete loop. But the old gradients go on pushing when the head has passed the best place. It overshoots, and the loss climbs
# to more than twice the one it began with.
#
# **Guess first.** Now the question about normalisation. The head is trained anew on features of pictures that were not
# normalised. To be fair, each variant gets the best of three learning rates, chosen on val. How much accuracy is lost?

# %%
guess = 0.0  # your guess: accuracy on val, with normalisation minus without; then run this cell
raw = open_data(run, transform=unnormalised)
kept = {
    "normalised": (train, val),
    "not normalised": (precompute(frozen, raw.train), precompute(frozen, raw.val)),
}
best_of = {}
for name, loaders in kept.items():
    scores = {}
    for rate in (0.001, 0.01, 0.1):
        history = train_head(learning, *loaders, torch.optim.Adam, lr=rate)
        scores[rate] = round(history[-1].val.accuracy, 2)
    best_of[name] = max(scores.values())
    print(f"{name}: accuracy on val by learning rate {scores}")
lost = best_of["normalised"] - best_of["not normalised"]
print(f"your guess {guess:.2f}; measured {lost:.2f}")

# %% [markdown]
# The head could adapt, the frozen backbone could not: its filters and stored statistics belong to numbers around 0. And yet
# there is no error and no warning, and the loss falls. Only the comparison shows what is lost. With five other sets of
# pictures, drawn anew, it was 0.1 or more each time.
#
# What makes the backbone's numbers so useful? Look at them. Each picture is a point with as many coordinates as it has
# numbers. *Principal component analysis* (PCA) turns such a cloud until its two widest directions lie flat in front of you.
# Three clouds of the same pictures: their pixels, the features of a backbone with random weights, and those of the pretrained
# one. Before you run the cell: in which of them could straight lines separate the classes?

# %%
images, labels = (torch.cat(part) for part in zip(*islice(data.train, 4)))
torch.manual_seed(run.seed)
untrained = replace_head(freeze(load_model("resnet18", weights=None)), len(data.classes))
clouds = {
    "pixels": images.flatten(1),
    "random backbone": split_frozen(untrained).frozen(images),
    "pretrained backbone": frozen(images.to(run.device)).cpu(),
}
points = {}
for name, cloud in clouds.items():
    _, _, directions = torch.pca_lowrank(cloud, q=2)
    nearest = torch.cdist(cloud, cloud).fill_diagonal_(torch.inf).argmin(1)
    share = (labels[nearest] == labels).float().mean()
    title = f"{name}\nnearest neighbour alike: {share:.0%}"
    points[title] = (cloud - cloud.mean(0)) @ directions
plots.maps(points, labels, data.classes, title="The same pictures, three times")

# %% [markdown]
# A map shows two directions of many. The number above it looks at all of them: how often does a picture's nearest neighbour
# have the same class? With random weights it does about as often as with bare pixels. In the pretrained backbone most neighbours
# are alike, and that is what a linear head lives on. (The map shows two directions of 512, so the classes overlap in it more than
# they do.) The architecture alone does not do it. What was learnt elsewhere does.

# %% [markdown]
# ## Choose on val, test once
#
# Three sets of pictures, and each has one use. The network learns from *train*. You choose on *val*: the learning rate, the
# recipe, the number of epochs. But a number that was picked for being the highest is no longer a fair measurement. For that
# there is *test*: one look, after the last choice. A small box counts the looks.
#
# One of the choices is the epoch. `fit` calls `after_epoch` with every finished epoch, and `keep_best` keeps a *copy* of the
# head whenever val reaches a new best. `learning.state_dict()` without a copy would go on changing with the head.


# %%
class TestBox:
    """The test pictures, and how often somebody has looked at them."""

    opened = 0

    def open(self, model):
        self.opened += 1
        return evaluate(model, data.test)


def keep_best(epoch):
    """Copy the head whenever val reaches a new best."""
    if epoch.val.accuracy > best["accuracy"]:
        state = copy.deepcopy(learning.state_dict())
        best.update(accuracy=epoch.val.accuracy, number=epoch.number, state=state)


test_box, best = TestBox(), {"accuracy": 0.0}
start(learning, train)
optimizer = torch.optim.Adam(learning.parameters(), lr=0.01)
history = fit(learning, train, val, optimizer, epochs=40, after_epoch=keep_best)
print(f"best epoch {best['number']}: {best['accuracy']:.2f} on val")

# %%
learning.load_state_dict(best["state"])
score = test_box.open(model)  # the model itself has learnt, from picture to answer
times = "once" if test_box.opened == 1 else f"{test_box.opened} times"
figure = plots.learning_curve(history, title="A run you can believe")
plots.stamp(figure, f"test {score.accuracy:.2f}, opened {times}")

# %% [markdown]
# This is the picture to take away. Train ends near 1, val gains little after the first ten epochs and stays behind. The best
# epoch is marked. One number comes from pictures that decided nothing. Run that cell again, and the stamp shows it.
#
# ### Exercise 4.3: make three splits
#
# Often there is one folder and no splits. Write `make_splits(names, fractions, seed)`. `names` holds the name of each picture's
# class, `fractions` the shares for train, val and test, for example `(0.7, 0.15, 0.15)`. Return three lists of positions.
# Every picture is in exactly one of them, every class is divided by these shares (to the nearest picture), and the same seed gives the same lists.
#
# Why positions? Train and val become two views of one folder, each with transforms of its own. So random changes to training
# pictures never reach val.
#
# <details><summary>Hint 1</summary>Divide each class on its own: collect its positions, shuffle them, cut them in three.</details>
# <details><summary>Hint 2</summary><code>rng = random.Random(seed)</code> is a source of randomness of its own; <code>rng.shuffle(positions)</code> uses it.</details>


# %% tags=["exercise"]
# Exercise 04.3
def make_splits(names: list[str], fractions: tuple[float, ...], seed: int) -> list[list[int]]:
    """Positions in `names` for train, val and test, with the same shares of every class."""
    # For each class: its positions, in random order, cut where the shares say.
    ### BEGIN SOLUTION
    rng = random.Random(seed)
    train, val, test = [], [], []
    for kind in sorted(set(names)):
        mine = [i for i, name in enumerate(names) if name == kind]
        rng.shuffle(mine)
        a, b = round(fractions[0] * len(mine)), round((fractions[0] + fractions[1]) * len(mine))
        train, val, test = train + mine[:a], val + mine[a:b], test + mine[b:]
    return [train, val, test]
    ### END SOLUTION


# %% tags=["check"]
check("04.3", make_splits)

# %% [markdown] tags=["solution"]
# Each class is shuffled and cut on its own, so that a rare class is in all three lists. One shuffle of everything is tempting,
# and may leave val without it. `sorted` matters too: the order of a set of texts changes from one run of Python to the next,
# and with it the splits, seed or no seed. (The check runs in one Python and cannot see this.)

# %% [markdown]
# ## What you can do now
#
# - Check a folder, a transform and a batch before training.
# - Write the loop, and tell from a flat or a rising curve which line to look at.
# - Run the frozen part of a network once, compare recipes on val, and open the test box once.
#
# ## Going further
#
# - `learn.fit_one_cycle` (fastai), `model.fit` (Keras) and timm's `train.py` hold the same five lines.
# - [The documentation of `ImageFolder`](https://docs.pytorch.org/vision/stable/generated/torchvision.datasets.ImageFolder.html)
#   has the contract. Loaders with worker processes add a clause on Windows and macOS: a function that transforms pictures has
#   to come from a module, not from a notebook cell.

# %%
progress("04")
