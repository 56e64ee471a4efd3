"""A bundle: a finished model on disk, a folder or one file, that predicts without a cache.

    bundle.json             what it is, and the digests of the other files and of itself
    weights.safetensors     the network's parameters, float32, canonical names; with several
                            networks weights-1.safetensors ...
    projection.safetensors  the PCA between features and head, if there is one
    head.safetensors        the head with its normalisation; with folds head-fold01 ... instead
    reference.safetensors   synthetic images, and the features and probabilities they gave
    neighbours.safetensors  training features as float16, for the flag `out-of-distribution`;
                            optional
    README.md               the model card, the only file that may be edited

Older bundles also hold graph.json, graph-2.json ..., which nothing reads any more: what a network
computes follows from its backbone's name, see `probe.backbones.architectures`.

A name that ends in `.probe` is one file: the same, as an uncompressed zip archive. Nothing in it is
code, and no image of the user's is in it unless small pictures of neighbours were asked for.
"""

from probe.bundle.about import ABOUT, OWN_TOP, About, Rejection
from probe.bundle.bundle import Bundle
from probe.bundle.files import ENDING, bundle_size
from probe.bundle.neighbours import Neighbours
from probe.bundle.network import WEIGHTS, Network, NetworkAbout, build_networks
from probe.bundle.reject import Verdicts
from probe.bundle.write import write_bundle

__all__ = [
    "ABOUT",
    "ENDING",
    "OWN_TOP",
    "WEIGHTS",
    "About",
    "Bundle",
    "Neighbours",
    "Network",
    "NetworkAbout",
    "Rejection",
    "Verdicts",
    "build_networks",
    "bundle_size",
    "write_bundle",
]
