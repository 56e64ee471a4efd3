"""OpenVINO: the engine that runs ONNX models with it."""
