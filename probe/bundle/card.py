"""The model card of a bundle, in Markdown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from probe.bundle.about import OWN_TOP, About
from probe.bundle.neighbours import Neighbours

NAMES = {
    "map": "mAP",
    "micro_f1": "micro F1 at 0.5",
    "micro_f1_chosen": "micro F1 at the thresholds",
    "macro_auc": "macro AUC",
    "top1": "top-1",
    "top5": "top-5",
    "mean_recall": "balanced accuracy",
    "log_loss": "log loss",
    "calibration_error": "ECE (expected calibration error)",
    "calibration_error_scaled": "ECE with the temperature",
}
HUB_METRICS = {"top1": "accuracy", "mean_recall": "balanced_accuracy", "map": "mAP"}
HUB_LICENCES = {
    "Apache-2.0": "apache-2.0", "MIT": "mit", "BSD-3-Clause": "bsd-3-clause",
    "CC-BY-4.0": "cc-by-4.0", "CC-BY-NC-4.0": "cc-by-nc-4.0",
}  # fmt: skip


def model_card(about: About, name: str, neighbours: Neighbours | None, *, votes: int = 0) -> str:
    """Return the card, whose figures are all those that the run measured.

    It begins with what Hugging Face's hub reads of a card (huggingface.co/docs/hub/model-cards).


    Parameters
    ----------
    name : str
        The bundle's file name, for the examples.
    votes : int
        Number of heads that vote, if probabilities are shares of votes.
    """
    parts = [
        _metadata(about),
        _title(about, name),
        _measured(about),
        _answers(about, votes),
        _unknown(about),
        _kept(about, neighbours),
        _input(about),
        _classes(about),
        _terms(about),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _metadata(about: About) -> str:
    """Return the card's head in YAML, of which JSON is a part; a class name may be anything."""
    told: dict[str, Any] = {
        "library_name": "probe",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "probe", *sorted({n.backbone for n in about.networks})],
    }
    licences = {one.licence.partition(" ")[0] for one in about.networks}
    if len(licences) == 1 and (licence := HUB_LICENCES.get(min(licences))):
        told["license"] = licence
    split = next((one for one in ("test", "val") if about.metrics.get(one)), None)
    if split is not None:
        figures = [
            {"type": kind, "name": f"{NAMES[name]} on {split}", "value": about.metrics[split][name]}
            for name, kind in HUB_METRICS.items() if name in about.metrics[split]
        ]  # fmt: skip
        told["model-index"] = [{
            "name": f"{about.backbone} on {about.dataset}",
            "results": [{
                "task": {"type": "image-classification"},
                "dataset": {"name": about.dataset, "type": about.dataset, "split": split},
                "metrics": figures,
            }],
        }]  # fmt: skip
    lines = [f"{name}: {json.dumps(value)}" for name, value in told.items()]
    return "\n".join(["---", *lines, "---"])


def _title(about: About, name: str) -> str:
    if about.head == OWN_TOP:
        title, made = about.backbone, f"{about.backbone} with the classifier its weights came with."
    else:
        title = f"{about.backbone} on {about.dataset}"
        tuned = "fine-tuned" if about.head == "promoted" else "frozen"
        several = f"{len(about.heads)} {about.head} heads" if len(about.heads) > 1 else None
        if about.ensemble:
            several = "a head each"
        head = several or ("its head" if tuned == "fine-tuned" else f"a {about.head} head")
        made = (
            f"{_networks(about, tuned)}, and {head} fitted on {about.dataset}. Made by `probe` "
            f"from run {about.run}."
        )
    return f"# {title}\n\n{made}\n\n    probe predict {name} image.jpg"


def _networks(about: About, tuned: str) -> str:
    if about.ensemble:
        one = about.networks[0]
        how = "trained from random weights" if about.weights.startswith("random") else "fine-tuned"
        return f"{len(about.networks)} networks {one.backbone}, {how}, cut at {one.layer}"
    each = [f"a {tuned} {one.backbone}, cut at {one.layer}" for one in about.networks]
    if tuned == "fine-tuned" and about.weights.startswith("random"):
        each = [
            f"{one.backbone}, trained from random weights, cut at {one.layer}"
            for one in about.networks
        ]
    text = ", beside ".join(each)
    if about.pca is not None:
        text += f", reduced to {about.pca} features by a PCA"
    return text[0].upper() + text[1:]


def _measured(about: About) -> str:
    shown = [name for name in NAMES if any(name in split for split in about.metrics.values())]
    if not shown:
        return "## Measured\n\nNothing was measured by `probe`."
    header = "| split | " + " | ".join(NAMES[name] for name in shown) + " |"
    rows = [
        f"| {split} | "
        + " | ".join(
            _figure(name, figures.get(name), _bounds(about, split, name)) for name in shown
        )
        + " |"
        for split, figures in about.metrics.items()
    ]
    notes = ["Log loss is in nats."]
    if any(about.intervals.values()):
        notes.append("Brackets are 95 % intervals over the rows, the head staying as it is.")
    watched = "oof" if about.ensemble else "val"
    if about.head == "promoted" and watched in about.metrics:
        notes.append(f"The best epoch was chosen on the images of {watched}, which flatters there.")
    if about.ensemble:
        notes.append(
            "Out of fold (oof) each image is answered by the network that did not learn from it, "
            "elsewhere by the mean of all networks, as here."
        )
    elif len(about.heads) > 1:
        notes.append("The figures are those of the run's own head, not of the mean of the folds'.")
    table = "\n".join([header, "|---" * (len(shown) + 1) + "|", *rows])
    return f"## Measured\n\n{table}\n\n{' '.join(notes)}"


def _held_out(about: About) -> str:
    """Describe the rows that temperature and thresholds were chosen on."""
    if (len(about.heads) > 1 and not about.ensemble) or "val" not in about.metrics:
        whose = "network" if about.ensemble else "head"
        return f"the training images, each answered by the {whose} of the fold that held it out"
    return "the validation images"


def _answers(about: About, votes: int) -> str:
    function = about.task.activation
    if votes:
        calibrated = (
            f"Each of {votes} heads has a vote, and a probability is a share of the votes: it is "
            "not calibrated, and no confidence was chosen below which an image has low confidence."
        )
    elif about.temperature is None:
        calibrated = (
            f"Probabilities are the {function} as it is; no temperature was fitted to calibrate it."
        )
    else:
        calibrated = (
            f"Probabilities are calibrated: scores are divided by {about.temperature:.4g} before "
            f"the {function}, a temperature fitted on {_held_out(about)}."
        )
    several = (
        f" They are the mean over {len(about.heads)} {'networks' if about.ensemble else 'heads'}, "
        "one per fold, with equal weights."
        if len(about.heads) > 1
        else ""
    )
    labels = ""
    if not about.task.exclusive:
        labels = "An image may have several labels, or none: each has a probability of its own. "
        labels += _given_from(about, votes)
    if about.threshold is not None:
        labels = f"The answer is {about.threshold.words()}; else it is the other class. "
    return f"## Answers\n\n{labels}{calibrated}{several} A probability is not a promise."


def _given_from(about: About, votes: int) -> str:
    if about.thresholds:
        return (
            "It is given from a threshold on that was chosen for its best F1 on "
            f"{_held_out(about)}; they stand with the classes. "
        )
    if votes:
        return "It is given where at least half of the heads vote for it. "
    return "It is given from 0.5 on: nothing was held out to choose thresholds on. "


def _unknown(about: About) -> str:
    rejection = about.rejection
    if rejection is None:
        return (
            "## What it does not know\n\n"
            "It has no thresholds: images unlike the training data are answered all the same."
        )
    share = f"{100 * rejection.rate:g} %"
    lines = []
    if rejection.confidence is not None:
        line = (
            f"- `low-confidence`: the highest probability is below {rejection.confidence:.4f}, as "
            f"for {share} of {_held_out(about)} ({rejection.confidence_rows:,})."
        )
        if rejection.top1_answered is not None and rejection.errors_caught is not None:
            line += (
                f" Of the wrong answers there {100 * rejection.errors_caught:.1f} % have low "
                f"confidence; of the rest {100 * rejection.top1_answered:.2f} % are right."
            )
        lines.append(line)
    if rejection.distance is not None:
        lines.append(
            f"- `out-of-distribution`: the distance to the {rejection.k}th nearest training image "
            f"is above {rejection.distance:.4f}, as for {share} of "
            f"{rejection.distance_rows:,} images that it does not keep. How many "
            "out-of-distribution images that finds depends on those images."
        )
    return "## What it does not know\n\n" + "\n".join(lines)


def _kept(about: About, neighbours: Neighbours | None) -> str:
    if neighbours is None:
        return "## What it keeps of the training data\n\nThe head, and nothing of any one image."
    what = {
        "labels": "their classes",
        "ids": "their classes and names",
        "pictures": "their classes, names and small pictures",
    }[about.remembers or "labels"]
    size = neighbours.features.nbytes / 1e6
    return (
        f"## What it keeps of the training data\n\nThe features of {len(neighbours):,} training "
        f"images as float16 ({size:.1f} MB), {what}."
    )


def _input(about: About) -> str:
    each = dict.fromkeys((one.backbone, one.preprocessing.describe()) for one in about.networks)
    if len(each) == 1:
        ((_, text),) = each
        return f"## Input\n\nRGB images of any size. {text}."
    lines = [f"- {name}: {text}." for name, text in each]
    return "## Input\n\nRGB images of any size.\n\n" + "\n".join(lines)


def _classes(about: About) -> str:
    classes: Sequence[str] = about.classes[:50]
    more = " ..." if len(about.classes) > 50 else ""
    if about.thresholds is not None:  # as many as there are classes
        pairs = zip(classes, about.thresholds, strict=False)
        classes = [f"{name} (from {100 * threshold:.1f} %)" for name, threshold in pairs]
    return f"## Classes ({len(about.classes)})\n\n{', '.join(classes)}{more}"


def _terms(about: About) -> str:
    terms = dict.fromkeys(f"{one.weights}, {one.licence}" for one in about.networks)
    lines = [f"Backbone weights: {text}." for text in terms]
    if about.head != OWN_TOP:
        lines.append(f"The terms of {about.dataset} hold for the head.")
    return "## Terms\n\n" + "\n".join(lines)


def _bounds(about: About, split: str, name: str) -> tuple[float, float] | None:
    found = about.intervals.get(split, {}).get(name)
    return (found[0], found[1]) if found else None


def _figure(name: str, value: float | None, bounds: tuple[float, float] | None) -> str:
    if value is None:
        return "-"
    if name == "log_loss":
        return f"{value:.4f}" + (f" [{bounds[0]:.4f}, {bounds[1]:.4f}]" if bounds else "")
    text = f"{100 * value:.2f} %"
    return text + (f" [{100 * bounds[0]:.2f}, {100 * bounds[1]:.2f}]" if bounds else "")
