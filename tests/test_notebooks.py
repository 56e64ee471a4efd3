"""The notebooks run in an empty folder, and what they say of their figures is so.

    python -m tests.test_notebooks [NAME ...]

runs them and writes the outputs that they are committed with.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "docs" / "notebooks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
LARGEST = 500_000  # bytes of a notebook with its pictures
OF_A_MACHINE = re.compile(r"/(tmp|root|home|Users|work|usr)/|Warning|Traceback")

# what a notebook's sentences claim, by its own names
CLAIMS = {
    "any_torch_model": "bench.winner.result.backbone == 'edges' and scores.mean() > 0.95",
    "few_labels": "sum(reached['centres of clusters']) > sum(reached['any images']) + 0.1",
    "groups": "by_image.metrics['oof']['top1'] > by_writer.metrics['oof']['top1'] + 0.02"
    " and tossed_by_image.intervals['oof']['top1'][0] > 0.55"
    " and tossed_by_writer.intervals['oof']['top1'][0] < 0.5",
    "imported_features": "len(found) >= 7",
    "own_folder": "bundle.predict(new) == ['three', 'eight', 'five']"
    " and Path('report.html').is_file()",
}


def executed(name: str, folder: Path, claim: str = "") -> Any:
    """Run a notebook from an empty folder in a kernel of its own, and return it with its outputs.

    Raises
    ------
    CellExecutionError
        A cell failed, or the claim does not hold.
    """
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    if claim:
        notebook.cells.append(nbformat.v4.new_code_cell(f"assert {claim}"))
    NotebookClient(
        notebook, timeout=300, record_timing=False, resources={"metadata": {"path": str(folder)}}
    ).execute()
    return notebook


def outputs(notebook: Any) -> list[Any]:
    """Return what the cells gave."""
    return [one for cell in notebook.cells if cell.cell_type == "code" for one in cell.outputs]


def text_of(output: Any) -> str:
    """Return what of an output can be read: text and HTML, without embedded pictures."""
    data = output.get("data", {})
    shown = [str(data.get(kind, "")) for kind in ("text/plain", "text/html")]
    return re.sub(r"base64,[^\"]*", "", "".join([output.get("text", ""), *shown]))


@pytest.fixture
def kernel_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep kernels away from what the user has."""
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))


@pytest.mark.usefixtures("kernel_folders")
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_in_an_empty_folder(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    made = executed(name, folder, CLAIMS[name])
    assert not [one for one in outputs(made) if one.get("name") == "stderr"]


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_has_its_outputs_and_nothing_of_a_machine(name: str) -> None:
    path = FOLDER / f"{name}.ipynb"
    assert path.stat().st_size < LARGEST
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    for output in outputs(notebook):
        assert output.output_type != "error"
        assert output.get("name") != "stderr"
        assert not OF_A_MACHINE.search(text_of(output))
    assert len(outputs(notebook)) > 4


def main() -> None:
    """Run the notebooks that are named, or all, and write their outputs."""
    os.environ["PROBE_CACHE"] = "cache"
    for name in sys.argv[1:] or NAMES:
        with tempfile.TemporaryDirectory() as folder:
            nbformat.write(executed(name, Path(folder)), FOLDER / f"{name}.ipynb")


if __name__ == "__main__":
    main()
