"""`probe weights`: list, fetch, check, show and convert pretrained weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from probe.cli import complete
from probe.cli.commands import Command, command_app
from probe.cli.options import AsJson, CacheDir, cache_folder
from probe.cli.pass_options import Mean
from probe.cli.weights_show import show

if TYPE_CHECKING:
    from probe.backbones.spec import BackboneSpec
    from probe.core.memo import Memo
    from probe.weights import ResolvedWeights, WeightsSpec

WIDE = 143  # columns that a row of the list needs; where there are fewer it takes two lines

app = command_app("Which pretrained weights are known; fetch, show, check and convert them.")


app.command(cls=Command, name="show")(show)


@app.command(cls=Command, name="list")
def list_weights(
    backbone: Annotated[
        str | None,
        typer.Option(help="Only those of this backbone.", autocompletion=complete.backbones),
    ] = None,
    cache_dir: CacheDir = None,
    as_json: AsJson = False,
) -> None:
    """List the published weights: size, licence, accuracy, preprocessing, proof, at hand or not.

    "known answer" means that their features were recorded when they were right and are compared on
    first use; "unverified" that nobody here could run them.
    """
    from probe.backbones.catalog import BACKBONES
    from probe.screen import console
    from probe.weights import WEIGHTS, locate, serves, verified_by

    folder = cache_folder(cache_dir)
    wanted = list(WEIGHTS.values())
    if backbone is not None:
        wanted = [one for one in wanted if serves(one, BACKBONES[backbone])]
    found = {one.name: locate(one, folder) for one in wanted}
    proof = {one.name: verified_by(one, folder) for one in wanted}
    if as_json:
        listed = [_as_json(one, found[one.name], proof[one.name]) for one in wanted]
        console.print_json({"weights": listed})
        return
    out = console.stdout()
    rows = [_row(one, proof[one.name], here=found[one.name] is not None) for one in wanted]
    if out.is_terminal and out.width < WIDE:
        narrow = []
        for row in rows:
            below = f"{row[3]}, {row[4].partition(' (')[0]}, {row[6]}"
            narrow.append([console.two_lines(row[0], below), row[1], row[2], row[7]])
        console.table(out, ["weights", "size", "top-1", ""], narrow, right=(1, 2))
    else:
        columns = ["weights", "size", "ImageNet top-1", "preprocessing", "licence", "digest"]
        console.table(out, [*columns, "proof", ""], rows, right=(1, 2), fold=(4,))
    publishers = sorted({one.top1_by for one in wanted if one.top1_by})
    if publishers:
        console.stderr().print(f"top-1 as published by {'; '.join(publishers)}")


@app.command(cls=Command, name="fetch")
def fetch_weights(
    name: Annotated[str, typer.Argument(help="A name from `probe weights list`.")],
    mirror: Annotated[
        list[str] | None,
        typer.Option(
            envvar="PROBE_WEIGHTS_MIRRORS",
            help="Address of a folder with published files, tried first; may be repeated.",
        ),
    ] = None,
    cache_dir: CacheDir = None,
) -> None:
    """Download a published file into the cache folder and check its digest.

    A download that broke off goes on where it stopped.
    """
    from probe.screen import console
    from probe.weights import fetch

    path = fetch(name, cache_folder(cache_dir), mirrors=mirror or (), progress=console.download_bar)
    console.stdout().print(console.place(path), soft_wrap=True)


Backbone = Annotated[
    str | None,
    typer.Option(
        help="Backbone that the weights are for.",
        show_default="the only one they fit",
        autocompletion=complete.backbones,
    ),
]
Preprocess = Annotated[
    str | None,
    typer.Option(
        help="Preprocessing that the weights were trained with: a name of probe's or "
        "torchvision's, a JSON file of probe's, transformers' or timm's, or a folder with one. "
        "Known weights bring it."
    ),
]


@app.command(cls=Command, name="check")
def check(
    name: Annotated[str, typer.Argument(help="A name from `probe weights list`, or a file.")],
    backbone: Backbone = None,
    preprocess: Preprocess = None,
    mean: Mean = None,
    record: Annotated[
        bool, typer.Option("--record", help="Keep what they give as their known answer.")
    ] = False,
    cache_dir: CacheDir = None,
    as_json: AsJson = False,
) -> None:
    """Run weights on two photographs and compare with their known answer."""
    from probe.backbones.foreign import ForeignBackbone
    from probe.screen import console
    from probe.weights import (
        check_weights,
        class_names,
        record_answer,
        require_agreement,
        with_mean,
    )

    weights, spec, memo, folder = _resolved(name, backbone, preprocess, cache_dir)
    if mean is not None:
        weights = with_mean(weights, mean)
    verdict = check_weights(weights, spec, cache_dir=folder, memo=memo)
    if not (record and isinstance(spec, ForeignBackbone)):  # whose answer nobody published
        require_agreement(verdict, weights)
    kept = record_answer(verdict.now, folder) if record else None
    known = f"recorded in {console.place(kept)}" if kept else "none; unverified"
    if verdict.answer is not None and kept is None:
        known = (
            f"{verdict.answer.name}: off by {verdict.deviation:.1g}, at most {verdict.tolerance:g}"
        )
    facts = {
        "weights": f"{weights.name} ({console.place(weights.path)})"
        if weights.path
        else weights.name,
        "features": f"{spec.name}, layer {verdict.now.layer}",
        "input": f"{weights.preprocess.describe()}  [{weights.decided_by}]",
        "known answer": known,
    }
    names = getattr(spec, "classes", ()) or class_names()
    tops = [[names[one] for one in row] for row in verdict.now.top5]
    for photograph, classes in zip(("a palace", "a flower"), tops, strict=False):
        facts[photograph] = ", ".join(classes)
    if as_json:
        status = "agrees" if verdict.answer else "recorded" if kept else "unverified"
        found = {"status": status, "deviation": verdict.deviation, "tolerance": verdict.tolerance}
        console.print_json({**found, "top5": tops, "answer": verdict.now.to_json()})
        return
    console.facts(console.stdout(), facts)
    if verdict.answer is None and kept is None:
        sure = "if those classes are right" if tops else "if the preprocessing above is right"
        console.stderr().print(f"{sure}, --record keeps this as the known answer")


@app.command(cls=Command, name="convert")
def convert(
    source: Annotated[str, typer.Argument(help="A name from `probe weights list`, or a file.")],
    out: Annotated[Path, typer.Argument(help="What to write: NAME.params or NAME.safetensors.")],
    backbone: Backbone = None,
    preprocess: Preprocess = None,
    mean: Mean = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a file that is there.")
    ] = False,
    cache_dir: CacheDir = None,
) -> None:
    """Write weights as Gluon's .params or as safetensors, with their preprocessing inside."""
    from probe.screen import console
    from probe.weights import convert_weights, with_mean

    weights, spec, _, _ = _resolved(source, backbone, preprocess, cache_dir)
    if mean is not None:
        weights = with_mean(weights, mean)
    done = convert_weights(weights, spec, out, overwrite=overwrite)
    facts = {
        "written": f"{console.place(done.path)}  ({console.size(done.path.stat().st_size)})",
        "holds": f"{spec.name} up to {done.layer}, {done.parameters} arrays, float32",
        "input": weights.preprocess.describe(),
    }
    if done.omitted:
        facts["note"] = "; ".join(done.omitted)
    console.facts(console.stdout(), facts)


def _resolved(
    argument: str, backbone: str | None, preprocess: str | None, cache_dir: Path | None
) -> tuple[ResolvedWeights, BackboneSpec, Memo, Path]:
    from probe.backbones.foreign import ForeignBackbone
    from probe.core.memo import Memo
    from probe.preprocess.load import load_preprocess
    from probe.weights import backbone_called, backbone_for, resolve_weights

    folder = cache_folder(cache_dir)
    memo = Memo(folder / "memo.sqlite")
    spec = backbone_called(backbone, memo) if backbone else backbone_for(argument, memo)
    if isinstance(spec, ForeignBackbone):
        argument = "auto"
    given = load_preprocess(preprocess) if preprocess else None
    weights = resolve_weights(spec, argument, cache_dir=folder, memo=memo, preprocess=given)
    return weights, spec, memo, folder


def _row(spec: WeightsSpec, proof: str, *, here: bool) -> list[str]:
    from probe.screen import console

    return [
        spec.name,
        console.size(spec.size) if spec.size else "?",
        f"{100 * spec.top1:.2f} %" if spec.top1 is not None else "-",
        spec.preprocess.name,
        spec.licence,
        _stated(spec),
        proof,
        "at hand" if here else "-",
    ]


def _stated(spec: WeightsSpec) -> str:
    """The digest that the publisher states, as short as it tells."""
    stated = {"sha256": spec.sha256, "md5": spec.md5, "sha1": spec.sha1}
    return next(f"{kind}:{digest[:8]}" for kind, digest in stated.items() if digest)


def _as_json(spec: WeightsSpec, path: Path | None, proof: str) -> dict[str, Any]:
    return {
        "name": spec.name,
        "aliases": list(spec.aliases),
        "backbone": spec.backbone,
        "format": spec.format,
        "file": spec.file_name,
        "bytes": spec.size,
        "licence": spec.licence,
        "top1": spec.top1,
        "top1_by": spec.top1_by or None,
        "sha256": spec.sha256 or None,
        "md5": spec.md5 or None,
        "sha1": spec.sha1 or None,
        "proof": proof,
        "preprocess": spec.preprocess.to_json(),
        "urls": list(spec.urls),
        "install": spec.install or None,
        "path": str(path) if path else None,
    }
