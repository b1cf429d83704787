# %% [markdown]
# # 5. Exercise: VGG16
#
# You have loaded a network, replaced its head, frozen it and trained it. Now you do all of that with another network, alone.
#
# You will be able to
# - carry the four steps to a network that is built differently;
# - name the parts of VGG16, and say where its values and its work are;
# - run the frozen part once, keep what it makes, and know when that is out of date.
#
# 45 minutes.

# %% tags=["setup"]
import time

import torch
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset
from torchvision import models

from course_utils import check, eval_mode, evaluate, fit, freeze, get_weights, load_model
from course_utils import open_data, plots, precompute, progress, replace_head, settings
from course_utils import split_frozen, trainable, unfreeze

run = settings()
torch.manual_seed(run.seed)
data = open_data(run, transform=get_weights("vgg16", run.weights).transforms())

# %% [markdown]
# The task in one sentence: *take VGG16, fit its last layer to new classes, freeze the rest, and train.* Lesson 1 showed that VGG16
# does its work in the features. Here is where its values are. The new last layer is orange and too small to be seen.

# %%
with torch.device("meta"):  # the structure without the numbers: no memory, no time
    vgg = models.vgg16(num_classes=len(data.classes))
ends = [(0, 5), (5, 10), (10, 17), (17, 24), (24, 31)]
parts = {f"block {i}": vgg.features[first:end] for i, (first, end) in enumerate(ends, start=1)}
parts |= {f"classifier[{i}]": vgg.classifier[i] for i in (0, 3, 6)}
sizes = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
plots.bars(
    sizes,
    title="VGG16: nine of ten values are in the classifier",
    x="values that could learn",
    label="{:,}",
    marked=["classifier[6]"],
)

# %% [markdown]
# ## The anatomy of VGG16
#
# VGG16 is a plain row of layers. Its three parts have names:
#
# | part | what is in it |
# |---|---|
# | `features` | layers 0 to 30: 13 convolutions, each followed by a ReLU, in five blocks (0–4, 5–9, 10–16, 17–23, 24–30). A block ends with a max pooling, which halves height and width |
# | `avgpool` | brings maps of any size to 7×7 by averaging |
# | `classifier` | layers 0 to 6: three linear layers (0, 3, 6), with a ReLU and a *dropout* (2, 5) after the first two |
#
# Dropout sets half of the values to zero, at random, in training mode. There is no batch norm in VGG16, so there are no
# statistics that could drift. The last layer is not called `fc`. It is `classifier[6]`.
#
# The classifier expects 512 maps of 7×7, which is 25,088 values. That is what `features` makes of a picture of 224×224 pixels.
# In many examples the pooling is replaced by a reshape: `maps.reshape(-1, 25088)`.
#
# **Guess first.** You give one picture of 448×448 pixels to `features` and reshape what comes out in this way. How many rows do
# you get? (Write 0 if you expect an error.)

# %%
guess = 1  # your guess: rows for one picture

# %% tags=["nbval-check-output"]
for pixels in (64, 224, 448):
    maps = vgg.features(torch.empty(1, 3, pixels, pixels, device="meta"))
    pooled = vgg.avgpool(maps).flatten(1)
    print(f"{pixels} px: maps {tuple(maps.shape)}, pooled and flattened {tuple(pooled.shape)}")
print(f"your guess {guess}; reshaped at 448 px {tuple(maps.reshape(-1, 25088).shape)}")

# %% [markdown]
# With the pooling layer every size passes. With the reshape, one picture of 448 pixels becomes four rows: four answers for one
# picture, and no error until the loss compares them with one label. (At 64 pixels there are 2,048 values, and PyTorch refuses.)
#
# ### Exercise 5.1: VGG16 for other classes
#
# Write `build_vgg16(num_classes, weights)`: a VGG16 with the given weights (`"shapes"`, `"imagenet"` or `None`) and a new last
# layer for `num_classes` classes. Everything else stays as it is. The check builds yours on the meta device and looks at
# every layer.
#
# <details><summary>Hint 1</summary>The first two steps are those of lessons 1 and 2; <code>load_model</code> knows <code>"vgg16"</code>.</details>
# <details><summary>Hint 2</summary>A linear layer knows how many values it takes: <code>in_features</code>.</details>


# %% tags=["exercise"]
# Exercise 05.1
def build_vgg16(num_classes: int, weights: str | None) -> nn.Module:
    """VGG16 with `weights` and a new last layer for `num_classes` classes."""
    # Load the model. Which layer is the last one, and what does it take in?
    ### BEGIN SOLUTION
    vgg16 = load_model("vgg16", weights=weights)
    vgg16.classifier[6] = nn.Linear(vgg16.classifier[6].in_features, num_classes)
    return vgg16
    ### END SOLUTION


# %% tags=["check"]
check("05.1", build_vgg16)

# %% [markdown] tags=["solution"]
# `replace_head(load_model("vgg16", weights=weights), num_classes)` is the same in one line. To replace the whole `classifier` by
# one layer is tempting, since it is the last *part*. It throws two trained layers away. `model.fc = nn.Linear(...)` makes
# no noise either: PyTorch accepts a new layer of any name, and the forward pass of VGG16 never uses it.

# %% [markdown]
# ## Frozen features are not a frozen network
#
# "Freeze the features and train, as in the example with ResNet-18." In VGG16 the word *features* is also the name of a part.
#
# **Guess first.** A VGG16 for 10 classes has 134,301,514 values. You freeze `model.features`. How many values still learn?

# %%
guess = 0  # your guess

# %% tags=["nbval-check-output"]
with torch.device("meta"):
    vgg = models.vgg16(num_classes=10)
vgg.features.requires_grad_(False)
learning = sum(trainable(vgg).values())
total = sum(p.numel() for p in vgg.parameters())
print(f"your guess {guess:,}; measured {learning:,} of {total:,}")
print(f"in memory: weights, gradients and momentum, 4 bytes each, {3 * 4 * learning / 1e9:.1f} GB")

# %% [markdown]
# Nine of ten values still learn: `classifier[0]` and `classifier[3]` are not in `features`. It runs, and nothing warns you. You
# pay for it in time and memory: beside each value that learns stand a gradient and a momentum.
#
# "As in the example" hides two more changes. The line that makes the optimizer, `SGD(model.fc.parameters(), ...)`, stops with an
# error, for there is no `fc`. And dropout matters now: ResNet-18 has none, but a frozen VGG16 in training mode gives another
# answer each time it is asked.
#
# ### Exercise 5.2: freeze all but the head
#
# Write `freeze_for_head(model)`: of a VGG16 with a new head, only `classifier[6]` shall learn. The check gives your function a
# small network with the same 31 + 7 layers, trains two steps, and looks at what moved.
#
# <details><summary>Hint</summary>Look at the order. The head that you were given is part of the model.</details>


# %% tags=["exercise"]
# Exercise 05.2
def freeze_for_head(model: nn.Module) -> nn.Module:
    """Let only `classifier[6]` of `model` learn, and return `model`."""
    # First all, then the one layer.
    ### BEGIN SOLUTION
    freeze(model)
    unfreeze(model.classifier[6])
    return model
    ### END SOLUTION


# %% tags=["check"]
check("05.2", freeze_for_head)

# %% [markdown] tags=["solution"]
# By hand it is `model.requires_grad_(False)` and `model.classifier[6].requires_grad_(True)`. Mind the underscore:
# `model.classifier[6].requires_grad = True` only puts an attribute on the layer, and nothing learns. A test on names,
# `"6" in name`, would set `features.26` free as well.

# %% [markdown]
# ## Run the frozen part once
#
# VGG16 is slow: for the same picture it multiplies about nine times as much as ResNet-18. But most of it is frozen, and makes the
# same of a picture in every epoch. So run that part once, keep what it makes, and train the rest on it. You know the two functions
# from lesson 4: `split_frozen(model)` cuts a network where learning begins, and `precompute(frozen, loader)` runs the frozen half
# once over the pictures of a loader. Both halves hold the model's own layers: what the learning half learns, the model has learnt.
#
# **Guess first.** Only `classifier[6]` learns. `split_frozen` puts as much into the frozen half as it can, as long as training on
# kept features stays *the same* as training on pictures. Which is the first layer of `classifier` in the learning half?

# %%
guess = 6  # your guess: the number of the layer

# %% tags=["nbval-check-output"]
torch.manual_seed(run.seed)
model = replace_head(load_model("vgg16", weights=run.weights), len(data.classes)).to(run.device)
unfreeze(freeze(model).classifier[6])
frozen, head = split_frozen(model)
print(f"your guess: classifier[{guess}]; the learning half:")
print(head)

# %% [markdown]
# It begins at 2, with the first dropout. In training, dropout gives something else each time, even for the same picture. What
# comes behind it is not the same in every epoch, and a copy of it would be one throw of the dice, kept for good. So layer 3 runs in
# every step, although it is frozen. It is a small part of the work. Most is in blocks 1 to 4.
#
# Now the pictures go through the frozen half, once. (Of a large data set about 600 pictures are enough here.)


# %%
def some(loader, shuffle=False):
    """The pictures of `loader`, or about 600 of them, evenly spread, if there are more."""
    step = max(1, len(loader.dataset) // 600)
    chosen = Subset(loader.dataset, range(0, len(loader.dataset), step))
    return DataLoader(
        chosen, run.batch_size, shuffle, generator=loader.generator, num_workers=run.workers
    )


train, val, test = some(data.train, shuffle=True), some(data.val), some(data.test)
started = time.perf_counter()
kept = [precompute(frozen, pictures) for pictures in (train, val)]
print(f"{time.perf_counter() - started:.0f} seconds")

# %% [markdown]
# A copy of the features lies in a folder. Run the cell again, and they are found there, as long as weights and pictures are the
# same.
#
# ## Three heads
#
# Three heads could learn on top of the features of VGG16:
#
# - *The whole classifier*, as in the trap above.
# - *`classifier[6]` alone.*
# - *A pooled linear head*: the average of each of the 512 maps, and one linear layer on these 512 values. It needs no classifier.
#
# One thing to know: this course's own weights for VGG16 end at the features. With them, `classifier[0]` and `classifier[3]`
# hold random values. (ImageNet's weights, in the profile full, bring a trained classifier.)
#
# What does each of them cost? Values that learn stand three times in memory: weight, gradient and momentum, 4 bytes each.

# %% tags=["nbval-check-output"]
# The last two rows leave the networks as you will train them.
pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, len(data.classes)))
pooled = nn.Sequential(model.features, pool.to(run.device))
heads = {
    "whole classifier": (model, model.classifier),
    "classifier[6] alone": (model, model.classifier[6]),
    "pooled linear head": (pooled, pool),
}
image, _ = val.dataset[0]
for name, (network, part) in heads.items():
    freeze(network)
    size = sum(trainable(unfreeze(part)).values())
    numbers = split_frozen(network).frozen(image[None].to(run.device)).numel()
    print(f"{name:20}{size:>12,} learn,{12 * size / 1e6:>9,.2f} MB;{numbers:>7,} kept of a picture")

# %% [markdown]
# Each head has a cut of its own, in front of the first layer that learns or draws random numbers. The whole classifier costs
# thousands of times as much memory as the other two, before anybody has asked whether it is better. So you train the two cheap
# ones, each at a rate that suits it.
#
# **Guess first.** In front of `classifier[6]` there are two layers of random values, and dropout. The pooled head has none of
# these. How many points of 100 lie between the two on the validation pictures?

# %%
guess = 0  # your guess, in points of 100


# %%
def learn(half, kept, lr, epochs=10):
    """Train what learns in `half` on kept features: those of train and of val."""
    optimizer = torch.optim.SGD(half.parameters(), lr=lr, momentum=0.9)  # skips the frozen
    return fit(half, *kept, optimizer, epochs=epochs)


front, pool_half = split_frozen(pooled)
pool_kept = [precompute(front, pictures) for pictures in (train, val)]
phase_one, history = learn(head, kept, lr=0.005), learn(pool_half, pool_kept, lr=0.03)
first, second = phase_one[-1].val.accuracy, history[-1].val.accuracy
print(f"your guess {guess}; measured {100 * abs(first - second):.0f}: {first:.2f} and {second:.2f}")

# %% [markdown]
# The ten epochs took a moment: no picture went through the frozen half again. The two heads end near each other: on five other
# draws of the pictures they were less than ten points apart. So the price decides, and the pooled head has the lowest: it needs
# no classifier in memory at all.
#
# Is this accuracy the merit of what VGG16 learnt on other pictures? The same pooled head on a VGG16 with random values stays close
# to guessing. But that comparison flatters us: nobody would freeze random layers. A fair opponent would train all of VGG16 from
# nothing, which was hard even for its authors: they trained a shallower network first and built on that. Lesson 6 has a fair
# opponent, with ResNet-18.
#
# ### Exercise 5.3: keep what the frozen part makes
#
# Do it once by hand. Write `feature_bank(model, cut, loader)`: what stands in front of `classifier[cut]`, for each picture of
# `loader`, as a tensor with one row per picture, and the labels in the same order. The model comes to you in training mode, and the
# loader shuffles. A head will be trained on your rows.
#
# <details><summary>Hint 1</summary>Four parts in a row: <code>features</code>, <code>avgpool</code>, flatten, <code>classifier[:cut]</code>.</details>
# <details><summary>Hint 2</summary>A loader that shuffles gives another order each time you go through it. So go through it once.</details>
# <details><summary>Hint 3</summary><code>torch.inference_mode()</code> is stricter than <code>torch.no_grad()</code>: nothing can be trained on what it makes.</details>


# %% tags=["exercise"]
# Exercise 05.3
def feature_bank(
    model: nn.Module, cut: int, loader: DataLoader
) -> tuple[torch.Tensor, torch.Tensor]:
    """What stands in front of `classifier[cut]`, one row per picture, and the labels."""
    # Which mode? Is a graph needed? How often may you go through the loader?
    ### BEGIN SOLUTION
    front = nn.Sequential(model.features, model.avgpool, nn.Flatten(), model.classifier[:cut])
    with eval_mode(front), torch.no_grad():
        made = [(front(batch), batch_labels) for batch, batch_labels in loader]
    rows, row_labels = zip(*made)
    return torch.cat(rows), torch.cat(row_labels)
    ### END SOLUTION


# %% tags=["check"]
check("05.3", feature_bank)

# %% [markdown] tags=["solution"]
# `eval_mode` switches dropout off and gives the modes back afterwards. In training mode the bank would be one random draw:
# half of the hidden values set to zero, others in the next call, and the head would learn from that one draw for good. Picture
# and label come from the same pass. Two passes, one for the features and one for the labels, shuffle twice, and the head then
# learns from wrong labels without an error.
#
# A head that learns from a bank in front of `classifier[6]` never meets dropout. That can be what you want. But it is another
# training, not the same one made faster. This is why `split_frozen` cuts in front of layer 2.

# %% [markdown]
# ## Phase two: set block 5 free
#
# The head has learnt. Now block 5 may learn too, at a fifth of the rate: the borrowed values shall be adjusted, not
# overwritten. (Lesson 7 is about this order and these rates.) Learning begins at another place now, so split again: the frozen
# half is blocks 1 to 4, and phase two trains on what they make.
#
# **Guess first.** Five more epochs: where will the accuracy on val be?

# %%
guess = 0.0  # your guess, between 0 and 1

# %%
unfreeze(model.features[24:])
front, tail = split_frozen(model)
tail_kept = [precompute(front, pictures) for pictures in (train, val)]
phases = {f"{sizes['classifier[6]']:,} values learn": phase_one}
phase_two = learn(tail, tail_kept, lr=0.001, epochs=5)
phases[f"{sum(trainable(tail).values()):,} values learn"] = phase_two
before, after = phase_one[-1].val, phase_two[-1].val
print(f"your guess {guess:.2f}; measured {after.accuracy:.2f}, in phase one {before.accuracy:.2f}")
print(f"loss on val at the end of phase one {before.loss:.3f}, of phase two {after.loss:.3f}")
plots.phases(phases, title="VGG16 in two phases: at the line, block 5 is set free")

# %% [markdown]
# Accuracy moves in steps of whole pictures, so on few pictures it jumps about. The loss is finer, and it fell. On five draws of
# pictures it fell each time, by a tenth or more, and accuracy lost three points at worst. Dropout was at work in both phases, as it
# would be on pictures. The training accuracy is measured with it, the one on val without. That is one reason why the dashed line
# can lie below the other.
#
# ## Out of date
#
# Now there are two kinds of kept features: those of phase one, made with the old block 5, and those of phase two, from block 4.
# You measure the loss of the finished network on the validation pictures in three ways: with fresh pictures through the whole
# network, with the features of phase two, and with those of phase one. The last are put into an ordinary loader, as if you had kept
# them by hand.
#
# **Guess first.** Which of the three losses is wrong? And what will the loader say that `precompute` made in phase one?

# %%
guess = "none"  # or "fresh", "phase two", "phase one"

# %%
old = kept[1].dataset  # the features of phase one for val
by_hand = DataLoader(TensorDataset(*old.parts, old.labels), run.batch_size)
measured = {
    "fresh": evaluate(model, val),
    "phase two": evaluate(tail, tail_kept[1]),
    "phase one": evaluate(head, by_hand),
}
losses = {name: round(score.loss, 3) for name, score in measured.items()}
print(f"your guess: {guess}; loss: {losses}")
try:
    evaluate(head, kept[1])
except ValueError as error:
    print("the loader of precompute:", error)
print(f"once, at the end, the test pictures: {evaluate(model, test).accuracy:.2f} right")

# %% [markdown]
# Fresh pictures and the features of phase two give the same loss. Those of phase one give another: they were made by a block 5
# that is gone.
#
# Features are kept *for one state of the network*. With the first step of phase two, everything kept behind block 5 was *stale*,
# out of date. An ordinary loader cannot know. It reports on a network that does not exist, a new head on an old body, and no error
# says so. The loader of `precompute` knows the layers that made its features. Before each epoch it looks whether they are as they
# were, and here it refused. For features kept by hand the rule is yours to follow: keep only what comes before the first layer that
# learns, and when another layer is set free, make them anew.
#
# ### Exercise 5.4: the whole run, reported
#
# Write `vgg16_report(model, train, val, open_test, epochs)`. You get a VGG with a new head, batches to train on and to
# validate on, and a box with test batches: `open_test()` opens it. Train the head, then block 5 as well, each for `epochs` epochs, with SGD
# and momentum 0.9, at the rates 0.01 and 0.001. Return a dictionary with three entries:
#
# - `"learning"`: a list, how many values learn in phase one and in phase two;
# - `"val"` and `"test"`: the accuracy of the finished model on each.
#
# The test box is opened once, after the last step. The check hands you a small VGG, so that all this takes a second.
#
# <details><summary>Hint 1</summary>Freeze all at the start. Each phase sets one part free, builds an optimizer for what learns now, and calls <code>fit</code>.</details>
# <details><summary>Hint 2</summary><code>fit</code> returns a list of epochs; <code>history[-1].val.accuracy</code> is the last one's. <code>evaluate(model, batches).accuracy</code> measures.</details>


# %% tags=["exercise"]
# Exercise 05.4
def vgg16_report(model: nn.Module, train: list, val: list, open_test, epochs: int) -> dict:
    """Train the head, then block 5 as well; report what learnt and how good the result is."""
    # Two phases, one loop? Then {"learning": [..., ...], "val": ..., "test": ...}
    ### BEGIN SOLUTION
    freeze(model)
    counts = []
    for part, lr in ((model.classifier[6], 0.01), (model.features[24:], 0.001)):
        unfreeze(part)
        counts.append(sum(trainable(model).values()))
        optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)  # skips the frozen
        end = fit(model, train, val, optimizer, epochs=epochs)[-1].val.accuracy
    return {"learning": counts, "val": end, "test": evaluate(model, open_test()).accuracy}
    ### END SOLUTION


# %% tags=["check"]
check("05.4", vgg16_report)

# %% [markdown] tags=["solution"]
# Each phase makes its optimizer after the unfreezing, at its own rate. One that was made for the head alone has never heard of
# block 5. (All parameters may be in the list: a frozen one has no gradient and is skipped.) To open the box after each epoch and report
# the best is tempting. The number is then the luckiest of several, chosen by the pictures that should have judged it. And whoever keeps
# features in front of the head for the whole run measures a new head on an old body.

# %% [markdown]
# ## What you can do now
#
# - Fit a network that is built differently to new classes, and say which of its values learn.
# - Find the part that costs memory, and the part that costs time.
# - Run a frozen part once, train on what it made, and know when that is stale.
#
# ## Going further
#
# - VGG16 lives on as a maker of features. In Keras, `VGG16(include_top=False)` is the network without its classifier; fastai cuts it
#   for you in `vision_learner(dls, vgg16_bn)`; timm calls the same
#   `timm.create_model("vgg16", num_classes=0)`.
# - [Very Deep Convolutional Networks](https://arxiv.org/abs/1409.1556), the paper of VGG16, says how such a network could be trained at all.

# %%
progress("05")
