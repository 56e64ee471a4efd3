"""Reading a weight file: against a plain read plus copy, and in memory.

    python -m benchmarks.weights_read

For each format a file with VGG16's parameters, 553 MB, is written. Time: every parameter converted
to Gluon's layout, digest aside, over reading the same file in blocks and copying each; the best of
three rounds that take turns in one process. Memory: peak resident memory of a process that does so
and keeps the parameters, less that of one that stops before, over the file's size. The limits are
2 and 1.5.

Seen on two cores that others used too: torch zip 0.67 and 1.00, torch stream 0.86 and 1.00,
safetensors 0.83 and 1.00, Gluon 0.92 and 1.00, Caffe 0.79 and 1.00, ONNX 0.81 and 1.00. Keras's
kernels have to be turned around, which is done in tiles and on several threads; on the same machine
when idle: .h5 1.69 to 1.76 and 1.07, .weights.h5 1.60 to 1.79 and 1.07. In
processor time it is 2.6 times the plain read, so a machine with one core misses the limit.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from probe.backbones.catalog import BACKBONES
from probe.weights.fit import fit_file, shapes_of
from probe.weights.open_file import open_tensors
from tests.weights import published, writers, writers_proto

BACKBONE = BACKBONES["vgg16"]
BLOCK = 1 << 24
CHILD = (
    "import sys; from pathlib import Path; from benchmarks.weights_read import convert\n"
    "from probe.weights.fit import shapes_of\n"
    "shapes_of('vgg16'); kept = convert(Path(sys.argv[1])) if sys.argv[2] == 'read' else None\n"
    "status = Path('/proc/self/status').read_text()\n"  # ru_maxrss would count the parent's too
    "print(status.partition('VmHWM:')[2].split()[0])"
)


def convert(path: Path) -> dict[str, np.ndarray]:
    """Return all parameters, as `load_parameters` converts them."""
    fit = fit_file(open_tensors(path), BACKBONE)
    assert fit is not None
    assert not fit.problems(BACKBONE, BACKBONE.logits)
    return {
        name: source.convert([fit.tensors[one] for one in source.names])
        for name, source in fit.naming.sources.items()
    }


def plain(path: Path) -> list[np.ndarray]:
    """Read a file in blocks and copy each: what nobody can do without."""
    kept = []
    with path.open("rb", buffering=0) as file:
        while len(block := np.fromfile(file, np.uint8, BLOCK)):
            kept.append(block.copy())
    return kept


def seconds(run: Callable[[Path], object], path: Path) -> float:
    started = time.perf_counter()
    run(path)
    return time.perf_counter() - started


def peak(path: Path, what: str) -> int:
    """Return a process's peak resident memory in bytes."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(path), what], stdout=subprocess.PIPE, check=True
    )
    return int(done.stdout) * 1024


def files(folder: Path) -> dict[str, Callable[[], object]]:
    """Return what writes each format's file."""

    def arrays(names: published.Names) -> dict[str, np.ndarray]:
        return {name: np.full(shape, 0.5, np.float32) for name, shape in names.items()}

    torch, keras = published.vgg("vgg16"), published.keras_vgg("vgg16")
    caffe, gluon = published.caffe_vgg("vgg16"), dict(shapes_of("vgg16"))
    nodes = [
        writers_proto.onnx_node("Conv", "", ["x", name, name.replace("weight", "bias")])
        for name in torch
        if name.endswith("weight")
    ]
    path = folder / "w"
    return {
        "torch zip": lambda: writers.write_torch_zip(path, arrays(torch)),
        "torch stream": lambda: writers.write_torch_stream(path, arrays(torch)),
        "safetensors": lambda: writers.write_safetensors(path, arrays(torch)),
        "gluon": lambda: writers.write_gluon(path, arrays(gluon)),
        "keras .h5": lambda: writers.write_keras(path, arrays(keras)),
        "keras .weights.h5": lambda: writers.write_keras3(path, arrays(keras)),
        "caffe": lambda: writers_proto.write_caffe(path, arrays(caffe)),
        "onnx": lambda: writers_proto.write_onnx(path, arrays(torch), nodes=nodes),
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "w")
        for kind, write in files(Path(name)).items():
            write()
            plain(path)  # into the page cache
            rounds = [(seconds(plain, path), seconds(convert, path)) for _ in range(3)]
            base, ours = (min(column) for column in zip(*rounds, strict=True))
            used = (peak(path, "read") - peak(path, "build")) / path.stat().st_size
            print(
                f"{kind:<18} {ours:.2f} s, plain {base:.2f} s: {ours / base:.2f} times; "
                f"memory {used:.2f} of the file",
                flush=True,
            )
            path.unlink()


if __name__ == "__main__":
    main()
