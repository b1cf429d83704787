"""What `course doctor` finds, for each thing that can be missing or damaged, and what it says about it."""

import io
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from course_utils.data import NAMED, read_samples
from course_utils.images import read_picture
from course_utils.profiles import HOME, PROFILES, Settings
from course_utils.tools import cli, doctor
from course_utils.tools.doctor import Finding
from course_utils.weights import get_weights, read_imagenet, shapes_weights

TINY, FULL = PROFILES["tiny"], PROFILES["full"]


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A copy of `data/` to damage, and an empty torch hub."""
    shutil.copytree(HOME / "data" / "tiny", tmp_path / "tiny")
    shutil.copytree(HOME / "data" / "weights", tmp_path / "weights")
    monkeypatch.setattr("course_utils.data.TINY", tmp_path / "tiny")
    monkeypatch.setattr("course_utils.data.FULL", tmp_path / "full")
    monkeypatch.setattr("course_utils.weights.FOLDER", tmp_path / "weights")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(doctor, "online", lambda: False)
    shapes_weights.cache_clear()
    yield tmp_path
    shapes_weights.cache_clear()


def states(findings: list[Finding]) -> dict[str, str]:
    return {one.name: one.state for one in findings}


def finding(findings: list[Finding], name: str) -> Finding:
    return next(one for one in findings if one.name == name)


def test_a_whole_machine_has_nothing_missing(data):
    found = states(doctor.examine(TINY))
    assert "missing" not in found.values()
    for name in ("Python", "torch", "torchvision", "device", "cores", "memory", "disk", "lessons", "data tiny"):
        assert name in found
    assert found["weights resnet18, shapes"] == found["weights vgg16, shapes"] == "ok"


def test_the_report_puts_the_remedy_below_and_the_conclusion_last():
    text = doctor.report([Finding("disk", "ok", "9 GB free"), Finding("torch", "missing", "gone", "install it")], "tiny")
    assert (
        text
        == "✓ disk   9 GB free\n✗ torch  gone\n         → install it\nNot every lesson of the profile tiny can run: see torch."
    )
    assert doctor.report([Finding("a", "warning", "b")], "full").endswith(
        "The lessons of the profile full can run on this machine."
    )


# ---------------------------------------------------------------------------------------------------- the programs


@pytest.mark.parametrize(
    ("native", "words"), [(True, "takes bfloat16 here, and large layers train faster"), (False, "stays in float32")]
)
def test_the_precision_that_auto_takes(monkeypatch, native, words):
    monkeypatch.setattr("course_utils.devices.has_bfloat16", lambda device: native)
    assert words in finding(list(doctor.torches()), "precision").text


def test_without_torch_it_still_speaks(tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('libcudart.so.13: cannot open shared object file')")
    code = "import sys; sys.path.insert(0, sys.argv[1]); from course_utils.tools.cli import main; sys.exit(main(['doctor']))"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 1
    assert "✗ torch " in done.stdout
    assert "cannot be imported, so no lesson can run (ImportError: libcudart.so.13" in done.stdout
    assert "run `python install.py`" in done.stdout
    assert "✓ lessons" in done.stdout
    assert "see torch" in done.stdout.splitlines()[-1]
    assert not done.stderr


def test_a_torchvision_for_another_torch(monkeypatch):
    def unknown_operator(*arguments):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr("torchvision.ops.nms", unknown_operator)
    last = list(doctor.torches())[-1]
    assert (last.name, last.state) == ("torchvision", "missing")
    assert f"does not match torch {torch.__version__}" in last.text
    assert "python install.py" in last.remedy


@pytest.mark.parametrize(
    ("versions", "state", "text"),
    [
        ({"numpy": ""}, "missing", "not installed: numpy"),
        ({"numpy": "1.0"}, "warning", "other versions than tested: numpy 1.0 for "),
    ],
)
def test_other_packages_than_pinned(monkeypatch, versions, state, text):
    real = doctor.version_of
    monkeypatch.setattr(doctor, "version_of", lambda name: versions.get(name, real(name)))
    (found,) = doctor.pins()
    assert found.state == state
    assert text in found.text
    assert "python install.py" in found.remedy


def test_torch_without_cuda_is_the_pinned_one(monkeypatch):
    real = doctor.version_of
    monkeypatch.setattr(doctor, "version_of", lambda name: real(name).split("+")[0] + "+cpu" * (name == "torch"))
    assert [one.state for one in doctor.pins()] == ["ok"]


@pytest.mark.parametrize("version", [(3, 10, 1), (3, 15, 0)])
def test_a_python_that_the_course_is_not_tested_with(monkeypatch, version):
    assert doctor.python().state == "ok"
    monkeypatch.setattr(sys, "version_info", version)
    found = doctor.python()
    assert found.state == "warning"
    assert found.text.endswith("; the course is tested with 3.11 to 3.14")


def pins_of(name: str) -> list[str]:
    return [line for line in (HOME / name).read_text(encoding="utf-8").splitlines() if not line.startswith("#")]


def test_every_line_of_the_requirements_is_an_exact_pin():
    assert all("==" in line or line == "-e ." for line in pins_of("requirements.txt"))
    assert all("==" in line or line == "-r requirements.txt" for line in pins_of("requirements-dev.txt"))


def test_learners_need_nothing_that_only_tests_import():
    learners, testers = ({line.split("==")[0] for line in pins_of(f"requirements{end}.txt")} for end in ("", "-dev"))
    assert not learners & testers
    assert not learners & {"pytest", "mypy", "ruff", "hypothesis", "distributed", "nbval", "timm"}


def test_the_sample_on_the_first_page_has_the_number_of_packages():
    (said,) = re.findall(r"all (\d+) as in requirements\.txt", (HOME / "README.md").read_text(encoding="utf-8"))
    assert int(said) == len([line for line in pins_of("requirements.txt") if "==" in line])


# ---------------------------------------------------------------------------------------------------- the machine


def test_little_memory(monkeypatch):
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=0.7e9, total=4e9))
    assert doctor.memory() == Finding(
        "memory", "warning", "0.7 GB free of 4.0 GB; one lesson takes up to 1.5 GB", "close other programs and notebooks"
    )


def test_memory_without_psutil(monkeypatch):
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert doctor.memory().state == "warning"


def test_a_full_disk(monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0.2e9))
    found = doctor.disk()
    assert found.state == "warning"
    assert found.text == "0.2 GB free; saving may fail"


def test_one_core(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0}, raising=False)
    assert doctor.cores().state == "warning"


def test_an_accelerator_is_named(monkeypatch):
    monkeypatch.setattr("torch.accelerator.current_accelerator", lambda check_available: torch.device("mps"))
    assert doctor.device().text == "accelerator (mps)"
    monkeypatch.setattr("torch.accelerator.current_accelerator", lambda check_available: torch.device("cuda"))
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "a fast one")
    assert doctor.device().text == "a fast one"


# ------------------------------------------------------------------------------------------------ the profile tiny


def words_of(load) -> str:
    """What the loader itself says, up to what to do."""
    with pytest.raises((OSError, ValueError)) as caught:
        load()
    return str(caught.value).partition("; ")[0]


def test_a_weight_file_that_is_not_there(data):
    path = data / "weights" / "resnet18-shapes.safetensors"
    path.unlink()
    assert doctor.our_weights("resnet18") == Finding(
        "weights resnet18, shapes",
        "missing",
        f"{path} is missing: all lessons but 05 cannot run",
        "`git checkout data` brings it back",
    )
    assert doctor.our_weights("vgg16").state == "ok"


def test_a_weight_file_with_one_byte_changed_is_shown_in_the_words_of_the_loader(data):
    path = data / "weights" / "resnet18-shapes.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    found = doctor.our_weights("resnet18")
    assert found.state == "missing"
    assert found.text == words_of(get_weights("resnet18", "shapes").get_state_dict) + ": all lessons but 05 cannot run"
    assert "is damaged or not ours: SHA-256" in found.text


@pytest.mark.parametrize("content", [None, "{", "[]", '{"resnet18": {"sha256": 1}}'])
def test_cards_that_cannot_be_read(data, content):
    cards = data / "weights" / "cards.json"
    cards.unlink() if content is None else cards.write_text(content)
    found = doctor.our_weights("vgg16")
    assert found.state == "missing"
    assert found.text.endswith(": lesson 05 cannot run")
    assert ("cards.json is missing" in found.text) if content is None else ("cannot be read (" in found.text)
    assert found.remedy == "`git checkout data` brings it back"


def test_a_network_without_a_card(data):
    cards = json.loads((data / "weights" / "cards.json").read_text())
    cards.pop("vgg16", None)
    (data / "weights" / "cards.json").write_text(json.dumps(cards))
    found = doctor.our_weights("vgg16")
    assert found.state == "missing"
    assert found.text == "there are no 'shapes' weights for 'vgg16', only for ['resnet18']: lesson 05 cannot run"


def test_a_picture_of_the_small_set_that_is_not_there(data):
    (data / "tiny" / "val" / "boat" / "boat-03.png").unlink()
    found = doctor.tiny_pictures()
    assert found.state == "missing"
    assert found.text == "479 of 480 pictures are there: no lesson that trains can run"


def test_a_class_of_the_small_set_that_is_not_there_is_shown_in_the_words_of_the_loader(data):
    shutil.rmtree(data / "tiny" / "val" / "boat")
    found = doctor.tiny_pictures()
    assert found.state == "missing"
    assert found.text == words_of(lambda: read_samples(TINY)) + ": no lesson that trains can run"


def test_a_truncated_picture_of_the_small_set_is_shown_in_the_words_of_the_loader(data):
    path = data / "tiny" / "test" / "car" / "car-07.png"
    path.write_bytes(path.read_bytes()[:-900])
    found = doctor.tiny_pictures()
    assert found.state == "missing"
    assert found.text == words_of(lambda: read_picture(path)) + ": no lesson that trains can run"


def test_an_installed_course_asks_for_ranges_and_not_for_our_pins(monkeypatch):
    """Colab has its own versions; a repository's lessons are not looked for either."""
    monkeypatch.setattr(doctor, "INSTALLED", True)
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: ["torch>=2.9", "numpy>=2.0", 'msgpack>=99; extra == "lab"'])
    assert doctor.pins() == [Finding("packages", "ok", "all 2 are of versions that the course runs with")]
    assert "lessons" not in states(doctor.examine(TINY))
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: ["torch>=99", "no-such-package>=1"])
    (found,) = doctor.pins()
    assert found.state == "warning"
    assert found.text == (
        f"not what the course asks for: torch {doctor.version_of('torch')} (asked for: >=99), no no-such-package"
    )


def test_notebooks_that_are_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "HOME", tmp_path)
    (tmp_path / "solutions").mkdir()
    assert doctor.lessons().text == "none found"
    (tmp_path / "solutions" / "03_freeze.py").touch()
    assert doctor.lessons() == Finding(
        "lessons", "missing", "missing in notebooks: 03_freeze", "`git checkout notebooks solutions` brings them back"
    )


def test_in_the_profile_full_nothing_of_tiny_is_needed(data):
    shutil.rmtree(data / "weights")
    shutil.rmtree(data / "tiny")
    found = states(doctor.examine(FULL))
    assert found["weights resnet18, shapes"] == found["weights vgg16, shapes"] == found["data tiny"] == "optional"


# ------------------------------------------------------------------------------------------------ the profile full


def put_imagenet(data, name: str, content: bytes) -> None:
    folder = data / "hub" / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


def test_downloads_do_not_matter_in_the_profile_tiny(data):
    assert doctor.imagenet(TINY, "resnet18").state == "optional"
    found = doctor.pictures_of_full(TINY)
    assert found.state == "optional"
    assert found.text == "none here (eurosat, pets, flowers102); only the profile full needs one"


def test_an_empty_folder_or_half_an_archive_is_no_data_set(data):
    """What a download left that was cut off, by an earlier edition of the course or by a power cut."""
    (data / "full" / "flowers-102").mkdir(parents=True)
    (data / "full" / "eurosat").mkdir()
    (data / "full" / "eurosat" / "EuroSAT.zip").write_bytes(b"half of it")
    assert doctor.pictures_of_full(TINY).state == "optional"
    assert doctor.pictures_of_full(TINY).text.startswith("none here (eurosat, pets, flowers102)")
    found = doctor.pictures_of_full(FULL)
    assert (found.state, found.name) == ("missing", "data eurosat")
    assert found.text.startswith("not here, and this machine is offline")


def test_half_a_data_set_is_not_praised(data, plant, monkeypatch):
    plant(data / "full" / "eurosat" / "2750", {"Forest": 5, "River": 5}, suffix=".jpg")
    (data / "full" / "oxford-iiit-pet" / "images").mkdir(parents=True)
    (data / "full" / "oxford-iiit-pet" / "annotations").mkdir()
    text = "here: eurosat (10 of 27,000), pets (0 of 7,349)"
    assert doctor.pictures_of_full(TINY) == Finding("data full", "optional", text)
    for name in ("eurosat", "pets"):
        run = replace(FULL, data=name)
        found = doctor.pictures_of_full(run)
        assert found.state == "missing"
        assert found.text == words_of(lambda run=run: read_samples(run, download=False))
        assert found.remedy.startswith("delete it to have it downloaded again")
    monkeypatch.setitem(NAMED, "eurosat", NAMED["eurosat"]._replace(pictures=10))
    assert doctor.pictures_of_full(TINY) == Finding("data full", "ok", "here: eurosat, pets (0 of 7,349)")


def test_without_network_the_profile_full_says_what_to_copy_where(data):
    found = doctor.imagenet(FULL, "resnet18")
    assert found.state == "missing"
    assert found.text == "not here, and this machine is offline; it has to download 45 MB"
    path = data / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    assert found.remedy == f"fetch https://download.pytorch.org/models/{path.name} elsewhere and copy it to {path}"
    found = doctor.pictures_of_full(FULL)
    assert found.state == "missing"
    assert found.remedy.startswith(f"copy it from a machine that has it to {data / 'full' / 'eurosat'}, or name a folder")


def test_with_network_the_lessons_of_the_profile_full_will_download(data, monkeypatch):
    monkeypatch.setattr(doctor, "online", lambda: True)
    assert doctor.imagenet(FULL, "vgg16") == Finding(
        "weights vgg16, ImageNet", "warning", "not here; the first lesson that needs it downloads 528 MB"
    )
    assert doctor.pictures_of_full(FULL).state == "warning"


def test_imagenet_weights_that_are_damaged_are_shown_in_the_words_of_the_loader(data):
    put_imagenet(data, "resnet18-f37072fd.pth", b"not these")
    found = doctor.imagenet(FULL, "resnet18")
    assert found.state == "missing"
    assert found.text == words_of(lambda: read_imagenet(get_weights("resnet18", "imagenet")))
    assert "resnet18-f37072fd.pth is damaged" in found.text
    assert found.remedy.startswith("delete it")
    assert doctor.imagenet(TINY, "resnet18").state == "warning"


def test_imagenet_weights_that_can_be_read_are_intact(data, monkeypatch):
    content = io.BytesIO()
    torch.save({"fc.bias": torch.zeros(3)}, content)
    put_imagenet(data, "resnet18-f37072fd.pth", content.getvalue())
    monkeypatch.setattr("course_utils.weights.check_file", lambda path, url: None)
    assert doctor.imagenet(FULL, "resnet18") == Finding("weights resnet18, ImageNet", "ok", "intact, 0 MB")


def test_no_network_is_noticed(reached):
    assert not doctor.online()
    assert reached


def noise(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (8, 8, 3), np.uint8)).save(path)


@pytest.fixture
def mine(data) -> tuple[Path, Settings]:
    """A folder of one's own without splits, and the profile full with it."""
    root = data / "mine"
    for seed in range(8):
        noise(root / ("cat", "dog")[seed % 2] / f"{seed}.png", seed)
    return root, replace(FULL, data=str(root))


def test_a_folder_of_ones_own(mine):
    root, run = mine
    assert doctor.pictures_of_full(run) == Finding(f"data {root}", "ok", "8 pictures of 2 classes")
    (root / "cat" / "notes.txt").touch()
    (root / "cat" / ".DS_Store").touch()
    text = "8 pictures of 2 classes, left out 1 file: mine/cat/notes.txt (not a picture by its name)"
    assert doctor.pictures_of_full(run) == Finding(f"data {root}", "ok", text)
    shutil.rmtree(root / "dog")
    found = doctor.pictures_of_full(run)
    assert found.state == "missing"
    assert found.text == words_of(lambda: read_samples(run))
    assert found.remedy.startswith("at least two classes")


def test_pictures_in_two_places_are_named(mine, tmp_path):
    root, run = mine
    shutil.copy(root / "cat" / "0.png", root / "dog" / "again.png")
    found = doctor.pictures_of_full(run)
    assert found.state == "warning"
    assert found.text.startswith("9 pictures of 2 classes; 1 to look at: ")
    assert "dog/again.png: one picture in 2 classes; keep it in the right one" in found.text


def test_pictures_that_look_alike_in_two_splits_are_named(data):
    root = data / "splits"
    for seed in range(6):
        noise(root / ("train", "val", "test")[seed // 2] / ("cat", "dog")[seed % 2] / f"{seed}.png", seed)
    copy = root / "test" / "cat" / "copy.png"
    Image.open(root / "train" / "cat" / "0.png").resize((32, 32), Image.Resampling.NEAREST).save(copy)
    found = doctor.pictures_of_full(replace(FULL, data=str(root)))
    assert found.state == "warning"
    assert f"1 to look at: {root / 'train' / 'cat' / '0.png'} and {copy} look alike and lie in two splits" in found.text
    assert "keep each picture in one place" in found.remedy


def test_a_truncated_picture_of_ones_own(mine):
    root, run = mine
    path = root / "cat" / "0.png"
    path.write_bytes(path.read_bytes()[:120])
    found = doctor.pictures_of_full(run)
    assert found.state == "missing"
    assert found.text == words_of(lambda: read_picture(path))


def test_warnings_of_the_loaders_are_shown(mine):
    root, run = mine
    for name in ("2019", "2020"):
        for seed, kind in enumerate(("cat", "dog", "cat", "dog")):
            noise(root.parent / "years" / name / kind / f"{seed}.png", 10 * int(name) + seed)
    found = doctor.pictures_of_full(replace(run, data=str(root.parent / "years")))
    assert found.state == "warning"
    assert "1 to look at: " in found.text
    assert "the classes are the outer folders (2019, 2020)" in found.text


def test_half_a_download(data, reached, plant):
    plant(data / "full" / "eurosat" / "2750", {"Forest": 3}, suffix=".jpg")
    found = doctor.pictures_of_full(FULL)
    assert found.state == "missing"
    assert found.text == f"{data / 'full' / 'eurosat'} holds 3 of the 27,000 pictures of the data set 'eurosat'"
    assert found.remedy.startswith("delete it to have it downloaded again (about 90 MB), copy it from a machine that has it")
    assert not reached, "the doctor downloads nothing"


# ------------------------------------------------------------------------------------------------------- the command


def test_the_exit_code_follows_the_findings(monkeypatch, capsys):
    for state, code in (("ok", 0), ("optional", 0), ("warning", 0), ("missing", 1)):
        monkeypatch.setattr(doctor, "examine", lambda run, state=state: [Finding("thing", state, "text")])
        assert cli.main(["doctor"]) == code
    assert "✗ thing  text" in capsys.readouterr().out
