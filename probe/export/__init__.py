"""Write a bundle in other formats, each checked against the bundle before the file appears."""

from probe.export.mxnet_files import export_mxnet
from probe.export.onnx_file import export_onnx
from probe.export.sklearn_file import export_sklearn

FORMATS = {"onnx": export_onnx, "mxnet": export_mxnet, "sklearn": export_sklearn}

__all__ = ["FORMATS", "export_mxnet", "export_onnx", "export_sklearn"]
