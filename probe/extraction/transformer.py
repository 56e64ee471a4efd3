"""A frozen backbone as a scikit-learn transformer: images in, features out.

    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from probe import FrozenBackbone

    model = make_pipeline(FrozenBackbone("efficientnet_lite0", size=64), LogisticRegression())
    GridSearchCV(model, {"logisticregression__C": [0.01, 0.1, 1]}).fit(images, labels)

Every image is forwarded once, whatever the number of folds, parameters and processes: rows go into
the cache by the hash of the image, where `probe extract` and later runs find them too.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from numbers import Integral
from os import PathLike
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from probe.backbones.cut import feature_shapes
from probe.backbones.spec import POOLS, BackboneSpec, Layer, Pool, pool_called, resolve_pool
from probe.cache.key import FeatureKey, preprocess_identity
from probe.cache.store import Store
from probe.core.machine import state_folder, usable_cores
from probe.core.memo import Memo
from probe.datasets.images.image_inputs import ImageSources
from probe.datasets.spec import Dataset, Split
from probe.engines import (
    Engine,
    check_device_name,
    check_engine,
    check_engine_name,
    default_engine,
    make_engine,
)
from probe.errors import UsageError
from probe.extraction.cached_rows import CachedRows
from probe.extraction.extract import extract_features
from probe.extraction.job import decide
from probe.preprocess.load import load_preprocess
from probe.preprocess.spec import PreprocessSpec, check_resize, resize_text
from probe.weights import (
    ResolvedWeights,
    backbone_called,
    check_first_use,
    default_layer,
    resolve_weights,
    with_mean,
)

KEPT_ENGINES = 2
DATASET = "images"  # what entries made here are called
OWN_FOLDER = "transformer"  # of the state folder: rows without labels are no entry for a head

_engines: OrderedDict[tuple[str, int | None, str, str], Engine] = OrderedDict()
_forwarding = threading.RLock()  # MXNet's compiled networks are not safe in several threads


class FrozenBackbone(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # untyped base classes
    """Features of a frozen, pretrained network.

    Parameters
    ----------
    backbone : str or BackboneSpec, default="efficientnet_lite0"
        A name in `BACKBONES`, an ONNX file or a folder with one, or what `Backbone.from_callable`
        returned.
    weights : str, default="auto"
        A file, a name in `WEIGHTS`, ``auto`` for what is at hand, or ``random:SEED``.
    preprocess : str, optional
        For weights that do not bring it: a name of probe's or torchvision's, a JSON file of
        probe's, transformers' or timm's, or a folder with one.
    mean : str or Path, optional
        A mean image of Caffe's, ``FILE.binaryproto``: its channels' means replace those of the
        preprocessing.
    layer : str, optional
        Default: the last before the classifier.
    pool : {"avg", "max", "flatten", "none"}, optional
        How a map is reduced; default avg. A map that is left whole is flattened to a row.
    size : int, optional
        Side of the network's input in pixels. Default: the weights' own.
    resize : {"crop", "squash", "pad"} or int, optional
        How images become square; a number is the shorter side in pixels, of which the middle `size`
        are cut out. Default: as the weights were trained.
    batch_size : int, optional
        Default: by input size. It moves no number.
    n_jobs : int, default=1
        Threads that decode and resize; -1 for one a core.
    engine : {"auto", "onnx", "openvino", "mxnet"}, default="auto"
        What runs the network. Rows in the cache count whichever engine made them: engines agree to
        1e-4 of a row's norm.
    device : str, default="auto"
    cache_dir : str or Path, optional
        State folder. Default: see `probe.core.machine.state_folder`. New rows go into its
        ``transformer/``, which `probe cache --cache-dir` looks after as after any other.

    Attributes
    ----------
    layer_, pool_ : str
    preprocess_ : PreprocessSpec
    parameters_ : str
        Digest of the weights that are used.
    n_features_out_ : int

    Notes
    -----
    `fit` learns nothing: it settles what the parameters leave open, and forwards no image. What
    it takes as images: paths, open files or their bytes, Pillow's images, uint8 arrays (height,
    width, 3) or (height, width) in a sequence, or one array (n, height, width, 3) or (n, height,
    width). Float images from 0 to 1 are refused: nobody knows whether 0.5 is 127 or 128.
    """

    def __init__(
        self,
        backbone: str | BackboneSpec = "efficientnet_lite0",
        weights: str = "auto",
        *,
        preprocess: str | None = None,
        mean: str | Path | None = None,
        layer: str | None = None,
        pool: str | None = None,
        size: int | None = None,
        resize: str | int | None = None,
        batch_size: int | None = None,
        n_jobs: int = 1,
        engine: str = "auto",
        device: str = "auto",
        cache_dir: str | Path | None = None,
    ) -> None:
        self.backbone = backbone
        self.weights = weights
        self.preprocess = preprocess
        self.mean = mean
        self.layer = layer
        self.pool = pool
        self.size = size
        self.resize = resize
        self.batch_size = batch_size
        self.n_jobs = n_jobs
        self.engine = engine
        self.device = device
        self.cache_dir = cache_dir

    def fit(self, X: Any = None, y: Any = None) -> Self:  # noqa: ARG002 - scikit-learn passes them
        """Find the weights and settle layer, pool and preprocessing.

        Raises
        ------
        WeightsError
            No weights are at hand, or they do not fit.
        UsageError
            A parameter makes no sense.
        """
        plan = self._plan()
        self.layer_, self.pool_ = plan.layer.name, plan.pool
        self.preprocess_, self.parameters_ = plan.preprocess, plan.parameters
        self.n_features_out_ = _width(plan)
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Return the features of images, (n_images, `n_features_out_`).

        Images whose features are in the cache are not decoded; the others are forwarded together
        and kept.

        Raises
        ------
        DataError
            Something is no image (its place is named), or a file cannot be read.
        UsageError
            The parameters were changed since `fit` so that other features would come out.
        """
        check_is_fitted(self)
        plan = self._plan()
        if (plan.layer.name, plan.pool, plan.parameters, plan.preprocess) != (
            self.layer_, self.pool_, self.parameters_, self.preprocess_,
        ):  # fmt: skip
            raise UsageError("the weights or parameters changed since fit; fit again")
        images = ImageSources.of(X)
        folder = self._cache_dir()
        stores = [Store(folder), Store(folder / OWN_FOLDER)]
        with _forwarding:
            cached = CachedRows(stores, plan.key)
            if len(_missing(images, cached)):
                # processes of a search take turns: each finds what the one before has forwarded
                with stores[-1].lock(plan.key, on_wait=lambda _holder: None):
                    missing = _missing(images, CachedRows(stores, plan.key))
                    if len(missing):
                        self._forward(plan, images.take(missing), stores[-1])
                cached = CachedRows(stores, plan.key)
            contents = [row.tobytes() for row in images.content()]
            found = cached.rows(contents)
        return found.reshape(len(images), self.n_features_out_)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:  # noqa: ARG002
        """Return ``gap0``, ``gap1`` ...: the layer's name and a number."""
        check_is_fitted(self)
        names = [f"{self.layer_}_{number}" for number in range(self.n_features_out_)]
        return np.array(names, dtype=object)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.requires_fit = True
        tags.no_validation = True  # images are checked here, not by scikit-learn
        return tags

    def _cache_dir(self) -> Path:
        return state_folder(self.cache_dir)

    def _plan(self) -> _Plan:
        check_parameters(self.get_params(deep=False))
        folder = self._cache_dir()
        memo = Memo(folder / "memo.sqlite")
        spec = self._backbone(memo)
        given = load_preprocess(str(self.preprocess)) if self.preprocess else None
        weights = resolve_weights(
            spec, str(self.weights), cache_dir=folder, memo=memo, preprocess=given
        )
        if self.mean is not None:
            weights = with_mean(weights, Path(self.mean).expanduser())
        size = None if self.size is None else int(self.size)  # of NumPy's, out of a search
        preprocess = weights.preprocess.with_size(size, resize_text(self.resize))
        layer = (
            spec.layer(self.layer)
            if self.layer
            else default_layer(spec, weights.held(spec, memo), preprocess.size)
        )
        spec.check_size(layer, preprocess.size)
        pool = resolve_pool(layer, pool_called(self.pool))
        check_first_use(weights, spec, cache_dir=folder, memo=memo)
        return _Plan(
            backbone=spec,
            weights=weights,
            preprocess=preprocess,
            layer=layer,
            pool=pool,
            parameters=weights.digest(spec, layer, memo),
        )

    def _backbone(self, memo: Memo) -> BackboneSpec:
        given = self.backbone
        return given if isinstance(given, BackboneSpec) else backbone_called(given, memo)

    def _forward(self, plan: _Plan, images: ImageSources, store: Store) -> None:
        """Forward images into an entry of their own, which the next transform finds."""
        split = Split(
            ids=[f"train/{content.hex()}" for content in map(bytes, images.content())],
            labels=np.zeros(len(images), np.int32),
            images=images,
        )
        dataset = Dataset(name=DATASET, classes=("unknown",), splits={"train": split}, root=None)
        provenance = {
            "command": "FrozenBackbone",
            "dataset": DATASET,
            "backbone": plan.backbone.name,
            "weights": plan.weights.name,
            "weights_path": str(plan.weights.path) if plan.weights.path else None,
            "preprocess": plan.preprocess.name,
            "size": plan.preprocess.size,
            "engine": self._engine_name(plan),
        }
        job = decide(
            dataset,
            plan.backbone,
            plan.preprocess,
            [(plan.layer, plan.pool, plan.parameters)],
            dtype="float32",
            provenance=provenance,
        )
        extract_features(
            job, store, lambda _: self._engine(plan), _Quiet(), workers=self._threads()
        )

    def _threads(self) -> int:
        return usable_cores() if self.n_jobs == -1 else int(self.n_jobs or 1)

    def _engine_name(self, plan: _Plan) -> str:
        check_engine(plan.backbone, self.engine)
        return default_engine(self.device, plan.backbone) if self.engine == "auto" else self.engine

    def _engine(self, plan: _Plan) -> Engine:
        """Return the compiled network; the last few are kept, for clones and folds to share."""
        size = None if self.batch_size is None else int(self.batch_size)
        engine = self._engine_name(plan)
        name = (plan.key.recipe, size, engine, self.device)
        if name not in _engines:
            spec = plan.backbone
            parameters = plan.weights.load(spec, plan.layer).parameters
            _engines[name] = make_engine(
                spec, parameters, [(plan.layer, plan.pool)], plan.preprocess, batch_size=size,
                engine=engine, device=self.device,
            )  # fmt: skip
            if len(_engines) > KEPT_ENGINES:
                _engines.popitem(last=False)
        _engines.move_to_end(name)
        return _engines[name]


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """The parameters with everything decided."""

    backbone: BackboneSpec
    weights: ResolvedWeights
    preprocess: PreprocessSpec
    layer: Layer
    pool: Pool
    parameters: str

    @property
    def key(self) -> FeatureKey:
        """The key of the features, without rows."""
        return FeatureKey(
            backbone=self.backbone.name,
            layer=self.layer.name,
            pool=self.pool,
            parameters=self.parameters,
            preprocess=preprocess_identity(self.preprocess),
            rows=(),
        )


def _width(plan: _Plan) -> int:
    (shape,) = feature_shapes(plan.backbone, [(plan.layer, plan.pool)], plan.preprocess)
    return int(np.prod(shape))


class _Quiet:
    """A `probe.extraction.extract.Observer` that says nothing."""

    def copied(self, rows: int, left: int) -> None: ...

    def estimated(self, rows: int, seconds: float, device: str) -> None: ...

    def advanced(self, rows: int) -> None: ...

    def spread(self, rates: object) -> None: ...

    def waiting(self, *_: object) -> None: ...


def check_parameters(given: dict[str, Any]) -> None:
    """Raise UsageError for a parameter of the wrong type or value.

    Parameters
    ----------
    given : dict
        As `get_params` returns them.
    """
    texts, paths = (str,), (str, PathLike)
    for name, kinds, optional in (
        ("backbone", (*texts, BackboneSpec), False), ("weights", paths, False),
        ("preprocess", paths, True),
        ("mean", paths, True), ("layer", texts, True), ("engine", texts, False),
        ("device", texts, False), ("cache_dir", paths, True),
    ):  # fmt: skip
        _check(given, name, isinstance(given[name], kinds), "a text or path", optional=optional)
    for name in ("size", "batch_size"):
        _check(given, name, _count(given[name]), "an integer of at least 1", optional=True)
    jobs = given["n_jobs"]
    _check(given, "n_jobs", _count(jobs) or jobs == -1, "at least 1, or -1", optional=True)
    _check(given, "pool", given["pool"] in POOLS, ", ".join(POOLS), optional=True)
    check_resize("resize", resize_text(given["resize"]))
    check_engine_name(given["engine"])
    check_device_name(given["device"])


def _check(given: dict[str, Any], name: str, right: bool, expected: str, *, optional: bool) -> None:
    if not right and not (optional and given[name] is None):
        raise UsageError(f"{name}={given[name]!r}: expected {expected}")


def _count(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1


def _missing(images: ImageSources, cached: CachedRows) -> NDArray[np.intp]:
    """Return the first row of each image that the cache lacks."""
    seen: dict[bytes, int] = {}
    for row, content in enumerate(images.content()):
        if (one := content.tobytes()) not in cached:
            seen.setdefault(one, row)
    return np.array(sorted(seen.values()), np.intp)
