"""The sections of the page; a section without content is left out."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

from probe.core.text import capital, counted
from probe.datasets.classes import has_labels
from probe.report import evidence, galleries, leaderboard, overview
from probe.report.by_column import by_column
from probe.report.costs import cost_table
from probe.report.markup import Markup, element, join
from probe.report.material import Material
from probe.report.payload import COSTS
from probe.report.pictures import Pictures, Views
from probe.report.provenance import ledger, provenance
from probe.report.two_classes import two_classes

ASSETS = files("probe.report") / "assets"
LABEL_CHOICE = '<label for="map-label">Label<select id="map-label"></select></label>'


def asset(name: str) -> str:
    """Return a file that belongs to the page: HTML, CSS or JavaScript."""
    return (ASSETS / name).read_text(encoding="utf-8")


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page.

    Parameters
    ----------
    name : str
        Its id.
    title, why : str
        The heading, and one or two sentences on how to read the section.
    """

    name: str
    title: str
    why: str
    content: Markup

    def link(self) -> Markup:
        """Return its entry in the navigation."""
        return element("li", element("a", self.title, {"href": f"#{self.name}"}))

    def element(self) -> Markup:
        """Return the whole section."""
        heading = element("h2", self.title, {"id": f"{self.name}-heading"})
        content = [heading, element("p", self.why), self.content]
        attributes = {"id": self.name, "aria-labelledby": f"{self.name}-heading"}
        return element("section", content, attributes)


def sections_of(material: Material, views: Views, pictures: Pictures) -> list[Section]:
    """Return the sections in the order of the page."""
    found = []
    if material.rows:
        found += [_leaderboard(material), _cost(material)]
    elif (tables := overview.images(material)) is not None:
        why = "The images, as they were when the features were made."
        found.append(Section(name="images", title="Images", why=why, content=tables))
    if (figures := two_classes(material)) is not None:
        found.append(_two(figures))
    if (figures := by_column(material)) is not None:
        found.append(_columns(figures))
    if material.curves:
        found.append(_learning(material))
    if any(views.values()):
        found.append(_runs() if material.task.exclusive else _labels())
    if any(material.runs[one].history for one in material.runs):
        found.append(_training(material))
    if pictures.maps:
        found.append(_map(pictures, material))
    if material.audits:
        why = "The findings of an audit of the features; check each of them yourself."
        content = galleries.audits(material.audits, pictures)
        found.append(Section(name="audit", title="Audit", why=why, content=content))
    found.append(_provenance(material))
    if material.rows or material.test_evaluations:
        found.append(_ledger(material))
    return found


def _leaderboard(material: Material) -> Section:
    why = (
        "Ranks and ties come from rows that were held out from training. Test figures are shown "
        "beside them and were not used for the ranking."
    )
    content = join([leaderboard.leaderboard(material), evidence.tests(material)])
    return Section(name="leaderboard", title="Leaderboard", why=why, content=content)


def _cost(material: Material) -> Section:
    if not any(row.rank is not None for row in material.rows):
        why = "No rows were held out from training, so there is no accuracy to compare costs with."
        return Section(name="cost", title="Cost", why=why, content=cost_table(material))
    values = {name: [getattr(row.cost, name, None) for row in material.rows] for name in COSTS}
    values["feature_dim"] = [row.feature_dim for row in material.rows]
    known = [name for name, ones in values.items() if any(one is not None for one in ones)]
    options = [element("option", COSTS[name], {"value": name}) for name in known]
    why = (
        f"{capital(material.word)} on held-out rows, with 95 % intervals. The line joins "
        "the rows that no cheaper row beats."
    )
    plot = Markup(asset("cost.html").replace("<!-- options -->", join(options)))
    content = join([plot, cost_table(material)])
    return Section(name="cost", title="Accuracy and cost", why=why, content=content)


def _two(content: Markup) -> Section:
    why = (
        "How well each run separates the positive class from the other one, on each split of "
        "held-out rows. The curves over all thresholds are in the section of each run's errors. On "
        "the rows that chose a threshold its figures are too high; on test rows they are not, and "
        "neither is the expected cost."
    )
    return Section(name="two-classes", title="Two classes", why=why, content=content)


def _columns(content: Markup) -> Section:
    why = (
        "Figures by the columns of the table other than the label, the worst values of each row "
        "first. "
        "Among many values one is worst by chance, so read the intervals. Columns of numbers are "
        "divided into quarters."
    )
    return Section(name="columns", title="By column", why=why, content=content)


def _learning(material: Material) -> Section:
    splits = sorted({curve.split for curve in material.curves})
    why = (
        f"Top-1 ({' and '.join(splits)}) of heads fitted on a number of training images a class. "
        "The line is the mean over draws, and the band is one standard deviation, corrected for "
        "the images that draws share. There is no band where all images were used."
    )
    content = Markup(asset("learning.html"))
    return Section(name="learning", title="Learning curves", why=why, content=content)


def _runs() -> Section:
    why = (
        "The errors of one run, and the calibration of its confidence. Held-out rows come first; "
        "do not choose a run by its test rows."
    )
    return Section(name="runs", title="Errors", why=why, content=Markup(asset("runs.html")))


def _labels() -> Section:
    why = (
        "How well one run finds each label, and its wrong decisions with the highest confidence. "
        "Held-out rows come first; do not choose a run by its test rows. Thresholds were chosen on "
        "held-out rows for each label's best F1."
    )
    return Section(name="runs", title="Labels", why=why, content=Markup(asset("labels.html")))


def _training(material: Material) -> Section:
    what = "Cross-entropy and top-1"
    if not material.task.exclusive:
        what = "Cross-entropy, and mAP where it was measured"
    why = f"{what} after each epoch, of heads that are trained in epochs."
    content = Markup(asset("training.html"))
    return Section(name="training", title="Training curves", why=why, content=content)


def _map(pictures: Pictures, material: Material) -> Section:
    items = pictures.items
    counts = {part: items.parts[: items.n_points].count(part) for part in ("train", "val", "test")}
    shown = ", ".join(f"{count:,} {part}" for part, count in counts.items() if count)
    why = (
        f"{counted(items.n_points, 'image')} ({shown}); a random sample of larger parts (seed 0). "
    )
    why += (
        "Rows are scaled to unit length; images with similar features are close. Point at one to "
        "see it, click to keep it with its nearest neighbours by cosine among the page's images. "
        "UMAP is not offered: --projection tsne adds t-SNE. Distances between far groups mean "
        "little in t-SNE, and two components of PCA hold only the stated part of the variance."
    )
    page = asset("map.html")
    if not material.task.exclusive:
        page = page.replace("<!-- label -->", LABEL_CHOICE)
        page = page.replace('<option value="class">class', '<option value="class">label')
        page = page.replace("Only class", "Only label")
    if not has_labels(pictures.classes):
        page = page.replace('<option value="class">class</option>\n', "")
        page = page.replace('<label for="map-class">', '<label for="map-class" hidden>')
    if not material.rows:
        page = page.replace('<option value="error">error of the run</option>\n', "")
    content = Markup(page)
    return Section(name="map", title="Feature map", why=why, content=content)


def _provenance(material: Material) -> Section:
    why = "Every figure of a run comes from its result.json, which the command shown here wrote."
    if not material.rows:
        why = "The command that made the features, and what they were made of."
    return Section(name="provenance", title="Provenance", why=why, content=provenance(material))


def _ledger(material: Material) -> Section:
    why = (
        "Each further evaluation on the same test rows makes their figures less reliable. The "
        "ledger counts evaluations by the images' content, not by names."
    )
    return Section(
        name="ledger", title="Test ledger", why=why, content=ledger(material.test_evaluations)
    )


def limits(material: Material, views: Views) -> list[str]:
    """Return notes on runs without details or with other held-out rows."""
    notes, there = [], [row for row in material.rows if row.id in material.runs]
    if len(there) > len(views):
        notes.append(f"The page has details of the first {len(views)} of {len(there)} runs.")
    lacking = [material.labels[one] for one, by_split in views.items() if not by_split]
    if lacking:
        notes.append(f"Runs without saved predictions: {', '.join(lacking)}.")
    leader = material.leader
    split = material.choosing(leader) if leader else None
    if leader and split and material.bench is None and split in views.get(leader.id, {}):
        ids = set(views[leader.id][split].ids.tolist())
        other = [
            material.labels[one]
            for one, by_split in views.items()
            if split not in by_split or set(by_split[split].ids.tolist()) != ids
        ]
        if other:
            notes.append(f"Ranked on other held-out rows than the first: {', '.join(other)}.")
    return notes
