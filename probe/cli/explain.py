"""`probe explain`: explain a prediction by neighbours and a heat map."""

from __future__ import annotations

from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from probe.cli import complete
from probe.cli.options import AsJson, CacheDir, DatasetRoot, cache_folder
from probe.cli.pass_options import Device, EngineName

if TYPE_CHECKING:
    from probe.predict.explanation import Explanation


def explain(
    bundle: Annotated[Path, typer.Argument(help="What `probe bundle` made.")],
    image: Annotated[Path, typer.Argument(help="An image file.")],
    out: Annotated[
        Path | None,
        typer.Option(
            help="PNG to write.", show_default="./IMAGE-explained.png, numbered where it is there"
        ),
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="The class to explain.", show_default="the most probable")
    ] = None,
    form: Annotated[
        Literal["auto", "cam", "occlusion", "none"],
        typer.Option(
            "--heatmap",
            help="What in the image speaks for the class; cam is exact, for linear heads on one "
            "network's averaged maps.",
        ),
    ] = "auto",
    neighbours: Annotated[
        int, typer.Option("--neighbours", min=1, max=50, help="Nearest training images to show.")
    ] = 8,
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset",
            "-d",
            autocompletion=complete.datasets,
            help="Find neighbours, with pictures, among its training images; their features have "
            "to be in the cache.",
            show_default="those that the bundle remembers",
        ),
    ] = None,
    dataset_root: DatasetRoot = None,
    engine: EngineName = "auto",
    device: Device = "auto",
    cache_dir: CacheDir = None,
    as_json: AsJson = False,
) -> None:
    """Show the nearest training images, and what in the image speaks for the class."""
    from probe.api.bundles import explain as explained
    from probe.screen import console

    target = out if out is not None else _free(f"{image.stem}-explained")
    found = explained(
        bundle, image, label=label, heatmap=form, neighbours=neighbours, dataset=dataset,
        dataset_root=dataset_root, out=target, engine=engine, device=device,
        cache_dir=cache_folder(cache_dir),
    )  # fmt: skip
    if as_json:
        console.print_json({**_to_json(found), "picture": str(target)})
        return
    told = found.prediction
    answers = zip(told.labels, told.probabilities, strict=True)
    labels = {} if told.given is None else {"labels": ", ".join(told.given) or "none"}
    near = [
        f"{one.label} {one.distance:.3f}".lstrip() + (f" ({one.id})" if one.id else "")
        for one in found.neighbours
    ]
    facts = labels | {
        "answer": ", ".join(f"{name} {100 * value:.1f} %" for name, value in answers),
        "flags": ", ".join(found.prediction.flags) or "none",
        "nearest": "; ".join(near) or "the bundle remembers no training images",
        "map": f"{found.kind} of {found.label}" if found.kind else "none",
        "picture": console.place(target),
    }
    console.facts(console.stdout(), facts)


def _free(stem: str) -> Path:
    """Return a name that is not taken: images of two folders may be called the same."""
    names = chain([f"{stem}.png"], (f"{stem}-{number}.png" for number in count(2)))
    return next(path for path in map(Path, names) if not path.exists())


def _to_json(found: Explanation) -> dict[str, Any]:
    """Return plain values; `peak` is where most speaks for the class, 0 to 1 from the top left."""
    from probe.cli.predict import to_json

    near = [
        {"label": one.label, "distance": one.distance, **({"id": one.id} if one.id else {})}
        for one in found.neighbours
    ]
    heat: dict[str, Any] = {}
    if found.heat is not None:  # the map itself is in the picture, and Explanation.heat in Python
        rows, columns = found.heat.shape
        y, x = divmod(int(found.heat.argmax()), columns)
        heat = {"map": found.kind, "peak": [(x + 0.5) / columns, (y + 0.5) / rows]}
    return {**to_json(found.prediction), "label": found.label, "neighbours": near, **heat}
