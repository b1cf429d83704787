# %% [markdown]
# # 2. Replace the head
#
# How do you give a pretrained model your own classes, and how do you know before training that it worked?
#
# You will be able to
# - replace the last layer of any CNN of torchvision, with sizes read from the old one;
# - recognise three silent mistakes by their loss, and look for five before you train;
# - keep what the old head knows about classes that stay.
#
# 40 minutes.

# %% tags=["setup"]
import copy
import math
from collections import Counter

import torch
from torch import nn
from torch.nn import functional as F
from torchvision import models

from course_utils import (
    check,
    eval_mode,
    get_weights,
    head_name,
    head_of,
    load_model,
    open_data,
    picture,
)
from course_utils import plots, progress, read_picture, settings
from course_utils.experiments.new_heads import features_of
from course_utils.plots.new_heads import Place

run = settings()
torch.manual_seed(run.seed)
weights = get_weights("resnet18", run.weights)
data = open_data(run, transform=weights.transforms())

# %% [markdown]
# This model knows 24 names, and none of them is *boat*. Watch what it calls one.
#
# Its *backbone* turns a picture into 512 numbers, the *features*. Its *head*, the last layer, turns features into one score for
# each class, a *logit*. In this lesson the backbone stays as it is. So each picture goes through it once, and all heads share
# the features. (`load_model` hands it over in evaluation mode.)

# %%
backbone = load_model("resnet18", weights=run.weights)
old_head, backbone.fc = backbone.fc, nn.Identity()  # Identity hands on what it gets: the features
test = features_of(backbone, data.test.dataset, per_class=45)

old_names = weights.meta["categories"]
answers = old_head(test.features).argmax(1).tolist()
said = [
    old_names[i].split()[-1] for i in answers
]  # "striped cross" and "solid cross" are both a cross
truth = [data.classes[label] for label in test.labels]
examples = {name: read_picture(path) for name, path in zip(truth, test.paths)}
if run.weights == "shapes":
    examples |= {name: picture("shapes", f"solid {name}", 0) for name in set(said)}
plots.old_answers(truth, said, examples)

# %% [markdown]
# Every answer is wrong. The 24 names are 8 outlines in three textures; here the texture is left out. But 38 of 45 cars are crosses, and 26 of 45 boats are triangles. On each of five other sets of pictures,
# too, more than two thirds of the cars are crosses. Something in there can tell a car from a boat.
#
# ## A dictionary
#
# So translate. For each old name, take the class that gets it most often among 120 training pictures. Guessing would get a share of
# 0.17 right. Which share does this dictionary get?

# %%
guess = None  # your guess: the share of right names, 0 to 1

# %%
train = features_of(backbone, data.train.dataset, per_class=20)
votes = Counter(zip(old_head(train.features).argmax(1).tolist(), train.labels.tolist()))
dictionary = {}
for (old, new), _ in votes.most_common():
    dictionary.setdefault(old, new)  # the first is the most frequent, and stays
right = [dictionary.get(old) == new for old, new in zip(answers, test.labels.tolist())]
print(f"your guess: {guess}; the dictionary has {len(dictionary)} of {len(old_names)} old names")
print(f"right: {sum(right) / len(right):.2f}")

# %% [markdown]
# 0.45 here, and at least 0.4 on five other sets, without any training. But 24 names are a narrow passage. In front of them lie
# 512 features, and a new head can use them all.
#
# ## One line
#
# In torchvision's ResNets the head is called `fc` (*fully connected*). It is a linear layer: for each class a row of weights, one
# for each feature, and a number to add, the *bias*. Say you want to name ten dog breeds. Here are three real models, each
# built for a thousand classes, with a head for ten:

# %% tags=["nbval-check-output"]
with torch.device("meta"):  # the layers without their numbers: no download, no memory, no time
    three = {"resnet18": models.resnet18(), "resnet50": models.resnet50(), "vgg16": models.vgg16()}
    for name in ("resnet18", "resnet50"):
        three[name].fc = nn.Linear(three[name].fc.in_features, 10)
    three["vgg16"].classifier[6] = nn.Linear(three["vgg16"].classifier[6].in_features, 10)
    for name, model in three.items():
        logits = model(torch.rand(2, 3, 224, 224))
        print(
            f"{name}: {head_of(model).in_features} features, logits of two pictures {tuple(logits.shape)}"
        )

# %% [markdown]
# The line takes its size from the old layer. A typed 512 breaks on ResNet-50, at the first picture.
#
# Now a head for your classes. It is trained for 60 steps, on the features:


# %%
def first_steps(model, optimizer):
    losses = []
    for _ in range(60):
        loss = F.cross_entropy(model(train.features), train.labels)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses


# %%
def share_right(model):
    return (model(test.features).argmax(1) == test.labels).float().mean().item()


torch.manual_seed(run.seed)
untrained = nn.Linear(old_head.in_features, len(data.classes))
head = copy.deepcopy(untrained)
losses = first_steps(head, torch.optim.Adam(head.parameters(), lr=0.003))
print(f"loss {losses[-1]:.2f}, right on new pictures: {share_right(head):.2f}")

# %%
places = [(test.labels == k).nonzero()[:4][-1].item() for k in range(len(data.classes))][
    :6
]  # number 3 of each class


def answers_of(head, names):
    surest, best = (
        head(test.features[places]).softmax(1).max(1)
    )  # softmax makes probabilities of logits
    return [(names[i], value.item()) for i, value in zip(best, surest)]


# %%
rows = {"old head": answers_of(old_head, old_names)}
rows["new head,\nuntrained"] = answers_of(untrained, data.classes)
rows["new head,\n60 steps"] = answers_of(head, data.classes)
images = [read_picture(test.paths[i]) for i in places]
plots.heads_on_pictures(images, [truth[i] for i in places], rows)

# %% [markdown]
# 0.79 of 270 new pictures are right, and at least 0.7 on five other sets. The backbone did not change by one number between the
# rows. Only 3,078 numbers at its end did.
#
# ## Where the head lives
#
# The last layer has another name in every family. `print(model)` shows it; the course's `head_name` finds it. `classifier.6` is what
# you write as `model.classifier[6]`.


# %%
def values_in(part):
    return sum(parameter.numel() for parameter in part.parameters())


found = {}
for family in (
    "convnext_tiny",
    "vgg16",
    "resnet18",
    "densenet121",
    "mobilenet_v2",
    "squeezenet1_1",
):
    with torch.device("meta"):
        model = models.get_model(family)
    last = head_of(model)
    kind = "features" if isinstance(last, nn.Linear) else "maps (1×1 convolution)"
    share = values_in(last) / values_in(model)
    found[family] = Place(share, head_name(model), f"{last.weight.shape[1]:,} {kind}")
plots.head_places(found)

# %% [markdown]
# In VGG16 only `classifier.6` is the head. Replace all of `classifier`, and 119.5 million pretrained parameters are gone, silently.
# SqueezeNet's head is a convolution that looks at one place at a time. It makes a map for each class, and the mean of the map
# is the logit.
#
# ### Exercise 2.1: put in a new head
#
# Write `swap_head(model, num_classes)`. It puts a new last layer in, with sizes read from the old one, and returns the same model.
# All else stays as it was. The check has small models in five layouts: those of the figure except ConvNeXt. In each, the head is
# the last linear layer or convolution.
#
# <details><summary>Hint 1</summary><code>model.named_modules()</code> gives every layer with its dotted name, in the order in
# which they were put in.</details>
# <details><summary>Hint 2</summary><code>model.set_submodule("classifier.6", layer)</code> puts a layer where that name is. A linear layer
# has <code>in_features</code>, a convolution has <code>in_channels</code>.</details>


# %% tags=["exercise"]
# Exercise 02.1
def swap_head(model: nn.Module, num_classes: int) -> nn.Module:
    """Replace the last layer of `model` by a new one with `num_classes` outputs; return `model`."""
    # Which layer is the head, what goes into it, and is it linear or a convolution?
    ### BEGIN SOLUTION
    for name, layer in model.named_modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            place, last = name, layer
    if isinstance(last, nn.Linear):
        model.set_submodule(place, nn.Linear(last.in_features, num_classes))
    else:
        model.set_submodule(place, nn.Conv2d(last.in_channels, num_classes, kernel_size=1))
    return model
    ### END SOLUTION


# %% tags=["check"]
check("02.1", swap_head)

# %% [markdown] tags=["solution"]
# Replacing the whole `classifier` is tempting. It works for DenseNet, and it throws two pretrained layers of a VGG away. Cutting the
# old weight to size is tempting, too: the layer works, but its `out_features` goes on naming the old number.

# %% [markdown]
# That was surgery, and the patient is alive. Before you train it, take its pulse.
#
# ## Before training
#
# Five new heads are coming, none of them trained. There are six classes and 270 pictures. Will a head name all six about equally
# often, or one of them far more often?

# %%
guess = None  # "equally" or "one far more often"

# %%
for _ in range(5):
    fresh = nn.Linear(old_head.in_features, len(data.classes))
    logits = fresh(test.features)
    (name, count), *_ = Counter(logits.argmax(1).tolist()).most_common()
    surest, loss = logits.softmax(1).max(), F.cross_entropy(logits, test.labels)
    print(
        f"{data.classes[name]:7} {count} of {len(truth)}, never surer than {surest:.0%}, loss {loss:.2f}"
    )
print(f"your guess: {guess}; ln {len(data.classes)} is {math.log(len(data.classes)):.2f}")

# %% [markdown]
# Each head has a favourite, and it is not always the same. It gets 84 to 244 pictures, where its share would be 45. On five other
# sets, too, each of a hundred heads gave its favourite at least half more than its share. That is chance, not a fault: all
# pictures have similar features.
#
# And no head is sure: its largest probability here is about a third. So no class is far from 1/*K*. The loss is −ln *p*, where *p* is the probability of the
# right class. So it starts near ln *K*, mostly a little above.
#
# ## Four programs without an error message
#
# Now you forget to replace the head. It has 24 outputs, and your labels are 0 to 5. How does training begin?

# %%
guess = None  # "an error", "near 1.79", or "far above"


# %%
def adam(head):
    return torch.optim.Adam(head.parameters(), lr=0.003)


good, soft, late, kept = (copy.deepcopy(one) for one in (untrained, untrained, untrained, old_head))
programs = {
    "as it should be": (good, adam(good)),
    "softmax in front": (nn.Sequential(soft, nn.Softmax(dim=1)), adam(soft)),
    "optimizer before head": (late, adam(old_head)),
    "old head kept": (kept, adam(kept)),
}
curves = {what: first_steps(model, optimizer) for what, (model, optimizer) in programs.items()}
print("your guess:", guess)
for what, (model, _) in programs.items():
    print(
        f"{what:21} loss {curves[what][0]:.2f} to {curves[what][-1]:.2f}, right {share_right(model):.2f}"
    )

# %%
classes = len(data.classes)
floor = F.cross_entropy(torch.eye(classes), torch.arange(classes)).item()
plots.first_losses(curves, {f"ln {classes}": math.log(classes), "no lower with a softmax": floor})

# %% [markdown]
# Not one of them complains. Two of the mistakes even end nearly as well as the right program, on pictures as easy as these. But
# each has a curve of its own.
#
# - **Old head kept** starts at 4, far above: it is sure of the wrong thing. It recovers, and drags along 18 outputs that no label ever
#   uses.
# - **Optimizer before head** stays where it began. An optimizer holds the tensors that it was given. This one still holds the
#   discarded head, which gets no gradients any more. The new head never learns.
# - **Softmax in front** starts right. But `cross_entropy` applies a softmax itself, so here it comes twice, and the loss cannot
#   fall below 1.04. Here is why, by hand:

# %% tags=["nbval-check-output"]
perfect = torch.eye(6)  # six pictures, each with probability 1 for its class
print("taken for logits, a 1 among five 0s becomes", round(perfect.softmax(1).max().item(), 3))
print("loss:", round(F.cross_entropy(perfect, torch.arange(6)).item(), 2))

# %% [markdown]
# Perfect probabilities, taken for logits, are a weak opinion.
#
# ### Exercise 2.2: look before you train
#
# Write `preflight`, which you can call before every training. It returns the first fault, in this order:
#
# - `"outputs"`: the model has more outputs, or fewer, than there are classes;
# - `"labels"`: one of the labels is not in 0 … *K* − 1;
# - `"probabilities"`: the outputs are no logits; none is below 0, and each row adds up to 1;
# - `"optimizer"`: it does not hold the head that is in the model now;
# - `"sure"`: the first loss is above ln *K* + 1.
#
# If there is none, return `"ok"`. The first look is written already. `eval_mode` puts each part back into its mode afterwards.
#
# <details><summary>Hint</summary><code>optimizer.param_groups</code> is a list of dictionaries; <code>"params"</code> leads to a list of
# tensors. <code>a is b</code> asks whether two names mean the same tensor; <code>a == b</code> compares their values.</details>


# %% tags=["exercise"]
# Exercise 02.2
def preflight(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: torch.Tensor,
    labels: torch.Tensor,
    num_classes: int,
) -> str:
    """The first fault of a start: "outputs", "labels", "probabilities", "optimizer" or "sure"; else "ok"."""
    with torch.no_grad(), eval_mode(model):
        logits = model(images)
    if logits.shape[1] != num_classes:
        return "outputs"
    # Four looks are left. `head_of(model)` is the head that is in the model now.
    ### BEGIN SOLUTION
    if labels.min() < 0 or labels.max() >= num_classes:
        return "labels"
    if (logits >= 0).all() and torch.allclose(logits.sum(1), torch.ones(len(logits))):
        return "probabilities"
    held = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    if id(head_of(model).weight) not in held:
        return "optimizer"
    return "sure" if F.cross_entropy(logits, labels) > math.log(num_classes) + 1 else "ok"
    ### END SOLUTION


# %% tags=["check"]
check("02.2", preflight)

# %% [markdown] tags=["solution"]
# `id` asks for the tensor itself. A new head may begin with the values of the old one, so equal values prove nothing. And ln *K*
# alone is too strict a limit: a fresh head lies a little above it more often than not.

# %% [markdown]
# Keep this function. It takes a second. On whole models it names all three mistakes of the figure. One thing it cannot see: that
# somebody replaced all of a VGG16's `classifier`.
#
# ## Rows that are worth keeping
#
# A row of the head, with its bias, makes one logit. It needs no other row. So a class that the old head knows may bring its row
# along. Here are five shapes that it knows, and houses, which it does not:

# %%
shapes, model = get_weights("resnet18", "shapes"), load_model("resnet18", weights="shapes")
new_names = [*shapes.meta["categories"][2::5], "house"]  # every fifth name from number 2 on
drawn = [
    picture("things" if name == "house" else "shapes", name, seed=77, index=i)
    for name in new_names
    for i in range(8)
]
batch = torch.stack([shapes.transforms()(image) for image in drawn])
targets = torch.arange(6).repeat_interleave(8)
with torch.no_grad():
    old_logits = model(batch)
    model.fc = nn.Linear(model.fc.in_features, 6)
    fresh_logits = model(batch)
kept_logits = torch.cat(
    [old_logits[:, 2::5], fresh_logits[:, 5:]], dim=1
)  # a kept row is a kept column of logits
for name, logits in (("fresh head", fresh_logits), ("five rows kept", kept_logits)):
    loss, right = F.cross_entropy(logits, targets), (logits.argmax(1) == targets).float()
    print(
        f"{name}: first loss {loss:.2f}, right: known {right[:40].mean():.0%}, houses {right[40:].mean():.0%}"
    )

# %%
rows = {}
for what, logits in (("fresh head", fresh_logits), ("five rows kept", kept_logits)):
    surest, best = logits[::8].softmax(1).max(1)  # the first picture of each class
    rows[what] = [(new_names[i], value.item()) for i, value in zip(best, surest)]
plots.heads_on_pictures(drawn[::8], new_names, rows)

# %% [markdown]
# The five known classes are right before any training. The houses are not: one of five trained rows nearly always has a larger
# logit than the random one, and shouts it down. "House" is the one thing left to learn.
#
# ### Exercise 2.3: start from old rows
#
# Write `start_from_old_rows(old_head, old_names, new_names)`. It returns a new linear layer with one row for each of `new_names`. A name
# that is also in `old_names` gets its old row and its old bias. The other rows stay random. The old head must stay untouched, even
# while the new one trains: you will need it to measure forgetting.
#
# <details><summary>Hint 1</summary><code>old_names.index(name)</code> is the place of a name in the old head.</details>
# <details><summary>Hint 2</summary>Setting values of a parameter is no training: do it inside <code>with torch.no_grad():</code>.</details>


# %% tags=["exercise"]
# Exercise 02.3
def start_from_old_rows(
    old_head: nn.Linear, old_names: list[str], new_names: list[str]
) -> nn.Linear:
    """A new head for `new_names`; classes that `old_head` knows begin with copies of their rows."""
    # For each new name: does the old head know it, and in which row?
    ### BEGIN SOLUTION
    new_head = nn.Linear(old_head.in_features, len(new_names))
    with torch.no_grad():
        for row, name in enumerate(new_names):
            if name in old_names:
                new_head.weight[row] = old_head.weight[old_names.index(name)]
                new_head.bias[row] = old_head.bias[old_names.index(name)]
    return new_head
    ### END SOLUTION


# %% tags=["check"]
check("02.3", start_from_old_rows)

# %% [markdown] tags=["solution"]
# Assigning into a row copies its values. `new_head.weight.data = old_head.weight.data[:6]` is tempting, but it is a *view* of the old
# memory, so training the new head changes the old one. Forget the bias, and the logits of that class are off by a constant.

# %% [markdown]
# ## What you can do now
#
# - **Give a model your own classes** with one line, its sizes read from the old layer.
# - **Know before training that it worked**, with five looks: as many outputs as classes, labels that fit, logits and not probabilities,
#   an optimizer that holds the new layer, a first loss near ln *K*.
# - Keep the rows of classes that are known already.
#
# ## Going further
#
# - The course's `replace_head(model, num_classes)` puts the new layer into every CNN of torchvision. In timm it is `model.reset_classifier(10)`.
# - For two classes take two logits with `cross_entropy`, or one with `binary_cross_entropy_with_logits` and labels 0.0 and 1.0. Both are
#   right, and [the documentation](https://docs.pytorch.org/docs/stable/generated/torch.nn.BCEWithLogitsLoss.html) shows the shapes.
#   One logit with `cross_entropy` is a wrong mixture: softmax of a single number is always 1.
# - Inception and GoogLeNet answer more than once in training mode. Their *auxiliary* heads need the new number of classes, too;
#   `replace_head` sees to it.

# %%
progress("02")
