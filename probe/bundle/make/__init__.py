"""Make a bundle of a run, or of weights with a pretrained classifier."""

from probe.bundle.make.run import BundleRequest, bundle_run
from probe.bundle.make.top import OwnTop, own_top, read_classes

__all__ = ["BundleRequest", "OwnTop", "bundle_run", "own_top", "read_classes"]
