"""What a bundle says of itself: `bundle.json` for programs, the model card for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from probe.backbones.catalog import BACKBONES
from probe.backbones.spec import POOLS, BackboneSpec, Layer, Pool, resolve_pool
from probe.errors import BundleError
from probe.preprocess import PreprocessSpec

SCHEMA = 1
ABOUT = "bundle.json"
NAMES = {"top1": "top-1", "top5": "top-5", "mean_recall": "mean recall", "log_loss": "log loss"}

CAVEAT = (
    "Log loss is in nats. Images unlike the training data are answered all the same: a probability "
    "is not a promise."
)


@dataclass(frozen=True, kw_only=True)
class About:
    """What `bundle.json` says.

    Parameters
    ----------
    backbone, layer, pool : str
    preprocess : mapping
        Fields of a PreprocessSpec.
    classes : tuple of str
        In the order of the probabilities.
    parameters : str
        Digest of the network's parameters, as in a cache key.
    weights, licence : str
        Where the parameters came from, and under which terms.
    dataset, head, run : str
        What it was fitted on, with which solver, in which run.
    metrics : mapping of split to mapping of name to float
        As the run measured them.
    files : mapping of name to SHA256
    schema : int
    """

    backbone: str
    layer: str
    pool: str
    preprocess: Mapping[str, Any]
    classes: tuple[str, ...]
    parameters: str
    weights: str
    licence: str
    dataset: str
    head: str
    run: str
    metrics: Mapping[str, Mapping[str, float]]
    files: Mapping[str, str]
    schema: int = SCHEMA

    @classmethod
    def read(cls, folder: Path) -> About:
        """Read ``bundle.json``.

        Raises
        ------
        BundleError
            There is none, or it is not one of this version.
        """
        path = folder / ABOUT
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise BundleError(
                f"{folder}: not a bundle, {ABOUT} is missing; `probe bundle` makes one of a run"
            ) from None
        except (OSError, ValueError) as error:
            raise BundleError(f"{path}: cannot be read ({error})") from error
        names = {field.name for field in fields(cls)}
        if not isinstance(data, dict) or data.get("schema") != SCHEMA or set(data) != names:
            raise BundleError(f"{path}: not a bundle that this version reads (schema {SCHEMA})")
        return cls(**{**data, "classes": tuple(data["classes"])})

    @property
    def spec(self) -> BackboneSpec:
        """The architecture."""
        return BACKBONES[self.backbone]

    @property
    def cut(self) -> tuple[Layer, Pool]:
        """Where the network ends."""
        layer = self.spec.layer(self.layer)
        pool = next((one for one in POOLS if one == self.pool), None)
        return layer, resolve_pool(layer, pool)


def model_card(about: About) -> str:
    """Return the card; every figure in it is one that the run measured."""
    preprocess = PreprocessSpec.from_json(dict(about.preprocess), "bundle.json")
    shown = [name for name in NAMES if any(name in split for split in about.metrics.values())]
    header = "| split | " + " | ".join(NAMES[name] for name in shown) + " |"
    rows = [
        f"| {split} | " + " | ".join(_figure(name, figures.get(name)) for name in shown) + " |"
        for split, figures in about.metrics.items()
    ]
    classes = ", ".join(about.classes[:50]) + (" ..." if len(about.classes) > 50 else "")
    made = (
        f"A frozen {about.backbone}, cut at {about.layer}, and a {about.head} head fitted on "
        f"{about.dataset}. Made by `probe` from run {about.run}."
    )
    lines = [
        f"# {about.backbone} on {about.dataset}",
        "",
        made,
        "",
        "    probe predict THIS_FOLDER image.jpg",
        "",
        "## Measured",
        "",
        header,
        "|---" * (len(shown) + 1) + "|",
        *rows,
        "",
        CAVEAT,
        "",
        "## Input",
        "",
        f"RGB images of any size. {preprocess.describe()}.",
        "",
        f"## Classes ({len(about.classes)})",
        "",
        classes,
        "",
        "## Terms",
        "",
        f"Backbone weights: {about.weights}, {about.licence}.",
        f"The terms of {about.dataset} hold for the head.",
        "",
    ]
    return "\n".join(lines)


def _figure(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if name == "log_loss" else f"{100 * value:.2f} %"
