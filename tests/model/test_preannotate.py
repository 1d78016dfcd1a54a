"""`bird preannotate`: what it writes, how it goes on, and what makes it stop."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

import nibabel
import numpy as np
import psutil
import pytest
import typer
from filelock import FileLock
from PIL import Image
from typer.testing import CliRunner, Result

from bird_vlm.commands import preannotate
from bird_vlm.engine import Engine
from bird_vlm.preannotation.cases import Case
from bird_vlm.preannotation.job import Job
from bird_vlm.preannotation.records import Record, read_record
from bird_vlm.preannotation.run import run
from bird_vlm.preannotation.wanted import Wanted
from bird_vlm.preannotation.workers import OtherProcess
from bird_vlm.tensor_cache import TensorCache

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(preannotate.preannotate)

LABELS = ("--label", "liver expected", "--label", "brain stem")
PROGRAM = (
    "import typer; from bird_vlm.commands.preannotate import preannotate; "
    "app = typer.Typer(pretty_exceptions_enable=False); app.command()(preannotate); app()"
)


@pytest.fixture(autouse=True)
def one_model_for_all(bird_mini: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    share(bird_mini, monkeypatch)


def share(bird_mini: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs in this process take the loaded model, with nothing remembered of earlier ones."""

    def load(model: str, running: object) -> Engine:
        monkeypatch.setattr(bird_mini, "features", TensorCache())
        return bird_mini

    monkeypatch.setattr("bird_vlm.engine.load_engine", load)


def ask(root: Path, *arguments: object) -> Result:
    return CliRunner().invoke(app, [str(part) for part in (root, *arguments)])


def out_of(root: Path) -> Path:
    return root / ".bird/preannotation"


def index_of(out: Path) -> dict:
    return json.loads((out / "index.json").read_text())


def rows_of(out: Path) -> dict[str, dict]:
    return {row["case"]: row for row in index_of(out)["cases"]}


def outputs(out: Path) -> dict[str, bytes | object]:
    """Every file of a run; of JSON and HTML all but the times."""
    found = {}
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        data: bytes | object = path.read_bytes()
        if path.suffix == ".json":
            data = re.sub(rb'"timing_s": \{[^}]*\}', b"", data)
        elif path.suffix == ".html":
            data = re.sub(rb'(seconds"[^>]*>)[^<]*', rb"\1", data)
            data = re.sub(rb'(seconds" data-sort=")[^"]*', rb"\1", data)
        found[path.relative_to(out).as_posix()] = data
    return found


def save_noise(path: Path, seed: int, shape: tuple[int, int, int] = (16, 16, 4)) -> Path:
    """A scan in which nothing is to be found, of other voxels for every seed."""
    values = np.random.default_rng(seed).normal(0, 200, shape).astype(np.int16)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([2.0, 2.0, 3.0, 1.0])), path)
    return path


def save_ward(root: Path) -> Path:
    for seed, name in enumerate(("a/scan.nii.gz", "b/scan.nii.gz", "b/Jörg & <b>.nii.gz")):
        save_noise(root / name, seed)
    Image.fromarray(np.full((40, 50, 3), 160, np.uint8)).save(root / "skin.jpg")
    cut = save_noise(root / "cut.nii.gz", 9)
    cut.write_bytes(cut.read_bytes()[:1000])
    return root


@pytest.fixture
def a_ward(tmp_path) -> Path:
    """Four scans that can be read, in two folders, and one that is cut short."""
    return save_ward(tmp_path / "ward")


@pytest.fixture(scope="module")
def the_annotated_ward(bird_mini, tmp_path_factory) -> Path:
    """Asked once for all tests; to be copied."""
    root = save_ward(tmp_path_factory.mktemp("once") / "ward")
    with pytest.MonkeyPatch.context() as patch:
        share(bird_mini, patch)
        assert ask(root, *LABELS).exit_code == 1
    return root


@pytest.fixture
def an_annotated_ward(the_annotated_ward, tmp_path) -> Path:
    """The same scans, with the results of a finished run in the usual place."""
    return Path(shutil.copytree(the_annotated_ward, tmp_path / "ward"))


def test_a_brain_is_annotated_with_all_that_is_promised(mni152_file, tmp_path):
    root = tmp_path / "studies"
    root.mkdir()
    (root / "brain.nii.gz").symlink_to(mni152_file)
    shutil.copyfile(mni152_file, root / "mni.nii.gz")
    labels = tmp_path / "labels.txt"
    labels.write_text("# a brain has no liver\nliver expected\nbrain stem expected\n")
    result = ask(root, "--labels", labels, "--coarse")
    assert result.exit_code == 0, result.output
    assert "1 with an expected organ missing" in result.output
    assert "a link that leads out of the folder" in result.output

    out = out_of(root)
    [row] = index_of(out)["cases"]
    assert row["case"] == "mni.nii.gz"
    assert (row["status"], row["missing"], row["absent"]) == ("done", ["liver"], ["liver"])
    assert {finding["label"] for finding in row["findings"]} == {"brain stem"}
    assert 0 < row["asked"] < 2 * 189
    assert row["timing_s"]["total"] >= row["timing_s"]["encode"] > 0
    answer = json.loads((out / row["files"]["result"]).read_text())
    assert answer["volume"]["shape_ijk"] == row["shape_ijk"] == [197, 233, 189]
    assert len(answer["findings"]) == len(row["findings"])
    assert json.loads((out / row["files"]["markups"]).read_text())["markups"][0]["type"] == "ROI"
    with Image.open(out / row["files"]["thumbnail"]) as picture:
        assert max(picture.size) == 360
        assert np.ptp(np.asarray(picture).astype(int), axis=-1).max() > 60  # a coloured box
    assert index_of(out)["skipped"] == [
        {"name": "brain.nii.gz", "reason": "a link that leads out of the folder"}
    ]
    assert not list(out.rglob("*.unfinished"))


class TestFailures:
    def test_one_bad_scan_does_not_stop_the_others(self, a_ward):
        result = ask(a_ward, *LABELS)
        assert result.exit_code == 1, result.output
        rows = rows_of(out_of(a_ward))
        assert [name for name, row in rows.items() if row["status"] == "failed"] == ["cut.nii.gz"]
        assert rows["cut.nii.gz"]["error"].startswith("cannot be read (")
        assert str(a_ward) not in rows["cut.nii.gz"]["error"]
        assert {row["status"] for name, row in rows.items() if name != "cut.nii.gz"} == {"done"}
        assert index_of(out_of(a_ward))["counts"]["failed"] == 1
        assert result.output.count("cut.nii.gz: ") == 2  # when it happened, and in the end

    def test_a_failure_is_kept_until_it_is_asked_for_or_mended(self, an_annotated_ward):
        assert "[1/" not in ask(an_annotated_ward, *LABELS).output
        again = ask(an_annotated_ward, *LABELS, "--retry-failed")
        assert "[1/1] cut.nii.gz: failed" in again.output
        save_noise(an_annotated_ward / "cut.nii.gz", 9)
        mended = ask(an_annotated_ward, *LABELS)
        assert mended.exit_code == 0, mended.output
        assert "[1/1] cut.nii.gz: 0 findings" in mended.output

    def test_a_scan_that_breaks_leaves_nothing_of_its_old_answer(self, an_annotated_ward):
        scan = an_annotated_ward / "a/scan.nii.gz"
        scan.write_bytes(b"broken")
        assert ask(an_annotated_ward, *LABELS).exit_code == 1
        row = rows_of(out_of(an_annotated_ward))["a/scan.nii.gz"]
        assert (row["status"], row["files"]) == ("failed", {})
        folder = out_of(an_annotated_ward) / "cases" / Case("a/scan.nii.gz", ()).folder
        assert [path.name for path in folder.iterdir()] == ["case.json"]

    def test_what_nobody_foresaw_is_one_case_too(self, a_ward, bird_mini, monkeypatch, caplog):
        encode, calls = bird_mini.encode, []

        def fail_once(pictures):
            calls.append(1)
            if len(calls) == 1:
                raise KeyError("nobody")
            return encode(pictures)

        monkeypatch.setattr(bird_mini, "encode", fail_once)
        assert ask(a_ward, *LABELS).exit_code == 1
        rows = rows_of(out_of(a_ward))
        [error] = [r["error"] for n, r in rows.items() if r["error"] and n != "cut.nii.gz"]
        assert "KeyError" in error
        assert "Traceback" in caplog.text

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            pytest.param((), "labels: give 1 to", id="no labels"),
            pytest.param(("--label", "unicorn"), "'unicorn' not in this model's", id="unknown"),
            pytest.param((*LABELS, "--plane", "oblique"), "plane: must be", id="plane"),
            pytest.param((*LABELS, "--threshold", "2"), "threshold: must", id="threshold"),
            pytest.param((*LABELS, "--model", "nothing"), "model: 'nothing' is no", id="model"),
            pytest.param((*LABELS, "--window", "x"), "window: needs", id="window"),
        ],
    )
    def test_a_wrong_question_is_refused_before_anything_is_written(
        self, arguments, message, a_ward
    ):
        result = ask(a_ward, *arguments)
        assert result.exit_code == 2
        assert message in result.output
        assert not out_of(a_ward).exists()

    def test_a_folder_without_scans(self, tmp_path):
        (tmp_path / "notes.txt").touch()
        result = ask(tmp_path, *LABELS)
        assert result.exit_code == 2
        assert "holds no scans (1 things skipped)" in result.output

    def test_results_never_mix_with_files_from_elsewhere(self, a_ward, tmp_path):
        (tmp_path / "full").mkdir()
        (tmp_path / "full/thesis.txt").write_text("years of work")
        result = ask(a_ward, *LABELS, "--out", tmp_path / "full")
        assert result.exit_code == 2
        assert "holds files from elsewhere" in result.output
        assert (tmp_path / "full/thesis.txt").read_text() == "years of work"

    def test_out_must_be_a_folder(self, a_ward, tmp_path):
        (tmp_path / "file").touch()
        result = ask(a_ward, *LABELS, "--out", tmp_path / "file/out")
        assert (result.exit_code, "--out" in result.output) == (2, True)

    def test_two_runs_do_not_write_to_the_same_folder(self, a_ward):
        out_of(a_ward).mkdir(parents=True)
        with FileLock(out_of(a_ward) / ".lock"):
            result = ask(a_ward, *LABELS)
        assert result.exit_code == 2
        assert "another run writes to" in result.output


class TestResuming:
    @pytest.fixture
    def unbroken(self, the_annotated_ward) -> dict[str, bytes | object]:
        return outputs(out_of(the_annotated_ward))

    @pytest.mark.parametrize("after", [1, 4, 9])
    def test_an_interruption_changes_nothing(self, a_ward, unbroken, after, bird_mini, monkeypatch):
        """Ctrl-C in the middle of a case, wherever that is."""
        encode, calls = bird_mini.encode, []

        def interrupt(pictures):
            calls.append(1)
            if len(calls) == after:
                raise KeyboardInterrupt
            return encode(pictures)

        with monkeypatch.context() as patch:
            patch.setattr(bird_mini, "encode", interrupt)
            result = ask(a_ward, *LABELS)
        assert result.exit_code == 130
        assert "the same command goes on" in result.output
        assert index_of(out_of(a_ward))["counts"]["pending"] > 0  # what is done can be seen
        assert ask(a_ward, *LABELS).exit_code == 1
        assert outputs(out_of(a_ward)) == unbroken

    def test_what_is_done_is_not_asked_again(self, an_annotated_ward, bird_mini, monkeypatch):
        before = outputs(out_of(an_annotated_ward))
        monkeypatch.setattr("bird_vlm.engine.load_engine", lambda *_: pytest.fail("loaded"))
        assert ask(an_annotated_ward, *LABELS).exit_code == 1
        assert outputs(out_of(an_annotated_ward)) == before

    @pytest.mark.parametrize(
        "spoil",
        [
            pytest.param(lambda folder: (folder / "case.json").unlink(), id="no record"),
            pytest.param(lambda folder: (folder / "case.json").write_text("{"), id="half a record"),
            pytest.param(lambda folder: (folder / "result.json").unlink(), id="no result"),
            pytest.param(lambda folder: (folder / "left.unfinished").touch(), id="rubbish"),
        ],
    )
    def test_half_a_case_is_asked_again(self, spoil, an_annotated_ward, unbroken):
        folder = out_of(an_annotated_ward) / "cases" / Case("a/scan.nii.gz", ()).folder
        spoil(folder)
        if (folder / "left.unfinished").exists():
            (folder / "case.json").unlink()
        result = ask(an_annotated_ward, *LABELS)
        assert "[1/1] a/scan.nii.gz" in result.output
        assert outputs(out_of(an_annotated_ward)) == unbroken

    def test_a_scan_that_changed_or_came_is_asked(self, an_annotated_ward):
        save_noise(an_annotated_ward / "a/scan.nii.gz", 77)
        save_noise(an_annotated_ward / "new.nii.gz", 78)
        (an_annotated_ward / "skin.jpg").unlink()
        result = ask(an_annotated_ward, *LABELS)
        assert re.findall(r"\] (\S+):", result.output) == ["a/scan.nii.gz", "new.nii.gz"]
        assert "skin.jpg" not in rows_of(out_of(an_annotated_ward))

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            pytest.param(("--label", "liver"), "labels: now without 'brain stem'", id="fewer"),
            pytest.param((*LABELS, "--label", "spleen"), "now with 'spleen'", id="more"),
            pytest.param(LABELS[2:] + LABELS[:2], "in another order", id="order"),
            pytest.param((*LABELS, "--coarse"), "search: exhaustive, now coarse", id="search"),
            pytest.param((*LABELS, "--plane", "coronal"), "plane: axial, now coronal", id="plane"),
            pytest.param((*LABELS, "--threshold", ".4"), "threshold: 0.5, now 0.4", id="threshold"),
            pytest.param((*LABELS, "--precision", "bfloat16"), "precision: auto", id="precision"),
        ],
    )
    def test_another_question_is_refused_and_changes_nothing(
        self, changed, message, an_annotated_ward
    ):
        before = outputs(out_of(an_annotated_ward))
        result = ask(an_annotated_ward, *changed)
        assert result.exit_code == 2
        assert message in result.output
        assert "--again" in result.output
        assert outputs(out_of(an_annotated_ward)) == before

    def test_another_model_is_refused_though_its_name_is_the_same(self, a_ward, tmp_path):
        from bird_vlm.catalogue.installed import shipped_folder

        model = Path(shutil.copytree(shipped_folder("bird-mini"), tmp_path / "model"))
        for path in a_ward.glob("*/*"):
            path.unlink()
        ask(a_ward, *LABELS, "--model", model)
        weights = model / "model.safetensors"
        weights.chmod(0o644)
        data = bytearray(weights.read_bytes())
        data[-3] ^= 1  # one bit of the weights
        weights.write_bytes(data)
        result = ask(a_ward, *LABELS, "--model", model)
        assert result.exit_code == 2
        assert "holds answers to other model (weights)" in result.output

    def test_again_asks_everything_and_leaves_nothing_old(self, a_ward, unbroken):
        save_noise(a_ward / "gone.nii.gz", 3)
        ask(a_ward, "--label", "spleen")
        (a_ward / "gone.nii.gz").unlink()
        ask(a_ward, *LABELS, "--again")
        assert outputs(out_of(a_ward)) == unbroken

    def test_an_expectation_may_change_without_asking_again(self, an_annotated_ward):
        named = ("--label", "liver expected a/*", "--label", "brain stem")
        result = ask(an_annotated_ward, *named)
        assert result.exit_code == 1
        assert "[1/" not in result.output
        flagged = [
            name for name, row in rows_of(out_of(an_annotated_ward)).items() if row["missing"]
        ]
        assert set(flagged) <= {"a/scan.nii.gz"}

    def test_an_expectation_that_fits_no_case_is_told(self, a_ward):
        result = ask(a_ward, "--label", "liver expected abdomn/*")
        assert "'abdomn/*', which is the name of no case" in result.output


class TestPage:
    def test_names_and_errors_are_escaped(self, a_ward):
        save_noise(a_ward / "a\"'><img src=x onerror=alert(1)>.nii.gz", 5)
        broken = a_ward / "<svg onload=alert(2)>.nii.gz"
        broken.write_bytes(b"no scan")
        ask(a_ward, *LABELS)
        page = (out_of(a_ward) / "index.html").read_text(encoding="utf-8")
        assert "&lt;svg onload" in page
        assert "b/Jörg &amp; &lt;b&gt;.nii.gz" in page
        assert not re.search(r"<(svg|img src=x|b>\.nii)", page)
        tags = re.findall(r"<(img|script|link|iframe)\b([^>]*)", page)
        assert {name for name, _ in tags} == {"img", "script"}
        assert all(
            re.search(r'src="cases/[^":]+thumbnail\.png"', rest) for n, rest in tags if n == "img"
        )
        assert not re.search(r"https?://|//\w+\.", page)

    def test_links_lead_to_files(self, an_annotated_ward):
        page = (out_of(an_annotated_ward) / "index.html").read_text(encoding="utf-8")
        links = set(re.findall(r'(?:src|href)="([^"]+)"', page))
        assert len(links) == 3 * 4
        assert all((out_of(an_annotated_ward) / unquote(link)).is_file() for link in links)

    def test_flags_are_on_the_page(self, an_annotated_ward):
        page = (out_of(an_annotated_ward) / "index.html").read_text(encoding="utf-8")
        missing = sum(bool(row["missing"]) for row in rows_of(out_of(an_annotated_ward)).values())
        assert missing
        assert page.count('<b class="flag warn">expected organ missing</b>') == missing
        assert page.count('<b class="flag bad">failed</b>') == 1


@contextmanager
def started(root: Path, *arguments: object) -> Iterator[subprocess.Popen]:
    """The command in a process of its own, which does not outlive the test."""
    command = [sys.executable, "-c", PROGRAM, root, *LABELS, *arguments]
    running = subprocess.Popen(
        [str(part) for part in command],
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield running
    finally:
        running.kill()
        running.wait()


def wait_for(what: Callable[[], bool], running: subprocess.Popen | None = None) -> None:
    deadline = time.monotonic() + 400
    while not what():
        assert running is None or running.poll() is None, running.communicate()[0]
        assert time.monotonic() < deadline, "took too long"
        time.sleep(0.05)


def records_in(out: Path) -> int:
    return len(list(out.glob("cases/*/case.json")))


@pytest.fixture
def a_long_list(tmp_path) -> Path:
    """Scans that take a while, so that a signal finds a run at work."""
    root = tmp_path / "long"
    for seed in range(8):
        save_noise(root / f"{seed}.nii.gz", seed, (32, 32, 24))
    return root


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_ends_cleanly_and_kill_loses_one_case_at_most(a_long_list, workers, tmp_path):
    unbroken = tmp_path / "unbroken"
    assert ask(a_long_list, *LABELS, "--out", unbroken).exit_code == 0
    out = out_of(a_long_list)
    for sent, status in ((signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)):
        before = records_in(out)
        with started(a_long_list, "--workers", workers) as running:
            wait_for(lambda before=before: records_in(out) > before, running)
            workers_of = psutil.Process(running.pid).children(recursive=True)
            if sent == signal.SIGINT:
                os.killpg(running.pid, sent)  # as a terminal does: to every process
            else:
                running.send_signal(sent)
            told, _ = running.communicate(timeout=400)
        assert running.returncode == status, told
        assert "Traceback" not in told
        psutil.wait_procs(workers_of, timeout=60)
        assert not [one for one in workers_of if one.is_running()]  # nobody goes on alone
    assert 2 <= records_in(out) < 8
    assert ask(a_long_list, *LABELS).exit_code == 0
    assert outputs(out) == outputs(unbroken)


class Poison:
    """Watches a run, and kills the worker that gets a certain case."""

    def __init__(self, name: str) -> None:
        self.name, self.records = name, {}

    def started(self, case: Case) -> None:
        if case.name == self.name:
            threading.Thread(target=self._kill).start()

    def finished(self, case: Case, record: Record) -> None:
        self.records[case.name] = record

    def _kill(self) -> None:
        wait_for(lambda: bool(self._workers()))
        for worker in self._workers():
            worker.kill()

    def _workers(self) -> list[psutil.Process]:
        children = psutil.Process().children()
        return [one for one in children if "spawn_main" in " ".join(one.cmdline())]


@pytest.mark.slow
def test_a_worker_that_dies_costs_its_case_only(tmp_path):
    cases = [Case(f"{n}", (save_noise(tmp_path / f"{n}.nii.gz", n),)) for n in range(3)]
    job = Job(tmp_path / "out", (Wanted("liver"),), asked_for="test")
    watcher = Poison("0")
    run(job, cases, [OtherProcess(job, threads=1)], watcher)
    assert {name: record.status for name, record in watcher.records.items()} == {
        **{"0": "failed"},
        **{"1": "done", "2": "done"},
    }
    assert "died" in watcher.records["0"].error
    assert read_record(job.out, cases[0]) == watcher.records["0"]


@pytest.mark.slow
def test_ray_leaves_the_same_files(a_ward, the_annotated_ward, tmp_path):
    pytest.importorskip("ray", reason="needs the optional Ray")
    there = tmp_path / "by ray"
    result = ask(a_ward, *LABELS, "--engine", "ray", "--workers", 2, "--out", there)
    assert result.exit_code == 1, result.output
    assert outputs(there) == outputs(out_of(the_annotated_ward))


def test_ray_is_named_where_it_is_missing(a_ward, monkeypatch):
    monkeypatch.setattr("bird_vlm.preannotation.ray_workers.find_spec", lambda name: None)
    result = ask(a_ward, *LABELS, "--engine", "ray")
    assert (result.exit_code, "Ray is missing" in result.output) == (2, True)
