"""What is known of a published set of weights, in plain data."""

from __future__ import annotations

from dataclasses import dataclass

from probe.preprocess.spec import PreprocessSpec
from probe.weights.digest import Digests


@dataclass(frozen=True, kw_only=True)
class WeightsSpec:
    """One published weight file.

    Parameters
    ----------
    name : str
        ``BACKBONE.SOURCE``, for example ``resnet50.torchvision_v1``.
    backbone : str
    format : {"torch", "keras", "gluon", "caffe"}
    preprocess : PreprocessSpec
        What the weights were trained and are evaluated with.
    layers : tuple of str
        The last layers it holds; empty for all of the backbone's.
    file_name : str
        As published, and as it is called in the cache folder.
    urls : tuple of str
        The publisher's address first, then mirrors; empty where it is not published on its own.
    package : tuple of str
        Import name of an installed package and the path inside it, or nothing.
    install : str
        What to install to have that package.
    size : int or None
        In bytes, where known; of a download as its publisher states it, rounded.
    sha256 : str
        In hex: all 64 digits, or as many as the publisher states.
    md5, sha1 : str
        In hex, where that is what the publisher states.
    licence : str
    top1 : float or None
        Single-crop accuracy on ImageNet's validation images, 0 to 1, as `top1_by` published it.
    top1_by : str
    """

    name: str
    backbone: str
    format: str
    preprocess: PreprocessSpec
    file_name: str
    licence: str
    layers: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    package: tuple[str, str] | tuple[()] = ()
    install: str = ""
    size: int | None = None
    sha256: str = ""
    md5: str = ""
    sha1: str = ""
    top1: float | None = None
    top1_by: str = ""

    def has_digest(self, found: Digests) -> bool:
        """Whether a file with those digests is this one, as far as its publisher's digest tells."""
        if self.sha256:
            return found.sha256.startswith(self.sha256)
        return (self.md5 or self.sha1) in {found.md5, found.sha1} - {""}
