"""Export to ONNX: one file with preprocessing arithmetic, network and head."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from probe.bundle import Bundle
from probe.core.files import replacing
from probe.engines.onnx.graph import onnx_model, onnx_nodes
from probe.errors import BundleError
from probe.export.check import about_json, input_names, reference_rows, require_free, require_same
from probe.export.graph import build_graph

MOST_BYTES = 2_000_000_000  # protobuf's limit on one message, less a little


def export_onnx(bundle: Bundle, out: Path) -> list[Path]:
    """Write a bundle as an ONNX model, run by ONNX Runtime on the reference images first.

    The input `data` is uint8 (N, S, S, 3) RGB, already resized, N free; the outputs are
    `probabilities` (N, n_classes) and `features`. If networks resize images differently, each
    has its own input; see `input_names`. Class names and preprocessing are in the model's
    metadata.

    Parameters
    ----------
    out : Path
        The file.

    Returns
    -------
    list of Path
        That file.

    Raises
    ------
    UsageError
        The file exists.
    BundleError
        The head has no layers, or ONNX Runtime gives other answers than the bundle.
    """
    import onnx
    import onnxruntime

    require_free(out)
    model = _model(bundle)
    onnx.checker.check_model(model)
    data = model.SerializeToString()
    rows = reference_rows(bundle)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    found = session.run(["probabilities", "features"], rows.images)
    require_same(str(out), rows, found[0], found[1])
    with replacing(out) as temporary:
        temporary.write_bytes(data)
    return [out]


def _model(bundle: Bundle) -> Any:
    from onnx import helper, numpy_helper

    graph = build_graph(bundle)
    nodes, values = onnx_nodes(graph.network, graph.arrays)
    if sum(value.nbytes for value in values.values()) > MOST_BYTES:
        raise BundleError("the network is larger than one ONNX file may be (2 GB)")
    shapes: dict[str, list[Any]] = {
        "probabilities": ["N", len(bundle.about.classes)],
        "features": ["N", None],
    }
    inputs = zip(input_names(bundle), bundle.inputs, strict=True)
    model = onnx_model(
        bundle.about.backbone,
        nodes,
        {name: ["N", spec.size, spec.size, 3] for name, spec in inputs},
        {name: shapes[name] for name in graph.network.outputs},
        [numpy_helper.from_array(np.asarray(v, order="C"), name) for name, v in values.items()],
        terms=graph.network.terms,
    )
    about = {key: json.dumps(value) for key, value in about_json(bundle).items()}
    helper.set_model_props(model, about)
    return model
