"""What the golden features are made of, the same on every machine and with every NumPy.

Parameters are drawn from a generator that their name seeds, images likewise; features are reduced
to a few signed sums, so that a model's golden is a few hundred numbers. Needs NumPy alone:
the scripts beside this file import it in another framework's environment, the tests in ours.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FOLDER = Path(__file__).parents[2] / "tests" / "weights" / "goldens"
NUMBERS = 32  # a layer
BLOCK = 1 << 20
PERIOD = 4_194_301  # a prime: of a larger parameter, no two rows are the same
VARIANCES, MEANS = ("running_var", "moving_variance"), ("running_mean", "moving_mean")


def draw(name: str, shape: Sequence[int], fan_in: int = 0) -> NDArray[np.float32]:
    """Return a parameter by name: He-uniform kernels, norms near the identity, small biases.

    Parameters
    ----------
    shape : sequence of int
        In the framework's own layout.
    fan_in : int
        Numbers that a kernel adds up; default: of torch's layout, all but the first side.
    """
    unit = _uniform(name, math.prod(shape)).reshape(tuple(shape))  # -1 to 1
    leaf = name.replace("/", ".").rpartition(".")[2]
    if len(shape) > 1:
        unit *= np.float32(math.sqrt(6 / (fan_in or math.prod(shape[1:]))))  # may be 400 MB
        return unit
    if leaf in VARIANCES:
        return np.float32(1) + unit * np.float32(0.5)
    if leaf in ("weight", "gamma"):
        return np.float32(1) + unit * np.float32(0.25)
    return unit * np.float32(0.2)


def image(size: int) -> NDArray[np.uint8]:
    """Return the picture every model is shown, uint8, (1, size, size, 3)."""
    unit = _uniform("image", size * size * 3).reshape(1, size, size, 3)
    return np.floor((unit + 1) * 128).astype(np.uint8)


def images(count: int, size: int) -> NDArray[np.uint8]:
    """Return several pictures, uint8, (count, size, size, 3)."""
    units = [_uniform(f"image {i}", size * size * 3) for i in range(count)]
    return np.floor((np.stack(units).reshape(count, size, size, 3) + 1) * 128).astype(np.uint8)


def digest(features: NDArray[Any]) -> list[float]:
    """Return 32 numbers: number i of the features, flattened, goes to sum i mod 32 with a sign.

    References
    ----------
    Charikar, Chen and Farach-Colton, Finding frequent items in data streams (2002): of such a
    sketch the squared length is on average that of what went in, so differences show.
    """
    flat = np.asarray(features, np.float64).reshape(-1)
    stream = hashlib.shake_256(b"golden").digest(-(-flat.size // 8))
    signs = np.unpackbits(np.frombuffer(stream, np.uint8), count=flat.size) * 2.0 - 1.0
    padded = np.zeros(-(-flat.size // NUMBERS) * NUMBERS)
    padded[: flat.size] = flat * signs
    sums = padded.reshape(-1, NUMBERS).sum(axis=0)
    return [float(f"{value * math.sqrt(NUMBERS / flat.size):.7g}") for value in sums]


def names_digest(shapes: Mapping[str, Sequence[int]]) -> str:
    """Return 16 hex digits over names and shapes, in whatever order they come."""
    lines = sorted(f"{name} {'x'.join(map(str, shape))}" for name, shape in shapes.items())
    return hashlib.blake2b("\n".join(lines).encode(), digest_size=8).hexdigest()


def write(name: str, versions: Mapping[str, str], models: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the goldens of one framework, a model a line."""
    lines = ",\n".join(f"{json.dumps(one)}: {json.dumps(models[one])}" for one in models)
    head = f'{{"versions": {json.dumps(dict(versions))}, "models": {{\n'
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.json").write_text(f"{head}{lines}\n}}}}\n")


def write_rows(name: str, versions: Mapping[str, str], rows: Mapping[str, NDArray[Any]]) -> None:
    """Write what a network gave at some layers, to 7 digits, a layer a line."""
    lines = [
        f"{json.dumps(layer)}: {json.dumps({'shape': value.shape, 'values': _short(value)})}"
        for layer, value in rows.items()
    ]
    inside = ",\n".join(lines)
    head = f'{{"versions": {json.dumps(dict(versions))}, "layers": {{\n'
    (FOLDER / f"{name}.json").write_text(f"{head}{inside}\n}}}}\n")


def _short(value: NDArray[Any]) -> list[float]:
    return [float(f"{one:.7g}") for one in value.reshape(-1).tolist()]


def _uniform(name: str, count: int) -> NDArray[np.float32]:
    # PCG64's raw stream is what NumPy promises to keep; its distributions may change
    seed = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=16).digest(), "little")
    raw = np.random.PCG64(seed)
    drawn = min(count, PERIOD)
    unit = np.empty(drawn + drawn % 2, np.float32)
    for start in range(0, len(unit), BLOCK):
        part = unit[start : start + BLOCK]
        bits = np.asarray(raw.random_raw(len(part) // 2), "<u8").view("<u4")
        part[:] = (bits >> 8).astype(np.float32)
        part *= np.float32(2.0**-23)
        part -= np.float32(1)
    out = np.empty(count, np.float32)
    for start in range(0, count, PERIOD):  # repeats what there is
        out[start : start + PERIOD] = unit[: min(drawn, count - start)]
    return out
