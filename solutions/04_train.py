# %% [markdown]
# # 4. Train
#
# A training loop prints a falling loss even when something is badly wrong.
# In this lesson you train, look at the answers, and learn what must hold before you believe the curve.
#
# You will be able to
# - write the training loop, and tell from its numbers which line is wrong;
# - compare recipes on val, and open test once;
# - look at a model's answers, save it, and show it a new picture.
#
# 60 minutes.

# %% tags=["setup"]
import copy
import random
import shutil
import tempfile
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import SGD, Adam, Optimizer
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from course_utils import check, eval_mode, evaluate, fit, freeze, get_weights, load_model, open_data
from course_utils import open_model, plots, predict, progress, read_picture, replace_head
from course_utils import save_model, settings, train_mode
from course_utils.drawing import draw, polygon
from course_utils.experiments.filming import Films, film
from course_utils.profiles import HOME

run = settings()
prepare = get_weights("resnet18", run.weights).transforms()  # how pretraining prepared its pictures
data = open_data(run, transform=prepare)  # loaders for train, val and test

# %% [markdown]
# Ten *epochs*, that is, ten passes over all training pictures. Before and after, the model names pictures that it never
# trained on.


# %%
def begin(classes=None):
    """A frozen backbone with a new head, the same each time, and the same order of pictures."""
    torch.manual_seed(run.seed)
    data.train.generator.manual_seed(run.seed)
    backbone = freeze(load_model("resnet18", weights=run.weights))
    return replace_head(backbone, classes or len(data.classes)).to(run.device)


def ask(model):
    """What the model calls each picture of val: a name and its probability."""
    rows = predict(model, shown, classes=data.classes, transform=prepare, k=1)
    return [row[0] for row in rows]


samples = data.val.dataset.samples[:: max(1, len(data.val.dataset) // 90)]  # about 90 of them
shown = [read_picture(file) for file, _ in samples]
truth = [data.classes[number] for _, number in samples]
model = begin()
before = ask(model)
adam = fit(model, data.train, data.val, Adam(model.fc.parameters(), lr=0.001), epochs=10)
after = ask(model)
for when, said in {"before": before, "after": after}.items():
    hits = sum(name == true for (name, _), true in zip(said, truth))
    print(f"{when}: {hits} of {len(truth)} right")
plots.before_and_after(shown, truth, before, after)

# %% [markdown]
# Look at the last row: the surest mistake is a fir that the model calls a boat. Now look at the surest boats above it: each
# has a sail. Does a triangle mean boat to this model? No loss could have given you that suspicion, so look at answers
# after every training. At the end of the lesson you test it.
#
# ## What must hold before you train
#
# A folder of pictures becomes numbers in two steps, and both can go wrong in silence. First the names. `ImageFolder` numbers
# the classes by sorting the folder names as strings. No file lists those numbers. Jupyter keeps backups in a hidden folder
# named `.ipynb_checkpoints`. Suppose one lands among your classes, with a picture in it:

# %% tags=["nbval-check-output"]
tiny = HOME / "data" / "tiny" / "train"
print("before:", ImageFolder(tiny).class_to_idx)
with tempfile.TemporaryDirectory() as place:
    copied = Path(shutil.copytree(tiny, Path(place) / "train"))
    (copied / ".ipynb_checkpoints").mkdir()
    shutil.copy(copied / "boat" / "boat-00.png", copied / ".ipynb_checkpoints")
    print("after: ", ImageFolder(copied).class_to_idx)

# %% [markdown]
# `boat` is now 1, and every other number has moved too. If this happens in val only, a perfect model gets every picture
# wrong. `open_data` of this course skips hidden folders, and refuses splits with different classes.
#
# Second the pixels. They must be prepared as in pretraining. `weights.transforms()` does that in four steps:

# %% tags=["nbval-check-output"]
steps = [
    transforms.Resize(prepare.resize_size, interpolation=prepare.interpolation),  # the shorter side
    transforms.CenterCrop(prepare.crop_size),  # a square from the middle
    transforms.ToTensor(),  # channels first, values from 0 to 1
    transforms.Normalize(prepare.mean, prepare.std),  # minus mean, divided by standard deviation
]
by_hand, unnormalised = transforms.Compose(steps), transforms.Compose(steps[:-1])
wide = shown[0].resize((160, 120))
difference = (by_hand(wide) - prepare(wide)).abs().max().item()
print("largest difference from weights.transforms():", difference)
for name, transform in {"all four steps": by_hand, "without Normalize": unnormalised}.items():
    images = torch.stack([transform(image) for image in shown])
    print(f"{name}: mean {images.mean():.2f}, standard deviation {images.std():.2f}")

# %% [markdown]
# With `Normalize` the numbers lie around 0, with a spread of about 1, as the first layer expects. Without it, they lie
# around 0.4. Nothing complains. Look at these two numbers before every run; below you will see what forgetting costs.
#
# Last, a *smoke test*: send noise through the whole machine once, with three classes and one step.

# %%
model, size = begin(classes=3), prepare.crop_size[0]
noise = torch.randn(5, 3, size, size, device=run.device)
labels = torch.randint(3, (5,), device=run.device)
loss = F.cross_entropy(model(noise), labels)
loss.backward()
SGD(model.fc.parameters(), lr=0.001).step()
print(f"before the step {loss:.3f}, after it {F.cross_entropy(model(noise), labels):.3f}")

# %% [markdown]
# A model that gives each of K classes the same probability has a loss of ln K, the natural logarithm of K. So a loss near
# ln 3 = 1.10 means: it knows nothing about three classes. After the step it is lower. So the shapes fit and
# gradients arrive. The test proves no more than that, and it takes a second.
#
# ## The loop
#
# Here is the classical recipe, written out: stochastic gradient descent (SGD), learning rate 0.001, momentum 0.9 (to
# each step, nine tenths of the step before are added). Five lines do the work. You will find them in nearly every PyTorch project.

# %%
model = begin()
optimizer = SGD(model.fc.parameters(), lr=0.001, momentum=0.9)
complete, sgd = [], []
for epoch in range(10):
    train_mode(model)  # what learns in training mode, what is frozen in evaluation mode
    total = seen = 0
    for images, labels in data.train:
        images, labels = images.to(run.device), labels.to(run.device)
        logits = model(images)  # ask
        loss = F.cross_entropy(logits, labels)  # compare
        optimizer.zero_grad()  # clear the gradients of the last batch
        loss.backward()  # find new ones
        optimizer.step()  # change what learns
        total, seen = total + loss.item() * len(labels), seen + len(labels)
    complete.append(total / seen)  # per picture: the last batch is short
    sgd.append(evaluate(model, data.val).accuracy)
    print(f"epoch {epoch + 1:2}: loss {complete[-1]:.3f}, accuracy on val {sgd[-1]:.2f}")

# %% [markdown]
# Now break it. Three runs, each without one line: clear, backward, or step. `loss.backward()` *adds* its gradients to those
# that are there. Choose from "falls", "stays flat" and "swings". The run without clear is given more epochs, to show its end.

# %%
guess = {"clear": None, "backward": None, "step": None}  # what does the loss do without this line?

# %%
losses = {"complete": complete}
for line, epochs in {"clear": 14, "backward": 3, "step": 3}.items():
    model, values = begin(), []
    optimizer = SGD(model.fc.parameters(), lr=0.001, momentum=0.9)
    for _ in range(epochs):
        total = 0
        for images, labels in data.train:
            logits, labels = model(images.to(run.device)), labels.to(run.device)
            loss = F.cross_entropy(logits, labels)
            if line != "clear":
                optimizer.zero_grad()
            if line != "backward":
                loss.backward()
            if line != "step":
                optimizer.step()
            total += loss.item() * len(labels)
        values.append(total / len(data.train.dataset))
    shape = f"{values[0]:.2f} at first, lowest {min(values):.2f}, {values[-1]:.2f} at the end"
    print(f"without {line}: your guess {guess[line]}; {shape}")
    losses[f"without {line}"] = values
plots.without_one_line(losses)

# %% [markdown]
# No error, three times. Without backward there is no gradient, and without step nobody applies it: both lines are flat, so
# three epochs are enough. The missing clear is the sly one. Each new gradient is added to all the old ones, and the steps
# grow. For seven epochs it looks *better* than the complete loop. But the old gradients push the head past the best place,
# and the loss swings: down to 0.99, up to 1.74, down to 0.77, and then out of the picture.
#
# ## A loop that somebody sent you
#
# "It runs," they write, "but it does not learn." Here it is, with five epochs of its output.


# %%
def sick_epoch(model, loader, optimizer):
    """One pass over the training pictures, as somebody wrote it."""
    model.train()
    total = 0.0
    for images, labels in loader:
        loss = F.cross_entropy(model(images.to(run.device)), labels.to(run.device))
        loss.backward()
        optimizer.zero_grad()
        optimizer.step()
        total += loss.item()
    return total / len(loader.dataset)


model = begin()
optimizer = SGD(model.fc.parameters(), lr=0.001, momentum=0.9)
head, counted = model.fc.weight.clone(), int(model.bn1.num_batches_tracked)
for epoch in range(5):
    print(f"epoch {epoch + 1}: loss {sick_epoch(model, data.train, optimizer):.4f}")
print(f"the head moved by {(model.fc.weight - head).abs().max():.1f}")
print(f"bn1, which is frozen, has counted {model.bn1.num_batches_tracked - counted} batches")

# %% [markdown]
# The loss trembles, so it looks alive. Three things are wrong, and each has left a number on the screen.
#
# ### Exercise 4.1: mend the loop
#
# Write `train_epoch(model, loader, optimizer)`. It trains what learns, leaves what is frozen as it is, and returns the mean loss
# of the pictures *seen*. The model may arrive in either mode. Some loaders drop a short last batch.
#
# <details><summary>Hint 1</summary>Compare the order of the three lines with the loop above.</details>
# <details><summary>Hint 2</summary><code>F.cross_entropy</code> gives the mean of a batch. How many pictures does that stand for?</details>


# %% tags=["exercise"]
# Exercise 04.1
def train_epoch(model: nn.Module, loader: DataLoader, optimizer: Optimizer) -> float:
    """Train what learns in `model` on every batch of `loader` once; return the mean loss of the pictures seen."""
    # The check runs on the processor, so nothing needs `.to(run.device)` here.
    total, seen = 0.0, 0  # of pictures, not of batches
    # The mode first. Then, for each batch, the lines of the loop in the right order.
    ### BEGIN SOLUTION
    train_mode(model)
    for images, labels in loader:
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total, seen = total + loss.item() * len(labels), seen + len(labels)
    return total / seen
    ### END SOLUTION


# %% tags=["check"]
check("04.1", train_epoch)

# %% [markdown] tags=["solution"]
# `model.train()` woke the frozen batch norm; `train_mode` of lesson 3 wakes only what learns. Clearing between backward and step
# threw every gradient away. And a sum of batch means was divided by pictures, so the loss came out 30 times too small.
# Dividing by `len(loader.dataset)` is tempting. It counts pictures that `drop_last` never showed.

# %% [markdown]
# The loss speaks about pictures that the model has practised on. *Validation* pictures, val for short, are those it has not
# trained on. Asking about them must leave no trace.
#
# ### Exercise 4.2: ask, and leave no trace
#
# Write `accuracy_on(model, loader)`: of the pictures that the loader shows, the share that the model gets right in evaluation
# mode. Record no gradients. Afterwards all is as it was: the mode of every part, every `requires_grad` and `.grad`,
# random numbers, and whether PyTorch records gradients.
#
# <details><summary>Hint</summary><code>with eval_mode(model):</code> of this course gives each part back its own mode at the end.</details>


# %% tags=["exercise"]
# Exercise 04.2
def accuracy_on(model: nn.Module, loader: DataLoader) -> float:
    """The share of the pictures of `loader` that `model` gets right; leaves everything as it was."""
    # Evaluation mode for the question, no gradients, and afterwards each part in its own mode.
    ### BEGIN SOLUTION
    hits, seen = 0, 0
    with eval_mode(model), torch.no_grad():
        for images, labels in loader:
            right = model(images).argmax(1) == labels
            hits, seen = hits + right.sum().item(), seen + len(labels)
    return hits / seen
    ### END SOLUTION


# %% tags=["check"]
check("04.2", accuracy_on)

# %% [markdown] tags=["solution"]
# Without evaluation mode, a picture's answer depends on its batch. `model.train()` at the end is tempting, and wakes parts that
# were in evaluation mode for a reason. `torch.set_grad_enabled(False)` without a `with` stays off for the whole
# program, and switching it on again is wrong for somebody who had it off.

# %% [markdown]
# ## Choose on val
#
# Two recipes have run: SGD, and the Adam of the beginning, an optimizer that finds a step size for each parameter by itself.
# Two more follow: Adam with ten times the learning rate, and Adam on pictures that were not normalised.
#
# `keep_best` keeps a *copy* of the head whenever val reaches a new best. For `state_dict()` hands out the head's own tensors,
# and those go on changing while the head learns.

# %%
chosen, best = begin(), {"accuracy": 0.0}


def keep_best(epoch):
    """Copy the head whenever val reaches a new best."""
    if epoch.val.accuracy > best["accuracy"]:
        best["accuracy"], best["head"] = epoch.val.accuracy, copy.deepcopy(chosen.fc.state_dict())


raw, model = open_data(run, transform=unnormalised), begin()
raw_adam = fit(model, raw.train, raw.val, Adam(model.fc.parameters(), lr=0.001), epochs=10)
optimizer = Adam(chosen.fc.parameters(), lr=0.01)
fast = fit(chosen, data.train, data.val, optimizer, epochs=10, after_epoch=keep_best)
histories = {"Adam 0.01": fast, "Adam 0.001": adam, "not normalised": raw_adam}
accuracies = {name: [epoch.val.accuracy for epoch in one] for name, one in histories.items()}
plots.recipes({**accuracies, "SGD 0.001": sgd}, chosen="Adam 0.01")

# %% [markdown]
# In their best epochs, Adam with 0.01 reaches 0.78 and with 0.001 it reaches 0.72: five pictures of 90. That is a thin win,
# by the best of ten epochs; at epoch 10 it is 0.72 against 0.70. On five other sets of pictures 0.01 won too, by at most
# eleven pictures. So 0.001 is a habit, not an answer.
#
# Forgetting to normalise costs more than the better rate gains. The best epoch falls from 0.72 to 0.47 here, and by 0.1 or more
# on each of those five sets. Nothing complained, and the loss fell.
#
# ## The split that flatters
#
# A friend filmed five boats, five cars, and so on, and cut each film into eight frames. Each film shows
# one *scene*: one thing in one place. Here are two of the boats.

# %%
frames = film("boat", 0) + film("boat", 1)
title = "Two scenes, and eight frames of each: nearly the same picture again and again"
figure = plots.show_images(frames, columns=8, title=title)
plots.described(
    figure, "Frames of a scene differ by a small shift; the two scenes differ in everything."
)

# %% [markdown]
# Do what many do: shuffle all 240 frames, keep the first 48 for val, train on the rest. Then also measure 90 pictures of
# scenes that nobody has filmed before.

# %%
guess_val, guess_new = None, None  # accuracy on the val frames, and on pictures of new scenes

# %%
filmed = Films(5, 8, prepare)  # scenes of a class, frames of each
new = Films(15, 1, prepare, seed=8)
order = random.Random(run.seed).sample(range(len(filmed)), len(filmed))  # shuffled positions
train, val = order[48:], order[:48]
model = begin(classes=len(filmed.classes))
optimizer = Adam(model.fc.parameters(), lr=0.01)
fit(model, filmed.loader(train, shuffle=True), filmed.loader(val), optimizer, epochs=10)
on_val, on_new = (evaluate(model, one).accuracy for one in (filmed.loader(val), new.loader()))
print(f"your guesses {guess_val}, {guess_new}; val {on_val:.2f}, new scenes {on_new:.2f}")

# %% [markdown]
# Val flattered you. A *sister* is another frame of the same scene. Here is the reason in pictures:

# %%
sisters = {i: [j for j in train if filmed.scenes[j] == filmed.scenes[i]] for i in val}
print(f"{sum(map(bool, sisters.values()))} of {len(val)} val frames have a sister in train")
pairs = [i for i in val if sisters[i]][:6]
images = [filmed.pictures[i] for i in pairs] + [filmed.pictures[sisters[i][0]] for i in pairs]
title = "Above what you asked, below what the model had practised on"
figure = plots.show_images(images, ["val"] * 6 + ["train"] * 6, columns=6, title=title)
plots.described(figure, "Below each of six val frames stands a training frame of the same scene.")

# %% [markdown]
# You asked about pictures that the model had practised on. On five other sets of films, val was too high by 0.2 or more
# each time. Photos of one afternoon, slices of one patient and crops of one map leak in the same way. The remedy: split scenes,
# not pictures.
#
# ### Exercise 4.3: split scenes
#
# Write `make_splits(names, scenes, fractions, seed)`. Picture `i` has the class `names[i]` and the scene `scenes[i]`. Return three lists of
# positions: train, val, test. A scene is never divided, and belongs to one class. Of each class every list gets at least one
# scene; a class of three scenes has one in each. Larger classes are divided by `fractions`, to within one scene: of 11 scenes at
# 60 %, that is 6.6, train gets 6 or 7. The same seed gives the same lists, also in another run of Python. What you are given
# stays as it is.
#
# <details><summary>Hint 1</summary>Take one class after the other: its scenes, in random order, cut in three. Then collect positions.</details>
# <details><summary>Hint 2</summary><code>rng = random.Random(seed)</code> is a source of randomness of its own; <code>rng.shuffle(names)</code> uses it.</details>
# <details><summary>Hint 3</summary>What if rounding leaves a list empty?</details>


# %% tags=["exercise"]
# Exercise 04.3
def make_splits(
    names: list[str], scenes: list[str], fractions: tuple[float, ...], seed: int
) -> list[list[int]]:
    """Positions for train, val and test: whole scenes, and of each class these shares of its scenes."""
    # For each class: its scenes, in random order, cut in three. Then the positions of each part's pictures.
    ### BEGIN SOLUTION
    rng, train, val, test = random.Random(seed), [], [], []
    for kind in sorted(set(names)):
        mine = sorted({scene for scene, name in zip(scenes, names) if name == kind})
        rng.shuffle(mine)
        a, b = (max(1, round(share * len(mine))) for share in fractions[1:])
        val, test, train = val + mine[:a], test + mine[a : a + b], train + mine[a + b :]
    return [[i for i, scene in enumerate(scenes) if scene in part] for part in (train, val, test)]
    ### END SOLUTION


# %% tags=["check"]
check("04.3", make_splits)

# %% [markdown] tags=["solution"]
# Scenes are shuffled, not pictures, and each class on its own: one shuffle of all scenes may leave val without a class. `max(1, …)`
# keeps a scene for val and test where rounding would give none. `sorted` matters too: a set of strings has another order in
# another run of Python, and with it the splits would change, seed or no seed.

# %% [markdown]
# The hard part is behind you. What is left is the reward.
#
# ## Look at the answers
#
# `chosen` gets back the head of its best epoch. A *confusion grid* then shows what became of each class.

# %%
chosen.fc.load_state_dict(best["head"])
names, probabilities = zip(*ask(chosen))
plots.confusion_grid(shown, truth, names, probabilities, data.classes)

# %% [markdown]
# The title names the mistake made most often. Now read a row: 7 of the 15 fish are called something else, in five directions,
# so no single one of these mistakes is frequent. Then read a column: what does the model like to call a boat? Each case has
# its surest picture, so you also see why.
#
# ## Save it, and show it something new
#
# Save four things: the weights, the architecture, the class names and the preparation of pictures. Weights alone cannot
# name a boat. Then draw a boat, open the file, and ask. The drawing also tests your suspicion: the sail is a triangle.

# %%
with tempfile.TemporaryDirectory() as place:
    path = Path(place) / "things.safetensors"
    names = data.classes
    save_model(chosen, path, architecture="resnet18", classes=names, transform=prepare)
    print(f"{path.stat().st_size / 1e6:.0f} MB")
    opened = open_model(path)

mast = polygon("white", (30, 8), (32, 8), (32, 40), (30, 40))
sail = polygon("khaki", (34, 8), (34, 38), (54, 38))
hull = polygon("tomato", (8, 40), (57, 40), (47, 54), (18, 54))
parts = [{"mast": mast, "sail": sail, "hull": hull}, {"sail": sail}, {"hull": hull}]
drawn = [draw(some, background="midnightblue") for some in parts]
rows = predict(opened.model, drawn, classes=opened.classes, transform=opened.transform, k=1)
title = f"{' and '.join(parts[0])}, then the sail alone, then the hull alone"
plots.answers(drawn, [row[0] for row in rows], title=title)

# %% [markdown]
# For this triangle, the suspicion was wrong. The sail alone is a tree to this model. On ten other sets of pictures it was a tree on nine,
# and with the slower Adam on all ten. The hull alone was a boat on six. A gallery gives you ideas; an experiment tells you which of them hold.
# Change a polygon, and try to fool it.
#
# ## Open test once
#
# *Train* is for learning, *val* for choosing. But a number that you picked because it was the highest is no longer a fair
# measurement. For that there is *test*: one look, after the last choice. A small box counts the looks.


# %%
class TestBox:
    """The test pictures, and how often somebody has looked at them."""

    opened = 0

    def open(self, model):
        self.opened += 1
        return evaluate(model, data.test).accuracy


box = TestBox()

# %%
test = box.open(chosen)
plots.chosen_on_val(fast, test, box.opened)

# %% [markdown]
# Val has 90 pictures, and you picked its number because it was the highest of ten. Test decided nothing, so believe test.
# In epoch 1 train lies below val: train is counted while the head learns, val after the epoch. Run the last cell once more,
# and the stamp tells on you.
#
# **What must hold before you believe a curve?** The classes are numbered alike. The pictures are prepared as in
# pretraining. The first loss is near ln K for K classes. The right tensors move, and no others. No picture of val has a
# sister in train. And test was opened once.
#
# ## What you can do now
#
# - Check folders, pixels and the first loss before training.
# - Write the loop, and tell from its numbers which line is wrong.
# - Compare recipes on val, split by scene, look at the answers, and open test once.
#
# ## Going further
#
# - `learn.fit_one_cycle` (fastai), `model.fit` (Keras) and timm's `train.py` hold the same five lines. scikit-learn's
#   `StratifiedGroupKFold` splits by scene.
# - [The documentation of `ImageFolder`](https://docs.pytorch.org/vision/stable/generated/torchvision.datasets.ImageFolder.html)
#   has the contract of folders.

# %%
progress("04")
