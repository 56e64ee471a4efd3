"""Options of commands that start, or speak of, a forward pass."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import typer

from probe.backbones.spec import Pool
from probe.cli import complete
from probe.cli.options import CacheDir, DatasetName, DatasetRoot, Seed, cache_folder
from probe.cli.reading import takes_reading
from probe.core.reading import AS_IT_IS, ReadOptions
from probe.core.urls import typed_command

if TYPE_CHECKING:
    from probe.extraction.request import Request

BackboneName = Annotated[
    str,
    typer.Option(
        "--backbone",
        autocompletion=complete.backbones,
        help="A name of `probe backbones list`, an ONNX file, or a folder with one as Hugging Face "
        "publishes it.",
    ),
]
Weights = Annotated[
    str,
    typer.Option(
        help="A file, a name from `probe weights list`, auto (what is at hand) or random:SEED."
    ),
]
Preprocess = Annotated[
    str | None,
    typer.Option(
        help="What the weights were trained on: a name of probe's or torchvision's, a JSON file of "
        "probe's, transformers' or timm's, or a folder with one. Known weights bring it."
    ),
]
Mean = Annotated[
    Path | None,
    typer.Option(
        help="A mean image of Caffe's, FILE.binaryproto: its channels' means replace those of the "
        "preprocessing."
    ),
]
LayerNames = Annotated[
    str | None,
    typer.Option(
        help="Layer at which the network is cut; a,b fills two entries from one pass. "
        "`probe backbones show` lists them.",
        show_default="the last before the classifier",
    ),
]
PoolName = Annotated[
    Pool | None,
    typer.Option(
        help="How a feature map, or a transformer's tokens, becomes a vector: cls is the class "
        "token; none and flatten keep all of it.",
        show_default="avg for maps, cls for tokens that have one",
    ),
]
Size = Annotated[
    int | None,
    typer.Option(
        min=1, help="Side of the network's input in pixels.", show_default="the weights' own"
    ),
]
ResizeName = Annotated[
    str | None,
    typer.Option(
        metavar="crop|squash|pad|PIXELS",
        help="How an image becomes the square input: crop cuts the middle out, squash stretches "
        "the whole image, pad keeps it whole with borders; 256 brings the shorter side to 256 "
        "pixels, of which the middle --size are cut out.",
        show_default="as the weights were trained",
    ),
]
SplitNames = Annotated[
    str | None, typer.Option(help="Only these splits: train, val, test.", show_default="all")
]
PerClass = Annotated[
    int | None, typer.Option(min=1, help="At most N images of each class and split.")
]
Limit = Annotated[
    int | None, typer.Option(min=1, help="At most N images of each split, over all classes.")
]
Coarse = Annotated[
    bool, typer.Option("--coarse", help="Take the 20 superclasses of cifar100 as labels.")
]
SkipBad = Annotated[
    bool,
    typer.Option(
        "--skip-bad", help="Leave out and list images that cannot be read, and empty classes."
    ),
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        "-b",
        min=1,
        help="Images in a forward pass.",
        show_default="by input size; four times as many on a GPU",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        "-j",
        min=1,
        help="Threads that decode images.",
        show_default="cores, at most 8",
    ),
]
EngineName = Annotated[
    Literal["auto", "onnx", "openvino", "mxnet"],
    typer.Option(
        "--engine",
        help="What runs the network: ONNX Runtime, OpenVINO or MXNet, whose features agree to 1e-4 "
        "of a row's norm. auto is the engine that began this pass or made most of its rows, else "
        "ONNX Runtime; where OpenVINO is installed, a long pass times both first.",
    ),
]
Device = Annotated[
    str,
    typer.Option(
        help="Where the network runs: auto, cpu, gpu, gpu:1, or gpu:0,1 for two in turn; with ONNX "
        "Runtime also cuda, dml (DirectML) and coreml. auto is the first GPU, else the CPU."
    ),
]
SchedulerName = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Spread the work over processes: loky:4 of this machine, dask://HOST:8786 or "
        "ray://HOST:10001 of a cluster (extras dask and ray). Workers read the images where this "
        "command does; a worker that is lost is replaced, and the rows are the same.",
        show_default="this process",
    ),
]
DtypeName = Literal["float32", "float16"]
Dtype = Annotated[DtypeName, typer.Option(help="Number format that features are stored in.")]
Views = Annotated[
    Literal["none", "flip", "crops5"],
    typer.Option(
        help="Augmented copies of each image beside the plain one: flip makes 2 views, crops5 5."
    ),
]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict",
        help="Hash all images again, whatever their sizes and times say of them: a write through a "
        "memory map may change neither (on tmpfs it never does). Fetch those of a URL again.",
    ),
]


@dataclass(frozen=True, kw_only=True)
class PassOptions:
    """The options of `probe extract` and of `probe cache explain`, in the order of their help."""

    backbone: BackboneName
    dataset: DatasetName
    dataset_root: DatasetRoot = None
    weights: Weights = "auto"
    preprocess: Preprocess = None
    mean: Mean = None
    layer: LayerNames = None
    pool: PoolName = None
    size: Size = None
    resize: ResizeName = None
    split: SplitNames = None
    per_class: PerClass = None
    limit: Limit = None
    coarse: Coarse = False
    skip_bad: SkipBad = False
    reading: ReadOptions = AS_IT_IS
    seed: Seed = 42
    batch_size: BatchSize = None
    workers: Workers = None
    engine: EngineName = "auto"
    device: Device = "auto"
    scheduler: SchedulerName = None
    dtype: Dtype = "float32"
    views: Views = "none"
    strict: Strict = False
    cache_dir: CacheDir = None

    @property
    def folder(self) -> Path:
        """The state folder."""
        return cache_folder(self.cache_dir)

    def request(self) -> Request:
        """Return what they ask for."""
        from probe.extraction.request import Request

        given = {one.name: getattr(self, one.name) for one in fields(self)}
        return Request.of(**given | {"cache_dir": self.folder}, command=typed_command())


def takes_pass_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command, whose first parameter is a `PassOptions`, those options.

    Typer reads options from a function's signature, so the command gets one that has them all.
    """
    hints = get_type_hints(PassOptions, include_extras=True)
    _, *own = inspect.signature(command, eval_str=True).parameters.values()
    shared = [
        inspect.Parameter(
            one.name,
            inspect.Parameter.KEYWORD_ONLY,
            annotation=hints[one.name],
            default=getattr(PassOptions, one.name, inspect.Parameter.empty),
        )
        for one in fields(PassOptions)
    ]
    names = {one.name for one in shared}

    @functools.wraps(command)
    def run(**given: Any) -> None:
        options = PassOptions(**{name: given.pop(name) for name in names})
        command(options, **given)

    both = [*shared, *(one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own)]
    run.__signature__ = inspect.Signature(both)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in both}
    return takes_reading(run)
