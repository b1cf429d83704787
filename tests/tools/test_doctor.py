"""What `course doctor` finds, for each thing that can be missing or damaged, and what it says about it."""

import json
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from course_utils.profiles import HOME, PROFILES
from course_utils.tools import cli, doctor
from course_utils.tools.doctor import Finding

TINY, FULL = PROFILES["tiny"], PROFILES["full"]


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A copy of `data/` to damage, and an empty torch hub."""
    shutil.copytree(HOME / "data" / "tiny", tmp_path / "tiny")
    shutil.copytree(HOME / "data" / "weights", tmp_path / "weights")
    monkeypatch.setattr(doctor, "TINY", tmp_path / "tiny")
    monkeypatch.setattr(doctor, "WEIGHTS", tmp_path / "weights")
    monkeypatch.setattr("course_utils.data.FULL", tmp_path / "full")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(doctor, "online", lambda: False)
    return tmp_path


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


def test_without_torch_it_still_speaks(tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('libcudart.so.13: cannot open shared object file')")
    code = "import sys; sys.path.insert(0, sys.argv[1]); from course_utils.tools.cli import main; sys.exit(main(['doctor']))"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 1
    assert "✗ torch " in done.stdout
    assert "cannot be imported, so no lesson can run (ImportError: libcudart.so.13" in done.stdout
    assert "run `python install.py`" in done.stdout
    assert "data tiny" in done.stdout
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


def test_every_line_of_the_requirements_is_an_exact_pin():
    lines = (HOME / "requirements.txt").read_text().splitlines()
    assert all("==" in line or line == "-e ." for line in lines)


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


def test_a_weight_file_that_is_not_there(data):
    (data / "weights" / "resnet18-shapes.safetensors").unlink()
    found = finding(doctor.our_weights(), "weights resnet18, shapes")
    assert found.state == "missing"
    assert "is not there: lessons 00 to 04 and 06 cannot run" in found.text
    assert found.remedy == "`git checkout data` brings it back"


def test_a_weight_file_with_one_byte_changed(data):
    path = data / "weights" / "resnet18-shapes.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    found = finding(doctor.our_weights(), "weights resnet18, shapes")
    assert found.state == "missing"
    assert "is damaged, its SHA-256 is not that of the card: lessons 00 to 04 and 06 cannot run" in found.text


@pytest.mark.parametrize("content", [None, "{", "[]", '{"resnet18": {"sha256": 1}}'])
def test_cards_that_cannot_be_read(data, content):
    cards = data / "weights" / "cards.json"
    cards.unlink() if content is None else cards.write_text(content)
    (found,) = doctor.our_weights()
    assert found.state == "missing"
    assert "cards.json cannot be read, so no lesson can run" in found.text


def test_a_network_without_a_card(data):
    cards = json.loads((data / "weights" / "cards.json").read_text())
    cards.pop("vgg16", None)
    (data / "weights" / "cards.json").write_text(json.dumps(cards))
    found = finding(doctor.our_weights(), "weights vgg16, shapes")
    assert found.state == "missing"
    assert "lesson 05 cannot run" in found.text


def test_a_picture_of_the_small_set_that_is_not_there(data):
    (data / "tiny" / "val" / "boat" / "boat-03.png").unlink()
    found = doctor.tiny_pictures()
    assert found.state == "missing"
    assert "boat holds 14 of 15 pictures: no lesson that trains can run" in found.text


def test_a_truncated_picture_of_the_small_set(data):
    path = data / "tiny" / "test" / "car" / "car-07.png"
    path.write_bytes(path.read_bytes()[:-900])
    found = doctor.tiny_pictures()
    assert found.state == "missing"
    assert f"{path} is damaged" in found.text


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
    assert found["weights shapes"] == found["data tiny"] == "optional"


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
    (data / "full" / "eurosat").mkdir(parents=True)
    assert doctor.pictures_of_full(TINY) == Finding("data full", "ok", "here: eurosat")


def test_without_network_the_profile_full_says_what_to_copy_where(data):
    found = doctor.imagenet(FULL, "resnet18")
    assert found.state == "missing"
    assert found.text == "not here, and there is no network to download 45 MB"
    path = data / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    assert found.remedy == f"fetch https://download.pytorch.org/models/{path.name} elsewhere and copy it to {path}"
    found = doctor.pictures_of_full(FULL)
    assert found.state == "missing"
    assert f"copy it to {data / 'full' / 'eurosat'}" in found.remedy


def test_with_network_the_lessons_of_the_profile_full_will_download(data, monkeypatch):
    monkeypatch.setattr(doctor, "online", lambda: True)
    assert doctor.imagenet(FULL, "vgg16") == Finding(
        "weights vgg16, ImageNet", "warning", "not here; the first lesson that needs it downloads 528 MB"
    )
    assert doctor.pictures_of_full(FULL).state == "warning"


def test_imagenet_weights_are_compared_with_the_hash_in_their_name(data, monkeypatch):
    put_imagenet(data, "resnet18-f37072fd.pth", b"not these")
    assert doctor.imagenet(TINY, "resnet18").state == "warning"
    found = doctor.imagenet(FULL, "resnet18")
    assert found.state == "missing"
    assert found.text.endswith("resnet18-f37072fd.pth is damaged")
    digest = SimpleNamespace(hexdigest=lambda: "f37072fd" + "0" * 56)
    monkeypatch.setattr("hashlib.sha256", lambda content: digest)
    assert doctor.imagenet(FULL, "resnet18").state == "ok"


def test_no_network_is_noticed(reached):
    assert not doctor.online()
    assert reached


def test_a_folder_of_ones_own(data, tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "mine" / name).mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (8, 8)).save(tmp_path / "mine" / name / f"{i}.png")
    run = cli.settings()
    full = type(run)(profile="full", weights="imagenet", data=str(tmp_path / "mine"))
    assert doctor.pictures_of_full(full) == Finding(f"data {tmp_path / 'mine'}", "ok", "8 pictures of 2 classes")
    shutil.rmtree(tmp_path / "mine" / "dog")
    found = doctor.pictures_of_full(full)
    assert found.state == "missing"
    assert "at least two classes" in found.text


def test_half_a_download(data):
    (data / "full" / "eurosat").mkdir(parents=True)
    found = doctor.pictures_of_full(FULL)
    assert found.state == "missing"
    assert found.remedy == f"delete {data / 'full' / 'eurosat'} and let it be downloaded again"


# ------------------------------------------------------------------------------------------------------- the command


def test_the_exit_code_follows_the_findings(monkeypatch, capsys):
    for state, code in (("ok", 0), ("optional", 0), ("warning", 0), ("missing", 1)):
        monkeypatch.setattr(doctor, "examine", lambda run, state=state: [Finding("thing", state, "text")])
        assert cli.main(["doctor"]) == code
    assert "✗ thing  text" in capsys.readouterr().out
