# %% [markdown]
# # 0. Start here
#
# A neural network that has seen nothing but stars, rings and other shapes is about to tell houses from fishes, with five
# pictures of each to learn from. In this lesson you see what such a borrowed network is worth, and how this course works.
#
# You will be able to
# - say whether your machine is ready, without an internet connection;
# - tell transfer learning, feature extraction and fine-tuning apart;
# - read the three verdicts on an exercise.
#
# 15 minutes.

# %% tags=["setup"]
import random
import time

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, default_collate

from course_utils import Pictures, check, evaluate, get_weights, load_model, open_data, picture
from course_utils import plots, progress, read_picture, replace_head, settings, train_one_epoch
from course_utils.checks import verdict_of
from course_utils.checks.lesson_00 import WARM_UP
from course_utils.tools.doctor import examine, report

run = settings()
torch.manual_seed(run.seed)
weights = get_weights("resnet18", run.weights)
data = open_data(run, transform=weights.transforms())

# %% [markdown]
# ## Is everything here?
#
# Run the cells one after the other, from the top, with Shift+Enter. The next one looks at your machine and downloads
# nothing. ✓ means *in order*, and · means *not here, and not needed now*. A line with ✗ needs your help: the line with → below
# it says what to do.

# %%
parts = ("Python", "torch", "device", "cores", "weights", "data")
print(report([finding for finding in examine(run) if finding.name.startswith(parts)], run.profile))

# %% [markdown]
# `course doctor` in a terminal says the same and more, such as memory and disk. A *profile* is a size of the course. `tiny`,
# the usual one, needs no graphics card and no internet. `full` runs the same lessons on photographs, with weights learnt
# from 1.3 million of them, and is best run on a graphics card.
#
# Now let the network work once. A batch of pictures goes in, and out comes one *score* for each picture and class.

# %%
model = load_model("resnet18", weights=run.weights).to(run.device)
images, labels = next(iter(data.test))
start = time.perf_counter()
with torch.inference_mode():  # no training here, so PyTorch need not remember anything
    scores = model(images.to(run.device))
seconds = time.perf_counter() - start
print(f"in: {len(images)} pictures; out: {scores.shape[1]} scores for each; {seconds:.1f} seconds")

# %% [markdown]
# ## Two worlds
#
# The network is a ResNet-18. It was trained on a world of shapes: eight outlines in three textures make 24 classes. Of 2,400
# new pictures of shapes it names 99.6 % correctly. Your task lies in another world: house, tree, boat, car, fish, flower. The
# network has seen no picture of these. Both worlds are drawn by code, in colours, sizes and places drawn by lot.

# %%
# ImageNet's pictures do not come with its weights, so with the profile full there is no upper row
names = weights.meta["categories"][::3] if run.weights == "shapes" else []
old = [picture("shapes", name, seed=run.seed) for name in names]
new = {data.classes[label]: path for path, label in reversed(data.test.dataset.samples)}
new = {name: read_picture(new[name]) for name in data.classes[:8]}  # the first of each class
plots.show_images(
    old + list(new.values()),
    names + list(new),
    title="Above: the world that the network knows. Below: the new one.",
)

# %% [markdown]
# ## Three terms
#
# A network for pictures has two parts. The *backbone* turns a picture into a list of numbers, its *features*. The *head*, one
# last layer, turns the features into a score for each class. The backbone is the large part: in a ResNet-18 it holds
# 11,176,512 values, and a head for six classes holds 3,078. The backbone has layers of its own: a *stem* that reads
# the pixels, then four groups, `layer1` to `layer4`.
#
# - *Transfer learning*: what was learnt for one task is reused for another, related one.
# - *Feature extraction* is transfer learning with a fixed backbone. Only a new head learns.
# - *Fine-tuning* is transfer learning in which layers of the backbone learn on, some or all, together with the new head.
#
# In the drawing below, *new* means: starts from random values and learns. *Fixed* means: copied and left alone. *Learns* means:
# copied, then adjusted.

# %%
layers = ["stem", "layer1", "layer2", "layer3", "layer4", "head"]
ways = {
    "from scratch": ["new"] * 6,
    "feature extraction": ["fixed"] * 5 + ["new"],
    "fine-tuning, some layers": ["fixed"] * 4 + ["learns", "new"],
    "fine-tuning, all layers": ["learns"] * 5 + ["new"],
}
plots.networks(
    {way: dict(zip(layers, words)) for way, words in ways.items()},
    title="What happens to each part while the network learns the new task",
    together={"transfer\nlearning": ("feature extraction", "fine-tuning, all layers")},
)

# %% [markdown]
# ## Is a borrowed backbone worth anything?
#
# Here is the whole training set: five pictures of each class. A *seed* is the number from which all random choices start. Another
# seed draws other pictures.


# %%
def few(seed, per_class=5):
    """Images and labels of `per_class` training pictures of each class, drawn by lot."""
    groups = {}
    for path, label in data.train.dataset.samples:
        groups.setdefault(label, []).append((path, label))
    drawn = []
    for group in groups.values():
        drawn += random.Random(seed).sample(group, min(per_class, len(group)))
    return default_collate(list(Pictures(drawn, weights.transforms())))


# %%
images, labels = few(seed=0)
plots.show_images(images, columns=15, title=f"All {len(images)} training pictures")

# %% [markdown]
# Two ways to learn from them, the first and the second row of the drawing:
# - *from scratch*: a ResNet-18 with random values everywhere, and all of it learns;
# - *head only*: the backbone that knows shapes, fixed, and a new head learns.
#
# Both see each training picture twelve times. Then they name the test pictures, which neither has seen. Guessing would get
# one in six right, 0.17.
#
# **Guess first.** Which share of the test pictures will each name correctly?

# %%
guess_scratch, guess_head = 0.0, 0.0  # your guesses, between 0 and 1

# %% [markdown]
# A fixed backbone gives the same features for the same picture, every time: as long as the picture is prepared alike, and the
# network is in *evaluation mode*, in which `load_model` hands it over (lesson 01). So it has to look at each picture once only.

# %%
backbone = load_model("resnet18", weights=run.weights).to(run.device)
backbone.fc = nn.Identity()  # no head: what comes out are the features


def features(images):
    with torch.no_grad():
        return backbone(images.to(run.device))


# %%
start = time.process_time()
test_features = [(features(images), labels) for images, labels in data.test]
seconds_once = time.process_time() - start
print("features of one batch of test pictures:", tuple(test_features[0][0].shape))

# %% [markdown]
# The first number is the number of pictures in the batch, the second the number of features of each.
#
# A head is one linear layer from features to classes. Both ways train alike, in *epochs*: one epoch shows each training picture
# once. Each way has a learning rate that suits it.


# %%
def accuracy_after(model, images, labels, test, lr, epochs=12):
    """Train `model` at the rate `lr`; then the share of test pictures that it names correctly."""
    loader = DataLoader(TensorDataset(images, labels), batch_size=10, shuffle=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    for _ in range(epochs):
        train_one_epoch(model, loader, optimizer)
    return evaluate(model, test).accuracy


# %%
def scratch(images, labels):
    model = replace_head(load_model("resnet18", weights=None), len(data.classes)).to(run.device)
    return accuracy_after(model, images, labels, data.test, lr=0.01)


def head(images, labels):
    known = features(images)
    model = nn.Linear(known.shape[1], len(data.classes)).to(run.device)
    return accuracy_after(model, known, labels, test_features, lr=0.03)


# %% [markdown]
# One run of each would tell little: five pictures may be lucky ones. So each way runs five times, with other pictures and
# other random values.

# %%
found, seconds = {}, {}
for way in (scratch, head):
    start = time.process_time()
    found[way.__name__] = []
    for seed in range(5):
        torch.manual_seed(seed)
        found[way.__name__].append(way(*few(seed)))
    seconds[way.__name__] = time.process_time() - start
seconds["head"] += seconds_once  # the features of the test pictures, computed above

# %%
for name, guess in (("scratch", guess_scratch), ("head", guess_head)):
    mean, took = sum(found[name]) / 5, seconds[name]
    print(f"{name}: your guess {guess:.2f}, measured {mean:.2f}, {took:.1f} s of computing")

# %%
title = "Five pictures of each class; a dot is one run, the bar their mean"
figure = plots.dots(found, title=title, x="share of test pictures named correctly")
axes, chance = figure.axes[0], 1 / len(data.classes)
axes.set_xlim(0, 1)
axes.axvline(chance, color="black", linestyle=":", linewidth=1)
axes.text(chance - 0.01, 0, "guessing", ha="right", va="center", fontsize=9)
figure

# %% [markdown]
# Thirty pictures are too few to learn everything from: the network from scratch does a little better than guessing. With the
# borrowed backbone more than twice as many are right on average, and it is ahead in every one of the five runs, for less than a
# tenth of the computing. (Training from scratch for 24 epochs does not close the gap either; try it with `epochs=24`.)
#
# The backbone also started from random values once, but it had 800 pictures of each of 24 classes, 19,200 in all.
#
# A house is none of the 24 shapes. But both worlds are made of edges, corners and stripes, and the backbone has learnt to see
# these. In lesson 01 you look at its filters.

# %% [markdown]
# ## Why one does it
#
# | reason | what it means | where you measure it |
# |---|---|---|
# | less data | thirty pictures were enough to start | above; with twenty of each class in lesson 06 |
# | less time | a fixed backbone looks at each picture once, and fixed layers need no gradients | above; pictures per second in lesson 06 |
# | an existing model | somebody has already paid for the long training | lesson 01 loads one |
#
# None of this is special to pictures:
#
# | task | kept | new | scarce |
# |---|---|---|---|
# | sort medical reports by urgency | a language model's words and sentences | medical terms, the head | reports labelled by doctors |
# | understand an accent | the sounds and words of the language | how this accent speaks them | recordings of the accent |
# | a chatbot for a company's products | reading and writing | the products | good answers to learn from |
# | recognise rare plants | edges, textures, parts | the plants, the head | pictures |
#
# ## The way through the course
#
# Fine-tuning is often told as four steps, and each is a lesson: [01 load a pretrained model](01_load_a_pretrained_model.ipynb),
# [02 replace the head](02_replace_the_head.ipynb), [03 freeze](03_freeze.ipynb), [04 train](04_train.ipynb). Then you do it
# alone: with another network in [05](05_exercise_vgg16.ipynb), and in [06](06_exercise_freezing.ipynb) you find out which layers
# should learn.
#
# The four steps leave something out, and most failures come from there:
# - pictures must be prepared as the network expects them (01, 04);
# - a network has two modes, one for training and one for use (01, 03);
# - accuracy has to be measured on pictures that played no part in training or in choosing (04);
# - each way to train needs a *learning rate*, a step size, of its own (06);
# - one seed is no evidence (06, and the dots above).
#
# You should know tensors and gradients, loss and optimizer, and have trained one small network. PyTorch's own introduction covers
# it: [tensors](https://docs.pytorch.org/tutorials/beginner/basics/tensorqs_tutorial.html),
# [layers and activations](https://docs.pytorch.org/tutorials/beginner/basics/buildmodel_tutorial.html),
# [gradients](https://docs.pytorch.org/tutorials/beginner/basics/autogradqs_tutorial.html),
# [loss and optimizer](https://docs.pytorch.org/tutorials/beginner/basics/optimization_tutorial.html),
# [a first image classifier](https://docs.pytorch.org/tutorials/beginner/blitz/cifar10_tutorial.html).

# %% [markdown]
# ## Three verdicts
#
# Each lesson has exercises. You complete a function, and the cell below it checks what your function does, with inputs that you
# have not seen. There are three verdicts: `to do` (not begun), `not yet` with a reason, and `passed`. Nothing breaks if you skip an
# exercise: no later cell uses your answer.
#
# Here are three answers to a warm-up, *the mean of some numbers*. Its verdicts do not count. Change `wrong` until it passes, then
# read on.


# %% tags=["nbval-check-output"]
def blank(numbers):
    raise NotImplementedError("Your turn.")  # an exercise not begun; your lines replace this one


def wrong(numbers):
    return sum(numbers)


def right(numbers):
    return sum(numbers) / len(numbers)


for answer in (blank, wrong, right):
    verdict, why = verdict_of(WARM_UP, answer)
    print(f"{answer.__name__}: {verdict}{': ' + why if why else ''}")

# %% [markdown]
# ## From scores to names
#
# The scores of a network, also called *logits*, are any numbers, negative ones too. A larger score means a likelier class. *Softmax*
# turns the scores of one picture into probabilities: it makes them positive, and divides by their sum so that they add up to 1.

# %% tags=["nbval-check-output"]
scores_of_one = torch.tensor([1.0, 0.0, -1.0])  # one picture, three classes
probabilities = scores_of_one.softmax(dim=0)
print([f"{p:.2f}" for p in probabilities], "add up to", f"{probabilities.sum():.2f}")

# %% [markdown]
# ### Exercise 0.1: the most likely classes
#
# Write `top_classes(scores, classes, k)`. `scores` has one row per picture and one column per class. Return a list with one entry per
# picture: a list of its `k` most likely classes, the likeliest first, each as a pair of name and probability. The check tries one
# picture, several pictures, and two classes with equal scores (there any order will do).
#
# <details><summary>Hint 1</summary>Over which dimension of <code>scores</code> must the probabilities of one picture add up to 1?</details>
# <details><summary>Hint 2</summary><code>torch.topk</code> gives the largest values of each row, and their places.</details>


# %% tags=["exercise"]
# Exercise 00.1
def top_classes(scores: torch.Tensor, classes: list[str], k: int) -> list[list[tuple[str, float]]]:
    """The `k` most likely classes of each picture, best first, as (name, probability)."""
    # From scores to probabilities, from probabilities to the k largest, from their places to names.
    ### BEGIN SOLUTION
    probabilities = scores.softmax(dim=1)
    return [[(classes[i], row[i].item()) for i in row.topk(k).indices] for row in probabilities]
    ### END SOLUTION


# %% tags=["check"]
check("00.1", top_classes)

# %% [markdown] tags=["solution"]
# The classes of one picture stand in one row, so the sum runs along dimension 1. Softmax over dimension 0 is tempting, since it
# was right for the single picture above. In a batch it would compare pictures with each other, and for a batch of one every
# probability would be 1.0.

# %% [markdown]
# ## What you can do now
#
# - Check a machine with `course doctor`, and run the course offline.
# - Say which parts are new, fixed or adjusted in feature extraction, in fine-tuning and from scratch.
# - Turn scores into names with probabilities.
#
# ## Going further
#
# - Other libraries start with one line: `timm.create_model("resnet18", pretrained=True, num_classes=6)`, fastai's
#   `vision_learner(data, resnet18).fine_tune(3)`, Keras' `keras.applications.ResNet50(include_top=False)`. This course opens that
#   line and looks inside.
# - [PyTorch's tutorial on transfer learning](https://docs.pytorch.org/tutorials/beginner/transfer_learning_tutorial.html) does
#   feature extraction and fine-tuning on photographs of ants and bees.

# %%
progress("00")
