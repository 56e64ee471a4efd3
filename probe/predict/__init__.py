"""Images to labels: finding them, answering them, scoring the answers, showing why.

Scoring is in `probe.predict.evaluate`, which an answer need not wait for.
"""

from probe.predict.augment import COMBINATIONS, TTA
from probe.predict.inputs import find_images
from probe.predict.predictor import Answers, Predictor
from probe.predict.stream import Prediction, predict_images

__all__ = [
    "COMBINATIONS",
    "TTA",
    "Answers",
    "Prediction",
    "Predictor",
    "find_images",
    "predict_images",
]
