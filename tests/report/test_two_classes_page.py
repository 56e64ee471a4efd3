"""What a page says of two classes: figures, costs, curves and what one answer would reach."""

from __future__ import annotations

from pathlib import Path

from probe.report.leaderboard import key_figures
from probe.report.material import of_runs, read_runs
from probe.report.page import read_views
from probe.report.payload import payload
from probe.report.pictures import Options, make_pictures
from probe.report.sections import sections_of
from probe.runs.fit import HeadRequest
from tests.finished import make_run
from tests.report.world import make_entry, make_images

CLASSES = ("eine Katze, 猫", "<b>")


def test_figures_curves_and_the_baseline_stand_on_the_page(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    make_entry(cache, make_images(tmp_path / "images", classes=CLASSES))
    make_run(cache, HeadRequest(solver="path", cost=(1, 5), val_size=0.5))
    make_run(cache, HeadRequest(solver="ridge", folds=3, repeats=2))
    material = of_runs(cache, read_runs(cache / "runs"), "all")
    views = read_views(material, lambda *_: None)
    pictures = make_pictures(
        material, views, Options(max_points=6), cache_dir=cache, advance=lambda *_: None
    )
    text = "".join(one.element() for one in sections_of(material, views, pictures))
    for words in ("Two classes", "cost an image", "at the threshold", "a false negative 5",
                  "eine Katze, 猫", "ROC AUC"):  # fmt: skip
        assert words in text
    assert "<b>" not in text
    assert "always" in key_figures(material, 2)
    splits = {split["name"]: split["two"] for run in payload(material, views, pictures)["runs"]
              for split in run["splits"]}  # fmt: skip
    assert [len(splits[name]["roc"]) for name in ("oof", "val")] == [2, 1]
    assert len(splits["val"]["points"]) == 2
    assert splits["val"]["roc"][0][0][-1] == 100
    assert splits["val"]["share"] == 50
