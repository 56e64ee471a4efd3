"""What somebody writes in a minute: features of a folder of images by ONNX Runtime.

python benchmarks/newcomer_onnx.py MODEL FOLDER OUT.npy
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

model, folder, out = sys.argv[1:]
session = onnxruntime.InferenceSession(model)
name = session.get_inputs()[0].name
paths = sorted(Path(folder).rglob("*.jpg"))


def load(path):
    return np.asarray(Image.open(path).convert("RGB").resize((64, 64), Image.Resampling.BILINEAR))


features = [
    session.run(None, {name: np.stack([load(path) for path in paths[start : start + 64]])})[0]
    for start in range(0, len(paths), 64)
]
np.save(out, np.concatenate(features))
