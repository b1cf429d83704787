"""Answers to lesson 03."""

import copy

import torch
from torch import nn

# ------------------------------------------------------------------------------------------ 03.1 freeze_all_but


def inside(name, parts):
    return any(name == part or name.startswith(part + ".") for part in parts)


def wrong_spelling(model, parts):
    for name, parameter in model.named_parameters():
        parameter.require_grad = inside(name, parts)
    return model


def wrong_flag_on_layers(model, parts):
    for name, module in model.named_modules():
        module.requires_grad = inside(name, parts)
    return model


def wrong_mode_only(model, parts):
    model.eval()
    for part in parts:
        model.get_submodule(part).train()
    return model


def wrong_flags_only(model, parts):
    for name, parameter in model.named_parameters():
        parameter.requires_grad = inside(name, parts)
    return model


def wrong_substring(model, parts):
    model.eval()
    for name, parameter in model.named_parameters():
        parameter.requires_grad = any(part in name for part in parts)
    return model


def wrong_beginning(model, parts):
    model.eval()
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.startswith(tuple(parts))
    return model


def wrong_first_word(model, parts):
    model.requires_grad_(False).eval()
    for name, child in model.named_children():
        if name in parts:
            child.requires_grad_(True).train()
    return model


def wrong_never_set_free(model, parts):
    model.eval()
    for name, parameter in model.named_parameters():
        if not inside(name, parts):
            parameter.requires_grad = False
    return model


def wrong_upside_down(model, parts):
    for part in parts:
        model.get_submodule(part).requires_grad_(False).eval()
    return model


def wrong_dropout(model, parts):
    for name, parameter in model.named_parameters():
        parameter.requires_grad = inside(name, parts)
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train(inside(name, parts))
        if isinstance(module, nn.Dropout):
            module.train()
    return model


def wrong_train_mode(model, parts):
    """As the course's `train_mode` has it: a dropout between parts drops."""
    model.requires_grad_(False)
    for part in parts:
        model.get_submodule(part).requires_grad_(True)
    model.train()
    for module in model.modules():
        if list(module.parameters()) and not any(p.requires_grad for p in module.parameters()):
            module.eval()
    return model


def wrong_dropout_of_the_part(model, parts):
    model.zero_grad()
    model.requires_grad_(False).eval()
    for part in parts:
        for module in model.get_submodule(part).requires_grad_(True).modules():
            module.train(not isinstance(module, nn.Dropout))
    return model


def wrong_copy(model, parts):
    return freeze_loop(copy.deepcopy(model), parts)


def wrong_return(model, parts):
    freeze_loop(model, parts)


def wrong_momentum(model, parts):
    for name, module in model.named_modules():
        if not inside(name, parts):
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 0.0
            module.eval()
    for name, parameter in model.named_parameters():
        parameter.requires_grad = inside(name, parts)
    return model


def wrong_gradients_off(model, parts):
    torch.set_grad_enabled(False)
    return freeze_loop(model, parts)


def wrong_new_values(model, parts):
    nn.init.ones_(freeze_loop(model, parts).head.weight)
    return model


def wrong_part_deeper(model, parts):
    model.requires_grad_(False).eval()
    for name, parameter in model.named_parameters():
        parameter.requires_grad = any(part + "." in name for part in parts)
    return model


def wrong_children_only(model, parts):
    for child in model.children():
        child.requires_grad_(False).eval()
    for part in parts:
        model.get_submodule(part).requires_grad_(True).train()
    return model


def wrong_old_gradients(model, parts):
    model.requires_grad_(False).eval()
    for part in parts:
        model.get_submodule(part).requires_grad_(True).train()
    return model


def wrong_zero_gradients(model, parts):
    freeze_loop(model, parts)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    return model


def wrong_frozen_last(model, parts):
    for part in parts:
        model.get_submodule(part).requires_grad_(True).train()
    return model.requires_grad_(False)


def wrong_no_statistics(model, parts):
    for module in freeze_loop(model, parts).modules():
        if isinstance(module, nn.BatchNorm2d) and not module.training:
            module.track_running_stats = False
    return model


def freeze_loop(model, parts):
    model.zero_grad()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(inside(name, parts))
    for name, module in model.named_modules():
        module.training = inside(name, parts)
    return model


def right_kinds(model, parts):
    """Only the layers that have a mode are put into one."""
    model.train().zero_grad()
    for name, module in model.named_modules():
        if isinstance(module, (nn.modules.batchnorm._BatchNorm, nn.Dropout)):
            module.train(inside(name, parts))
    for name, parameter in model.named_parameters():
        parameter.requires_grad = inside(name, parts)
    return model


def right_collected(model, parts):
    learn = {id(p) for part in parts for p in model.get_submodule(part).parameters()}
    awake = {module for part in parts for module in model.get_submodule(part).modules()}
    for parameter in model.parameters():
        parameter.requires_grad = id(parameter) in learn
        parameter.grad = None
    for module in model.modules():
        module.training = module in awake
    return model


# ------------------------------------------------------------------------------------------- 03.2 assert_frozen


def wrong_double_equals(before, after, may_move):
    for name in before:
        if not inside(name, may_move):
            assert before[name] == after[name], name


def wrong_any(before, after, may_move):
    for name in before:
        if not inside(name, may_move):
            assert (before[name] == after[name]).any(), f"{name} moved"


def wrong_sums(before, after, may_move):
    for name in before:
        if not inside(name, may_move):
            assert before[name].sum() == after[name].sum(), f"{name} moved"


def wrong_weights_only(before, after, may_move):
    for name in before:
        if name.endswith("weight") and not inside(name, may_move):
            assert torch.equal(before[name], after[name]), f"{name} moved"


def wrong_counter_left_out(before, after, may_move):
    for name in before:
        if before[name].dim() and not inside(name, may_move):
            assert torch.equal(before[name], after[name]), f"{name} moved"


def wrong_every_name(before, after, may_move):
    assert all(inside(name, may_move) or torch.equal(before[name], after[name]) for name in before), list(before)


def wrong_allowed_named(before, after, may_move):
    moved = [name for name in before if not torch.equal(before[name], after[name])]
    assert all(inside(name, may_move) for name in moved), f"moved: {moved}"


def wrong_first_part(before, after, may_move):
    for name in before:
        if name.split(".")[0] not in may_move:
            assert torch.equal(before[name], after[name]), f"{name} moved"


def wrong_fixed_parts(before, after, may_move):
    for name in before:
        if not inside(name, ["fc", "layer4.1"]):
            assert torch.equal(before[name], after[name]), f"{name} moved"


def wrong_returns(before, after, may_move):
    return all(inside(name, may_move) or torch.equal(before[name], after[name]) for name in before)


def wrong_pair(before, after, may_move):
    for name in before:
        assert [inside(name, may_move) or torch.equal(before[name], after[name]), name]


def wrong_error(before, after, may_move):
    for name in before:
        if not inside(name, may_move) and not torch.equal(before[name], after[name]):
            raise ValueError(f"{name} moved")


def wrong_in_place(before, after, may_move):
    for name in before:
        if not inside(name, may_move):
            assert not after[name].sub_(before[name]).any(), f"{name} moved"


def wrong_owner(before, after, may_move):
    for name in before:
        if name.rsplit(".", 1)[0] not in may_move:
            assert torch.equal(before[name], after[name]), f"{name} moved"


def wrong_two_words(before, after, may_move):
    for name in before:
        words = name.split(".")
        if words[0] not in may_move and ".".join(words[:2]) not in may_move:
            assert torch.equal(before[name], after[name]), f"{name} moved"


def wrong_anywhere(before, after, may_move):
    for name in before:
        if not any(part + "." in name for part in may_move):
            assert torch.equal(before[name], after[name]), f"{name} moved"


def wrong_nothing_to_do(before, after, may_move):
    if may_move:
        right_set(before, after, may_move)


def wrong_tolerance(before, after, may_move):
    for name in before:
        assert inside(name, may_move) or (before[name] - after[name]).abs().max() < 1e-9, f"{name} moved"


def wrong_last_name(before, after, may_move):
    still = True
    for name in before:
        still = still and (inside(name, may_move) or torch.equal(before[name], after[name]))
    assert still, f"{name} moved"


def wrong_equal(before, after, may_move):
    for name in before:
        assert inside(name, may_move) or not torch.equal(before[name], after[name]), f"{name} moved"


def wrong_print(before, after, may_move):
    for name in before:
        if not inside(name, may_move) and not torch.equal(before[name], after[name]):
            print(f"{name} moved")


def right_set(before, after, may_move):
    moved = {name for name in before if (before[name] != after[name]).any()}
    stray = sorted(name for name in moved if not name.startswith(tuple(part + "." for part in may_move)))
    if stray:
        raise AssertionError(f"moved: {stray}, but only {may_move} may")


def right_numpy(before, after, may_move):
    for name, value in before.items():
        allowed = [part for part in may_move if name.split(".")[: part.count(".") + 1] == part.split(".")]
        assert allowed or (value.numpy() == after[name].numpy()).all(), f"'{name}': {value.mean(dtype=torch.float)}."


# ---------------------------------------------------------------------------------------------- 03.3 what_moves


def wrong_one(gradient, training, in_optimizer):
    return gradient and in_optimizer and training


def right_branches(gradient, training, in_optimizer):
    weights = bool(in_optimizer)
    if not gradient:
        weights = False
    return [weights, bool(training)]


def right_tensors(gradient, training, in_optimizer):
    return torch.tensor(gradient) & torch.tensor(in_optimizer), torch.tensor(training)


WRONG = {
    "03.1": [
        (wrong_spelling, "Python accepts any attribute name, so 'require_grad' is new"),
        (wrong_flag_on_layers, "so 'requires_grad' is new, and PyTorch never reads it"),
        (wrong_mode_only, "and still it learns: which switch stops a weight?"),
        (wrong_flags_only, "the weights are right, but features.1 is in evaluation mode"),
        (wrong_substring, "asked for features.1; features.10.weight is alike and learns too"),
        (wrong_beginning, "asked for features.1; features.10.weight is alike and learns too"),
        (wrong_first_word, "features.1.weight should learn, but stood still for two steps: it is frozen when you return it"),
        (
            wrong_never_set_free,
            "features.1.weight should learn, but stood still for two steps: it is frozen when you return it",
        ),
        (wrong_upside_down, "and still it learns: which switch stops a weight?"),
        (wrong_dropout, "features.12 is in training mode, in which it collects or drops values"),
        (wrong_train_mode, "features.12 is in training mode, in which it collects or drops values"),
        (wrong_dropout_of_the_part, "block.3 is in evaluation mode, although its part should learn"),
        (wrong_copy, "change the model that you were given, no copy of it, and return it"),
        (wrong_return, "and return it; you return None"),
        (
            wrong_momentum,
            "momentum=0.0, affine=True, bias=True, track_running_stats=True): set flag and mode, and no other attribute",
        ),
        (wrong_no_statistics, "track_running_stats=False): set flag and mode, and no other attribute of a layer"),
        (wrong_part_deeper, "asked for head; neck.head.weight is alike and learns too"),
        (wrong_children_only, "scale lies in none of ["),
        (wrong_old_gradients, "is frozen, and still it moved: return it with None as its gradient"),
        (wrong_zero_gradients, "return it with None as its gradient, zero counts too"),
        (wrong_frozen_last, "stood still for two steps: it is frozen when you return it"),
        (wrong_gradients_off, "gradients are switched off in the whole program"),
        (wrong_new_values, "your function should set switches, no values"),
        (".train()", "", "features.1 is in evaluation mode, although its part should learn"),
        (".requires_grad_(False).eval()", ".requires_grad_(False)", "no weight strayed, but features."),
        ("return model", "return model.train()", "no weight strayed, but features.4 is in training mode"),
        (
            "return model",
            "return model.eval()",
            "features.1 is in evaluation mode, although its part should learn",
        ),
        ("model.get_submodule(part)", "getattr(model, part)", "it stopped with AttributeError"),
    ],
    "03.2": [
        (wrong_double_equals, "comparing two tensors gives as many answers as they have values"),
        (wrong_any, "1 of 12 values moved, by 0.1 at most"),
        (wrong_sums, "at most, their sum by 0; only ["),
        ("torch.equal", "torch.allclose", "layer1.running_mean 12 of 12 values moved, by 1e-16 at most"),
        (wrong_weights_only, "it stayed quiet although in layer1.running_"),
        (wrong_counter_left_out, "it stayed quiet although in layer1.num_batches_tracked 1 of 1 values moved"),
        ('name.startswith(part + ".")', "part in name", "it stayed quiet although"),
        ('name.startswith(part + ".")', "name.startswith(part)", "it stayed quiet although"),
        ('name.startswith(part + ".")', "name == part", "it fired on all 18 runs, also where only fc.weight moved"),
        (wrong_first_part, "it fired on a correct run, in which only layer4.1."),
        (wrong_fixed_parts, "it stayed quiet although in layer4.1.weight 12 of 12 values moved"),
        ('f"{name} moved"', '"something moved"', "and your message names no tensor"),
        (wrong_every_name, "alone moved outside ["),
        (wrong_allowed_named, "and your message names fc.weight, layer"),
        (wrong_returns, "nobody looks at what a test returns"),
        (wrong_pair, "and `assert (condition, text)` raises nothing"),
        (wrong_error, "and raised ValueError: the text asks for an AssertionError"),
        (wrong_owner, "it fired on a correct run, in which only layer4.1.conv1.weight and fc.weight moved"),
        (wrong_two_words, "it fired on a correct run, in which only layer4.1.conv1.weight and fc.weight moved"),
        (wrong_anywhere, "it stayed quiet although in layer1.fc.weight 12 of 12 values moved"),
        (wrong_nothing_to_do, "only [] may move"),
        (wrong_tolerance, "layer1.running_mean 12 of 12 values moved, by 1e-16 at most"),
        (wrong_last_name, "], and your message names layer1.num_batches_tracked"),
        (wrong_equal, "it fired on all 18 runs"),
        (wrong_print, "nobody looks at what a test returns or prints"),
        (wrong_in_place, "it changed the snapshots that it was given"),
    ],
    "03.3": [
        (
            "gradient and in_optimizer",
            "gradient",
            "the weights stood still, and you say they move: who computes a gradient, and who applies it?",
        ),
        (
            "gradient and in_optimizer",
            "in_optimizer",
            "with gradient off, evaluation mode, in the optimizer, the weights stood still",
        ),
        ("gradient and in_optimizer", "gradient or in_optimizer", "the weights stood still, and you say they move"),
        (
            "gradient and in_optimizer",
            "gradient and in_optimizer and training",
            "evaluation mode, in the optimizer, the weights moved, and you say they stand still",
        ),
        (
            "in_optimizer, training",
            "in_optimizer, training and gradient",
            "with gradient off, training mode, not in the optimizer, the statistics moved",
        ),
        ("in_optimizer, training", "in_optimizer, training and in_optimizer", "the statistics moved"),
        (
            "in_optimizer, training",
            "in_optimizer, not training",
            "the statistics stood still, and you say they move: in which mode do they collect?",
        ),
        ("in_optimizer, training", "in_optimizer, gradient", "the statistics"),
        ("gradient and in_optimizer, training", "training, gradient and in_optimizer", "weights first, then statistics"),
        (wrong_one, "should be 2 values (True or False, True or False), but is True or False"),
    ],
}
RIGHT = {
    "03.1": [freeze_loop, right_kinds, right_collected],
    "03.2": [right_set, right_numpy],
    "03.3": [right_branches, right_tensors],
}

EQUIVALENT = {
    "03.2": {"assert allowed or torch.equal(after[name], before[name]), f'{name} moved'": "as equal the other way round"}
}
