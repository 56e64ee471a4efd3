"""Hold an explanation, and draw it: image, heatmap, probabilities, nearest training images."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from probe.core.short_repr import short_repr
from probe.figures.canvas import BLUE, FAINT, INK, RULE, fit, new_figure, save
from probe.figures.glyphs import readable
from probe.predict.stream import Prediction

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MapKind = Literal["cam", "occlusion"]
WIDTH, LEFT, TOP_ROW, NEAR_ROW, TITLE = 9.0, 0.25, 2.7, 1.55, 0.75  # inches
NEAR = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class Neighbour:
    """A training image near the explained one.

    Parameters
    ----------
    label : str
        Its class, or with multi-label images all its labels: ``cat, dog``. Empty without labels.
    distance : float
        Distance of features scaled to length one, 0 to 2.
    picture : uint8, (height, width, 3), or None
    """

    __repr__ = short_repr

    label: str
    distance: float
    id: str | None = None
    picture: NDArray[np.uint8] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Explanation:
    """A prediction with its heatmap and nearest training images.

    Parameters
    ----------
    image : uint8, (S, S, 3)
        The network's input; with several networks that which shows most of the image.
    label : str
        The class that the heatmap is for.
    kind : {"cam", "occlusion"} or None
    heat : float64, (h, w), or None
        Evidence for the class in each cell, negative against it. For ``cam`` its mean is the
        class's score less the mean of all classes' scores, up to a constant; for ``occlusion`` it
        is the fall of the class's log-probability when a grey patch is there.
    neighbours : tuple of Neighbour
        The nearest first.
    classes : tuple of str
        Those of the bundle.
    """

    __repr__ = short_repr

    image: NDArray[np.uint8]
    prediction: Prediction
    label: str
    kind: MapKind | None
    heat: NDArray[np.float64] | None
    neighbours: tuple[Neighbour, ...]
    classes: tuple[str, ...] = ()

    def save(self, out: str | Path) -> None:
        """Write it as a picture, PNG."""
        draw_explanation(self, Path(out))

    def _repr_png_(self) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            self.save(Path(folder, "explained.png"))
            return Path(folder, "explained.png").read_bytes()


def draw_explanation(explanation: Explanation, out: Path) -> None:
    """Write the picture of an explanation as PNG, by rename.

    Names of classes that no font can show are replaced by numbers.
    """
    explanation = _drawable(explanation)
    near = explanation.neighbours[:NEAR]
    height = TITLE + TOP_ROW + 0.35 + (NEAR_ROW + 0.55 if near else 0)
    figure = new_figure(WIDTH, height)
    _titles(figure, explanation, height)
    base = height - TITLE - TOP_ROW
    _image(_box(figure, LEFT, base, TOP_ROW, TOP_ROW), explanation.image)
    if explanation.heat is not None:
        _heat(figure, explanation, base)
    _bars(figure, explanation, base)
    for number, one in enumerate(near):
        side = (WIDTH - 2 * LEFT) / NEAR - 0.12
        left = LEFT + number * (side + 0.12)
        axes = _box(figure, left, base - 0.75 - side, side, side)
        if one.picture is not None:
            _image(axes, one.picture)
        else:
            _bare(axes)
            axes.set_facecolor("#f3f4f6")
            axes.text(0.5, 0.5, "no picture\nkept", ha="center", va="center", fontsize=7,
                      color=FAINT, transform=axes.transAxes)  # fmt: skip
        caption = [fit(one.label, side, 8), f"{one.distance:.3f}"]
        if one.id:
            caption.append(fit(one.id, side, 8))
        axes.set_xlabel("\n".join(caption), fontsize=8, color=INK, labelpad=3)
    if near:
        figure.text(LEFT / WIDTH, (base - 0.42) / height, "Nearest training images, and how far",
                    fontsize=10, color=INK, va="center")  # fmt: skip
    save(figure, out)


def _drawable(explanation: Explanation) -> Explanation:
    shown = dict(zip(explanation.classes, readable(explanation.classes), strict=True))
    prediction = explanation.prediction
    labels = tuple(shown.get(name, name) for name in prediction.labels)
    given = (
        None
        if prediction.given is None
        else tuple(shown.get(name, name) for name in prediction.given)
    )
    near = (replace(one, label=shown.get(one.label, one.label)) for one in explanation.neighbours)
    return replace(
        explanation,
        label=shown.get(explanation.label, explanation.label),
        prediction=replace(prediction, labels=labels, given=given),
        neighbours=tuple(near),
    )


def _titles(figure: Figure, explanation: Explanation, height: float) -> None:
    prediction = explanation.prediction
    flags = f"   [{', '.join(prediction.flags)}]" if prediction.flags else ""
    answer = f"{prediction.labels[0]}, {100 * prediction.probabilities[0]:.1f} %"
    if prediction.given is not None:
        answer = ", ".join(prediction.given) or "no label"
    title = fit(f"{answer}{flags}", WIDTH - 2 * LEFT, 14, "bold")
    about = {
        "cam": f"what speaks for {explanation.label} (blue: against), class activation map",
        "occlusion": f"what {explanation.label} loses when a grey patch hides it (blue: it gains)",
        None: "",
    }[explanation.kind]
    line = fit(f"{prediction.image}   {about}", WIDTH - 2 * LEFT, 9)
    figure.text(LEFT / WIDTH, 1 - 0.26 / height, title, fontsize=14, color=INK,
                fontweight="bold", va="center")  # fmt: skip
    figure.text(LEFT / WIDTH, 1 - 0.54 / height, line, fontsize=9, color=FAINT, va="center")


def _heat(figure: Figure, explanation: Explanation, base: float) -> None:
    heat = explanation.heat
    assert heat is not None
    axes = _box(figure, LEFT + TOP_ROW + 0.2, base, TOP_ROW, TOP_ROW)
    grey = explanation.image.mean(axis=2)
    side = len(grey)
    axes.imshow(grey, cmap="gray", vmin=-120, vmax=300, extent=(0, side, side, 0))
    most = float(np.abs(heat).max()) or 1.0
    axes.imshow(heat, cmap="RdBu_r", vmin=-most, vmax=most, alpha=0.6, interpolation="bicubic",
                extent=(0, side, side, 0))  # fmt: skip
    _bare(axes)


def _bars(figure: Figure, explanation: Explanation, base: float) -> None:
    prediction = explanation.prediction
    left = LEFT + (2 if explanation.heat is not None else 1) * (TOP_ROW + 0.2) + 0.1
    axes = _box(figure, left, base, WIDTH - left - LEFT, TOP_ROW)
    places = np.arange(len(prediction.labels))[::-1]
    axes.barh(places, prediction.probabilities, height=0.22, color=BLUE)
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.6, len(places) - 0.3)
    room = WIDTH - left - LEFT - 0.6
    for place, label, value in zip(
        places, prediction.labels, prediction.probabilities, strict=True
    ):
        axes.text(0, place + 0.3, fit(label, room, 10), fontsize=10, color=INK, va="center")
        axes.text(1, place + 0.3, f"{100 * value:.1f} %", fontsize=10, color=FAINT, ha="right",
                  va="center")  # fmt: skip
    axes.axis("off")


def _box(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Return axes at a place given in inches."""
    full_width, full_height = figure.get_size_inches()
    place = (left / full_width, bottom / full_height, width / full_width, height / full_height)
    return figure.add_axes(place)


def _image(axes: Axes, picture: Any) -> None:
    axes.imshow(picture, interpolation="nearest" if len(picture) < 128 else "antialiased")
    _bare(axes)


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(RULE)
