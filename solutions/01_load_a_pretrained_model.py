# %% [markdown]
# # 1. Load a pretrained model
#
# Somebody has trained a network for you. Loading it takes three lines. A wrong decision in them seldom gives an error message.
# So what does a file of weights need beside it, so that the answers are right?
#
# You will be able to
# - load a file of weights together with the preparation of pictures and the class names that belong to it;
# - look into a network: its parts, its maps, and what a single channel responds to;
# - find out in a minute whether a loaded network answers as it should.
#
# 40 minutes.

# %% tags=["setup"]
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import models
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.transforms.functional import resize

from course_utils import (
    check,
    eval_mode,
    get_weights,
    open_data,
    plots,
    progress,
    read_picture,
    settings,
)
from course_utils.experiments.responses import shapes, strongest_pieces

run = settings()
torch.manual_seed(run.seed)
weights = get_weights("resnet18", "shapes")  # made for this course, on 24 kinds of drawn shapes

# %% [markdown]
# Build, fill, switch to use:

# %% tags=["nbval-check-output"]
model = models.resnet18(num_classes=24)
print(model.load_state_dict(weights.get_state_dict()))
model = model.eval()

# %% [markdown]
# The first line builds the *architecture* ResNet-18, with random values and 24 outputs. The second copies the tensors of
# the file into it, by name. The third switches to *evaluation mode*: the network is used, and no longer trained.
#
# Here are eight shapes that it has never seen. It gives each class a score, its *logit*, and *softmax* turns the scores into
# probabilities.

# %%
transform, names = weights.transforms(), weights.meta["categories"]


def ask(model, images, weights=weights):
    """The best class of each picture, with its probability."""
    transform, names = weights.transforms(), weights.meta["categories"]
    with torch.no_grad():
        logits = model(torch.stack([transform(image) for image in images]))
    values, places = logits.softmax(dim=1).max(dim=1)
    return [(names[place], value) for place, value in zip(places.tolist(), values.tolist())]


images, labels = shapes(per_class=4, seed=101, mixed=True)
truth = [names[label] for label in labels]
said = ask(model, images[:8])
hits = sum(name == true for (name, _), true in zip(said, truth))
plots.answers(images[:8], said, truth[:8], columns=4, title=f"Eight new shapes, {hits} right names")

# %% [markdown]
# All eight are right, at about 90 %. More is not to be had. It was trained with *label smoothing*: the true class was
# never to get everything, the other classes always a little.
#
# ## One file, nine ways to use it
#
# Now take the same file and use it a little differently. This function loads it, asks about 96 new shapes, and counts.


# %%
def share_right(
    images, labels, *, state=None, prepare=transform, names=names, training=False, at_a_time=96
):
    """Which share of the pictures gets its name, if the file is used this way."""
    model = models.resnet18(num_classes=24)
    model.load_state_dict(state or weights.get_state_dict(), strict=False)
    model.train(training)
    with torch.no_grad():
        places = torch.cat([model(batch).argmax(1) for batch in prepare(images).split(at_a_time)])
    truth = [weights.meta["categories"][label] for label in labels]
    return sum(names[place] == true for place, true in zip(places, truth)) / len(truth)


# %% [markdown]
# Each way below changes one thing, and each looks reasonable in a program. No need to know all the words yet:
#
# | the way | what happens | more under |
# |---|---|---|
# | mean and std | of each colour the mean is subtracted, and the rest divided by `std`; here with numbers of others, or not at all | *Preparation and names* |
# | pixels left at 0 to 255 | no division by 255, and no mean and std | *Preparation and names* |
# | training mode | layers compute with the pictures at hand, as during training | *The mode* |
# | no buffers | stored values that are not parameters stay new | *What the file holds* |
# | enlarged to 224 | a filter sees a piece of fixed size; at 3.5 times the size, a dot that it knows is a wide blob. Other weights were trained at 224: there it is right | *Preparation and names* |
# | prefix | no name of the file is one of the model; `strict=False` skips such names silently, so nothing is loaded | *Exercise 1.1* |
# | class names | output 0 gets the name of class 1, and so on | *Preparation and names* |

# %%
state, official = weights.get_state_dict(), models.ResNet18_Weights.DEFAULT
ways = {
    "as it was trained": {},
    "mean and std of other weights": {"prepare": official.transforms(crop_size=64, resize_size=64)},
    "training mode, one picture at a time": {"training": True, "at_a_time": 1},
    "without mean and std": {"prepare": lambda images: images / 255},
    "pixels left at 0 to 255": {"prepare": lambda images: images.float()},
    "parameters only, no buffers": {
        "state": {n: v for n, v in state.items() if "running" not in n}
    },
    "pictures enlarged to 224 pixels": {
        "prepare": lambda images: resize(transform(images), [224, 224])
    },
    "names with a prefix, strict=False": {"state": {f"module.{n}": v for n, v in state.items()}},
    "class names shifted by one": {"names": names[1:] + names[:1]},
}

# %%
shares = {way: share_right(images, labels, **changes) for way, changes in ways.items()}
plots.nine_ways(shares, guessing=1 / len(names), what="new shapes named correctly")

# %% [markdown]
# No line failed, and no tensor had a wrong shape. Only the names were wrong. The second way did no harm, by luck: the
# other weights have a similar mean and std. Without mean and std 28 % are right, on five other sets about half at most. The
# last way is worse than guessing.
#
# If that makes you distrust your own programs a little, good. The rest of this lesson gives you reasons to trust them again.
#
# ## What the usual first test sees
#
# A common first test of a loaded network is a tensor of random numbers. You show eight different ones.
# **Guess first.** How many different names come back, 1 to 8?

# %%
guess_names = None

# %% tags=["nbval-check-output"]
for count, size in ((8, 64), (1, 224)):
    with torch.no_grad():
        logits = model(torch.randn(count, 3, size, size))
    found = sorted({names[place] for place in logits.argmax(dim=1)})
    print(f"{count}×3×{size}×{size} → {tuple(logits.shape)}: {len(found)} name, {found[0]}")
print("your guess:", guess_names)

# %% [markdown]
# Eight times *dotted hexagon*, and at 224 pixels *dotted circle*; five other sets of random numbers give the same. The test
# says that shapes fit: a batch of pictures goes in, one row of logits per picture comes out. All nine ways above pass it.
#
# ## Preparation and names come along
#
# A file of tensors alone is of little use. torchvision keeps three things together in a *weights object*: where the tensors are,
# how pictures are prepared, and the class names in their order. Ours has the same interface. Nothing is downloaded here.

# %% tags=["nbval-check-output"]
print(official.url)
print(
    f"{official.meta['num_params']:,} parameters, {len(official.meta['categories'])} classes: {official.meta['categories'][:3]}"
)
for one in (official, weights):
    how = one.transforms()
    print(
        f"resize to {how.resize_size[0]}, crop to {how.crop_size[0]}, mean {how.mean}, std {how.std}"
    )

# %% [markdown]
# Many texts still write `pretrained=True`. That argument cannot say which weights you want, so it always means the oldest set.
# `models.resnet18(weights=official)` builds and fills in one line. It returns a network in training mode, so `.eval()` is
# still up to you. With `COURSE_PROFILE=full` the next cell runs that line on eight test pictures of your data.
#
# What does the preparation do to one picture?

# %%
star = images[truth.index("solid star")]
for step, values in {
    "the file": star,
    "from 0 to 1": star / 255,
    "prepared": transform(star),
}.items():
    print(
        f"{step:>12}: {values.min():6.2f} to {values.max():6.2f}, mean {values.float().mean():6.2f}"
    )

samples = open_data(run, transform=transform).test.dataset.samples
if run.weights == "imagenet":  # 45 MB, once
    own = [read_picture(path) for path, _ in samples[:8]]
    print(ask(models.resnet18(weights=official).eval(), own, official))

# %% [markdown]
# Whole numbers become numbers from 0 to 1. Then, for each colour, the mean is subtracted and the result divided by the standard
# deviation (`std`). The values now lie around 0, as during training. Take the numbers from the object, and you need not know
# them.
#
# ## Look inside
#
# `print(model)` writes the whole structure. Here is one part of each kind.

# %% tags=["nbval-check-output"]
print(len(str(model).splitlines()), "lines in all, among them")
for part in ("conv1", "bn1", "maxpool", "layer1.0", "avgpool", "fc"):
    print(f"({part}): {model.get_submodule(part)}")

# %% [markdown]
# The dotted names are addresses: `layer1.0.conv2` is the second convolution of the first *block* of `layer1`. Each block adds its
# input to its result; the printout does not show that sum. Now send a star through, and look at what arrives.

# %%
parts = ["relu", "layer1", "layer2", "layer3", "layer4", "flatten"]
watch = create_feature_extractor(model, parts)
with torch.no_grad():
    found = watch(transform(star)[None])
print({name: tuple(values.shape) for name, values in found.items()})
plots.map_stacks(
    star, {("stem" if name == "relu" else name): found[name][0] for name in parts[:-1]}
)

# %% [markdown]
# Each card is one *map*, bright where one filter, or *channel*, answers. Shown are the few maps of each part that vary most
# and differ most from each other. The stem (`conv1`, `bn1`, `relu`) and `layer1` still
# draw the star; later maps no longer look like it. At the end the mean of each map is taken. That leaves 512 numbers, the
# *features*, and the last layer, `fc`, turns them into logits.
#
# What do the channels answer to? In the first layer you can look at the filters, since they apply to pixels.


# %%
def strongest(model, count=16):
    """The filters of the first layer that vary most."""
    filters = model.conv1.weight.detach()
    return list(filters[filters.flatten(1).std(dim=1).argsort(descending=True)[:count]])


filters = strongest(model) + strongest(models.resnet18())
plots.show_images(
    filters, columns=16, title="Training drew the upper filters; the lower ones are untrained"
)

# %% [markdown]
# Edges and stripes, in many directions and colours. Nobody designed them. Deeper filters apply to maps, so looking at them tells
# you little. Look instead for the pieces of pictures at which a channel answers most. Here are nine channels, three of each layer,
# chosen by hand because they are easy to name. The later the layer, the larger the pieces.

# %%
many, _ = shapes(per_class=20, seed=200)
with torch.no_grad():
    answers = watch(transform(many))
sides = {"layer1": 15, "layer2": 23, "layer3": 39}  # of a piece, in pixels
chosen = {"layer1": (32, 49, 31), "layer2": (6, 35, 126), "layer3": (144, 196, 195)}
rows = {
    f"{layer} #{channel}": strongest_pieces(many, answers[layer][:, channel], sides[layer])
    for layer, channels in chosen.items()
    for channel in channels
}
plots.strongest_patches(
    rows,
    title=f"Small things first, whole shapes last: of {len(many)} pictures, what excites a channel most",
)

# %% [markdown]
# First dots, an edge, a curve. Then an inner curve, a dotted rim, a tip. Then dotted rings, dotted stars, and crosses, in many
# colours. Rings are among the classes, but nobody said which channel should find them. You can now look into a network. Few
# people ever do.
#
# ## From logits to a name
#
# Softmax makes logits positive and lets each row add up to 1. A row is one picture, so the sum runs over the classes: `dim=1`.

# %%
probabilities = model(transform(star)[None]).softmax(dim=1)
values, places = probabilities[0].topk(3)
print(f"the row adds up to {probabilities.sum().item():.3f}")
top = {names[place]: value for place, value in zip(places, values.tolist())}
plots.bars(
    top,
    label="{:.1%}",
    x="probability",
    title=f"The three best names for the star: {next(iter(top))} first",
)

# %% [markdown]
# ## What the file holds
#
# A *parameter* is a tensor that training changes. A *buffer* belongs to the network too, but no gradient changes it: each *batch norm*,
# a layer that keeps values in range, stores a running mean, a running variance and a count of batches.

# %% tags=["nbval-check-output"]
parameters, buffers = dict(model.named_parameters()), dict(model.named_buffers())
print(f"{len(parameters)} parameters, {len(buffers)} buffers, {len(state)} tensors in the file")
for name in ("bn1.running_mean", "bn1.running_var", "bn1.num_batches_tracked"):
    print(f"{name}: {tuple(buffers[name].shape)}, {buffers[name].flatten()[0]:.2f}")

# %% [markdown]
# So 60 of the 122 tensors in the file are nothing that an optimizer ever saw. *Parameters only, no buffers* left the running means
# and variances out, and 10 % of the names were right.

# %% [markdown]
# ### Exercise 1.1: a file that does not quite fit
#
# A colleague sends you a dictionary of tensors. All names in it start with `module.`, which a wrapper for several GPUs adds.
# Its *head*, the last layer `fc`, may have been made for other classes, or be missing. A head can also have parts, such as
# `fc.1.weight`. The file may hold tensors that your model does not have. Write `load_checkpoint(model, state)`:
# - load everything that fits, by name and by shape, and leave `state` as it is;
# - return the sorted names of your model that stay as they were built;
# - if a name outside `fc` stays, raise a `ValueError` that names it.
#
# <details><summary>Hint 1</summary><code>model.state_dict()</code> has the names and shapes that your model wants, buffers among them.</details>
# <details><summary>Hint 2</summary>Make a dictionary of what fits, and hand it to <code>load_state_dict</code>. By default that wants all names; one argument changes it.</details>


# %% tags=["exercise"]
# Exercise 01.1
def load_checkpoint(model: nn.Module, state: dict[str, Tensor]) -> list[str]:
    """Load from `state` what fits; return the names that stay as they were. Only names inside `fc` may stay."""
    # Which word must go from the front of each name? What has to agree besides the name?
    ### BEGIN SOLUTION
    own = model.state_dict()
    bare = {name.removeprefix("module."): value for name, value in state.items()}
    fits = {n: v for n, v in bare.items() if n in own and v.shape == own[n].shape}
    stays = sorted(own.keys() - fits.keys())
    if strays := [name for name in stays if not name.startswith("fc.")]:
        raise ValueError(f"not in the file, or of another shape: {strays}")
    model.load_state_dict(fits, strict=False)
    return stays
    ### END SOLUTION


# %% tags=["check"]
check("01.1", load_checkpoint)

# %% [markdown] tags=["solution"]
# `strict=False` alone is tempting: it silences every complaint. With the prefix left on, it loads nothing at all and says nothing.
# Here it is allowed to be silent about `fc` only, since your own comparison has gone through all other names before.

# %% [markdown]
# ## The mode
#
# A network has two modes. In evaluation mode, batch norm uses the stored statistics. In *training mode* it uses mean and
# variance of the pictures in the batch. Dropout, which other networks have, is silent in evaluation mode and drops values in training mode.
#
# **Guess first.** Somebody forgets `eval()`. Where does that hurt most: `"one picture alone"`, `"ten of one class"` or `"forty mixed"`?

# %%
guess_batch = None

# %%
ordered, their_labels = shapes(per_class=10, seed=300)
mixed = {
    size: share_right(images, labels, training=True, at_a_time=size) for size in (1, 2, 4, 8, 40)
}
alike = share_right(ordered, their_labels, training=True, at_a_time=10)
hurt = {"one picture alone": mixed[1], "ten of one class": alike, "forty mixed": mixed[40]}
print(f"your guess {guess_batch}; it hurts most: {min(hurt, key=hurt.get)}")
plots.batch_sizes(mixed, (10, alike), evaluation=share_right(images, labels))

# %% [markdown]
# Forty mixed pictures do next to no harm, so a shuffled test hardly finds this fault. Alone, 71 % are right, about two thirds on
# other sets. Ten of one class are what a folder read from top to bottom gives you, and only 35 % are right. Batch norm subtracts what the pictures have in
# common, and there that is the class. In evaluation mode the other pictures do not matter.
#
# ## Ten pictures whose names you know
#
# Which test does see something? Show ten pictures that the network named rightly when all was in order, one at a time.

# %%
for way, changes in ways.items():
    right = share_right(images[:10], labels[:10], **{"at_a_time": 1} | changes)
    print(f"{'passes' if right == 1 else 'caught':>7}, {10 * right:4.1f} of 10: {way}")

# %% [markdown]
# It catches everything but the harmless mean. Keep ten such pictures beside every file of weights, and an `assert` in every program
# that loads it. It takes less than a second.

# %% [markdown]
# ### Exercise 1.2: one picture, one answer
#
# Write `predict(model, weights, image)`. Return the name of the most likely class and its probability. `image` is a PIL picture. It may
# be grey, have a palette, or a fourth channel for transparency; the network wants red, green and blue. The answer must not
# depend on the modes in which the model comes: say a batch norm in evaluation mode, and the rest in training mode. Each part
# must leave in the mode in which it came.
#
# <details><summary>Hint 1</summary>Four steps: three channels, preparation, a batch of one, evaluation mode around the call.</details>
# <details><summary>Hint 2</summary><code>image.convert("RGB")</code> gives three channels; <code>tensor[None]</code> makes a batch of one; <code>with eval_mode(model):</code> of this course is evaluation mode with a way back.</details>


# %% tags=["exercise"]
# Exercise 01.2
def predict(model: nn.Module, weights, image: Image.Image) -> tuple[str, float]:
    """The most likely class of `image`, and its probability; `model` is left as it was found."""
    # What does `weights` know that the model does not? In which mode may the model be asked?
    ### BEGIN SOLUTION
    batch = weights.transforms()(image.convert("RGB"))[None]
    with eval_mode(model), torch.inference_mode():
        probability, place = model(batch).softmax(dim=1)[0].max(dim=0)
    return weights.meta["categories"][place], probability.item()
    ### END SOLUTION


# %% tags=["check"]
check("01.2", predict)

# %% [markdown] tags=["solution"]
# `eval_mode` notes the mode of each part and puts it back. `model.train(was_training)` at the end is tempting. It gives all parts one
# mode, and wakes a frozen batch norm that somebody had put to sleep on purpose. `torch.inference_mode()` is something
# else: it saves memory and time, and changes no answer.

# %% [markdown]
# ## It must say something
#
# One question remains that no test of loading answers. Here are pictures of another world, for which the network has no name at all.
# You see the eight answers of which it is surest.

# %%
strangers = [read_picture(path) for path, _ in samples[:270]]
answers = list(zip(strangers, ask(model, strangers)))
surest = sorted(answers, key=lambda pair: pair[1][1], reverse=True)[:8]
title = f"Of {len(answers)} pictures of another world, the eight surest answers"
plots.answers(*zip(*surest), columns=4, title=title)

# %% [markdown]
# All eight are wrong, and the surest is as sure as the network is of a real shape. Probabilities compare the classes that it has, and
# none is called *none of these*. Lesson 02 gives it new names.
#
# ## What you can do now
#
# - Load weights, with preparation and class names from the same object.
# - Find a part by its dotted name, and see what its channels respond to.
# - Load a file that does not quite fit, and know what stayed behind.
#
# So what does a file of weights need beside it? Three things: the architecture, the preparation of pictures, and the class names
# in their order. Two more are up to you: all tensors must arrive, buffers too, and the network must be in evaluation mode. A
# wrong architecture or a missing name complains, unless `strict=False` silences it. Ten pictures whose names you know find
# the rest.
#
# ## Going further
#
# - The same elsewhere: `timm.create_model("resnet18", pretrained=True)` with `timm.data.resolve_model_data_config(model)`; fastai's
#   `vision_learner` prepares pictures by itself; in Keras each network has a `preprocess_input` of its own.
# - [torchvision's page on models and weights](https://docs.pytorch.org/vision/stable/models.html) lists every recipe with its accuracy.

# %%
progress("01")
