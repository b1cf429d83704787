"""Kept features on disk: found again when everything is the same, never when something is not, and whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset
from torchvision import transforms

from course_utils import feature_store, precomputed
from course_utils.data import open_data
from course_utils.feature_store import FOLDER, MADE_BY
from course_utils.finetune import freeze, unfreeze
from course_utils.folders import list_folder
from course_utils.fx_split import split_frozen
from course_utils.heads import replace_head
from course_utils.images import Pictures
from course_utils.models import load_model
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
    for split, width in (("train", 70), ("val", 71), ("test", 72)):  # no picture is in two of them
        plant(tmp_path / "pictures" / split, {"dark": 6, "light": 6}, size=(width, 66))
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
    return sorted(entry.name for entry in (cache / FOLDER).iterdir())


# ------------------------------------------------------------------------------------------------------- found again


def test_a_second_run_finds_them(small_net, folder, cache, capsys, monkeypatch):
    made = precompute(halves(small_net)[0], open_data(folder).train, cache=cache)
    assert capsys.readouterr().out == "12 pictures: 8 numbers each, 0.0 MB, kept in memory\n"
    frozen, learning = halves(small_net)  # the same network, built anew
    rows, run = [], frozen.forward
    monkeypatch.setattr(frozen, "forward", lambda images: rows.append(len(images)) or run(images))
    found = precompute(frozen, open_data(folder).train, cache=cache)
    assert max(rows) <= 2, "a picture or two to see whether it still does the same; it does not run over all of them again"
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


def first_half(batch):
    images, labels = torch.utils.data.default_collate(batch)
    return images.clamp(max=0.5), labels


def test_another_way_to_put_batches_together_is_not_found_again(frozen, folder, cache, capsys):
    data = open_data(folder).val.dataset
    precompute(frozen, DataLoader(data, 4), cache=cache)
    capsys.readouterr()
    precompute(frozen, DataLoader(data, 4, collate_fn=first_half), cache=cache)
    assert "for this run alone: a later one could not recognise 'first_half'" in capsys.readouterr().out


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
    assert not cache.exists()


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
    (entry / "plan.json").write_text(json.dumps({"made_by": MADE_BY, "pictures": 12}), encoding="utf-8")


def damage_file(entry: Path) -> None:
    (entry / "1.bin").unlink()


def damage_numbers(entry: Path) -> None:
    content = bytearray((entry / "0.bin").read_bytes())
    content[100:200] = bytes(100)
    (entry / "0.bin").write_bytes(content)


@pytest.mark.parametrize("damage", [damage_size, damage_plan, damage_keys, damage_file, damage_numbers])
def test_what_is_damaged_is_made_anew(damage, frozen, folder, cache, capsys):
    whole = precompute(frozen, open_data(folder).val, cache=cache)
    damage(cache / FOLDER / entries(cache)[0])
    anew = precompute(frozen, open_data(folder).val, cache=cache)
    assert "found again" not in capsys.readouterr().out
    assert torch.equal(anew.dataset.parts[0], whole.dataset.parts[0])
    assert len(entries(cache)) == 1


def stop_at_second_batch(monkeypatch, error: BaseException) -> None:
    real, calls = precomputed.to_device, []

    def stopping(images, device):
        calls.append(1)
        if len(calls) == 3:  # after the first pictures, which are looked at before
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
        if kill == "yes" and len(calls) == 4:
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


KEY = "0123456789abcdef" * 2


def draft(cache: Path, machine: str, pid: int, age_s: float = 0) -> Path:
    """A folder as another process has begun to write it."""
    folder = cache / FOLDER / f"{KEY}.{machine}.{pid}.abc.part"
    folder.mkdir(parents=True)
    (folder / "plan.json").write_text(json.dumps({"made_by": MADE_BY}), encoding="utf-8")
    (folder / "0.bin").write_bytes(b"numbers")
    for path in (*folder.iterdir(), folder):
        os.utime(path, (time.time() - age_s, time.time() - age_s))
    return folder


def test_what_a_running_process_writes_is_left_alone(frozen, folder, cache):
    running = draft(cache, feature_store._machine(), os.getppid())
    precompute(frozen, open_data(folder).val, cache=cache)
    assert (running / "0.bin").read_bytes() == b"numbers"


def test_what_another_machine_writes_is_left_alone_until_nothing_has_been_written_for_a_day(frozen, folder, cache):
    """On a shared folder; of another machine's process numbers nobody here knows whether they are alive."""
    running = draft(cache, "0" * 8, 2**22 + 1, age_s=3600)
    abandoned = draft(cache, "1" * 8, 2**22 + 1, age_s=90_000)
    precompute(frozen, open_data(folder).val, cache=cache)
    assert (running / "0.bin").read_bytes() == b"numbers"
    assert not abandoned.exists()


def test_two_threads_with_the_same_numbers(small_net, folder, cache):
    splits = [halves(small_net)[0] for _ in range(4)]
    data = open_data(folder)
    with ThreadPoolExecutor(4) as pool, mock.patch("builtins.print"):
        made = list(pool.map(lambda frozen: precompute(frozen, data.val, cache=cache), splits))
    assert all(torch.equal(one.dataset.parts[0], made[0].dataset.parts[0]) for one in made)
    assert len(entries(cache)) == 1


def test_of_two_that_make_the_same_one_wins(frozen, folder, cache, monkeypatch):
    first = precompute(frozen, open_data(folder).val, cache=cache)
    entry = cache / FOLDER / entries(cache)[0]
    hidden = entry.rename(cache.parent / "hidden")
    real = feature_store._fill

    def slow(*arguments):
        checksums = real(*arguments)
        shutil.copytree(hidden, entry)  # meanwhile another process has finished
        return checksums

    monkeypatch.setattr(feature_store, "_fill", slow)
    second = precompute(frozen, open_data(folder).val, cache=cache)
    assert entries(cache) == [entry.name]
    assert torch.equal(first.dataset.parts[0], second.dataset.parts[0])


def test_a_disk_without_room_is_refused_before_it_starts(frozen, folder, cache, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 99, 1))
    with pytest.raises(
        OSError, match=r"no room for the features in .*course-features: 0\.0 MB are needed, 0\.0 MB are free; make"
    ):
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
    os.utime(cache / FOLDER / first, (1e9, 1e9))
    os.utime(cache / FOLDER / second, (2e9 - 1e9 + 5, 1e9 + 5))
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


# ---------------------------------------------------------------------------------------------- other people's files


def strangers(cache: Path) -> list[Path]:
    """What may lie in a folder that somebody names as cache, beside our subfolder and in it."""
    found = [
        cache / "photos" / "holiday.jpg",
        cache / "my.999999.part" / "notes.txt",
        cache / "movie.part",
        cache / ".DS_Store",
    ]
    for inside in (cache, cache / FOLDER):
        found += [inside / KEY / "photo.jpg", inside / f"{KEY[::-1]}" / "plan.json", inside / "plan.json", inside / "a.part"]
        found += [inside / f"{KEY}.{'a' * 8}.99999999.x.part" / "thesis.txt"]
    for path in found:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('{"made_by": "me"}' if path.name == "plan.json" else "mine " * 1000, encoding="utf-8")
        for old in (path, path.parent):
            os.utime(old, (1e9, 1e9))
    return found


def test_nothing_of_other_people_is_touched(small_net, folder, cache, monkeypatch):
    monkeypatch.setattr(feature_store, "LIMIT_GB", 0)
    monkeypatch.setattr(feature_store, "ABANDONED_S", 1)
    before = {path: path.read_bytes() for path in strangers(cache)}
    ours = draft(cache, "b" * 8, 1, age_s=10)
    for learns in ("fc", "layer2"):
        precompute(halves(small_net, learns)[0], open_data(folder).val, cache=cache)
    assert {path: path.read_bytes() for path in before} == before
    assert not ours.exists()
    assert sum(feature_store.is_ours(path) for path in (cache / FOLDER).iterdir()) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="links need a permission there")
def test_a_link_with_a_name_of_ours_is_not_followed(small_net, folder, cache, tmp_path, monkeypatch):
    precompute(halves(small_net)[0], open_data(folder).val, cache=tmp_path / "elsewhere")
    (real,) = (tmp_path / "elsewhere" / FOLDER).iterdir()
    (cache / FOLDER).mkdir(parents=True)
    (cache / FOLDER / KEY).symlink_to(real)
    monkeypatch.setattr(feature_store, "LIMIT_GB", 0)
    precompute(halves(small_net, "layer2")[0], open_data(folder).val, cache=cache)
    assert sorted(path.name for path in real.iterdir()) == ["0.bin", "1.bin", "plan.json"]


def test_a_file_that_somebody_has_put_into_a_folder_of_ours_stays(frozen, folder, cache):
    precompute(frozen, open_data(folder).val, cache=cache)
    entry = cache / FOLDER / entries(cache)[0]
    (entry / "notes.txt").write_text("mine", encoding="utf-8")
    feature_store.delete(entry)
    assert [path.name for path in entry.iterdir()] == ["notes.txt"]


def test_something_else_that_lies_where_the_features_would_go(frozen, folder, cache, capsys):
    precompute(frozen, open_data(folder).val, cache=cache)
    entry = cache / FOLDER / entries(cache)[0]
    feature_store.delete(entry)
    entry.mkdir()
    (entry / "photo.jpg").write_text("mine", encoding="utf-8")
    precompute(frozen, open_data(folder).val, cache=cache)
    assert f"for this run alone: something else lies at {entry}" in capsys.readouterr().out
    assert [path.name for path in entry.iterdir()] == ["photo.jpg"]


@pytest.mark.parametrize("place", ["notes.txt", "notes.txt/cache", "cache"])
def test_a_file_where_the_cache_should_be(frozen, folder, tmp_path, place):
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    if place == "cache":
        (tmp_path / "cache").mkdir()
        (tmp_path / "cache" / FOLDER).write_text("mine", encoding="utf-8")
    with pytest.raises(NotADirectoryError, match=r"cache='.*': .* is a file; name a folder, or None"):
        precompute(frozen, open_data(folder).val, cache=str(tmp_path / place))
    assert (tmp_path / "notes.txt").read_text(encoding="utf-8") == "mine"


def test_a_home_folder_in_short(frozen, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    precompute(frozen, open_data(folder).val, cache="~/cache")
    assert len(entries(tmp_path / "home" / "cache")) == 1
    assert not (tmp_path / "~").exists()


def test_a_file_system_that_can_only_be_read(small_net, folder, cache, capsys, monkeypatch):
    first = precompute(halves(small_net)[0], open_data(folder).val, cache=cache)
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # what access(2) says there, to root as well
    monkeypatch.setattr(os, "utime", mock.Mock(side_effect=OSError(errno.EROFS, "Read-only file system")))
    capsys.readouterr()
    found = precompute(halves(small_net)[0], open_data(folder).val, cache=cache)
    assert "found again" in capsys.readouterr().out
    assert torch.equal(found.dataset.parts[0], first.dataset.parts[0])
    precompute(halves(small_net, "layer2")[0], open_data(folder).val, cache=cache)
    assert f"for this run alone: {cache / FOLDER} may not be written" in capsys.readouterr().out


def test_a_file_system_on_which_no_folder_can_be_made(frozen, folder, cache, capsys, monkeypatch):
    monkeypatch.setattr(Path, "mkdir", mock.Mock(side_effect=OSError(errno.EROFS, "Read-only file system", str(cache))))
    precompute(frozen, open_data(folder).val, cache=cache)
    assert f"for this run alone: {cache} may not be written" in capsys.readouterr().out


# ------------------------------------------------------------------------------------------------------ kinds of numbers

DTYPES = ["float64", "float32", "float16", "bfloat16", "complex64", "int64", "uint8", "bool"]


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("place", ["memory", "file", "cache"])
def test_every_kind_of_number_comes_back_as_it_was(place, half, tmp_path):
    """Half precision is for numbers with a point alone, and they come back in the type in which they were made."""
    values = torch.randn(6, 3)
    parts = [(values > 0) if name == "bool" else (4 * values.abs()).to(getattr(torch, name)) for name in DTYPES]
    labels = torch.arange(6)
    batches = [[part[i : i + 4] for part in (*parts, labels)] for i in (0, 4)]
    plan = feature_store.plan_for(batches[0], 6, 1, half)
    if place == "cache":
        feature_store.store(batches, plan, tmp_path / KEY)
        features = feature_store.stored(tmp_path / KEY, memory_gb=0)
    else:
        features = feature_store.keep(batches, plan, place == "file")
    found, same = features.__getitems__([5, 0, 3])
    assert torch.equal(same, labels[[5, 0, 3]])
    for name, part, back in zip(DTYPES, parts, found, strict=True):
        assert back.dtype == part.dtype == getattr(torch, name)
        wanted = part[[5, 0, 3]]
        assert torch.equal(back, wanted.half().to(part.dtype) if half and part.is_floating_point() else wanted), name
    assert plan.sizes[2] == 6 * 3 * 2
    assert plan.sizes[0] == 6 * 3 * (2 if half else 8)
