"""Images to labels: finding them, answering them, scoring the answers, showing why."""

from probe.predict.augment import COMBINATIONS, TTA
from probe.predict.evaluate import Evaluation, evaluate
from probe.predict.inputs import find_images
from probe.predict.predictor import Answers, Predictor
from probe.predict.stream import Prediction, predict_images

__all__ = [
    "COMBINATIONS",
    "TTA",
    "Answers",
    "Evaluation",
    "Prediction",
    "Predictor",
    "evaluate",
    "find_images",
    "predict_images",
]
