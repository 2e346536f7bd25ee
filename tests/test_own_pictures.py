"""Pictures as people have them: read, segmented whole and in tiles, trained on."""

from __future__ import annotations

import io
import itertools
import json
import re

import cv2
import numpy as np
import pytest
import tifffile
import torch
from helpers import build, method_settings
from PIL import Image
from test_segmentation import weights

from infoseg.cli import main
from infoseg.data.pictures import (
    MOST_PIXELS,
    find_pictures,
    has_infrared,
    picture_size,
    read_picture,
)
from infoseg.data.store import load_prepared
from infoseg.export import read_weights
from infoseg.files import DataError
from infoseg.methods.base import Method
from infoseg.own_pictures import example_pictures, train_on_folder
from infoseg.runs import Project
from infoseg.segmentation import segment_files, segment_picture, working_size
from infoseg.selection import agreement
from infoseg.tiling import device_of, segment_tiled, tile_maps
from infoseg.verdict import look
from infoseg.views import Views
from infoseg.weights import load_weights

RED_LEFT = np.zeros((40, 60, 3), np.uint8)
RED_LEFT[:, :30] = (200, 30, 20)
RED_LEFT[:, 30:] = (20, 60, 190)
RED_LEFT[:10, :, 1] += 60


def near(found: np.ndarray, expected: np.ndarray, by: float = 6) -> bool:
    assert found.dtype == np.uint8
    assert found.shape == expected.shape
    return np.abs(found.astype(int) - expected).mean() < by


# ---- reading -------------------------------------------------------------------------------------


def save(kind: str, folder):
    """RED_LEFT as one of the kinds of files; its path and what reading it has to give."""
    image, grey = Image.fromarray(RED_LEFT), Image.fromarray(RED_LEFT).convert("L")
    greys = np.asarray(grey)[..., None].repeat(3, 2)
    wide = RED_LEFT.astype(np.uint16) << 8
    bands = np.dstack([RED_LEFT, np.full((40, 60), 77, np.uint8)])
    name = kind.replace(" ", "_") + {"j": ".jpg", "p": ".png", "t": ".tif"}[kind[0]]
    path = folder / name
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    match kind:
        case "jpeg RGB":
            image.save(path, quality=95, subsampling=0)
        case "jpeg grey":
            grey.save(path, quality=95)
            return path, greys
        case "jpeg CMYK":
            image.convert("CMYK").save(path, quality=98)
        case "jpeg turned":
            image.transpose(Image.Transpose.ROTATE_90).save(path, quality=95, exif=exif)
        case "png RGBA":
            alpha = image.convert("RGBA")
            alpha.putalpha(grey)
            alpha.save(path)
        case "png palette":
            image.quantize(16).save(path)
        case "png grey 16":
            Image.fromarray(np.asarray(grey).astype(np.uint16) << 8).save(path)
            return path, greys
        case "png RGB 16":
            cv2.imwrite(str(path), wide[..., ::-1])
        case "tiff RGB":
            tifffile.imwrite(path, RED_LEFT, photometric="rgb", compression="zlib")
        case "tiff grey":
            tifffile.imwrite(path, np.asarray(grey))
            return path, greys
        case "tiff white is zero":
            tifffile.imwrite(path, 255 - np.asarray(grey), photometric="miniswhite")
            return path, greys
        case "tiff RGB 16":
            tifffile.imwrite(path, wide, photometric="rgb")
        case "tiff RGB 12 bits in 16":
            tifffile.imwrite(path, RED_LEFT.astype(np.uint16) << 4, photometric="rgb")
        case "tiff planar":
            tifffile.imwrite(
                path, np.moveaxis(RED_LEFT, 2, 0), photometric="rgb", planarconfig="separate"
            )
        case "tiff RGBIR":
            tifffile.imwrite(path, bands, photometric="rgb", extrasamples=["unspecified"])
        case "tiff RGBA":
            tifffile.imwrite(path, bands, photometric="rgb", extrasamples=["unassalpha"])
        case "tiff CMYK":
            image.convert("CMYK").save(path)
        case "tiff palette":
            image.quantize(16).save(path)
        case "tiff turned":
            turned = np.ascontiguousarray(np.rot90(RED_LEFT))
            tag = [(274, "H", 1, 6, True)]
            tifffile.imwrite(path, turned, photometric="rgb", extratags=tag)
        case "tiff pages":
            with tifffile.TiffWriter(path) as writer:
                writer.write(RED_LEFT, photometric="rgb")
                writer.write(RED_LEFT[::-1], photometric="rgb")
        case _:
            raise AssertionError(kind)
    return path, RED_LEFT


KINDS = [
    "jpeg RGB", "jpeg grey", "jpeg CMYK", "jpeg turned", "png RGBA", "png palette", "png grey 16",
    "png RGB 16", "tiff RGB", "tiff grey", "tiff white is zero", "tiff RGB 16",
    "tiff RGB 12 bits in 16", "tiff planar", "tiff RGBIR", "tiff RGBA", "tiff CMYK",
    "tiff palette", "tiff turned", "tiff pages",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_picture_shows_what_it_shows(tmp_path, kind):
    path, expected = save(kind, tmp_path)
    found = read_picture(path)
    assert near(found, expected)
    assert picture_size(path) == expected.shape[:2]
    assert has_infrared(path) == (kind == "tiff RGBIR")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_tiff_and_jpeg_are_turned_alike(tmp_path, orientation):
    """Pillow's reading of EXIF orientations is the reference for that of TIFF's."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(RED_LEFT).save(tmp_path / "a.png", exif=exif)
    tag = [(274, "H", 1, orientation, True)]
    tifffile.imwrite(tmp_path / "b.tif", RED_LEFT, photometric="rgb", extratags=tag)
    first, second = (read_picture(tmp_path / name) for name in ("a.png", "b.tif"))
    assert np.array_equal(first, second)
    assert picture_size(tmp_path / "b.tif") == second.shape[:2]


def test_infrared_is_kept_for_weights_that_want_it(tmp_path):
    path, _ = save("tiff RGBIR", tmp_path)
    found = read_picture(path, channels=4)
    assert found.shape == (40, 60, 4)
    assert (found[..., 3] == 77).all()
    for kind in ("png RGBA", "tiff RGB"):
        path, _ = save(kind, tmp_path)
        with pytest.raises(DataError, match="four|infrared"):
            read_picture(path, channels=4)


def test_what_cannot_be_read_is_named(tmp_path):
    whole = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (90, 90, 3), np.uint8)
    Image.fromarray(noise).save(whole, "JPEG")
    (tmp_path / "cut.jpg").write_bytes(whole.getvalue()[:3000])
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.tif").write_bytes(b"")
    tifffile.imwrite(tmp_path / "cut.tif", noise, photometric="rgb")
    (tmp_path / "cut.tif").write_bytes((tmp_path / "cut.tif").read_bytes()[:9000])
    tifffile.imwrite(tmp_path / "float.tif", noise[..., 0].astype(np.float32))
    tifffile.imwrite(tmp_path / "many.tif", np.zeros((9, 9, 7), np.uint8), planarconfig="contig")
    for name in ("cut.jpg", "text.png", "empty.tif", "cut.tif", "float.tif", "many.tif"):
        with pytest.raises(DataError, match=re.escape(name)) as told:
            read_picture(tmp_path / name)
        assert told.value.advice
        assert "\n" not in str(told.value)


def test_a_picture_that_is_too_large_is_refused_by_its_header(tmp_path):
    side = int(MOST_PIXELS**0.5) + 1
    with tifffile.TiffWriter(tmp_path / "large.tif") as writer:
        writer.write(np.zeros((1, 1), np.uint8))
    content = bytearray((tmp_path / "large.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "large.tif") as tiff:
        for name in ("ImageWidth", "ImageLength"):
            tag = tiff.pages[0].tags[name]
            size = 2 if tag.dtype == 3 else 4
            content[tag.valueoffset : tag.valueoffset + size] = side.to_bytes(size, "little")
    (tmp_path / "large.tif").write_bytes(content)
    with pytest.raises(DataError, match=r"large\.tif: is 23,001 x 23,001 pixels.*Cut it"):
        read_picture(tmp_path / "large.tif")


def test_folders_that_cannot_be_meant(tmp_path):
    with pytest.raises(DataError, match=r"missing: folder not found"):
        find_pictures(tmp_path / "missing")
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match="folders inside it are not searched"):
        find_pictures(tmp_path)
    for name in ("b.png", "a.JPG", ".hidden.png", "notes.txt"):
        (tmp_path / "images" / name).touch()
    assert [file.name for file in find_pictures(tmp_path / "images")] == ["a.JPG", "b.png"]
    (tmp_path / "images" / "a.png").touch()
    with pytest.raises(DataError, match=r"a\.png: has the same name as a\.JPG"):
        find_pictures(tmp_path / "images")


# ---- segmenting ----------------------------------------------------------------------------------


def scene(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Patches of three textures, large and small, so that labels have something to depend on."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 3, (-(-height // 24), -(-width // 24)))
    regions = coarse.repeat(24, 0).repeat(24, 1)[:height, :width]
    tones = np.array([[40, 60, 50], [200, 180, 220], [90, 200, 60]])[regions]
    return (tones + rng.integers(-30, 31, tones.shape)).clip(0, 255).astype(np.uint8)


def infoseg(**changes):
    """InfoSeg with statistics of batch norm that are not those it starts with."""
    method = build("infoseg", **changes)
    method.train()
    with torch.no_grad():
        for first in range(0, 80, 8):
            batch = np.stack([scene(64, 64, first + i) for i in range(8)])
            method.scores(torch.from_numpy(batch).permute(0, 3, 1, 2) / 255)
    return method.eval()


NETWORK = method_settings("infoseg")["network"]


@pytest.mark.parametrize(
    ("size", "changes"),
    [
        ((330, 420), {}),
        ((301, 517), {"upsampling": "scores"}),
        ((257, 323), {"network": NETWORK | {"layers_b": 4, "features": 64}}),
        ((290, 300), {"network": NETWORK | {"standardise": "image", "input": "grey"}}),
        ((290, 300), {"network": NETWORK | {"block_a": "figure3", "norm_d": "layer"}}),
    ],
)
def test_tiles_are_labelled_as_the_picture_in_one_piece(size, changes):
    method = infoseg(**changes)
    pixels = torch.from_numpy(scene(*size)).permute(2, 0, 1)
    with torch.no_grad():
        whole = method.segment(Views(pixels[None].float() / 255))[0].numpy()
    assert len(np.unique(whole)) > 1
    found = segment_tiled(method, pixels, tile=64)
    # Sums in another order; upsampled scores besides are the same to a rounding.
    assert (found == whole).mean() > 0.999


@pytest.mark.parametrize(("kind", "least"), [("iic", 0.8), ("kmeans", 1)])
def test_other_methods_are_tiled_with_what_lies_around(kind, least):
    method = build(kind).eval()
    pixels = torch.from_numpy(scene(200, 230)).permute(2, 0, 1)
    method.fit(iter([Views(pixels[None, :, :64, :64].float() / 255)]), 0)
    found = segment_tiled(method, pixels, tile=64)
    with torch.no_grad():
        whole = method.segment(Views(pixels[None].float() / 255))[0].numpy()
    assert found.shape == whole.shape
    # IIC's map is stretched to its window, other windows a little more.
    assert (found == whole).mean() >= least


@pytest.mark.parametrize(("height", "width"), [(200, 333), (64, 64), (65, 700), (130, 31)])
def test_tiles_cover_a_picture_once(height, width):
    covered = np.zeros((height, width), int)
    picture = torch.from_numpy(scene(height, width)).permute(2, 0, 1)
    for place, own in tile_maps(lambda window: window[0, 0] * 255, picture, 1, 64, 32):
        covered[place] += 1
        assert torch.allclose(own, picture[0][place].float())
    assert (covered == 1).all()


def test_working_size():
    assert working_size(600, 800, 96) == (96, 128)
    assert working_size(60, 80, 96) == (60, 80)  # never up
    assert working_size(600, 9, 96) == (600, 32)  # but to what the network needs
    assert working_size(600, 800, None) == (600, 800)


@pytest.fixture
def mixed(tmp_path):
    """Pictures of mixed kinds and sizes, and one that is none."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    for kind in ("jpeg CMYK", "jpeg turned", "png RGBA", "tiff RGB 16", "tiff RGBIR"):
        save(kind, folder)
    Image.fromarray(scene(90, 70)).save(folder / "tall.png")
    Image.fromarray(scene(50, 210)).save(folder / "wide.jpg")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing more")
    return folder


def test_a_mixed_folder_is_segmented_and_shown(tmp_path, mixed, capsys):
    path, method = weights(tmp_path, "kmeans")
    out = tmp_path / "out"
    assert main(["segment", str(mixed), str(out), "--weights", str(path), "--device", "cpu"]) == 1
    said = capsys.readouterr()
    assert "left out" in said.err and "broken.jpg" in said.err
    assert re.search(r"7 pictures, about \d+ s\n", said.out)  # before it starts
    assert said.out.index("about") < said.out.index("7 pictures segmented")
    for file in find_pictures(mixed):
        if file.stem == "broken":
            continue
        with Image.open(out / f"{file.stem}.png") as index:
            assert index.mode == "P"
            assert index.size[::-1] == picture_size(file)
            assert index.getpalette()[:3] == [0x56, 0xB4, 0xE9]
            assert np.asarray(index).max() < 3
        with Image.open(out / f"{file.stem}_overlay.png") as overlay:
            assert (overlay.mode, overlay.size[::-1]) == ("RGB", picture_size(file))
    page = (out / "index.html").read_text()
    assert (
        "broken.jpg" in page
        and json.loads((out / "signals.json").read_text())["verdict"] in page.lower()
    )
    assert page.count("<figure>") == 7
    assert not re.search(r"<script|(src|href)=\"(?!data:)", page)  # one file, that opens anywhere
    with Image.open(out / "contact_sheet.png") as sheet:
        assert sheet.width > 4 * 288
    told = json.loads((out / "signals.json").read_text())
    assert told["pictures"] == 7 and list(told["left_out"]) == ["broken.jpg"]
    assert sum(told["cluster_usage"]) == pytest.approx(1, abs=1e-3)


def test_results_are_not_taken_for_pictures(tmp_path):
    path, _ = weights(tmp_path, "kmeans")
    (tmp_path / "in").mkdir()
    Image.fromarray(scene(60, 80)).save(tmp_path / "in/a.png")
    segment_files(tmp_path / "in", tmp_path / "out", path, device="cpu")
    with pytest.raises(
        DataError, match=r"a_overlay\.png: is named as|contact_sheet\.png: is named"
    ):
        segment_files(tmp_path / "out", tmp_path / "again", path, device="cpu")
    assert not (tmp_path / "again").exists()


def test_labels_measure_what_was_segmented(tmp_path):
    path, method = weights(tmp_path, "kmeans")
    pictures, labels = tmp_path / "pictures", tmp_path / "labels"
    pictures.mkdir()
    labels.mkdir()
    for name in "ab":
        shown = scene(60, 80, ord(name))
        Image.fromarray(shown).save(pictures / f"{name}.png")
        clusters = segment_picture(method, shown, 48)
        truth = np.array([2, 0, 1], np.uint8)[clusters]  # renamed: the match has to find it
        truth[:5] = 255
        Image.fromarray(truth).save(labels / f"{name}.png")
    Image.fromarray(scene(60, 80, 3)).save(pictures / "c.png")  # without a label map
    (pictures / "d.png").write_text("no picture, but with a label map")
    Image.fromarray(np.zeros((60, 80), np.uint8)).save(labels / "d.png")
    done = segment_files(pictures, tmp_path / "out", path, device="cpu", labels=labels)
    assert done.accuracy["these weights"] == (100, 100)
    assert done.labelled == ["a", "b"]
    assert done.match == {"0": "class 2", "1": "class 0", "2": "class 1"}
    # The trivial answers, counted here once more.
    maps = [np.asarray(Image.open(labels / f"{name}.png")) for name in "ab"]
    known = np.concatenate([labels[labels < 255] for labels in maps])
    shares = np.bincount(known) / len(known)
    assert done.accuracy["one class"] == pytest.approx((100 * shares.max(), 100 * shares.max() / 3))
    rows = np.repeat(np.arange(60) * 3 // 60, 80).reshape(60, 80)
    rows = np.concatenate([rows[labels < 255] for labels in maps])
    best = max(
        np.mean(np.array(names)[rows] == known) for names in itertools.permutations(range(3))
    )
    assert done.accuracy["stripes"][0] == pytest.approx(100 * best)
    page = (tmp_path / "out/index.html").read_text()
    assert "On 2 labelled pictures of 3" in page and "<td>100.0</td>" in page
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(labels / "a.png")
    with pytest.raises(DataError, match=r"labels/a\.png: is 4 x 4 pixels, its image is 80 x 60"):
        segment_files(pictures, tmp_path / "out", path, device="cpu", labels=labels)
    with pytest.raises(DataError, match="for none of the pictures"):
        segment_files(pictures, tmp_path / "out", path, device="cpu", labels=tmp_path)


# ---- training ------------------------------------------------------------------------------------

QUICK = [
    "methods.infoseg.network.width=0.05",
    "methods.infoseg.network.features=8",
    "methods.infoseg.optimiser.crop=32",
]


def pictures(folder, count: int, size=(48, 64)):
    folder.mkdir()
    for i in range(count):
        Image.fromarray(scene(size[0], size[1] + i, i)).save(folder / f"p{i}.png")
    return folder


def test_a_folder_of_pictures_becomes_weights(tmp_path, mixed, capsys):
    for i in range(4):
        Image.fromarray(scene(130, 100 + i, i)).save(mixed / f"p{i}.png")
    said = []
    train_on_folder(mixed, 3, out=tmp_path / "out", steps=4, overrides=QUICK, tell=said.append)
    told = "\n".join(said)
    assert "broken.jpg" in capsys.readouterr().err
    # Eleven can be read, so no batch is larger; the largest of them has 100 px.
    resolved = r"11 pictures, 3 classes: 5 starts of 4 steps .*--steps 4\), 11 crops of 32 px"
    assert re.search(resolved + r".*about \d+ s", told)
    assert "11 pictures are few" in told
    read = read_weights(tmp_path / "out/weights.safetensors", torch.device("cpu"))
    assert (read.method.clusters, read.shorter_side, read.card.step) == (3, 96, 4)
    assert "Not measured" in read.text
    assert f"\n# InfoSeg, re-matched negatives on mixed, seed {read.card.seed}\n" in read.text
    # What the card says of the pictures is what the page says of the same pictures.
    there, here = (
        json.loads((tmp_path / "out" / name).read_text())
        for name in ("signals.json", "segmented/signals.json")
    )
    assert set(there) == set(here["signals"]) and there["starts"] == here["signals"]["starts"]
    assert f"- {here['verdict'].capitalize()}: " in read.text
    assert (tmp_path / "out/segmented/p3.png").is_file()


def infrared(folder, count: int):
    folder.mkdir()
    for i in range(count):
        bands = np.dstack([scene(48, 64, i), scene(48, 64, i)[..., :1]])
        tifffile.imwrite(folder / f"p{i}.tif", bands, photometric="rgb", extrasamples=[0])
    return folder


def test_pictures_of_rgb_and_infrared_are_learnt_from_with_all_four_bands(tmp_path, capsys):
    folder, said = infrared(tmp_path / "in", 3), []
    (folder / "broken.tif").write_bytes(b"II*\0")
    train_on_folder(folder, 2, out=tmp_path / "out", steps=3, overrides=QUICK, tell=said.append)
    assert any(line.startswith("3 pictures of RGB and infrared, 2 classes") for line in said)
    assert "broken.tif" in capsys.readouterr().err
    read = read_weights(tmp_path / "out/weights.safetensors", torch.device("cpu"))
    assert read.card.channels == 4
    assert (tmp_path / "out/segmented/p2.png").is_file()


def test_one_picture_without_infrared_makes_all_of_them_rgb(tmp_path):
    folder = infrared(tmp_path / "in", 2)
    Image.fromarray(scene(48, 64, 5)).save(folder / "q.png")
    train_on_folder(folder, 2, out=tmp_path / "out", steps=2, overrides=QUICK)
    prepared = load_prepared(tmp_path / "out/prepared/folder/pictures")
    assert prepared.image(0).shape == (48, 64, 3)


def test_labels_of_own_pictures_are_measured_with(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # outside of any repository
    folder, labels = pictures(tmp_path / "in", 3), tmp_path / "truth"
    labels.mkdir()
    for i in range(3):
        Image.fromarray(scene(48, 64 + i, i)[..., 0] // 128).save(labels / f"p{i}.png")
    said = []
    train_on_folder(
        folder, 2, out=tmp_path / "out", labels=labels, steps=3, overrides=QUICK, tell=said.append
    )
    measured = json.loads((tmp_path / "out/segmented/signals.json").read_text())
    assert measured["labelled"] == 3
    answers = ["these weights", "stripes", "K-Means on colour", "one class"]
    assert list(measured["accuracy"]) == answers
    assert any(line.startswith("With 3 label maps of 3 pictures, PA (mIoU)") for line in said)
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(labels / "p1.png")
    with pytest.raises(DataError, match=r"p1\.png: is 4 x 4 pixels"):  # before training
        train_on_folder(folder, 2, out=tmp_path / "no", labels=labels)
    assert not (tmp_path / "no").exists()


def test_of_several_starts_the_one_that_colours_alter_least_is_kept(tmp_path):
    folder, out = pictures(tmp_path / "it's ours", 4), tmp_path / "out"
    train_on_folder(folder, 2, out=out, seeds=range(5, 8), steps=2, overrides=QUICK)
    shown = [np.asarray(Image.open(file)) for file in sorted(folder.iterdir())]
    scores, labels = {}, {}
    for seed in (5, 6, 7):
        path = out / f"runs/folder/pictures/infoseg/{seed}.safetensors"
        method, _ = load_weights(path, torch.device("cpu"))
        found = look(lambda one, method=method: segment_picture(method, one, None), shown, 2)
        scores[seed] = found.signals.jitter
        labels[seed] = found.labels
    best = max(scores, key=scores.get)
    read = read_weights(out / "weights.safetensors", torch.device("cpu"))
    assert read.card.seed == best
    others = [agreement(labels[best], labels[s], 2, match=True) for s in labels if s != best]
    assert read.export.start_agreement == pytest.approx(np.mean(others))


def test_minutes_are_resolved_to_steps_that_give_the_same_weights(tmp_path):
    folder, said = pictures(tmp_path / "in", 3), []
    how = {"seeds": (0,), "overrides": QUICK, "segment": False}
    timed = train_on_folder(folder, 2, tmp_path / "a", minutes=0.01, tell=said.append, **how)
    steps = int(re.search(r"--steps (\d+)", said[-3])[1])
    assert steps == read_weights(timed, torch.device("cpu")).card.step
    again = train_on_folder(folder, 2, tmp_path / "b", steps=steps, **how)
    assert again.read_bytes() == timed.read_bytes()


def test_training_starts_from_other_weights(tmp_path):
    folder = pictures(tmp_path / "in", 3)
    how = {"seeds": (0,), "segment": False}
    tiny = ["methods.infoseg.optimiser.learning_rate=1e-12", "methods.infoseg.optimiser.average=0"]
    shipped = read_weights(None, torch.device("cpu"))
    for classes in (3, 5):  # block D fits three classes alone
        weights = train_on_folder(
            folder,
            classes,
            tmp_path / f"{classes}",
            steps=1,
            start="shipped",
            overrides=tiny,
            **how,
        )
        read = read_weights(weights, torch.device("cpu"))
        assert "Training started from other weights: shipped." in read.text
        state, started = read.method.state_dict(), shipped.method.state_dict()
        blocks = ["block_a.0", "block_c_local.mix"] + ["block_d.linear"] * (classes == 3)
        for name in (f"network.{block}.weight" for block in blocks):
            assert torch.allclose(state[name], started[name], atol=1e-6)
        assert not torch.equal(state["network.mean"], started["network.mean"])
    assert str(tmp_path) not in read.text  # no path of this machine is handed on
    with pytest.raises(DataError, match="is of another network or number of bands"):
        train_on_folder(folder, 3, tmp_path / "x", start="shipped", overrides=QUICK, **how)
    with pytest.raises(DataError, match="no.safetensors: there are no weights"):
        train_on_folder(folder, 3, tmp_path / "x", start="no.safetensors")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--classes", "1"], "--classes is 1: with fewer than two there is nothing to tell apart"),
        (["--classes", "0"], "--classes is 0"),
        (["--classes", "99"], "at most 27"),
        ([], "--classes is missing: say how many"),
        (["--classes", "3", "--restarts", "0"], "--restarts: at least 1"),
        (["--classes", "3", "--steps", "0"], "--steps is 0"),
        (["--classes", "3", "--minutes", "0"], "--minutes is 0.0; it must be above 0"),
        (["--classes", "3", "--minutes", "1", "--steps", "9"], "--steps and --minutes: choose one"),
        (["--classes", "3", "--profile", "demo"], "leave --profile out"),
        (["coco_stuff3"], "--images and the data set 'coco_stuff3': choose one"),
    ],
)
def test_what_cannot_be_meant_is_said_at_once(tmp_path, capsys, arguments, message):
    folder = pictures(tmp_path / "in", 3)
    out = tmp_path / "out"
    assert main(["train", "--images", str(folder), "--out", str(out), *arguments]) == 1
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert not out.exists()
    # The usual form still wants a data set and a method.
    assert main(["train", "coco_stuff3"]) == 1
    assert "train what?" in capsys.readouterr().err
    assert main(["train", "coco_stuff3", "infoseg", "--classes", "3"]) == 1
    assert "--classes goes with --images" in capsys.readouterr().err


def test_too_few_pictures(tmp_path):
    folder = pictures(tmp_path / "in", 1)
    with pytest.raises(DataError, match="has 1 picture to train on.*at least 2"):
        train_on_folder(folder, 3, out=tmp_path / "out")
    (folder / "q.png").write_text("no picture")
    with pytest.raises(DataError, match="has 1 picture to train on"):
        train_on_folder(folder, 3, out=tmp_path / "out")
    said = []
    Image.fromarray(scene(48, 64, 8)).save(folder / "q.png")
    Image.fromarray(scene(48, 64, 9)).save(folder / "r.png")
    train_on_folder(folder, 2, out=tmp_path / "out", steps=2, overrides=QUICK, tell=said.append)
    assert "3 pictures are few" in said[0]


def test_other_pictures_of_the_same_folder_are_seen(tmp_path):
    folder, out = pictures(tmp_path / "in", 3, (200, 300)), tmp_path / "out"
    train_on_folder(folder, 2, out=out, steps=2, overrides=QUICK)
    (folder / "p0.png").unlink()
    Image.fromarray(scene(20, 64)).save(folder / "small.png")
    train_on_folder(folder, 2, out=out, steps=2, overrides=QUICK)
    index = load_prepared(out / "prepared/folder/pictures").index
    assert index["id"].tolist() == ["p1", "p2", "small"]
    assert index["height"].tolist() == [96, 96, 20]
    (folder / "images").mkdir()
    with pytest.raises(DataError, match="holds a folder named images beside its pictures"):
        train_on_folder(folder, 2, out=out, steps=2, overrides=QUICK)


def test_example_pictures_are_scenes_of_the_tiny_profile(tmp_path, monkeypatch):
    made = Project.open("tiny")
    monkeypatch.setattr(
        Project, "open", lambda profile: Project(tmp_path, made.params, made.root, True)
    )
    folder = example_pictures(3)
    names = [f"scene-0{i}.png" for i in range(3)]
    assert sorted(path.name for path in folder.iterdir()) == names
    prepared = Project.open("tiny").load("coco_stuff3")
    assert (np.asarray(Image.open(folder / names[2])) == prepared.image(2)).all()


def test_a_method_without_weights_is_applied_on_the_cpu():
    class Halves(Method):
        def __init__(self):
            torch.nn.Module.__init__(self)

        def segment_with_entropy(self, views):
            return (views.images[:, 0] > 0.5).long(), None

    picture = np.zeros((40, 50, 3), np.uint8)
    picture[:, 25:] = 255
    assert device_of(Halves()) == torch.device("cpu")
    assert (segment_picture(Halves(), picture, None) == picture[..., 0] // 255).all()
