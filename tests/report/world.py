"""A cache folder with a dataset of hostile names, an entry, runs, an audit and a ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from probe.audit.record import Audit, LabelError, save_audit
from probe.backbones.catalog import BACKBONES
from probe.cache.joining import Joined, join
from probe.cache.store import Store
from probe.datasets import Split, load_dataset
from probe.evaluation.learning_curve import LearningCurve, Point, save_learning_curve
from probe.evaluation.predictions import Predictions, save_predictions
from probe.evaluation.scored import figures_of, intervals_of, measure, per_class_of, temperature_of
from probe.extraction.extract import extract_features
from probe.extraction.job import decide
from probe.heads.history import Epoch, save_history
from probe.preprocess.spec import TORCHVISION
from probe.runs.duplicates import NearDuplicate
from probe.runs.fit import HeadRequest
from probe.runs.ledger import record_test_evaluation
from probe.runs.results import RunResult, write_run
from tests.fakes import SIZE, FakeEngine, Silent
from tests.finished import make_run as make_fitted
from tests.several import make_list

# a path `</script>x.png` inside of the class `<`; markup, Plotly's own markup, and a CJK name
CLASSES = ("<", "<img src=x onerror=alert(1)>", "$&'\"%{y}<b>", "日本の猫", "plain")
SITES = ("</script><b>", "%{x}north", "")
COMMAND = "probe head '</script><script>alert(2)</script>' --solver ridge"


def make_images(folder: Path, *, per_class: int = 12, splits: Sequence[str] = ("train", "test"),
                classes: Sequence[str] = CLASSES) -> Path:  # fmt: skip
    """Write small pictures, each class of its own tint."""
    rng = np.random.default_rng(0)
    for split in splits:
        for number, name in enumerate(classes):
            place = folder / split / name
            for image in range(per_class):
                pixels = rng.integers(0, 90, (SIZE, SIZE, 3), dtype=np.uint8)
                pixels[..., number % 3] += np.uint8(80 + 20 * (number // 3 % 4))
                stem = "script>" if name == "<" else "image "
                path = place / f"{stem}{image:03d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    return folder


def make_entry(
    cache: Path, images: Path, *, width: str = "gap", backbone: str = "resnet18",
    columns: bool = False,
) -> Joined:  # fmt: skip
    """Extract the pictures with the fake engine, told to be of three sites and of all ages."""
    dataset = load_dataset(str(images), cache_dir=cache)
    if columns:
        dataset = replace(
            dataset, splits={name: _with_columns(one) for name, one in dataset.splits.items()}
        )
    spec = BACKBONES[backbone]
    request = {"dataset": str(images), "dataset_root": None, "coarse": False}
    job = decide(
        dataset,
        spec,
        TORCHVISION.with_size(SIZE),
        [(spec.layer(width), "none", "p" * 32)],
        dtype="float32",
        provenance={
            "dataset": dataset.name, "root": str(images), "weights": "<i>fake</i>", "size": SIZE,
            "command": f"probe extract {images}", "request": request,
        },
    )  # fmt: skip
    store = Store(cache)
    (entry,) = extract_features(job, store, lambda cuts: FakeEngine(cuts, 32), Silent(), workers=1)
    return join(store, store.choose(entry.name))


def _with_columns(split: Split) -> Split:
    rows = range(len(split))
    ages = [f"{100 - row}.5" for row in rows]
    return replace(
        split, columns={"<b>site": [SITES[row % 3] for row in rows], "age": ages, "id": split.ids}
    )


def make_run(cache: Path, joined: Joined, name: str, *, right: float, seed: int = 0,
             held_out: int = 20, tests: bool = True) -> Path:  # fmt: skip
    """Write a run whose predictions are right about so often; a seed stands for a head."""
    entry, rng = joined.entry, np.random.default_rng(seed)
    train = joined.splits["train"]
    val = np.sort(np.random.default_rng(7).permutation(len(train))[:held_out])
    rows = {"val": ([train.ids[row] for row in val], train.labels[val])} if held_out else {}
    if tests and "test" in joined.splits:
        rows["test"] = (joined.splits["test"].ids, joined.splits["test"].labels)
    kept = {split: _predictions(ids, labels, len(entry.classes), right, rng)
            for split, (ids, labels) in rows.items()}  # fmt: skip
    scored = {split: measure(one.probabilities.astype(np.float64), one.labels)
              for split, one in kept.items()}  # fmt: skip
    temperature = temperature_of(scored)
    folder = cache / "runs" / name
    folder.mkdir(parents=True)
    save_predictions(folder, kept)
    if seed == 0:
        save_history(folder, _history())
    looks = None
    if "test" in kept:
        looks = record_test_evaluation(
            cache / "ledger", joined.splits["test"].content, command=COMMAND, entry=entry.name
        )
    write_run(folder, RunResult(
        command=COMMAND, entry=entry.name, dataset=entry.dataset, backbone=entry.key.backbone,
        weights="<i>fake</i>", layer=entry.key.layer, pool=entry.key.pool, head="ridge",
        params={"alpha": 0.1 * (seed + 1), "normalize": "standard"}, seed=seed,
        n_train=len(train) - held_out, n_val=held_out, n_test=len(rows.get("test", ((), 0))[0]),
        metrics=figures_of(scored, temperature), intervals=intervals_of(scored),
        per_class=per_class_of(scored, entry.classes), seconds=0.5, versions={"probe": "0"},
        created=f"2026-01-01T00:00:{seed:02d}+00:00", temperature=temperature, test_looks=looks,
    ))  # fmt: skip
    return folder


def _predictions(ids: Sequence[str], labels: NDArray[np.int32], classes: int, right: float,
                 rng: np.random.Generator) -> Predictions:  # fmt: skip
    said = np.where(rng.random(len(labels)) < right, labels, (labels + 1) % classes)
    logits = rng.standard_normal((len(labels), classes)) + 3 * np.eye(classes)[said]
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return Predictions(ids=np.array(ids), labels=labels.astype(np.int64),
                       probabilities=p.astype(np.float32))  # fmt: skip


def _history() -> list[Epoch]:
    return [
        Epoch(epoch=n, train_loss=1 / n, train_top1=1 - 0.5 / n, val_loss=1.1 / n, val_top1=0.5)
        for n in range(1, 6)
    ]


def add_extras(cache: Path, joined: Joined) -> None:
    """Write a learning curve and an audit of the entry."""
    entry, train, test = joined.entry, joined.splits["train"], joined.splits["test"]
    points = tuple(
        Point(per_class=count, draw=draw, n_train=5 * count, top1=0.2 + 0.05 * count + 0.01 * draw,
              mean_recall=0.3, log_loss=1.0, params={})
        for count in (1, 2, 5) for draw in range(3)
    )  # fmt: skip
    curve = LearningCurve(entry=entry.name, dataset=entry.dataset, head="ridge", split="val",
                          n_split=20, points=points)  # fmt: skip
    for name in ("20260102-000000-001", "20260102-000000-002"):
        (cache / "runs" / name).mkdir()
    save_learning_curve(cache / "runs" / "20260102-000000-001", curve)
    pair = NearDuplicate(a=train.ids[0], split_a="train", label_a=CLASSES[1], b=test.ids[0],
                         split_b="test", label_b=CLASSES[1], similarity=0.999)  # fmt: skip
    error = LabelError(id=train.ids[1], split="train", given=CLASSES[1], suggested=CLASSES[3],
                       given_probability=0.01, probability=0.97)  # fmt: skip
    save_audit(cache / "runs" / "20260102-000000-002", Audit(
        entry=entry.name, dataset=entry.dataset, command=COMMAND, created="2026-01-02",
        threshold=0.98, n_train=60, n_test=60, near_duplicates=(pair,), label_errors=(error,),
        scores={"n_leaked": 1, "test_top1": 0.7, "test_top1_without": 0.69},
    ))  # fmt: skip


def make_several(folder: Path) -> Path:
    """Return a cache folder with two runs on pictures that may have several labels."""
    cache = folder / "cache"
    make_entry(cache, make_list(folder / "<b>data"))
    for request in (
        HeadRequest(solver="ridge"),
        HeadRequest(solver="dense", params={"epochs": 2}),
    ):
        make_fitted(cache, request)
    return cache


def make_world(folder: Path) -> Path:
    """Return a cache folder with everything that a page can show but a bench."""
    cache = folder / "cache"
    joined = make_entry(cache, make_images(folder / "<b>images"), columns=True)
    for number, right in enumerate((0.9, 0.85, 0.4)):
        make_run(cache, joined, f"20260101-00000{number}-001", right=right, seed=number)
    add_extras(cache, joined)
    return cache
