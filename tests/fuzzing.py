"""Mutated inputs for every reader: what is read is right or a ProbeError, never another exception.

`READERS` has a writer of a whole file and what reads it; `mutated` damages one. The short run is in
`tests/test_fuzzing.py`, the long one in `benchmarks/fuzz_readers.py`.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image

from probe.audit.record import Audit, load_audit, save_audit
from probe.bench.record import load_bench
from probe.bundle.about import SCHEMA, SEAL, About, NetworkAbout, seal_of
from probe.cache.features import FeatureSet
from probe.cache.interchange import export_features, import_features
from probe.cache.store import Store
from probe.core.columns import Column
from probe.core.memo import Memo, stamp_of
from probe.core.reading import ReadOptions
from probe.datasets import load_dataset
from probe.datasets.forms.loading import Loading
from probe.datasets.forms.metadata_folder import load_metadata_folder
from probe.datasets.forms.recordio import MAGIC, RecordWriter
from probe.datasets.images.decode import decode_file
from probe.datasets.named.cifar import CifarBinary, CifarPickle
from probe.datasets.named.idx import IdxFile
from probe.datasets.tables.table import read_table
from probe.errors import ProbeError
from probe.evaluation.learning_curve import SCHEMA as CURVE_SCHEMA
from probe.evaluation.learning_curve import LearningCurve, load_learning_curve
from probe.evaluation.predictions import Predictions, load_predictions, save_predictions
from probe.heads import load_head
from probe.heads.history import load_history
from probe.predict.inputs import find_images
from probe.preprocess.load import load_preprocess
from probe.runs.results import read_run
from probe.weights import open_tensors
from probe.weights.caffe_file import read_mean
from tests.bench.test_outcome import BENCH
from tests.cache.toy import extract, with_columns
from tests.fakes import make_dataset
from tests.runs.test_results import RESULT
from tests.weights import writers, writers_proto
from tests.weights.test_fuzz import ARRAYS, CAFFE, HDF5, MEAN, NODE

RNG = np.random.default_rng(0)
N = 12
X = RNG.standard_normal((N, 4)).astype(np.float32)
NAMES = np.array(["cat", "dög", "owl"])[np.arange(N) % 3]


@dataclass(frozen=True, kw_only=True)
class Reader:
    """One reader.

    Parameters
    ----------
    write : callable
        Puts a whole file at a path.
    read : callable
        Reads it as the commands do.
    name : str
        What the file has to be called.
    whole : bool
        Undamaged it is read; otherwise the reader's checks refuse even that.
    opens : bool
        The reader needs the file, and opens it itself.
    """

    write: Callable[[Path], Any]
    read: Callable[[Path], Any]
    name: str = "x"
    whole: bool = True
    opens: bool = True


def _tensors(path: Path) -> None:
    for tensor in open_tensors(path).tensors.values():
        if tensor.dtype.startswith(("float", "bfloat")):
            tensor.read()


def _imported(path: Path) -> None:
    import shutil

    cache = path.parent / "cache"
    shutil.rmtree(cache, ignore_errors=True)
    import_features([path], Store(cache)).verify()


def _npz(path: Path) -> None:
    np.savez_compressed(path, X_train=X, y_train=NAMES, X_test=X, y_test=NAMES)


def _hdf5(path: Path, block: int = 0) -> None:
    with h5py.File(path, "w", userblock_size=block) as file:
        file["features"], file["labels"] = X, NAMES.astype(object)
        file["ids"] = np.array([f"{row}.jpg".encode() for row in range(N)])
        if block:
            del file["labels"]
            file["labels"] = np.arange(N)[None] % 3


def _mat(path: Path) -> None:
    from scipy.io import savemat

    savemat(path, {"X": X, "y": np.arange(N) % 3, "ids": np.arange(N)}, do_compression=True)


def _exported(path: Path) -> None:
    export_features(_small(path.parent / "exported"), path)


def _small(folder: Path) -> FeatureSet:
    """Return an entry with columns of a table."""
    return extract(with_columns(make_dataset(train=40, test=10)), Store(folder))[0]


def _parquet(path: Path) -> None:
    _exported(path.with_suffix(".parquet"))


def _pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps({"features": X, "labels": NAMES.tolist()}, protocol=2))


def _cifar(path: Path) -> None:
    data = RNG.integers(0, 255, (3, 3072), dtype=np.uint8)
    path.write_bytes(pickle.dumps({b"data": data, b"labels": [0, 1, 2]}, protocol=2))


def _read_packed(packed: Any) -> None:
    labels = packed.read_labels()
    rows = packed.open()
    rows.read(0, min(len(labels), rows.count))


def _idx(path: Path) -> None:
    path.write_bytes(struct.pack(">BBBBIII", 0, 0, 8, 3, 3, 5, 5) + bytes(75))
    path.with_name("labels").write_bytes(struct.pack(">BBBBI", 0, 0, 8, 1, 3) + bytes(3))


def _records(path: Path) -> None:
    """Write a file of records and its index: pictures with one label, one of them divided."""
    images = []
    for kind in ("PNG", "JPEG"):
        _picture(kind)(path.with_name("picture"))
        images.append(path.with_name("picture").read_bytes())
    images.append(images[0] + bytes(-len(images[0]) % 4) + MAGIC)
    records, index = path.with_suffix(".rec"), path.with_suffix(".idx")
    with records.open("wb") as file, index.open("wb") as lines:
        writer = RecordWriter(file, lines)
        for number, image in enumerate(images):
            writer.write(number, struct.pack("<f", number % 2), image)


def _mxnet_list(path: Path) -> None:
    for name in ("a.png", "b.png"):
        _picture("PNG")(path.with_name(name))
    path.write_text("0\t0.000000\ta.png\n1\t1.000000\tb.png\n")


def _read_images(path: Path) -> None:
    for split in load_dataset(str(path), cache_dir=path.parent / "cache").splits.values():
        split.images.content()
        for row in range(len(split)):
            split.images.image(row)


def _picture(kind: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        pixels = RNG.integers(0, 255, (24, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path, format=kind)

    return write


def _json(value: Any) -> Callable[[Path], None]:
    return lambda path: path.write_text(json.dumps(value), encoding="utf-8") and None


def _predictions(path: Path) -> None:
    p = np.full((N, 3), 1 / 3, np.float32)
    columns = {"site": Column.of(["zoë", ""] * (N // 2)), "age": Column.of(map(str, range(N)))}
    one = Predictions(ids=NAMES, labels=np.arange(N) % 3, probabilities=p, columns=columns)
    save_predictions(path.parent, {"val": one, "test": one})


def _head(path: Path) -> None:
    from probe.heads import PrototypeHead, save_head

    save_head(PrototypeHead().fit(X, np.arange(N) % 3), path)


def _audit(path: Path) -> None:
    found = {"entry": "e", "dataset": "d", "command": "c", "created": "now", "threshold": 0.9}
    known = dict.fromkeys(("near_duplicates", "label_errors", "copies"), ())
    save_audit(path.parent, Audit(**{**found, "n_train": 3, "n_test": 2, **known}))


def _entry(path: Path) -> None:
    path.write_bytes(_small(path.parent / "made").path.read_bytes())


def _read_entry(path: Path) -> None:
    entry = FeatureSet.open(path)
    entry.verify()
    for split in entry.splits.values():
        _ = (split.features, split.labels, list(split.ids))


def _memo(path: Path) -> None:
    path.unlink(missing_ok=True)
    stamp = stamp_of("/")
    Memo(path).put_many("content", [(f"/{k}", stamp, b"\1" * 16) for k in range(40)])


def _read_memo(path: Path) -> None:
    Memo(path).get_many("content", {f"/{k}": stamp_of("/") for k in range(40)})


def _npy(path: Path) -> None:
    np.save(path, X)


def _read_npy(path: Path) -> None:
    from probe.cache.interchange import Names

    labels = path.with_name("labels.npy")
    np.save(labels, np.arange(N) % 3)
    names = Names(labels=str(labels))
    import_features([path], Store(path.parent / "cache"), names=names)


def _about(path: Path) -> None:
    network = dict.fromkeys(one.name for one in fields(NetworkAbout))
    plain: dict[str, Any] = dict.fromkeys((one.name for one in fields(About)), "text")
    plain |= {"schema": SCHEMA, "classes": ["a", "b"], "heads": ["head.safetensors"], "pca": None}
    plain |= {"temperature": 1.5, "remembers": None, "metrics": {"val": {"top1": 0.5}}}
    plain |= {"intervals": {"val": {"top1": [0.1, 0.9]}}, "files": {"a": "b"}, "several": False}
    plain |= {"networks": [network], "rejection": None, "thresholds": None}
    path.write_text(json.dumps(plain))


def _read_about(path: Path) -> None:
    """Read `bundle.json` as if whoever changed it had sealed it again."""
    try:
        plain = json.loads(path.read_bytes())
        text = json.dumps({**plain, SEAL: seal_of(plain)}).encode()
    except (ValueError, TypeError, RecursionError):
        text = path.read_bytes()
    About.from_json(text, "x")


CURVE = {
    **dict.fromkeys((one.name for one in fields(LearningCurve)), "text"),
    "schema": CURVE_SCHEMA, "n_split": 5, "points": [{
        "per_class": 1, "draw": 0, "n_train": 2, "top1": 0.5, "mean_recall": 0.5, "log_loss": 0.5,
        "params": {"C": 1.0}, "shared": 0.5,
    }],
}  # fmt: skip
LIST = "image,label,split\n" + "".join(f"im/{k}.png,{NAMES[k]},train\n" for k in range(N))


def _json_lines(path: Path) -> None:
    lines = (
        {"file_name": f"im/{k}.png", "label": NAMES[k], "tags": ["a", k], "more": {"x": [k]}}
        for k in range(N)
    )
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))


def _parquet_images(path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    images = []
    for k in range(N):
        sink = io.BytesIO()
        Image.fromarray(np.full((4, 4, 3), k, np.uint8)).save(sink, "PNG")
        images.append({"bytes": sink.getvalue(), "path": f"{k}.png"})
    table = pa.table({"image": images, "label": [k % 2 for k in range(N)]})
    pq.write_table(table, path, row_group_size=5)


def _parquet_list(path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    label = {"names": ["cat", "owl"], "_type": "ClassLabel"}
    about = {"huggingface": json.dumps({"info": {"features": {"label": label}}})}
    table = pa.table(
        {
            "path": [f"im/{k}.png" for k in range(N)], "label": [k % 2 for k in range(N)],
            "tags": [["a", "b"]] * N, "score": X[:, 0],
        }
    ).replace_schema_metadata(about)  # fmt: skip
    pq.write_table(table, path)


def _image_arrays(path: Path) -> None:
    """Write images, labels and class names as an .npz or HDF5 file."""
    images = RNG.integers(0, 255, (N, 8, 8, 3), dtype=np.uint8)
    labels, names = np.arange(N) % 2, np.array([b"cat", b"owl"])
    if path.suffix == ".npz":
        np.savez_compressed(path, images=images, labels=labels, classes=names)
        return
    with h5py.File(path, "w") as file:
        file.create_dataset("images", data=images, chunks=(4, 8, 8, 3), compression="gzip")
        file["labels"], file["classes"] = labels, names


def _archive(path: Path) -> None:
    """Write class folders as a tar or zip archive; zip's second half is compressed."""
    members = {}
    for row in range(4):
        _picture("PNG")(path.with_name("picture"))
        members[f"{'cat' if row % 2 else 'owl'}/{row}.png"] = path.with_name("picture").read_bytes()
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as packed:
            for row, (name, data) in enumerate(members.items()):
                packed.writestr(name, data, (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)[row // 2])
        return
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def _arrow_images(path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    _parquet_images(path.with_suffix(".parquet"))
    table = pq.read_table(path.with_suffix(".parquet"))
    path.with_suffix(".parquet").unlink()
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, 5)


PREPROCESS = {"size": 32, "resize": "squash", "scale": 0.5, "mean": [1.0, 2, 3], "channels": "BGR"}
PUBLISHED = json.loads(Path(__file__).with_name("preprocess").joinpath("goldens.json").read_text())
HISTORY = "epoch,train_loss,train_top1,val_loss\n1,0.5,0.5,0.4\n2,0.4,0.6,0.4\n"

READERS: dict[str, Reader] = {
    "torch zip": Reader(write=lambda p: writers.write_torch_zip(p, ARRAYS), read=_tensors),
    "torch stream": Reader(write=lambda p: writers.write_torch_stream(p, ARRAYS), read=_tensors),
    "gluon": Reader(write=lambda p: writers.write_gluon(p, ARRAYS), read=_tensors),
    "safetensors": Reader(write=lambda p: writers.write_safetensors(p, ARRAYS), read=_tensors),
    "caffe": Reader(write=lambda p: writers_proto.write_caffe(p, CAFFE), read=_tensors),
    "caffe's mean": Reader(write=lambda p: writers_proto.write_mean(p, MEAN), read=read_mean),
    "onnx": Reader(
        write=lambda p: writers_proto.write_onnx(p, ARRAYS, nodes=[NODE]), read=_tensors
    ),
    "keras": Reader(write=lambda p: writers.write_keras(p, HDF5), read=_tensors),
    "keras 3": Reader(write=lambda p: writers.write_keras3(p, HDF5), read=_tensors),
    "keras zip": Reader(write=lambda p: writers.write_keras_zip(p, HDF5), read=_tensors),
    "features .npz": Reader(write=_npz, read=_imported, name="x.npz"),
    "features .npy": Reader(write=_npy, read=_read_npy, name="x.npy"),
    "features .h5": Reader(write=_hdf5, read=_imported, name="x.h5"),
    "features .mat 7.3": Reader(write=lambda p: _hdf5(p, 512), read=_imported, name="x.mat"),
    "features .mat": Reader(write=_mat, read=_imported, name="x.mat"),
    "features .safetensors": Reader(write=_exported, read=_imported, name="x.safetensors"),
    "features .parquet": Reader(write=_parquet, read=_imported, name="x.parquet"),
    "features .p": Reader(write=_pickled, read=_imported, name="x.p"),
    "cifar pickle": Reader(
        write=_cifar, read=lambda p: _read_packed(CifarPickle(path=p, label_key="labels"))
    ),
    "cifar binary": Reader(
        write=lambda p: p.write_bytes(bytes(3 * 3073)),
        read=lambda p: _read_packed(CifarBinary(path=p, label_bytes=1, label=0)),
    ),
    "idx": Reader(
        write=_idx, read=lambda p: _read_packed(IdxFile(path=p, labels=p.with_name("labels")))
    ),
    **{
        f"picture {kind}": Reader(
            write=_picture(kind), read=lambda p: decode_file(str(p))
        )
        for kind in ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "PPM")
    },
    "records": Reader(write=_records, read=_read_images, name="x.rec"),
    "index of records": Reader(
        write=_records, read=lambda p: _read_images(p.with_suffix(".rec")), name="x.idx",
        opens=False,
    ),
    "MXNet's list": Reader(write=_mxnet_list, read=_read_images, name="x.lst"),
    "list": Reader(write=lambda p: p.write_text(LIST), read=read_table, name="x.csv"),
    "list of blanks": Reader(
        write=lambda p: p.write_text(LIST.replace(",", " ")), read=read_table, name="x.txt"
    ),
    "list as Caffe's": Reader(
        write=lambda p: p.write_text("".join(f"im/{k}.png {k % 3}\n" for k in range(N))),
        read=read_table, name="x.txt",
    ),
    "list without names": Reader(
        write=lambda p: p.write_text("".join(f"im/{k}.png;{k % 3};7\n" for k in range(N))),
        read=lambda p: read_table(p, ReadOptions(columns=("path", "label", "-"))), name="x.csv",
    ),
    "list of JSON lines": Reader(write=_json_lines, read=read_table, name="x.jsonl"),
    "list in Parquet": Reader(write=_parquet_list, read=read_table, name="x.parquet"),
    "images in Parquet": Reader(write=_parquet_images, read=_read_images, name="x.parquet"),
    "images in Arrow": Reader(write=_arrow_images, read=_read_images, name="x.arrow"),
    "images in .npz": Reader(write=_image_arrays, read=_read_images, name="x.npz"),
    "images in HDF5": Reader(write=_image_arrays, read=_read_images, name="x.h5"),
    "images in a tar": Reader(write=_archive, read=_read_images, name="x.tar"),
    "images in a zip": Reader(write=_archive, read=_read_images, name="x.zip"),
    "folder with metadata": Reader(
        write=_json_lines,
        read=lambda p: load_metadata_folder(
            p.parent, Loading(memo=Memo(p.with_name("m")), cache_dir=p.parent, skip_bad=True)
        ),
        name="metadata.jsonl",
    ),
    "predict's list": Reader(
        write=lambda p: p.write_text(LIST), read=lambda p: find_images([str(p)]), name="x.txt"
    ),
    "predictions.npz": Reader(
        write=_predictions, read=lambda p: load_predictions(p.parent), name="predictions.npz"
    ),
    "result.json": Reader(
        write=_json(RESULT.to_dict()), read=lambda p: read_run(p.parent), name="result.json"
    ),
    "bench.json": Reader(
        write=lambda p: p.write_text(_bench_text()), read=lambda p: load_bench(p.parent),
        name="bench.json",
    ),
    "audit.json": Reader(write=_audit, read=lambda p: load_audit(p.parent), name="audit.json"),
    "learning_curve.json": Reader(
        write=_json(CURVE), read=lambda p: load_learning_curve(p.parent),
        name="learning_curve.json",
    ),
    "history.csv": Reader(
        write=lambda p: p.write_text(HISTORY), read=lambda p: load_history(p.parent),
        name="history.csv",
    ),
    "preprocessing": Reader(
        write=_json(PREPROCESS), read=lambda p: load_preprocess(str(p)), name="x.json"
    ),
    "transformers' preprocessing": Reader(
        write=_json(PUBLISHED["transformers"]["efficientnet"]["file"]),
        read=lambda p: load_preprocess(str(p)), name="preprocessor_config.json",
    ),
    "timm's preprocessing": Reader(
        write=_json(PUBLISHED["timm"]["resnet50.a1_in1k"]["file"]),
        read=lambda p: load_preprocess(str(p)), name="config.json",
    ),
    "head": Reader(write=_head, read=load_head, name="x.safetensors"),
    "bundle.json": Reader(
        write=_about, read=_read_about, whole=False, opens=False,
    ),
    "entry": Reader(write=_entry, read=_read_entry, name="x.h5"),
    "memo": Reader(write=_memo, read=_read_memo, name="memo.sqlite", opens=False),
}  # fmt: skip


def _bench_text() -> str:
    from probe.core.plain import to_plain

    return json.dumps(to_plain(BENCH))


WORDS = (
    b"\xff" * 4, b"\0" * 4, b"\xff\xff\xff\x7f", b"\x80", b"\x00\x00\x00\x80", b"[" * 50_000,
    b"{" * 50_000, b"1e999", b"NaN", b"-Infinity", b"9" * 400, b"null", b'"\\ud800"', b"\xc3",
    b"[]", b"{}", b"-1", b"\n", b",", b"'", b'"', b"(", b".", b"\x89HDF\r\n\x1a\n", b"PK\x03\x04",
)  # fmt: skip


def mutated(data: bytes, random: np.random.Generator) -> bytes:
    """Return a damaged copy: bytes changed, cut out, doubled or put in, or the end cut off."""
    out = bytearray(data)
    for _ in range(int(random.integers(1, 4))):
        at = int(random.integers(0, max(1, len(out))))
        word = WORDS[int(random.integers(len(WORDS)))]
        length = int(random.integers(1, 64))
        match int(random.integers(8)):
            case 0:
                out[at : at + 1] = bytes([int(random.integers(256))])
            case 1:
                out[at : at + 1] = bytes([out[at] ^ 1 << int(random.integers(8))]) if out else b""
            case 2:
                out[at : at + len(word)] = word[:64]
            case 3:
                out[at:at] = word
            case 4:
                del out[at : at + length]
            case 5:
                out[at:at] = out[at : at + length]
            case 6:
                _replace_number(out, random)
            case _:
                if random.random() < 0.5:
                    del out[at:]
    return bytes(out)


def _replace_number(out: bytearray, random: np.random.Generator) -> None:
    """Put something else where a text has a number."""
    places = [at for at, byte in enumerate(out[:20_000]) if 48 <= byte <= 57]
    if places:
        at = places[int(random.integers(len(places)))]
        out[at : at + 1] = WORDS[int(random.integers(len(WORDS)))]


def attack(reader: Reader, folder: Path, count: int, seed: int) -> list[tuple[bytes, str]]:
    """Read `count` mutated files and return those that ended in another way, with what was raised.

    Parameters
    ----------
    folder : Path
        Empty; the file is called the same each time, so that the last stands where a process dies.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / reader.name
    reader.write(path)
    whole, random = path.read_bytes(), np.random.default_rng(seed)
    if reader.whole:
        reader.read(path)
    found = []
    for _ in range(count):
        data = mutated(whole, random)
        path.write_bytes(data)
        try:
            reader.read(path)
        except ProbeError as error:
            if "\n" in str(error):
                found.append((data, f"two lines: {error!s:.200}"))
        except Exception as error:  # what is looked for
            found.append((data, f"{type(error).__name__}: {error!s:.200}"))
    return found


def read_no_file(reader: Reader, folder: Path, kind: str) -> str:
    """Read a pipe, a device, a folder or 50 GB of zeros in a file's place; return what was wrong.

    Parameters
    ----------
    folder : Path
        Empty.
    """
    folder.mkdir(parents=True)
    path = folder / reader.name
    reader.write(path)
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    else:
        with path.open("wb") as file:
            file.truncate(50 << 30)  # sparse
    try:
        reader.read(path)
    except ProbeError as error:
        return f"two lines: {error!s:.200}" if "\n" in str(error) else ""
    except Exception as error:  # what is looked for
        return f"{type(error).__name__}: {error!s:.200}"
    return "was read"
