"""Import feature files of other tools as entries, and export entries."""

from probe.cache.interchange.exporting import FORMATS, export_features
from probe.cache.interchange.importing import import_features
from probe.cache.interchange.roles import Names

__all__ = ["FORMATS", "Names", "export_features", "import_features"]
