"""Kept features on disk: found again when everything is the same, never when something is not, and whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset
from torchvision import transforms

from course_utils import feature_store
from course_utils.data import Pictures, list_folder, open_data
from course_utils.finetune import freeze, unfreeze
from course_utils.fx_split import split_frozen
from course_utils.models import load_model, replace_head
from course_utils.precomputed import precompute
from course_utils.profiles import settings
from course_utils.train import evaluate
from course_utils.weights import image_transform


@pytest.fixture
def cache(tmp_path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def folder(plant, tmp_path):
    """Settings for twelve small pictures of two classes in each split."""
    for split in ("train", "val", "test"):
        plant(tmp_path / "pictures" / split, {"dark": 6, "light": 6}, size=(70, 66))
    return settings(data=str(tmp_path / "pictures"), batch_size=5)


@pytest.fixture
def frozen(small_net) -> nn.Module:
    return halves(small_net)[0]


def halves(make, learns: str = "fc"):
    torch.manual_seed(0)
    model = freeze(make())
    unfreeze(model.get_submodule(learns))
    return split_frozen(model)


def entries(cache: Path) -> list[str]:
    return sorted(entry.name for entry in cache.iterdir())


# ------------------------------------------------------------------------------------------------------- found again


def test_a_second_run_finds_them(small_net, folder, cache, capsys, monkeypatch):
    made = precompute(halves(small_net)[0], open_data(folder).train, cache=cache)
    assert capsys.readouterr().out == "12 pictures: 8 numbers each, 0.0 MB, kept in memory\n"
    frozen, learning = halves(small_net)  # the same network, built anew
    monkeypatch.setattr(type(frozen), "forward", None)  # it must not run again
    found = precompute(frozen, open_data(folder).train, cache=cache)
    assert capsys.readouterr().out == "12 pictures: 8 numbers each, 0.0 MB, found again\n"
    for (a, labels), (b, same) in zip(made, found, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(labels, same)
    assert len(entries(cache)) == 1
    evaluate(learning, found)


def test_without_a_cache_nothing_is_written(frozen, folder, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    precompute(frozen, open_data(folder).train, cache=None)
    assert sorted(tmp_path.rglob("*")) == before


def change_one_pixel(path: Path) -> None:
    with Image.open(path) as image:
        changed = image.copy()
    changed.putpixel((3, 3), (1, 2, 3))
    changed.save(path)


def one_pixel(model, data):
    change_one_pixel(data.samples[7][0])
    return data


def one_frozen_weight(model, data):
    model.conv1.weight.data[0, 0, 1, 1] += 1
    return data


def one_statistic(model, data):
    model.bn1.running_mean[0] -= 1
    return data


def another_transform(model, data):
    return Pictures(data.samples, image_transform(size=64, resize=64, mean=[0.4] * 3, std=[0.2] * 3))


def another_size(model, data):
    return Pictures(data.samples, image_transform(size=32, resize=32, mean=[0.5] * 3, std=[0.2] * 3))


def another_order(model, data):
    return Pictures([*data.samples[1:], data.samples[0]], data.transform)


def another_label(model, data):
    path, label = data.samples[0]
    return Pictures([(path, 1 - label), *data.samples[1:]], data.transform)


def fewer_pictures(model, data):
    return Subset(data, range(6))


CHANGES = [
    one_pixel,
    one_frozen_weight,
    one_statistic,
    another_transform,
    another_size,
    another_order,
    another_label,
    fewer_pictures,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_what_has_changed_is_made_anew(change, small_net, plant, tmp_path, cache, capsys):
    samples, _ = list_folder(plant(tmp_path / "p", {"dark": 4, "light": 4}), ["dark", "light"])
    data = Pictures(samples, image_transform(size=64, resize=64, mean=[0.5] * 3, std=[0.2] * 3))
    model = freeze(small_net())
    unfreeze(model.fc)
    old = precompute(split_frozen(model).frozen, DataLoader(data, 4), cache=cache)
    data = change(model, data)
    frozen = split_frozen(model).frozen
    new = precompute(frozen, DataLoader(data, 4), cache=cache)
    assert "found again" not in capsys.readouterr().out
    wanted = torch.cat([frozen(images) for images, _ in DataLoader(data, 4)])
    torch.testing.assert_close(new.dataset.parts[0], wanted)
    assert new.dataset.labels.tolist() == [label for _, label in data]
    old_rows = (old.dataset.parts[0].tolist(), old.dataset.labels.tolist())
    assert (new.dataset.parts[0].tolist(), new.dataset.labels.tolist()) != old_rows
    assert len(entries(cache)) == 2


def test_another_frontier_views_and_precision_are_other_features(small_net, folder, cache):
    data = open_data(folder)
    for learns in ("fc", "layer2"):
        for half in (False, True):
            precompute(halves(small_net, learns)[0], data.val, half=half, cache=cache)
    assert len(entries(cache)) == 4


def test_what_cannot_be_recognised_is_kept_for_this_run(frozen, folder, cache, capsys):
    recipe = transforms.Compose([transforms.ToTensor(), transforms.Lambda(lambda image: image[:, :64, :64])])
    precompute(frozen, open_data(folder, transform=recipe).val, cache=cache)
    said = capsys.readouterr().out
    assert "for this run alone: a later one could not recognise" in said
    assert "<lambda>" in said
    assert entries(cache) == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(frozen, folder, tmp_path, capsys):
    (tmp_path / "locked").mkdir(mode=0o500)
    precompute(frozen, open_data(folder).val, cache=tmp_path / "locked" / "cache")
    assert "for this run alone" in capsys.readouterr().out


def test_a_folder_that_cannot_be_made(frozen, folder, tmp_path, capsys, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    precompute(frozen, open_data(folder).val, cache=tmp_path / "locked")
    assert f"for this run alone: {tmp_path / 'locked'} may not be written" in capsys.readouterr().out


# --------------------------------------------------------------------------------------------------- whole or not at all


def damage_size(entry: Path) -> None:
    os.truncate(entry / "0.bin", 5)


def damage_plan(entry: Path) -> None:
    (entry / "plan.json").write_text('{"pictures": 12,', encoding="utf-8")


def damage_keys(entry: Path) -> None:
    (entry / "plan.json").write_text(json.dumps({"pictures": 12}), encoding="utf-8")


def damage_file(entry: Path) -> None:
    (entry / "1.bin").unlink()


@pytest.mark.parametrize("damage", [damage_size, damage_plan, damage_keys, damage_file])
def test_what_is_damaged_is_made_anew(damage, frozen, folder, cache, capsys):
    whole = precompute(frozen, open_data(folder).val, cache=cache)
    damage(cache / entries(cache)[0])
    anew = precompute(frozen, open_data(folder).val, cache=cache)
    assert "found again" not in capsys.readouterr().out
    assert torch.equal(anew.dataset.parts[0], whole.dataset.parts[0])
    assert len(entries(cache)) == 1


def stop_at_second_batch(monkeypatch, error: BaseException) -> None:
    from course_utils import precomputed

    real, calls = precomputed.to_device, []

    def stopping(images, device):
        calls.append(1)
        if len(calls) == 2:
            raise error
        return real(images, device)

    monkeypatch.setattr(precomputed, "to_device", stopping)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("a picture is damaged")])
def test_interrupted_it_leaves_nothing(error, frozen, folder, cache, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        stop_at_second_batch(patch, error)
        with pytest.raises(type(error)):
            precompute(frozen, open_data(folder).train, cache=cache)
    assert entries(cache) == []
    torch.testing.assert_close(torch.get_rng_state(), torch.random.get_rng_state())
    precompute(frozen, open_data(folder).train, cache=cache)
    assert "found again" not in capsys.readouterr().out


CHILD = """
    import os, signal, sys
    import torch
    from torch.utils.data import DataLoader, TensorDataset
    from course_utils import precomputed

    cache, kill = sys.argv[1:]
    real, calls = precomputed.to_device, []

    def killed(images, device):
        calls.append(1)
        if kill == "yes" and len(calls) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(images, device)

    precomputed.to_device = killed
    torch.manual_seed(0)
    data = TensorDataset(torch.randn(40, 3, 8, 8), torch.arange(40) % 3)
    frozen = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten()).requires_grad_(False).eval()
    features = precomputed.precompute(frozen, DataLoader(data, 8), cache=cache)
    wanted = torch.cat([frozen(images) for images, _ in DataLoader(data, 8)])
    assert torch.allclose(features.dataset.parts[0], wanted, atol=1e-6)
"""


def child(cache: Path, kill: str, **more) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", textwrap.dedent(CHILD), str(cache), kill]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **more)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_killed_and_run_again(cache):
    assert child(cache, "yes").returncode == -signal.SIGKILL
    (left,) = entries(cache)
    assert left.endswith(".part"), "what a killed process leaves has a name that nobody opens"
    again = child(cache, "no")
    assert (again.returncode, again.stderr) == (0, "")
    assert "found again" not in again.stdout
    (whole,) = entries(cache)
    assert not whole.endswith(".part"), "and the next run takes it away"
    assert "found again" in child(cache, "no").stdout


def test_what_a_running_process_writes_is_left_alone(frozen, folder, cache):
    cache.mkdir()
    (cache / f"abc.{os.getppid()}.part").mkdir()
    precompute(frozen, open_data(folder).val, cache=cache)
    assert f"abc.{os.getppid()}.part" in entries(cache)


def test_of_two_that_make_the_same_one_wins(frozen, folder, cache, monkeypatch):
    first = precompute(frozen, open_data(folder).val, cache=cache)
    entry = cache / entries(cache)[0]
    hidden = entry.rename(cache.parent / "hidden")
    real = feature_store._fill

    def slow(*arguments):
        real(*arguments)
        shutil.copytree(hidden, entry)  # meanwhile another process has finished

    monkeypatch.setattr(feature_store, "_fill", slow)
    second = precompute(frozen, open_data(folder).val, cache=cache)
    assert entries(cache) == [entry.name]
    assert torch.equal(first.dataset.parts[0], second.dataset.parts[0])


def test_a_disk_without_room_is_refused_before_it_starts(frozen, folder, cache, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 99, 1))
    with pytest.raises(OSError, match=r"no room for the features in .*cache: 0\.0 MB are needed, 0\.0 MB are free; make room"):
        precompute(frozen, open_data(folder).val, cache=cache)
    assert entries(cache) == []


@pytest.mark.skipif(sys.platform == "win32", reason="no file size limit")
def test_a_disk_that_fills_up(cache):
    """A limit on the size of a file stands in for the disk: the write itself fails."""
    import resource

    full = child(cache, "no", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000)))
    assert full.returncode == 1
    assert "OSError: [Errno 28] no room for the features in" in full.stderr.splitlines()[-1]
    assert "name another folder (cache=...) or none (cache=None), or keep half precision" in full.stderr.splitlines()[-1]
    assert entries(cache) == []


def test_the_oldest_go_first(small_net, cache, monkeypatch):
    monkeypatch.setattr(feature_store, "LIMIT_GB", 3e-6)  # 3,000 bytes
    frozen, _ = halves(small_net)

    def keep(seed: int) -> str:
        torch.manual_seed(seed)
        before = set(entries(cache)) if cache.exists() else set()
        data = TensorDataset(torch.randn(25, 3, 8, 8), torch.arange(25))
        precompute(frozen, DataLoader(data, 25), cache=cache)  # 25 × (8 × 4 + 8) = 1,000 bytes and a plan
        return (set(entries(cache)) - before or {""}).pop()

    first, second = keep(1), keep(2)
    os.utime(cache / first, (1e9, 1e9))
    os.utime(cache / second, (2e9 - 1e9 + 5, 1e9 + 5))
    keep(1)  # used again: now the second is the oldest
    third = keep(3)
    assert entries(cache) == sorted([first, third])


def test_the_newest_stays_however_large_it_is(frozen, folder, cache, monkeypatch):
    monkeypatch.setattr(feature_store, "LIMIT_GB", 0)
    precompute(frozen, open_data(folder).train, cache=cache)
    precompute(frozen, open_data(folder).val, cache=cache)
    assert len(entries(cache)) == 1


def test_a_real_network_and_the_shipped_pictures(cache, capsys):
    """As in the lessons, with the second run in mind: weights and pictures are read anew and recognised."""
    for _ in range(2):
        data = open_data(settings(), per_class=2)
        model = replace_head(freeze(load_model("resnet18")), len(data.classes))
        unfreeze(model.layer4)
        precompute(split_frozen(model).frozen, data.train, cache=cache)
    assert capsys.readouterr().out.splitlines() == [
        "12 pictures: 4,096 numbers each, 0.2 MB, kept in memory",
        "12 pictures: 4,096 numbers each, 0.2 MB, found again",
    ]
