"""Answers to lesson 09."""

from statistics import mean

import numpy as np
import torch

from course_utils import sweeps
from course_utils.experiments import sizes

# ---------------------------------------------------------------------------------------------- 09.1 crossing


def ends(first, second, size):
    return sweeps.interval([b - a for a, b in zip(first[size], second[size], strict=True)])


def ordered(first, second):
    return sorted(size for size in first if size in second)


def wrong_first_higher_mean(first, second):
    return next((size for size in ordered(first, second) if mean(second[size]) > mean(first[size])), None)


def wrong_first_clear(first, second):
    return next((size for size in ordered(first, second) if ends(first, second, size)[0] > 0), None)


def wrong_higher_means_throughout(first, second):
    found = None
    for size in ordered(first, second)[::-1]:
        if mean(second[size]) <= mean(first[size]):
            break
        found = size
    return found


def wrong_every_seed(first, second):
    found = None
    for size in ordered(first, second)[::-1]:
        if not all(b > a for a, b in zip(first[size], second[size], strict=True)):
            break
        found = size
    return found


def wrong_two_intervals(first, second):
    found = None
    for size in ordered(first, second)[::-1]:
        if sweeps.interval(second[size])[0] <= sweeps.interval(first[size])[1]:
            break
        found = size
    return found


def wrong_as_they_come(first, second):
    found = None
    for size in [size for size in first if size in second][::-1]:
        if ends(first, second, size)[0] <= 0:
            break
        found = size
    return found


def wrong_one_after(first, second):
    """The largest size that is not clear, instead of the next one."""
    return next((size for size in ordered(first, second)[::-1] if ends(first, second, size)[0] <= 0), None)


def wrong_not_behind(first, second):
    """Undecided at larger sizes counts as a win."""
    ordered_sizes = ordered(first, second)
    clear = [size for size in ordered_sizes if ends(first, second, size)[0] > 0]
    return next((s for s in clear if all(ends(first, second, t)[1] > 0 for t in ordered_sizes if t > s)), None)


def wrong_zero_for_none(first, second):
    return right_all(first, second) or 0


def wrong_largest_clear(first, second):
    return max((size for size in ordered(first, second) if ends(first, second, size)[0] > 0), default=None)


def wrong_text(first, second):
    return f"from {right_all(first, second)} on"


def right_all(first, second):
    ordered_sizes = ordered(first, second)
    clear = {size: ends(first, second, size)[0] > 0 for size in ordered_sizes}
    return next((s for i, s in enumerate(ordered_sizes) if all(clear[t] for t in ordered_sizes[i:])), None)


def right_numpy(first, second):
    sizes = np.sort(ordered(first, second))
    lows = np.array([ends(first, second, int(size))[0] for size in sizes])
    behind = np.flatnonzero(lows <= 0)
    start = 0 if not len(behind) else behind[-1] + 1
    return sizes[start] if start < len(sizes) else None


def wrong_sizes_of_one(first, second):
    """As on curves that were measured at the same sizes."""
    leads = {size: ends(first, second, size)[0] > 0 for size in second}
    return min((size for size in leads if all(leads[t] for t in leads if t >= size)), default=None)


def wrong_all_sizes(first, second):
    leads = {size: ends(first, second, size)[0] > 0 for size in first | second}
    return min((size for size in leads if all(leads[t] for t in leads if t >= size)), default=None)


def wrong_sorted_scores(first, second):
    return right_all(*({size: sorted(scores) for size, scores in curve.items()} for curve in (first, second)))


def wrong_one_sorted(first, second):
    return right_all(first, {size: sorted(scores) for size, scores in second.items()})


def wrong_way_round(first, second):
    return right_all(second, first)


def wrong_no_return(first, second):
    print(right_all(first, second))


def right_tensors(first, second):
    found = None
    for size in ordered(first, second)[::-1]:
        gaps = torch.tensor(second[size], dtype=torch.float64) - torch.tensor(first[size], dtype=torch.float64)
        if sweeps.interval(gaps)[0] <= 0:
            break
        found = size
    return found


def right_upper_end(first, second):
    """From the smallest; the interval of first − second, and its upper end."""
    sizes = sorted(first.keys() & second.keys())
    for place, size in enumerate(sizes):
        if all(ends(second, first, later)[1] < 0 for later in sizes[place:]):
            return size


# -------------------------------------------------------------------------------------------- 09.2 recommend


def wrong_usual_table(per_class, looks_far, ignored, seconds):
    wanted = "head" if per_class < 10 else "layer4 + head" if per_class < 40 else "all"
    return wanted if sizes.SECONDS[wanted] <= seconds else "head"


def wrong_looks_decide(per_class, looks_far, ignored, seconds):
    return right_as_given(per_class, looks_far, looks_far, seconds)


def wrong_always_all(per_class, looks_far, ignored, seconds):
    return "all"


def wrong_all_if_it_fits(per_class, looks_far, ignored, seconds):
    return "all" if seconds >= 16 else "head"


def wrong_always_the_good_one(per_class, looks_far, ignored, seconds):
    return "layer4 + head" if seconds >= sizes.SECONDS["layer4 + head"] else "head"


def wrong_scratch_needs_many(per_class, looks_far, ignored, seconds):
    if ignored and per_class > 20 and seconds >= 16:
        return "scratch"
    return wrong_always_the_good_one(per_class, looks_far, ignored, seconds)


def wrong_price_forgotten(per_class, looks_far, ignored, seconds):
    return "scratch" if ignored else "layer4 + head"


def wrong_name(per_class, looks_far, ignored, seconds):
    return right_ifs(per_class, looks_far, ignored, seconds).replace("layer4 + head", "layer4")


def wrong_either(per_class, looks_far, ignored, seconds):
    return right_as_given(per_class, looks_far, looks_far or ignored, seconds)


def wrong_none(per_class, looks_far, ignored, seconds):
    """Where nothing that can be paid for helps, it returns nothing."""
    return right_ifs(per_class, looks_far, ignored, seconds) if not ignored or seconds >= 16 else None


def right_as_given(per_class, looks_far, ignored, seconds):
    if ignored and seconds >= 16:
        return "scratch"
    return "layer4 + head" if seconds >= 6 else "head"


def right_ifs(per_class, looks_far, ignored, seconds):
    if ignored:
        return "scratch" if seconds >= 16 else "head"
    return "layer4 + head" if seconds >= 6 else "head"


def right_best_first(per_class, looks_far, ignored, seconds):
    order = ["scratch", "head"] if ignored else ["layer4 + head", "head"]
    return next(name for name in order if sizes.SECONDS[name] <= seconds)


# ------------------------------------------------------------------------------------------------ 09.3 decide


def decided(**changed):
    cards = {
        "A": ("layer4 + head", "every size"),
        "B": ("layer4 + head", "looks"),
        "C": ("scratch", "ignored"),
        "D": ("head", "price"),
        "E": ("layer4 + head", "cannot tell"),
        "F": ("wait", "none"),
    }
    return cards | changed


def wrong_small_data(): return decided(A=("head", "price"))  # fmt: skip


def wrong_all_for_its_price(): return decided(A=("all", "price"))  # fmt: skip


def wrong_all_on_b(): return decided(B=("all", "every size"))  # fmt: skip


def wrong_scratch_on_a(): return decided(A=("scratch", "looks"))  # fmt: skip


def wrong_looks_far(): return decided(B=("scratch", "looks"))  # fmt: skip


def wrong_head_on_b(): return decided(B=("head", "price"))  # fmt: skip


def wrong_hue(): return decided(C=("layer4 + head", "every size"))  # fmt: skip


def wrong_all_on_c(): return decided(C=("all", "ignored"))  # fmt: skip


def wrong_head_on_c(): return decided(C=("head", "price"))  # fmt: skip


def wrong_price(): return decided(D=("layer4 + head", "every size"))  # fmt: skip


def wrong_one_seed(): return decided(E=("all", "every size"))  # fmt: skip


def wrong_blind(): return decided(F=("scratch", "none"))  # fmt: skip


def wrong_wait(): return decided(E=("wait", "cannot tell"))  # fmt: skip


def wrong_evidence(): return decided(B=("layer4 + head", "every size"))  # fmt: skip


def wrong_reason(): return decided(E=("layer4 + head", "one seed is not enough"))  # fmt: skip


def wrong_choice(): return decided(A=("layer4", "every size"))  # fmt: skip


def wrong_choices_only(): return {card: choice for card, (choice, _) in decided().items()}  # fmt: skip


def wrong_small_letters(): return {card.lower(): pair for card, pair in decided().items()}  # fmt: skip


def wrong_list(): return list(decided().values())  # fmt: skip


def right_lists(): return {card: list(pair) for card, pair in sorted(decided().items(), reverse=True)}  # fmt: skip


def right_price(): return decided(A=("layer4 + head", "price"), E=("layer4 + head", "price"))  # fmt: skip


def right_interval(): return decided(A=("layer4 + head", "cannot tell"), B=("layer4 + head", "cannot tell"))  # fmt: skip


def right_highest_bar(): return decided(A=("all", "every size"), B=("all", "looks"))  # fmt: skip


def right_what_can_be_paid_for(): return decided(A=("all", "cannot tell"), B=("all", "cannot tell"))  # fmt: skip


def right_cheaper(): return decided(B=("layer4 + head", "price"))  # fmt: skip


WRONG = {
    "09.1": [
        (wrong_first_higher_mean, "0 lies inside, so this lead may be luck"),
        (wrong_first_clear, "a lead that is lost at a larger size does not count from"),
        (wrong_higher_means_throughout, "0 lies inside, so this lead may be luck"),
        (wrong_every_seed, "0 lies inside, so this lead may be luck"),
        (wrong_two_intervals, "are these your differences, seed by seed?"),
        (wrong_as_they_come, "second − first have an interval from"),
        (wrong_one_after, "second − first have an interval from"),
        (wrong_not_behind, "a lead that is lost at a larger size does not count from"),
        (wrong_zero_for_none, "you return 0, and the sizes that both have are ["),
        (wrong_largest_clear, "but the lead begins earlier: at"),
        (wrong_sizes_of_one, "ask at sizes that both have"),
        (wrong_all_sizes, "only one of the two was measured at size"),
        (wrong_sorted_scores, "which score of the first belongs to which of the second?"),
        (wrong_one_sorted, "second − first have an interval from"),
        (wrong_way_round, "which of the two is taken from which?"),
        (wrong_no_return, "does your function return a size?"),
        (wrong_text, "should be a whole number, but is a text"),
        ("s - f", "f - s", "which of the two is taken from which?"),
        ("set(first) & set(second)", "second", "ask at sizes that both have"),
        ("low, high", "high, low", "second − first have an interval from"),
        (", reverse=True", "", "second − first have an interval from"),
        ("sorted(set(first) & set(second), reverse=True)", "set(first) & set(second)", "second − first have an interval from"),
        (
            "            return earliest\n        earliest = count",
            "            return count\n        earliest = count",
            "have an interval from",
        ),
    ],
    "09.2": [
        (wrong_usual_table, "'head' has 0."),
        (wrong_looks_decide, "(it looks far): 'scratch' has"),
        (wrong_always_all, "'all' takes 16 seconds, and the budget is"),
        (wrong_all_if_it_fits, "below the best that you can pay for"),
        (wrong_always_the_good_one, "(its label is what the source ignored): 'layer4 + head' has"),
        (wrong_scratch_needs_many, "(its label is what the source ignored): 'layer4 + head' has"),
        (wrong_price_forgotten, "seconds, and the budget is"),
        (wrong_name, "you recommend 'layer4'; the configurations are"),
        (wrong_either, "(it looks far): 'scratch' has"),
        (wrong_none, "should be a text, but is None"),
        ('return "head"', "return None", "should be a text, but is None"),
        (" and seconds >=", " and seconds >", "(its label is what the source ignored)"),
        ('sizes.SECONDS["scratch"]', "20", "(its label is what the source ignored)"),
        ('sizes.SECONDS["layer4 + head"]', "1", "'layer4 + head' takes 6 seconds, and the budget is"),
    ],
    "09.3": [
        (
            wrong_small_data,
            "card A, 'head': which measurement supports this? At 20 of each class of 'things' it got 0.78, and the best 0.93",
        ),
        (wrong_all_for_its_price, "card A: 'all' can be defended, but not by 'price'"),
        (wrong_all_on_b, "card B: 'all' can be defended, but not by 'every size'"),
        (wrong_scratch_on_a, "card A, 'scratch': which measurement supports this?"),
        (wrong_looks_far, "card B, 'scratch': which measurement supports this? At 20 of each class of 'spectra' it got"),
        (wrong_head_on_b, "card B, 'head': which measurement supports this?"),
        (wrong_hue, "the label is what the source learnt to ignore; on 'tints' 'layer4 + head' got 0."),
        (wrong_all_on_c, "at 20 of each class, the most that was measured there"),
        (wrong_head_on_c, "on 'tints' 'head' got 0."),
        (wrong_price, "card D, 'layer4 + head': two seconds each is what you have, and it takes 6"),
        (wrong_one_seed, "one point from one seed"),
        (wrong_blind, "with no picture there is nothing to train on"),
        (wrong_wait, "waiting teaches nothing"),
        (wrong_evidence, "can be defended, but not by 'every size'"),
        (wrong_reason, "'one seed is not enough' is not on the list of evidence"),
        (wrong_choice, "'layer4' is not a choice"),
        (wrong_choices_only, "should be 2 values (a text, a text), but is a text"),
        (wrong_small_letters, "the cards are A, B, C, D, E, F, and you decide a, b"),
        (wrong_list, "should be a dictionary, but is a list"),
    ],
}
RIGHT = {
    "09.1": [right_all, right_numpy, right_tensors, right_upper_end],
    "09.2": [right_ifs, right_best_first],
    "09.3": [right_lists, right_price, right_interval, right_highest_bar, right_what_can_be_paid_for, right_cheaper],
}
EQUIVALENT = {
    "09.1": {"if low < 0:": "an interval that begins at 0 to the last bit does not occur"},
}
