"""Answers to lesson 01."""

from __future__ import annotations

import copy
from collections import namedtuple

import numpy as np
import torch
from torch import nn
from torchvision import transforms

from course_utils import eval_mode, prediction

# -------------------------------------------------------------------------------------------- 01.1 load_checkpoint


def fitting(model, state, bare=lambda name: name.removeprefix("module.")):
    """The part of the answer that people get right first."""
    own = model.state_dict()
    return {bare(n): v for n, v in state.items() if bare(n) in own and own[bare(n)].shape == v.shape}


def finish(model, fits):
    stays = sorted(model.state_dict().keys() - fits.keys())
    if strays := [name for name in stays if not name.startswith("fc.")]:
        raise ValueError(f"missing: {strays}")
    model.load_state_dict(fits, strict=False)
    return stays


def wrong_strict(model, state):
    model.load_state_dict(state, strict=False)
    return []


def wrong_strict_and_raises(model, state):
    return finish(model, {n: v for n, v in state.items() if n in model.state_dict()})


def wrong_lstrip(model, state):
    return finish(model, fitting(model, state, lambda name: name.lstrip("module.")))


def wrong_replace(model, state):
    return finish(model, fitting(model, state, lambda name: name.replace("module.", "")))


def wrong_last_piece(model, state):
    model.load_state_dict(fitting(model, state, lambda name: name.split("module.")[-1]), strict=False)
    return []


def wrong_parameters_only(model, state):
    fits = fitting(model, state)
    stays = finish(copy.deepcopy(model), fits)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in fits:
                parameter.copy_(fits[name])
    return stays


def wrong_head_by_its_beginning(model, state):
    return finish(model, {name: v for name, v in fitting(model, state).items() if not name.startswith("fc")})


def wrong_stops_at_the_head(model, state):
    return sorted(model.load_state_dict({n[7:]: v for n, v in state.items()}, strict=False).missing_keys)


def wrong_never_raises(model, state):
    return sorted(model.load_state_dict(fitting(model, state), strict=False).missing_keys)


def wrong_shared(model, state):
    fits = fitting(model, state)
    stays = finish(copy.deepcopy(model), fits)
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        value.data = fits.get(name, value.data)
    return stays


def wrong_pops(model, state):
    for name in list(state):
        state[name.removeprefix("module.")] = state.pop(name)
    return finish(model, fitting(model, state))


def wrong_head_never(model, state):
    return finish(model, {n: v for n, v in fitting(model, state).items() if not n.startswith("fc.")})


def wrong_head_always(model, state):
    own = model.state_dict()
    if any(name.startswith("fc.") and own[name].shape != state.get(f"module.{name}", own[name]).shape for name in own):
        raise ValueError("fc.weight was made for other classes")
    return finish(model, fitting(model, state))


def wrong_says_what_was_loaded(model, state):
    finish(model, fits := fitting(model, state))
    return sorted(fits)


def wrong_file_names(model, state):
    return [f"module.{name}" for name in finish(model, fitting(model, state))]


def wrong_no_names_in_the_error(model, state):
    fits = fitting(model, state)
    if any(name not in fits and not name.startswith("fc.") for name in model.state_dict()):
        raise ValueError("some names are missing")
    return finish(model, fits)


def wrong_all_names_in_the_error(model, state):
    try:
        return finish(model, fitting(model, state))
    except ValueError:
        raise ValueError(f"look at {list(state)}, {list(model.state_dict())}") from None


def wrong_error(model, state):
    try:
        return finish(model, fitting(model, state))
    except ValueError as error:
        raise RuntimeError(str(error)) from None


def wrong_left_in_evaluation_mode(model, state):
    return finish(model.eval(), fitting(model, state))


def wrong_resized_head(model, state):
    weight = state.get("module.fc.weight", model.state_dict().get("fc.weight", torch.zeros(2, 7)))
    model.fc = nn.Linear(weight.shape[1], weight.shape[0])
    return finish(model, fitting(model, state))


def wrong_first_dimension(model, state):
    own, bare = model.state_dict(), {n[7:]: v for n, v in state.items()}
    return finish(model, {n: v for n, v in bare.items() if n in own and own[n].shape[:1] == v.shape[:1]})


def wrong_count_of_values(model, state):
    own, bare = model.state_dict(), {n[7:]: v for n, v in state.items()}
    fits = {n: v.reshape(own[n].shape) for n, v in bare.items() if n in own and own[n].numel() == v.numel()}
    return finish(model, fits)


def wrong_flat_head_only(model, state):
    fits = fitting(model, state)
    lost = model.state_dict().keys() - fits.keys()
    if strays := sorted(lost - {"fc.weight", "fc.bias"}):
        raise ValueError(f"missing: {strays}")
    model.load_state_dict(fits, strict=False)
    return sorted(lost)


def wrong_never_loads(model, state):
    return finish(copy.deepcopy(model), fitting(model, state))


def wrong_key_error(model, state):
    try:
        return finish(model, fitting(model, state))
    except ValueError as error:
        raise KeyError(str(error)) from None


def wrong_asks_for_the_head(model, state):
    fits = fitting(model, state)
    if "module.fc.1.weight" not in state and {n[7:]: v for n, v in state.items()}["fc.weight"].shape != model.fc.weight.shape:
        fits.pop("fc.weight", None)
    return finish(model, fits)


def right_missing_keys(model, state):
    own, state = model.state_dict(), {name[len("module.") :]: value for name, value in state.items()}
    for name in [n for n in state if n not in own or state[n].shape != own[n].shape]:
        del state[name]
    missing = model.load_state_dict(state, strict=False).missing_keys
    lost = [name for name in missing if name.split(".")[0] != "fc"]
    if lost:
        raise ValueError("not in the file, or of another shape: " + ", ".join(lost))
    return sorted(missing)


def right_by_copying(model, state):
    stays = []
    for name, value in model.state_dict().items():
        other = state.get("module." + name)
        if other is not None and other.shape == value.shape:
            value.copy_(other)
        elif name.partition(".")[0] == "fc":
            stays.append(np.str_(name))
        else:
            raise ValueError(name)
    return tuple(sorted(stays))


# --------------------------------------------------------------------------------------------------- 01.2 predict


def prepared(weights, image):
    return weights.transforms()(image.convert("RGB"))[None]


def best_of(logits, weights):
    value, place = logits.softmax(1)[0].max(0)
    return weights.meta["categories"][place], value.item()


def wrong_no_evaluation_mode(model, weights, image):
    return best_of(model(prepared(weights, image)), weights)


def wrong_batch_norm_only(model, weights, image):
    modes = {module: module.training for module in model.modules()}
    for module in modes:
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    said = best_of(model(prepared(weights, image)), weights)
    for module, training in modes.items():
        module.training = training
    return said


def wrong_left_in_evaluation_mode_too(model, weights, image):
    return best_of(model.eval()(prepared(weights, image)), weights)


def wrong_one_mode_for_all(model, weights, image):
    was = model.training
    said = best_of(model.eval()(prepared(weights, image)), weights)
    model.train(was)
    return said


def wrong_train_afterwards(model, weights, image):
    said = best_of(model.eval()(prepared(weights, image)), weights)
    model.train()
    return said


def wrong_no_preparation(model, weights, image):
    with eval_mode(model):
        size = weights.transforms().crop_size
        return best_of(model(transforms.ToTensor()(image.convert("RGB").resize((size[0], size[0])))[None]), weights)


def wrong_other_preparation(model, weights, image):
    transform = weights.transforms()
    transform.mean, transform.std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    with eval_mode(model):
        return best_of(model(transform(image.convert("RGB"))[None]), weights)


def wrong_size(model, weights, image):
    transform = weights.transforms()
    transform.crop_size, transform.resize_size = [224], [256]
    with eval_mode(model):
        return best_of(model(transform(image.convert("RGB"))[None]), weights)


def wrong_resized(model, weights, image):
    with eval_mode(model):
        return best_of(model(prepared(weights, image.resize((64, 64)))), weights)


def wrong_over_pictures(model, weights, image):
    with eval_mode(model):
        value, place = model(prepared(weights, image)).softmax(0)[0].max(0)
    return weights.meta["categories"][place], value.item()


def wrong_logit(model, weights, image):
    with eval_mode(model):
        value, place = model(prepared(weights, image))[0].max(0)
    return weights.meta["categories"][place], value.item()


def wrong_percent(model, weights, image):
    with eval_mode(model):
        name, value = best_of(model(prepared(weights, image)), weights)
    return name, 100 * value


def wrong_number(model, weights, image):
    with eval_mode(model):
        value, place = model(prepared(weights, image)).softmax(1)[0].max(0)
    return int(place), value.item()


def wrong_order_of_names(model, weights, image):
    with eval_mode(model):
        value, place = model(prepared(weights, image)).softmax(1)[0].max(0)
    return weights.meta["categories"][::-1][place], value.item()


def wrong_least(model, weights, image):
    with eval_mode(model):
        value, place = model(prepared(weights, image)).softmax(1)[0].min(0)
    return weights.meta["categories"][place], value.item()


def wrong_gradients_off(model, weights, image):
    torch.set_grad_enabled(False)
    with eval_mode(model):
        return best_of(model(prepared(weights, image)), weights)


def wrong_scored(change):
    def answer(model, weights, image):
        with eval_mode(model), torch.no_grad():
            values = change(model(prepared(weights, image))[0])
        return weights.meta["categories"][values.argmax()], values.max().item()

    return answer


def wrong_rounded(model, weights, image):
    with eval_mode(model):
        name, value = best_of(model(prepared(weights, image)), weights)
    return name, round(value, 2)


def wrong_names_of_the_page(model, weights, image):
    names = [f"name {i}" for i in range(24)]
    with eval_mode(model):
        value, place = model(prepared(weights, image)).softmax(1)[0].max(0)
    return (weights.meta["categories"] if len(weights.meta["categories"]) == 24 else names)[place], value.item()


def wrong_loads_again(model, weights, image):
    weights.get_state_dict()
    with eval_mode(model):
        return best_of(model(prepared(weights, image)), weights)


def wrong_swapped(model, weights, image):
    with eval_mode(model):
        return best_of(model(prepared(weights, image)), weights)[::-1]


def wrong_name_only(model, weights, image):
    with eval_mode(model):
        return best_of(model(prepared(weights, image)), weights)[0]


def right_by_hand(model, weights, image):
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    with torch.no_grad():
        probabilities = torch.softmax(model.forward(prepared(weights, image)), dim=-1).squeeze()
    for module, training in modes:
        module.training = training
    best = int(probabilities.argmax())
    return weights.meta["categories"][best], np.float64(probabilities[best])


def right_on_a_copy(model, weights, image):
    probabilities = copy.deepcopy(model).eval()(prepared(weights, image)).softmax(1)[0]
    found = namedtuple("Found", "name probability")
    return found(weights.meta["categories"][probabilities.argmax()], probabilities.max())


def right_tensor_first(model, weights, image):
    tensor = transforms.functional.pil_to_tensor(image.convert("RGB"))
    with eval_mode(model):
        return best_of(model(weights.transforms()(tensor)[None]), weights)


def right_from_numpy(model, weights, image):
    tensor = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
    with eval_mode(model):
        return best_of(model(weights.transforms()(tensor)[None]), weights)


def right_by_library(model, weights, image):
    return prediction.predict(model, image, classes=weights.meta["categories"], transform=weights.transforms(), k=1)[0][0]


WRONG = {
    "01.1": [
        (wrong_strict, "'conv1.weight' should now hold what the file has as 'module.conv1.weight'"),
        (wrong_never_loads, "'conv1.weight' should now hold what the file has as 'module.conv1.weight'"),
        (wrong_first_dimension, "size mismatch for fc.weight: copying a); load what fits"),
        (wrong_count_of_values, "'fc.weight' should now hold what it held before: the file has none of its shape"),
        (wrong_flat_head_only, "raise a ValueError only if names outside 'fc' stay, here none"),
        (wrong_key_error, "raise a ValueError only if names outside 'fc' stay, here ['bn1.running_mean'"),
        (wrong_asks_for_the_head, "it stopped (KeyError: 'fc.weight'); load what fits"),
        (wrong_strict_and_raises, "your error names 'conv1.weight', which is in the file as 'module.conv1.weight'"),
        (wrong_lstrip, "which is in the file as 'module.layer1.0.weight', in the right shape: only the first"),
        (wrong_replace, "which is in the file as 'module.module.weight', in the right shape: only the first"),
        (wrong_last_piece, "buffers and a head too; only the first 'module.' comes off"),
        (wrong_parameters_only, "what the file has as 'module.bn1.running_mean': load all that fits, buffers"),
        (wrong_head_by_its_beginning, "in the right shape: load it; 'fc_norm' is not inside 'fc'"),
        (wrong_stops_at_the_head, "size mismatch for fc.weight: copying a); load what fits"),
        (wrong_never_raises, "'bn1.running_mean' is not in the file, or in another shape, and you let it pass"),
        (wrong_shared, "changes with your model: leave it as it is, share no memory"),
        (wrong_pops, "in the colleague's file 'module.layer1.0.weight' is gone, new, or changes"),
        (wrong_head_never, "what the file has as 'module.fc.weight': load all that fits, buffers and a head too"),
        (wrong_head_always, "raise a ValueError only if names outside 'fc' stay, here none"),
        (wrong_says_what_was_loaded, "the names of your model that stay as they were built, sorted, are []"),
        (wrong_file_names, "'module.fc.weight']; the names of your model that stay"),
        (wrong_no_names_in_the_error, "you raise, as you should; your message should say that 'bn1.running_mean' stays"),
        (wrong_all_names_in_the_error, "your error names 'conv1.weight', which is in the file"),
        (wrong_error, "raise a ValueError only if names outside 'fc' stay, here ['bn1.running_mean'"),
        (wrong_left_in_evaluation_mode, "came in training mode and left in evaluation mode"),
        (wrong_resized_head, "'fc.weight'"),
        ('startswith("fc.")', 'startswith("fc")', "only names in 'fc.…' may stay"),
    ],
    "01.2": [
        (wrong_no_evaluation_mode, "Which parts were in it?"),
        (wrong_batch_norm_only, "Which parts were in it?"),
        (wrong_left_in_evaluation_mode_too, "came in training mode and left in evaluation mode"),
        (wrong_one_mode_for_all, "leave each part's mode alone, or put it back"),
        (wrong_train_afterwards, "came in evaluation mode and left in training mode"),
        (wrong_no_preparation, "prepared by the weights that you are given, this picture has shape [1, 3, 64, 64], mean"),
        (wrong_other_preparation, "prepared by the weights that you are given, this picture has shape [1, 3, 64, 64], mean"),
        (wrong_size, "prepared by the weights that you are given, this picture has shape [1, 3, 64, 64]"),
        ('image.convert("RGB")', "image", "the picture has four channels, the network wants three"),
        (wrong_over_pictures, "softmax once, over the classes (dim=1)"),
        (wrong_logit, "softmax once, over the classes"),
        (wrong_percent, "softmax once, over the classes"),
        (wrong_number, "item 0 of what you return should be a text, but is a whole number"),
        (wrong_order_of_names, "outputs and the weights' names have one order"),
        (wrong_least, "the highest score is that of"),
        (wrong_gradients_off, "gradients are switched off in the whole program"),
        (wrong_name_only, "what you return should be 2 values (a text, a number), but is a text"),
        (wrong_swapped, "item 0 of what you return should be a text, but is a number"),
        (wrong_resized, "hand weights.transforms() the picture itself"),
        (wrong_names_of_the_page, ": these weights have 1000 names, take those"),
        (wrong_loads_again, "use the model that you are given"),
        (wrong_rounded, "unrounded"),
        (wrong_scored(lambda logits: logits.softmax(0).softmax(0)), "softmax once, over the classes"),
        (wrong_scored(lambda logits: logits.sigmoid()), "softmax once, over the classes"),
    ],
}
RIGHT = {
    "01.1": [right_missing_keys, right_by_copying],
    "01.2": [
        right_by_hand,
        right_on_a_copy,
        right_tensor_first,
        right_from_numpy,
        right_by_library,
        (", torch.inference_mode()", ""),
    ],
}
KEYS = "taking keys from a dictionary leaves keys"
EQUIVALENT = {
    "01.1": {"stays = sorted(own - fits.keys())": KEYS, "stays = sorted(own.keys() - fits)": KEYS},
    "01.2": {
        "return (weights.meta['categories'][place], probability)": "a tensor without dimensions is a number too",
        "probability, place = model(batch).softmax(dim=-1)[0].max(dim=0)": "the last of two dimensions is dimension 1",
    },
}
