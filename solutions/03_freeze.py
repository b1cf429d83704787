# %% [markdown]
# # 3. Freeze layers
#
# A pretrained backbone is worth keeping, so you freeze it. One question runs through this lesson: **I froze it. Did it stand
# still, and should it?**
#
# You will be able to
# - freeze a model by whole names, and prove what moved;
# - tell three switches apart: gradient, mode, optimizer;
# - decide what batch norm should do in a frozen backbone.
#
# 45 minutes.

# %% tags=["setup"]
import inspect

import torch
from torch import nn
from torch.nn import functional as F
from torchvision import models
from torchvision.transforms import v2

from course_utils import check, finetune, get_weights, load_model, open_data, pictures, plots
from course_utils import progress, read_picture, replace_head, settings

run = settings()
torch.manual_seed(run.seed)
transform = get_weights("resnet18", run.weights).transforms()
data = open_data(run, transform=transform)
images, labels = next(iter(data.train))

# %% [markdown]
# A model's state consists of two kinds of tensors. An optimizer changes the *parameters*, such as weights. Layers keep *buffers*
# for themselves: in a ResNet, the running mean, the running variance and a counter of each batch norm.
#
# **Guess first.** Every parameter of the backbone is frozen. One training step follows, for the new head only.

# %%
guess = None  # what moves in the frozen backbone: "nothing", "parameters", "buffers" or "both"?

# %% tags=["nbval-check-output"]
model = load_model("resnet18", weights=run.weights).requires_grad_(False)  # frozen, all of it
replace_head(model, len(data.classes))  # a new layer is born unfrozen
before = {name: value.clone() for name, value in model.state_dict().items()}

model.train()  # the usual first line of a training loop
F.cross_entropy(model(images), labels).backward()
torch.optim.SGD(model.fc.parameters(), lr=0.1).step()

after = {name: value for name, value in model.state_dict().items() if not name.startswith("fc.")}
moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
weights, buffers = (
    moved & set(dict(named)) for named in (model.named_parameters(), model.named_buffers())
)
print("your guess:", guess)
print(f"moved in the backbone: {len(weights)} parameters, {len(buffers)} buffers")

# %%
plots.stillness(before, model)

# %% [markdown]
# Each tile is a tensor. Grey ones stood still, pink ones moved. Each parameter has a flag, `requires_grad`, and the flags kept
# their promise: no frozen weight changed. But all 60 buffers did, and nobody asked them to.
#
# In *training mode* a batch norm normalises by the mean and variance of the current batch. Then it mixes both into its running
# statistics. Its attribute `momentum` is the share of the new batch in that mix, normally 0.1. (The momentum of SGD is another
# thing of the same name.) All this takes no gradient, so no flag can stop it. *Evaluation mode* can: there the layer uses its stored statistics
# and leaves them alone.
#
# ## The lines that freeze
#
# So "frozen" takes two switches: the flag for the weights, the mode for the statistics. The third, the optimizer, comes below.
# This is how the course sets the two.

# %%
for function in (finetune.freeze, finetune.unfreeze, finetune.train_mode, finetune._eval_frozen):
    print(inspect.getsource(function))

# %% [markdown]
# `train_mode` walks through the model: any part in which nothing learns goes back into evaluation mode. In plain PyTorch, with only
# the head unfrozen, that is two lines. They stand *inside* the loop, because a single `model.train()` wakes everything again:
#
# ```python
# for epoch in range(epochs):
#     model.eval()
#     model.fc.train()
# ```
#
# The order counts, too. Either freeze first and replace the head afterwards, as above. Or replace it, freeze everything, and
# unfreeze the head. If you forget the last step, nothing learns, and PyTorch raises an error. Be grateful for errors. The rest of
# this lesson is silent.

# %%
model = finetune.freeze(load_model("resnet18", weights=run.weights))
replace_head(model, len(data.classes))
before = {name: value.clone() for name, value in model.state_dict().items()}

finetune.train_mode(model)
F.cross_entropy(model(images), labels).backward()
torch.optim.SGD(model.fc.parameters(), lr=0.1).step()
plots.stillness(before, model)

# %% [markdown]
# Only the two tensors of the head are pink. A flag is a promise; this map is a measurement. You will write such a test yourself
# in exercise 3.2.
#
# ## Dropout follows the mode, too
#
# VGG16 has no batch norm, but two dropouts in front of its last layer. Here every weight is frozen. One picture goes in twice, and
# 60 of the features that come out are drawn as grey bars.

# %%
vgg = finetune.freeze(load_model("vgg16", weights=run.weights))
vgg.classifier[6] = nn.Identity()  # without its head: features come out
with torch.no_grad():
    features = {
        "evaluation mode": [vgg.eval()(images[:1])[0] for _ in range(2)],
        "training mode": [vgg.train()(images[:1])[0] for _ in range(2)],
    }
plots.barcodes(features)

# %% [markdown]
# Nothing is trained, and still one picture gets two answers. In training mode dropout throws away other features each time.
# About half of the bars are white in evaluation mode, too: those are the zeros of the last ReLU.
#
# This has a catch. A dropout holds no parameters, so nobody can see whether it is frozen. `train_mode` switches it off inside a
# part that is frozen as a whole. Beside an unfrozen layer, as in VGG16's `classifier`, it stays awake. To the new head that is
# ordinary dropout. To anybody who expects fixed features it is noise.

# %% [markdown]
# ### Exercise 3.1: let only some parts learn
#
# A colleague hands you a model in an unknown state: some parts are frozen, modes are mixed, and gradients of
# earlier steps may be left. Write `freeze_all_but(model, parts)`.
# `parts` is a list of names such as `["layer4", "fc"]`. Afterwards these parts learn, in training mode. Everything else
# stands still: parameters, statistics *and* dropout. Return the same model.
#
# The check trains two steps right after your function, with all parameters in the optimizer. It leaves the modes as you set them.
#
# <details><summary>Hint 1</summary>Freeze the whole model first, flags and mode. Then unfreeze the parts, flags and mode. And
# throw old gradients away, as <code>finetune.freeze</code> does: an optimizer would apply them.</details>
# <details><summary>Hint 2</summary><code>model.get_submodule("layer4.1")</code> finds a part by its dotted name, and only that part.</details>


# %% tags=["exercise"]
# Exercise 03.1
def freeze_all_but(model: nn.Module, parts: list[str]) -> nn.Module:
    """Let only the named parts of `model` learn, and return `model`."""
    # Two switches for each part: does it get gradients, and in which mode is it?
    ### BEGIN SOLUTION
    model.requires_grad_(False).eval()
    model.zero_grad()  # no gradient is left for an optimizer to apply
    for part in parts:
        model.get_submodule(part).requires_grad_(True).train()
    return model
    ### END SOLUTION


# %% tags=["check"]
check("03.1", freeze_all_but)

# %% [markdown] tags=["solution"]
# Frozen means two things, so two switches are set for the whole model and set back for the parts. `zero_grad()` sets every
# gradient to `None`. A loop over
# `named_parameters()` with `if part in name` is tempting. It leaves statistics and dropout awake, and `"features.1" in name` is
# also true for `features.10`, as you will see.

# %% [markdown]
# ## Should it stand still?
#
# So statistics can drift. Is that bad? It depends on whom you ask, so ask twice. The *old task*: put the old head back on, and
# show the model shapes. Does it answer as before? The *new task*: does the new head name new pictures rightly?
#
# And try two kinds of new pictures: by day, as bright as the ones the backbone grew up with, and the same ones at night.

# %%
dim = v2.ColorJitter(brightness=(0.3, 0.3))  # every picture at 0.3 of its brightness
night = open_data(run, transform=v2.Compose([dim, transform]))

shapes = pictures("shapes", 3, seed=77)[0]
samples = data.train.dataset.samples
things = [read_picture(path) for path, _ in samples[:: len(samples) // 3][:3]]
titles = ["old task"] * 3 + ["by day"] * 3 + ["at night"] * 3
figure = plots.show_images([*shapes[:9:3], *things, *map(dim, things)], titles, columns=9)
plots.described(figure, "Three shapes, three new pictures by day, and the same three at night.")

# %%
old_model = load_model("resnet18", weights=run.weights).eval()
old_head, shapes = old_model.fc, transform(torch.from_numpy(shapes).permute(0, 3, 1, 2))
with torch.no_grad():
    old_answers = old_model(shapes).argmax(1)


def both_tasks(model, val):
    """The share of old answers that the old head still gives, and of val pictures that the new head names rightly."""
    model.eval()
    with torch.no_grad():
        hits = [model(images).argmax(1) == labels for images, labels in val]
        new_head, model.fc = model.fc, old_head
        old = (model(shapes).argmax(1) == old_answers).float().mean().item()
        model.fc = new_head
    return old, torch.cat(hits).float().mean().item()


# %% [markdown]
# **Guess first.** Four runs follow, two by day and two at night: the same frozen weights, five epochs for the new head. Of each two
# one backbone is kept in evaluation mode, the other goes into training mode in every epoch. Look at the night. Which mode ends higher
# on the old task, and which on the new one: `"evaluation"`, `"training"` or `"equal"`?

# %%
guess_old = None  # at night, which mode ends higher on the old task?
guess_new = None  # at night, which mode ends higher on the new task?


# %%
def new_model():
    model = finetune.freeze(load_model("resnet18", weights=run.weights))
    torch.manual_seed(run.seed)
    return replace_head(model, len(data.classes))


def train_epoch(model, loader, optimizer):
    for images, labels in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()


def race(model, pictures, set_mode):
    """Train the head for five epochs; (epoch, old task, new task) in between."""
    optimizer, scores = (
        torch.optim.Adam(model.fc.parameters(), lr=0.01),
        [(0, *both_tasks(model, pictures.val))],
    )
    for epoch in range(1, 6):
        set_mode(model)
        train_epoch(model, pictures.train, optimizer)
        if epoch % 2:
            scores.append((epoch, *both_tasks(model, pictures.val)))
    return scores


# %%
results = {
    "day, evaluation": race(new_model(), data, finetune.train_mode),
    "day, training": race(new_model(), data, nn.Module.train),
    "night, evaluation": race(new_model(), night, finetune.train_mode),
    "night, training": race(new_model(), night, nn.Module.train),
}
print("your guesses:", guess_old, "and", guess_new)
plots.two_tasks(results)

# %% [markdown]
# At night evaluation mode keeps the old task whole and learns the new one poorly. Training mode loses 0.40 of the old task and
# is 0.19 ahead on the new one. By day drift cost nothing of the old task: in the left panel three lines lie on each other at 1.0.
# On the new task training mode ends at 0.69 and evaluation mode at 0.62, six of 90 pictures apart. Not one weight of the backbone
# differs between these runs.
#
# On five other sets of pictures, with other heads, it was the same story. At night training mode lost more than a quarter of the
# old task and was ahead on the new one, by more than 0.1 on average. By day the two stayed within 0.1, now one ahead, now the
# other. If you expected a plain bug here, so did we.
#
# ### Adapt once, on purpose
#
# If the statistics should change, there is another way than to let them drift. Measure them once on your own pictures. Then freeze
# for good.

# %%
model = new_model()
for layer in model.modules():
    if isinstance(layer, nn.BatchNorm2d):
        layer.reset_running_stats()
        layer.momentum = None  # the plain mean over all batches
model.train()
with torch.no_grad():
    for batch, _ in night.train:
        model(batch)

results["night, adapted once"] = race(model, night, finetune.train_mode)
for name in ("night, evaluation", "night, training", "night, adapted once"):
    print(f"{name:20} old task {results[name][-1][1]:.2f}, new task {results[name][-1][2]:.2f}")

# %% [markdown]
# Adapting costs more of the old task here, 0.31 is left instead of 0.60, and ties with drifting on the new one. On five other sets,
# too, it did about as well on the new task, or better. What it buys is order. The backbone stands still from then on, so a picture gets
# the same features in every epoch, and you can cache them. And you wrote one decision down, where a drift is nobody's.
#
# Could you train longer instead, in plain evaluation mode? On all five sets it was still behind the adapted backbone at night,
# even after sixty epochs.
#
# > **Evaluation mode** if anybody else needs this backbone: another head, the old task, cached features (lesson 5).
# >
# > **Adapt** if your pictures look different and only your own task counts. Do it once, and write it down.
#
# Setting a batch norm's `momentum` to 0 does not help. Stored statistics stop moving, but training mode ignores them and normalises by the current
# batch.
#
# That was the hardest part of the lesson, and many people who train models for a living have not seen it measured.

# %% [markdown]
# ## Choosing parts by name
#
# Many examples choose the layers that learn in one line: `parameter.requires_grad = "layer4" in name`. Here is a ResNet-18 with
# a new head. You unfreeze `layer4` that way.

# %%
guess_head = None  # with "layer4" in name: does the new head learn?
guess_rises = None  # with "layer4" in name: does val accuracy rise?


# %%
def learn(parts):
    """Train whatever has one of `parts` in its name; the model, and val accuracy after each of five epochs."""
    model, accuracy = new_model(), []
    for name, parameter in model.named_parameters():
        parameter.requires_grad = any(part in name for part in parts)
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(learning, lr=0.01, momentum=0.9)
    for _ in range(5):
        train_epoch(finetune.train_mode(model), data.train, optimizer)
        accuracy.append(both_tasks(model, data.val)[1])
    return model, accuracy


# %%
model, accuracy = learn(["layer4"])
_, with_head = learn(["layer4", "fc"])
print("your guesses:", guess_head, "and", guess_rises)
print(f"layer4 by name:   val {accuracy[0]:.2f} after one epoch, {accuracy[-1]:.2f} after five")
print(f"layer4 and head:  val {with_head[0]:.2f} after one epoch, {with_head[-1]:.2f} after five")
plots.stillness(new_model().state_dict(), model)

# %% [markdown]
# The head's name is `fc`, so it kept its random values. And still it works: `layer4` learns to suit a random head. With the head
# unfrozen the first epoch is better, on each of five other sets, too, and by more than 0.1 on average. After five epochs 0.03 of
# that is left here. A bug that costs a little and says nothing is the hardest kind to find.
#
# The second trap needs layers with numbers. In VGG16 you want to freeze "the first two layers": `features.0`, a convolution,
# and `features.1`, its ReLU.

# %% tags=["nbval-check-output"]
with torch.device("meta"):  # the structure without the numbers: no memory, no time
    vgg = models.vgg16()
layers = [
    name.removesuffix(".weight")
    for name, _ in vgg.features.named_parameters(prefix="features")
    if "weight" in name
]
frozen = {name: "features.0" in name or "features.1" in name for name in layers}
print([name for name in frozen if frozen[name]])
plots.sandwich(
    {name.removeprefix("features."): still for name, still in frozen.items()}, meant="0 and 1"
)

# %% [markdown]
# `"features.1" in name` is also true for `features.10`, 12, 14, 17 and 19. What you get is a sandwich. So compare whole parts of
# a name: `model.get_submodule("features.1")`, or `name.startswith("features.1.")` with the dot at its end.

# %% [markdown]
# ### Exercise 3.2: a test that fires
#
# Write the test that you would want in every project. `before` and `after` are dictionaries from names to tensors, copies of a
# model's state. `may_move` lists the parts that are allowed to change, such as `["fc", "layer4.1"]`, and it may be
# empty. If a tensor outside these parts
# differs, raise an `AssertionError` that names it, and only it. Otherwise do nothing.
#
# <details><summary>Hint 1</summary><code>torch.equal(a, b)</code> is true only if the two are the same to the last bit.</details>
# <details><summary>Hint 2</summary><code>assert condition, text</code> raises with <code>text</code> if the condition is false.</details>


# %% tags=["exercise"]
# Exercise 03.2
def assert_frozen(
    before: dict[str, torch.Tensor], after: dict[str, torch.Tensor], may_move: list[str]
) -> None:
    """Raise an AssertionError if a tensor outside the parts `may_move` has changed."""
    # For each name: is it inside one of the parts? If not, is the tensor the same?
    ### BEGIN SOLUTION
    for name in before:
        allowed = any(name.startswith(part + ".") for part in may_move)
        assert allowed or torch.equal(before[name], after[name]), f"{name} moved"
    ### END SOLUTION


# %% tags=["check"]
check("03.2", assert_frozen)

# %% [markdown] tags=["solution"]
# Every name counts, buffers too, and equality is exact: a frozen tensor does not move *a little*. `torch.allclose` is the
# tempting choice. It lets a small drift pass, and small drifts add up over the steps of a training run.

# %% [markdown]
# ## Three switches
#
# ### Exercise 3.3: predict what moves
#
# A layer with weights and a batch norm, one training step, three switches. Does the layer require gradients? Is it in training mode? Is it in
# the optimizer's list? Write a function that says whether its weights move, and whether its statistics move. The check runs all eight
# combinations. No gradients are left over from earlier steps.
#
# <details><summary>Hint</summary>How were the switches set when you drew the first map, in which no frozen weight and all 60 buffers moved?</details>


# %% tags=["exercise"]
# Exercise 03.3
def what_moves(gradient: bool, training: bool, in_optimizer: bool) -> tuple[bool, bool]:
    """Whether the weights of a layer move in one step, and whether its statistics do."""
    # return weights_move, statistics_move
    ### BEGIN SOLUTION
    return gradient and in_optimizer, training
    ### END SOLUTION


# %% tags=["check"]
check("03.3", what_moves)

# %% [markdown] tags=["solution"]
# Weights need a gradient *and* an optimizer that knows them. Statistics need neither: the forward pass moves them, in
# training mode. The tempting wrong answer is that evaluation mode stops learning. It does not; it stops only the statistics.

# %% [markdown]
# | switch | how | decides |
# |---|---|---|
# | gradient | `requires_grad` | is a gradient computed for this parameter? |
# | optimizer | the list of parameters it was built with | is that gradient applied? |
# | mode | `train()` / `eval()` | are statistics collected, and values dropped? |
#
# Give the optimizer only what learns. A frozen parameter in its list does no harm as long as its gradient is `None`. A gradient of
# *zero* is something else.


# %%
def frozen_weight(gradient, steps=50):
    """A frozen weight of 1, step by step, with `gradient` left on it."""
    weight, values = nn.Parameter(torch.ones(1), requires_grad=False), [1.0]
    optimizer = torch.optim.AdamW([weight], lr=0.1, weight_decay=0.1)
    for _ in range(steps):
        weight.grad = gradient
        optimizer.step()
        values.append(weight.item())
    return values


values = {"gradient None": frozen_weight(None), "gradient zero": frozen_weight(torch.zeros(1))}
ends = " and ".join(f"{value[-1]:.2f} with {name}" for name, value in values.items())
figure = plots.lines(values, title=f"A frozen weight of 1 ends at {ends}", x="step", y="weight")
figure.axes[0].set_ylim(0, 1.05)
plots.described(figure, "Two lines over fifty steps of AdamW: one level, one falling.")

# %% [markdown]
# Zero is not nothing. *Weight decay* pulls every weight that has a gradient towards zero, even if that gradient is zero. An old
# gradient that is left over does worse. That is why `freeze` throws gradients away.
#
# And the answer to the question? Flags hold parameters still. Evaluation mode holds statistics and dropout still. A snapshot tells you
# what you got. Whether statistics *should* stand still is your choice: keep them where others rely on the backbone, and adapt them
# on purpose where your pictures look different.
#
# ## What you can do now
#
# - Freeze a model, unfreeze parts of it by whole names, and keep it so in every epoch.
# - Take a snapshot, train a step, and name what moved.
# - Decide between keeping a backbone's statistics and adapting them.
#
# ## Going further
#
# - fastai's `freeze` lets batch norms learn on, by intention. In Keras `layer.trainable = False` puts a batch norm into inference
#   mode by itself. `timm.utils.freeze` exchanges it for a class that cannot move.
# - [The documentation of `BatchNorm2d`](https://docs.pytorch.org/docs/stable/generated/torch.nn.BatchNorm2d.html) says what each mode does.

# %%
progress("03")
