"""Go on longer with a fine-tuning than it was planned for.

An interrupted one goes on in its folder. A finished one stays as it is, and a new run begins with a
copy of its last checkpoint. Steps that are behind keep the learning rates that they had; those
ahead have the rates of a schedule that is planned over the whole length, as if it had been so from
the start. Where both schedules agree on the steps behind, as a constant one or during the warmup,
the end is that of a training of this length from the start, bit for bit.
"""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path

from probe.core.files import make_folder, replacing
from probe.core.regular import open_regular
from probe.core.run_folders import RESULT, is_held
from probe.errors import DataError, UsageError
from probe.finetune.checkpoint import BEST, FOLDER, LAST, load_last
from probe.finetune.options import Options
from probe.finetune.rates import schedule_of
from probe.finetune.request import FILE_NAME, Planned, PromoteRequest
from probe.runs.fit import run_folder
from probe.runs.mlflow_client import RUN_ID

log = logging.getLogger(__name__)


def lengthened(
    folder: Path, runs: Path, *, epochs: int | None, steps: int | None, command: str
) -> Path:
    """Return the folder in which a fine-tuning goes on to a length, ready to be resumed.

    Parameters
    ----------
    folder : Path
        Of an interrupted or a finished fine-tuning.
    runs : Path
        Where a new run is made if it is finished.
    epochs, steps : int, optional
        The length, counted from the first step, in the unit in which it was given at the start.

    Raises
    ------
    UsageError
        It is not longer, is in the other unit, `patience` ended the training, or its checkpoints
        are gone.
    """
    asked = PromoteRequest.read(folder, finished=True)
    options = _options(asked.options, epochs, steps)
    done = (folder / RESULT).exists()
    if options == asked.options:
        if done:
            raise UsageError(f"{folder}: this fine-tuning has its {options.length}; ask for more")
        return folder
    if asked.folds:
        raise UsageError(
            f"{folder}: each network of its folds has its own best epoch and keeps no checkpoint; "
            "start anew with another length"
        )
    found = load_last(folder)
    if done and (found is None or not (folder / FOLDER / BEST).exists()):
        raise UsageError(
            f"{folder}: its {FOLDER} are gone, so it cannot go on; start anew with "
            f"--{options.unit} {options.count}"
        )
    behind = 0 if found is None else found[0].updates
    if found is not None and found[0].stopped:
        raise UsageError(
            f"{folder}: --patience {options.patience} ended it after epoch {found[0].epoch - 1}, "
            "and would again; start anew with another --patience"
        )
    if asked.rates and not done:
        raise UsageError(
            f"{folder}: several learning rates are compared at one length; let `probe promote "
            f"--resume {folder.name}` end, and go on longer with the one that is chosen"
        )
    if asked.compare:
        log.warning(
            "--compare %s is left out: those controls had one schedule from the start, and a "
            "training that goes on longer has two", ",".join(asked.compare),
        )  # fmt: skip
    new = replace(
        asked, options=options, compare=(), rates=(), command=f"{asked.command}; {command}",
        planned=(*asked.planned, Planned(steps=behind, length=asked.options.count)),
    )  # fmt: skip
    if not done:
        new.save(folder)
        (folder / RUN_ID).unlink(missing_ok=True)  # MLflow takes no parameter anew
        return folder
    new = replace(new, continues=str(folder.resolve()))
    if begun := _begun(runs, new):
        return begun
    with run_folder(None, runs) as target:
        make_folder(target / FOLDER)
        for name in (LAST, BEST):
            _copy(folder / FOLDER / name, target / FOLDER / name)
        new.save(target)
    return target


def _options(options: Options, epochs: int | None, steps: int | None) -> Options:
    """Return options of another length; raises UsageError if it is shorter."""
    wanted = {"epochs": epochs, "steps": steps}[options.unit]
    if wanted is None:
        raise UsageError(
            f"this fine-tuning has {options.length}: give its length as --{options.unit} N"
        )
    if wanted < options.count:
        raise UsageError(
            f"--{options.unit} {wanted}: this fine-tuning has {options.length}, and --resume makes "
            "none shorter; ask for more"
        )
    return options.lasting(wanted)


def _begun(runs: Path, wanted: PromoteRequest) -> Path | None:
    """Return the folder of the same longer training that was interrupted, and that no one holds."""
    for path in sorted(runs.glob(f"*/{FILE_NAME}"), reverse=True):
        try:
            there = PromoteRequest.read(path.parent)
        except (UsageError, DataError):  # it is complete or damaged
            continue
        same = (there.continues, there.options) == (wanted.continues, wanted.options)
        if same and not is_held(path.parent):
            return path.parent
    return None


def _copy(source: Path, target: Path) -> None:
    with open_regular(source) as file, replacing(target) as temporary, temporary.open("wb") as out:
        shutil.copyfileobj(file, out, 1 << 20)


def planned_anew(asked: PromoteRequest, updates: int) -> str:
    """Say what the schedule does where a training goes on longer; empty where none did.

    Parameters
    ----------
    updates : int
        Steps of an epoch.
    """
    if not asked.planned:
        return ""
    last, options = asked.planned[-1], asked.options
    ran: list[float] = []  # factors of the steps behind, each of the schedule that it ran under
    for one in asked.planned:
        old = options.lasting(one.length)
        ran += map(schedule_of(old, updates).factor, range(len(ran) + 1, one.steps + 1))
    new = schedule_of(options, updates)
    text = f"{options.length}, planned as {options.lasting(last.length).length}"
    if all(factor == new.factor(step) for step, factor in enumerate(ran, start=1)):
        return f"{text}; it ends as if it had been this long from the start"
    old_rate, new_rate = (options.rate * one for one in (ran[-1], new.factor(len(ran) + 1)))
    return (
        f"{text}; the {options.schedule} schedule is planned anew over all of them, so that the "
        f"learning rate, which had come to {old_rate:.2g}, goes on from {new_rate:.2g}"
    )
