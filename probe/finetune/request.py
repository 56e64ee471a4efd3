"""The request of a fine-tuning, kept in its folder as `promote.json` so that it can be resumed."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.bundle.about import MOST_NETWORKS
from probe.core.options import Words, read_bytes, texts, words
from probe.core.records import read_record, write_record
from probe.core.regular import MOST_TEXT, open_regular
from probe.core.run_folders import FOLDS, RESULT, is_held
from probe.core.text import counted
from probe.core.urls import is_url, public, text_of
from probe.errors import UsageError
from probe.finetune.compare import COLOURS, control_options
from probe.finetune.options import Options, Rates, parse_rates
from probe.finetune.source import Places

SCHEMA = 1
FILE_NAME = "promote.json"


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A length that a training had before it went on longer.

    Parameters
    ----------
    steps : int
        Steps that were taken by then.
    length : int
        Epochs or steps over which the schedule was planned.
    """

    steps: int
    length: int


@dataclass(frozen=True, kw_only=True)
class PromoteRequest:
    """What `probe promote` was asked for.

    Parameters
    ----------
    run : str
        Folder of the run to fine-tune.
    dataset_root, weights : str, optional
        Paths of images and weights, if they were moved since the run recorded them.
    sample_weights : str, optional
        CSV file with a sampling weight for each training image.
    compare : tuple of str
        Names of the controls to train as well.
    group : tuple of str
        Columns or files that name groups of images; see `probe.runs.grouping`.
    log : tuple of str
        Names of listeners; see `probe.runs.listeners`.
    max_memory : int or None
        Bytes that the process may use.
    part : int or None
        Images computed at a time to stay within `max_memory`; 0 for whole batches, None while
        it is not decided.
    rates : tuple of float
        Learning rates of which validation images choose; empty for the one of `options`.
    folds : int
        Networks that are trained, each without a fold of the images; 0 for one network that is
        watched on the images that the run held out. See `probe.finetune.folds`.
    planned : tuple of Planned
        Where it went on longer, what was planned before; see `probe.finetune.longer`.
    continues : str
        Folder of the finished fine-tuning that it goes on from, if any.
    """

    run: str
    options: Options
    dataset_root: str | None = None
    weights: str | None = None
    sample_weights: str | None = None
    compare: tuple[str, ...] = ()
    log: tuple[str, ...] = ()
    group: tuple[str, ...] = ()
    command: str = ""
    max_memory: int | None = None
    part: int | None = None
    rates: tuple[float, ...] = ()
    folds: int = 0
    planned: tuple[Planned, ...] = ()
    continues: str = ""

    @classmethod
    def of(
        cls,
        run: Path,
        options: Options,
        *,
        dataset_root: str | Path | None = None,
        weights: str | Path | None = None,
        sampling_weights: str | Path | None = None,
        compare: Words = "",
        lr: Rates = None,
        folds: int | None = None,
        group: str | Sequence[str] | None = None,
        max_memory: str | int | None = None,
        **same: Any,
    ) -> PromoteRequest:
        """Return what the options of `probe promote` ask for; paths become whole ones.

        So a run can be resumed from another working directory.

        Raises
        ------
        UsageError
            A control cannot be compared with these options, or there would be too many trainings.
        """
        controls, rates = tuple(dict.fromkeys(words(compare))), parse_rates(lr)
        for name in controls:
            control_options(name, options)  # refuses what cannot be compared
        if len(rates) + len(controls) > len(COLOURS):
            raise UsageError(
                f"--lr, --compare: {len(rates) + len(controls)} trainings are more than the "
                f"{len(COLOURS)} that one picture can tell apart"
            )
        if folds is not None:
            _check_folds(folds, several=len(rates) > 1, controls=controls)
        groups = texts(group)
        return cls(
            run=str(run.resolve()),
            options=options,
            dataset_root=_whole(dataset_root) if dataset_root else None,
            weights=str(weights) if weights else None,
            sample_weights=str(Path(sampling_weights).resolve()) if sampling_weights else None,
            compare=controls,
            rates=rates if len(rates) > 1 else (),
            folds=folds or 0,
            group=tuple(str(Path(o).resolve()) if Path(o).is_file() else o for o in groups),
            max_memory=read_bytes(max_memory),
            **same,
        )

    def save(self, folder: Path) -> None:
        """Write `promote.json` into a folder, by rename."""
        root = public(self.dataset_root) if self.dataset_root else None
        plain = {"schema": SCHEMA, **vars(self), "dataset_root": root}
        plain["options"] = self.options.to_json()
        plain["planned"] = [asdict(one) for one in self.planned]
        write_record(folder / FILE_NAME, plain)

    @classmethod
    def read(cls, folder: Path, *, finished: bool = False) -> PromoteRequest:
        """Read `promote.json` from a folder; of a complete run only if it may be `finished`.

        Raises
        ------
        UsageError
            `probe promote` did not make the folder, or its run is complete.
        DataError
            The file is damaged.
        """
        path = folder / FILE_NAME
        if not path.is_file():
            raise UsageError(f"{folder}: no {FILE_NAME}, so not a fine-tuning that could go on")
        if not finished and (folder / RESULT).exists():
            longer = "" if (folder / FOLDS).is_dir() else (
                "; --epochs N, or --steps N, goes on longer"
            )  # fmt: skip
            raise UsageError(f"{folder}: this fine-tuning is complete{longer}")
        return read_record(
            path, "what a fine-tuning was asked for", cls._of,
            schema=SCHEMA, mend="start again with `probe promote`",
        )  # fmt: skip

    @classmethod
    def _of(cls, data: dict[str, Any]) -> PromoteRequest:
        known = {name: value for name, value in data.items() if name != "schema"}
        if known.pop("tensorboard", False):  # as 0.1.0 called it
            known.setdefault("log", ["tensorboard"])
        names = ("compare", "group", "log", "rates")
        lists = {name: tuple(known.get(name, ())) for name in names}
        planned = tuple(Planned(**one) for one in data.get("planned", ()))
        options = Options.from_json(data["options"])
        return cls(**known | lists | {"options": options, "planned": planned})

    def places(self, cache_dir: Path) -> Places:
        """Return where the run's images and weights are."""
        root = Path(self.dataset_root) if self.dataset_root else None
        return Places(
            cache_dir=cache_dir, dataset_root=root, weights=self.weights, group=self.group
        )


def _check_folds(folds: int, *, several: bool, controls: Sequence[str]) -> None:
    """Refuse folds that are none, or beside what one network is trained for."""
    if folds < 2:
        raise UsageError(f"--folds {folds}: from 2 on each image is held out once; leave it out")
    if folds > MOST_NETWORKS:
        raise UsageError(f"--folds {folds}: a bundle has at most {MOST_NETWORKS} networks")
    if several or controls:
        option = "--lr of several rates" if several else "--compare"
        raise UsageError(
            f"--folds, {option}: folds are of one recipe; choose it first without --folds"
        )


def _whole(place: str | Path) -> str:
    """Return a path as an absolute one, a URL as it is."""
    text = text_of(place)
    return text if is_url(text) else str(Path(text).resolve())


def newest(runs: Path, *, finished: bool = False) -> Path:
    """Return the newest folder of a fine-tuning that was interrupted, or may be `finished`.

    One that is still trained is left out.

    Raises
    ------
    UsageError
        There is none.
    """
    running = ""
    for path in sorted(runs.glob(f"*/{FILE_NAME}"), reverse=True):
        folder, done = path.parent, (path.parent / RESULT).exists()
        if not done and is_held(folder):
            running = running or f"; {folder.name} is still trained by another process"
        elif finished or not done:
            return folder
    what = "there is no fine-tuning here" if finished else "no fine-tuning was interrupted here"
    raise UsageError(f"{runs}: {what}{running or '; `probe promote` starts one'}")


def read_sample_weights(path: Path, ids: list[str]) -> NDArray[np.float64]:
    """Read a CSV of ``id,weight`` for weighted sampling, in the order of the training images.

    Raises
    ------
    UsageError
        A line has another form, a weight is negative, or an image has none.
    """
    found: dict[str, float] = {}
    with io.TextIOWrapper(open_regular(path, MOST_TEXT), newline="", encoding="utf-8") as file:
        for number, row in enumerate(csv.reader(file), start=1):
            try:
                name, value = row
                found[name] = float(value)
            except ValueError:
                if number == 1:  # column names
                    continue
                raise UsageError(f"{path}: line {number} is not `id,weight`") from None
    weights = np.array([found.get(one, np.nan) for one in ids])
    missing = np.flatnonzero(np.isnan(weights))
    if len(missing):
        raise UsageError(
            f"{path}: {counted(len(missing), 'image has', 'images have')} no weight, "
            f"first {ids[missing[0]]}"
        )
    if (weights < 0).any() or not np.isfinite(weights).all() or not weights.any():
        raise UsageError(f"{path}: weights must be finite, from 0 up, and not all 0")
    return weights
