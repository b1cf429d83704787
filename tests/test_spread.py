"""Runs spread over workers: the same bytes as here, though one is killed; a second start makes what is missing."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from functools import partial

import distributed
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from course_utils import freeze, precompute, split_frozen, sweep
from course_utils.spread import Journal, check_workers, complete, spread

# ------------------------------------------------------------------------------------------------------------ the journal


def double(number: int, name: str) -> dict:
    return {"twice": 2 * number, "name": name}


def test_a_journal_has_a_line_for_each_run(tmp_path):
    path = tmp_path / "deep" / "runs.jsonl"
    keys = [(2, "b"), (1, "a"), (2, "b")]
    found = spread(double, keys, journal=Journal(path, about={"updates": 48}))
    assert found == {(2, "b"): {"twice": 4, "name": "b"}, (1, "a"): {"twice": 2, "name": "a"}}
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"updates": 48},
        [[2, "b"], {"twice": 4, "name": "b"}],
        [[1, "a"], {"twice": 2, "name": "a"}],
    ]


def test_what_is_in_the_journal_is_not_made_again(tmp_path):
    made = []

    def noting(number):
        made.append(number)
        return {"value": number / 3, "never": float("inf")}

    first = spread(noting, [(1,), (2,)], journal=Journal(tmp_path / "j"))
    again = spread(noting, [(3,), (2,), (1,)], journal=Journal(tmp_path / "j"))
    assert made == [1, 2, 3]
    assert list(again) == [(3,), (2,), (1,)]
    assert {key: again[key] for key in first} == first
    assert spread(noting, [(1,)]) == {(1,): first[1,]}, "without a journal it is made, and is the same"


def test_a_line_that_was_being_written_is_dropped(tmp_path):
    path = tmp_path / "j"
    spread(double, [(1, "a"), (2, "é")], journal=Journal(path))
    whole = path.read_bytes()
    for cut in range(1, len(whole.splitlines(keepends=True)[-1])):
        path.write_bytes(whole[:-cut])
        journal = Journal(path)
        assert list(journal.known) == [(1, "a")], cut
        spread(double, [(1, "a"), (2, "é")], journal=journal)
        assert path.read_bytes() == whole


@pytest.mark.parametrize("content", ["weights\n", "{}\n[1, 2, 3]\n", "{}\n{}\n[[1], \n[[2], 3]\n"])
def test_what_is_no_journal(tmp_path, content):
    (tmp_path / "j").write_text(content)
    with pytest.raises(ValueError, match="j is no journal of runs, or damaged; delete it, or name another file"):
        Journal(tmp_path / "j")
    assert (tmp_path / "j").read_text() == content


def test_a_journal_of_other_runs(tmp_path):
    Journal(tmp_path / "j", about={"updates": 48})
    with pytest.raises(ValueError, match=r'j holds other runs \(\{"updates": 48\}, not \{"updates": 12\}\); delete it'):
        Journal(tmp_path / "j", about={"updates": 12})


def test_a_finished_journal_is_gone(tmp_path):
    journal = Journal(tmp_path / "j")
    journal.finish()
    Journal().finish()
    assert not list(tmp_path.iterdir())


def test_asked_again_until_nothing_is_missing():
    rounds = []

    def wanted(known):
        rounds.append(len(known))
        best = max((key[0] for key, record in known.items() if record["twice"] < 10), default=0)
        return [*known, (best + 1, "next")]

    assert [key[0] for key in complete(wanted, double, Journal())] == [1, 2, 3, 4, 5]
    assert rounds == [0, 1, 2, 3, 4, 5]


# ---------------------------------------------------------------------------------------------------------- the workers


@pytest.fixture(scope="module")
def cluster():
    """Two workers of one thread each, each a process."""
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None, "host": "127.0.0.1"}
    with distributed.LocalCluster(**options) as cluster:
        yield cluster


def pictures() -> TensorDataset:
    dice = torch.Generator().manual_seed(5)
    labels = torch.arange(24) % 3
    return TensorDataset(torch.randn(24, 3, 8, 8, generator=dice) + labels.view(-1, 1, 1, 1), labels)


def a_net(make, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return make()


def test_a_sweep_is_the_same_on_two_workers_though_one_is_killed(small_net, cluster, tmp_path, monkeypatch):
    train = DataLoader(pictures(), 6, shuffle=True, generator=torch.Generator())
    val = DataLoader(pictures(), 12)
    runs = {"rates": [0.001, 0.01, 0.1, 1e38], "seeds": [0, 1, 2, 3], "epochs": 3}
    start = partial(a_net, small_net)
    here = sweep(start, train, val, **runs)
    killed: list[int] = []
    add = Journal.add

    def add_and_kill(journal, key, record):
        """After the first record, while others are being computed."""
        add(journal, key, record)
        if not killed:
            killed.extend(nanny.pid for nanny in cluster.workers.values() if nanny.pid)
            os.kill(killed[0], signal.SIGKILL)

    monkeypatch.setattr(Journal, "add", add_and_kill)
    there = sweep(start, train, val, **runs, scheduler=cluster.scheduler_address, journal=tmp_path / "j")
    assert len(killed) == 2
    assert json.dumps(there) == json.dumps(here)
    lines = (tmp_path / "j").read_text().splitlines()
    assert sorted(tuple(json.loads(line)[0]) for line in lines[1:]) == sorted((row["lr"], row["seed"]) for row in here)

    (tmp_path / "j").write_text("\n".join(lines[:6]) + "\n" + lines[6][:30])  # as if everything had stopped there
    again = sweep(start, train, val, **runs, journal=tmp_path / "j")
    assert json.dumps(again) == json.dumps(here), "a part made there, the rest here"
    assert sorted((tmp_path / "j").read_text().splitlines()) == sorted(lines)


def test_kept_features_and_functions_without_a_name_travel(small_net, cluster):
    torch.manual_seed(0)
    model = small_net()
    for name in ("conv1", "bn1", "layer1"):
        freeze(model.get_submodule(name))
    frozen, _ = split_frozen(model)
    loader = DataLoader(pictures(), 6, shuffle=True, generator=torch.Generator())
    kept = precompute(frozen, loader, cache=None)

    def start(seed):
        again = small_net()
        again.load_state_dict(model.state_dict())
        for name in ("conv1", "bn1", "layer1"):
            freeze(again.get_submodule(name))
        return split_frozen(again).learning

    runs = {"rates": [0.01, 0.1], "seeds": [0], "epochs": 2}
    adam = lambda parameters, lr: torch.optim.Adam(parameters, lr=lr)  # noqa: E731
    here = sweep(start, kept, kept, **runs, optimizer=adam)
    assert sweep(start, kept, kept, **runs, optimizer=adam, scheduler=cluster.scheduler_address) == here


def stops(number: int) -> dict:
    if number == 2:
        raise FloatingPointError("number two")
    return {"value": number}


def test_the_error_of_a_run_is_raised_here_and_what_was_done_is_kept(cluster, tmp_path):
    with pytest.raises(FloatingPointError, match="number two"):
        spread(stops, [(1,), (2,)], scheduler=cluster.scheduler_address, journal=Journal(tmp_path / "j"))
    assert set(Journal(tmp_path / "j").known) <= {(1,)}


def test_nothing_to_make_asks_nobody():
    assert spread(double, [], scheduler="tcp://127.0.0.1:1") == {}


# -------------------------------------------------------------------------------------------------------- what is refused


LOCK = threading.Lock()  # like an open file it belongs to one process


@pytest.mark.parametrize("what", ["start", "train", "val", "optimizer"])
def test_what_cannot_travel_is_named(small_net, what):
    train = DataLoader(pictures(), 6)
    parts = {"start": partial(a_net, small_net), "train": train, "val": train, "optimizer": torch.optim.Adam}
    spoilt = {
        "start": lambda seed, lock=LOCK: small_net(),
        "train": DataLoader(pictures(), 6, collate_fn=lambda rows, lock=LOCK: rows),
        "val": (batch for batch in train),
        "optimizer": lambda parameters, lr, lock=LOCK: torch.optim.Adam(parameters, lr),
    }
    with pytest.raises(
        TypeError, match=rf"{what} cannot travel to the workers of a scheduler \(.*\); give a DataLoader or a list"
    ):
        sweep(**parts | {what: spoilt[what]}, rates=[0.1], seeds=[0], epochs=1, scheduler="tcp://127.0.0.1:1")


def test_features_that_are_out_of_date_do_not_travel(small_net):
    model = freeze(small_net())
    model.fc.requires_grad_(True)
    frozen, _ = split_frozen(model)
    kept = precompute(frozen, DataLoader(pictures(), 6), cache=None)
    with torch.no_grad():
        model.conv1.weight += 1
    with pytest.raises(TypeError, match=r"train cannot travel .*these features are out of date"):
        sweep(lambda seed: small_net(), kept, [], rates=[0.1], seeds=[0], epochs=1, scheduler="tcp://127.0.0.1:1")


def test_a_scheduler_needs_a_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ValueError, match="needs the package distributed: `pip install distributed`, here and on the workers"):
        spread(double, [(1, "a")], scheduler="tcp://127.0.0.1:1")


class Pretended:
    """A client whose workers are as said."""

    def __init__(self, threads: dict, found: str = ""):
        self.threads, self.found = threads, found

    def nthreads(self) -> dict:
        return self.threads

    def run(self, function) -> dict:
        return dict.fromkeys(self.threads, self.found or function())


@pytest.mark.parametrize(
    ("client", "words"),
    [
        (Pretended({}), "tcp://host has 0 workers; start at least one, each with --nthreads 1"),
        (Pretended({"a": 1, "b": 2}), "tcp://host has 2 workers; start at least one, each with --nthreads 1"),
        (
            Pretended({"a": 1}, "Python 3.9.0 and torch 2.0"),
            "a has Python 3.9.0 and torch 2.0, and here is Python .*; install",
        ),
    ],
)
def test_workers_that_would_compute_otherwise(client, words):
    with pytest.raises(ValueError, match=words):
        check_workers(client, "tcp://host")
    check_workers(Pretended({"a": 1, "b": 1}), "tcp://host")


# ------------------------------------------------------------------------------------------- the journal of a sweep


def test_a_sweep_that_was_stopped_goes_on(small_net, tmp_path):
    begun = []

    def start(seed):
        begun.append(seed)
        if begun == [0, 1, 2]:
            signal.raise_signal(signal.SIGINT)
        return a_net(small_net, seed)

    train, val = DataLoader(pictures(), 6, shuffle=True), DataLoader(pictures(), 12)
    runs = {"rates": [0.01], "seeds": [0, 1, 2, 3], "epochs": 1, "journal": tmp_path / "j"}
    with pytest.raises(KeyboardInterrupt, match="after 2 of 4 runs"):
        sweep(start, train, val, **runs)
    rows = sweep(start, train, val, **runs)
    assert begun == [0, 1, 2, 2, 3]
    assert rows == sweep(start, train, val, **runs | {"journal": None})
    assert list(rows[0]) == ["lr", "seed", "loss", "val"]


def test_the_journal_of_another_sweep(small_net, tmp_path):
    start, val = partial(a_net, small_net), DataLoader(pictures(), 12)
    runs = {"seeds": [0], "epochs": 1, "journal": tmp_path / "j"}
    sweep(start, DataLoader(pictures(), 6), val, rates=[0.1], **runs)
    with pytest.raises(ValueError, match=r"cannot be compared or .*j is of another sweep: the data set"):
        sweep(start, DataLoader(pictures(), 5), val, rates=[0.1, 0.2], **runs)
    with pytest.raises(ValueError, match=r'holds other runs \(\{"epochs": 1\}, not \{"epochs": 2\}\)'):
        sweep(start, DataLoader(pictures(), 6), val, rates=[0.1], **runs | {"epochs": 2})
