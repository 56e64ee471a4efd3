"""The endpoint's requests and replies, as in its OpenAPI description."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from probe.serve.worker import Answer

BINARY = {"type": "string", "format": "binary"}
REQUEST_BODY = {
    "required": True,
    "content": {
        "application/octet-stream": {"schema": BINARY},
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {"image": BINARY},
                "required": ["image"],
                "additionalProperties": False,
            }
        },
    },
}


class Label(BaseModel):
    """A class and its probability."""

    label: str
    probability: float = Field(ge=0, le=1)


class Near(BaseModel):
    """A training image among the nearest ones."""

    label: str
    distance: float = Field(ge=0, description="of features of length one")
    id: str | None = None
    picture: str | None = Field(None, description="a data: URL, if the bundle keeps pictures")


class Reply(BaseModel):
    """The bundle's prediction for an image."""

    labels: list[str] | None = Field(
        None,
        description="of a multi-label bundle the labels whose thresholds are reached, most "
        "probable first; may be empty",
    )
    predictions: list[Label] = Field(description="most probable first")
    flags: list[str] = Field(description="low-confidence, out-of-distribution")
    distance: float | None = Field(None, description="to the training images")
    neighbours: list[Near]
    notes: list[str] = Field(
        description="unusual properties of the image that make the prediction doubtful, such as "
        "full transparency; usually empty"
    )
    milliseconds: float = Field(ge=0)


class Health(BaseModel):
    """The state of the server."""

    status: str
    waiting: int = Field(ge=0)


class BundleFacts(BaseModel):
    """Facts about the bundle."""

    name: str
    backbone: str
    dataset: str
    classes: list[str]
    several: bool = Field(description="whether the bundle is multi-label")
    sizes: list[int] = Field(description="sides of the networks' inputs, in pixels")
    calibrated: bool
    flags: list[str]
    weights: str
    licence: str


class Problem(BaseModel):
    """Why a request failed."""

    code: str
    message: str


class Failure(BaseModel):
    """The body of every reply to a valid HTTP request that failed."""

    error: Problem


def failures(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the entries of an OpenAPI description for some failures."""
    return {status: {"model": Failure} for status in statuses}


def reply_of(answer: Answer) -> Reply:
    """Return an answer in the endpoint's format."""
    prediction = answer.prediction
    return Reply(
        labels=None if prediction.given is None else list(prediction.given),
        predictions=[
            Label(label=label, probability=min(max(value, 0.0), 1.0))
            for label, value in zip(prediction.labels, prediction.probabilities, strict=True)
        ],
        flags=list(prediction.flags),
        distance=prediction.distance,
        neighbours=[
            Near(
                label=one.label,
                distance=one.distance,
                id=one.id,
                picture=_data_url(one.picture) if one.picture is not None else None,
            )
            for one in answer.neighbours
        ],
        notes=list(answer.notes),
        milliseconds=1000 * answer.seconds,
    )


def _data_url(picture: NDArray[np.uint8]) -> str:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
