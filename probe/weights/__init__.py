"""Pretrained weights: file readers, parameter names, the catalog, and known answers.

Importing this package does not import MXNet, and neither does a digest that is in the memo.
"""

from __future__ import annotations

from probe.weights.catalog import WEIGHTS, check_not_weights, find_weights, identify
from probe.weights.check import check_first_use, check_weights, require_agreement, verified_by
from probe.weights.convert import convert_weights, with_mean
from probe.weights.digest import file_digests, hash_file, parameter_digest
from probe.weights.fit import default_layer, fitting_backbones, holds_layers, why_not
from probe.weights.foreign import (
    backbone_called,
    backbone_of_function,
    is_network,
    is_place,
    network_name,
    open_network,
)
from probe.weights.known import class_names, record_answer
from probe.weights.load import (
    Loaded,
    held_layers,
    load_parameters,
    random_digest,
    random_parameters,
    require_layers,
    weights_digest,
)
from probe.weights.open_file import open_tensors
from probe.weights.published import fetch, locate, serves
from probe.weights.resolve import ResolvedWeights, backbone_for, resolve_weights
from probe.weights.spec import WeightsSpec
from probe.weights.tensors import LazyTensor, TensorFile

__all__ = [
    "WEIGHTS",
    "LazyTensor",
    "Loaded",
    "ResolvedWeights",
    "TensorFile",
    "WeightsSpec",
    "backbone_called",
    "backbone_for",
    "backbone_of_function",
    "check_first_use",
    "check_not_weights",
    "check_weights",
    "class_names",
    "convert_weights",
    "default_layer",
    "fetch",
    "file_digests",
    "find_weights",
    "fitting_backbones",
    "hash_file",
    "held_layers",
    "holds_layers",
    "identify",
    "is_network",
    "is_place",
    "load_parameters",
    "locate",
    "network_name",
    "open_network",
    "open_tensors",
    "parameter_digest",
    "random_digest",
    "random_parameters",
    "record_answer",
    "require_agreement",
    "require_layers",
    "resolve_weights",
    "serves",
    "verified_by",
    "weights_digest",
    "why_not",
    "with_mean",
]
