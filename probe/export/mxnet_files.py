"""MXNet's own pair of files: `PREFIX-symbol.json` and `PREFIX-0000.params`, for `SymbolBlock`."""

from __future__ import annotations

import json
import tempfile
import warnings
from pathlib import Path

from probe.bundle import Bundle
from probe.export.check import about_json, free, reference_rows, require_same
from probe.files import replacing, write_text


def export_mxnet(bundle: Bundle, out: Path) -> list[Path]:
    """Write a bundle for `mx.gluon.SymbolBlock.imports(symbol, ["data"], params)`.

    Outputs are probabilities and features; the input is uint8 (N, S, S, 3), already resized. Where
    networks take their images in several ways, there is an input for each; see `input_names`.

    Parameters
    ----------
    out : Path
        What the names of the files begin with.

    Returns
    -------
    list of Path
        Symbol, parameters, and `PREFIX-about.json` with classes and preprocessing.

    Raises
    ------
    UsageError
        One of the files is there already.
    BundleError
        The head is no stack of layers, or the export answers otherwise than the bundle.
    """
    from probe.export.graph import build_graph
    from probe.mx import mx

    paths = [
        out.with_name(out.name + end) for end in ("-symbol.json", "-0000.params", "-about.json")
    ]
    free(*paths)
    graph = build_graph(bundle)
    arrays = {f"arg:{name}": mx.nd.array(value) for name, value in graph.arguments.items()}
    arrays |= {f"aux:{name}": mx.nd.array(value) for name, value in graph.states.items()}
    rows = reference_rows(bundle)
    with tempfile.TemporaryDirectory() as folder:
        symbol, params = (str(Path(folder, path.name)) for path in paths[:2])
        graph.symbol.save(symbol)
        mx.nd.save(params, arrays)
        with warnings.catch_warnings():  # MXNet infers types, and says that it starts with none
            warnings.simplefilter("ignore", UserWarning)
            block = mx.gluon.SymbolBlock.imports(symbol, list(rows.images), params)
        images = [mx.nd.array(one, dtype="uint8") for one in rows.images.values()]
        found = [one.asnumpy() for one in block(*images)]
        require_same(str(out), rows, found[0], found[1])
    with replacing(paths[1]) as temporary:
        mx.nd.save(str(temporary), arrays)
    write_text(paths[2], json.dumps(about_json(bundle), indent=2, ensure_ascii=False) + "\n")
    write_text(paths[0], graph.symbol.tojson())
    return paths
