"""`probe bundle`: make a bundle of a run, or of weights with their pretrained classifier."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from probe.cli import complete
from probe.cli.options import AsJson, CacheDir, cache_folder
from probe.cli.pass_options import Device, EngineName, Mean
from probe.cli.predict import Classes, Preprocess
from probe.core.records import loads_json
from probe.errors import UsageError

if TYPE_CHECKING:
    from probe.bundle import Bundle


def bundle(
    run: Annotated[
        Path | None,
        typer.Argument(
            help="A run's folder, its name or the beginning of its name.",
            show_default="the newest run, or the winner of a bench made after it",
            autocompletion=complete.runs,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder to make, or a file NAME.probe.",
            show_default="RUN/bundle, or BACKBONE.probe",
        ),
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            help="Where the weights are now; of several backbones BACKBONE=FILE, repeatable.",
            show_default="where extract found them",
        ),
    ] = None,
    folds: Annotated[
        bool,
        typer.Option("--fold-heads", help="The heads of all folds, averaged, not the final one."),
    ] = False,
    reject_rate: Annotated[
        float,
        typer.Option(
            help="Share of held-out images that each of the flags low-confidence and "
            "out-of-distribution may hit; 0 for no flags."
        ),
    ] = 0.05,
    remember: Annotated[
        Literal["nothing", "labels", "ids", "pictures"],
        typer.Option(
            help="What to keep of some training images: labels with features, ids too, or pictures "
            "too."
        ),
    ] = "labels",
    backbone: Annotated[
        str | None,
        typer.Option(
            autocompletion=complete.backbones,
            help="No run: this backbone with its weights' own classifier.",
        ),
    ] = None,
    preprocess: Preprocess = None,
    mean: Mean = None,
    classes: Classes = None,
    engine: EngineName = "auto",
    device: Device = "auto",
    cache_dir: CacheDir = None,
    as_json: AsJson = False,
) -> None:
    """Make a bundle: a folder or a file that predicts without cache and dataset.

    A row of `probe bench --concat` or `--pca` becomes one too, with all its networks.
    """
    from probe.bench.find import default_run, find_run
    from probe.bundle.make import BundleRequest, own_top, read_classes
    from probe.screen import console
    from probe.screen.bundles import bundle_shown, held_out_image

    folder = cache_folder(cache_dir)
    if backbone is not None:
        if run is not None:
            raise UsageError("name a run or --backbone, not both")
        target = out if out is not None else Path(f"{backbone}.probe")
        if len(weights or ()) > 1:
            raise UsageError("--weights: --backbone is one network, so name one file")
        place = weights[0] if weights else "auto"
        names = read_classes(classes) if classes is not None else None
        top = own_top(
            backbone,
            cache_dir=folder,
            weights=place,
            preprocess=preprocess,
            classes=names,
            mean=mean,
        )
        made, image = top.bundle(target, engine=engine, device=device), None
    else:
        request = BundleRequest(
            weights=tuple(weights or ()),
            folds=folds,
            reject_rate=reject_rate,
            remember=remember,
            engine=engine,
            device=device,
        )
        if run is not None:
            source = find_run(folder / "runs", run)
        else:
            source = console.chosen(default_run(folder))
        target = out if out is not None else source / "bundle"
        made = bundle_shown(source, target, folder, request)
        image = held_out_image(source, folder)
    _show(made, target, image, as_json=as_json)


def _show(made: Bundle, target: Path, image: Path | None, *, as_json: bool) -> None:
    from probe.bundle import bundle_size
    from probe.screen import console

    about, size = made.about, bundle_size(target)
    if as_json:
        console.print_json({"bundle": str(target), "bytes": size, **loads_json(about.to_json())})
        return
    classes = about.classes
    rows = {
        "bundle": f"{console.place(target)}  ({console.size(size)})",
        **_networks(made),
        "licence": about.licence.removeprefix("licence "),
        "classes": f"{len(classes)}: {', '.join(classes[:8])}" + " ..." * (len(classes) > 8),
    }
    if about.heads:
        rows |= {"answers": _answers(made), "flags": _flags(made)}
    after = ("predict", target, image) if image is not None else ("serve", target)
    console.facts(console.stdout(), rows | {"next": console.command(*after)})


def _networks(made: Bundle) -> dict[str, str]:
    each = [f"{one.backbone} to {one.layer}, {one.weights}" for one in made.about.networks]
    if len(each) == 1:
        rows = {"network": each[0]}
    elif made.about.ensemble:  # alike but for what they learnt
        rows = {"networks": f"{len(each)}, one for each fold: {each[0]}"}
    else:
        sizes = [f" at {one.preprocess.size} pixels" for one in made.networks]
        told = [text + size for text, size in zip(each, sizes, strict=True)]
        rows = {f"network {number}": text for number, text in enumerate(told, start=1)}
    projection = made.projection
    if projection is not None:
        rows["features"] = f"{projection.n_features:,}, after the PCA {projection.width:,}"
    elif made.neighbours is not None and len(each) > 1 and not made.about.ensemble:
        rows["features"] = f"{made.neighbours.features.shape[1]:,} side by side"
    return rows


def _answers(made: Bundle) -> str:
    heads, temperature = len(made.heads), made.about.temperature
    several = f"mean of {heads} heads, " if heads > 1 else ""
    if made.about.ensemble:
        several = f"mean of {heads} networks, "
    how = "not calibrated" if temperature is None else f"temperature {temperature:.4g}"
    if made.votes:
        how = f"shares of {made.votes} votes, not calibrated"
    if made.about.threshold is not None:
        how += f"; {made.about.threshold.words()}"
    low, high = made.thresholds.min(), made.thresholds.max()
    if made.about.thresholds is not None:
        how += f"; each label from a threshold of its own, {low:.2f} to {high:.2f}"
    elif not made.about.task.exclusive:
        why = "half of the votes" if made.votes else "0.5 on, for nothing was held out"
        how += f"; each label from {why}"
    return several + how


def _flags(made: Bundle) -> str:
    rejection = made.about.rejection
    if rejection is None:
        return "none"
    words = []
    if rejection.confidence is not None:
        words.append(f"low confidence below {rejection.confidence:.4f}")
    if rejection.distance is not None:
        words.append(f"out of distribution beyond {rejection.distance:.4f}")
    return f"{', '.join(words)}: {100 * rejection.rate:g} % of held-out images each"
