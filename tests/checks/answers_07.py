"""Answers to lesson 07, two phases and learning rates."""

from __future__ import annotations

from copy import deepcopy
from statistics import fmean, median

import numpy as np
import torch
from torch import nn

from course_utils import param_groups, steepest_rate, unfreeze

# ------------------------------------------------------------------------------------------------ 07.1 falling

STAGES = [("fc",), ("layer4",), ("layer3",), ("layer2",), ("layer1",), ("conv1", "bn1")]


def wrong_word_in_name(model: nn.Module, top: float, factor: float):
    groups = []
    for steps, stage in enumerate(STAGES):
        mine = [p for name, p in model.named_parameters() if p.requires_grad and any(part in name for part in stage)]
        groups.append({"params": mine, "lr": top / factor**steps})
    return groups


def wrong_frozen_stages_skipped(model: nn.Module, top: float, factor: float):
    groups = []
    for stage in STAGES:
        free = [p for part in stage for p in model.get_submodule(part).parameters() if p.requires_grad]
        if free:
            groups.append({"params": free, "lr": top / factor ** len(groups)})
    return groups


def wrong_first_parameter_decides(model: nn.Module, top: float, factor: float):
    groups = []
    for steps, stage in enumerate(STAGES):
        parameters = [p for part in stage for p in model.get_submodule(part).parameters()]
        if parameters[0].requires_grad:
            groups.append({"params": parameters, "lr": top / factor**steps})
    return groups


def wrong_backbone_a_tenth(model: nn.Module, top: float, factor: float):
    free = {name: p for name, p in model.named_parameters() if p.requires_grad}
    head = [p for name, p in free.items() if name.startswith("fc.")]
    return [
        {"params": [p for name, p in free.items() if not name.startswith("fc.")], "lr": top / factor},
        {"params": head, "lr": top},
    ]


def wrong_each_child_a_step(model: nn.Module, top: float, factor: float):
    groups, steps = [], 0
    for _, child in reversed(list(model.named_children())):
        if list(child.parameters()):
            groups.append({"params": [p for p in child.parameters() if p.requires_grad], "lr": top / factor**steps})
            steps += 1
    return groups


def wrong_no_rate(model: nn.Module, top: float, factor: float):
    return [{"params": [p for p in model.get_submodule(part).parameters() if p.requires_grad]} for (part, *_) in STAGES]


def wrong_modules(model: nn.Module, top: float, factor: float):
    return [{"params": model.get_submodule(stage[0]), "lr": top / factor**steps} for steps, stage in enumerate(STAGES)]


def wrong_a_dictionary(model: nn.Module, top: float, factor: float):
    return {part: top / factor**steps for steps, stage in enumerate(STAGES) for part in stage}


def wrong_an_optimizer(model: nn.Module, top: float, factor: float):
    return torch.optim.Adam(right_library(model, top, factor))


def wrong_unfreezes(model: nn.Module, top: float, factor: float):
    unfreeze(model)
    return right_library(model, top, factor)


def wrong_rounded(model: nn.Module, top: float, factor: float):
    return [{**group, "lr": round(group["lr"], 4)} for group in right_library(model, 0.01, 10)]


def wrong_module_by_module(model: nn.Module, top: float, factor: float):
    """A block comes with its layers, and then they come once more."""
    groups = []
    for steps, stage in enumerate(STAGES):
        parts = [part for name in stage for part in model.get_submodule(name).modules()]
        mine = [p for part in parts for p in part.parameters() if p.requires_grad]
        groups.append({"params": mine, "lr": top / factor**steps})
    return groups


def wrong_copies(model: nn.Module, top: float, factor: float):
    return right_library(deepcopy(model), top, factor)


def right_library(model: nn.Module, top: float, factor: float):
    rates = {part: top / factor**steps for steps, stage in enumerate(STAGES) for part in stage}
    learns = {name.partition(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    return param_groups(model, {part: rate for part, rate in rates.items() if part in learns})


def right_one_each(model: nn.Module, top: float, factor: float):
    steps = {part: number for number, stage in enumerate(STAGES) for part in stage}
    return tuple(
        {"params": p, "lr": torch.tensor(top / factor ** steps[name.split(".")[0]], dtype=torch.float64)}
        for name, p in model.named_parameters()
        if p.requires_grad
    )


def right_named(model: nn.Module, top: float, factor: float):
    """With names, as torch takes them too."""
    groups = []
    for steps, stage in enumerate(STAGES):
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad and name.split(".")[0] in stage]
        groups.append({"params": named, "lr": top / factor**steps})
    return groups


def right_running_rate(model: nn.Module, top: float, factor: float):
    groups, rate = [], top
    for stage in STAGES:
        free = (p for part in stage for p in getattr(model, part).parameters() if p.requires_grad)
        groups.append({"params": free, "lr": rate})
        rate = rate / factor
    return groups


# ---------------------------------------------------------------------------------------- 07.2 start phase two


def wrong_friend(model: nn.Module, optimizer, part: str, rate: float):
    unfreeze(model.get_submodule(part))
    for group in optimizer.param_groups:
        group["lr"] = rate
    return optimizer


def wrong_only_unfreezes(model: nn.Module, optimizer, part: str, rate: float):
    unfreeze(model.get_submodule(part))
    return optimizer


def wrong_not_unfrozen(model: nn.Module, optimizer, part: str, rate: float):
    moved_over(model.get_submodule(part), optimizer, rate)
    return optimizer


def moved_over(module, optimizer, rate):
    mine = {id(p) for p in module.parameters()}
    for group in optimizer.param_groups:
        group["params"] = [p for p in group["params"] if id(p) not in mine]
    optimizer.add_param_group({"params": list(module.parameters()), "lr": rate})


def wrong_rebuilt(model: nn.Module, optimizer, part: str, rate: float):
    """As the recipe has it: one rate for all, no memory."""
    unfreeze(model.get_submodule(part))
    return torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=rate)


def wrong_rebuilt_with_groups(model: nn.Module, optimizer, part: str, rate: float):
    rates = {
        name.partition(".")[0]: optimizer.param_groups[-1]["lr"] for name, p in model.named_parameters() if p.requires_grad
    }
    unfreeze(model.get_submodule(part))
    return torch.optim.Adam(param_groups(model, rates | {part: rate}), betas=optimizer.defaults["betas"])


def wrong_added_only(model: nn.Module, optimizer, part: str, rate: float):
    optimizer.add_param_group({"params": unfreeze(model.get_submodule(part)).parameters(), "lr": rate})
    return optimizer


def wrong_added_if_unknown(model: nn.Module, optimizer, part: str, rate: float):
    """Where the optimizer held all from the start, the part goes on at the head's rate."""
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    new = [p for p in unfreeze(model.get_submodule(part)).parameters() if id(p) not in held]
    optimizer.add_param_group({"params": new, "lr": rate})
    return optimizer


def wrong_everything_free(model: nn.Module, optimizer, part: str, rate: float):
    unfreeze(model)
    moved_over(model.get_submodule(part), optimizer, rate)
    return optimizer


def wrong_rate_of_the_head(model: nn.Module, optimizer, part: str, rate: float):
    unfreeze(model.get_submodule(part))
    moved_over(model.get_submodule(part), optimizer, optimizer.param_groups[0]["lr"])
    return optimizer


def wrong_all_at_the_rate(model: nn.Module, optimizer, part: str, rate: float):
    unfreeze(model.get_submodule(part))
    moved_over(model.get_submodule(part), optimizer, rate)
    return wrong_friend(model, optimizer, part, rate)


def wrong_second_optimizer(model: nn.Module, optimizer, part: str, rate: float):
    return torch.optim.Adam(unfreeze(model.get_submodule(part)).parameters(), lr=rate, betas=(0.8, 0.9))


def wrong_head_frozen(model: nn.Module, optimizer, part: str, rate: float):
    model.requires_grad_(False)
    unfreeze(model.get_submodule(part))
    moved_over(model.get_submodule(part), optimizer, rate)
    return optimizer


def wrong_only_weights(model: nn.Module, optimizer, part: str, rate: float):
    unfreeze(model.get_submodule(part))
    moved_over(model.get_submodule(part), optimizer, rate)
    for name, parameter in model.get_submodule(part).named_parameters():
        parameter.requires_grad = "conv" in name
    return optimizer


def wrong_no_return(model: nn.Module, optimizer, part: str, rate: float):
    unfreeze(model.get_submodule(part))
    moved_over(model.get_submodule(part), optimizer, rate)


def wrong_pair(model: nn.Module, optimizer, part: str, rate: float):
    wrong_no_return(model, optimizer, part, rate)
    return model, optimizer


def wrong_first_group(model: nn.Module, optimizer, part: str, rate: float):
    return one_group_cleared(model, optimizer, part, rate, 0)


def wrong_last_group(model: nn.Module, optimizer, part: str, rate: float):
    return one_group_cleared(model, optimizer, part, rate, -1)


def one_group_cleared(model, optimizer, part, rate, place):
    parameters = list(unfreeze(model.get_submodule(part)).parameters())
    group = optimizer.param_groups[place]
    group["params"] = [p for p in group["params"] if not any(p is q for q in parameters)]
    optimizer.add_param_group({"params": parameters, "lr": rate})
    return optimizer


def wrong_first_group_that_holds_some(model: nn.Module, optimizer, part: str, rate: float):
    parameters = set(unfreeze(model.get_submodule(part)).parameters())
    for group in optimizer.param_groups:
        if parameters & set(group["params"]):
            group["params"] = [p for p in group["params"] if p not in parameters]
            break
    optimizer.add_param_group({"params": list(parameters), "lr": rate})
    return optimizer


def wrong_first_group_is_all_that_learns(model: nn.Module, optimizer, part: str, rate: float):
    optimizer.param_groups[0]["params"] = [p for p in model.parameters() if p.requires_grad]
    moved_over(unfreeze(model.get_submodule(part)), optimizer, rate)
    return optimizer


def wrong_equal_values(model: nn.Module, optimizer, part: str, rate: float):
    parameters = list(unfreeze(model.get_submodule(part)).parameters())
    for group in optimizer.param_groups:
        group["params"] = [p for p in group["params"] if not any(torch.equal(p, q) for q in parameters)]
    optimizer.add_param_group({"params": parameters, "lr": rate})
    return optimizer


def wrong_in(model: nn.Module, optimizer, part: str, rate: float):
    parameters = list(unfreeze(model.get_submodule(part)).parameters())
    for group in optimizer.param_groups:
        group["params"] = [p for p in group["params"] if p not in parameters]
    optimizer.add_param_group({"params": parameters, "lr": rate})
    return optimizer


def wrong_remove(model: nn.Module, optimizer, part: str, rate: float):
    parameters = list(unfreeze(model.get_submodule(part)).parameters())
    mine = {id(p) for p in parameters}
    for group in optimizer.param_groups:
        for p in list(group["params"]):
            if id(p) in mine:
                group["params"].remove(p)
    optimizer.add_param_group({"params": parameters, "lr": rate})
    return optimizer


def wrong_copy(model: nn.Module, optimizer, part: str, rate: float):
    unfreeze(model.get_submodule(part))
    new = deepcopy(optimizer)
    moved_over(model.get_submodule(part), new, rate)
    return new


def wrong_settings_lost(model: nn.Module, optimizer, part: str, rate: float):
    """Memory and groups are kept; the new part gets Adam's usual settings, not this optimizer's."""
    mine = set(unfreeze(model.get_submodule(part)).parameters())
    groups = [{**group, "params": [p for p in group["params"] if p not in mine]} for group in optimizer.param_groups]
    new = torch.optim.Adam([*groups, {"params": list(mine), "lr": rate}])
    new.state.update(optimizer.state)
    return new


def right_no_empty_group(model: nn.Module, optimizer, part: str, rate: float):
    mine = set(unfreeze(model.get_submodule(part)).parameters())
    for group in list(optimizer.param_groups):
        group["params"] = [p for p in group["params"] if p not in mine]
        if not group["params"]:
            optimizer.param_groups.remove(group)
    optimizer.param_groups.append({**optimizer.defaults, "params": list(mine), "lr": rate})
    return optimizer


def right_copied_memory(model: nn.Module, optimizer, part: str, rate: float):
    module = unfreeze(model.get_submodule(part))
    mine = set(module.parameters())  # a set compares by identity
    groups = [{**group, "params": [p for p in group["params"] if p not in mine]} for group in optimizer.param_groups]
    new = torch.optim.Adam([*groups, {"params": list(mine), "lr": rate}], **optimizer.defaults)
    new.state.update(optimizer.state)
    return new


def right_one_by_one(model: nn.Module, optimizer, part: str, rate: float):
    for parameter in getattr(model, part).parameters():
        parameter.requires_grad = True
        for group in optimizer.param_groups:
            group["params"] = [p for p in group["params"] if p is not parameter]
        optimizer.add_param_group({"params": [parameter], "lr": rate})
    return optimizer


# ------------------------------------------------------------------------------------------------ 07.3 pick a rate


def wrong_raw_lowest(rates, losses):
    return rates[losses.index(min(losses))]


def wrong_raw_lowest_tenth(rates, losses):
    return rates[losses.index(min(losses))] / 10


def wrong_first(rates, losses):
    return rates[0]


def wrong_middle(rates, losses):
    return rates[len(rates) // 2]


def wrong_habit(rates, losses):
    return 0.001


def wrong_last_finite(rates, losses):
    return max(rate for rate, loss in zip(rates, losses, strict=True) if loss < losses[0])


def wrong_steepest_step(rates, losses):
    steps = [losses[i + 1] - losses[i] for i in range(len(losses) - 1)]
    return rates[steps.index(min(steps))]


def wrong_numpy_gradient(rates, losses):
    with np.errstate(invalid="ignore"):
        return rates[int(np.gradient(np.array(losses)).argmin())]


def wrong_library(rates, losses):
    return steepest_rate(rates, losses)


def wrong_library_without_the_end(rates, losses):
    """One lucky batch in the flat part is the steepest fall of all."""
    kept = [loss for loss in losses if loss < 1e3]
    return steepest_rate(rates[: len(kept)], kept)


def wrong_calm_lowest(rates, losses):
    calm = [median(losses[max(0, i - 4) : i + 5]) for i in range(len(losses))]
    return rates[calm.index(min(calm))]


def wrong_the_loss(rates, losses):
    return min(losses)


def wrong_place(rates, losses):
    return losses.index(min(losses))


def right_tenth_of_the_lowest(rates, losses):
    calm = [median(losses[max(0, i - 4) : i + 5]) for i in range(len(losses))]
    return rates[calm.index(min(calm))] / 10


def right_steepest(rates, losses):
    calm = [median(losses[max(0, i - 4) : i + 5]) for i in range(len(losses))]
    calm = [fmean(calm[max(0, i - 3) : i + 4]) for i in range(len(losses))]
    lowest = calm.index(min(calm))
    return rates[min(range(1, lowest + 1), key=lambda i: calm[i] - calm[i - 1])]


def right_half_way(rates, losses):
    values = np.array(losses)
    calm = np.array([np.median(values[max(0, i - 3) : i + 4]) for i in range(len(values))])
    return np.float64(rates[int((calm < (calm[0] + calm.min()) / 2).argmax())])


def right_between(rates, losses):
    """Half-way, in powers of ten, between where the loss has fallen a little and where it is lowest."""
    calm = [median(losses[max(0, i - 4) : i + 5]) for i in range(len(losses))]
    lowest = calm.index(min(calm))
    begun = max(i for i in range(lowest) if calm[i] > 0.9 * calm[0])
    return torch.tensor([rates[begun], rates[lowest]]).log().mean().exp()


WRONG = {
    "07.1": [
        ("top / factor**steps", "top * factor**steps", "the side of the picture has to be slower"),
        ("enumerate(STAGES)", "enumerate(STAGES[1:])", "fc.bias learns and stands in no group"),
        ("enumerate(STAGES)", "enumerate(reversed(STAGES))", "the side of the picture has to be slower"),
        (" if p.requires_grad]", "]", "is frozen, and stands in a group all the same"),
        ("factor**steps", "factor", "count the steps from the head to its stage"),
        ("factor**steps", "(1 + steps)", "count the steps from the head to its stage"),
        ("factor**steps", "(factor * (steps or 1))", "count the steps from the head to its stage"),
        ("        if free:", "    if free:", "learns and stands in no group"),
        (wrong_word_in_name, "a word inside a name is not the name of a stage"),
        (wrong_frozen_stages_skipped, "past frozen ones too"),
        (wrong_first_parameter_decides, "is frozen, and stands in a group all the same"),
        (wrong_backbone_a_tenth, "count the steps from the head to its stage"),
        (wrong_each_child_a_step, "count the steps from the head to its stage"),
        (wrong_no_rate, "has no rate of its own"),
        (wrong_modules, "where one of yours should have these"),
        (wrong_a_dictionary, "you return a dict; return a list of groups"),
        (wrong_an_optimizer, "you return a Adam; return a list of groups"),
        (wrong_unfreezes, "leave every requires_grad as it was"),
        (wrong_rounded, "is it rounded?"),
        (wrong_module_by_module, "stands there twice"),
        (wrong_copies, "something that is no parameter of this model"),
    ],
    "07.2": [
        (wrong_friend, "does the optimizer know layer4?"),
        (wrong_only_unfreezes, "does the optimizer know layer4?"),
        (wrong_not_unfrozen, "it is still frozen"),
        (wrong_rebuilt, "an Adam does that has no memory"),
        (wrong_rebuilt_with_groups, "an Adam does that has no memory"),
        (wrong_added_only, "appear in more than one parameter group"),
        (wrong_added_if_unknown, "Whose rate"),
        (wrong_everything_free, "nothing else may be unfrozen"),
        (wrong_rate_of_the_head, "Whose rate"),
        (wrong_all_at_the_rate, "what has learnt keeps its rate"),
        (wrong_second_optimizer, "did not move: it learnt in phase one"),
        (wrong_head_frozen, "did not move: it learnt in phase one"),
        (wrong_only_weights, "it is still frozen"),
        (wrong_first_group, "appear in more than one parameter group"),
        (wrong_last_group, "appear in more than one parameter group"),
        (wrong_first_group_that_holds_some, "appear in more than one parameter group"),
        (wrong_first_group_is_all_that_learns, "what has learnt keeps its rate"),
        (wrong_equal_values, "has the values of layer3.conv1.weight, and is another tensor: compare by `is` or `id`"),
        (wrong_in, "whether two are the same tensor, `is` tells"),
        (wrong_remove, "whether two are the same tensor, `is` tells"),
        (wrong_copy, "a copy does not count"),
        (wrong_settings_lost, "the optimizer's other settings"),
        (wrong_no_return, "you return None; return the optimizer"),
        (wrong_pair, "you return a tuple; return the optimizer"),
    ],
    "07.3": [
        (wrong_raw_lowest, "stay at a quarter of that, or below"),
        (wrong_raw_lowest_tenth, "that of one odd batch"),
        (wrong_first, "has not begun to fall"),
        (wrong_middle, "the loss"),
        (wrong_habit, "the loss"),
        (wrong_last_finite, "stay at a quarter of that, or below"),
        (wrong_steepest_step, "has not begun to fall"),
        (wrong_numpy_gradient, "has not begun to fall"),
        (wrong_library, "a loss is not finite; leave out what comes after"),
        (wrong_library_without_the_end, "has not begun to fall"),
        (wrong_the_loss, "return a rate between them"),
        (wrong_place, "return a rate between them"),
        (wrong_calm_lowest, "stay at a quarter of that, or below"),
        ("median(losses[max(0, i - 4) : i + 5])", "losses[i]", "has not begun to fall"),
        (" if isfinite(loss)", "", "a loss is not finite"),
    ],
}
RIGHT = {
    "07.1": [right_library, right_one_each, right_named, right_running_rate],
    "07.2": [right_copied_memory, right_no_empty_group, right_one_by_one],
    "07.3": [right_tenth_of_the_lowest, right_steepest, right_half_way, right_between],
}
WINDOW = "any window of some neighbours makes the curve calm enough"
EQUIVALENT = {
    "07.3": {
        "calm = [median(losses[max(i - 4, 0):i + 5]) for i in range(len(losses))]": "the larger of two is the same either way",
        "calm = [median(losses[max(1, i - 4):i + 5]) for i in range(len(losses))]": "the first loss is missing in few windows",
        "calm = [median(losses[max(0, i):i + 5]) for i in range(len(losses))]": WINDOW,
        "calm = [median(losses[max(0, i - 4):i + 6]) for i in range(len(losses))]": WINDOW,
        "calm = [median(losses[max(0, i - 5):i + 5]) for i in range(len(losses))]": WINDOW,
    }
}
