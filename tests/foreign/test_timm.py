"""Families of timm, small: with drop path and without, head and last stage learning: equal, or not split, with a word why.

`COURSE_TIMM=all pytest -rP tests/foreign/test_timm.py` tries larger ones too, and shows what became of each.
"""

from __future__ import annotations

import copy
import functools
import inspect
import os
import warnings
from collections.abc import Callable

import pytest
import torch
from oracle import Case, judge, seed_all
from torch import nn

from course_utils import freeze, unfreeze

timm = pytest.importorskip("timm", reason="the development requirement timm is not installed")


def named(name: str, size: int = 0, **options) -> Callable[..., nn.Module]:
    """timm's model of this name for pictures of `size` pixels, with these options to make it small."""
    make = functools.partial(timm.create_model, name, pretrained=False, num_classes=3, **options)
    make.size, make.drops = size or options["img_size"], True
    return make


def steady(name: str, size: int, **options) -> Callable[..., nn.Module]:
    """The same for a family that has no drop path."""
    make = named(name, size, **options)
    make.drops = False
    return make


def of_class(path: str, size: int, **options) -> Callable[..., nn.Module]:
    """A model of timm's class at this path, which is small where no name of timm's is."""
    module, name = path.split(".")
    model_class = getattr(getattr(timm.models, module), name)
    make = functools.partial(model_class, num_classes=3, **options)
    make.size, make.drops = size, "drop_path_rate" in inspect.signature(model_class).parameters
    return make


TINY = {"img_size": 32, "depth": 2, "embed_dim": 48}
NARROW = {"channels": (8, 16, 24, 32), "layers": (1, 1, 1, 1)}
FAMILIES = {
    "resnet": named("resnet18d", 32, channels=(8, 16, 24, 32), stem_width=8),
    "resnet, bottlenecks": named("resnet50d", 32, stem_width=8, **NARROW),
    "seresnet": named("seresnet18", 32, **NARROW),
    "skresnet": named("skresnet18", 32, channels=(16, 16, 32, 32), layers=(1, 1, 1, 1)),
    "resnest": named("resnest14d", 32, channels=(8, 16, 24, 32)),
    "res2net": named("res2net50_14w_8s", 32, channels=(16, 16, 16, 32), layers=(1, 1, 1, 1)),
    "resnetv2": named("resnetv2_50", 32, channels=(32, 32, 64, 64), layers=(1, 1, 1, 1), stem_chs=16),
    "regnet": named("regnety_002", 32),
    "efficientnet": named("test_efficientnet", 32),
    "efficientnet_lite": named("efficientnet_lite0", 32),
    "efficientnet, layer norm": named("test_efficientnet_ln", 32),
    "efficientnet, evo norm": named("test_efficientnet_evos", 32),
    "mobilenetv2": named("mobilenetv2_035", 32),
    "mobilenetv3": named("mobilenetv3_small_050", 32),
    "mobilenetv4": named("mobilenetv4_conv_small_035", 32),
    "lcnet": named("lcnet_035", 32),
    "tinynet": named("tinynet_e", 32),
    "ghostnet": steady("ghostnet_050", 32),
    "convnext": named("convnext_atto", 32, depths=(1, 1, 1, 1), dims=(8, 16, 24, 32)),
    "convnextv2": named("convnextv2_atto", 32, depths=(1, 1, 1, 1), dims=(8, 16, 24, 32)),
    "byobnet": named("test_byobnet", 32),
    "nfnet": named("test_nfnet", 32),
    "mambaout": named("test_mambaout", 32),
    "densenet": steady("densenet121", 32, block_config=(1, 1, 1, 1)),
    "dla": steady("dla34", 32, channels=(8, 8, 8, 16, 16, 16)),
    "vgg": of_class("vgg.VGG", 32, cfg=[8, "M", 16, "M", 16], mlp_ratio=0.01),
    "vit": named("vit_tiny_patch16_224", num_heads=3, **TINY),
    "vit, registers": named("vit_small_patch14_reg4_dinov2", num_heads=3, **TINY | {"img_size": 28}),
    "vit, attention pooling": named("vit_base_patch16_siglip_224", num_heads=3, **TINY),
    "vit, relative positions": named("vit_relpos_small_patch16_224", num_heads=3, **TINY),
    "deit, distilled": named("deit_tiny_distilled_patch16_224", **TINY),
    "beit": named("beit_base_patch16_224", num_heads=3, **TINY),
    "eva": named("eva02_tiny_patch14_224", num_heads=3, **TINY | {"img_size": 28}),
    "sam": named("samvit_base_patch16_224", num_heads=3, **TINY),
    "naflexvit": named("naflexvit_base_patch16_gap", 32, embed_dim=48, depth=2, num_heads=3),
    "swin": named("swin_tiny_patch4_window7_224", img_size=32, window_size=4, embed_dim=24, depths=(1, 1, 2, 1)),
    "swinv2": named("swinv2_tiny_window8_256", img_size=32, window_size=4, embed_dim=24, depths=(1, 1, 2, 1)),
    "cait": named("cait_xxs24_224", **TINY),
    "xcit": named("xcit_nano_12_p16_224", **TINY),
    "convit": named("convit_tiny", **TINY),
    "tnt": named("tnt_s_legacy_patch16_224", **TINY),
    "davit": named("davit_tiny", 32, depths=(1, 1, 1, 1), embed_dims=(16, 16, 32, 32), num_heads=(1, 1, 2, 2)),
    "sequencer": named("sequencer2d_s", 32, layers=(1, 1, 1, 1), embed_dims=(16, 16, 16, 16)),
    "mixer": of_class("mlp_mixer.MlpMixer", 32, img_size=32, num_blocks=2, embed_dim=32),
    "poolformer": of_class("metaformer.MetaFormer", 32, depths=(1, 1, 1, 1), dims=(8, 16, 16, 32)),
    "levit": named("levit_128s", img_size=64),
    "mobilevit": named("mobilevit_xxs", 32),
    "edgenext": named("edgenext_xx_small", 32),
    "fastvit": named("fastvit_t8", 32),
    "pvt": named("pvt_v2_b0", 32),
    "efficientvit": steady("efficientvit_b0", 32),
}
LARGER = {
    "efficientnet_b0": named("efficientnet_b0", 32),
    "maxvit": named("maxvit_rmlp_pico_rw_256", img_size=64),
    "coatnet": named("coatnet_pico_rw_224", img_size=32),
    "hrnet": steady("hrnet_w18_small", 32),
    "mobileone": named("mobileone_s0", 32),
    "repvgg": named("repvgg_a0", 32),
    "xception": named("xception41p", 32),
    "nfnet_l0": named("nfnet_l0", 32),
    "nf_resnet": named("nf_resnet26", 32),
    "coat": named("coat_tiny", img_size=32),
    "crossvit": named("crossvit_tiny_240", img_size=240),
    "twins": named("twins_svt_small", 32),
    "visformer": named("visformer_tiny", img_size=32),
    "volo": named("volo_d1_224", img_size=64),
    "rexnet": named("rexnet_100", 32),
    "cs3darknet": named("cs3darknet_s", 32),
    "vovnet": named("ese_vovnet19b_slim", 32),
    "lambda": named("lambda_resnet26rpt_256", img_size=64),
    "botnet": named("botnet26t_256", img_size=64),
    "nest": named("nest_tiny", img_size=32),
    "starnet": named("starnet_s1", 32),
    "hgnet": named("hgnet_tiny", 32),
    "hiera": named("hiera_tiny_224", img_size=64),
    "swiftformer": named("swiftformer_xs", 64),
    "rdnet": named("rdnet_tiny", 32),
    "gcvit": named("gcvit_xxtiny", img_size=64),
    "mvitv2": named("mvitv2_tiny", img_size=32),
    "nextvit": named("nextvit_small", 32),
    "efficientformer": named("efficientformer_l1", 224),
    "efficientformerv2": named("efficientformerv2_s0", img_size=64),
    "focalnet": named("focalnet_tiny_srf", 32),
    "tiny_vit": named("tiny_vit_5m_224", 64),
    "repvit": steady("repvit_m0_9", 32),
    "efficientvit_m": steady("efficientvit_m0", img_size=64, size=64),
    "shvit": steady("shvit_s1", 64),
    "selecsls": steady("selecsls42", 32),
    "dpn": steady("dpn48b", 32),
    "caformer": named("caformer_s18", 32),
    "pit": named("pit_ti_224", 224),
}
if os.environ.get("COURSE_TIMM") == "all":
    FAMILIES |= LARGER

LEARNS = ("head", "last stage and head")
PLAIN = ["resnet", "resnet, bottlenecks", "seresnet", "skresnet", "resnest", "efficientnet", "efficientnet_lite", "mobilenetv2"]
PLAIN += [
    "mobilenetv3",
    "lcnet",
    "tinynet",
    "ghostnet",
    "convnext",
    "convnextv2",
    "nfnet",
    "densenet",
    "dla",
    "regnet",
    "mixer",
]
EQUAL = {  # can certainly be split, with drop path and without
    *((family, learns) for family in PLAIN for learns in LEARNS),
    *((family, "head") for family in ("vgg", "mambaout", "byobnet", "vit", "beit", "cait", "swin", "poolformer", "pvt")),
}
DEEP = ["fastvit", "efficientnet_lite", "regnet", "mobilenetv2", "mobilenetv3", "mobilenetv4", "lcnet", "tinynet", "ghostnet"]
DEEP += ["mobilevit", "edgenext", "pvt", "levit", "xcit", "efficientvit", *LARGER]  # these take seconds


def ways_of(family: str) -> list[tuple[str, str, float]]:
    """The family, what learns, and the rate of drop path: all four, or for deep families two."""
    rates = (0.0, 0.2) if FAMILIES[family].drops else (0.0,)
    if family in DEEP:
        return [(family, LEARNS[0], 0.0), (family, LEARNS[1], rates[-1])]
    return [(family, learns, rate) for learns in LEARNS for rate in rates]


WAYS = [way for family in FAMILIES for way in ways_of(family)]


@functools.cache
def made(family: str, rate: float) -> nn.Module:
    seed_all(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return FAMILIES[family](**({"drop_path_rate": rate} if rate else {}))


def build(family: str, learns: str, rate: float) -> Case:
    model = copy.deepcopy(made(family, rate))
    freeze(model)
    heads = model.get_classifier()
    for head in heads if isinstance(heads, (tuple, list, nn.ModuleList)) else [heads]:
        unfreeze(head)
    if learns != "head":
        unfreeze(last_stage(model))
    size = FAMILIES[family].size
    return Case(model, size=(3, size, size), example=True, pictures=4, batch=2, epochs=1, tolerance=1e-4)


def last_stage(model: nn.Module) -> nn.Module:
    """The last block of the last container in front of the head."""
    stages = [part for part in model.children() if len(list(part.children())) > 1 and not any(map(learns, part.parameters()))]
    last = stages[-1]
    return list(last.children())[-1] if isinstance(last, (nn.Sequential, nn.ModuleList)) else last


def learns(parameter: nn.Parameter) -> bool:
    return parameter.requires_grad


@pytest.mark.parametrize("way", WAYS, ids=lambda way: f"{way[0]}, {way[1]}, drop path {way[2]}")
def test_a_family_is_trained_equally_or_not_split(way):
    verdict = judge(functools.partial(build, *way))
    print(f"{way}: {verdict}")
    assert verdict.kind != "cannot be trained whole", verdict
    if way[:2] in EQUAL:
        assert verdict.kind == "equal", f"{way} can be split, but is not: {verdict}"
        assert verdict.useful, f"{way}: nothing of what is frozen was moved into the frozen part"


def test_there_are_many_families():
    assert len(FAMILIES) >= 24
    assert torch.is_tensor(made("vit", 0.0)(torch.randn(1, 3, 32, 32)))
