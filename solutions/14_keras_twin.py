# %% [markdown]
# # 14. The Keras twin
#
# The same body, the same pictures, the same recipe, in two frameworks. What differs, apart from the names?
#
# You will be able to
# - translate every switch of fine-tuning into Keras;
# - train there in two phases, and spot what breaks this recipe;
# - say from a few runs whether two frameworks differ.
#
# 45 minutes.

# %% tags=["setup"]
import os

os.environ["KERAS_BACKEND"] = "torch"  # Keras reads both when it is imported, and never again
os.environ["KERAS_HOME"] = os.devnull  # no settings file of yours is read, and none is written

from statistics import fmean

import torch
from torch import nn
from torch.nn import functional as F

from course_utils import check, fit, freeze, load_model, plots, progress
from course_utils import settings, sweeps, unfreeze
from course_utils.experiments import keras_twin
from course_utils.experiments.keras_twin import batches, channels_last
import keras

run = settings()
torch.set_num_threads(1)  # as when the table was made, so that your runs land on it

# %% [markdown]
# Two frameworks trained VGG16 on drawn boats and cars, 80 for training and 60 for val. Both followed one recipe that goes round:
# a new head learns for five epochs at 0.001, and then the last ten layers of the body learn too, for five epochs at 0.0001. A
# line is the mean of five seeds. Its band reaches from the lowest seed to the highest.
#
# (In the profile full, your own runs see two classes of its pictures. This table stays.)

# %%
table = keras_twin.read_table()
title = "One recipe, two frameworks: phase one goes well in both, phase two in neither"
plots.twin_curves(table, [0.0001], secret=True, title=title)

# %% [markdown]
# **Guess first.** Which line is Keras? And look at phase two: "fine-tuning" does harm here. You will find out why, and
# whether it is the framework's fault.

# %%
guess_line = None  # the line of Keras: "A", "B" or "nobody can tell"

# %% [markdown]
# ## One body in two frameworks
#
# *Keras* is an interface. Since version 3 its *backend*, which does the computing, is TensorFlow, JAX or PyTorch. It is
# chosen before the import: see the set-up. TensorFlow is not needed here.
#
# For a fair comparison, both need the same pretrained weights. Keras' VGG16 starts empty and receives our kernels. PyTorch
# orders the dimensions of a kernel as (out, in, rows, columns), Keras as (rows, columns, in, out). Pictures differ too:
# Keras wants colours last.

# %%
features = freeze(load_model("vgg16", weights=run.weights).features)
splits, kinds = keras_twin.two_classes(run)  # "train" and "val": pictures and labels, 0 or 1
shape = channels_last(splits["val"].images).shape[1:]
body = keras.applications.VGG16(weights=None, include_top=False, input_shape=shape)
body.trainable = False
ours = [one for one in features if isinstance(one, nn.Conv2d)]
theirs = [one for one in body.layers if isinstance(one, keras.layers.Conv2D)]
for one, other in zip(ours, theirs):
    other.set_weights([one.weight.permute(2, 3, 1, 0).numpy(), one.bias.numpy()])

images = splits["val"].images[:8]
maps = features(images).permute(0, 2, 3, 1)
same_maps = torch.tensor(body.predict(channels_last(images), verbose=0))
apart = ((maps - same_maps).abs().max() / maps.abs().max()).item()
print(f"{len(theirs)} kernels turned; outputs are equal to 1e-5: {apart < 1e-5}")
shown = [kinds[int(label)] for label in splits["train"].labels[::8]]
plots.show_images(
    splits["train"].raw[::8], shown, columns=10, title="Some of the pictures for both"
)

# %% [markdown]
# Thirteen kernels turned, and two frameworks give the same features. From here on, whatever differs is training.
#
# ## The recipe, row by row
#
# The recipe goes round in many copies. Our copy had rows that cannot run. Here they are, each with what Keras or Python says:

# %% tags=["nbval-check-output"]
rows = [
    "base model = keras.applications.ResNet50(weights=None)",
    "keras.applications.ResNet50(include_top=False, pretrained=True)",
    "keras.layers.Dense(I, activation='sigmoid')",
    "keras.Model(body.input, keras.layers.Dense(1, activation='sigmoid'))",
    "keras.preprocessing.image.ImageDataGenerator(rescale=1 / 255)",
    "keras.preprocessing.image.flow_from_directory('train', class_mode='binary')",
]
for row in rows:
    try:
        exec(row)
    except Exception as error:
        print(f"{row[:68]}\n    {type(error).__name__}: {str(error)[:74]}")

# %% [markdown]
# In order, the faults are
#
# - a space in a name;
# - `pretrained`, an argument of old torchvision, where Keras has `weights="imagenet"`;
# - a capital I for a 1;
# - a layer that was created, and never applied to the output before it;
# - two readers of pictures that Keras 3 no longer has.
#
# All six are loud, so they are friendly: you lose a minute, not a week. The folder reader of today is
# `keras.utils.image_dataset_from_directory(folder, label_mode="binary", batch_size=32, image_size=(224, 224))`. By default it
# asks for TensorFlow. Plain arrays work as well, and so does a `DataLoader` of PyTorch, in any backend. We use the last, in
# batches of 32.
#
# Mended, the recipe is short. `body.output` goes into a new head, and the last layer is one sigmoid, the probability of
# "car":


# %%
def classify(x):
    """The head of the recipe, on the features `x`."""
    x = keras.layers.Flatten()(x)
    x = keras.layers.Dense(256, activation="relu")(x)
    x = keras.layers.Dense(128, activation="relu")(x)
    return keras.layers.Dense(1, activation="sigmoid")(x)


keras.utils.set_random_seed(run.seed)
model = keras.Model(body.input, classify(body.output))


def learn(net, kept, lr):
    """Train `net` for five epochs on the features `kept`; the share of val right after each."""
    train = batches(kept["train"], splits["train"].labels, seed=run.seed)  # shuffles by itself
    val = batches(kept["val"], splits["val"].labels)
    adam = keras.optimizers.Adam(lr)
    net.compile(adam, loss="binary_crossentropy", metrics=["accuracy"])
    history = net.fit(train, validation_data=val, epochs=5, shuffle=False, verbose=0)
    return history.history["val_accuracy"]


# %% [markdown]
# `compile` says what is trained and how. `fit` is the loop that you wrote in lesson 4: forward, loss, backward, step, and
# after each epoch val.
#
# What `learn` trains on are cached features. `keras.Model(a, b)` cuts out the layers between two places: those before the
# cut run once, those behind it learn.


# %%
def features_at(part, prepared):
    """What `part` makes of the pictures of both splits."""
    found = {n: part.predict(images, verbose=0) for n, images in prepared.items()}
    return {n: torch.tensor(one) for n, one in found.items()}


def phase(last, lr):
    """Cut behind the layer `last`, and train what lies behind the cut."""
    before, behind = keras.Model(model.input, last.output), keras.Model(last.output, model.output)
    prepared = {n: channels_last(split.images) for n, split in splits.items()}
    return learn(behind, features_at(before, prepared), lr)


in_keras = phase(body.layers[-1], 0.001)  # the whole body lies before the cut
print("Keras, phase one:", *(f"{share:.2f}" for share in in_keras))

# %% [markdown]
# Both parts hold the model's own layers, so `model` has learnt. The recipe sends every picture through the whole body in every
# epoch. We measured that on the 60 val pictures: it takes more than twice the CPU seconds. What our `precompute` keeps can go
# into Keras' `fit`, too: it is a loader like any other.
#
# Here is the same in PyTorch, with the same pictures in the same order. Each head starts as its framework does by default:
# Keras spreads the first values more widely than PyTorch.

# %%
width = maps[0].numel()  # of the features of one picture
torch.manual_seed(run.seed)
head = [nn.Linear(width, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 1)]
net = nn.Sequential(*features, nn.Flatten(), *head)


def torch_phase(first, lr):
    """Train net[first:] for five epochs, on the same pictures in the same order."""
    with torch.no_grad():
        kept = {n: net[:first](s.images) for n, s in splits.items()}
    train = batches(kept["train"], splits["train"].labels, seed=run.seed)
    val = batches(kept["val"], splits["val"].labels)
    adam = torch.optim.Adam([p for p in net[first:].parameters() if p.requires_grad], lr=lr)
    loss = F.binary_cross_entropy_with_logits  # the sigmoid is in the loss
    history = fit(net[first:], train, val, adam, epochs=5, loss_function=loss)
    return [epoch.val.accuracy for epoch in history]


in_torch = torch_phase(len(features), 0.001)
print("PyTorch, phase one:", *(f"{share:.2f}" for share in in_torch))

# %% [markdown]
# Both heads name nearly every picture. Where do they hesitate? Here are the six val pictures whose probability in Keras is
# nearest to a half:

# %%
sure = model.predict(channels_last(splits["val"].images), verbose=0)[:, 0]
nearest = sorted(range(len(sure)), key=lambda i: abs(sure[i] - 0.5))[:6]
said = [(kinds[1], sure[i]) if sure[i] > 0.5 else (kinds[0], 1 - sure[i]) for i in nearest]
truth = [kinds[int(splits["val"].labels[i])] for i in nearest]
title = "After phase one: where Keras hesitates"
plots.answers(splits["val"].raw[nearest], said, truth, title=title)

# %% [markdown]
# What do they share? In the drawn world, all six are steamers here: no sail gives them away.
#
# One sigmoid, or two logits as in the other lessons: it is the same decision. One output above a half says "car", and so does
# the larger of two.
#
# ## "The last ten layers"
#
# Phase two frees `body.layers[-10:]`. **Guess first.** VGG16's body has 19 layers in Keras. What share of its parameters do the
# last ten hold?

# %%
guess_share = None  # of VGG16's parameters, the share in the last ten layers: 0.1, 0.5, 0.9?

# %% tags=["nbval-check-output"]
resnet = keras.applications.ResNet50(weights=None, include_top=False, input_shape=(224, 224, 3))
for name, one in (("VGG16", body), ("ResNet50", resnet)):
    last, total = one.layers[-10:], one.count_params()
    held = sum(layer.count_params() for layer in last)
    print(f"{name}: {held:,} of {total:,} parameters, {held / total:.2f}")
    print("   ", *(type(layer).__name__ for layer in last))

# %% [markdown]
# In VGG16 they are seven convolutions and three poolings, with nearly everything. In ResNet50 they are one block, with a fifth.
# Keras counts activations, additions and poolings as layers. So "ten layers" is no size. Count parameters.
#
# The recipe, as it stands, puts `Flatten` behind ResNet50 at 224 px. Compare the first `Dense` with the whole body:

# %%
rows, columns, channels = resnet.output.shape[1:]
sizes = {
    "body of ResNet50": resnet.count_params(),
    "first Dense after Flatten": rows * columns * channels * 256 + 256,
    "first Dense after average pooling": channels * 256 + 256,
}
title = "Flatten makes one layer of the head larger than the body"
plots.bars(sizes, title=title, x="parameters", marked=list(sizes)[1:])

# %% [markdown]
# `GlobalAveragePooling2D` in place of `Flatten` has nearly 50 times fewer parameters there. At our 64 px the maps are small,
# so we stay with the recipe.
#
# ## Phase two
#
# **Guess first.** You saw the bands. In your own run, at the recipe's 0.0001: how far does the first epoch of phase two fall
# below phase one, in each framework?

# %%
guess_fall = None  # how much of val, such as 0.1, the first epoch of phase two loses

# %%
for layer in body.layers[-10:]:
    layer.trainable = True
in_keras += phase(body.layers[-11], 0.0001)  # it compiles again

first = [i for i, one in enumerate(net) if isinstance(one, nn.Conv2d)][-7]
unfreeze(net[first:])
in_torch += torch_phase(first, 0.0001)
print("your guess:", "no guess yet" if guess_fall is None else guess_fall)
for name, found in (("Keras", in_keras), ("PyTorch", in_torch)):
    fall = found[4] - found[5]
    print(f"{name:8}", *(f"{share:.2f}" for share in found), f" fell by {fall:.1f}")

# %% [markdown]
# Both fall in the first epoch, and both swing after that. In the table nine of ten runs fall at once, most of them by more than
# 0.15. One ends at chance.
#
# So it is not the framework. It is the recipe. A likely reason: in its first step Adam moves *every* one of 13.6 million
# values by nearly the full rate (lesson 7), and VGG16 has no batch norm to catch that. The guide of Keras takes 0.00001 for
# this phase. Here are five seeds at both rates; the dots are your own run:

# %%
title = "A tenth of the rate, and phase two does no harm, in both frameworks"
mine = {"Keras": in_keras, "PyTorch": in_torch}
plots.twin_curves(table, [0.0001, 0.00001], mine=mine, title=title)

# %% [markdown]
# That is the answer to your first guess: A was PyTorch, B Keras. If you said that nobody can tell, wait for the last section. At 0.00001 no run ends more than 0.02 below its phase one.
# Phase one left little to gain here. If this felt like a detour, it is the most useful one: a recipe is a hypothesis,
# too.
#
# ## Dividing by 255 is not the preparation
#
# The recipe divides pixels by 255, which leaves values from 0 to 1. Our weights came with a transform of their own: after that
# division it subtracts a mean and divides by a deviation, so values lie around 0, a few units wide. Keras' `preprocess_input`
# for VGG16 swaps red and blue and subtracts a mean, and divides by nothing: values go beyond 100. Its ImageNet weights want it so.
#
# **Guess first.** Train the head on three preparations. Which comes last?

# %%
guess_last = None  # "ours", "divided by 255" or "preprocess_input"

# %%
from_keras = keras.applications.vgg16.preprocess_input
prepare = {
    "ours": lambda s: channels_last(s.images),
    "divided by 255": lambda s: channels_last(s.raw).astype("float32") / 255,
    "preprocess_input": lambda s: from_keras(channels_last(s.raw).astype("float32")),
}
_, pretrained = keras_twin.bodies(run)  # phase two has changed `body`
found = {}
for name, do in prepare.items():
    kept = features_at(pretrained, {n: do(split) for n, split in splits.items()})
    keras.utils.set_random_seed(run.seed)
    inputs = keras.Input(kept["val"].shape[1:])
    found[name] = learn(keras.Model(inputs, classify(inputs)), kept, 0.001)[-1]
print("your guess:", guess_last or "no guess yet")
title = "The preparation belongs to the weights"
plots.bars(found, title=title, x="share of val right after phase one", label="{:.2f}")

# %% [markdown]
# Keras' own function comes last, near chance here: it is right for other weights. Dividing by 255 costs 0.03 or more on each of
# five seeds. No error tells you. Ask of every set of weights how its pictures were prepared.
#
# ## Batch norm
#
# VGG16 has none, ResNet50 has plenty. A small body shows what `fit` does to it. We train one epoch, and measure how far
# the running mean moves.
#
# **Guess first.** The guide of Keras offers two ways to keep the statistics still once the body is free: freeze the batch
# norm layers, or call the body with `training=False`. Does the second one work?

# %%
guess_still = None  # free, called with training=False: the statistics "move" or "stand still"


# %%
def tiny():
    keras.utils.set_random_seed(run.seed)
    inputs = keras.Input(shape)
    x = keras.layers.Conv2D(8, 3, strides=4)(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))


def drift(free, norm_free=True, training=None):
    """How far the running mean moves in one epoch, in thousandths."""
    small, inputs = tiny(), keras.Input(shape)
    norm = small.get_layer("norm")
    small.trainable = free
    norm.trainable = free and norm_free
    before = norm.moving_mean.numpy().copy()
    pair = keras.Model(inputs, keras.layers.Dense(1)(small(inputs, training=training)))
    pair.compile("adam", loss="mse")
    pair.fit(channels_last(splits["train"].images), splits["train"].labels, verbose=0)
    return 1000 * float(abs(norm.moving_mean.numpy() - before).max())


moved = {"frozen": drift(False), "free": drift(True)}
moved["free, called with training=False"] = drift(True, training=False)
moved["free, batch norm frozen"] = drift(True, norm_free=False)
print("your guess:", guess_still or "no guess yet")
title = "Only freezing the batch norm layers keeps their statistics"
plots.bars(moved, title=title, x="running mean moved by (thousandths)", label="{:.1f}")

# %% [markdown]
# Frozen, nothing moves: Keras runs a frozen batch norm in inference mode by itself. Once it is free, the statistics move, and
# `training=False` does not help. In the Keras of this course, `fit` overrides it inside a functional model, whatever the guide
# says. What helps is to leave the batch norm layers themselves frozen.
#
# ### Exercise 14.1: a model for two phases
#
# A colleague's phase two, for bodies with batch norm:
#
# ```python
# body.trainable = False
# model.compile(keras.optimizers.Adam(0.001), ...)
# model.fit(...)
# for layer in body.layers[-10:]:
#     layer.trainable = True
# model.fit(...)
# ```
#
# Keras refuses to run the last line. And were it compiled again, batch norm would move. Complete `two_phase_model`. It returns the
# model, ready for phase one at 0.001, and a function that starts phase two at 0.0001. In phase one only the head learns. In
# phase two the last `last` layers of the body learn too, but no batch norm.
#
# <details><summary>Hint</summary>Keras says "Unknown variable" where an optimizer has not heard of a layer. `isinstance(layer, keras.layers.BatchNormalization)` tells a batch norm.</details>


# %% tags=["exercise"]
# Exercise 14.1
def two_phase_model(body, last):
    """The model for phase one, and a function without arguments that starts phase two."""
    x = keras.layers.Flatten()(body.output)
    for width in (256, 128):
        x = keras.layers.Dense(width, activation="relu")(x)
    model = keras.Model(body.input, keras.layers.Dense(1, activation="sigmoid")(x))

    def compile_at(rate):
        adam = keras.optimizers.Adam(rate)
        model.compile(adam, loss="binary_crossentropy", metrics=["accuracy"])

    # Freeze, free and compile: what belongs to phase one, what to phase two?
    ### BEGIN SOLUTION
    def start_phase_two():
        for layer in body.layers[-last:]:
            layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
        compile_at(0.0001)

    body.trainable = False
    compile_at(0.001)
    return model, start_phase_two
    ### END SOLUTION


# %% tags=["check"]
check("14.1", two_phase_model)

# %% [markdown] tags=["solution"]
# Compile after each change of what is trainable. PyTorch's optimizer is silent about a layer that it does not know (lesson
# 7); Keras refuses, which is kinder. `body.trainable = True` for phase two is tempting: it frees every layer, and batch norm.

# %% [markdown]
# ## The switches, side by side
#
# | what you want | PyTorch | Keras |
# |---|---|---|
# | freeze a layer | `p.requires_grad = False` for its parameters | `layer.trainable = False` |
# | its batch norm stands still | `layer.eval()` as well | comes with `trainable = False` |
# | training or inference | `model.train()`, `model.eval()` | `training=` in a call; `fit` and `predict` choose |
# | tell the optimizer | a new one, or `add_param_group` | `compile` again |
# | rates by layer | parameter groups | no such groups: an optimizer of your own |
# | save the weights | `torch.save(model.state_dict(), …)` | `model.save_weights("name.weights.h5")` |
# | Adam's ε, by default | 1e-8 | 1e-7 |
#
# One trap of Keras: without `validation_data`, `fit` measures no val set, and does not complain.
#
# ## Do the two differ?
#
# Here are the differences Keras − PyTorch, by seed. The same seed drew the same pictures for both, so they are *paired*.


# %%
def gaps(rate, epoch):
    """Keras − PyTorch, seed by seed."""
    found = {
        (row["framework"], row["seed"]): row["val"]
        for row in table
        if (row["rate"], row["epoch"]) == (rate, epoch)
    }
    return [found["Keras", seed] - found["PyTorch", seed] for seed in keras_twin.SEEDS]


ends = {"phase one": (0.0001, 5), "0.0001": (0.0001, 10), "0.00001": (0.00001, 10)}
plots.intervals(
    {(f"{name}: Keras", "PyTorch"): gaps(*end) for name, end in ends.items()}, split="val"
)

# %% [markdown]
# All three thick intervals hold 0 (the third is hardly wider than its dots): five seeds cannot tell the frameworks apart. "Nobody
# can tell" was a good guess. But look how wide the middle one is. Runs that swing hide a difference of 0.2. "Cannot tell" is a
# word about the seeds, too.
#
# ### Exercise 14.2: the same numbers?
#
# Write the verdict as a function. `runs` is a list of dictionaries, in any order: `"framework"` ("Keras" or "PyTorch"),
# `"seed"`, `"pictures"` (a fingerprint of the training pictures) and `"val"`. Two runs are a pair if both seed and
# pictures are the same. No framework has two runs with the same seed and pictures. Leave out what has no partner.
#
# Return `[mean, low, high], verdict`, for the differences Keras − PyTorch: their mean, the 95 % interval by
# `sweeps.interval(differences)`, which gives `(low, high)`, and "different" or "cannot tell". With fewer than three pairs return `[], "too few runs"`.


# %% tags=["exercise"]
# Exercise 14.2
def same_numbers(runs: list[dict]) -> tuple[list[float], str]:
    """The paired differences of two frameworks as [mean, low, high], and what they say."""
    # Who is whose partner?
    ### BEGIN SOLUTION
    vals = {(run["framework"], run["seed"], run["pictures"]): run["val"] for run in runs}
    pairs = [key[1:] for key in vals if key[0] == "Keras" and ("PyTorch", *key[1:]) in vals]
    differences = [vals["Keras", *pair] - vals["PyTorch", *pair] for pair in pairs]
    if len(pairs) < 3:
        return [], "too few runs"
    low, high = sweeps.interval(differences)
    verdict = "cannot tell" if low <= 0 <= high else "different"
    return [fmean(differences), low, high], verdict
    ### END SOLUTION


# %% tags=["check"]
check("14.2", same_numbers)

# %% [markdown] tags=["solution"]
# Pairs by seed alone are tempting. Then pictures make a difference that you would blame on a framework.

# %% [markdown]
# ## What you can do now
#
# - Move pretrained weights into Keras, freeze, compile, train, unfreeze, compile again.
# - Mend the recipe that goes round: its rows, its preparation, its batch norm, its rate.
# - Compare two frameworks by pairs of runs, and say when you cannot tell.
#
# What differs apart from the names? Some defaults, who tells the optimizer, and how loud a mistake is. What you know about
# fine-tuning holds in both.
#
# ## Going further
#
# - [Transfer learning and fine-tuning](https://keras.io/guides/transfer_learning/), the guide of Keras, works at 0.00001.
#   Read its part on batch norm with your measurement in mind.
# - [Keras Applications](https://keras.io/api/applications/) lists the bodies, each with its own `preprocess_input`.

# %%
progress("14")
