"""`WeightsSpec`: what is known of one published weight file."""

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
    aliases : tuple of str
        Names that others give to the same parameters: a member of torchvision's weight enums, and
        timm's name.
    format : {"torch", "keras", "gluon", "caffe"}
    preprocess : PreprocessSpec
        The preprocessing that the weights are evaluated with.
    layers : tuple of str
        The last layers that the file holds; empty for all layers of the backbone.
    file_name : str
        The file's name where it is published, and in the cache folder.
    urls : tuple of str
        The publisher's URL, then mirrors; empty if the file cannot be downloaded by itself.
    package : tuple of str
        Import name of an installed package and the path inside it, or nothing.
    install : str
        What to install to have that package.
    size : int or None
        In bytes, if known; of a download the rounded size that its publisher states.
    sha256 : str
        In hex: all 64 digits, or the first ones that the publisher states.
    md5, sha1 : str
        In hex, if the publisher states this digest.
    top1 : float or None
        Single-crop accuracy on ImageNet's validation images, 0 to 1, as `top1_by` published it.
    """

    name: str
    backbone: str
    format: str
    preprocess: PreprocessSpec
    file_name: str
    licence: str
    aliases: tuple[str, ...] = ()
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
        """Return whether a file with those digests has the digest that the publisher states."""
        if self.sha256:
            return found.sha256.startswith(self.sha256)
        return (self.md5 or self.sha1) in {found.md5, found.sha1} - {""}
