# %% [markdown]
# # 5. Exercise: VGG16, too slow for your machine
#
# You have fine-tuned a ResNet. Now you adapt another network, without a recipe, and this one is slow.
# How do you train a network that is too slow for your machine?
#
# You will be able to
# - adapt a network that is built differently;
# - run its frozen part once, train on what you kept, and say when you may;
# - choose where to cut.
#
# 60 minutes.

# %% tags=["setup"]
import copy
import time
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset, TensorDataset

from course_utils import check, eval_mode, fit, freeze, get_weights, load_model
from course_utils import open_data, plots, precompute, progress, replace_head, settings
from course_utils import split_frozen, sweep, train_one_epoch, unfreeze
from course_utils.experiments.cached import all_of, nearest, right_by_neighbour, search, untrained

run = settings()
torch.manual_seed(run.seed)
data = open_data(run, transform=get_weights("vgg16", run.weights).transforms())

# %% [markdown]
# Here is VGG16 without its classifier: its features, and one new linear layer. How long does one update take, on one batch of
# 32 pictures? You want to try five learning rates with five seeds each, ten epochs long.

# %%
vgg = load_model("vgg16", weights=run.weights).to(run.device)
images, labels = next(iter(data.train))
size = vgg.features(images[:1].to(run.device)).numel()  # values that come out for one picture
short = nn.Sequential(vgg.features, nn.Flatten(), nn.Linear(size, len(data.classes)))
short.to(run.device)


def seconds_of_an_update(model):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
    started = time.perf_counter()
    train_one_epoch(model, [(images, labels)], optimizer)
    return time.perf_counter() - started


every = seconds_of_an_update(copy.deepcopy(short))
freeze(short[0])
last = seconds_of_an_update(short)
updates = 25 * 10 * len(data.train)
print(f"all layers learn:         {every:.1f} s an update, 25 runs {every * updates / 60:.0f} min")
print(f"only the last one learns: {last:.1f} s an update, 25 runs {last * updates / 60:.0f} min")

# %% [markdown]
# The minutes are multiplied, not waited for. Nobody waits that long, so most people try one rate and stop. Here is the
# same search, with two new lines.

# %%
started = time.perf_counter()
frozen, _ = split_frozen(short)
train, val = (precompute(frozen, part, cache=None) for part in (data.train, data.val))
once = time.perf_counter() - started
rates, seeds = (0.001, 0.003, 0.01, 0.03, 0.1), range(5)
rows = sweep(lambda seed: nn.Linear(size, len(data.classes)).to(run.device), train, val,
             rates=rates, seeds=seeds, epochs=10)  # fmt: skip
print(f"once: {once:.1f} s; 25 runs: {time.perf_counter() - started - once:.1f} s")
found = {f"{rate:g}": [row["val"] for row in rows if row["lr"] == rate] for rate in rates}
figure = plots.runs(
    {"head": found},
    title=f"25 whole runs in {time.perf_counter() - started - once:.1f} seconds",
    x="learning rate",
    y="accuracy on val",
)
figure.axes[0].set_ylim(0, 1)
plots.described(figure, "Five dots at each of five rates, and a line through their means.")

# %% [markdown]
# Every dot is one whole run, and VGG16 ran in none of them. The means of all five rates lie between
# 0.80 and 0.88.
# `sweep` trains a new head for each rate and seed, and `train_one_epoch` goes once through the data. Two lines made the difference. `split_frozen` cuts a model
# where learning begins. `precompute` runs the first part once for each picture, and keeps its answers: the **cached features**.
# (`cache=None` keeps them in memory only.) You will take both apart, and learn when cached features lie.
#
# ## What do the features know?
#
# Each picture of val gets the class of its nearest neighbour: the training picture with the most similar
# cached features. How often is that right?

# %%
guess = None  # "like guessing", "like comparing pixels" or "like a trained head"


# %%
@torch.no_grad()
def keep(part, images):
    """What `part` answers in evaluation mode: `precompute` by hand."""
    with eval_mode(part):
        return torch.cat([part(some.to(run.device)).cpu() for some in images.split(32)])


pictures, truth = zip(all_of(data.train), all_of(data.val))

# %%
stranger = untrained(vgg.features)
kinds = {"pixels": pictures, "random VGG16": [keep(stranger, some) for some in pictures]}
kinds["trained VGG16"] = [part.dataset.parts[0] for part in (train, val)]
print("right:", {name: round(right_by_neighbour(kept, truth), 2) for name, kept in kinds.items()})
print("your guess:", guess)
near = {name: nearest(kept).tolist() for name, kept in kinds.items()}
named = [[data.classes[label] for label in labels] for labels in truth]
known, new = (list(zip(pictures[i], named[i])) for i in (0, 1))
show = [named[1].index(name) for name in data.classes[-2:]]  # the first picture of each
plots.neighbours(new, known, near, show=show)

# %% [markdown]
# The pictures in black frames ask, and thick green frames answer with the same thing. The title counts
# all five neighbours of each picture, the line in front of it only the nearest. Pixels find a similar background. The
# trained features find the same thing: 0.87 of the nearest are right here, and nobody has trained anything. On five other sets of pictures it was
# more than 0.85, and with pixels less than 0.40. The random VGG16 has the same architecture, so the weights made the difference.
#
# ## VGG16, part by part
#
# VGG16 is a plain row of layers, in three parts:
#
# | part | what is in it |
# |---|---|
# | `features` | layers 0 to 30: 13 convolutions in five blocks. A ReLU follows each convolution, and a max pooling ends each block |
# | `avgpool` | resizes the maps to 7×7; pictures of 64 pixels leave 2×2 values, which it mostly repeats |
# | `classifier` | layers 0 to 6: three linear layers (0, 3, 6), with a ReLU and a dropout (2, 5) after the first two |
#
# *Dropout* sets half of the values to zero, at random, in training mode. There is no batch norm. The 13
# convolutions and 3 linear layers are the 16 in its name. And the last layer is not
# called `fc`: it is `classifier[6]`.
#
# Before you build on borrowed weights, look at them. A new VGG16 sets all its biases to exactly zero
# (a plain `nn.Linear` does not), and training moves them.

# %%
guess = None  # how many of the 16 layers of this VGG16 have never been trained?

# %%
layers = {name: layer for name, layer in vgg.named_modules() if hasattr(layer, "weight")}
values = {name: layer.weight.numel() + layer.bias.numel() for name, layer in layers.items()}
bias = {name: layer.bias.abs().max().item() for name, layer in layers.items()}
print("your guess:", guess)
for name in ("features.28", "classifier.0", "classifier.3"):
    print(f"{name:14}standard deviation of the weights {layers[name].weight.std():.3f}")
plots.trained_layers(values, bias)

# %% [markdown]
# Three layers have biases of exactly zero, and weights with a standard deviation of 0.010, as at the start: nobody has trained
# them. You replace the last one anyway. The other two are random, and they hold nearly nine tenths of all values. Our file
# of weights ends at the features. Such files are common: torchvision's `IMAGENET1K_FEATURES` is one. No error tells you; these
# numbers do. (In the profile full, with ImageNet's weights, all layers are trained.)
#
# ### Exercise 5.1: adapt VGG16
#
# Write `train_vgg16(model, num_classes, loader, epochs)`. A new `classifier[6]` for `num_classes` classes learns, everything else
# stays as it came. Train with SGD, rate 0.01, momentum 0.9 and no weight decay, with dropout at work as in `fit`, and return the model. The check gives you a narrow VGG with the same
# 31 + 7 layers, and compares your loss with its own runs.
#
# <details><summary>Hint 1</summary>Look at the order: freeze, new layer, optimizer, training.</details>
# <details><summary>Hint 2</summary>A linear layer knows how many values it takes: <code>in_features</code>.</details>


# %% tags=["exercise"]
# Exercise 05.1
def train_vgg16(model: nn.Module, num_classes: int, loader: DataLoader, epochs: int) -> nn.Module:
    """Train a new last layer of a VGG16 for `num_classes` classes, and nothing else; return `model`."""
    # Is the new layer frozen? Does the optimizer hold it? `fit` wants batches for val too: give it the same.
    ### BEGIN SOLUTION
    freeze(model)
    model.classifier[6] = nn.Linear(model.classifier[6].in_features, num_classes)
    optimizer = torch.optim.SGD(model.classifier[6].parameters(), lr=0.01, momentum=0.9)
    fit(model, loader, loader, optimizer, epochs=epochs)
    return model
    ### END SOLUTION


# %% tags=["check"]
check("05.1", train_vgg16)

# %% [markdown] tags=["solution"]
# The order carries it. A layer that is made after the freezing learns, and an optimizer that is made after the layer holds it.
# To freeze only `model.features` is tempting, because of its name. Then `classifier[0]` and `classifier[3]` learn as well, nine
# tenths of all values. `model.fc = nn.Linear(...)` raises no error either: PyTorch accepts the new layer, and VGG16 never calls it.

# %% [markdown]
# That was the whole classical exercise, and you had no line to copy.
#
# ## Three ways out of the features
#
# What do the two random layers do to the features? Three kinds of values can be kept for a linear head: all 2×2 values of each
# of the 512 maps; the average of each map; or what stands in front of `classifier[6]`, behind the random layers. The last is
# kept in evaluation mode, where dropout sleeps.

# %%
guess = None  # behind two random layers, is a head "better", "worse" or "about as good"?

# %%
side = round((size / 512) ** 0.5)
maps = [rows.view(-1, 512, side, side) for rows in kinds["trained VGG16"]]
behind = nn.Sequential(vgg.avgpool, nn.Flatten(), vgg.classifier[:6])
ways = {"random layers": [keep(behind, some) for some in maps]}
ways |= {"averages": [some.mean((2, 3)) for some in maps], "all values": maps}
print("your guess:", guess)
plots.compared({name: search(kept, truth)[0] for name, kept in ways.items()})

# %% [markdown]
# The two random layers change next to nothing: they are a detour of nearly 120 million values. On five other sets it was less than 0.05,
# up or down. Averaging throws away *where* something is, and that cost accuracy on each of the five. (ImageNet's weights bring two
# trained layers: compare again there.)
#
# ## Where may you cut?
#
# Back to the line that saved the time. `split_frozen` puts as many layers into the frozen half as it can. The condition: training
# on cached features must be *the same* as training on pictures. Here only `classifier[6]` learns.

# %%
model = replace_head(vgg, len(data.classes))
unfreeze(freeze(model).classifier[6])
frozen, learning = split_frozen(model)
print(learning)
few = DataLoader(Subset(data.train.dataset, range(32)), batch_size=16)
kept = precompute(frozen, few)
start, losses = copy.deepcopy(model.classifier[6].state_dict()), []
for part, batches in ((model, few), (learning, kept)):
    model.classifier[6].load_state_dict(start)
    torch.manual_seed(run.seed)
    optimizer = torch.optim.SGD(model.classifier[6].parameters(), lr=0.01)
    losses.append([train_one_epoch(part, batches, optimizer).loss for _ in range(2)])
off = max(abs(one - other) for one, other in zip(*losses))
print(f"losses on pictures {losses[0]}, largest difference on cached features {off:.6f}")

# %% [markdown]
# Cached features are no approximation: the losses are the same numbers. (They begin above ln 6 = 1.79, the loss of guessing: the
# features are large here, so an untrained head is sure of wrong answers.) And the learning half begins at layer 2, the first
# dropout. Dropout gives something else in every epoch, even for the same picture. A cached dropout would be one throw of the
# dice, kept for good.
#
# ### Exercise 5.2: find the cut
#
# Write `cut_at(layers)`. `layers` run one after the other. How many of them, from the front, may run once, so that training stays
# the same? As many as possible. The training is that of `train_mode` (lesson 3): a layer or block that has parameters, none of which
# learns, is in evaluation mode, with the dropout in it. A dropout alone, or in a block without parameters, is at work. Dropout has
# other kinds too, such as `nn.Dropout2d` and `nn.AlphaDropout`. The layers come in any mode, and something always learns.
#
# <details><summary>Hint 1</summary>There are two reasons why a layer has to run every time. Look for the first layer with one of them.</details>
# <details><summary>Hint 2</summary>A layer may be a block: <code>layer.parameters()</code> and <code>layer.modules()</code> look inside.</details>


# %% tags=["exercise"]
# Exercise 05.2
def cut_at(layers: nn.Sequential) -> int:
    """How many layers from the front may run once, so that training stays the same."""
    # What would be different in the second epoch?
    ### BEGIN SOLUTION
    for place, layer in enumerate(layers):
        flags = [parameter.requires_grad for parameter in layer.parameters()]
        draws = any("Dropout" in type(part).__name__ for part in layer.modules())
        if any(flags) or (draws and not flags):
            return place
    ### END SOLUTION


# %% tags=["check"]
check("05.2", cut_at)

# %% [markdown] tags=["solution"]
# Two things make a layer different in the second epoch: it has learned, or it draws random numbers. A frozen layer behind such a
# layer gets other inputs each time, so it has to run as well. `all` for `any` is tempting. It overlooks a block of which one layer learns.
# To count frozen batch norm, or the dropout in a frozen block, is too careful: in evaluation mode they give the same every time.

# %% [markdown]
# ## Experiments in a blink
#
# A search is cheap now, so ask a bigger question. VGG16 has five blocks, and you may cut behind any of them.

# %%
guess = None  # 1 to 5: behind which block is a linear head best?

# %%
ends = [0, 5, 10, 17, 24, 31]  # where the blocks begin and end
bank, maps = {"pixels": [F.adaptive_avg_pool2d(some, 16) for some in pictures]}, pictures
for number, (first, end) in enumerate(pairwise(ends), start=1):
    maps = [keep(vgg.features[first:end], some) for some in maps]
    bank[f"block {number}"] = [F.adaptive_avg_pool2d(some, 2) for some in maps]
searched = {name: search(kept, truth) for name, kept in bank.items()}
heads = {name: accuracies for name, (accuracies, _) in searched.items()}
best = max(heads, key=lambda name: sum(heads[name]))
print(f"your guess: {guess}; measured: {best}, at rate {searched[best][1]:g}")
neighbour = {name: right_by_neighbour(kept, truth) for name, kept in bank.items()}
plots.cuts(neighbour, heads, guessing=1 / len(data.classes))

# %% [markdown]
# One pass gave the features of all five blocks, averaged to 2×2 values for each map. Then 150 heads learned, without VGG16.
# The best place to cut is not the end, and the nearest neighbour, which learns nothing, says the same. On five other sets, val chose block 4 each time, and on test it beat block 5 four times. One
# explanation: block 5 knows its old task best. Remember this hump: lesson 6 asks the same of layers that may learn.
#
# ## When cached features lie
#
# Cached features belong to *one state* of the frozen part. So what happens if a layer in it learns after all?

# %%
layer = model.features[28]
before = copy.deepcopy(layer.state_dict())
train_one_epoch(model, few, torch.optim.SGD(unfreeze(layer).parameters(), lr=0.01))  # two updates
try:
    next(iter(kept))
except ValueError as error:
    print("the loader of precompute:", error)
fresh, spatial = keep(vgg.features, pictures[1][:8]), kinds["trained VGG16"][1]
off = (fresh.flatten(1) - spatial[:8]).abs().max()
print(
    f"a tensor kept by hand says nothing; it is off by up to {off:.2f}, and its values reach {spatial.max():.1f}"
)
_ = freeze(layer).load_state_dict(before)

# %% [markdown]
# `precompute` knows the layers that made its features, and looks at them before each epoch. A tensor that you saved yourself
# cannot. Such a tensor is a *bank*: rows of features, made once, by somebody, somehow. On five sets of pictures we let block 5
# learn for five epochs. The accuracy on the outdated bank was wrong by three pictures of 90 at most. That is why nobody notices.
#
# ### Exercise 5.3: may this bank be used?
#
# Write `still_fresh(front, bank, dataset)`. Row `i` of `bank` should be what `front` answers in evaluation mode for picture `i` of
# `dataset`. Is it? Decide with at most 8 pictures through `front`, and leave `front` as you found it. Some banks were made before an update,
# in training mode, from other pixels, or in another order. In some, only a part is right. A bank may have another length.
#
# <details><summary>Hint 1</summary>An update may come while a bank is being made. Which 8 rows do you look at?</details>
# <details><summary>Hint 2</summary>Batches of another size are rounded differently, in the sixth digit: see <code>torch.allclose</code>.</details>


# %% tags=["exercise"]
# Exercise 05.3
def still_fresh(front: nn.Module, bank: torch.Tensor, dataset) -> bool:
    """Whether `bank` holds, row by row, what `front` answers for the pictures of `dataset`."""
    # `dataset[i]` is a picture and its label. Which mode? Which rows? How equal is equal?
    ### BEGIN SOLUTION
    if len(bank) != len(dataset):
        return False
    rows = torch.linspace(0, len(bank) - 1, 8).long()
    images = torch.stack([dataset[int(row)][0] for row in rows])
    with eval_mode(front), torch.no_grad():
        return torch.allclose(front(images), bank[rows], atol=1e-4)
    ### END SOLUTION


# %% tags=["check"]
check("05.3", still_fresh)

# %% [markdown] tags=["solution"]
# Eight rows, spread from the first to the last, find a bank of which half is out of date, wherever that half lies. The first eight are tempting,
# and they miss an update that came later. `torch.equal` refuses good banks: the same picture in another batch differs in the
# last digits. A mean over all rows cannot see that two rows changed places.

# %% [markdown]
# ## Look at the answers
#
# Now the cut that val has chosen, with a head at the rate that val has chosen. You open the test pictures once.

# %%
torch.manual_seed(run.seed)
head = nn.Linear(bank[best][0][0].numel(), len(data.classes))
optimizer = torch.optim.SGD(head.parameters(), lr=searched[best][1], momentum=0.9)
batches = DataLoader(TensorDataset(bank[best][0].flatten(1), truth[0]), 32, shuffle=True)
for _ in range(10):
    train_one_epoch(head, batches, optimizer)
front = nn.Sequential(vgg.features[: ends[int(best[-1])]], nn.AdaptiveAvgPool2d(2), nn.Flatten())
network = nn.Sequential(front, head.to(run.device))  # takes pictures

# %%
test_pictures, test_truth = all_of(data.test)
probabilities, said = keep(network, test_pictures).softmax(1).max(1)
true, says = ([data.classes[label] for label in labels] for labels in (test_truth, said))
plots.confusion_grid(test_pictures, true, says, probabilities.tolist(), data.classes)

# %% [markdown]
# 258 of 270 are right, with a network that was too slow for one search. On five other sets it was 0.88 or more. Now look at the
# purple frames, one by one. Of which pictures would you show the network more?
#
# ### Exercise 5.4: a network you have not seen
#
# Write `adapt(model, loader, num_classes)`. You get a network that you have not seen, of any architecture. Make its last layer fit
# `num_classes` classes, train it, and return the network that you were given. Everything else stays as it was; frozen layers stay frozen. The budget: each
# picture goes through the backbone once. Rate, optimizer and epochs are yours. The check looks at the accuracy on the training
# pictures. There are no hints: you have all you need.


# %% tags=["exercise"]
# Exercise 05.4
def adapt(model: nn.Module, loader: DataLoader, num_classes: int) -> nn.Module:
    """Train a new last layer of `model` while each picture goes through the backbone once."""
    # What is it called here? What has to be done before the cut, and what after it?
    ### BEGIN SOLUTION
    replace_head(freeze(model), num_classes)
    frozen, learning = split_frozen(model)
    kept = [(frozen(images), labels) for images, labels in loader]
    optimizer = torch.optim.Adam(learning.parameters(), lr=0.01)
    fit(learning, kept, kept, optimizer, epochs=30)
    return model
    ### END SOLUTION


# %% tags=["check"]
check("05.4", adapt)

# %% [markdown] tags=["solution"]
# First the new head, then the cut: a split made before holds the old head. `kept` is a list of batches, made once by hand; `precompute`
# would do it too. The learning half holds the network's own layers, so the network has learned, and you return it. `model.fc = ...` is right for some networks and silent in all others.
# `model.train()` would let the frozen batch norms count.

# %% [markdown]
# ## What you can do now
#
# - Adapt a network that is built differently, and find out what its weights are worth before you build on them.
# - Run the frozen part once, and know the two reasons why a layer has to run every time.
# - Tell whether a bank of features may be used.
#
# ## Going further
#
# - In Keras, `VGG16(include_top=False)` is the network without its classifier; timm calls it `timm.create_model("vgg16", num_classes=0)`.
# - [Very Deep Convolutional Networks](https://arxiv.org/abs/1409.1556), the paper of VGG16, says how such a network was trained at all.
#
# A network too slow for this machine gave you hundreds of runs. When you wait, ask what is being computed twice.
# And the answer to the question of this lesson: run the part that does not change once, keep what it makes, and train only what comes
# after it. Then ask whether you cut in the right place.

# %%
progress("05")
