"""The run that comes of a training: its network, its figures, and what was gained.

backbone.safetensors  the best epoch's backbone, which `probe extract --weights` takes
head.safetensors      and the head on its features
history.csv steps.csv predictions.npz curves.png confusion.png
promotion.json        what was gained over the probe and what it cost
result.json           last: the run is complete
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.datasets import Split
from probe.errors import PromoteError
from probe.evaluation import (
    Scored,
    figures_of,
    intervals_of,
    measure,
    per_class_of,
    temperature_of,
)
from probe.files import replacing, write_text
from probe.heads import save_head
from probe.history import save_history
from probe.ledger import record_look
from probe.metrics import Metrics
from probe.predictions import Predictions, save_predictions
from probe.promote.asked import SCHEMA, Asked
from probe.promote.checkpoint import load_best
from probe.promote.gain import Gain, gain_of
from probe.promote.log import save_steps
from probe.promote.promotion import Begun
from probe.promote.source import PROMOTED, Source, describe
from probe.promote.start import head_of
from probe.results import RunResult, now, versions, write_run
from probe.runs import CONFUSION, CURVES, HEAD
from probe.weights.safetensors_file import write_safetensors
from probe.weights.store import BACKBONE_KEY, PREPROCESS_KEY

GAINED, BACKBONE = "promotion.json", "backbone.safetensors"
AGREEMENT = 1e-4  # of a probability: the head on the features against the whole network


@dataclass(frozen=True, kw_only=True, eq=False)
class Promoted:
    """What came of it.

    Parameters
    ----------
    result : RunResult
    gains : tuple of Gain
        On validation, which the best epoch was chosen on, and on test where there is one.
    seconds : float
        Of training.
    """

    folder: Path
    result: RunResult
    gains: tuple[Gain, ...]
    seconds: float

    @property
    def better(self) -> bool:
        """Whether the best epoch beat the probe on validation; test images have no say in it."""
        return self.gains[0].after > self.gains[0].before

    def to_dict(self) -> dict[str, Any]:
        """Return plain containers, as `--json` prints them."""
        gains = {one.split: one.to_json() for one in self.gains}
        about = {"folder": str(self.folder), "better_than_probe": self.better, "gain": gains}
        return {**self.result.to_dict(), **about}


def finish(begun: Begun, asked: Asked, *, ledger: Path) -> Promoted:
    """Score the best epoch, test images included, and write what the run leaves behind.

    Raises
    ------
    PromoteError
        The files would not give the predictions of the network.
    """
    source, training = begun.source, begun.training
    folder, best = training.folder, training.progress.best_epoch
    values = load_best(folder, best)
    training.network.state.put(values)
    arch, fixed = training.network.arch, training.network.state.fixed
    head = head_of(source, arch, values, fixed)
    looks, splits = None, {"val": source.val}
    if source.test is not None and source.test_content is not None:
        looks = record_look(
            ledger, source.test_content, command=asked.command, entry=source.result.entry
        )
        splits["test"] = source.test
    predictions = {}
    for name, split in splits.items():
        features, p = training.predict(split)
        if not np.abs(head.predict_proba(features) - p).max() <= AGREEMENT:
            raise PromoteError(f"{folder}: the head does not give the network's predictions")
        predictions[name] = _predictions(source, split, p)
    scored = {
        name: measure(one.probabilities.astype(np.float64), one.labels)
        for name, one in predictions.items()
    }
    gains = tuple(gain_of(n, source.predictions[n], one) for n, one in predictions.items())
    result = _result(begun, asked, scored, looks)
    _write_network(source, values, folder)
    save_head(head, folder / HEAD)
    save_predictions(folder, predictions)
    save_history(folder, training.progress.history)
    save_steps(folder, training.log, training.feed.batches)
    _draw(begun, scored, result)
    _write_gains(begun, asked, gains)
    write_run(folder, result)
    return Promoted(folder=folder, result=result, gains=gains, seconds=training.progress.seconds)


def _predictions(source: Source, split: Split, p: NDArray[np.float32]) -> Predictions:
    whole = np.zeros((len(split), len(source.classes)), np.float32)
    whole[:, np.asarray(source.head.classes_)] = p
    return Predictions(
        ids=np.asarray(split.ids, np.str_), labels=split.labels.astype(np.int64),
        probabilities=whole,
    )  # fmt: skip


def _result(
    begun: Begun, asked: Asked, scored: Mapping[str, Scored], looks: int | None
) -> RunResult:
    source, training = begun.source, begun.training
    temperature = temperature_of(scored)
    params: dict[str, Any] = {
        name: value if isinstance(value, str | int | float | bool) or value is None else str(value)
        for name, value in asked.options.to_json().items()
    }
    params |= {"lr": asked.options.rate, "bn": asked.options.batch_norm}
    params |= {"from_run": source.name, "best_epoch": training.progress.best_epoch}
    old = source.result
    return RunResult(
        command=asked.command, entry=old.entry, dataset=old.dataset, backbone=old.backbone,
        weights=old.weights, layer=old.layer, pool=old.pool, head=PROMOTED, params=params,
        seed=asked.options.seed, n_train=len(source.train), n_val=len(source.val),
        n_test=len(source.test) if source.test is not None else 0,
        metrics=figures_of(scored, temperature), per_class=per_class_of(scored, source.classes),
        seconds=training.progress.seconds, versions=versions(), created=now(),
        intervals=intervals_of(scored), temperature=temperature, test_looks=looks,
    )  # fmt: skip


def _write_network(source: Source, values: Mapping[str, NDArray[np.float32]], folder: Path) -> None:
    backbone = {name: values[name] for name in source.parameters}
    metadata = {
        PREPROCESS_KEY: json.dumps(source.preprocess.to_json()),
        BACKBONE_KEY: source.backbone.name,
        "probe.source": f"{source.result.weights}, fine-tuned on {source.result.dataset}",
    }
    with replacing(folder / BACKBONE) as temporary:
        write_safetensors(temporary, backbone, {n: a.shape for n, a in backbone.items()}, metadata)


def _draw(begun: Begun, scored: Mapping[str, Scored], result: RunResult) -> None:
    from probe.report.confusion import draw_confusion
    from probe.report.curves import draw_curves

    folder, split = begun.training.folder, result.per_class.split
    about = f"{result.backbone} to {result.layer} on {result.dataset}, fine-tuned"
    draw_curves(begun.training.progress.history, folder / CURVES, title=about)
    metrics = scored[split].metrics
    assert isinstance(metrics, Metrics)  # images of several labels are refused at the start
    title = f"{about}: {split}"
    draw_confusion(metrics.confusion, begun.source.classes, folder / CONFUSION, title=title)


def _write_gains(begun: Begun, asked: Asked, gains: tuple[Gain, ...]) -> None:
    progress = begun.training.progress
    plain = {
        "schema": SCHEMA,
        "from": describe(begun.source),
        "options": asked.options.to_json(),
        "start": {"difference": begun.difference, "val_loss": begun.loss, "val_top1": begun.top1},
        "epochs": len(progress.history),
        "best_epoch": progress.best_epoch,
        "seconds": progress.seconds,
        "gain": {one.split: one.to_json() for one in gains},
    }
    text = json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(begun.training.folder / GAINED, text + "\n")
