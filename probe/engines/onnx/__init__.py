"""ONNX Runtime: networks as ONNX models, and the engine that runs them."""
