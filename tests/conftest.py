"""What every test stands on: no network, one thread, equal seeds, and nothing written into the repository."""

from __future__ import annotations

import os
import random
import signal
import socket
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

hypothesis.settings.register_profile(
    "course",
    deadline=None,
    max_examples=20,
    derandomize=True,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
hypothesis.settings.load_profile("course")

PROXIES = [name for name in os.environ if name.lower() in ("http_proxy", "https_proxy", "all_proxy", "no_proxy")]


class Unplugged(OSError):
    """What a test gets that reaches for the network: the error that a machine without one gives."""


REACHED: list[str] = []  # what the running test reached for


LOCAL = ("127.0.0.1", "localhost", "::1", "")


def guard(call: Callable, host_of: Callable) -> Callable:
    """`call`, refused for a host that is not this machine."""

    def guarded(*args, **kwargs):
        host = host_of(*args)
        if host not in LOCAL:
            REACHED.append(f"{call.__name__} {host}")
            raise Unplugged(f"tests may not reach the network: {call.__name__} {host}")
        return call(*args, **kwargs)

    return guarded


def host_of_address(_: socket.socket, address: object, *rest: object) -> object:
    return address[0] if isinstance(address, tuple) else ""  # a text is the path of a Unix socket


@pytest.fixture(scope="session", autouse=True)
def own_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No network, no settings of the person who runs the tests, and folders of our own for what is written."""
    home = tmp_path_factory.mktemp("home")
    hypothesis.configuration.set_hypothesis_home_dir(home / "hypothesis")
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background begins by ignoring it
    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, guard(getattr(socket.socket, name), host_of_address))
        for name in ("getaddrinfo", "gethostbyname"):
            patch.setattr(socket, name, guard(getattr(socket, name), lambda host, *rest: host))
        for name in (*PROXIES, "COURSE_PROFILE", "COURSE_DATA"):
            patch.delenv(name, raising=False)
        patch.setenv("COURSE_GRADES", str(home / "grades.jsonl"))
        patch.setenv("TORCH_HOME", str(home / "torch"))
        yield


@pytest.fixture(autouse=True)
def offline_and_seeded(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test that reached for the network, unless it asked for `reached`, to show what happens then."""
    REACHED.clear()
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    yield
    if "reached" not in request.fixturenames:
        assert not REACHED, f"this test reached for the network: {REACHED}"


@pytest.fixture
def reached() -> list[str]:
    """What the test has reached for so far; a test that takes this one may be refused."""
    return REACHED


@cache
def lacking() -> str:
    """The layers of the grader's isolation "full" that do not work on this machine, each with its reason."""
    from course_utils.grader.sandbox import levels, selftest

    facts = selftest.facts()
    if levels.level_of(fact.layer for fact in facts if fact.works) == "full":
        return ""
    return ", ".join(f"{fact.layer}: {fact.why}" for fact in facts if not fact.works)


LONGEST_FIRST = ("tests/claims/", "tests/notebooks/", "solutions/", "tests/grader/", "tests/attacks/")


def place_in_line(item: pytest.Item) -> int:
    return next((i for i, folder in enumerate(LONGEST_FIRST) if item.nodeid.startswith(folder)), len(LONGEST_FIRST))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first, so that no worker is left alone with it in the end.

    What needs the whole sandbox is skipped where the machine cannot give it, such as inside a container, and says why.
    """
    items.sort(key=place_in_line)
    for item in items:
        if item.get_closest_marker("sandbox") and lacking():
            item.add_marker(pytest.mark.skip(reason=f"no isolation full here ({lacking()}); see `course grade --doctor`"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `--dist loadscope` a file goes to one worker, whose fixtures and kernel it shares; each notebook goes alone."""
    from xdist.scheduler import LoadScopeScheduling

    class EachNotebookAlone(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return nodeid if nodeid.startswith("tests/notebooks/") else super()._split_scope(nodeid)

    return EachNotebookAlone(config, log) if config.getoption("dist") == "loadscope" else None


@pytest.fixture(scope="session")
def _sandboxes() -> Iterator[None]:
    yield
    from course_utils.grader import client

    client.close_servers()


@pytest.fixture(scope="module")
def warm(_sandboxes: None) -> Iterator[None]:
    """The fork server of each isolation serves all tests that ask for this, as in a worker, and does not end with a run.

    What one worker is asked to grade is graded here: starting it would take longer than the test.
    """
    from course_utils.grader import engines

    pool = engines.Pool
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engines, "close_servers", lambda: None)
        patch.setattr(engines, "Pool", lambda job, jobs: pool(job, jobs) if jobs > 1 else engines.Here(job))
        yield


# ------------------------------------------------------------------------------------------------ things to test with


def _small_net(num_classes: int = 3, width: int = 4) -> nn.Module:
    """A network with the parts of a ResNet, batch norm and dropout among them, that learns in a millisecond."""

    def block(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(), nn.Dropout(0.2))

    layers = OrderedDict(
        conv1=nn.Conv2d(3, width, 3, stride=2, padding=1),
        bn1=nn.BatchNorm2d(width),
        layer1=block(width, width),
        layer2=block(width, 2 * width),
        pool=nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        fc=nn.Linear(2 * width, num_classes),
    )
    return nn.Sequential(layers)


@pytest.fixture(scope="session")
def small_net() -> Callable[..., nn.Module]:
    return _small_net


@pytest.fixture
def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Three batches of three classes, the last one short; each class has a brightness of its own."""
    generator = torch.Generator().manual_seed(7)
    found = []
    for size in (8, 8, 5):
        labels = torch.randint(3, (size,), generator=generator)
        found.append((torch.randn(size, 3, 8, 8, generator=generator) + labels.view(-1, 1, 1, 1), labels))
    return found


@pytest.fixture(scope="session")
def plant() -> Callable[..., Path]:
    """Makes class folders with small pictures: `plant(root, {"cat": 3, "dog": 2})`."""

    def plant(root: Path, classes: dict[str, int], suffix: str = ".png", size: tuple[int, int] = (12, 10)) -> Path:
        for label, (name, count) in enumerate(classes.items()):
            (root / name).mkdir(parents=True, exist_ok=True)
            for i in range(count):
                Image.new("RGB", size, (40 * label, 10 * i, sum(root.name.encode()) % 256)).save(
                    root / name / f"{i:02}{suffix}"
                )
        return root

    return plant
