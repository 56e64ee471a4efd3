"""Use bundles: find images, predict them, score the predictions (`evaluate`), explain them.

`probe.predict.evaluate` is not imported here, so that a prediction need not wait for it.
"""

from probe.predict.augment import COMBINATIONS, TTA
from probe.predict.inputs import find_images, find_inputs
from probe.predict.predictor import Answers, Predictor
from probe.predict.stream import Prediction, PredictTask, predict_images, predict_spread

__all__ = [
    "COMBINATIONS",
    "TTA",
    "Answers",
    "PredictTask",
    "Prediction",
    "Predictor",
    "find_images",
    "find_inputs",
    "predict_images",
    "predict_spread",
]
