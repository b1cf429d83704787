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
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset, TensorDataset
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models

from course_utils import (
    check, eval_mode, evaluate, fit, freeze, get_weights, load_model, open_data, plots, progress, replace_head, settings,
    trainable, unfreeze,
)

run = settings()
torch.manual_seed(run.seed)
data = open_data(run, transform=get_weights("vgg16", run.weights).transforms())

# %% [markdown]
# The task in one sentence: *take VGG16, fit its last layer to new classes, freeze the rest, and train.* Before you start, look at
# the network. Below, each part is a row: on the left the share of the values that it holds, on the right the share of the
# multiplications that it does for one picture of your data.

# %%
with torch.device("meta"):  # the structure without the numbers: no memory, no time
    vgg = models.vgg16(num_classes=len(data.classes))
ends = {"block 1": (0, 5), "block 2": (5, 10), "block 3": (10, 17), "block 4": (17, 24), "block 5": (24, 31)}
parts = {name: vgg.features[first:last] for name, (first, last) in ends.items()}
parts |= {"classifier[0]": nn.Sequential(vgg.avgpool, nn.Flatten(), *vgg.classifier[:3])}
parts |= {"classifier[3]": vgg.classifier[3:6], "classifier[6]": vgg.classifier[6]}
values, work, x = {}, {}, torch.empty(1, *data.val.dataset[0][0].shape, device="meta")
for name, part in parts.items():
    with FlopCounterMode(display=False) as counter:
        x = part(x)
    values[name], work[name] = sum(p.numel() for p in part.parameters()), counter.get_total_flops()
plots.opposite_bars(values, work, labels=("values, %", "multiplications for one picture, %"),
                    title="VGG16 keeps its values in the classifier and does its work in the blocks")

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
print(f"your guess {guess:,}; measured {learning:,} of {sum(p.numel() for p in vgg.parameters()):,}")
print(f"in memory: weights, gradients and momentum, 4 bytes each, {3 * 4 * learning / 1e9:.1f} GB")

# %% [markdown]
# Nine of ten values still learn: `classifier[0]` and `classifier[3]` are not in `features`. It runs, and nothing warns you. You
# pay for it in time and memory: beside each value the optimizer keeps a gradient and a momentum of the same size.
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
# VGG16 is slow: for the same picture it multiplies about nine times as much as ResNet-18. But a part that is frozen and in
# evaluation mode makes the same of a picture every time. So run it once, keep what it makes, and train the rest on that.
#
# Most of the work is in blocks 1 to 4. They run here, once for each picture, and never again:

# %%
def some(loader, at_most=600):
    """The pictures of `loader` in order; of very many, about `at_most`, evenly spread. The profile tiny keeps all."""
    step = max(1, len(loader.dataset) // at_most)
    return DataLoader(Subset(loader.dataset, range(0, len(loader.dataset), step)), run.batch_size, num_workers=run.workers)

@torch.no_grad()  # no graph: only the values are wanted
def keep(part, inputs):
    """What `part` makes of `inputs`, in evaluation mode, so without dropout."""
    with eval_mode(part):
        return torch.cat([part(batch.to(run.device)).cpu() for batch in inputs.split(run.batch_size)])

# %%
model = freeze(replace_head(load_model("vgg16", weights=run.weights), len(data.classes)).to(run.device))
labels, block4, started = {}, {}, time.perf_counter()
for split, loader in (("train", data.train), ("val", data.val)):
    pictures, labels[split] = (torch.cat(rows) for rows in zip(*some(loader)))
    block4[split] = keep(model.features[:24], pictures)
seconds = time.perf_counter() - started
print(f"{sum(map(len, block4.values()))} pictures in {seconds:.1f} s; kept of each: {tuple(block4['train'].shape[1:])}")

# %% [markdown]
# Now three heads could stand on this. All three begin with block 5, still frozen. Then:
#
# - `classifier[6]` alone learns, behind the frozen rest of the classifier;
# - the whole classifier learns, as in the trap above;
# - a head of its own: average each of the 512 maps to one value, and put one linear layer on that.
#
# One thing to know: the weights of this course for VGG16 end at the features. In the profile tiny, `classifier[0]` and
# `classifier[3]` hold random values. (The weights of ImageNet bring a trained classifier.)
#
# **Guess first.** Which of the three needs the least memory, which reaches most on the validation pictures?

# %%
guess = "classifier[6] alone"  # or "whole classifier", or "pooled linear head"

# %%
block5 = model.features[24:]
hidden = nn.Sequential(block5, model.avgpool, nn.Flatten(), model.classifier[:6])
pooled = nn.Sequential(block5, nn.AdaptiveAvgPool2d(1), nn.Flatten())
inputs = {"classifier[6] alone": hidden, "whole classifier": block5, "pooled linear head": pooled}
bank = {name: {split: keep(part, block4[split]) for split in block4} for name, part in inputs.items()}
heads = {"classifier[6] alone": model.classifier[6],
         "whole classifier": nn.Sequential(model.avgpool, nn.Flatten(), model.classifier),
         "pooled linear head": nn.Linear(512, len(data.classes)).to(run.device)}
for name, head in heads.items():
    optimizer = torch.optim.SGD(unfreeze(head).parameters(), lr=0.0, momentum=0.9)  # rate 0: only the price is wanted
    started = time.perf_counter()
    F.cross_entropy(head(bank[name]["train"][:32].to(run.device)), labels["train"][:32].to(run.device)).backward()
    optimizer.step()
    seconds, size = time.perf_counter() - started, sum(p.numel() for p in head.parameters())
    print(f"{name:20} {size:>11,} values, {12 * size / 1e6:>8,.2f} MB, {1000 * seconds:>6.1f} ms for one update of 32 pictures")
    freeze(head)

# %%
def batches(features, split):
    """Kept features with their labels, as a loader; the training pictures in a new order each epoch."""
    order = torch.Generator().manual_seed(run.seed)
    return DataLoader(TensorDataset(features[split], labels[split]), run.batch_size, shuffle=split == "train", generator=order)

def train(part, features, lr, epochs=10):
    """Train whatever learns in `part` on kept features."""
    optimizer = torch.optim.SGD([p for p in part.parameters() if p.requires_grad], lr=lr, momentum=0.9)
    return fit(part, batches(features, "train"), batches(features, "val"), optimizer, epochs=epochs)

# %%
histories = {name: train(unfreeze(heads[name]), bank[name], lr=0.03) for name in ("classifier[6] alone", "pooled linear head")}
print(f"your guess {guess}")
plots.lines({name: [epoch.val.accuracy for epoch in history] for name, history in histories.items()}, start=1,
            title="Two heads on the same kept features", x="epoch", y="share right on val")

# %% [markdown]
# [[what you saw]]
#
# ### Exercise 5.3: keep what the frozen part makes
#
# Write `feature_bank(model, cut, loader)`: what stands in front of `classifier[cut]`, for each picture of `loader`, as a tensor
# with one row per picture, and the labels in the same order. The model comes to you in training mode, and the loader shuffles.
# A head will be trained on your rows.
#
# <details><summary>Hint 1</summary>Four parts in a row: <code>features</code>, <code>avgpool</code>, flatten, <code>classifier[:cut]</code>.</details>
# <details><summary>Hint 2</summary>A loader that shuffles gives another order each time you go through it. So go through it once.</details>
# <details><summary>Hint 3</summary><code>torch.inference_mode()</code> is stricter than <code>torch.no_grad()</code>: nothing can be trained on what it makes.</details>


# %% tags=["exercise"]
# Exercise 05.3
def feature_bank(model: nn.Module, cut: int, loader: DataLoader) -> tuple[torch.Tensor, torch.Tensor]:
    """What stands in front of `classifier[cut]` for every picture of `loader`, and the labels, row by row."""
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

# %% [markdown]
# ## Phase two: set block 5 free
#
# The head has learnt. Now block 5 may learn too, at a tenth of the rate, so that the borrowed values are adjusted and not
# overwritten. (Lesson 7 is about this order and these rates.) The output of block 4 is still right, for blocks 1 to 4 are
# frozen. So phase two starts from there.
#
# **Guess first.** Where will the accuracy on val be after ten more epochs?

# %%
guess = 0.0  # your guess, between 0 and 1

# %%
phase_one = histories["classifier[6] alone"]
unfreeze(block5)
tail = nn.Sequential(block5, model.avgpool, nn.Flatten(), model.classifier)
phase_two = train(tail, block4, lr=0.003)
print(f"your guess {guess:.2f}; measured {phase_two[-1].val.accuracy:.2f}, after phase one {phase_one[-1].val.accuracy:.2f}")
learning = [sum(p.numel() for p in model.classifier[6].parameters()), sum(trainable(tail).values())]
plots.phases({f"{learning[0]:,} values learn": phase_one, f"{learning[1]:,} values learn": phase_two},
             title="VGG16 in two phases: at the line, block 5 is set free")

# %% [markdown]
# [[what you saw]]
#
# One question is left. You hold two kinds of kept features: the output of block 4, and what stood in front of
# `classifier[6]` before phase two.
#
# **Guess first.** You test the finished head on the validation pictures, using the features kept in front of
# `classifier[6]`. Is the accuracy the same as on fresh pictures, higher, or lower?

# %%
guess = "the same"  # or "higher", or "lower"

# %%
fresh = evaluate(model, some(data.val)).accuracy
from_block4 = evaluate(tail, batches(block4, "val")).accuracy
from_bank = evaluate(model.classifier[6], batches(bank["classifier[6] alone"], "val")).accuracy
print(f"your guess {guess}; fresh pictures {fresh:.2f}, kept after block 4 {from_block4:.2f}, kept before phase two {from_bank:.2f}")
print(f"and now, once, the test pictures: {evaluate(model, some(data.test)).accuracy:.2f}")

# %% [markdown]
# Features are kept *for a state of the network*. What was kept behind block 5 became out of date, *stale*, with the first step of
# phase two, and nothing tells you. [[...]] The rule: keep what comes before the first layer that learns.
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
    """Train the head of `model`, then block 5 as well; report what learnt and how good the finished model is."""
    # report = {"learning": [..., ...], "val": ..., "test": ...}
    ### BEGIN SOLUTION
    freeze(model)
    counts = []
    for part, lr in ((model.classifier[6], 0.01), (model.features[24:], 0.001)):
        unfreeze(part)
        counts.append(sum(trainable(model).values()))
        learners = [p for p in model.parameters() if p.requires_grad]
        history = fit(model, train, val, torch.optim.SGD(learners, lr=lr, momentum=0.9), epochs=epochs)
    return {"learning": counts, "val": history[-1].val.accuracy, "test": evaluate(model, open_test()).accuracy}
    ### END SOLUTION


# %% tags=["check"]
check("05.4", vgg16_report)

# %% [markdown] tags=["solution"]
# The optimizer of phase two is a new one: the old one has never heard of block 5. To open the box after each epoch and report
# the best is tempting. The number is then the luckiest of several, chosen by the pictures that should have judged it. And whoever keeps
# features in front of the head for the whole run reports a network that does not exist: a new head on an old body.

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
#   for you in `vision_learner(dls, vgg16_bn)`; in timm, `timm.create_model("vgg16", num_classes=0)`.
# - [Very Deep Convolutional Networks](https://arxiv.org/abs/1409.1556), the paper of VGG16, says how such a network could be trained at all.

# %%
progress("05")
