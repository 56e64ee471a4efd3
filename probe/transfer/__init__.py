"""Features in and out: other people's files become entries, and entries their files."""

from probe.transfer.exporting import FORMATS, export_features
from probe.transfer.importing import import_features
from probe.transfer.roles import Names

__all__ = ["FORMATS", "Names", "export_features", "import_features"]
