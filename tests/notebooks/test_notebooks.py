"""Every notebook runs from top to bottom as a learner would run it, with nothing solved and without a network."""

from __future__ import annotations

import os
from pathlib import Path
from unittest import mock

import nbformat
import pytest
import torch
from torch import Tensor

from course_utils.models import fresh
from course_utils.profiles import HOME
from course_utils.tools import lessons
from course_utils.tools import run as run_lessons
from course_utils.weights import get_weights
from course_utils.worlds import picture

pytestmark = [pytest.mark.notebook, pytest.mark.timeout(1200)]

NOTEBOOKS = sorted((HOME / "notebooks").glob("[0-9][0-9]_*.ipynb"))
ON_FULL = [path for path in NOTEBOOKS if path.stem[:2] in ("01", "02", "03", "04", "07", "09", "13", "14")]
DEAD_END = "http://127.0.0.1:9"  # where nobody listens: a kernel that wants to download something fails at once


@pytest.fixture(autouse=True)
def unplugged(tmp_path, monkeypatch):
    """The kernel's surroundings: no network, a build folder of the test, weights where the test puts them."""
    with mock.patch.dict(os.environ):
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            os.environ[name] = DEAD_END
        os.environ.pop("MPLBACKEND", None)
        os.environ["TORCH_HOME"] = str(tmp_path / "torch")
        os.environ["OMP_NUM_THREADS"] = "1" if "PYTEST_XDIST_WORKER" in os.environ else "2"
        monkeypatch.setattr(lessons, "BUILD", tmp_path / "build")
        yield


def exercises(path: Path) -> list[str]:
    cells = nbformat.read(path, as_version=4).cells
    return [
        cell.id.removeprefix("exercise-").replace("-", ".") for cell in cells if "exercise" in cell.metadata.get("tags", [])
    ]


def run(path: Path) -> None:
    """Run the notebook; everything is to do, and nothing is wrong."""
    done = run_lessons.run_notebook(path)
    assert done.faults == [], str(done)
    assert done.verdicts == dict.fromkeys(exercises(path), "to do")


SHORT = """
def shorten():
    import sys
    from itertools import islice

    from torch.utils.data import DataLoader

    from course_utils.experiments import first_steps

    first_steps.EPOCHS = 1
    whole = DataLoader.__iter__

    def first_rows(loader):
        for batch in islice(whole(loader), 1):
            yield [part[:8] for part in batch]

    def __iter__(loader):
        caller = sys._getframe(1).f_globals["__name__"]
        kept = caller.startswith(("course_utils.precomputed", "keras."))  # features are of all pictures
        return whole(loader) if kept else first_rows(loader)

    DataLoader.__iter__ = __iter__


shorten()
del shorten  # a lesson has its names for itself
"""


@pytest.fixture
def short_epochs(tmp_path):
    """Loaders stop after eight pictures; IPython runs what lies in this folder when a kernel starts.

    The solved notebooks train in full when nbval runs them. Their cells are the same but for the exercises, of which no other
    cell knows: `test_exercises_are_leaves` shows it. So what is left to see here does not depend on how long one trains.
    """
    at_the_start_of_kernels(SHORT, tmp_path / "ipython")


def at_the_start_of_kernels(code: str, folder: Path) -> None:
    startup = folder / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "first.py").write_text(code, encoding="utf-8")
    os.environ["IPYTHONDIR"] = str(folder)


@pytest.mark.parametrize("path", [path for path in NOTEBOOKS if path not in ON_FULL], ids=lambda path: path.stem)
def test_an_unsolved_notebook_runs_to_its_end(path, short_epochs):
    """The others do below, on the profile full."""
    run(path)


# -------------------------------------------------------------------------------------------------- the profile full


def stand_in(name: str, value: Tensor) -> Tensor:
    """For the millions of values in VGG's hidden layers one zero, which takes no room on the disk."""
    return torch.zeros(1).expand(value.shape) if name.startswith("classifier") and value.dim() == 2 else value


@pytest.fixture(scope="module")
def full(tmp_path_factory) -> Path:
    """Small files of our own where the downloads would lie: weights of ImageNet's sizes, and a folder of class folders."""
    home = tmp_path_factory.mktemp("full")
    place = home / "torch" / "hub" / "checkpoints"
    place.mkdir(parents=True)
    torch.manual_seed(0)
    for architecture in ("resnet18", "vgg16"):
        state = {name: stand_in(name, value) for name, value in fresh(architecture).state_dict().items()}
        torch.save(state, place / get_weights(architecture, "imagenet").url.rpartition("/")[2])
    for name in ("boat", "fish", "tree"):
        (home / "data" / name).mkdir(parents=True)
        for i in range(12):
            picture("things", name, 5, i).save(home / "data" / name / f"{i:02}.png")
    return home


STAND_INS = """
def stand_in():
    from functools import partial

    from torchvision.models import ResNet18_Weights, VGG16_Weights

    from course_utils import weights

    weights.check_file = lambda *_: None  # stand-ins have another SHA-256 than the files whose names they bear
    for one in (ResNet18_Weights.IMAGENET1K_V1, VGG16_Weights.IMAGENET1K_V1):  # a size of neither profile: none is typed in
        object.__setattr__(one.value, "transforms", partial(one.value.transforms.func, crop_size=96, resize_size=96))


stand_in()
del stand_in
"""


@pytest.mark.parametrize("path", ON_FULL, ids=lambda path: path.stem)
def test_the_profile_full_runs_on_files_that_lie_there(path, full, tmp_path):
    at_the_start_of_kernels(SHORT + STAND_INS, tmp_path / "ipython")
    os.environ.update(COURSE_PROFILE="full", COURSE_DATA=str(full / "data"), TORCH_HOME=str(full / "torch"))
    run(path)
