"""Export the head as a scikit-learn pipeline on the backbone's features.

With several backbones it takes their concatenated features, in the order of `bundle.json`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.bundle import Bundle
from probe.core.files import replacing
from probe.errors import BundleError
from probe.export.check import linear_heads, reference_rows, require_free, require_same
from probe.heads import LayeredHead
from probe.heads.projection import Projection


def export_sklearn(bundle: Bundle, out: Path) -> list[Path]:
    """Write the head as a joblib file: features in, class names and probabilities out.

    `probe` is not needed to load it, but joblib files are pickles: loading one runs what is in it,
    so load only those from people you trust.

    Parameters
    ----------
    out : Path
        The file.

    Raises
    ------
    UsageError
        The file exists.
    BundleError
        There is no head, or several, or the pipeline gives other answers than the bundle.
    """
    import joblib

    require_free(out)
    pipeline = head_pipeline(bundle)
    rows = reference_rows(bundle)
    features = np.concatenate(rows.network_features, axis=1)
    found = pipeline.predict_proba(features.astype(np.float64))
    order = [list(pipeline.classes_).index(name) for name in bundle.about.classes
             if name in pipeline.classes_]  # fmt: skip
    places = [name in pipeline.classes_ for name in bundle.about.classes]
    whole = np.zeros_like(rows.probabilities)
    whole[:, places] = found[:, order]
    require_same(str(out), rows, whole, None)
    with replacing(out) as temporary:
        joblib.dump(pipeline, temporary)
    return [out]


def head_pipeline(bundle: Bundle) -> Any:
    """Return PCA, normaliser and classifier as fitted scikit-learn estimators.

    The temperature is part of the coefficients. Classes are in the order of their names, as in
    scikit-learn; those of a multi-label bundle in the bundle's order.
    """
    from sklearn.pipeline import make_pipeline

    heads = linear_heads(bundle)
    if len(heads) != 1:
        raise BundleError(
            "scikit-learn's file holds one head, and this bundle has "
            + (f"{len(heads)}; export to onnx or mxnet" if heads else "none of its own")
        )
    (head,) = heads
    learnt = _projection(bundle.projection) if bundle.projection is not None else []
    classifier = _classifier if bundle.about.task.exclusive else _multilabel_classifier
    return make_pipeline(*learnt, *_normalizer(head), classifier(head, bundle))


def _projection(projection: Projection) -> list[Any]:
    """Return the projection as a scaler and a PCA without a mean."""
    from sklearn.decomposition import PCA

    made = PCA(projection.width)
    made.components_, made.mean_ = projection.axes.T, np.zeros(projection.n_features)
    made.n_components_, made.n_features_in_ = projection.width, projection.n_features
    return [_scaler(projection.mean, projection.scale), made]


def _normalizer(head: LayeredHead) -> list[Any]:
    from sklearn.preprocessing import Normalizer

    normalizer = head.normalizer_
    if normalizer.kind == "l2":
        return [Normalizer("l2").fit(normalizer.mean[None])]
    return [] if normalizer.kind == "none" else [_scaler(normalizer.mean, normalizer.scale)]


def _scaler(mean: NDArray[np.float64], scale: NDArray[np.float64]) -> Any:
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler()
    scaler.mean_, scaler.scale_ = mean, scale
    scaler.var_, scaler.n_features_in_ = scale**2, len(mean)
    scaler.n_samples_seen_ = 0  # not known; used by partial_fit only
    return scaler


def _classifier(head: LayeredHead, bundle: Bundle) -> Any:
    names = np.array([bundle.about.classes[int(label)] for label in head.classes_])
    order = np.argsort(names)
    names, temperature = names[order], bundle.about.temperature or 1.0
    *hidden, (coef, intercept) = head.layers()
    coef = coef[order].astype(np.float64) / temperature
    intercept = intercept[order].astype(np.float64) / temperature
    if len(names) == 2:  # one row of scores: the second class against the first
        coef, intercept = coef[1:] - coef[:1], intercept[1:] - intercept[:1]
    if hidden:
        return _perceptron(names, [*hidden, (coef, intercept)])
    return _logistic(names, coef, intercept)


def _logistic(names: Any, coef: NDArray[np.float64], intercept: NDArray[np.float64]) -> Any:
    from sklearn.linear_model import LogisticRegression

    made = LogisticRegression()
    made.classes_, made.coef_, made.intercept_ = names, coef, intercept
    made.n_features_in_, made.n_iter_ = coef.shape[1], np.array([0], np.int32)
    return made


def _multilabel_classifier(head: LayeredHead, bundle: Bundle) -> Any:
    """Return the classifier of a multi-label head, with classes in the bundle's order.

    Its `predict` uses a threshold of 0.5; `thresholds_` are the bundle's.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.preprocessing import LabelBinarizer

    *hidden, (coef, intercept) = head.layers()
    temperature, count = bundle.about.temperature or 1.0, len(bundle.about.classes)
    coef = coef.astype(np.float64) / temperature
    intercept = intercept.astype(np.float64) / temperature
    binarizer = LabelBinarizer().fit(np.eye(count, dtype=np.int64))
    binarizer.classes_ = np.array(bundle.about.classes)
    if hidden:
        made = _perceptron(binarizer.classes_, [*hidden, (coef, intercept)])
        made._label_binarizer, made.out_activation_ = binarizer, "logistic"
    else:
        made = OneVsRestClassifier(LogisticRegression())
        made.label_binarizer_, made.n_features_in_ = binarizer, coef.shape[1]
        made.classes_ = binarizer.classes_
        made.estimators_ = [
            _logistic(np.arange(2), coef[[i]], intercept[[i]]) for i in range(count)
        ]
    made.thresholds_ = bundle.thresholds
    return made


def _perceptron(names: Any, layers: list[tuple[Any, Any]]) -> Any:
    from sklearn.neural_network import MLPClassifier
    from sklearn.preprocessing import LabelBinarizer

    made = MLPClassifier(hidden_layer_sizes=[len(bias) for _, bias in layers[:-1]])
    made.coefs_ = [np.asarray(weight, np.float64).T for weight, _ in layers]
    made.intercepts_ = [np.asarray(bias, np.float64) for _, bias in layers]
    made._label_binarizer = LabelBinarizer().fit(names)
    made.classes_, made.n_outputs_ = names, len(layers[-1][1])
    made.out_activation_ = "softmax" if len(names) > 2 else "logistic"
    made.n_layers_, made.n_features_in_ = len(layers) + 1, layers[0][0].shape[1]
    made.n_iter_ = 0
    return made
