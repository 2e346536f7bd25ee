"""`import infoseg`: its functions, what they read and write, and the wheel outside a repository."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from helpers import ROOT
from PIL import Image
from pycocotools import mask
from scipy import ndimage
from test_own_pictures import infoseg, pictures, scene
from test_segmentation import picture, weights

import infoseg as api
from infoseg.cli import main
from infoseg.files import DataError, InfosegError
from infoseg.methods.tiling import infoseg_scores
from infoseg.own import segment_files
from infoseg.weights import card_path


def test_losses_and_network_have_defaults():
    local, glob = api.model.Network()(torch.rand(2, 3, 32, 32))
    assert (local.shape, glob.shape) == ((2, 1024, 8, 8), (2, 3, 1024))
    loss = api.losses.infoseg_loss
    assert loss(local, glob) == loss(local, glob, api.settings.ObjectiveSettings())


def test_probabilities_sum_to_one_and_agree_with_the_labels(tmp_path):
    model = api.load(weights(tmp_path, "infoseg")[0])
    shown = scene(140, 200)
    for model.shorter_side in (None, 48):  # at its own size, and brought up from a smaller one
        labels, v = model.segment(shown), model.probabilities(shown)
        assert (labels.shape, labels.dtype) == ((140, 200), np.uint8)
        assert (v.shape, v.dtype) == ((3, 140, 200), np.float32)
        assert np.allclose(v.sum(0), 1, atol=1e-5) and v.min() >= 0
        # Where all positions that a pixel is interpolated from have one label, so has the pixel.
        reach = 9 if model.shorter_side is None else 33
        inside = ndimage.minimum_filter(labels, reach) == ndimage.maximum_filter(labels, reach)
        assert inside.any() and (v.argmax(0) == labels)[inside].all()
    with pytest.raises(InfosegError, match="of kmeans: only InfoSeg has Eq. 3's probabilities"):
        api.load(weights(tmp_path, "kmeans")[0]).probabilities(shown)
    method, pixels = infoseg(), torch.from_numpy(scene(330, 420)).permute(2, 0, 1)
    whole, tiled = (infoseg_scores(method, pixels, tile) for tile in (512, 64))
    assert torch.allclose(whole, tiled, atol=1e-4)


def test_every_form_of_a_picture(tmp_path):
    model = api.load(weights(tmp_path, "kmeans")[0])
    Image.fromarray(picture()).save(tmp_path / "one.png")
    expected = model.segment(picture())
    for form in (tmp_path / "one.png", str(tmp_path / "one.png"), Image.fromarray(picture())):
        assert (model.segment(form) == expected).all()
    grey = np.zeros((5, 5), np.uint8)
    for wrong in (grey, picture() / 255, picture()[:0], Image.new("I", (9, 9)), [[1]]):
        with pytest.raises(DataError, match="a picture is a file, a Pillow image of 8 bits or"):
            model.segment(wrong)
    for read in (model.segment, lambda path: api.fit([path] * 2)):
        with pytest.raises(DataError, match=r"/no\.png: there is no such file"):
            read("no.png")


def test_fitted_saved_and_loaded_segments_alike(tmp_path):
    Image.fromarray(scene(50, 60, 3)).save(tmp_path / "a.png")
    shown = [scene(50, 60, 1), Image.fromarray(scene(50, 60, 2)), tmp_path / "a.png"]
    fitted, again = (api.fit(shown, classes=2, random_state=1, steps=3) for _ in range(2))
    written = fitted.save(tmp_path / "w.safetensors")
    loaded = api.load(written)
    assert loaded.clusters == 2 and loaded.names == ["cluster 0", "cluster 1"]
    for each in shown:
        assert (fitted.segment(each) == loaded.segment(each)).all()
        assert (fitted.probabilities(each) == again.probabilities(each)).all()
    assert loaded.save(tmp_path / "v.safetensors").read_bytes() == written.read_bytes()
    _, front, text = loaded.card.split("---\n", 2)
    assert re.match(r"\n# InfoSeg, re-matched negatives on pictures, seed [5-9]\n", text)
    facts = [yaml.safe_load(front)[k] for k in ("license", "library_name", "pipeline_tag")]
    assert facts == ["other", "infoseg", "image-segmentation"]
    assert api.fit(pictures(tmp_path / "in", 3), minutes=0.001).clusters == 4


def test_nothing_is_overwritten_that_was_not_written_by_segment(tmp_path, capsys):
    path, _ = weights(tmp_path, "kmeans")
    folder, out = pictures(tmp_path / "in", 2), tmp_path / "out"
    hand = Image.fromarray(np.zeros((48, 64), np.uint8))
    out.mkdir()
    for name in ("p0.png", "index.html", "notes.txt"):
        hand.save(out / name, format="PNG")
        assert main(["segment", str(folder), str(out), "--weights", str(path)]) == 1
        assert f"{name}: is not as `infoseg segment` wrote it" in capsys.readouterr().err
        assert [np.asarray(Image.open(file)).max() for file in out.iterdir()] == [0]
        (out / name).unlink()
    for _ in range(2):  # its own are
        segment_files(folder, out, path, device="cpu")
    hand.save(out / "p1.png")  # corrected by hand
    with pytest.raises(DataError, match=r"p1\.png: is not as .* Move it elsewhere"):
        segment_files(folder, out, path, device="cpu")


def test_run_lengths_decode_to_the_labels(tmp_path):
    path, _ = weights(tmp_path, "kmeans")
    folder, out = pictures(tmp_path / "in", 2), tmp_path / "out"
    words = ["segment", str(folder), str(out), "--weights", str(path)]
    assert main([*words, "--json"]) == 0
    coco = json.loads((out / "coco.json").read_text())
    assert [c["name"] for c in coco["categories"]] == ["cluster 0", "cluster 1", "cluster 2"]
    for image in coco["images"]:
        labels = np.asarray(Image.open(out / image["file_name"]))
        decoded = np.full((image["height"], image["width"]), 255, np.uint8)
        for region in coco["annotations"]:
            if region["image_id"] == image["id"]:
                pixels = mask.decode(region["segmentation"]).astype(bool)
                rows, columns = np.nonzero(pixels)
                box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
                assert (region["area"], region["bbox"]) == (pixels.sum(), box)
                decoded[pixels] = region["category_id"]
        assert (decoded == labels).all()
    assert main(words) == 0
    assert not (out / "coco.json").exists()  # it would be of other weights


def test_version_list_and_completion(tmp_path, capsys, monkeypatch):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"infoseg {api.__version__}\n"
    assert main(["completion", "bash"]) == 0 and "--restarts" in capsys.readouterr().out
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "zsh"]) == 1 and capsys.readouterr().err.count("\n") == 1
    for folder, profile in ((ROOT, []), (tmp_path, []), (tmp_path, ["--profile", "paper"])):
        monkeypatch.chdir(folder)
        assert main(["list", *profile]) == 0
        datasets, methods, profiles = capsys.readouterr().out.split("\n\n")
        assert re.search("^potsdam3 " if profile else "^outdoor ", datasets, re.M)
        assert re.search("^infoseg .* 3 ", methods, re.M) and "\npaper " in profiles


@pytest.mark.parametrize("words", ["completion bash", "list", "params"])
def test_a_reader_that_has_gone_is_no_error(words):
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "infoseg", *words.split()]
    done = subprocess.run(command, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """Python with a wheel, in a folder outside any repository that holds one named infoseg."""
    pytest.importorskip("setuptools")
    place = tmp_path_factory.mktemp("elsewhere")
    source, target, work = place / "source", place / "site", place / "work"
    shutil.copytree(ROOT / "infoseg", source / "infoseg")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(source, work / "infoseg")

    def python(*words: str, path: str = str(target), cwd=work) -> str:
        how = {"env": os.environ | {"PYTHONPATH": path}, "capture_output": True, "text": True}
        done = subprocess.run([sys.executable, *words], cwd=cwd, **how)
        assert done.returncode == 0, done.stderr
        return done.stdout

    pip = ["pip", "install", "--no-deps", "--no-index", "--no-build-isolation"]
    python("-m", *pip, "--target", str(target), str(source), path="", cwd=place)
    return python, work, source


def test_the_lines_of_the_readme_run_beside_a_clone(elsewhere):
    python, work, _ = elsewhere
    pictures(work / "holiday", 3)
    Image.fromarray(picture()).save(work / "photo.jpg")
    readme = (ROOT / "README.md").read_text()
    [lines] = re.findall(r"```python\n(import infoseg\n.*?)```", readme, re.S)
    check = "assert 'torch' not in __import__('sys').modules\nprint(infoseg.__file__)\n"
    lines = lines.replace("minutes=3", "steps=2").replace("\n", f"\n{check}", 1)
    (work / "script.py").write_text(lines)
    assert python("script.py").strip() == str(work.parent / "site/infoseg/__init__.py")
    assert (work.parent / "site/infoseg/py.typed").is_file()


def test_the_wheel_trains_outside_any_repository(elsewhere):
    python, work, _ = elsewhere
    pictures(work / "mine", 3)
    said = python("-m", "infoseg", *"train --images mine --classes 3 --steps 20".split())
    made = work / "infoseg-runs/mine/weights.safetensors"
    assert f"--weights {made}" in said
    assert "commit unknown" in card_path(made).read_text()
    python("-m", "infoseg", "segment", "mine", "out", "--weights", str(made))
    assert len(list((work / "out").glob("*_overlay.png"))) == 3


def test_an_editable_installation_is_found_beside_its_clone(elsewhere):
    python, work, source = elsewhere
    build = f"from setuptools import build_meta; build_meta.build_editable({str(work)!r})"
    python("-c", build, path="", cwd=source)
    shutil.unpack_archive(next(work.glob("*editable*.whl")), work / "editable", "zip")
    look = (
        "import site, sys; sys.meta_path = [f for f in sys.meta_path if 'Editable' not in repr(f)];"
        "site.addsitedir('editable'); import infoseg; print(infoseg.load().clusters)"
    )
    assert python("-c", look, path="").strip() == "3"
