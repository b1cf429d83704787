"""The benchmark: each contestant does the same job, rows that did another are void, and the table says what was found."""

import json
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from course_utils import devices
from course_utils.profiles import HOME
from course_utils.tools import cli, grading_bench
from course_utils.tools.bench import jobs, runner
from course_utils.tools.bench.contestants import limit
from course_utils.tools.bench.jobs import (
    CONTESTANTS,
    JOBS,
    Job,
    choose_contestants,
    choose_jobs,
    is_limit,
    is_mixed,
    write_pictures,
)
from course_utils.tools.bench.report import marks_of, report, rows_of, summary
from course_utils.tools.bench.worker import measure

HEAD, MANY, LAYER4, EVERYTHING, VGG16, SWEEP = (replace(job, per_class=2, epochs=2) for job in JOBS)
LIMITS = list(filter(is_limit, CONTESTANTS))
SHORT = replace(SWEEP, rates=(0.01, 0.1, 1.0), seeds=(0, 1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    write_pictures(folder, 2)
    return folder


@pytest.fixture(autouse=True)
def _where_libraries_may_write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, value in runner.environment(1, tmp_path).items():
        monkeypatch.setenv(name, value)


def run(name: str, cpu: float = 1.0, accuracy: float | None = 0.8, job: str = "head") -> dict:
    seconds = {"cpu": cpu, "wall": cpu / 2, "startup": 3.0}
    return {"job": job, "contestant": name, **seconds, "memory_mb": 500.0, "accuracy": accuracy}


# ----------------------------------------------------------------------------------------------------------- one run


@pytest.mark.parametrize("job", [HEAD, LAYER4, EVERYTHING], ids=lambda job: job.name)
def test_plain_and_ours_see_the_same_pictures_and_do_the_same_work(job, folder):
    found = {name: measure(job, name, folder) for name in ("plain", "fit", "reuse")}
    assert found["fit"]["accuracy"] == found["reuse"]["accuracy"]
    for name, record in found.items():
        assert record.keys() == run(name).keys()
        assert min(record["cpu"], record["wall"], record["startup"], record["memory_mb"]) > 0
        assert 0 <= record["accuracy"] <= 1


def test_the_recipe_of_torchvision_learns_what_the_plain_loop_learns(folder):
    found, plain = (measure(HEAD, name, folder)["accuracy"] for name in ("torchvision", "plain"))
    assert found == pytest.approx(plain)


def test_the_limit_learns_nothing_and_is_one_pass(folder):
    assert measure(HEAD, "limit", folder)["accuracy"] is None
    assert measure(SHORT, "limit", folder)["accuracy"] is None


@pytest.mark.parametrize("name", LIMITS[1:])
@pytest.mark.filterwarnings("ignore")
def test_each_engine_that_is_installed_makes_the_features_of_eager_torch(name, folder):
    for package in CONTESTANTS[name]:
        pytest.importorskip(package)
    for job in (HEAD, LAYER4):
        assert measure(job, name, folder)["accuracy"] is None


def test_an_engine_that_makes_other_features_is_void_and_its_preparation_is_not_counted(folder, monkeypatch):
    counted = measure(HEAD, "limit", folder)["cpu"]

    def slow(model, images):
        end = time.process_time() + 10 * counted
        while time.process_time() < end:
            pass
        return model

    monkeypatch.setitem(limit.ENGINES, "folded", slow)
    assert measure(HEAD, "limit+folded", folder)["cpu"] < 5 * counted
    monkeypatch.setitem(limit.ENGINES, "folded", lambda model, images: lambda images: 1.001 * model(images))
    with pytest.raises(ValueError, match="the features of folded differ from eager torch's by 1e-03 of the largest"):
        measure(HEAD, "limit+folded", folder)


@pytest.mark.parametrize("name", [name for name in CONTESTANTS if is_mixed(name)])
@pytest.mark.filterwarnings("default")
def test_mixed_precision_computes_in_bfloat16_and_not_when_it_is_not_asked_for(name, folder):
    for package in CONTESTANTS[name]:
        pytest.importorskip(package)
    names = [name, name.removesuffix("+bf16")]
    command = [sys.executable, "-c", WATCHED, replace(EVERYTHING, epochs=1).write(), str(folder), *names]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "{'torch.bfloat16'} {'torch.float32'}"


WATCHED = """
import sys
from pathlib import Path
from course_utils.tools.bench import task, worker
from course_utils.tools.bench.jobs import Job

job, folder, *names = sys.argv[1:]
kinds, opened = [], task.open_task

def watched(*arguments):
    found = opened(*arguments)
    found.model.layer1.register_forward_hook(lambda layer, given, made: kinds[-1].add(str(made.dtype)))
    return found

worker.open_task = watched
for name in names:  # types of what the first stage of the network gives
    kinds.append(set())
    worker.measure(Job.read(job), name, Path(folder))
print()
print(*kinds)
"""


def test_in_a_sweep_the_sample_stands_for_all_and_the_accuracies_are_those_of_the_sample(folder):
    assert (len(SHORT.trainings), SHORT.sample, SHORT.every) == (6, [(0.1, 0), (0.1, 1)], 2)
    alone = [measure(replace(HEAD, seeds=(seed,)), "fit", folder)["accuracy"] for seed in SHORT.seeds]
    for name in ("fit", "reuse"):
        assert measure(SHORT, name, folder)["accuracy"] == pytest.approx(sum(alone) / 2)


@pytest.mark.parametrize("name", [name for name, packages in CONTESTANTS.items() if packages and "+" not in name])
@pytest.mark.parametrize("job", [HEAD, SHORT], ids=lambda job: job.name)
@pytest.mark.filterwarnings("default")
def test_each_peer_that_is_installed_learns_what_the_plain_loop_learns(name, job, folder):
    for package in CONTESTANTS[name]:
        pytest.importorskip(package)
    found, plain = (runner.run_once(job, one, folder, 1) for one in (name, "plain"))
    assert "error" not in found, found
    assert found["accuracy"] == pytest.approx(plain["accuracy"], abs=0.1)


def test_a_run_is_a_process_of_its_own_and_says_what_stopped_it(folder):
    assert runner.run_once(HEAD, "reuse", folder, 1)["accuracy"] == measure(HEAD, "reuse", folder)["accuracy"]
    failed = runner.run_once(replace(HEAD, learns=("fd",)), "plain", folder, 1)
    assert failed == {"job": "head", "contestant": "plain", "error": failed["error"]}
    assert "fd" in failed["error"]


def test_a_job_survives_the_way_to_the_other_process():
    assert Job.read(SHORT.write()) == SHORT


# ---------------------------------------------------------------------------------------------------- rows and tables


def test_rows_hold_medians_and_ratios():
    runs = [run("limit", 2, None), run("plain", 20), run("reuse", 2.5)]
    runs += [run("limit", 4, None), run("plain", 30), run("reuse", 3.5), run("plain", 1, job="layer4")]
    limit, plain, reuse = rows_of(HEAD, runs)
    assert (limit.cpu, plain.cpu, plain.wall, reuse.cpu) == (3, 25, 12.5, 3)
    assert (plain.to_limit, plain.to_reuse, reuse.to_limit, reuse.to_reuse) == (25 / 3, 25 / 3, 1, 1)


def test_a_row_is_void_if_it_ends_elsewhere_or_failed():
    runs = [run("plain"), run("reuse", accuracy=0.84), run("keras", accuracy=0.7), run("fastai", accuracy=float("nan"))]
    runs += [run("lightning"), {"job": "head", "contestant": "lightning", "error": "MemoryError"}]
    plain, reuse, keras, fastai, lightning = rows_of(HEAD, runs)
    assert plain.void == reuse.void == ""
    assert keras.void == "accuracy 0.70 is not within 0.05 of 0.80, so it did another job"
    assert keras.to_reuse is None
    assert "nan" in fastai.void
    assert lightning.void == "failed: MemoryError"


def test_without_the_plain_loop_the_middle_of_all_decides():
    rows = rows_of(HEAD, [run("fit", accuracy=0.8), run("reuse", accuracy=0.81), run("keras", accuracy=0.5)])
    assert [bool(row.void) for row in rows] == [False, False, True]


def test_marks_compare_with_the_best_that_is_neither_ours_nor_void():
    runs = [run("limit", 2, None), run("plain", 30), run("fit", 9), run("reuse", 2.5), run("lightning", 10)]
    found = marks_of(HEAD, rows_of(HEAD, [*runs, run("keras", 1, 0.2)]))
    assert found == [
        "head: reuse takes 1.25 × the CPU seconds of limit; at most 1.1: MISSED",
        "head: lightning takes 4.00 × the CPU seconds of reuse; at least 10: MISSED",
    ]
    assert marks_of(HEAD, rows_of(HEAD, [run("plain")])) == []


def test_the_limit_is_that_of_the_fastest_engine():
    runs = [run("limit", 3, None), run("limit+openvino", 2, None), run("plain", 30), run("reuse", 2.5)]
    rows = rows_of(HEAD, [*runs, {"job": "head", "contestant": "limit+onnxruntime", "error": "ImportError"}])
    assert [row.to_limit for row in rows] == [1.5, 1, 15, 1.25, None]
    assert "head: reuse takes 1.25 × the CPU seconds of limit+openvino; at most 1.1: MISSED" in marks_of(HEAD, rows)


def test_like_is_compared_with_like():
    runs = [("plain", 30), ("keras", 28), ("reuse", 25), ("plain+bf16", 16), ("lightning+bf16", 15), ("reuse+bf16", 15.3)]
    found = marks_of(EVERYTHING, rows_of(EVERYTHING, [run(*one, job="everything") for one in runs]))
    assert found == [
        "everything: keras takes 1.12 × the CPU seconds of reuse; at least 1.05: held",
        "everything: keras takes 1.83 × the CPU seconds of reuse+bf16; at least 1.5: held",
        "everything: reuse+bf16 takes 1.02 × the CPU seconds of lightning+bf16; at most 1: MISSED",
    ]


def test_the_table_shows_numbers_voids_and_what_was_scaled():
    rows = rows_of(SWEEP, [run("limit", 2, None, "sweep"), run("plain", 300, job="sweep"), run("reuse", 3, 0.1, "sweep")])
    text = report([SWEEP], rows)
    head, columns, limit, plain, reuse, scaled = text.split("\n\n")[0].splitlines()
    assert head.startswith("sweep: ResNet-18")
    assert "12 + 12 pictures, 2 epochs, 15 trainings" in head
    assert plain.split() == ["plain", "300.0", "150.0", "500", "0.800", "150", "–", "3.0"]
    assert limit.split()[4] == "–"
    assert "void: accuracy 0.10" in reuse
    assert "all 15; the others do 3, and their seconds are scaled by 5" in scaled
    assert "start-up: CPU seconds of the interpreter" in text
    assert max(map(len, text.splitlines())) <= 128


def test_the_page_has_a_table_for_each_precision_and_the_fastest_engine_as_the_limit():
    runs = [run("limit", 3, None), run("limit+openvino", 2, None), run("plain", 30), run("reuse", 4)]
    runs += [run("plain+bf16", 15), run("reuse+bf16", 3)]
    runs += [run("reuse", 5, job="many")]
    rows = [*rows_of(HEAD, runs), *rows_of(MANY, runs)]
    found = {"jobs": [{"name": "head", "title": "Head"}, {"name": "many", "title": "Many"}], "rows": [*map(vars, rows)]}
    exact, mixed = summary(found).split("\n\n")
    assert exact.splitlines()[0] == "| | the limit | plain loop | **cached features** |"
    assert exact.splitlines()[2] == "| Head | 0.50 | 7.50 | 1.00 |"
    assert exact.splitlines()[3:] == ["| Many | – | – | 1.00 |"]
    assert mixed.splitlines()[0] == "| | plain loop | **cached features** | the same in float32 |"
    assert mixed.splitlines()[2:] == ["| Head | 5.00 | 1.00 | 1.33 |"], "many pictures are not trained on in mixed precision"


# ---------------------------------------------------------------------------------------------------------- choosing


def test_a_missing_peer_is_named_with_the_command_that_brings_it(monkeypatch):
    monkeypatch.setattr(jobs, "find_spec", lambda package: None if package in ("keras", "accelerate") else object())
    names, missing = choose_contestants(None, quick=False)
    assert missing == ["transformers", "keras", "transformers+bf16"]
    assert names == [name for name in CONTESTANTS if name not in missing]
    with pytest.raises(ValueError, match=r"not installed: keras; `pip install -r requirements-bench.txt`"):
        choose_contestants(["plain", "keras"], quick=False)


def test_quick_is_small_and_ours_alone():
    names, missing = choose_contestants(None, quick=True)
    assert sorted([*names, *missing]) == sorted([*LIMITS, "plain", "fit", "reuse"])
    assert set(missing) <= set(LIMITS) - {"limit", "limit+folded"}, "who asks for no engine does not need one"
    assert [(job.name, job.per_class) for job in choose_jobs(None, True)] == [
        (job.name, job.per_class // 2) for job in JOBS if job.name not in ("vgg16", "many")
    ]
    assert [job.name for job in choose_jobs(["vgg16"], True)] == ["vgg16"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--jobs", "haed"], "no job named 'haed'.*did you mean 'head'"),
        (["--contestants", "karas"], "no contestant named 'karas'.*did you mean 'keras'"),
        (["--repeats", "0"], "--repeats 0; give a whole number of 1 or more"),
        (["--json", "no/such.json"], "there is no folder no; make it"),
        (["--peers", "python3"], "--peers belongs to `course bench grading`; leave it out, or measure grading"),
        (["grading", "--jobs", "head"], "--jobs belongs to `course bench training`; leave it out, or measure training"),
    ],
)
def test_what_will_not_do_is_said_before_anything_runs(arguments, words, capsys, monkeypatch):
    for module, name in ((runner, "run_once"), (grading_bench, "make_job")):
        monkeypatch.setattr(module, name, lambda *_: pytest.fail("something ran"))
    assert cli.main(["bench", *arguments]) == 2
    assert re.search(words, capsys.readouterr().err)


def test_every_package_of_the_peers_is_pinned():
    lines = (HOME / "requirements-bench.txt").read_text().splitlines()
    assert lines[0] == "-r requirements-dev.txt"
    ours = {line.split("==")[0] for line in (HOME / "requirements.txt").read_text().splitlines()}
    needed = {package for needs in CONTESTANTS.values() for package in needs}
    assert {line.split("==")[0] for line in lines[1:]} == needed - ours


# -------------------------------------------------------------------------------------------------------- the command


@pytest.fixture
def played(monkeypatch, tmp_path):
    """The command on small pictures, with runs that are made up; where it put the pictures."""
    places = []
    seconds = {"limit": 1.25, "limit+folded": 1.0, "plain": 9.0, "fit": 8.0, "reuse": 1.1, "plain+bf16": 5.0}
    monkeypatch.setattr(runner, "has_bfloat16", lambda: True)

    def run_once(job, name, pictures, threads):
        places.append(pictures)
        assert len(list(pictures.glob("*/*/*.png"))) == 12 * job.per_class
        return run(name, seconds[name], None if is_limit(name) else 0.8, job.name)

    monkeypatch.setattr(jobs, "JOBS", [replace(job, per_class=4) for job in JOBS])
    monkeypatch.setattr(runner, "run_once", run_once)
    monkeypatch.setattr(jobs, "find_spec", lambda package: None if package in ("onnxruntime", "openvino") else object())
    return places


def test_the_command_takes_turns_prints_and_writes(played, capsys, tmp_path):
    path = tmp_path / "found.json"
    names = ["--contestants", "plain", "fit", "reuse"]
    assert cli.main(["bench", "--quick", "--jobs", "head", "everything", "--repeats", "2", *names, "--json", str(path)]) == 0
    said = capsys.readouterr()
    found = json.loads(path.read_text())
    assert [(one["job"], one["contestant"]) for one in found["runs"]] == [
        *[("head", name) for name in ("limit", "limit+folded", "plain", "fit", "reuse")] * 2,
        *[("everything", name) for name in ("plain", "fit", "reuse")] * 6,
    ]
    assert "[28/28] everything · reuse: CPU 1.1 s, wall 0.6 s, accuracy 0.80" in said.err
    assert "× limit" in said.out
    assert found["machine"]["threads"] == found["machine"]["cores"]
    assert {"date", "versions", "jobs"} < found.keys()
    assert [round(row["to_limit"], 2) for row in found["rows"] if row["job"] == "head"] == [1.25, 1.0, 9.0, 8.0, 1.1]
    assert not any(place.exists() for place in played)


def test_of_many_pictures_there_are_limits_ours_and_the_plain_loop_alone(played, capsys):
    assert cli.main(["bench", "--jobs", "many", "--repeats", "1", "--contestants", "plain", "fit", "reuse"]) == 0
    said = capsys.readouterr()
    assert re.findall(r"many · ([^:]+): CPU", said.err) == ["limit", "limit+folded", "plain", "reuse"]
    assert "many: reuse takes 1.10 × the CPU seconds of limit+folded; at most 1.1: " in said.out


def test_where_bfloat16_is_imitated_mixed_precision_is_left_out_with_a_word(played, monkeypatch, capsys):
    monkeypatch.setattr(runner, "has_bfloat16", lambda: False)
    assert cli.main(["bench", "--quick", "--jobs", "head", "--contestants", "plain", "plain+bf16"]) == 0
    said = capsys.readouterr()
    assert "plain+bf16" not in said.err
    assert "left out: plain+bf16; this processor emulates bfloat16" in said.out


def test_only_torch_says_whether_the_processor_has_bfloat16():
    assert runner.has_bfloat16() == devices.has_bfloat16(torch.device("cpu"))


def test_stopped_by_hand_it_leaves_no_folder(played, monkeypatch, capsys):
    def stop(job, name, pictures, threads):
        played.append(pictures)
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "run_once", stop)
    assert cli.main(["bench", "--jobs", "head"]) == 130
    assert played
    assert not any(Path(place).parent.exists() for place in played)


def test_the_one_who_starts_the_others_stays_small():
    code = "import sys, course_utils.tools.bench.runner; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0, "its memory would count for its children"
