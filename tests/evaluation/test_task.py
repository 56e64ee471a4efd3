"""What both tasks promise alike, against plain loops over rows and classes."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from probe.evaluation.splitting import fold_split, validation_split
from probe.evaluation.task import (
    MULTI_LABEL,
    SINGLE_LABEL,
    TASKS,
    Task,
    task_by_metric,
    task_of,
    task_of_splits,
)

N, C = 60, 4
NAMES = ("ant", "bee", "cat", "dog")


def labels_of(task: Task, seed: int = 0) -> Any:
    random = np.random.default_rng(seed)
    if task.exclusive:
        return random.integers(0, C, N)
    return (random.random((N, C)) < 0.4).astype(np.int64)


def row_has(label: Any, number: int) -> bool:
    return bool(label == number) if np.ndim(label) == 0 else bool(label[number])


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_labels_are_counted_named_and_compared_as_a_loop_does(task: Task) -> None:
    labels, other = labels_of(task), labels_of(task, 1)
    assert task_of(labels) is task
    assert labels.shape == task.shape(N, C)
    assert task.n_classes(labels) == C
    expected = [(row, number) for row in range(N) for number in range(C)
                if row_has(labels[row], number)]  # fmt: skip
    assert list(zip(*(one.tolist() for one in task.pairs(labels)), strict=True)) == expected
    for number in range(C):
        own = [row_has(label, number) for label in labels]
        assert task.has(labels, number).tolist() == own
        assert task.counts(labels, C)[number] == sum(own)
    assert task.present(labels[:3]).tolist() == sorted({n for row, n in expected if row < 3})
    differ = [bool(np.any(a != b)) for a, b in zip(labels, other, strict=True)]
    assert task.differ(labels, other).tolist() == differ
    told = [", ".join(NAMES[n] for row, n in expected if row == at) for at in range(N)]
    assert [task.text(label, NAMES) for label in labels] == [one or "no label" for one in told]
    shown = [[row_has(label, number) for label in labels] for number in range(C)]
    assert task.indicators(labels).astype(bool).tolist() == shown
    assert len(task.indicators(labels[[0, 0]])) == 0
    strata, names = task.strata(labels, NAMES)
    assert len(names) == (C if task is SINGLE_LABEL else 1)
    assert [names[one] for one in strata] == (told if task is SINGLE_LABEL else [""] * N)
    assert [task.is_binary(count) for count in (1, 2, 3)] == [False, task is SINGLE_LABEL, False]
    moved = task.moved(labels, np.array([4, 0, 5, 2]), 6)
    assert moved.dtype == task.dtype
    for number, place in enumerate((4, 0, 5, 2)):
        assert task.has(moved, place).tolist() == task.has(labels, number).tolist()


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_scores_logits_and_probabilities_undo_each_other(task: Task) -> None:
    scores, labels = np.random.default_rng(2).normal(size=(N, C)) * 3, labels_of(task)
    p = task.probabilities(scores.copy())
    logits = task.logits(scores)
    np.testing.assert_allclose(task.probabilities_of(logits), p, rtol=1e-12)
    np.testing.assert_allclose(task.logits_of(p), logits, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(task.probabilities(task.scores_of(p)), p, rtol=1e-12)
    np.testing.assert_allclose(np.exp(task.log_probabilities(logits)), p, rtol=1e-12)
    np.testing.assert_allclose(task.apply_temperature(logits, 1.0), p, rtol=1e-12)
    assert task.log_loss(p, labels) == pytest.approx(task.losses(p, labels).mean(), rel=1e-12)
    low, high = task.intervals(p, labels, logits, None)[task.metric]
    figure = task.figure(task.compared(p, logits), labels)
    assert figure is not None
    assert low < figure < high
    summary = task.measure(p, labels, logits).summary()
    assert summary[task.metric] == pytest.approx(figure, abs=1e-12)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_every_row_is_held_out_once_and_parts_keep_their_shares(task: Task) -> None:
    labels = labels_of(task)
    train, held_out = validation_split(labels, 0.25, 0)
    assert sorted([*train, *held_out]) == list(range(N))
    assert len(held_out) == N // 4
    folds = fold_split(labels, 3, 0)
    assert sorted(np.concatenate([held for _, held in folds])) == list(range(N))
    counts = np.array([task.counts(labels[held], C) for _, held in folds])
    assert np.abs(counts - task.counts(labels, C) / 3).max() <= 3  # rows


def test_a_task_is_one_object_wherever_it_comes_from() -> None:
    for task in TASKS:
        assert pickle.loads(pickle.dumps(task)) is task
        assert task_by_metric(task.metric) is task
    assert task_by_metric("macro_f1") is SINGLE_LABEL
    one, several = np.zeros(3, np.int32), np.zeros((3, 2), np.uint8)
    assert task_of_splits([one, one]) is SINGLE_LABEL
    assert task_of_splits([one, several]) is MULTI_LABEL
