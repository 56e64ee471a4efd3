"""Leaks and labels to doubt, planted and found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probe.audit import auditing
from probe.audit.record import Audit, load_audit, save_audit
from probe.datasets.copies import Copies, copies_in_words, find_copies
from probe.errors import DataError, UsageError
from probe.evaluation.parts import Part
from probe.evaluation.predictions import Predictions
from probe.heads import products
from probe.runs import duplicates
from tests.heads.data import make_features
from tests.heads.test_streaming import streamed

CLASSES = ("ant", "bee", "cat", "dog")


def part(name: str, seed: int, n_rows: int = 300) -> Part:
    X, y = make_features(n_rows, width=40, seed=seed)
    return Part(X=X + 5, y=y.copy(), ids=[f"{name}/{row:03d}" for row in range(n_rows)])


def planted() -> tuple[Part, Part]:
    """Return train and test; test rows 3 and 8 are in train, train 11 and 250 are one image."""
    train, test = part("train", 0), part("test", 1, 40)
    noise = np.random.default_rng(0).normal(scale=0.01, size=(2, 40))
    test.X[[3, 8]] = train.X[[100, 201]] + noise
    train.X[250] = train.X[11]  # 250 is a cat, 11 a dog
    return train, test


def test_planted_duplicates_are_found_and_nothing_else() -> None:
    train, test = planted()
    found = duplicates.leaks(train, test, CLASSES)
    assert {(pair.a, pair.b) for pair in found} == {
        ("train/100", "test/003"), ("train/201", "test/008"),
    }  # fmt: skip
    assert all(0.99 < pair.similarity <= 1 for pair in found)
    (pair,) = duplicates.contradictions(train, CLASSES)
    assert (pair.a, pair.b) == ("train/011", "train/250")
    assert (pair.label_a, pair.label_b) == ("dog", "cat")
    assert duplicates.leaks(train, test, CLASSES, threshold=1.0) == []


def test_of_several_views_the_plain_one_counts() -> None:
    train, test = planted()
    plain = duplicates.leaks(train, test, CLASSES)
    rng = np.random.default_rng(1)

    def with_views(one: Part) -> Part:
        rows = np.stack([one.X, rng.normal(size=one.X.shape)], axis=1).reshape(-1, 40)
        return Part(X=rows.astype(np.float32), y=one.y, ids=one.ids, views=2)

    found = duplicates.leaks(with_views(train), with_views(test), CLASSES)
    assert [(p.a, p.b) for p in found] == [(p.a, p.b) for p in plain]


def _between(values: Any, count: int) -> float:
    """Return a threshold that so many of the values are above."""
    lower, upper = np.sort(values)[-count - 1 : -count + 1 or None]
    return float(lower + upper) / 2


@pytest.mark.parametrize("streams", [False, True])
def test_all_pairs_are_compared_whatever_the_blocks(
    streams: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, test = part("train", 0), part("test", 1, 40)
    directions = [(one.X - train.X.mean(axis=0)) / train.X.std(axis=0) for one in (train, test)]
    rows, queries = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in directions)
    cosines = np.triu(rows @ rows.T, 1) * (train.y[:, None] != train.y)
    close = queries @ rows.T
    least, near = _between(cosines.ravel(), 12), _between(close.max(axis=1), 10)
    wanted = [(train.ids[a], train.ids[b]) for a, b in np.argwhere(cosines > least)]
    leaked = np.flatnonzero(close.max(axis=1) > near)
    assert (len(wanted), len(leaked)) == (12, 10)
    monkeypatch.setattr(products, "QUERY_ROWS", 7)
    monkeypatch.setattr(products, "QUERY_BYTES", 4 * 40 * 50)
    monkeypatch.setattr(products, "REFERENCE_ROWS", 23)
    if streams:
        train, test = (replace(one, X=streamed(one.X)) for one in (train, test))
    found = duplicates.contradictions(train, CLASSES, threshold=least)
    assert sorted((pair.a, pair.b) for pair in found) == sorted(wanted)
    assert [p.similarity for p in found] == sorted((p.similarity for p in found), reverse=True)
    pairs = {pair.b: pair.a for pair in duplicates.leaks(train, test, CLASSES, threshold=near)}
    assert pairs == {test.ids[row]: train.ids[close[row].argmax()] for row in leaked}
    monkeypatch.setattr(duplicates, "MOST", 4)  # a low threshold has too many: the first are kept
    few = duplicates.contradictions(train, CLASSES, threshold=0.0)
    assert [(p.a, p.b) for p in few] == [(p.a, p.b) for p in found[:4]]


def test_wrong_labels_are_doubted_first() -> None:
    train = part("train", 0, 400)
    wrong = [7, 98, 205, 333]
    true = train.y[wrong].copy()
    train.y[wrong] = (true + 1) % 4
    p = auditing.out_of_fold_probabilities(train, 4, folds=4, seed=0, C=1.0)
    found = auditing.label_errors(p, train, CLASSES)
    # the fourth is less sure than an average image of that class, so it is not doubted
    assert len(found) == 3
    for one in found:
        row = int(one.id[-3:])
        assert one.suggested == CLASSES[true[wrong.index(row)]]
        assert one.given == CLASSES[train.y[row]]
        assert one.given_probability < one.probability


def test_the_only_image_of_a_class_is_neither_doubted_nor_suggested() -> None:
    train = part("train", 0, 400)
    train.y[train.y == 3] = 2
    train.y[11] = 3
    p = auditing.out_of_fold_probabilities(train, 4, folds=4, seed=0, C=1.0)
    assert p.whole[11, 3] == 0
    found = auditing.label_errors(p, train, CLASSES)
    assert train.ids[11] not in {one.id for one in found}
    assert CLASSES[3] not in {one.suggested for one in found}


def test_some_images_at_a_time_are_doubted_as_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    train = part("train", 0, 400)
    train.y[[7, 98, 205]] = (train.y[[7, 98, 205]] + 1) % 4
    found = []
    for many in (False, True):
        monkeypatch.setattr("probe.evaluation.many.are_many", lambda *_, many=many: many)
        monkeypatch.setattr("probe.evaluation.parts.BLOCK", 4 * 30 if many else 1 << 22)
        p = auditing.out_of_fold_probabilities(train, 4, folds=4, seed=0, C=1.0)
        assert (len(list(p.blocks())) > 10) == many
        found.append(
            (auditing.label_errors(p, train, CLASSES), auditing.out_of_fold_scores(p, train.y))
        )
    (errors, scores), (other_errors, other_scores) = found
    assert scores == other_scores
    assert len(errors) >= 2
    assert [(one.id, one.suggested) for one in errors] == [
        (one.id, one.suggested) for one in other_errors
    ]
    assert [one.probability for one in errors] == pytest.approx(
        [one.probability for one in other_errors], abs=1e-6
    )


def test_accuracy_is_told_with_and_without_what_leaked() -> None:
    train, test = planted()
    pairs = duplicates.leaks(train, test, CLASSES)
    p = np.eye(4, dtype=np.float32)[test.y]
    p[8] = np.roll(p[8], 1)
    p[20:30] = np.roll(p[20:30], 1, axis=1)
    kept = Predictions(ids=np.array(test.ids), labels=test.y, probabilities=p)
    assert auditing.leak_scores(kept, pairs) == pytest.approx(
        {
            "test_top1": 29 / 40,
            "test_top1_without": 28 / 38,
            "duplicates_top1": 1 / 2,
            "n_leaked": 2,
        }
    )
    with pytest.raises(UsageError, match="no prediction of test/003"):
        auditing.leak_scores(
            Predictions(ids=kept.ids[10:], labels=kept.labels[10:], probabilities=p[10:]), pairs
        )


def test_an_audit_reads_back_and_rubbish_is_refused(tmp_path: Path) -> None:
    train, test = planted()
    pairs = duplicates.leaks(train, test, CLASSES)
    p = np.full((300, 4), 0.25)
    p[4] = (0, 0, 0.9, 0.1)
    audit = Audit(
        entry="e", dataset="d", command="probe audit", created="now", threshold=0.9, n_train=300,
        n_test=40, near_duplicates=tuple(pairs), scores={"oof_top1": 0.5},
        label_errors=tuple(auditing.label_errors(auditing.OutOfFold.of(p), train, CLASSES)),
    )  # fmt: skip
    save_audit(tmp_path, audit)
    assert load_audit(tmp_path) == audit
    (tmp_path / "audit.json").write_text("{}")
    with pytest.raises(DataError, match="not an audit"):
        load_audit(tmp_path)
    with pytest.raises(DataError, match="probe audit"):
        load_audit(tmp_path / "none")


def test_copies_are_listed_within_and_across_splits_contradictions_first() -> None:
    ids = {"train": ["a", "copy of a", "b", "c", "d"], "test": ["c too", "e"]}
    labels = {"train": np.array([0, 0, 1, 2, 3]), "test": np.array([1, 2])}
    pictures = {"train": np.array([0, 0, 1, 2, 3]), "test": np.array([2, 4])}
    first, second = find_copies(pictures, ids, labels, CLASSES)
    assert first == Copies(ids=("c", "c too"), splits=("train", "test"), labels=("cat", "bee"))
    assert second == Copies(
        ids=("a", "copy of a"), splits=("train", "train"), labels=("ant", "ant")
    )
    assert (first.contradicting, second.contradicting) == (True, False)
    assert copies_in_words([first, second]) == (
        "1 image is an exact copy of others in their split; 1 test image is in train, too; "
        "1 picture has more than one label"
    )


def test_copies_do_not_tell_the_folds_each_others_labels() -> None:
    random = np.random.default_rng(0)
    X = np.repeat(random.normal(size=(60, 40)), 3, axis=0).astype(np.float32)
    units = np.repeat(np.arange(60), 3)
    y = (random.permutation(60) % 2)[units]
    train = Part(X=X, y=y, ids=[str(row) for row in range(180)])

    def right(one: Part) -> float:
        p = auditing.out_of_fold_probabilities(one, 2, folds=4, seed=0, C=1.0)
        return float((p.whole.argmax(axis=1) == y).mean())

    assert right(train) > 0.8
    assert right(replace(train, units=units)) < 0.7


def several(n_rows: int = 240) -> tuple[Part, np.ndarray]:
    """Return rows whose three labels their features tell, and the labels as they are."""
    random = np.random.default_rng(4)
    labels = (random.random((n_rows, 3)) < (0.5, 0.3, 0.2)).astype(np.uint8)
    X = labels @ random.normal(size=(3, 40)) + random.normal(scale=0.3, size=(n_rows, 40))
    ids = [f"train/{row:03d}" for row in range(n_rows)]
    return Part(X=X.astype(np.float32), y=labels.copy(), ids=ids), labels


def test_of_several_labels_each_is_doubted_by_itself() -> None:
    train, _ = several()
    wrong = [(7, 0), (98, 1), (205, 2)]
    for row, label in wrong:
        train.y[row, label] ^= 1
    p = auditing.out_of_fold_probabilities(train, 3, folds=4, seed=0, C=1.0)
    found = auditing.label_errors(p, train, CLASSES[:3])
    for row, label in wrong:
        name, has = CLASSES[label], train.y[row, label] == 1
        pair = (name, f"not {name}") if has else (f"not {name}", name)
        (one,) = [e for e in found[:6] if e.id == f"train/{row:03d}"]
        assert (one.given, one.suggested) == pair
        assert one.given_probability == pytest.approx(1 - one.probability)
    assert [one.probability for one in found] == sorted(
        (p.probability for p in found), reverse=True
    )
    scores = auditing.out_of_fold_scores(p, train.y)
    assert scores["oof_map"] > 0.9
    assert scores["oof_hamming_loss"] < 0.05


def test_near_duplicates_with_other_labels_contradict_each_other() -> None:
    train, labels = several()
    alike = int(np.flatnonzero((labels == labels[3]).all(axis=1))[-1])
    other = int(np.flatnonzero((labels != labels[3]).any(axis=1))[-1])
    train.X[[alike, other]] = train.X[3]
    found = duplicates.contradictions(train, CLASSES[:3], threshold=0.999)
    assert {(pair.a, pair.b) for pair in found} == {
        tuple(sorted((f"train/{one:03d}", f"train/{other:03d}"))) for one in (3, alike)
    }
    names = ", ".join(name for name, has in zip(CLASSES, labels[3], strict=False) if has)
    assert found[0].label_a == (names or "no label")
    kept = Predictions(
        ids=np.array(train.ids), labels=train.y, probabilities=train.y.astype(np.float32)
    )
    leaked = [replace(pair, split_b="test") for pair in found]
    assert auditing.leak_scores(kept, leaked) == {
        "test_map": 1, "n_leaked": 1, "test_map_without": 1, "duplicates_map": 1,
    }  # fmt: skip
