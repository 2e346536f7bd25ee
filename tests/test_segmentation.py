"""Pictures from disk through trained weights, superpixels included."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers import build, card, data_info
from PIL import Image

from infoseg.data.superpixels import superpixels
from infoseg.files import DataError
from infoseg.methods.registry import METHODS
from infoseg.own import segment_files, segment_picture
from infoseg.settings import SuperpixelSettings
from infoseg.views import Views
from infoseg.weights import save_weights

REGIONS = SuperpixelSettings(pixels_per_region=60, compactness=10.0, smoothing=0.5)


def picture(height: int = 90, width: int = 70) -> np.ndarray:
    rng = np.random.default_rng(0)
    tones = np.array([[40, 60, 50], [200, 180, 220], [90, 200, 60]])
    bands = tones[(np.arange(height) * 3 // height)][:, None].repeat(width, 1)
    return (bands + rng.integers(-20, 21, bands.shape)).clip(0, 255).astype(np.uint8)


def weights(folder, kind: str, channels: int = 3):
    method = build(kind, data_info(channels=channels)).eval()
    image = torch.from_numpy(picture(64, 64)).permute(2, 0, 1)[None].float() / 255
    image = torch.cat([image, image[:, : channels - 3]], 1)
    method.fit(iter([Views(image)]), 0)
    regions = REGIONS if method.sees.regions else None
    about = card(kind, channels, crop=48, superpixels=regions)
    save_weights(folder / "w.safetensors", method.state_dict(), about)
    return folder / "w.safetensors", method


@pytest.mark.parametrize("kind", METHODS)
def test_every_method_segments_a_picture_at_its_own_size(tmp_path, kind):
    path, method = weights(tmp_path, kind)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Image.fromarray(picture()).save(pictures / "one.png")
    Image.fromarray(picture(48, 120)).save(pictures / "two.png")
    assert len(segment_files(pictures, tmp_path / "out", path, None, "cpu").done) == 2
    for name, size in (("one", (90, 70)), ("two", (48, 120))):
        with Image.open(tmp_path / "out" / f"{name}.png") as labels:
            clusters = np.asarray(labels)
        assert clusters.shape == size
        assert clusters.max() < 3
        regions = REGIONS if method.sees.regions else None
        shown = np.asarray(Image.open(pictures / f"{name}.png"))
        assert np.array_equal(clusters, segment_picture(method, shown, 48, regions))


def test_superpixels_of_a_new_picture_are_made_as_at_preparation(tmp_path):
    _, method = weights(tmp_path, "inmars")
    shown = picture(48, 60)
    clusters = segment_picture(method, shown, 48, REGIONS)
    regions = superpixels(shown, REGIONS)
    # One label in every region, and not the same in all of them by accident of the whole picture.
    assert all(len(np.unique(clusters[regions == r])) == 1 for r in np.unique(regions))
    image = torch.from_numpy(shown).permute(2, 0, 1)[None].float() / 255
    ids = torch.from_numpy(regions.astype(np.int64))[None]
    with torch.no_grad():
        expected = method.segment(Views(image, regions=ids, region_count=int(ids.max()) + 1))
    assert np.array_equal(clusters, expected[0].numpy())


def test_weights_for_another_number_of_channels_are_refused(tmp_path):
    path, _ = weights(tmp_path, "kmeans", channels=4)
    Image.fromarray(picture()).save(tmp_path / "three.png")
    with pytest.raises(DataError, match=r"three\.png.*infrared"):
        segment_files(tmp_path / "three.png", tmp_path / "out", path, None, "cpu")
    assert not (tmp_path / "out").exists()


def test_pictures_are_never_overwritten(tmp_path):
    path, _ = weights(tmp_path, "kmeans")
    Image.fromarray(picture()).save(tmp_path / "one.png")
    before = (tmp_path / "one.png").read_bytes()
    with pytest.raises(DataError, match="is where the pictures are"):
        segment_files(tmp_path / "one.png", tmp_path, path, None, "cpu")
    assert (tmp_path / "one.png").read_bytes() == before


def test_segmenting_waits_for_no_table_or_web_library():
    code = "import sys, infoseg.own; print(*{'pandas', 'jinja2', 'scipy'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
