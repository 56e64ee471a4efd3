"""From what was asked for to a run: searches, folds, groups, and the look that is counted."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from probe.cli.head_figures import about_run, show
from probe.errors import HeadError, UsageError
from probe.evaluation.learning_curve import load_learning_curve
from probe.evaluation.parts import Part
from probe.evaluation.predictions import load_predictions
from probe.evaluation.splitting import fold_split, warn_of_unknown
from probe.evaluation.units import group_rows
from probe.heads import load_head
from probe.heads.history import load_history
from probe.runs.fit import (
    FOLD_HEAD,
    HEAD,
    TRAIN_HEAD,
    HeadRequest,
    fit_head,
    keep_run,
    plan_head,
    run_folder,
)
from probe.runs.grouping import read_groups
from probe.runs.ledger import read_test_evaluations
from probe.runs.results import read_run
from tests import fakes
from tests.heads.data import make_features

CLASSES = tuple("abcd")


def joined(*splits: str) -> Any:
    made = {name: make_features(160, seed=seed) for seed, name in enumerate(splits)}
    return fakes.joined({name: (X, y.astype(np.int32)) for name, (X, y) in made.items()}, CLASSES)


def run(asked: HeadRequest, data: Any, folder: Path) -> Any:
    done = fit_head(data, asked, plan_head(data, asked), ledger=folder / "ledger")
    keep_run(folder / "run", done, CLASSES)
    return done


def test_a_search_keeps_the_train_only_head_beside_the_refit_one(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    done = run(HeadRequest(solver="path", grid=True), joined("train", "test"), tmp_path)
    final, train_only = (load_head(tmp_path / "run" / name) for name in (HEAD, TRAIN_HEAD))
    assert final.get_params() == train_only.get_params()
    assert final.coef_.tobytes() != train_only.coef_.tobytes()
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["selection"]["refit"] is True
    assert result["selection"]["chosen"] == result["params"]["C"]
    low, high = result["intervals"]["test"]["top1"]
    assert low <= result["metrics"]["test"]["top1"] <= high
    assert done.result.test_looks == result["test_looks"] == 1


def test_each_run_is_a_look_at_the_test_rows_and_without_such_rows_there_is_none(
    tmp_path: Path,
) -> None:
    (tmp_path / "run").mkdir()
    asked = HeadRequest(solver="ridge")
    looks = [run(asked, joined("train", "test"), tmp_path).result.test_looks for _ in range(3)]
    assert looks == [1, 2, 3]
    assert run(asked, joined("train"), tmp_path).result.test_looks is None


def test_folds_train_on_all_rows_and_their_heads_are_kept(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    asked = HeadRequest(solver="ridge", grid=True, folds=3, repeats=2)
    done = run(asked, joined("train"), tmp_path)
    assert (done.result.n_train, done.result.n_val) == (160, 0)
    assert done.result.selection["fits"] == 6
    assert done.result.selection["refit"] is False
    kept = [load_head(tmp_path / "run" / FOLD_HEAD.format(n)) for n in range(1, 7)]
    assert len({head.coef_.tobytes() for head in kept}) == 6


def test_rows_of_one_group_are_held_out_together() -> None:
    data = joined("train")
    ids = data.splits["train"].ids
    groups = (group_rows("panel", {"train": [str(row // 8) for row in range(len(ids))]}),)
    asked = HeadRequest(solver="ridge", grid=True, folds=4, val_size=0.2, groups=groups)
    plan = plan_head(data, asked)
    assert "groups by panel, each on one side" in plan.why
    assert plan.train.rows is not None
    assert plan.val is not None
    assert plan.val.rows is not None
    assert not set(plan.train.rows // 8) & set(plan.val.rows // 8)
    splits = {"train": Part(X=np.zeros((160, 1)), y=data.splits["train"].labels, ids=ids)}
    train = plan.apply(splits, CLASSES).train
    search = asked.search(train)
    assert search is not None
    owner = np.array([int(one.removeprefix("train/")) // 8 for one in train.ids])
    for rows, held_out in search.folds or ():
        assert not set(owner[rows]) & set(owner[held_out])


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (HeadRequest(solver="ridge", grid=True, ensemble="vote"), "add --folds"),
        (HeadRequest(solver="prototype", grid=True), "has no grid"),
        (HeadRequest(solver="ridge", grid=True, folds=100), "--folds 100"),
        (HeadRequest(solver="ridge", grid=True, val_size=0), "--val-size"),
    ],
)
def test_what_makes_no_sense_is_said(asked: HeadRequest, message: str) -> None:
    data = joined("train")
    with pytest.raises(UsageError, match=message):
        fit_head(data, asked, plan_head(data, asked))


@pytest.mark.parametrize(
    ("labels", "asked", "message"),
    [
        ([0, 1, 2], HeadRequest(), "none can be held out; train on all with --val-size 0"),
        ([0, 0, 0, 1], HeadRequest(folds=3), "only one class has more than one training row"),
    ],
)
def test_too_few_rows_to_hold_out_say_what_to_do(
    labels: list[int], asked: HeadRequest, message: str
) -> None:
    rows = np.arange(2.0 * len(labels), dtype=np.float32).reshape(-1, 2)
    data = fakes.joined({"train": (rows, np.array(labels, np.int32))}, CLASSES)
    with pytest.raises(UsageError, match=message):
        fit_head(data, asked, plan_head(data, asked))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (HeadRequest(params={"lr": 0.0}), "lr must be a number above 0"),
        (HeadRequest(grids={"lr": (0.1, -1.0)}), "lr must be a number above 0"),
        (HeadRequest(params={"normalize": "minmax"}), "normalize must be one of"),
        (HeadRequest(solver="knn", params={"k": 0}), "k must be a whole number from 1"),
        (HeadRequest(solver="knn", grids={"k": (0, 20)}), "k must be a whole number from 1"),
        (HeadRequest(solver="path", grids={"C": (0.0, 1.0)}), "C must be a number above 0"),
        (HeadRequest(solver="logistic", params={"max_iter": 0}), "max_iter must be"),
        (HeadRequest(solver="ridge", params={"alpha": -1.0}), "alpha must be"),
        (HeadRequest(solver="prototype", params={"shrinkage": 2.0}), "shrinkage must be"),
        (HeadRequest(ensemble="vote"), "--ensemble is about folds"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_before_any_row_is_read(
    asked: HeadRequest, message: str
) -> None:
    with pytest.raises((HeadError, UsageError), match=message):
        plan_head(SimpleNamespace(), asked)  # type: ignore[arg-type]  # it has no rows at all


def test_folds_keep_what_each_row_was_told_by_the_head_that_did_not_see_it(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    data = joined("train", "test")
    done = run(HeadRequest(solver="ridge", folds=4), data, tmp_path)
    found = load_predictions(tmp_path / "run")
    assert sorted(found) == ["oof", "test"]
    assert found["oof"].ids.tolist() == data.splits["train"].ids
    train = data.splits["train"]
    search = HeadRequest(solver="ridge", folds=4).search(done_part(data))
    assert search is not None
    for number, (_, held_out) in enumerate(search.folds or (), start=1):
        head = load_head(tmp_path / "run" / FOLD_HEAD.format(number))
        np.testing.assert_allclose(
            found["oof"].probabilities[held_out],
            head.predict_proba(train.features[held_out]), atol=1e-6,
        )  # fmt: skip
    result = read_run(tmp_path / "run")
    right = found["oof"].probabilities.argmax(axis=1) == train.labels
    assert result.metrics["oof"]["top1"] == pytest.approx(right.mean())
    assert result.selection is None  # nothing was chosen, only measured
    assert done.head is done.train_head


def done_part(data: Any) -> Any:
    train = data.splits["train"]
    return Part(X=train.features, y=train.labels, ids=train.ids)


@pytest.mark.parametrize("how", ["average", "vote"])
def test_an_ensemble_of_the_folds_meets_the_test_rows(how: Any, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    data = joined("train", "test")
    run(HeadRequest(solver="path", grid=True, folds=3, ensemble=how), data, tmp_path)
    members = [load_head(tmp_path / "run" / FOLD_HEAD.format(n)) for n in (1, 2, 3)]
    X = data.splits["test"].features
    told = np.stack([member.predict_proba(X) for member in members])
    if how == "vote":
        told = np.eye(4)[told.argmax(axis=2)]
    final = load_head(tmp_path / "run" / HEAD)
    np.testing.assert_allclose(final.predict_proba(X), told.mean(axis=0), atol=1e-12)
    kept = load_predictions(tmp_path / "run")["test"].probabilities
    np.testing.assert_allclose(kept, told.mean(axis=0), atol=1e-6)
    assert read_run(tmp_path / "run").params["ensemble"] == how


def with_views(data: Any) -> Any:
    """Give each image a second view: the first with noise, which alone is worse."""
    rng = np.random.default_rng(0)
    data.entry.key.views, data.entry.row_shape = "flip", (2, 12)
    for split in data.splits.values():
        noisy = split.features + rng.normal(scale=2, size=split.features.shape)
        split.features = np.stack([split.features, noisy], axis=1).astype(np.float32)
    return data


@pytest.mark.parametrize("solver", ["dense", "logistic", "path", "ridge", "prototype", "knn"])
def test_all_views_are_trained_on_and_averaged_where_rows_are_scored(
    solver: str, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    data = with_views(joined("train", "test"))
    asked = HeadRequest(solver=solver, params={"epochs": 2} if solver == "dense" else {})
    done = run(asked, data, tmp_path)
    assert (done.result.n_train, done.result.n_val, done.result.n_test) == (112, 48, 160)
    head = load_head(tmp_path / "run" / HEAD)
    assert head.n_features_in_ == 12
    p = head.predict_proba(data.splits["test"].features.reshape(320, 12))
    np.testing.assert_allclose(
        load_predictions(tmp_path / "run")["test"].probabilities,
        p.reshape(160, 2, -1).mean(axis=1), atol=1e-6,
    )  # fmt: skip


@pytest.mark.parametrize("folds", [0, 3])
def test_views_of_an_image_are_never_on_both_sides(folds: int, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    data = joined("train")
    rng = np.random.default_rng(0)  # no class can be told from these; an image's views are alike
    noise = rng.normal(size=(160, 1, 12)).astype(np.float32)
    data.splits["train"].features = np.repeat(noise, 2, axis=1)
    data.entry.key.views, data.entry.row_shape = "flip", (2, 12)
    done = run(HeadRequest(solver="knn", params={"k": 1}, folds=folds), data, tmp_path)
    assert done.result.metrics["oof" if folds else "val"]["top1"] < 0.45


def test_epochs_are_kept_of_the_head_that_was_watched(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    params = {"epochs": 9, "patience": 2, "hidden": "16", "lr": 0.1}
    done = run(HeadRequest(params=params, refit=True), joined("train", "test"), tmp_path)
    history = load_history(tmp_path / "run")
    assert history == done.train_head.history_
    assert all(epoch.val_loss is not None for epoch in history)
    assert done.head.get_params()["epochs"] == done.train_head.best_epoch_
    assert load_head(tmp_path / "run" / HEAD).get_params()["hidden"] == "16"


def test_few_images_a_class_are_not_joined_by_the_validation_ones(tmp_path: Path) -> None:
    refit = {}
    for per_class in (19, 20):
        data = joined("train", "test", "val")
        train = data.splits["train"]
        for name in ("features", "labels", "content"):
            setattr(train, name, getattr(train, name)[: 4 * per_class])
        train.ids = train.ids[: 4 * per_class]
        (tmp_path / str(per_class) / "run").mkdir(parents=True)
        done = run(HeadRequest(solver="ridge", grid=True), data, tmp_path / str(per_class))
        refit[per_class] = done.result.selection["refit"]
    assert refit == {19: False, 20: True}


def test_a_learning_curve_lies_beside_the_run(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    asked = HeadRequest(solver="ridge", per_class=(2, 8), draws=2)
    run(asked, joined("train"), tmp_path)
    found = load_learning_curve(tmp_path / "run")
    assert found is not None
    assert [(p.per_class, p.draw) for p in found.points] == [(2, 0), (2, 1), (8, 0), (8, 1)]
    assert (tmp_path / "run" / "learning_curve.png").stat().st_size > 5000


def test_a_class_alone_is_called_by_its_name() -> None:
    data = joined("train")
    data.splits["train"].labels[:] = 2
    with pytest.raises(HeadError, match="of one class, 'c'"):
        fit_head(data, HeadRequest(val_size=0), plan_head(data, HeadRequest(val_size=0)))


def test_two_runs_do_not_write_into_one_folder(tmp_path: Path) -> None:
    runs, out = tmp_path / "runs", tmp_path / "out"
    with (
        run_folder(out, runs),
        pytest.raises(UsageError, match="out: another process is writing there; name another"),
        run_folder(out, runs),
    ):
        pass
    with run_folder(out, runs) as folder:  # nothing came of the first one
        assert folder == out


def test_where_no_folder_can_be_made_that_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    (tmp_path / "runs").mkdir()
    monkeypatch.setattr(Path, "mkdir", lambda self, **given: None if given else refused())
    with (
        pytest.raises(UsageError, match=r"runs: cannot be written \(Read-only file system\); name"),
        run_folder(None, tmp_path / "runs"),
    ):
        pass


def test_an_empty_folder_of_the_users_outlives_a_failure(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    for folder in (theirs, tmp_path / "made"):
        with pytest.raises(KeyError), run_folder(folder, tmp_path / "runs"):
            raise KeyError
    assert theirs.is_dir()
    assert not (tmp_path / "made").exists()


def test_a_val_size_that_is_not_used_is_said() -> None:
    data = joined("train", "val")
    assert plan_head(data, HeadRequest(val_size=0.2)).why.startswith(
        "validation is the dataset's own val split"
    )
    assert "--val-size is not used" in plan_head(data, HeadRequest(val_size=0.2)).why
    assert "--val-size" not in plan_head(data, HeadRequest()).why


@pytest.mark.parametrize("solver", ["path", "ridge", "prototype", "knn", "dense"])
def test_a_small_budget_streams_and_finds_the_same(
    solver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from probe.evaluation.streaming import StreamedRows
    from probe.runs import memory

    monkeypatch.setattr(memory.Fitting, "workspace", lambda *_: 0)
    monkeypatch.setattr(memory, "resident", lambda: 0)
    params = {"epochs": 2} if solver == "dense" else {}
    tops = []
    for number, budget in enumerate((None, 1000)):
        data = with_views(joined("train", "val", "test"))
        for split in data.splits.values():
            split.rows = split.features.__getitem__
            split.release = lambda: None
        parts = memory.parts_of(data, memory.Fitting(solver=solver), max_memory=budget)
        assert isinstance(parts["train"].X, StreamedRows) is (budget is not None)
        asked = HeadRequest(solver=solver, params=params, refit=True, max_memory=budget)
        (tmp_path / str(number) / "run").mkdir(parents=True)
        tops.append(run(asked, data, tmp_path / str(number)).predictions["test"].probabilities)
    np.testing.assert_allclose(tops[0], tops[1], atol=2e-4)
    monkeypatch.setattr(memory, "resident", lambda: 2000)
    with pytest.raises(UsageError, match="takes up to 10 MB even when rows stay in their file"):
        memory.parts_of(data, memory.Fitting(solver=solver), max_memory=1000)


def test_a_head_that_needs_all_rows_in_memory_says_how_much_that_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from probe.runs import memory

    monkeypatch.setattr(memory, "resident", lambda: 0)
    fitting, data = memory.Fitting(solver="logistic"), joined("train", "test")
    with pytest.raises(UsageError, match="--head path is the same model") as caught:
        memory.parts_of(data, fitting, max_memory=1000)
    wanted = int(str(caught.value).split("takes up to ")[1].split(" MB")[0])
    assert isinstance(
        memory.parts_of(data, fitting, max_memory=wanted * 10**6)["train"].X, np.ndarray
    )


def test_more_heads_and_wider_ones_are_promised_more_memory() -> None:
    from probe.runs.memory import Fitting

    def of(solver: str, heads: int = 1, hidden: tuple[int, ...] = ()) -> int:
        return Fitting(solver=solver, heads=heads, hidden=hidden).workspace(2048, 1000, 100)

    assert of("path", 45) > of("path") + 44 * 100 * 2048 * 8
    assert of("dense", hidden=(4096,)) > of("dense") + 4096 * 2048 * 8
    assert of("ridge") > 4 * 2048**2 * 8


def test_an_ensemble_is_scored_on_validation_rows_that_no_member_saw(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    data = joined("train", "val")
    done = run(HeadRequest(solver="path", folds=3, ensemble="average"), data, tmp_path)
    X, y = data.splits["val"].features, data.splits["val"].labels
    assert done.result.metrics["val"]["top1"] == pytest.approx((done.head.predict(X) == y).mean())
    np.testing.assert_allclose(
        done.predictions["val"].probabilities, done.head.predict_proba(X), atol=1e-6
    )


def test_a_vote_is_neither_calibrated_nor_given_thresholds(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    asked = HeadRequest(solver="path", grid=True, folds=3, ensemble="vote")
    result = run(asked, joined("train", "test"), tmp_path).result
    assert result.temperature is None
    assert "calibration_error" in result.metrics["test"]
    assert "calibration_error_scaled" not in result.metrics["test"]
    assert about_run(result)["ensemble"].endswith("shares of votes are not calibrated")


@pytest.mark.parametrize(("val_size", "heads", "looks"), [(0, 7, 8), (0.3, 1, 2)])
def test_each_head_that_is_scored_on_test_rows_is_a_look(
    val_size: float, heads: int, looks: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a learning curve without validation rows it is every head; a size that none has is not."""
    data = joined("train", "test")
    run_once(data, tmp_path)
    asked = HeadRequest(solver="ridge", val_size=val_size, per_class=(2, 5, 10**6), draws=3)
    assert ("by each head of the learning curve" in plan_head(data, asked).why) is (heads > 1)
    (tmp_path / "run").mkdir()
    done = run(asked, data, tmp_path)
    written = read_test_evaluations(tmp_path / "ledger", data.splits["test"].content)
    assert done.result.test_looks == looks == len(written)
    assert done.curve.split == ("test" if heads > 1 else "val")
    show(done, tmp_path / "run", CLASSES, cache_dir=tmp_path)
    told = capsys.readouterr().out
    assert ("7 heads, those of the learning curve included" in told) is (heads > 1)
    assert f"{looks} evaluations by now" in told or f"this was evaluation {looks}" in told


def run_once(data: Any, folder: Path) -> None:
    asked = HeadRequest(solver="ridge")
    fit_head(data, asked, plan_head(data, asked), ledger=folder / "ledger")


def test_rows_that_no_head_can_know_are_counted_over_the_folds(
    caplog: pytest.LogCaptureFixture,
) -> None:
    labels = np.repeat([0, 1, 2, 3], [4, 4, 4, 1])
    alike = fold_split(labels, 4, 0)
    warn_of_unknown(labels, alike)
    assert caplog.messages.pop().startswith("1 row is held out with no other row of the same class")
    caplog.clear()
    classes = fold_split(labels, 4, 0, units=labels.astype(str).tolist())
    warn_of_unknown(labels, classes)
    assert caplog.messages[0].startswith("13 rows are held out with no other row")
    caplog.clear()
    warn_of_unknown(labels[:12], fold_split(labels[:12], 4, 0, repeats=2))
    assert not caplog.messages


def test_a_run_tells_whoever_asks_which_folds_it_has() -> None:
    data, told = joined("train"), []
    asked = HeadRequest(solver="ridge", folds=4)
    fit_head(data, asked, plan_head(data, asked), on_folds=lambda y, folds: told.append((y, folds)))
    ((labels, folds),) = told
    assert (labels == data.splits["train"].labels).all()
    assert len(folds) == 4


def test_groups_that_leave_one_class_are_refused_by_fold_and_name() -> None:
    labels = np.repeat([0, 1], 4)
    with pytest.raises(UsageError, match="fold 1 of 2 holds out every class but 'dog'"):
        fold_split(labels, 2, 1, units=list("aaaabbbb"), classes=("cat", "dog"))
    with pytest.raises(UsageError, match="no class has more than one training row"):
        fold_split(np.arange(4), 2, 0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,1\nb,é\n".encode("latin-1"), "not UTF-8 .*save it as CSV in UTF-8"),
        (b"a,1\n\nb,2\na,2\n", "line 4: 'a' has the group '2' here and '1' before"),
        (b"a,1\nb\n", "line 2 is not `id,group`"),
    ],
)
def test_groups_that_cannot_be_read_say_where(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_bytes(content)
    with pytest.raises(UsageError, match=message):
        read_groups(tmp_path / "g.csv")


def test_a_spreadsheets_mark_is_no_part_of_the_first_id(tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_text("a,1\nb,é\na,1\n", encoding="utf-8-sig")
    assert read_groups(tmp_path / "g.csv") == {"a": "1", "b": "é"}
