"""From a run, or from weights with a classifier of their own, to a bundle that stands alone."""

from probe.bundle.make.run import BundleRequest, bundle_run
from probe.bundle.make.top import OwnTop, own_top, read_classes

__all__ = ["BundleRequest", "OwnTop", "bundle_run", "own_top", "read_classes"]
