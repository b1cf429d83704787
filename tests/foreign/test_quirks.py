"""Each quirk of `quirks.py`: trained on precomputed features as on pictures, or not split, with a word why.

`pytest -rP tests/foreign/test_quirks.py` shows what became of each.
"""

from __future__ import annotations

import functools
import warnings

import oracle
import pytest
import torch
from oracle import Case, Crash, Silent, judge
from quirks import QUIRKS, Net, learning, net
from torch import nn

from course_utils import fit, split_frozen

EQUAL_WHEREVER = {  # between stem and head: can certainly be split, in front of a learning head and behind a learning layer
    *("relu method in place", "relu function in place result dropped", "relu function in place result used"),
    *("relu module in place old value kept by clone", "relu module in place and residual", "add assign"),
    *("sub method result dropped", "chain of methods in place", "a copy changed and forgotten"),
    *("drop path module", "drop path function", "gaussian noise while training", "dropout by the mode"),
    *("dropout always at work", "dropout module of the root", "dropout of nothing"),
    *("size by method", "shape unpacked", "made like the input", "made from the batch", "resized to another tensor"),
    *("where with numbers", "einsum", "function as an attribute", "recursion", "norm of each picture", "channels last"),
    *("block with dropout", "block with dropout entered piecewise", "block with functional dropout"),
    *("block called by keyword", "transformer layer", "lstm", "list of layers", "dictionary of layers"),
    *("weight norm of old", "weight norm", "spectral norm of old", "pruned", "weights standardised"),
    *("class token", "position interpolated", "buffer as a factor", "buffer that is not saved", "instance norm"),
    *("expanded without memory", "double in between", "spectrum", "lock as an attribute"),
}
EQUAL = {
    *(f"{side}: {name}" for name in EQUAL_WHEREVER for side in ("frozen", "learning")),
    *(
        f"learning: {name}"
        for name in ("noise always", "minus the mean of the batch", "batch flipped", "softmax over the batch")
    ),
    *(f"learning: {name}" for name in ("norm without statistics", "norm without parameters", "divided by the largest")),
    *("plain", "still in training mode", "everything in evaluation mode", "frozen sequential"),
    *(
        "sequential with dropout between",
        "middle learns",
        "only biases learn",
        "only the norm learns",
        "half of the norm learns",
    ),
    *("parameter of the root learns", "frozen factor behind what learns", "parameter behind the head learns"),
    *("integers at the cut", "booleans at the cut", "bytes at the cut", "double precision", "bfloat16 at the cut"),
    *("default arguments", "default argument is none", "keyword only argument"),
    *("output is a tuple", "output is a dictionary", "one channel", "thirteen channels", "size must be given", "flat pictures"),
    *("frozen layer used again behind what learns", "learning layer used twice", "weights tied and frozen"),
    *("low rank adaptation", "adapters between frozen blocks", "side network", "two backbones", "two backbones and one learns"),
    *("skip connections to a learning decoder", "hook on a parameter", "auxiliary head while training"),
    *("deep nesting", "frozen layer that is never called", "learning layer that is never called"),
}


@pytest.mark.parametrize("name", QUIRKS)
def test_a_quirk_is_trained_equally_or_not_split(name):
    verdict = judge(QUIRKS[name])
    print(f"{name}: {verdict}")
    assert verdict.kind != "cannot be trained whole", verdict
    if name in EQUAL:
        assert verdict.kind == "equal", f"{name} can be split, but is not: {verdict}"
        assert verdict.useful, f"{name}: nothing of what is frozen was moved into the frozen part"


def test_the_table_names_quirks_that_are_there():
    assert not EQUAL - set(QUIRKS)
    assert len(EQUAL) >= 25
    assert len(QUIRKS) >= 70


def test_a_norm_that_its_model_keeps_in_evaluation_mode_stays_so_in_fit():
    case = oracle.build(QUIRKS["keeps its norms in evaluation mode"])
    before = case.model.norm.running_mean.clone()
    train, val, _ = oracle.loaders_of(case)
    fit(case.model, train, val, torch.optim.SGD(case.model.parameters(), lr=0.01), epochs=1)
    assert torch.equal(case.model.norm.running_mean, before)


def test_a_model_in_which_nothing_learns_is_refused():
    with pytest.raises(ValueError, match="nothing learns"):
        split_frozen(learning(Net()))


# ------------------------------------------------------------------------------- the judge itself has been seen to fail


class Front(nn.Module):
    """The frozen half of a `Net` that is cut by hand in front of its head; `wrong` may spoil what it computes."""

    def __init__(self, model, wrong):
        super().__init__()
        self.conv, self.norm, self.mix, self.wrong = model.conv, model.norm, model.mix, wrong

    def forward(self, x):
        with torch.no_grad():
            return self.wrong(self.mix(self.norm(self.conv(x))).mean((2, 3)))


class Back(nn.Module):
    def __init__(self, model, wrong):
        super().__init__()
        self.head, self.wrong = model.head, wrong

    def forward(self, x):
        return self.wrong(self.head(x))


def cut_by_hand(model, spoil=lambda model: None, front=lambda x: x, back=lambda x: x, warning=""):
    spoil(model)
    if warning:
        warnings.warn(warning, stacklevel=1)
        return nn.Identity(), model
    return Front(model, front), Back(model, back)


def judged(monkeypatch, **wrong):
    monkeypatch.setattr(oracle, "split_frozen", functools.partial(cut_by_hand, **wrong))
    return judge(net)


def test_the_judge_finds_a_right_cut_equal(monkeypatch):
    assert judged(monkeypatch).kind == "equal"


def test_the_judge_finds_a_word_enough(monkeypatch):
    assert str(judged(monkeypatch, warning="Net is not split, so all of it runs in every epoch: no")) == "not split: no"


WRONG = {
    "another output": {"front": lambda x: x + 1e-3},
    "another gradient": {"back": lambda x: x + 0.1 * (x - x.detach())},
    "another random state": {"back": lambda x: (torch.rand(1), x)[1]},
    "another word": {"warning": "not split"},
    "a changed buffer": {"spoil": lambda model: model.norm.running_mean.add_(1)},
    "a changed mode": {"spoil": lambda model: model.head.train()},
    "a new attribute": {"spoil": lambda model: setattr(model.norm, "found", 1)},
    "a new hook": {"spoil": lambda model: model.norm.register_forward_hook(lambda *_: None)},
    "a new parameter": {"spoil": lambda model: setattr(model.norm, "bias", nn.Parameter(model.norm.bias.data))},
    "a drawn number": {"spoil": lambda model: torch.rand(1)},
}


@pytest.mark.parametrize("name", WRONG)
def test_the_judge_notices(monkeypatch, name):
    with pytest.raises(Silent):
        judged(monkeypatch, **WRONG[name])


def test_the_judge_notices_a_foreign_error(monkeypatch):
    with pytest.raises(Crash, match="KeyError"):
        judged(monkeypatch, spoil=lambda model: {}["missing"])


def test_the_judge_asks_whether_a_training_can_be_repeated(monkeypatch):
    count = iter(range(10))

    def once_so_once_so() -> Case:
        case = net()
        case.model.head.bias.data.fill_(next(count))
        return case

    monkeypatch.setattr(oracle, "split_frozen", cut_by_hand)
    with pytest.raises(Silent, match="two runs of the same training differ"):
        judge(once_so_once_so)
