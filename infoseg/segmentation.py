"""Segment pictures from disk with trained weights, at their own size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F
from tqdm import tqdm

from infoseg.data.imaging import read_rgb, read_tiff
from infoseg.data.superpixels import region_count, superpixels
from infoseg.devices import choose_device
from infoseg.errors import DataError
from infoseg.files import write_whole
from infoseg.methods import Method
from infoseg.params_data import SuperpixelSettings
from infoseg.reporting.palette import class_colours
from infoseg.runs import load_weights
from infoseg.views import Views

ENDINGS = {".jpg", ".jpeg", ".png", ".tif", ".tiff"}
#: Block A quarters a picture and block B halves that three times; smaller ones cannot pass.
SMALLEST = 32


@torch.no_grad()
def segment_picture(
    method: Method,
    picture: np.ndarray,
    shorter_side: int,
    regions: SuperpixelSettings | None = None,
) -> np.ndarray:
    """Cluster of every pixel, (H, W) uint8, of a picture (H, W, C) uint8 of any size.

    The picture is brought down to `shorter_side` first if it is larger (methods know objects at the
    scale they were trained on); labels are repeated back to the picture's own size. regions: how to
    make superpixels, for a method that needs them.
    """
    device = next(method.buffers()).device
    image = torch.tensor(picture).to(device).permute(2, 0, 1)[None].float() / 255
    height, width = picture.shape[:2]
    scale = min(1.0, shorter_side / min(height, width))
    size = [max(SMALLEST, round(side * scale)) for side in (height, width)]
    if size != [height, width]:
        image = F.interpolate(
            image, size, mode="bilinear", align_corners=False, antialias=scale < 1
        )
    views = Views(image)
    if method.sees.regions:
        pixels = (255 * image[0]).round().byte().permute(1, 2, 0).cpu().numpy()
        ids = superpixels(pixels, regions)
        on_device = torch.from_numpy(ids.astype(np.int64))[None].to(device)
        views = Views(image, regions=on_device, region_count=region_count(ids))
    labels = method.segment(views)[:, None].float()
    return F.interpolate(labels, (height, width), mode="nearest")[0, 0].byte().cpu().numpy()


def segment_files(
    source: Path, out: Path, weights: Path, shorter_side: int | None, device: str = "auto"
) -> int:
    """Segment a picture or all pictures of a folder; returns how many.

    Writes NAME.png (cluster index, palette) and NAME_overlay.png. Raises DataError naming the file
    for weights or pictures that cannot be read.
    """
    method, card = load_weights(weights, choose_device(device))
    if source.is_dir():
        files = sorted(p for p in source.iterdir() if p.suffix.lower() in ENDINGS)
        if not files:
            raise DataError("holds no JPEG, PNG or TIFF picture", file=source)
    elif source.exists():
        files = [source]
    else:
        raise DataError("not found", file=source)
    if out.resolve() in {source.resolve(), source.resolve().parent}:
        raise DataError("is where the pictures are", file=out, advice="Choose another OUT folder")
    colours = (np.asarray(class_colours(method.clusters)).reshape(-1, 3)).astype(np.uint8)
    for file in tqdm(files, desc="segmenting", unit="picture", disable=len(files) < 2):
        tiff = file.suffix.lower() in {".tif", ".tiff"}
        picture = read_tiff(file, card.channels) if tiff else read_rgb(file)
        if picture.shape[2] != card.channels:
            raise DataError(
                f"has {picture.shape[2]} channels; these weights expect {card.channels}", file=file
            )
        labels = segment_picture(method, picture, shorter_side or card.crop, card.superpixels)
        index = Image.fromarray(labels, mode="P")
        index.putpalette(colours.tobytes())
        overlay = Image.fromarray((0.5 * picture[..., :3] + 0.5 * colours[labels]).astype(np.uint8))
        for image, name in ((index, f"{file.stem}.png"), (overlay, f"{file.stem}_overlay.png")):
            write_whole(out / name, lambda path, image=image: image.save(path, format="PNG"))
    return len(files)
