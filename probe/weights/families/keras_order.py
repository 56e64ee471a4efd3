"""Keras files that count layers and do not name them.

Until Keras 3.3 a `.weights.h5` or `.keras` calls a layer by its class and how many of that class
came before it in `model.layers`. That list is sorted by the distance to the network's output, and
then by the order in which layers were made.

References
----------
keras/src/saving/saving_lib.py: _save_container_state; keras/src/ops/function.py: map_graph.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from probe.weights.naming import Naming

UNNAMED = "layers/"  # before what the reader calls a layer without a name


def by_order(naming: Naming, layers: Iterable[str]) -> Naming:
    """Return a Keras naming for files that count layers.

    Parameters
    ----------
    naming : Naming
        By the layers' names.
    layers : iterable of str
        All layers with weights, as `model.layers` lists them.
    """
    kinds = _kinds(naming)
    seen: Counter[str] = Counter()
    counted = {}
    for layer in layers:
        kind = kinds[layer]
        counted[layer] = f"{UNNAMED}{kind}_{seen[kind]}" if seen[kind] else f"{UNNAMED}{kind}"
        seen[kind] += 1

    def rename(name: str) -> str:
        layer, _, role = name.rpartition("/")
        return f"{counted[layer]}/{role}"

    sources = {
        canonical: replace(source, names=tuple(map(rename, source.names)))
        for canonical, source in naming.sources.items()
    }
    return replace(naming, name=f"{naming.name} (counted)", sources=sources)


def layers_of(naming: Naming) -> list[str]:
    """Return the layers that a naming speaks of, in the order of the network's parameters."""
    names = (name for source in naming.sources.values() for name in source.names)
    return list(dict.fromkeys(name.rpartition("/")[0] for name in names))


def _kinds(naming: Naming) -> dict[str, str]:
    kinds = {}
    for source in naming.sources.values():
        for name, shape in zip(source.names, source.shapes, strict=True):
            layer, _, role = name.rpartition("/")
            if role == "kernel":
                kinds[layer] = "conv2d" if len(shape) == 4 else "dense"
            elif role != "bias":
                kinds[layer] = "batch_normalization"
    return kinds
