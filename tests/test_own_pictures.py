"""Pictures as people have them: read, segmented whole and in tiles, trained on."""

from __future__ import annotations

import io
import itertools
import json
import re
from functools import partial

import cv2
import numpy as np
import pytest
import tifffile
import torch
from helpers import CPU, build, method_settings
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
from infoseg.files import DataError, ParamsError
from infoseg.methods.base import Method
from infoseg.methods.tiling import device_of, segment_tiled, tile_maps
from infoseg.own import Segmenter, segment_files, segment_picture, train_on_folder, working_size
from infoseg.verdict import agreement, look
from infoseg.views import Views
from infoseg.weights import Weights, load_weights, read_weights

RED_LEFT = np.zeros((40, 60, 3), np.uint8)
RED_LEFT[:, :30] = (200, 30, 20)
RED_LEFT[:, 30:] = (20, 60, 190)
RED_LEFT[:10, :, 1] += 60
IMAGE = Image.fromarray(RED_LEFT)
GREY = np.asarray(IMAGE.convert("L"))
WIDE = RED_LEFT.astype(np.uint16)
BANDS = np.dstack([RED_LEFT, np.full((40, 60), 77, np.uint8)])
EXIF = Image.Exif()
EXIF[0x0112] = 6  # to be turned by a quarter, clockwise
ALPHA = IMAGE.convert("RGBA")
ALPHA.putalpha(Image.fromarray(GREY))


# ---- reading -------------------------------------------------------------------------------------


def tiff(pixels: np.ndarray, photometric: str = "rgb", **how):
    return lambda path: tifffile.imwrite(path, pixels, photometric=photometric, **how)


def two_pages(path) -> None:
    with tifffile.TiffWriter(path) as writer:
        writer.write(RED_LEFT, photometric="rgb")
        writer.write(RED_LEFT[::-1], photometric="rgb")


QUARTER = np.ascontiguousarray(np.rot90(RED_LEFT))
#: How RED_LEFT is written as each kind of file.
KINDS = {
    "jpeg RGB.jpg": lambda path: IMAGE.save(path, quality=95, subsampling=0),
    "jpeg grey.jpg": lambda path: Image.fromarray(GREY).save(path, quality=95),
    "jpeg CMYK.jpg": lambda path: IMAGE.convert("CMYK").save(path, quality=98),
    "jpeg turned.jpg": lambda path: Image.fromarray(QUARTER).save(path, quality=95, exif=EXIF),
    "png RGBA.png": lambda path: ALPHA.save(path),
    "png palette.png": lambda path: IMAGE.quantize(16).save(path),
    "png grey 16.png": lambda path: Image.fromarray(GREY.astype(np.uint16) << 8).save(path),
    "png RGB 16.png": lambda path: cv2.imwrite(str(path), WIDE[..., ::-1] << 8),
    "tiff RGB.tif": tiff(RED_LEFT, compression="zlib"),
    "tiff grey.tif": tiff(GREY, "minisblack"),
    "tiff grey, white is zero.tif": tiff(255 - GREY, "miniswhite"),
    "tiff RGB 16.tif": tiff(WIDE << 8),
    "tiff RGB 12 bits in 16.tif": tiff(WIDE << 4),
    "tiff planar.tif": tiff(np.moveaxis(RED_LEFT, 2, 0), planarconfig="separate"),
    "tiff RGBIR.tif": tiff(BANDS, extrasamples=["unspecified"]),
    "tiff RGBA.tif": tiff(BANDS, extrasamples=["unassalpha"]),
    "tiff CMYK.tif": lambda path: IMAGE.convert("CMYK").save(path),
    "tiff palette.tif": lambda path: IMAGE.quantize(16).save(path),
    "tiff turned.tif": tiff(QUARTER, extratags=[(274, "H", 1, 6, True)]),
    "tiff pages.tif": two_pages,
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_picture_shows_what_it_shows(tmp_path, kind):
    KINDS[kind](tmp_path / kind)
    pixels = read_picture(tmp_path / kind)
    expected = GREY[..., None].repeat(3, 2) if "grey" in kind else RED_LEFT
    assert pixels.dtype == np.uint8 and pixels.shape == (40, 60, 3)
    assert np.abs(pixels.astype(int) - expected).mean() < 6
    assert picture_size(tmp_path / kind) == (40, 60)
    assert has_infrared(tmp_path / kind) == ("RGBIR" in kind)
    if "RGBIR" in kind:
        pixels = read_picture(tmp_path / kind, channels=4)
        assert pixels.shape == (40, 60, 4) and (pixels[..., 3] == 77).all()
    elif kind in ("png RGBA.png", "tiff RGB.tif"):
        with pytest.raises(DataError, match="four|infrared"):
            read_picture(tmp_path / kind, channels=4)


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
        with pytest.raises(DataError, match=re.escape(name)) as caught:
            read_picture(tmp_path / name)
        assert caught.value.advice and "\n" not in str(caught.value)


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
    tiled = segment_tiled(method, pixels, tile=64)
    # Sums in another order; upsampled scores besides are the same to a rounding.
    assert (tiled == whole).mean() > 0.999


@pytest.mark.parametrize(("kind", "least"), [("iic", 0.8), ("kmeans", 1)])
def test_other_methods_are_tiled_with_what_lies_around(kind, least):
    method = build(kind).eval()
    pixels = torch.from_numpy(scene(200, 230)).permute(2, 0, 1)
    method.fit(iter([Views(pixels[None, :, :64, :64].float() / 255)]), 0)
    tiled = segment_tiled(method, pixels, tile=64)
    with torch.no_grad():
        whole = method.segment(Views(pixels[None].float() / 255))[0].numpy()
    assert tiled.shape == whole.shape
    # IIC's map is stretched to its window, other windows a little more.
    assert (tiled == whole).mean() >= least


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
    for kind in ("jpeg CMYK.jpg", "jpeg turned.jpg", "png RGBA.png", "tiff RGBIR.tif"):
        KINDS[kind](folder / kind)
    KINDS["tiff RGB 16.tif"](folder / "tiff-16.tif")
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
    assert "7 pictures segmented" in said.out and f"look at {out / 'index.html'}" in said.out
    (mixed / "broken.jpg").unlink()
    for file in find_pictures(mixed):
        with Image.open(out / f"{file.stem}.png") as index:
            assert (index.mode, index.size[::-1]) == ("P", picture_size(file))
            assert index.getpalette()[:3] == [0x56, 0xB4, 0xE9]
            assert np.asarray(index).max() < 3
        with Image.open(out / f"{file.stem}_overlay.png") as overlay:
            assert (overlay.mode, overlay.size[::-1]) == ("RGB", picture_size(file))
    page = (out / "index.html").read_text()
    signals = json.loads((out / "signals.json").read_text())
    assert "broken.jpg" in page and signals["verdict"] in page.lower()
    assert page.count("<figure>") == 7
    assert not re.search(r"<script|(src|href)=\"(?!data:)", page)  # one file, that opens anywhere
    with Image.open(out / "contact_sheet.png") as sheet:
        assert sheet.width > 4 * 288
    assert signals["pictures"] == 7 and list(signals["left_out"]) == ["broken.jpg"]
    assert sum(signals["cluster_usage"]) == pytest.approx(1, abs=1e-3)
    # Results are not taken for pictures.
    with pytest.raises(DataError, match=r"(_overlay|contact_sheet)\.png: is named as"):
        segment_files(out, tmp_path / "again", path, device="cpu")
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
    (labels / "b.png").rename(labels / "b.PNG")
    Image.fromarray(scene(60, 80, 3)).save(pictures / "c.png")  # without a label map
    (pictures / "d.png").write_text("no picture, but with a label map")
    Image.fromarray(np.zeros((60, 80), np.uint8)).save(labels / "d.png")
    done = segment_files(pictures, tmp_path / "out", path, device="cpu", labels=labels)
    assert done.accuracy["these weights"] == (100, 100)
    assert done.labelled == ["a", "b"]
    assert done.match == {"0": "class 2", "1": "class 0", "2": "class 1"}
    # The trivial answers, counted here once more.
    maps = [np.asarray(Image.open(labels / name)) for name in ("a.png", "b.PNG")]
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
    (labels / "a.png").rename(tmp_path / "of another.png")
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


def trained(folder, classes: int = 2, steps: int = 2, **how) -> tuple[Weights, str]:
    """Weights of a small network, in `out` beside the folder, and what was said."""
    said = []
    how = {"out": folder.parent / "out", "overrides": QUICK, "steps": steps, "seeds": (0, 1)} | how
    path = train_on_folder(folder, classes, tell=said.append, **how)
    return read_weights(path, CPU), "\n".join(said)


def test_a_folder_of_pictures_becomes_weights(tmp_path, mixed, capsys):
    for i in range(4):
        Image.fromarray(scene(130, 100 + i, i)).save(mixed / f"p{i}.png")
    read, said = trained(mixed, 3, steps=4, seeds=range(5))
    assert "broken.jpg" in capsys.readouterr().err
    # Eleven can be read, so no batch is larger; the largest of them has 100 px.
    resolved = r"11 pictures, 3 classes: 5 starts of 4 steps .*--steps 4\), 11 crops of 32 px"
    assert re.search(resolved + r".*about \d+ s", said)
    assert "11 pictures are few" in said
    shorter_side = Segmenter(tmp_path / "out/weights.safetensors").shorter_side
    assert (read.method.clusters, shorter_side, read.card.step) == (3, 96, 4)
    assert "Not measured" in read.text
    assert f"\n# InfoSeg, re-matched negatives on mixed, seed {read.card.seed}\n" in read.text
    # What the card says of the pictures is what the page says of the same pictures.
    names = ("signals.json", "segmented/signals.json")
    card, page = (json.loads((tmp_path / "out" / name).read_text()) for name in names)
    assert set(card) == set(page["signals"]) and card["starts"] == page["signals"]["starts"]
    assert f"- {page['verdict'].capitalize()}: " in read.text
    assert (tmp_path / "out/segmented/p3.png").is_file()


def infrared(folder, count: int):
    folder.mkdir()
    for i in range(count):
        bands = np.dstack([scene(48, 64, i), scene(48, 64, i)[..., :1]])
        tifffile.imwrite(folder / f"p{i}.tif", bands, photometric="rgb", extrasamples=[0])
    return folder


def test_pictures_of_rgb_and_infrared_are_learnt_from_with_all_four_bands(tmp_path, capsys):
    folder = infrared(tmp_path / "in", 3)
    (folder / "broken.tif").write_bytes(b"II*\0")
    read, said = trained(folder)
    assert said.count("3 pictures of RGB and infrared, 2 classes") == 1
    assert "broken.tif" in capsys.readouterr().err
    assert read.card.channels == 4
    assert (tmp_path / "out/segmented/p2.png").is_file()
    Image.fromarray(scene(48, 64, 5)).save(folder / "q.png")  # one without makes all of them RGB
    assert trained(folder)[0].card.channels == 3


def test_labels_of_own_pictures_are_measured_with(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # outside of any repository
    folder, labels = pictures(tmp_path / "in", 3), tmp_path / "truth"
    labels.mkdir()
    for i in range(3):
        Image.fromarray(scene(48, 64 + i, i)[..., 0] // 128).save(labels / f"p{i}.png")
    _, said = trained(folder, labels=labels)
    measured = json.loads((tmp_path / "out/segmented/signals.json").read_text())
    assert measured["labelled"] == 3
    answers = {"these weights", "stripes", "K-Means on colour", "one class"}
    assert set(measured["accuracy"]) == answers
    assert "With 3 label maps of 3 pictures, PA (mIoU)" in said
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(labels / "p1.png")
    with pytest.raises(DataError, match=r"p1\.png: is 4 x 4 pixels"):  # before training
        train_on_folder(folder, 2, out=tmp_path / "no", labels=labels)
    assert not (tmp_path / "no").exists()


def test_of_several_starts_the_one_that_colours_alter_least_is_kept(tmp_path):
    folder = pictures(tmp_path / "it's ours", 4)
    read, _ = trained(folder, seeds=range(5, 8))
    shown = [np.asarray(Image.open(file)) for file in sorted(folder.iterdir())]
    looks = {}
    for seed in (5, 6, 7):
        path = tmp_path / f"out/runs/folder/pictures/infoseg/{seed}.safetensors"
        method, _ = load_weights(path, CPU)
        looks[seed] = look(partial(segment_picture, method, shorter_side=None), shown, 2)
    best = max(looks, key=lambda seed: looks[seed][0].jitter)
    assert read.card.seed == best
    chosen = looks.pop(best)[1]
    others = [agreement(chosen, labels, 2, match=True) for _, labels, _ in looks.values()]
    assert read.export.start_agreement == pytest.approx(np.mean(others))


def test_minutes_are_resolved_to_steps_that_give_the_same_weights(tmp_path):
    folder, how = pictures(tmp_path / "in", 3), {"seeds": (0,), "segment": False}
    read, said = trained(folder, steps=None, minutes=0.01, **how)
    steps = int(re.search(r"--steps (\d+)", said)[1])
    assert steps == read.card.step
    timed = (tmp_path / "out/weights.safetensors").read_bytes()
    trained(folder, steps=steps, out=tmp_path / "again", **how)
    assert (tmp_path / "again/weights.safetensors").read_bytes() == timed


def test_training_starts_from_other_weights(tmp_path):
    folder = pictures(tmp_path / "in", 3)
    how = {"seeds": (0,), "segment": False, "steps": 1}
    tiny = ["methods.infoseg.optimiser.learning_rate=1e-12", "methods.infoseg.optimiser.average=0"]
    started = read_weights(None, CPU).method.state_dict()
    for classes in (3, 5):  # block D fits three classes alone
        read, _ = trained(folder, classes, start="shipped", overrides=tiny, **how)
        assert "Training started from other weights: shipped." in read.text
        state = read.method.state_dict()
        blocks = ["block_a.0", "block_c_local.mix"] + ["block_d.linear"] * (classes == 3)
        for name in (f"network.{block}.weight" for block in blocks):
            assert torch.allclose(state[name], started[name], atol=1e-6)
        assert not torch.equal(state["network.mean"], started["network.mean"])
    assert str(tmp_path) not in read.text  # no path of this machine is handed on
    for start, message in (("shipped", "is of another network"), ("no.st", "there is no such")):
        with pytest.raises(DataError, match=message):
            trained(folder, 3, start=start, **how)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--classes", "1"], "--classes is 1; choose 2 to 27"),
        (["--classes", "99"], "--classes is 99; choose 2 to 27"),
        ([], "--classes is missing: say how many"),
        (["--classes", "3", "--restarts", "0"], "--restarts is 0; it must be above 0"),
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
    for _ in range(2):
        with pytest.raises(DataError, match="has 1 picture to train on.*at least 2"):
            trained(folder)
        (folder / "q.png").write_text("no picture")
    Image.fromarray(scene(48, 64, 8)).save(folder / "q.png")
    assert "2 pictures are few" in trained(folder)[1]


def test_other_pictures_of_the_same_folder_are_seen(tmp_path):
    folder = pictures(tmp_path / "in", 3, (200, 300))
    trained(folder, segment=False)
    (folder / "p0.png").unlink()
    Image.fromarray(scene(20, 64)).save(folder / "small.png")
    trained(folder, segment=False)
    index = load_prepared(tmp_path / "out/prepared/folder/pictures").index
    assert index["id"].tolist() == ["p1", "p2", "small"]
    assert index["height"].tolist() == [96, 96, 20]
    pictures(folder / "images", 2)  # as in the profile `folder`
    with pytest.raises(ParamsError, match="holds pictures .p1.png., and a folder images"):
        trained(folder, segment=False)
    for file in folder.glob("*.png"):
        file.unlink()
    trained(folder, out=tmp_path / "other", segment=False)
    assert len(load_prepared(tmp_path / "other/prepared/folder/pictures")) == 2


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
