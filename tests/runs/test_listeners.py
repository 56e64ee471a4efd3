"""Who hears of a head and a bench: objects, TensorBoard's files and MLflow's store, read back."""

from __future__ import annotations

import json
import logging
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import probe
from probe.bench.record import load_bench
from probe.core.version import __version__
from probe.errors import UsageError
from probe.heads.history import Epoch, load_history
from probe.runs import fit as fitting
from probe.runs import mlflow_client
from probe.runs.listeners import RunEnd, RunStart, names_of
from probe.runs.results import read_run
from tests.commands import invoke
from tests.events import events, scalars


class Ears(probe.Listener):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.starts: list[RunStart] = []
        self.epochs: list[Epoch] = []
        self.ends: list[RunEnd] = []
        self.order: list[str] = []

    def started(self, run: RunStart) -> None:
        self.starts.append(run)
        self.order.append(run.kind)

    def epoch(self, epoch: Epoch, steps: Sequence[Mapping[str, float]]) -> None:
        assert not steps
        self.epochs.append(epoch)
        self.order.append("epoch")

    def ended(self, end: RunEnd) -> None:
        self.ends.append(end)
        self.order.append(end.status)


class Bad(Ears):
    """Fails from some method on."""

    def __init__(self, method: str) -> None:
        super().__init__()
        self.method = method

    def fail(self, method: str) -> None:
        if method == self.method:
            raise OSError(28, "No space left on\ndevice")

    def started(self, run: RunStart) -> None:
        super().started(run)
        self.fail("started")

    def epoch(self, epoch: Epoch, steps: Sequence[Mapping[str, float]]) -> None:
        super().epoch(epoch, steps)
        self.fail("epoch")

    def ended(self, end: RunEnd) -> None:
        super().ended(end)
        self.fail("ended")


@pytest.fixture
def cache(digits_cache: Path, tmp_path: Path) -> Path:
    return Path(
        shutil.copytree(digits_cache, tmp_path / "cache", ignore=shutil.ignore_patterns("runs"))
    )


def fit(cache: Path, **options: Any) -> probe.Run:
    return probe.fit(cache_dir=cache, quiet=True, **options)


def entry(cache: Path) -> str:
    return next((cache / "features").glob("*.h5")).stem


def figures_of(folder: Path) -> dict[str, float]:
    result = read_run(folder)
    told = {f"{split}/{name}": value for split, own in result.metrics.items()
            for name, value in own.items()}  # fmt: skip
    return {**told, "seconds": result.seconds}


def test_a_head_is_heard_from_its_start_to_its_figures(cache: Path) -> None:
    ears = Ears()
    run = fit(cache, epochs=4, log=ears)
    assert ears.order == ["head", *["epoch"] * 4, "finished"]
    (start,), (end,) = ears.starts, ears.ends
    assert (start.name, start.folder) == (run.name, run.folder)
    assert start.tags["dataset"] == "digits"
    assert start.tags["backbone"] == "efficientnet_lite0"
    assert start.tags["weights"] == run.result.weights != ""
    assert (start.tags["head"], start.tags["probe"]) == ("dense", __version__)
    assert start.tags["entry"] == entry(cache)
    assert start.params["epochs"] == 4
    assert start.params.items() <= run.result.params.items()
    assert ears.epochs == load_history(run.folder)
    assert (end.folder, end.params, end.figures) == (
        run.folder, run.result.params, figures_of(run.folder),
    )  # fmt: skip


def test_what_is_searched_comes_at_the_end_and_so_do_its_epochs(cache: Path) -> None:
    ears = Ears()
    run = fit(cache, head="dense", epochs=3, lr=[0.001, 0.01], log=[ears])
    assert "lr" not in ears.starts[0].params
    assert ears.ends[0].params["lr"] == run.result.params["lr"]
    assert ears.order == ["head", *["epoch"] * 3, "finished"]
    assert ears.epochs == load_history(run.folder)


def test_runs_of_a_bench_are_within_it(cache: Path) -> None:
    options: dict[str, Any] = {"heads": "ridge,prototype", "cache_dir": cache, "quiet": True}
    bench = probe.bench(None, entry(cache), **options)
    ears = Ears()
    again = probe.bench(None, entry(cache), log=ears, **options)  # what is found again is told, too
    assert ears.order == ["bench", "head", "finished", "head", "finished", "finished"]
    assert ears.starts[0].folder is None
    assert ears.starts[0].params["heads"] == "ridge,prototype"
    rows = [again.run(one) for one in again.rows]
    assert [one.folder for one in ears.ends] == [*(one.folder for one in rows), again.folder]
    assert [one.folder for one in ears.starts[1:]] == [one.folder for one in rows]
    assert [bench.run(one).folder for one in bench.rows] == [one.folder for one in rows]
    assert [dict(one.figures) for one in ears.ends[:2]] == [figures_of(one.folder) for one in rows]
    assert again.verdict in ears.ends[-1].note
    assert ears.ends[-1].figures["digits/top1"] == again.winner.metrics["val"]["top1"]


def test_a_damaged_history_of_a_row_that_is_found_again_costs_its_epochs_alone(
    cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options: dict[str, Any] = {"heads": "dense,ridge", "cache_dir": cache, "quiet": True}
    first = probe.bench(None, entry(cache), **options)
    (damaged,) = [one for one in first.rows if first.run(one).result.head == "dense"]
    (first.run(damaged).folder / "history.csv").write_text("no\nhistory\n")
    again = probe.bench(None, entry(cache), **options)  # nobody listens, and nothing is read
    assert [one.run for one in again.rows] == [one.run for one in first.rows]
    assert "history" not in caplog.text
    ears = Ears()
    probe.bench(None, entry(cache), log=ears, **options | {"quiet": False})
    assert ears.order.count("finished") == 3
    assert not ears.epochs
    assert "its epochs are not told" in caplog.text


def test_a_name_that_mlflow_refuses_is_written_otherwise() -> None:
    assert mlflow_client._named("cats & dogs (2)/top1") == "cats _ dogs _2_/top1"
    assert mlflow_client._named("val/macro_f1-a.b") == "val/macro_f1-a.b"


@pytest.mark.parametrize("method", ["started", "epoch", "ended"])
def test_one_that_fails_is_told_once_and_ends_nothing(
    cache: Path, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    bad, ears = Bad(method), Ears()
    run = probe.fit(cache_dir=cache, epochs=3, log=[bad, ears])
    assert (run.folder / "result.json").is_file()
    assert ears.order == ["head", *["epoch"] * 3, "finished"]
    assert bad.order == ears.order[: {"started": 1, "epoch": 2, "ended": 5}[method]]
    (line,) = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert line == "Bad hears no more of this run: OSError: [Errno 28] No space left on device"


@pytest.mark.parametrize(
    ("error", "status"), [(OSError("?"), "failed"), (KeyboardInterrupt(), "stopped")]
)
def test_a_run_that_does_not_end_well_says_so(
    cache: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, status: str
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("probe.screen.heads.keep_run", fails)
    assert fitting.keep_run is not fails
    ears = Ears()
    with pytest.raises(type(error)):
        fit(cache, epochs=1, log=ears)
    assert ears.order == ["head", "epoch", status]


def test_tensorboard_reads_what_the_run_recorded(cache: Path) -> None:
    pytest.importorskip("tensorboardX")
    said = json.loads(
        invoke(
            "head", "--epochs", "3", "--log", "tensorboard", "--cache-dir", cache, "--json"
        ).stdout
    )
    folder = Path(said["run"])
    found = scalars(folder / "tensorboard")
    history = load_history(folder)
    for name in ("train_loss", "val_loss", "train_top1", "val_top1", "lr", "seconds"):
        expected = [(one.epoch, pytest.approx(getattr(one, name))) for one in history]
        assert found[f"epoch/{name}"] == expected
    for name, value in figures_of(folder).items():
        assert found[name] == [(3, pytest.approx(value))]
    tags = [one.tag for event in events(folder / "tensorboard") for one in event.summary.value]
    assert "_hparams_/session_start_info" in tags


def test_tensorboard_has_a_file_for_each_row_and_none_twice(cache: Path) -> None:
    pytest.importorskip("tensorboardX")
    asked = (
        "bench",
        "--backbones",
        entry(cache),
        "--heads",
        "ridge,prototype",
        "--cache-dir",
        cache,
    )
    invoke(*asked)
    for _ in range(2):
        found = json.loads(invoke(*asked, "--log", "tensorboard", "--json").stdout)
        bench = load_bench(Path(found["folder"]))
        for row in bench.rows:
            folder = cache / "runs" / str(row.run)
            (told,) = scalars(folder / "tensorboard")["val/top1"]
            assert told == (0, pytest.approx(row.metrics["val"]["top1"]))


def test_a_disk_without_room_for_events_costs_one_line(cache: Path) -> None:
    """A run whose files may not grow beyond some bytes, which its events would."""
    pytest.importorskip("tensorboardX")
    code = (
        "import resource, signal, sys, probe.runs.tensorboard as t, probe.cli.app as a\n"
        "write = t.Listener._write\n"
        "def full(self, events):\n"
        "    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (100, -1))\n"
        "    try: write(self, events)\n"
        "    finally: resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))\n"
        "t.Listener._write = full\n"
        "a.main()"
    )
    words = ["head", "--epochs", "2", "--log", "tensorboard", "--cache-dir", str(cache)]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stderr.splitlines() if "tensorboard" in line]
    assert told == [
        "WARNING: tensorboard hears no more of this run: OSError: [Errno 27] File too large"
    ]
    assert "Traceback" not in done.stderr
    assert len(list(cache.glob("runs/*/result.json"))) == 1


def test_names_and_objects_that_are_no_listeners(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        UsageError, match="--log tensorbord: there is no such listener; did you mean"
    ):
        invoke("head", "--log", "tensorbord")
    with pytest.raises(UsageError, match="log has a int, which is no listener: give a name"):
        probe.fit(log=3)
    with pytest.raises(UsageError, match="log has a object"):
        probe.bench("digits", "vgg16", log=["tensorboard", object()])
    monkeypatch.setattr("probe.runs.listeners.find_spec", lambda _: None)
    with pytest.raises(
        UsageError, match=r"--log mlflow needs mlflow: pip install 'frozen-probe\[mlflow\]'"
    ):
        invoke("bench", "--backbones", "vgg16", "--log", "mlflow")
    assert names_of(["tensorboard, mlflow", Ears()]) == ("tensorboard", "mlflow")
    with pytest.raises(UsageError, match="--tensorboard is now --log tensorboard"):
        invoke("promote", "--tensorboard")


own_warnings = pytest.mark.filterwarnings("ignore")  # of MLflow and what it imports


@pytest.fixture
def mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """MLflow with a store of its own, in a file."""
    monkeypatch.setenv("DO_NOT_TRACK", "true")
    pytest.importorskip("mlflow", reason="MLflow is not installed: pip install mlflow")
    pytest.importorskip("sqlalchemy")
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "digits of mine")
    yield mlflow
    assert mlflow.active_run() is None


def runs_of(mlflow: Any) -> list[Any]:
    """Return the runs in the store, the first one first."""
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("digits of mine")
    return client.search_runs([experiment.experiment_id], order_by=["attributes.start_time"])


@own_warnings
def test_mlflow_has_a_heads_parameters_figures_and_tags(cache: Path, mlflow: Any) -> None:
    run = fit(cache, epochs=3, lr=[0.001, 0.01], log="mlflow")
    (found,) = runs_of(mlflow)
    assert (found.info.status, found.info.run_name) == ("FINISHED", run.name)
    expected = {name: str(value) for name, value in run.result.params.items() if value is not None}
    assert found.data.params == expected
    for name, value in figures_of(run.folder).items():
        assert found.data.metrics[name] == pytest.approx(value)
    curve = mlflow.MlflowClient().get_metric_history(found.info.run_id, "epoch/val_top1")
    history = load_history(run.folder)
    assert [(one.step, one.value) for one in curve] == [
        (one.epoch, one.val_top1) for one in history
    ]
    assert found.data.tags["folder"] == str(run.folder.resolve())
    assert found.data.tags["dataset"] == "digits"
    assert found.data.tags["probe"] == __version__
    assert found.data.tags["weights"] == run.result.weights


@own_warnings
def test_mlflow_has_rows_within_their_bench_and_that_within_a_run_of_yours(
    cache: Path, mlflow: Any
) -> None:
    with mlflow.start_run(run_name="mine"):
        bench = probe.bench(None, entry(cache), heads="ridge,prototype", log="mlflow",
                            cache_dir=cache, quiet=True)  # fmt: skip
        mlflow.log_param("mine", 1)
    mine, outer, *rows = runs_of(mlflow)
    parents = [one.data.tags.get("mlflow.parentRunId") for one in (mine, outer, *rows)]
    assert parents == [None, mine.info.run_id, *[outer.info.run_id] * 2]
    assert outer.data.tags["folder"] == str(bench.folder.resolve())
    assert bench.verdict in outer.data.tags["mlflow.note.content"]
    assert [one.data.tags["head"] for one in rows] == ["ridge", "prototype"]
    assert mine.data.params == {"mine": "1"}
    assert {one.info.status for one in (mine, outer, *rows)} == {"FINISHED"}


@own_warnings
def test_a_server_that_is_gone_costs_one_line(
    cache: Path, mlflow: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", place)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    run = probe.fit(cache_dir=cache, epochs=2, log="mlflow")
    assert (run.folder / "result.json").is_file()
    (line,) = [one.getMessage() for one in caplog.records if "hears no more" in one.getMessage()]
    assert line.startswith("mlflow hears no more of this run: MlflowException: API request to http")


@own_warnings
def test_mlflow_stops_within_a_run_without_ending_yours(
    cache: Path, mlflow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError("gone")

    with mlflow.start_run(run_name="mine") as mine:
        with monkeypatch.context() as patch:
            patch.setattr(mlflow, "log_metrics", fails)
            fit(cache, epochs=2, log="mlflow")
        assert mlflow.active_run().info.run_id == mine.info.run_id
    assert [one.info.status for one in runs_of(mlflow)] == ["FINISHED", "FAILED"]


@own_warnings
def test_json_stays_alone_on_stdout(cache: Path, mlflow: Any) -> None:
    done = invoke("head", "--epochs", "1", "--log", "mlflow", "--cache-dir", cache, "--json")
    assert Path(json.loads(done.stdout)["run"]).is_dir()
