# %% [markdown]
# # 1. Load a pretrained model
#
# Somebody has trained a network for you. In this lesson you load it, look inside, and ask it about pictures in the way it was
# meant to be asked.
#
# You will be able to
# - load weights together with the preparation of pictures and the class names that belong to them;
# - read a network's printout: modules, parameters, buffers, and where the work is;
# - predict in evaluation mode, so that an answer does not depend on the company.
#
# 25 minutes.

# %% tags=["setup"]
import warnings
from collections import Counter
from functools import partial

import torch
from PIL import Image
from torch import nn
from torchvision import models

import course_utils
from course_utils import check, eval_mode, get_weights, head_name, head_of, load_model, open_data
from course_utils import picture, plots, progress, read_picture, settings

run = settings()
torch.manual_seed(run.seed)
weights = get_weights("resnet18", run.weights)
transform, names = weights.transforms(), weights.meta["categories"]
samples = open_data(run, transform=transform).test.dataset.samples
new = [read_picture(path) for path, _ in samples[:: max(1, len(samples) // 48)]]
known = new[:: max(1, len(new) // 8)][:8]  # ImageNet's pictures do not come with its weights
if run.weights == "shapes":
    known = [picture("shapes", name, seed=run.seed) for name in names[::3]]

# %% [markdown]
# Here is a loaded network at work: a ResNet-18, and eight pictures that it has never seen, of the world that it was trained on.
# Above each stands its answer, and how sure it is.


# %%
def best(model, images):
    """The most likely class of each picture, with its probability in percent."""
    answers = course_utils.predict(model, images, classes=names, transform=transform, k=1)
    return [f"{name}\n{probability:.0%}" for ((name, probability),) in answers]


model = load_model("resnet18", weights=run.weights)
plots.show_images(known, best(model, known))

# %% [markdown]
# The course's own weights name 99.6 % of new shapes correctly, and yet no answer is quite sure. In their training the true class
# was given a little under 1, and the others a little over 0 (*label smoothing*). Being right and being sure are two things.
#
# ## Three things in one object
#
# A file of *weights* alone is of little use. To ask the network anything you also need the preparation of pictures that it was
# trained with (size, mean, standard deviation), and the names of its classes. torchvision keeps the three together in a weights object.
# `get_weights` gives you one of the course's own, or one of torchvision's; they are used alike.

# %% tags=["nbval-check-output"]
tensors = model.state_dict()
print(f"{len(tensors)} tensors, {sum(tensor.numel() for tensor in tensors.values()):,} values")
print(transform)
print(f"{len(names)} classes: {', '.join(names[:: len(names) // 4])}, …")

# %% [markdown]
# `crop_size` is the size of the tensor that the network gets. First the pixels, whole numbers from 0 to 255, become numbers from
# 0 to 1. Then the mean of the training pictures is subtracted, and the result divided by their standard deviation (`std`), one of
# each per colour. Without that, the network sees values that it has never met.
#
# Which networks and which weights does torchvision have? The lists are function calls.

# %% tags=["nbval-check-output"]
print(len(models.list_models(module=models)), "networks that classify pictures, among them")
print(models.list_models(include="resnet*"))
for name in ("resnet18", "resnet50", "vgg16"):
    choices = models.get_model_weights(name)
    print(f"{name}: {[one.name for one in choices]}, DEFAULT is {choices.DEFAULT.name}")

# %% [markdown]
# `DEFAULT` means "the best weights we have today", and it moves. An older script for ResNet-50 resizes pictures to 256 pixels and
# cuts out the middle 224. **Guess first.** To which size do the `DEFAULT` weights of today resize?

# %%
guess = 256  # your guess, in pixels

# %% tags=["nbval-check-output"]
resnet50, vgg16 = models.ResNet50_Weights, models.VGG16_Weights
print(f"your guess {guess}, today {resnet50.DEFAULT.transforms().resize_size[0]}")
for one in (resnet50.IMAGENET1K_V1, resnet50.DEFAULT, vgg16.IMAGENET1K_FEATURES):
    how = one.transforms()
    print(f"{one}: resize {how.resize_size[0]}, first mean {how.mean[0]:.3f}, std {how.std[0]:.4f}")

# %% [markdown]
# ResNet-50's default is a second training recipe, prepared with 232 pixels. VGG16 has an entry of features without a classifier, and
# these want a scale of their own: a `std` of 1/255 = 0.0039. Dividing by it puts the values back on the scale 0 to 255. So take
# the preparation from the object, never from memory.
#
# Many texts still write `pretrained=True`. Since torchvision 0.13 this argument is on its way out. (The cell says `False`, which
# gets the same warning and downloads nothing.)

# %% tags=["nbval-check-output"]
with warnings.catch_warnings(record=True) as heard:
    warnings.simplefilter("always")
    models.resnet18(pretrained=False)
print(heard[0].message)

# %% [markdown]
# It cannot say *which* weights, so it is tied to the first ones for ever. Write `models.resnet18(weights=models.ResNet18_Weights.DEFAULT)`,
# or name the recipe: `IMAGENET1K_V1`. The course's `load_model` does the same for its own weights and checks that the file is whole.

# %% [markdown]
# ## What is inside
#
# A common first test of a loaded network is a tensor of random numbers: one picture, three colours, 224 pixels each way.

# %%
with torch.inference_mode():
    for size in sorted({transform.crop_size[0], 224}):
        scores = model(torch.randn(1, 3, size, size))
        probability, place = scores.softmax(dim=1)[0].max(dim=0)
        print(f"noise of {size}×{size} pixels: scores of shape {tuple(scores.shape)}")
        print(f"   answer: {names[place]}, with probability {probability:.2f}")

# %% [markdown]
# This test says that shapes fit: one picture in, one score per class out. It says nothing about knowledge. Noise gets a name
# too, and at 64 pixels a rather sure one: the probabilities always add up to 1, and no class is called *none of these*.
#
# `print(model)` writes the whole structure. Here is one of each kind: the stem, one of eight *basic blocks*, and the head.

# %% tags=["nbval-check-output"]
print(len(str(model).splitlines()), "lines in all, among them")
for part in ("conv1", "bn1", "maxpool", "layer1.0", "avgpool", "fc"):
    print(f"({part}): {model.get_submodule(part)}")

# %% [markdown]
# The dotted names are addresses: `layer1.0.conv2` is the second convolution of the first block of `layer1`. The stem is a convolution with
# 7×7 pixels per filter that moves two pixels at a time (`stride`), a *batch norm* that keeps values in range, and max-pooling.
# Four groups of two blocks follow. The average pool leaves one number per channel, 512 of them: the *features*. `fc` is the head: 512
# features in, one score per class out, 24 for shapes and 1,000 for ImageNet.
#
# Each block adds its input to what its layers make of it. This *skip connection* gives the network its name: the layers learn only
# the difference, the *residual*. The printout does not show the sum, since it lists layers, not the order in which `forward` uses them.
#
# To see the sizes on the way, hang a *hook* on the parts: a function that PyTorch calls after a part has worked. This copy of the
# network stands on the device `meta`, which knows shapes and computes nothing.


# %%
def outputs_of(model, parts, images):
    """What each of the named parts of `model` gives, on the way, for `images`."""
    found, hooks = {}, []
    for name in parts:
        keep = partial(lambda name, part, inputs, output: found.update({name: output}), name)
        hooks.append(model.get_submodule(name).register_forward_hook(keep))
    model(images)
    for hook in hooks:
        hook.remove()
    return found


size = transform.crop_size[0]
with torch.device("meta"):
    structure = models.resnet18(num_classes=len(names))
    empty = torch.empty(1, 3, size, size)
parts = ["conv1", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool", "fc"]
outputs = {"picture": empty, **outputs_of(structure, parts, empty)}
plots.tensor_sizes(
    {name: output.shape[1:] for name, output in outputs.items()},
    title="A picture on its way through ResNet-18: channels×height×width",
)

# %% [markdown]
# The maps shrink and their number grows: fewer places, more that is known about each place. At 224 pixels all sides are 3.5 times
# as long, `layer4` gives 512×7×7, and the features are 512 again, thanks to the average pool.

# %% [markdown]
# ## Where the values are, and where the work
#
# A *parameter* is a tensor that training changes. A *buffer* is a tensor that belongs to the network and is not learnt by
# gradients: a batch norm keeps a running mean, a running variance and a count of batches. Three networks side by side:

# %% tags=["nbval-check-output"]
with torch.device("meta"):
    networks = {name: models.get_model(name) for name in ("resnet18", "resnet50", "vgg16")}
for name, network in networks.items():
    parameters, buffers = list(network.parameters()), list(network.buffers())
    blocks = [block for block, part in network.named_children() if list(part.parameters())]
    print(
        f"{name}: {sum(p.numel() for p in parameters):,} values in {len(parameters)} parameters,",
        end=" ",
    )
    print(f"{len(buffers)} buffers\n   blocks {', '.join(blocks)}")
    print(f"   head {head_name(network)}: {head_of(network)}")

# %% [markdown]
# ResNet-18 has 20 batch norms, so 60 buffers. With its 62 parameters that makes the 122 tensors of the `state_dict` above. The
# numbers of values differ: ours has 24 outputs and torchvision's 1,000, and a `state_dict` holds the values of the buffers too.
#
# VGG16 has no batch norm and no buffer, and twelve times as many values. It has two parts:
# `features`, 13 convolutions in five blocks, and `classifier`, three linear layers.
#
# Values need memory, multiplications need time. Each weight of a linear layer is used once per picture. Each weight of a convolution
# is used once for *each place* of its output.
#
# **Guess first.** Which share of VGG16's 138,357,544 values sits in the classifier, and which share of its multiplications?

# %%
guess_values, guess_work = 50, 50  # your guesses, in percent

# %% tags=["nbval-check-output"]
vgg, values, work, pools = networks["vgg16"], Counter(), Counter(), 0
everything = [name for name, _ in vgg.named_modules()]
for name, output in outputs_of(vgg, everything, torch.empty(1, 3, 224, 224, device="meta")).items():
    layer = vgg.get_submodule(name)
    pools += isinstance(layer, nn.MaxPool2d)  # each block of convolutions ends with one
    if isinstance(layer, (nn.Conv2d, nn.Linear)):
        block = name if "classifier" in name else f"features, block {pools + 1}"
        values[block] += sum(p.numel() for p in layer.parameters())
        places = output.shape[2:].numel()  # height times width; a linear layer has one place
        work[block] += layer.weight.numel() * places
for guess, counts, what in (
    (guess_values, values, "values"),
    (guess_work, work, "multiplications"),
):
    share = sum(count for block, count in counts.items() if "classifier" in block) / counts.total()
    print(f"{what} in the classifier: your guess {guess} %, counted {share:.1%}")

# %%
plots.opposite_bars(
    values,
    work,
    labels=("share of the values", "share of the multiplications"),
    title="VGG16, one picture of 224×224: values in the classifier, work in the features",
)

# %% [markdown]
# The classifier holds nine tenths of the values and does less than a hundredth of the work. At 64 pixels it does 9 %, since the
# convolutions then have fewer places to visit. So memory goes into the classifier, and time into the features: whoever runs the
# features of a picture once and keeps their output has saved most of the time. Lesson 05 does. ResNets have no such classifier;
# their average pool leaves so few features that one linear layer is enough.

# %% [markdown]
# ### Exercise 1.1: count the values
#
# Write `count_parameters(model)`. Return a dictionary from the name of each top-level block (`conv1`, `layer1`, `fc`, …) to a pair: how
# many values its parameters hold, and how many of these learn (`requires_grad` is true). Blocks without parameters may be left
# out. The check looks at a ResNet-18, a VGG16, and two small models in which one layer stands in two places of a block.
#
# <details><summary>Hint 1</summary><code>model.named_children()</code> gives the blocks, <code>block.parameters()</code> their parameters.</details>
# <details><summary>Hint 2</summary><code>p.numel()</code> is the number of values in a tensor <code>p</code>.</details>


# %% tags=["exercise"]
# Exercise 01.1
def count_parameters(model: nn.Module) -> dict[str, tuple[int, int]]:
    """For each top-level block: how many values its parameters hold, and how many of them learn."""
    # Go through the blocks; for each, add up the sizes of its parameters, twice.
    ### BEGIN SOLUTION
    counts = {}
    for name, block in model.named_children():
        values = sum(p.numel() for p in block.parameters())
        learning = sum(p.numel() for p in block.parameters() if p.requires_grad)
        counts[name] = values, learning
    return counts
    ### END SOLUTION


# %% tags=["check"]
check("01.1", count_parameters)

# %% [markdown] tags=["solution"]
# `parameters()` gives each parameter once, even if a layer is used twice, and it leaves buffers out. Adding up `state_dict()` is
# tempting, since it lists everything with a name: for ResNet-18 it counts 9,620 running means, variances and counters too.

# %% [markdown]
# ## Alone or in company
#
# A network has two modes. In *training mode* a batch norm computes mean and variance from the pictures of the batch. In *evaluation mode*
# it uses the running ones that it has stored. Dropout, which VGG16 has, throws values away in training mode and does nothing in
# evaluation mode. `load_model` gives you evaluation mode; torchvision's own functions give training mode.
#
# **Guess first.** The first picture above gets a probability of about 0.9 for its class. What does the same network say about the same
# picture in training mode, when the picture is alone in its batch?

# %%
guess = 0.9  # your guess, between 0 and 1

# %%
batch = torch.stack([transform(image) for image in known])
place = model(batch)[0].argmax()


def probability(images, training):
    """What the first of `images` gets for its class, from a freshly loaded network."""
    fresh = load_model("resnet18", weights=run.weights).train(training)
    with torch.inference_mode():
        return fresh(images).softmax(dim=1)[0, place].item()


groups = [batch[:count] for count in (1, 3, 5, 8)]
answers = {
    "evaluation mode": [probability(group, training=False) for group in groups],
    "training mode": [probability(group, training=True) for group in groups],
}
print(f"your guess {guess:.2f}; alone, in training mode: {answers['training mode'][0]:.2f}")

# %%
title = "One picture: alone, and with two, four and seven others"
sizes = [str(len(group)) for group in groups]
series = {mode: {size: [p] for size, p in zip(sizes, ps)} for mode, ps in answers.items()}
figure = plots.runs(series, title=title, x="pictures in the batch", y="probability of its class")
figure.axes[0].set_ylim(0, 1)
figure

# %% [markdown]
# In evaluation mode the four answers are the same. In training mode they differ widely, and alone the picture gets almost nothing for its
# class: subtracting a picture's own mean throws away what makes it different from others. The weights were the same all the time.
#
# The opposite trap is to call `model.eval()` in passing and never switch back: then the next training runs in evaluation mode.
# `with eval_mode(model):` of this course puts every module back into the mode in which it was.

# %% [markdown]
# ## Early and late
#
# What has the network learnt? The filters of the first layer can be looked at, since they apply to pixels.


# %%
def strongest(model, count=16):
    """The filters of the first layer that vary most."""
    filters = model.conv1.weight.detach()
    order = filters.flatten(1).std(dim=1).argsort(descending=True)
    return [filters[i] for i in order[:count]]


untrained = load_model("resnet18", weights=None)
plots.show_images(
    strongest(model) + strongest(untrained),
    columns=16,
    title="First layer: 16 of 64 filters, trained (above) and before any training (below)",
)

# %% [markdown]
# Nobody designed the upper row. Training made edges and stripes, in many directions and colours, out of noise like that below.
# Now one picture, and the maps that three depths make of it.

# %%
image = known[-2]
drawn, titles = [image], ["the picture"]
for name, output in outputs_of(model, ["bn1", "layer1", "layer3"], transform(image)[None]).items():
    maps = output[0].detach().relu()
    order = maps.flatten(1).std(dim=1).argsort(descending=True)
    count = 8 - len(drawn) % 8  # up to the end of the row
    drawn += [maps[i].expand(3, -1, -1) for i in order[:count]]
    titles += [f"{name}, {maps.shape[1]}×{maps.shape[2]}"] + [""] * (count - 1)
plots.show_images(drawn, titles)

# %% [markdown]
# Bright means: this filter answers here. The early maps follow edges in one direction. The late ones are coarse, and answer to
# something larger in a rough place. Edges are in almost any picture, and that is why borrowing works at all.
#
# The end of the network is the opposite: it knows its 24 classes and nothing else. Show it pictures of the new world, for
# which it has no name. Of 54 of them, here are the eight answers of which it is surest.

# %%
answers = course_utils.predict(model, new, classes=names, transform=transform, k=1)
order = sorted(range(len(new)), key=lambda i: answers[i][0][1], reverse=True)
surest = [new[i] for i in order[:8]]
plots.show_images(surest, best(model, surest))

# %% [markdown]
# A tree is called a triangle, and a car a cross. All eight are wrong, and the surest is as sure as the network is of a real shape.
# (These are the eight surest. Most of the 54 get a lower probability, but no number tells you which are strangers.) A probability
# only compares the classes that the network has.

# %% [markdown]
# ### Exercise 1.2: one picture, one answer
#
# Write `predict(model, weights, image)`. `image` is a PIL picture; it may be grey (mode `L`) or have a fourth channel for transparency
# (mode `RGBA`). Return the name of the most likely class and its probability. The answer must not depend on the mode in which the
# model comes, and the model must go out in the mode in which it came. The check uses small networks, with the course's
# weights object or torchvision's.
#
# <details><summary>Hint 1</summary>Four steps: three channels, preparation, a batch of one, evaluation mode around the call.</details>
# <details><summary>Hint 2</summary><code>image.convert("RGB")</code> gives three channels; <code>tensor[None]</code> makes a batch of one.</details>


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
# `eval_mode` is evaluation mode with a way back. `model.eval()` followed by `model.train()` is tempting and wakes a model that came
# in evaluation mode. `torch.inference_mode()` is something else: it saves memory and time by not recording for gradients, and
# changes no answer. Of the two, only the mode decides what batch norm and dropout do.

# %% [markdown]
# ## What you can do now
#
# - Load weights, and take preparation and class names from the same object.
# - Find a layer by its dotted name, and say where values and work are.
# - Ask a network about a picture so that the answer is the same tomorrow, alone or in a batch.
#
# ## Going further
#
# - The same elsewhere: `timm.create_model("resnet18", pretrained=True)` with `timm.data.resolve_model_data_config(model)`; fastai's
#   `vision_learner` adds the normalisation by itself; in Keras each network has a `preprocess_input` in its own module.
# - [torchvision's page on models and weights](https://docs.pytorch.org/vision/stable/models.html) lists every recipe with its accuracy.

# %%
progress("01")
