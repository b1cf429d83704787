"""Settings: one variable decides what runs, and a name that does not exist gets the nearest one that does."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys

import pytest

from course_utils.profiles import HOME, PROFILES, Settings, settings


def test_tiny_is_the_default(monkeypatch):
    assert settings() == PROFILES["tiny"]
    monkeypatch.setenv("COURSE_PROFILE", "")
    assert settings() == PROFILES["tiny"]
    assert (settings().weights, settings().data) == ("shapes", "tiny")


def test_full(monkeypatch):
    monkeypatch.setenv("COURSE_PROFILE", "full")
    assert (settings().weights, settings().data) == ("imagenet", "eurosat")
    monkeypatch.setenv("COURSE_DATA", "pets")
    assert settings().data == "pets"
    assert settings(data="flowers102").data == "flowers102"


def test_another_data_set_is_for_the_full_profile(monkeypatch):
    monkeypatch.setenv("COURSE_DATA", "pets")
    assert settings().data == "tiny"


def test_changes_to_single_fields():
    run = settings(seed=3, batch_size=8)
    assert (run.seed, run.batch_size) == (3, 8)
    assert dataclasses.replace(run, seed=0, batch_size=32) == settings()
    assert settings(profile="full") == PROFILES["full"]


def test_unknown_profile(monkeypatch):
    monkeypatch.setenv("COURSE_PROFILE", "ful")
    with pytest.raises(ValueError, match=r"no profile named 'ful'; choose from \['tiny', 'full'\] \(did you mean 'full'\?\)"):
        settings()


def test_unknown_setting():
    with pytest.raises(ValueError, match=r"no setting named 'batchsize'; choose from \[.*\] \(did you mean 'batch_size'\?\)"):
        settings(batchsize=3)


def test_settings_do_not_change_by_accident():
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings().seed = 1


def test_a_device_that_works():
    import torch

    assert torch.ones(2, device=Settings(profile="tiny", weights="shapes", data="tiny").device).sum() == 2


def test_the_home_folder_is_the_course():
    assert (HOME / "data" / "tiny" / "train").is_dir()
    assert (HOME / "course_utils" / "__init__.py").is_file()


def test_the_package_is_imported_without_torch():
    code = """
import sys
import course_utils, course_utils.tools.cli
from course_utils import settings, Settings
settings()
sys.exit("torch" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=HOME, env=dict(os.environ), capture_output=True, text=True, timeout=60
    )
    assert not done.returncode, f"torch was imported, or: {done.stderr}"


def test_beside_torch_the_course_takes_no_time():
    """Drawing apart, which loads matplotlib: all that a run needs comes within 0.2 s of CPU."""
    code = """
import gc, time
import torch, torchvision
gc.freeze()  # to look through what torch has made is not ours
started = time.process_time()
import course_utils
for module, names in course_utils.EXPORTS.items():
    if module != "plots":
        for name in names:
            getattr(course_utils, name)
took = time.process_time() - started
assert took < 0.2, took
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=HOME, capture_output=True, text=True, timeout=120)
    assert not done.returncode, done.stderr
