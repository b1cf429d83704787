"""Answers to lesson 02."""

import copy
import math
from types import SimpleNamespace

import torch
from torch import nn
from torch.nn import functional as F

from course_utils import eval_mode, head_name, head_of, replace_head

# ---------------------------------------------------------------------------------------------- 02.1 swap_head


def last_layer(model):
    return [(name, layer) for name, layer in model.named_modules() if isinstance(layer, (nn.Linear, nn.Conv2d))][-1]


def new_for(old, num_classes):
    if isinstance(old, nn.Linear):
        return nn.Linear(old.in_features, num_classes)
    return nn.Conv2d(old.in_channels, num_classes, kernel_size=1)


def swapped(model, num_classes):
    name, old = last_layer(model)
    model.set_submodule(name, new_for(old, num_classes))
    return model


def wrong_typed(model, num_classes):
    if hasattr(model, "fc"):
        model.fc = nn.Linear(512, num_classes)
    elif isinstance(model.classifier, nn.Linear):
        model.classifier = nn.Linear(1024, num_classes)
    elif len(model.classifier) == 7:
        model.classifier[6] = nn.Linear(4096, num_classes)
    elif len(model.classifier) == 2:
        model.classifier[1] = nn.Linear(1280, num_classes)
    else:
        model.classifier[1] = nn.Conv2d(512, num_classes, kernel_size=1)
    return model


def wrong_behind(model, num_classes):
    name, old = last_layer(model)
    outputs = old.out_features if isinstance(old, nn.Linear) else old.out_channels
    more = nn.Linear(outputs, num_classes) if isinstance(old, nn.Linear) else nn.Conv2d(outputs, num_classes, 1)
    model.set_submodule(name, nn.Sequential(old, more))
    return model


def wrong_whole_classifier(model, num_classes):
    name = "fc" if hasattr(model, "fc") else "classifier"
    first = next(layer for layer in getattr(model, name).modules() if isinstance(layer, (nn.Linear, nn.Conv2d)))
    if isinstance(first, nn.Linear):
        setattr(model, name, nn.Linear(first.in_features, num_classes))
    else:
        model.classifier[1] = new_for(first, num_classes)
    return model


def wrong_softmax(model, num_classes):
    name, old = last_layer(model)
    model.set_submodule(name, nn.Sequential(new_for(old, num_classes), nn.Softmax(dim=1)))
    return model


def wrong_linear_for_squeezenet(model, num_classes):
    name, old = last_layer(model)
    width = old.in_features if isinstance(old, nn.Linear) else old.in_channels
    model.set_submodule(name, nn.Linear(width, num_classes))
    return model


def wrong_linear_only(model, num_classes):
    name, old = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Linear)][-1]
    model.set_submodule(name, nn.Linear(old.in_features, num_classes))
    return model


def wrong_fc_always(model, num_classes):
    width = next(layer.in_features for layer in model.modules() if isinstance(layer, nn.Linear))
    model.fc = nn.Linear(width, num_classes)
    return model


def wrong_number_changed(model, num_classes):
    _, old = last_layer(model)
    if isinstance(old, nn.Linear):
        old.out_features = num_classes
    else:
        old.out_channels = num_classes
    return model


def wrong_cut_to_size(model, num_classes):
    _, old = last_layer(model)
    old.weight = nn.Parameter(old.weight[:num_classes].detach().clone())
    old.bias = nn.Parameter(old.bias[:num_classes].detach().clone())
    return model


def wrong_keeps_a_head_that_fits(model, num_classes):
    return model if last_layer(model)[1].weight.shape[0] == num_classes else swapped(model, num_classes)


def wrong_old_rows_first(model, num_classes):
    old = last_layer(model)[1].weight.detach().clone()
    new = last_layer(swapped(model, num_classes))[1]
    with torch.no_grad():
        new.weight[: len(old)] = old[:num_classes]
    return model


def wrong_dotted_attribute(model, num_classes):
    place, old = last_layer(model)
    if "." not in place:
        return swapped(model, num_classes)
    model.add_module(place.replace(".", "_"), nn.Linear(old.weight.shape[1], num_classes))
    return model


def wrong_dotted_setattr(model, num_classes):
    place, old = last_layer(model)
    setattr(model, place, new_for(old, num_classes))
    return model


def wrong_copy(model, num_classes):
    return swapped(copy.deepcopy(model), num_classes)


def wrong_all_frozen(model, num_classes):
    return swapped(model, num_classes).requires_grad_(False)


def wrong_rest_frozen(model, num_classes):
    head = last_layer(swapped(model.requires_grad_(False), num_classes))[1]
    head.requires_grad_(True)
    return model


def wrong_all_learn(model, num_classes):
    return swapped(model, num_classes).requires_grad_(True)


def wrong_eval(model, num_classes):
    return swapped(model, num_classes).eval()


def wrong_head_frozen(model, num_classes):
    swapped(model, num_classes)
    last_layer(model)[1].requires_grad_(False)
    return model


def wrong_no_bias(model, num_classes):
    name, old = last_layer(model)
    if isinstance(old, nn.Linear):
        model.set_submodule(name, nn.Linear(old.in_features, num_classes, bias=False))
    else:
        model.set_submodule(name, nn.Conv2d(old.in_channels, num_classes, 1, bias=False))
    return model


def wrong_one_bias(model, num_classes):
    swapped(model, num_classes)
    last_layer(model)[1].bias = nn.Parameter(torch.zeros(1))
    return model


def wrong_kept_beside(model, num_classes):
    """The new layer under a name of its own, and where the old one was."""
    swapped(model, num_classes)
    model.head = last_layer(model)[1]
    return model


def wrong_remembers(model, num_classes):
    """The number of classes, as a tensor of the model's, for later."""
    swapped(model, num_classes).register_buffer("number", torch.tensor(num_classes))
    return model


def wrong_wrapped(model, num_classes):
    return nn.Sequential(swapped(model, num_classes), nn.Identity())


def wrong_tried_out(model, num_classes):
    """A picture in training mode, to see the sizes: batch norm counts it."""
    model.train()(torch.rand(2, 3, 8, 8))
    return swapped(model, num_classes)


def right_by_attribute(model, num_classes):
    if hasattr(model, "fc"):
        model.fc = nn.Linear(model.fc.in_features, num_classes)
    elif isinstance(model.classifier, nn.Linear):
        model.classifier = nn.Linear(model.classifier.in_features, num_classes)
    elif isinstance(model.classifier[-1], nn.Linear):
        model.classifier[-1] = nn.Linear(model.classifier[-1].in_features, num_classes)
    else:
        model.classifier[1] = nn.Conv2d(model.classifier[1].in_channels, num_classes, kernel_size=1)
    return model


def right_by_head_name(model, num_classes):
    place = head_name(model)
    rows, width = model.get_submodule(place).weight.shape[:2]
    new = nn.Linear(width, num_classes) if model.get_submodule(place).weight.dim() == 2 else nn.Conv2d(width, num_classes, 1)
    parent, _, name = place.rpartition(".")
    setattr(model.get_submodule(parent), name, new)
    return model


def right_rebuilt(model, num_classes):
    """The rows of layers built anew around the old ones."""
    name, old = last_layer(model)
    parent, _, own = name.rpartition(".")
    new = new_for(old, num_classes)
    if parent:
        layers = [new if layer is old else layer for layer in getattr(model, parent)]
        setattr(model, parent, nn.Sequential(*layers))
    else:
        setattr(model, own, new)
    return model


def right_by_the_course(model, num_classes):
    return replace_head(model, num_classes)


# ---------------------------------------------------------------------------------------------- 02.2 preflight


def facts(model, optimizer, images, labels, num_classes):
    """What the looks need, found in another way than the solution's."""
    quiet = copy.deepcopy(model).eval()
    logits = quiet(images).detach().numpy()
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    head = head_of(model)
    return SimpleNamespace(
        logits=logits,
        outputs=logits.shape[1] != num_classes,
        labels=any(label not in range(num_classes) for label in labels.tolist()),
        probabilities=bool((logits >= 0).all() and (abs(logits.sum(1) - 1) < 1e-3).all()),
        optimizer=not any(parameter is head.weight for parameter in held),
        loss=lambda: F.cross_entropy(torch.tensor(logits), labels).item(),
    )


def first_of(found, num_classes, order=("outputs", "labels", "probabilities", "optimizer")):
    for fault in order:
        if getattr(found, fault):
            return fault
    return "sure" if found.loss() > math.log(num_classes) + 1 else "ok"


def right_by_numbers(model, optimizer, images, labels, num_classes):
    return first_of(facts(model, optimizer, images, labels, num_classes), num_classes)


def right_step_by_step(model, optimizer, images, labels, num_classes):
    modes = {module: module.training for module in model.modules()}
    model.eval()
    logits = model.forward(images)
    for module, mode in modes.items():
        module.training = mode
    if logits.size(1) != num_classes:
        return "outputs"
    if not set(labels.tolist()) <= set(range(num_classes)):
        return "labels"
    ones = torch.ones(len(images))
    if logits.min() >= 0 and logits.max() <= 1 and torch.isclose(logits.sum(dim=1), ones).all():
        return "probabilities"
    ids = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    if id(head_of(model).weight) not in ids or id(head_of(model).bias) not in ids:
        return "optimizer"
    loss = -logits.log_softmax(1)[range(len(labels)), labels].mean()
    return "sure" if loss - math.log(num_classes) > 1 else "ok"


def right_head_first(model, optimizer, images, labels, num_classes):
    """Asks for the head at once, also where a softmax stands behind it."""
    weight = head_of(model).weight
    found = facts(model, optimizer, images, labels, num_classes)
    found.optimizer = all(weight is not one for group in optimizer.param_groups for one in group["params"])
    return first_of(found, num_classes)


def wrong_any_parameter(model, optimizer, images, labels, num_classes):
    found = facts(model, optimizer, images, labels, num_classes)
    found.optimizer = not optimizer.param_groups[0]["params"]
    return first_of(found, num_classes)


def wrong_part_of_the_head(model, optimizer, images, labels, num_classes):
    found = facts(model, optimizer, images, labels, num_classes)
    held = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    found.optimizer = not any(id(parameter) in held for parameter in head_of(model).parameters())
    return first_of(found, num_classes)


def wrong_equal_values(model, optimizer, images, labels, num_classes):
    found = facts(model, optimizer, images, labels, num_classes)
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    found.optimizer = not any(torch.equal(parameter, head_of(model).weight) for parameter in held)
    return first_of(found, num_classes)


def wrong_first_group(model, optimizer, images, labels, num_classes):
    found = facts(model, optimizer, images, labels, num_classes)
    found.optimizer = not any(parameter is head_of(model).weight for parameter in optimizer.param_groups[0]["params"])
    return first_of(found, num_classes)


def wrong_last_group(model, optimizer, images, labels, num_classes):
    found = facts(model, optimizer, images, labels, num_classes)
    found.optimizer = not any(parameter is head_of(model).weight for parameter in optimizer.param_groups[-1]["params"])
    return first_of(found, num_classes)


def wrong_anything_of_the_model(model, optimizer, images, labels, num_classes):
    found = facts(model, optimizer, images, labels, num_classes)
    own = {id(parameter) for parameter in model.parameters()}
    found.optimizer = not all(id(one) in own for group in optimizer.param_groups for one in group["params"])
    return first_of(found, num_classes)


def wrong_far_from_the_limit(model, optimizer, images, labels, num_classes):
    said = preflight_of(model, optimizer, images, labels, num_classes)
    with torch.no_grad(), eval_mode(model):
        loss = F.cross_entropy(model(images), labels.clamp(0, num_classes - 1)) if said == "ok" else 0
    return "sure" if said == "ok" and loss < math.log(num_classes) - 1 else said


def preflight_of(model, optimizer, images, labels, num_classes):
    return first_of(facts(model, optimizer, images, labels, num_classes), num_classes)


def wrong_whole_model(model, optimizer, images, labels, num_classes):
    found = facts(model, optimizer, images, labels, num_classes)
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    found.optimizer = not all(id(parameter) in held for parameter in model.parameters())
    return first_of(found, num_classes)


def wrong_between(model, optimizer, images, labels, num_classes):
    found = facts(model, optimizer, images, labels, num_classes)
    found.probabilities = found.logits.min() >= 0 and found.logits.max() <= 1
    return first_of(found, num_classes)


def wrong_last_class(model, optimizer, images, labels, num_classes):
    found = facts(model, optimizer, images, labels, num_classes)
    found.labels = int(labels.max()) != num_classes - 1 or int(labels.min()) != 0
    return first_of(found, num_classes)


def wrong_order(model, optimizer, images, labels, num_classes):
    found = facts(model, optimizer, images, labels, num_classes)
    return first_of(found, num_classes, ("optimizer", "probabilities", "labels", "outputs"))


def wrong_loss_first(model, optimizer, images, labels, num_classes):
    found = facts(model, optimizer, images, labels, num_classes)
    if found.loss() > math.log(num_classes) + 1:
        return "sure"
    return first_of(found, num_classes)


def wrong_one_picture(model, optimizer, images, labels, num_classes):
    found = facts(model, optimizer, images, labels, num_classes)
    found.loss = lambda: F.cross_entropy(torch.tensor(found.logits[0]), labels[0]).item()
    return first_of(found, num_classes)


def wrong_takes_a_step(model, optimizer, images, labels, num_classes):
    found = facts(model, optimizer, images, labels, num_classes)
    if not found.outputs and not found.labels:
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
    return first_of(found, num_classes)


def wrong_leaves_gradients(model, optimizer, images, labels, num_classes):
    found = facts(model, optimizer, images, labels, num_classes)
    if first_of(found, num_classes) == "ok":
        with eval_mode(model):
            F.cross_entropy(model(images), labels).backward()
    return first_of(found, num_classes)


def wrong_evaluation_mode(model, optimizer, images, labels, num_classes):
    model.eval()
    return first_of(facts(model, optimizer, images, labels, num_classes), num_classes)


def wrong_grad_off(model, optimizer, images, labels, num_classes):
    torch.set_grad_enabled(False)
    return first_of(facts(model, optimizer, images, labels, num_classes), num_classes)


def wrong_true(model, optimizer, images, labels, num_classes):
    return right_by_numbers(model, optimizer, images, labels, num_classes) == "ok"


def wrong_own_word(model, optimizer, images, labels, num_classes):
    found = right_by_numbers(model, optimizer, images, labels, num_classes)
    return "loss" if found == "sure" else found


# ------------------------------------------------------------------------------------- 02.3 start_from_old_rows


def right_index(old_head, old_names, new_names):
    head = nn.Linear(old_head.in_features, len(new_names))
    rows = [row for row, name in enumerate(new_names) if name in old_names]
    places = [old_names.index(new_names[row]) for row in rows]
    head.weight.data[rows] = old_head.weight.data[places]
    head.bias.data[rows] = old_head.bias.data[places]
    return head


def right_state(old_head, old_names, new_names):
    old, head = dict(zip(old_names, range(len(old_names)), strict=True)), nn.Linear(old_head.in_features, len(new_names))
    state = head.state_dict()
    for row, name in enumerate(new_names):
        if name in old:
            for key, values in old_head.state_dict().items():
                state[key][row].copy_(values[old[name]])
    head.load_state_dict(state)
    return head


def wrong_bias(old_head, old_names, new_names):
    head = nn.Linear(old_head.in_features, len(new_names))
    for row, name in enumerate(new_names):
        if name in old_names:
            head.weight.data[row] = old_head.weight.data[old_names.index(name)]
    return head


def wrong_rows_only(old_head, old_names, new_names):
    head = right_index(old_head, old_names, new_names)
    head.bias = None
    return head


def wrong_view(old_head, old_names, new_names):
    head = nn.Linear(old_head.in_features, len(new_names))
    head.weight.data = old_head.weight.data[: len(new_names)]
    head.bias.data = old_head.bias.data[: len(new_names)]
    return head


def wrong_same_object(old_head, old_names, new_names):
    fresh = right_index(old_head, old_names, new_names)
    old_head.weight, old_head.bias = fresh.weight, fresh.bias
    return old_head


def wrong_shortcut(old_head, old_names, new_names):
    return old_head if old_names == new_names else right_index(old_head, old_names, new_names)


def wrong_shared(old_head, old_names, new_names):
    head = right_index(old_head, old_names, new_names)
    if old_names == new_names:
        head.weight, head.bias = old_head.weight, old_head.bias
    return head


def wrong_by_place(old_head, old_names, new_names):
    head = nn.Linear(old_head.in_features, len(new_names))
    count = min(len(old_names), len(new_names))
    head.weight.data[:count] = old_head.weight.data[:count]
    head.bias.data[:count] = old_head.bias.data[:count]
    return head


def wrong_known_only(old_head, old_names, new_names):
    rows = [old_names.index(name) for name in new_names if name in old_names]
    head = nn.Linear(old_head.in_features, len(rows))
    head.weight.data, head.bias.data = old_head.weight.data[rows], old_head.bias.data[rows]
    return head


def alike(old_head, old_names, new_names, same):
    head = nn.Linear(old_head.in_features, len(new_names))
    for row, name in enumerate(new_names):
        for place, old in enumerate(old_names):
            if same(name, old):
                head.weight.data[row], head.bias.data[row] = old_head.weight.data[place], old_head.bias.data[place]
    return head


def wrong_inside(old_head, old_names, new_names):
    return alike(old_head, old_names, new_names, lambda name, old: name in old)


def wrong_inside_either(old_head, old_names, new_names):
    return alike(old_head, old_names, new_names, lambda name, old: name in old or old in name)


def wrong_last_word(old_head, old_names, new_names):
    return alike(old_head, old_names, new_names, lambda name, old: name.split()[-1] == old.split()[-1])


def wrong_no_test(old_head, old_names, new_names):
    head = nn.Linear(old_head.in_features, len(new_names))
    for row, name in enumerate(new_names):
        head.weight.data[row] = old_head.weight.data[old_names.index(name)]
        head.bias.data[row] = old_head.bias.data[old_names.index(name)]
    return head


def wrong_zeros(old_head, old_names, new_names):
    head = right_index(old_head, old_names, new_names)
    for row, name in enumerate(new_names):
        if name not in old_names:
            head.weight.data[row] = 0
    return head


def wrong_borrowed(old_head, old_names, new_names):
    head = right_index(old_head, old_names, new_names)
    for row, name in enumerate(new_names):
        if name not in old_names:
            head.weight.data[row] = old_head.weight.data[0]
    return head


def wrong_empty(old_head, old_names, new_names):
    head = right_index(old_head, old_names, new_names)
    for row, name in enumerate(new_names):
        if name not in old_names:
            head.weight.data[row] = math.nan
    return head


def wrong_mean(old_head, old_names, new_names):
    head = right_index(old_head, old_names, new_names)
    for row, name in enumerate(new_names):
        if name not in old_names:
            head.weight.data[row] = old_head.weight.data.mean(0)
    return head


def wrong_frozen_with_old(old_head, old_names, new_names):
    return right_index(old_head, old_names, new_names).requires_grad_(old_head.weight.requires_grad)


def wrong_old_woken(old_head, old_names, new_names):
    old_head.requires_grad_(True)
    return right_index(old_head, old_names, new_names)


def wrong_grad_off_for_good(old_head, old_names, new_names):
    torch.set_grad_enabled(False)
    return right_index(old_head, old_names, new_names)


def wrong_nothing_copied(old_head, old_names, new_names):
    return nn.Linear(old_head.in_features, len(new_names))


def wrong_tensors(old_head, old_names, new_names):
    head = right_index(old_head, old_names, new_names)
    return head.weight, head.bias


WRONG = {
    "02.1": [
        (wrong_typed, "shows '(fc): Linear(in_features=512, out_features="),
        (wrong_behind, "is still inside"),
        (wrong_whole_classifier, "instead of '(classifier): Sequential(': one new layer takes the old one's place"),
        (wrong_softmax, "each row of outputs adds up to 1: return logits"),
        (wrong_linear_for_squeezenet, "instead of '(1): Conv2d("),
        (wrong_linear_only, "in the squeezenet layout (classifier.1, a Conv2d) it stopped with IndexError"),
        (wrong_fc_always, "in the vgg layout (classifier.6, a Linear) the old layer, or rows of it"),
        (wrong_number_changed, "is still inside"),
        (wrong_cut_to_size, "or rows of it, is still inside"),
        (wrong_keeps_a_head_that_fits, "build a new one, for any number"),
        (wrong_old_rows_first, "rows of it, is still inside; they belong to other classes"),
        (wrong_dotted_attribute, "is still inside"),
        (wrong_dotted_setattr, "stands beside the old place, since setattr takes no dotted name"),
        (wrong_copy, "another Network, perhaps a copy, came back"),
        (wrong_wrapped, "another Sequential, perhaps a copy"),
        (wrong_all_frozen, "could never learn"),
        (wrong_rest_frozen, "came with requires_grad=True and left with False"),
        (wrong_all_learn, "came with requires_grad=False and left with True"),
        (wrong_eval, "came in training mode and left in evaluation mode"),
        (wrong_head_frozen, "could never learn"),
        (wrong_no_bias, "bias=False)' instead of '(fc): Linear("),
        (wrong_one_bias, "fc.bias is not what it was, or has not the shape ("),
        (wrong_kept_beside, "shows '(head): Linear("),
        (wrong_remembers, "number is new, too; one new layer is enough"),
        (wrong_tried_out, "running_mean is not what it was"),
        ("    return model\n", "    return None\n", "nothing came back"),
        ("kernel_size=1", "kernel_size=3", "kernel_size=(3, 3), stride=(1, 1))' instead of '(1): Conv2d("),
        ("num_classes, kernel_size", "last.out_channels, kernel_size", "shows '(1): Conv2d("),
    ],
    "02.2": [
        ("math.log(num_classes) + 1", "math.log(num_classes)", "a fresh head lies a little above, too"),
        ("math.log(num_classes) + 1", "1.79 + 1", "the first loss is"),
        ("math.log(num_classes) + 1", "num_classes", "the first loss is"),
        ("labels.max() >= num_classes", "labels.max() > num_classes", "labels end at 4: Target 5"),
        (
            "model(images)\n    if logits.shape[1] !=",
            "model(images)\n    if logits.shape[1] >",
            "the first fault here is 'outputs'",
        ),
        ("logits.shape[1] !=", "logits.shape[1] <", "the first fault here is 'outputs'"),
        (
            "torch.allclose(logits.sum(1), torch.ones(len(logits)))",
            "abs(logits[0].sum() - 1) < 1e-3",
            "rows add up to 0.50 to 1.50",
        ),
        (
            "torch.allclose(logits.sum(1), torch.ones(len(logits)))",
            "abs(logits.sum() - len(logits)) < 1e-3",
            "rows add up to 0.50",
        ),
        ("torch.allclose(logits.sum(1), torch.ones(len(logits)))", "(logits.sum(1) == 1).all()", "(dim=1; allclose, not ==)"),
        ("logits.sum(1), torch.ones(len(logits))", "logits.sum(0), torch.ones(num_classes)", "(dim=1; allclose, not ==)"),
        (
            "id(head_of(model).weight) not in held",
            "head_of(model).weight not in [p for g in optimizer.param_groups for p in g['params']]",
            "`is` asks for one tensor",
        ),
        (wrong_part_of_the_head, "and the weight of the head that is in the model now is not among them"),
        ("labels.min() < 0 or ", "", "the labels go from -1"),
        (wrong_any_parameter, "the head that is in the model now is not among them"),
        (wrong_equal_values, "equal values do not make it the same tensor"),
        (wrong_first_group, "in 2 groups, and the weight of the head that is in the model now is among them"),
        (wrong_last_group, "in 2 groups, and the weight of the head that is in the model now is among them"),
        (wrong_anything_of_the_model, "the head that is in the model now is not among them"),
        (wrong_far_from_the_limit, "the first loss is"),
        (wrong_whole_model, "is among them; not all need be"),
        (wrong_between, "rows add up to 1 (dim=1; allclose, not ==)"),
        (wrong_last_class, "a small batch need not show all"),
        (wrong_order, "the first fault here is '"),
        (wrong_loss_first, "it stopped with IndexError"),
        (wrong_one_picture, "but the first fault here is 'sure'"),
        (wrong_takes_a_step, "your preflight changed the model"),
        (wrong_leaves_gradients, "leaves gradients behind"),
        (wrong_evaluation_mode, "came in training mode and left in evaluation mode"),
        (wrong_grad_off, "gradients are switched off in the whole program"),
        (wrong_true, "should be a text, but is True or False"),
        (wrong_own_word, "return 'ok' or one of 'outputs', 'labels'"),
    ],
    "02.3": [
        (wrong_bias, "match, but its bias is"),
        (wrong_rows_only, "bias has the shape (0,)"),
        (wrong_view, "training the new head changed the old one"),
        (wrong_same_object, "is it the same layer, or its tensors?"),
        (wrong_shortcut, "where the names are the same, changed the old one: is it the same layer"),
        (wrong_shared, "training the new head, where the names are the same, changed the old one"),
        (wrong_by_place, "the old row of"),
        (wrong_known_only, "weight has the shape"),
        (wrong_inside, "look classes up by the whole name"),
        (wrong_inside_either, "look classes up by the whole name"),
        (wrong_last_word, "look classes up by the whole name"),
        (wrong_no_test, "it stopped with ValueError"),
        (wrong_zeros, "rows of unknown classes are zeros"),
        (wrong_borrowed, "is the old row of"),
        (wrong_empty, "or hold no numbers"),
        (wrong_mean, "rows of unknown classes are zeros, equal,"),
        (wrong_frozen_with_old, "must both be able to learn"),
        (wrong_old_woken, "leave every requires_grad as it was"),
        (wrong_grad_off_for_good, "gradients are switched off in the whole program"),
        (wrong_nothing_copied, "is not the one it had in the old head"),
        (wrong_tensors, "should be a new nn.Linear, but is a tuple"),
        ("return new_head", "new_head", "should be a new nn.Linear, but is None: does your function return something?"),
    ],
}

RIGHT = {
    "02.1": [right_by_attribute, right_by_head_name, right_rebuilt, right_by_the_course],
    "02.2": [right_by_numbers, right_step_by_step, right_head_first],
    "02.3": [right_index, right_state],
}

EQUIVALENT = {
    "02.2": {
        "if (logits >= 0).all() and torch.allclose(torch.ones(len(logits)), logits.sum(1)):": "near is near from both sides",
        "if (logits >= 0).all() and torch.allclose(logits.sum(-1), torch.ones(len(logits))):": "the last dimension is 1",
        "if (logits > 0).all() and torch.allclose(logits.sum(1), torch.ones(len(logits))):": "a softmax gives 0 only where "
        "logits lie a hundred apart",
        "return 'sure' if F.cross_entropy(logits, labels) >= math.log(num_classes) + 1 else 'ok'": "no loss meets the limit",
        "if logits.shape[-1] != num_classes:": "the last dimension is 1",
    }
}
