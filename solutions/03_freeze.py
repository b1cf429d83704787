# %% [markdown]
# # 3. Freeze layers
#
# A pretrained network knows a lot. While its new head learns, the rest should stay exactly as it is. In this lesson you
# stop layers from changing, and you prove that they stopped.
#
# You will be able to
# - freeze a backbone and let only the head learn;
# - show that nothing else moved, neither weights nor statistics;
# - name the three switches that decide what moves: gradient, mode, optimizer.
#
# 35 minutes.

# %% tags=["setup"]
import torch
from torch import nn
from torch.nn import functional as F
from torchvision import models
from torchvision.transforms import v2

from course_utils import check, eval_mode, freeze, get_weights, head_of, load_model, open_data
from course_utils import picture, plots, progress, read_picture, replace_head, settings
from course_utils import train_mode, trainable, unfreeze
from course_utils.worlds import WORLDS

run = settings()
torch.manual_seed(run.seed)
weights = get_weights("resnet18", run.weights)
data = open_data(run, transform=weights.transforms())

# %% [markdown]
# Here is a ResNet-18 with a new head, part by part. Everything you see was learnt on another task, except the head at the
# bottom, too small to be seen. Only the head has to learn now.

# %%
model = replace_head(load_model("resnet18", weights=run.weights), len(data.classes))
sizes = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
plots.bars(
    {name: size for name, size in sizes.items() if size},
    x="values that could learn",
    title="ResNet-18 part by part, from the stem to the new head",
)

# %% [markdown]
# ## Freeze everything, then let the head learn
#
# To *freeze* a layer means to stop it from changing during training. A layer learns through its *parameters*: tensors for
# which PyTorch computes a gradient. Each parameter has a flag, `requires_grad`. Set it to `False`, and no gradient is
# computed, so the optimizer has nothing to apply.
#
# Freezing keeps what the backbone knows, and it saves time: no gradient has to travel further back than to the first layer
# that learns.
#
# **Guess first.** The network below gets a head for 10 classes. The whole network has 11,181,642 values. How many are left to
# learn when all but the head is frozen? (A linear layer from 512 values to 10 has one weight for each pair, and 10 biases.)

# %%
guess = 0  # your guess: how many values learn?

# %% tags=["nbval-check-output"]
model = replace_head(load_model("resnet18", weights=run.weights), 10)
model.requires_grad_(False)  # all parameters, at once
model.fc.requires_grad_(True)  # then the head again
learning = sum(trainable(model).values())
total = sum(p.numel() for p in model.parameters())
print(f"your guess {guess:,}; measured {learning:,} of {total:,}: {list(trainable(model))}")

# %% [markdown]
# The order matters. Here the head was replaced first, so it was frozen with the rest and had to be set free again. The other
# right order is to freeze first and replace afterwards: a new layer is born with `requires_grad=True`.
#
# What if you forget? With the head replaced first and everything frozen, nothing learns. PyTorch then complains, at the
# optimizer ("empty parameter list") or at `loss.backward()` ("does not require grad"), which is lucky. The next mistake makes
# no noise at all.

# %% [markdown]
# ## Did anything move?
#
# `requires_grad` is a flag, and a flag is a promise. A measurement is better: copy all tensors, train one step, compare. A
# model holds two kinds of tensors. *Parameters* are what the optimizer changes. *Buffers* are everything else that belongs to
# the model's state: in a ResNet, each batch norm keeps a running mean, a running variance and a counter of batches, as
# buffers. `state_dict()` has both kinds.


# %%
def snapshot(model):
    """A copy of every parameter and buffer; without `clone()` it would change along."""
    return {name: value.clone() for name, value in model.state_dict().items()}


def moved(before, model):
    """Names of the tensors of the backbone that are no longer what they were."""
    after = {name: value for name, value in model.state_dict().items() if name[:3] != "fc."}
    return [name for name, value in after.items() if not torch.equal(value, before[name])]


def step(model, images, labels):
    """One step of training for whatever learns."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    loss = F.cross_entropy(model(images), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


# %% [markdown]
# **Guess first.** The backbone of a ResNet-18 holds 60 parameters and 60 buffers (tensors, not values). All its parameters
# are frozen. One training step follows, in training mode, as usual. How many of each will have moved?

# %%
guess_parameters, guess_buffers = 0, 0  # your guess: of 60 and of 60

# %% tags=["nbval-check-output"]
images, labels = next(iter(data.train))
model = load_model("resnet18", weights=run.weights).requires_grad_(False)
replace_head(model, len(data.classes))
before = snapshot(model)
model.train()  # training mode for the whole network, the usual first line of a training loop
step(model, images, labels)
buffers = [name for name in moved(before, model) if name in dict(model.named_buffers())]
parameters = [name for name in moved(before, model) if name in dict(model.named_parameters())]
print("your guess:", guess_parameters, "parameters,", guess_buffers, "buffers")
print("moved:     ", len(parameters), "parameters,", len(buffers), "buffers, such as", buffers[0])

# %% [markdown]
# No weight moved, and all 60 buffers did. In training mode a batch norm computes the mean and variance of the current batch,
# normalises by them, and mixes them into its running statistics. No gradient is involved, so no gradient flag can stop it.
#
# *Evaluation mode* can: there a batch norm uses its stored statistics and leaves them alone. So a frozen part has to stay in
# evaluation mode. There is a trap: `model.train()` puts *every* layer back into training mode, and a training loop calls it in
# every epoch. This course's loop calls `train_mode(model)` instead, which leaves parts in which nothing learns in evaluation mode.

# %% tags=["nbval-check-output"]
model = replace_head(load_model("resnet18", weights=run.weights), len(data.classes))
freeze(model)  # no gradients, evaluation mode
unfreeze(head_of(model))
before = snapshot(model)
train_mode(model)  # training mode for what learns
step(model, images, labels)
print(
    f"moved: {len(moved(before, model))} of 120 tensors; bn1 in training mode: {model.bn1.training}"
)

# %% [markdown]
# What does the drift cost? Train the head for five epochs, with the frozen backbone in training mode or in evaluation mode.
# After each epoch put the *old* head back on and show the network pictures of its old world. Does it still give the
# answers that it gave before?
#
# Two kinds of new pictures: the ones you know, which are as bright as those of the old world, and the same ones at night.

# %%
transform = weights.transforms()
names = WORLDS["shapes"].classes
drawn = [picture("shapes", name, seed=77, index=i) for name in names for i in range(5)]
source = torch.stack([transform(image) for image in drawn])
old_head = load_model("resnet18", weights=run.weights).fc
dim = v2.ColorJitter(brightness=(0.3, 0.3))  # every picture at 0.3 of its brightness
night = open_data(run, transform=transform, train_transform=v2.Compose([dim, transform]))


def old_answers(model):
    """What `model` says about the source pictures with its old head on."""
    new_head, model.fc = model.fc, old_head
    with eval_mode(model), torch.inference_mode():
        answers = model(source).argmax(1)
    model.fc = new_head
    return answers


examples = [read_picture(path) for path, _ in data.train.dataset.samples[:60:20]]
titles = ["old world"] * 3 + ["by day"] * 3 + ["at night"] * 3
plots.show_images([*drawn[:90:30], *examples, *map(dim, examples)], titles, columns=9)

# %% [markdown]
# **Guess first.** After five epochs of "frozen" training in training mode on the night pictures, which share of the old answers
# is still the same?

# %%
guess = 0.0  # your guess, between 0 and 1


# %%
def drift(loader, set_mode, epochs=5):
    """Share of old answers that are still the same, before training and after each epoch."""
    model = replace_head(load_model("resnet18", weights=run.weights), len(data.classes))
    model.requires_grad_(False).fc.requires_grad_(True)
    answers = [old_answers(model)]
    for _ in range(epochs):
        for images, labels in loader:
            step(set_mode(model), images, labels)
        answers.append(old_answers(model))
    return [(later == answers[0]).float().mean().item() for later in answers]


# %%
kept = {
    "evaluation mode, night": drift(night.train, train_mode),
    "training mode, day": drift(data.train, nn.Module.train),
    "training mode, night": drift(night.train, nn.Module.train),
}
print(f"your guess {guess:.2f}; measured {kept['training mode, night'][-1]:.2f}")

# %%
plots.lines(
    kept,
    title="No weight of the backbone moved in any of these runs",
    x="epochs of training the head on new pictures",
    y="old answers still the same",
)

# %% [markdown]
# All three backbones were frozen by their flags. In evaluation mode the backbone is the same
# network to the last bit. In training mode its batch norms come to describe the new pictures. As long as those look like the
# old ones, more than nine in ten answers stay. At night, more than a fifth of them is lost in five epochs
# (on each of five other sets of pictures, too).
#
# Setting `momentum=0` on a batch norm (here the share of each batch that is mixed in) looks like a way out and is none: the statistics stand still, but in training mode the
# layer still normalises by the current batch, so the answer for a picture depends on its company.

# %% [markdown]
# ### Exercise 3.1: let only some parts learn
#
# Write `freeze_all_but(model, parts)`. `parts` is a list of names such as `["layer4", "fc"]`. Afterwards only these parts learn;
# all other parameters *and statistics* stay as they are. The check trains two steps right after your function and leaves the
# modes as you set them.
#
# <details><summary>Hint 1</summary>Freeze the whole model first, flags and mode. Then set the parts free again, flags and mode.</details>
# <details><summary>Hint 2</summary><code>model.get_submodule("layer4")</code> finds a part by its dotted name, and only that part.</details>


# %% tags=["exercise"]
# Exercise 03.1
def freeze_all_but(model: nn.Module, parts: list[str]) -> nn.Module:
    """Let only the named parts of `model` learn, and return `model`."""
    # Two switches for each part: does it get gradients, and in which mode is it?
    ### BEGIN SOLUTION
    model.requires_grad_(False).eval()
    for part in parts:
        model.get_submodule(part).requires_grad_(True).train()
    return model
    ### END SOLUTION


# %% tags=["check"]
check("03.1", freeze_all_but)

# %% [markdown] tags=["solution"]
# Frozen means two things, so two switches are set for the whole model and set back for the parts. A loop over
# `named_parameters()` with `if part in name` is tempting. It leaves the statistics moving, and `"features.1" in name` is also
# true for `features.10`, as the next section shows.

# %% [markdown]
# ## Choosing parts by name
#
# Many examples choose layers with a test on the name, such as `if "layer4" in name`. Two things go wrong, and neither
# raises an error.
#
# **Guess first.** In a ResNet-18 with a new head, only parameters with `layer4` in their name shall learn. Does the new head learn?

# %%
guess = "yes"  # or "no"

# %% tags=["nbval-check-output"]
model = replace_head(load_model("resnet18", weights=run.weights), 10)
for name, parameter in model.named_parameters():
    parameter.requires_grad = "layer4" in name
learning = trainable(model)
head = [name for name in learning if name.startswith("fc.")]
print(f"your guess {guess}; {sum(learning.values()):,} values learn, of the head: {head}")

# %% [markdown]
# No: the head's name is `fc`. Its random values stay random, while 8,393,728 values below it learn to work around them. The
# loss may fall all the same, so nothing tells you.
#
# The second trap is in VGG16, whose layers have numbers. You want to freeze "the first layers": `features.0`, a convolution
# of 1,792 values, and `features.1`, its ReLU, which has none.

# %% tags=["nbval-check-output"]
with torch.device("meta"):  # the structure without the numbers: no memory, no time
    vgg = models.vgg16()
frozen = [
    name for name, p in vgg.named_parameters() if "features.0" in name or "features.1" in name
]
values = sum(p.numel() for name, p in vgg.named_parameters() if name in frozen)
print(
    f"{values:,} values would be frozen, in",
    sorted({name.removesuffix(".weight") for name in frozen if "weight" in name}),
)

# %% [markdown]
# `"features.1" in name` is also true for `features.10`, `features.12`, `features.14`, `features.17` and `features.19`. The frozen
# layers are a sandwich: number 0 is frozen, 2, 5 and 7 learn, then come five frozen ones, and 21 to 28 learn again. Compare
# whole parts of a name instead: `model.get_submodule("features.1")`, or `name == part or name.startswith(part + ".")`.
#
# Two more spellings that run without complaint and freeze nothing: `parameter.require_grad = False` (a letter is missing;
# Python makes a new attribute), and two `if`s in a row of which the second undoes the first:
# `if "layer" in name: p.requires_grad = False`, then `if "fc" not in name: p.requires_grad = True`.

# %% tags=["nbval-check-output"]
model = load_model("resnet18", weights=run.weights)
for parameter in model.parameters():
    parameter.require_grad = False  # one letter is missing
print(len(trainable(model)), "of", len(list(model.parameters())), "parameters still learn")

# %% [markdown]
# ### Exercise 3.2: a test that fires
#
# Write `assert_frozen(before, after, may_move)`. `before` and `after` are dictionaries from names to tensors, copies of a model's
# state. `may_move` lists parts that are allowed to change, such as `["fc", "layer4.1"]`. If anything else differs, raise an
# `AssertionError` that names it; otherwise do nothing. The check calls your test on runs that went wrong and on runs that went right.
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
# Which weights move in a step is decided by two switches together, and the statistics follow a third:
#
# | switch | how | decides |
# |---|---|---|
# | gradient | `requires_grad` | is a gradient computed for this parameter? |
# | optimizer | the list of parameters it was built with | is this parameter updated? |
# | mode | `train()` / `eval()` | do batch norms use and collect the statistics of the batch, do dropouts drop? |
#
# Give the optimizer only the parameters that learn. A frozen one in its list does no harm as long as its gradient is `None`: the
# optimizer skips it. A gradient left over from before the freeze is applied. Even a gradient of *zero* does harm: for the
# optimizer this parameter learns, and many optimizers pull each such weight a little towards zero in every step (*weight decay*).

# %% tags=["nbval-check-output"]
weight = nn.Parameter(torch.ones(1))
optimizer = torch.optim.AdamW([weight], lr=0.1, weight_decay=0.1)
weight.requires_grad_(False)
for gradient in (None, torch.zeros(1)):
    weight.grad = gradient
    optimizer.step()
    print(f"gradient {gradient}: the frozen weight is {weight.item():.2f}")

# %% [markdown]
# 1.00 − 0.1 × 0.1 × 1.00 = 0.99: no gradient, only decay. That is why `freeze` of this course also throws old gradients away.
#
# ### Exercise 3.3: predict what moves
#
# A network has a layer with a batch norm. Three switches are set for this layer: does it require gradients, is it in training
# mode, is it in the optimizer's list? Write a function that says, for one training step, whether its weights move and
# whether its statistics move. Old gradients are `None`. The check runs the experiment for all eight combinations and compares.
#
# <details><summary>Hint</summary>Look back at the step after which no weight and all 60 buffers had moved. How were the switches set there?</details>


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
# ## What you can do now
#
# - Freeze a model and set parts of it free, by whole names.
# - Take a snapshot, train a step, and list what moved: parameters and buffers.
# - Keep frozen batch norms in evaluation mode, in every epoch.
#
# ## Going further
#
# - timm's `timm.utils.freeze` exchanges frozen batch norms for a class that cannot move; in Keras `layer.trainable = False`
#   puts a batch norm into inference mode by itself; fastai's `freeze` lets batch norms learn on, by intention.
# - [The documentation of `BatchNorm2d`](https://docs.pytorch.org/docs/stable/generated/torch.nn.BatchNorm2d.html) says what each mode does.

# %%
progress("03")
