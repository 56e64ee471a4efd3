"""What the scripts for torchvision, timm and transformers share: fill a network, run it, digest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from benchmarks.goldens.drawing import digest, draw, image, names_digest


def golden(net: Any, size: int, layers: Mapping[str, str]) -> dict[str, Any]:
    """Draw a network's parameters, run it on the picture, and return what to keep.

    Parameters
    ----------
    layers : mapping of str to str
        Our layer -> the path of the module whose output it is.
    """
    names = {
        key: tuple(value.shape)
        for key, value in net.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    drawn = {key: torch.from_numpy(draw(key, shape)) for key, shape in names.items()}
    net.eval().load_state_dict(drawn, strict=False)
    seen: dict[str, Any] = {}
    for layer, path in layers.items():
        net.get_submodule(path).register_forward_hook(
            # cloned: the next module may work in place
            lambda _, __, out, layer=layer: seen.__setitem__(layer, out.clone())
        )
    with torch.no_grad():
        net(torch.from_numpy(image(size)).permute(0, 3, 1, 2).float() / 127.5 - 1)
    digests = {layer: digest(seen[layer].numpy()) for layer in layers}
    return {"size": size, "names": names_digest(names), "layers": digests}


def pools_of(features: Any) -> dict[str, str]:
    """Return a VGG's pools -> their modules."""
    places = [i for i, one in enumerate(features) if isinstance(one, torch.nn.MaxPool2d)]
    return {f"pool{i}": f"features.{at}" for i, at in enumerate(places, start=1)}
