"""Export to MXNet: `PREFIX-symbol.json` and `PREFIX-0000.params`, for `SymbolBlock`."""

from __future__ import annotations

import json
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from probe.backbones.network import is_statistic
from probe.bundle import Bundle
from probe.core.files import replacing
from probe.core.ndarray_list import write_list
from probe.engines import load_mxnet, mxnet_json
from probe.errors import BundleError
from probe.export.check import ReferenceRows, about_json, reference_rows, require_free, require_same
from probe.export.graph import build_graph


def export_mxnet(bundle: Bundle, out: Path) -> list[Path]:
    """Write a bundle for `mx.gluon.SymbolBlock.imports(symbol, ["data"], params)`.

    The symbol has the shapes of its parameters, so that `mx.mod.Module(symbol, label_names=None)`
    binds with that of the images alone.

    Outputs are probabilities and features; the input is uint8 (N, S, S, 3), already resized. If
    networks resize images differently, each has its own input; see `input_names`.

    Parameters
    ----------
    out : Path
        The beginning of the files' names.

    Returns
    -------
    list of Path
        Symbol, parameters, and `PREFIX-about.json` with classes and preprocessing.

    Raises
    ------
    UsageError
        One of the files exists.
    BundleError
        The head has no layers, or the export differs from the bundle.
    CacheError
        The files cannot be written.
    """
    paths = [
        out.with_name(out.name + end) for end in ("-symbol.json", "-0000.params", "-about.json")
    ]
    require_free(*paths)
    if any(one.about.foreign for one in bundle.networks):
        raise BundleError("a network from an ONNX file can go to ONNX alone; take --to onnx")
    graph, rows = build_graph(bundle), reference_rows(bundle)
    arrays = {
        f"{'aux' if is_statistic(name) else 'arg'}:{name}": value
        for name, value in graph.arrays.items()
    }
    shapes = {name: value.shape for name, value in graph.arrays.items()}
    about = json.dumps(about_json(bundle), indent=2, ensure_ascii=False) + "\n"
    with ExitStack() as stack:  # all three are on disk before one of them appears
        symbol, params, facts = (stack.enter_context(replacing(path)) for path in paths)
        symbol.write_text(mxnet_json(graph.network, shapes), encoding="utf-8")
        with params.open("wb") as file:
            write_list(file, arrays)  # where MXNet's own writer would not say why it cannot
        facts.write_text(about, encoding="utf-8")
        require_same(str(out), rows, *_imported(symbol, params, rows))
    return paths


def _imported(symbol: Path, params: Path, rows: ReferenceRows) -> tuple[Any, Any]:
    """Return the probabilities and features that Gluon computes with the files."""
    mx = load_mxnet("`probe export --to mxnet`").mx
    with warnings.catch_warnings():  # MXNet infers types, and says that it starts with none
        warnings.simplefilter("ignore", UserWarning)
        block = mx.gluon.SymbolBlock.imports(str(symbol), list(rows.images), str(params))
    images = [mx.nd.array(one, dtype="uint8") for one in rows.images.values()]
    probabilities, features = (one.asnumpy() for one in block(*images))
    return probabilities, features
