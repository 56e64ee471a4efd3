"""The heads of a bench: ordinary runs, found again by a digest of what determines their figures."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

from probe.bench.record import Protocol
from probe.bench.sources import Source
from probe.cache.joining import Joined
from probe.cache.key import canonical_json, digest_text
from probe.core.records import read_record, write_record
from probe.core.run_folders import RESULT
from probe.errors import DataError, UsageError
from probe.evaluation.gains import METRICS
from probe.evaluation.parts import SplitPlan, plan_splits, warn_of_shared
from probe.evaluation.predictions import FILE_NAME as PREDICTIONS
from probe.evaluation.predictions import Predictions, load_predictions
from probe.evaluation.splitting import Labels, fold_split, warn_of_unknown
from probe.evaluation.task import Task, task_of_splits
from probe.evaluation.units import Related, beyond_single
from probe.heads.catalog import HEADS, names_that
from probe.heads.grid import CHOICE_METRICS
from probe.heads.projection import FILE_NAME as PROJECTION
from probe.heads.projection import save_projection
from probe.runs.columns import columns_of, ids_of, of_rows
from probe.runs.fit import HeadRequest, fit_head, keep_run, plan_head, related_rows, run_folder
from probe.runs.grouping import read_weights
from probe.runs.head_request import require_weights
from probe.runs.results import RunResult, read_run, versions
from probe.runs.subgroups import columns_to_tell, tell
from probe.schedulers import Workers, fitting_on

log = logging.getLogger(__name__)

FILE_NAME = "protocol.json"


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A finished run, and whether it was there already."""

    run: str
    result: RunResult
    found: bool


def head_request(head: str, protocol: Protocol, command: str) -> HeadRequest:
    """Return what `probe head` would be asked for: a grid wherever the head has one."""
    has_grid = bool(HEADS[head].grids())
    return HeadRequest(
        solver=head,
        grid=has_grid,
        val_size=None if protocol.folds else protocol.val_size,
        folds=protocol.folds,
        repeats=protocol.repeats,
        metric=_choice_metric(protocol) if has_grid or protocol.folds else "top1",
        sample_weight=protocol.sample_weight,
        seed=protocol.seed,
        command=command,
    )


def _choice_metric(protocol: Protocol) -> str:
    """Return the name under which a head's choice goes by what the bench ranks by."""
    named = {figure: name for name, figure in CHOICE_METRICS.items()}
    return named.get(protocol.metric, "top1")


def check_protocol(
    protocol: Protocol, labels: Mapping[str, Labels], related: Related | None = None
) -> None:
    """Refuse a protocol that a dataset cannot follow, before hours go into its features.

    Parameters
    ----------
    labels : mapping of split name to int, (n_images,)
    related : Related, optional
        Which images belong together.

    Raises
    ------
    UsageError
        There are no training images, or too few for the folds; nothing is held out, or a
        head takes one label an image and these may have several.
    """
    if protocol.sample_weight is not None:
        for name in protocol.heads:
            require_weights(name)
    task = task_of_splits(labels.values())
    if protocol.metric in METRICS:
        task.require_one_label(
            f"--metric {_choice_metric(protocol)} is for images of one label each",
            "mean average precision ranks them; leave it out",
        )
    _require_able(protocol.heads, task)
    plan = plan_splits(labels, val_size=protocol.val_size, seed=protocol.seed, related=related)
    if related is not None:
        warn_of_shared(related, labels)
    if protocol.folds:
        train = labels["train"]
        folds = fold_split(
            train, protocol.folds, protocol.seed, repeats=protocol.repeats,
            units=plan.units.get("train"),
        )  # fmt: skip
        warn_of_unknown(train, folds)  # here, once: all heads have these folds
    else:
        _require_held_out(plan)


def _require_able(heads: Sequence[str], task: Task) -> None:
    for name in heads:
        if not (task.exclusive or HEADS[name].takes_several):
            raise UsageError(
                f"--heads {name}: these images may have several labels, and this head knows one an "
                f"image; take some of {names_that('takes_several', 'or')}"
            )


def _require_held_out(plan: SplitPlan) -> None:
    if plan.val is None:
        raise UsageError("--val-size 0 leaves nothing to compare on; hold rows out, or --folds 5")


def plan_rows(source: Source, protocol: Protocol) -> SplitPlan:
    """Decide which rows are trained on and held out: the same for all features of a dataset.

    Raises
    ------
    UsageError
        Nothing would be held out, so nothing could be compared.
    """
    request = replace(head_request(protocol.heads[0], protocol, ""), groups=source.groups)
    plan = plan_head(_joined(source), request)
    if not protocol.folds:
        _require_held_out(plan)
    return plan


def _joined(source: Source) -> Joined:
    return cast("Joined", source)  # it has the parts that are used: entry and splits


class Runs:
    """The runs of a cache folder, by the digest of their protocol."""

    def __init__(self, cache_dir: Path) -> None:
        self.folder, self._ledger = cache_dir / "runs", cache_dir / "ledger"
        self._known: dict[str, Path] = {}
        for path in sorted(self.folder.glob(f"*/{FILE_NAME}")):
            run = path.parent
            if (run / RESULT).is_file() and (run / PREDICTIONS).is_file():
                digest = _read_digest(path)
                if digest is not None:
                    self._known[digest] = run

    def fit(
        self,
        source: Source,
        head: str,
        protocol: Protocol,
        command: str,
        *,
        on_fit: Callable[[], None] = lambda: None,
        workers: Workers | None = None,
    ) -> Fitted:
        """Return the run of a head on features, fitted now unless it was before.

        Parameters
        ----------
        on_fit : callable, optional
            Called where it has to be fitted, before it is.
        workers : Workers, optional
            Who fit heads that are fitted one by one.

        Raises
        ------
        ProbeError
            The head cannot be fitted on these rows, or an entry is damaged.
        """
        request = replace(head_request(head, protocol, command), groups=source.groups)
        about = _identity(source, request)
        digest = digest_text(canonical_json(about))
        found = self._known.get(digest)
        if found is not None:
            try:
                said, result = load_predictions(found), read_run(found)
                if protocol.split in said:
                    return Fitted(run=found.name, result=_with_columns(result, said, source),
                                  found=True)  # fmt: skip
            except DataError as error:
                log.warning("fitted again: %s", error)
            del self._known[digest]
        on_fit()
        plan = plan_rows(source, protocol)
        spread = workers is not None and HEADS[head].one_by_one
        with run_folder(None, self.folder) as target, fitting_on(workers if spread else None) as n:
            request = replace(request, jobs=n or request.jobs)
            run = fit_head(_joined(source), request, plan, ledger=self._ledger)
            write_record(target / FILE_NAME, {"digest": digest, **about}, indent=1)
            if source.projection is not None:  # else nobody could use the head on other images
                save_projection(source.projection(), target / PROJECTION)
            keep_run(target, run, source.entry.classes)
        self._known[digest] = target
        return Fitted(run=target.name, result=run.result, found=False)


def _with_columns(result: RunResult, said: Mapping[str, Predictions], source: Source) -> RunResult:
    """Return an older run's result with figures by columns that its entry has got since."""
    split = result.per_class.split
    if result.subgroups is not None or split not in said:
        return result
    columns = columns_to_tell(columns_of(source), ids_of(source))
    own = of_rows(columns, source, split, said[split].ids.tolist())
    return replace(result, subgroups=tell(said[split], split, own))


def _identity(source: Source, request: HeadRequest) -> dict[str, Any]:
    """Return everything that determines a run's figures; another value makes another run."""
    usual = asdict(HeadRequest())
    plain = asdict(replace(request, groups=()))
    asked = {name: value for name, value in plain.items() if value != usual[name]}
    grids = {name: list(values) for name, values in request.searched().items()}
    return {
        "entries": [entry.key.digest for entry in source.entries],
        **({"beside": source.beside} if source.beside else {}),
        "labels": source.labels_digest,
        "pca": source.pca,
        "request": {**asked, "command": "", "grids": grids},
        **_units_of(source),
        **_weights_of(source, request.sample_weight),
        "probe": versions()["probe"],
    }


def _units_of(source: Source) -> dict[str, str]:
    """Return what stands for which rows belong together; nothing where each is alone."""
    related = related_rows(source.splits, source.groups)
    if not any(map(beyond_single, related.units.values())):
        return {}
    units = "\0".join(one.astype("<i8").tobytes().hex() for one in related.units.values())
    return {"units": digest_text(units), "grouped_by": related.by}


def _weights_of(source: Source, column: str | None) -> dict[str, str]:
    """Return what stands for the weights of the images; nothing where all count alike."""
    if column is None:
        return {}
    ids = {name: split.ids for name, split in source.splits.items() if name != "test"}
    found = read_weights(column, ids, columns_of(source))
    return {"weights": digest_text(" ".join(one.tobytes().hex() for one in found.values()))}


def _read_digest(path: Path) -> str | None:
    """Return a run's digest; None where it has to be fitted again."""

    def digest(about: Any) -> str | None:
        if about["pca"] is not None and not path.with_name(PROJECTION).is_file():
            return None  # of a version that did not keep what the PCA learnt
        return str(about["digest"])

    try:
        return read_record(path, "what a run of a bench is of", digest)
    except DataError:
        return None
