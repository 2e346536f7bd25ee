"""Segment pictures with trained weights, at their own size: `Segmenter`, and folders of files."""

from __future__ import annotations

import io
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from infoseg.data.pictures import find_pictures, picture_size, read_picture, resized
from infoseg.data.store import sha256_of
from infoseg.data.superpixels import region_count, superpixels
from infoseg.diagnostics import Stripes
from infoseg.export import Weights, read_weights, write_weights
from infoseg.files import DataError, InfosegError, storing, visible, write_json, write_whole
from infoseg.losses import class_probabilities
from infoseg.machine import choose_device, keep_freed_memory
from infoseg.methods.base import Method
from infoseg.methods.infoseg import InfoSeg
from infoseg.own_labels import Labels
from infoseg.results.palette import MAX_CLASSES, png_palette
from infoseg.segmentation_page import Segmented, write_contact_sheet, write_page
from infoseg.settings import SuperpixelSettings
from infoseg.tiling import LARGEST, device_of, enlarged, infoseg_scores, segment_tiled
from infoseg.verdict import LOOKED_AT, look, spread, verdict
from infoseg.views import Views

#: Block A quarters a picture and block B halves that three times; smaller ones cannot pass.
SMALLEST = 32
#: Side of the pictures that pages show, in pixels at most, and how many of them are kept for that.
THUMBNAIL, SHOWN = 320, 60
#: Pixels above which one picture takes long enough to say how long, and too long to do it twice.
WORTH_TELLING = 2000**2
#: What `segment_files` writes beside label maps and overlays.
PAGES = ("contact_sheet.png", "index.html", "signals.json", "coco.json")
#: In an output folder: SHA-256 and name of every label map and overlay written there.
LISTING = ".segmented"

Picture = str | os.PathLike[str] | Image.Image | np.ndarray
"""A file, a Pillow image, or pixels (H, W, C) uint8."""


class Segmenter:
    """Trained weights, ready for pictures.

    path: of the weights; None for those that come with infoseg. device: auto, cpu, cuda or cuda:N.
    Raises DataError for a missing, damaged or foreign file.

    clusters: K. names: of the clusters, with the class where labels said which. card: the model
    card as Markdown, "" for a run's weights that were not exported. shorter_side: pixels that a
    picture's shorter side is brought down to before it is segmented; set it to None for every
    picture's own size.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None, device: str = "auto"):
        file = None if path is None else Path(path).expanduser()
        self._weights = weights = read_weights(file, choose_device(device))
        self.clusters: int = weights.method.clusters
        self.names: list[str] = weights.cluster_names()
        self.card: str = weights.text
        self.shorter_side: int | None = weights.shorter_side

    def segment(self, picture: Picture) -> np.ndarray:
        """Return the cluster of every pixel, (H, W) uint8.

        A file is turned upright as its EXIF orientation says, a Pillow image is taken as it is.
        Raises DataError for what is no picture.
        """
        weights = self._weights
        pixels = pixels_of(picture, weights.card.channels)
        return segment_picture(weights.method, pixels, self.shorter_side, weights.card.superpixels)

    def probabilities(self, picture: Picture) -> np.ndarray:
        """Return the class probabilities V of Eq. 3 at the picture's size, (K, H, W) float32.

        V has a position every 4 pixels of the size that is segmented, and is brought up bilinearly;
        so near borders its arg max may differ from `segment`, which brings up labels. Raises
        InfosegError for another method's weights.
        """
        method = self._weights.method
        if not isinstance(method, InfoSeg):
            kind = self._weights.card.settings["kind"]
            raise InfosegError(
                f"these weights are of {kind}: only InfoSeg has Eq. 3's probabilities"
            )
        pixels = pixels_of(picture, self._weights.card.channels)
        scores = infoseg_scores(method, _working(pixels, self.shorter_side))
        v = class_probabilities(scores.flatten(1), method.objective.tau).view_as(scores)
        return enlarged(v, pixels.shape[:2]).numpy()

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the weights to a .safetensors file, and its model card beside it."""
        return write_weights(self._weights, Path(path).expanduser())


def pixels_of(picture: Picture, channels: int) -> np.ndarray:
    """Pixels (H, W, channels) uint8 of a picture. Raises DataError for what is none."""
    if isinstance(picture, str | os.PathLike):
        return read_picture(existing(picture), channels)
    deep = isinstance(picture, Image.Image) and picture.mode[0] in "IF"  # `convert` would clip it
    if isinstance(picture, Image.Image) and not deep:
        picture = picture.convert("RGB")
    pixels = np.asarray(picture)
    if (
        pixels.dtype != np.uint8
        or pixels.ndim != 3
        or pixels.shape[2] != channels
        or not pixels.size
    ):
        raise DataError(
            f"a picture is a file, a Pillow image of 8 bits or an array (H, W, {channels}) uint8, "
            f"not {pixels.dtype} of shape {pixels.shape}"
        )
    return pixels


def existing(picture: str | os.PathLike[str]) -> Path:
    """The absolute path of a picture. Raises DataError where there is no such file."""
    file = Path(picture).expanduser().resolve()
    if not file.is_file():
        raise DataError("there is no such file", file=file, advice="Check the path of the picture")
    return file


def working_size(height: int, width: int, shorter_side: int | None) -> tuple[int, int]:
    """Size a picture is segmented at: brought down to `shorter_side`, never up but to 32 pixels.

    shorter_side: None for the picture's own size.
    """
    scale = 1.0 if shorter_side is None else min(1.0, shorter_side / min(height, width))
    return max(SMALLEST, round(height * scale)), max(SMALLEST, round(width * scale))


@torch.no_grad()
def segment_picture(
    method: Method,
    picture: np.ndarray,
    shorter_side: int | None,
    regions: SuperpixelSettings | None = None,
) -> np.ndarray:
    """Cluster of every pixel, (H, W) uint8, of a picture (H, W, C) uint8 of any size.

    The picture is brought down to `shorter_side` first if it is larger (methods know objects at the
    scale they were trained on); labels are repeated back to the picture's own size. Large pictures
    are taken in tiles, see `infoseg.tiling`. regions: how to make superpixels, for a method that
    needs them.
    """
    height, width = picture.shape[:2]
    pixels = _working(picture, shorter_side)
    if method.sees.regions:
        small = pixels.permute(1, 2, 0).numpy()
        ids = superpixels(small, regions)
        device = device_of(method)
        on_device = torch.from_numpy(ids.astype(np.int64))[None].to(device)
        image = pixels[None].to(device).float() / 255
        views = Views(image, regions=on_device, region_count=region_count(ids))
        labels = method.segment(views)[0].byte().cpu().numpy()
    else:
        labels = segment_tiled(method, pixels)
    if labels.shape == (height, width):
        return labels
    full = F.interpolate(torch.from_numpy(labels)[None, None], (height, width), mode="nearest")
    return full[0, 0].numpy()


def _working(picture: np.ndarray, shorter_side: int | None) -> Tensor:
    """A picture (H, W, C) uint8 at the size it is segmented at, (C, h, w) uint8."""
    small = resized(picture, working_size(*picture.shape[:2], shorter_side))
    return torch.from_numpy(np.require(small, requirements="CW")).permute(2, 0, 1)


def segment_files(
    source: Path,
    out: Path,
    weights: Path | None = None,
    shorter_side: int | None = None,
    device: str = "auto",
    labels: Path | None = None,
    rle: bool = False,
    tell: Callable[[str], None] = lambda text: None,
) -> Segmented:
    """Segment a picture, or all pictures of a folder.

    Writes NAME.png (cluster index, palette) and NAME_overlay.png for each, contact_sheet.png,
    index.html and signals.json. weights: None for those that come with the repository.
    shorter_side: None for the one the weights were trained at, 0 for every picture's own size.
    labels: folder of index PNGs to evaluate with. rle: write coco.json, too: run lengths of every
    cluster of every picture, as COCO has them. tell: is given the estimate of the time it takes.

    A picture that cannot be read is left out, with a warning. Raises DataError naming the file for
    weights or labels that cannot be used, if no picture can be, or for a file in `out` that is not
    as an earlier call wrote it.
    """
    began = time.perf_counter()
    keep_freed_memory()
    read = read_weights(weights, choose_device(device))
    files = find_pictures(source)
    if out.resolve() in {source.resolve(), source.resolve().parent}:
        raise DataError("is where the pictures are", file=out, advice="Choose another OUT folder")
    _check_names(files)
    _check_output(out)
    if read.method.clusters > MAX_CLASSES:
        raise DataError(
            f"has {read.method.clusters} clusters, and there are colours for {MAX_CLASSES}",
            file=weights,
            advice="Train with fewer classes",
        )
    result = Segmented(names=read.cluster_names())
    files = _readable(files, result)
    side = shorter_side if shorter_side is not None else read.shorter_side
    run = _Run(read, side or None, out, result)
    annotations = Labels(labels, [f.stem for f in files], read.method.clusters) if labels else None
    height, width = picture_size(files[0])
    seen = math.prod(working_size(height, width, run.side))
    # Reading and writing 20 megapixels takes as long as seeing 4.
    if len(files) > 1 or max(seen, height * width // 5) > WORTH_TELLING:
        tell(f"{counted(len(files))}, about {duration(run.estimate(files))}")
    run.all(files, annotations, rle)
    if not result.done:
        raise DataError(
            f"none of its {len(result.left_out)} pictures can be used",
            file=source,
            advice="What is wrong with each is said above",
        )
    if annotations:
        result.accuracy, result.match = annotations.summary()
    result.seconds = time.perf_counter() - began
    write_contact_sheet(out / "contact_sheet.png", result)
    write_page(out / "index.html", result, read)
    write_json(out / "signals.json", result.facts())
    (out / "coco.json").unlink(missing_ok=True)  # of other weights
    if rle:
        write_json(out / "coco.json", run.coco)
    return result


def report(result: Segmented, out: Path, tell: Callable[[str], None]) -> None:
    """Tell what became of a folder: the verdict, accuracy where there are labels, the page."""
    for sentence in result.verdict.sentences() if result.verdict else ():
        tell(sentence)
    if result.accuracy:
        rows = [f"{name} {pa:.1f} ({miou:.1f})" for name, (pa, miou) in result.accuracy.items()]
        measured = f"With {len(result.labelled)} label maps of {counted(len(result.done))}"
        tell(f"{measured}, PA (mIoU): {', '.join(rows)}")
    tell(f"{counted(len(result.done))} segmented; look at {out / 'index.html'}")


def counted(pictures: int) -> str:
    return f"{pictures} picture" + "s" * (pictures != 1)


def duration(seconds: float) -> str:
    """A time in words, for estimates."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _check_output(out: Path) -> None:
    """Raise DataError for a file that is not as `segment_files` wrote it: it may be hand-made."""
    listing = out / LISTING
    listed = listing.read_text(errors="replace").splitlines() if listing.is_file() else []
    for file in sorted(out.iterdir()) if out.is_dir() else ():
        if file.name.startswith(".") or not file.is_file() or (listed and file.name in PAGES):
            continue
        if f"{sha256_of(file)}  {file.name}" not in listed:
            raise DataError(
                "is not as `infoseg segment` wrote it, and could be overwritten",
                file=file,
                advice="Move it elsewhere, or choose another OUT folder",
            )


def _check_names(files: Sequence[Path]) -> None:
    """Raise DataError where what is written for two pictures would have one name."""
    written = {f"{file.stem}_overlay" for file in files} | {"contact_sheet"}
    for file in files:
        if file.stem in written:
            raise DataError(
                "is named as what is written here for another picture or for all of them",
                file=file,
                advice="Rename it, or name the folder of the pictures rather than one of results",
            )


def _readable(files: Sequence[Path], result: Segmented) -> list[Path]:
    """Those whose headers can be read. Raises DataError if there are none."""
    good: list[Path] = []
    for file in files:
        try:
            picture_size(file)
            good.append(file)
        except DataError as error:
            if len(files) == 1:
                raise
            _leave_out(result, file, error)
    return good


def _leave_out(result: Segmented, file: Path, error: DataError) -> None:
    result.left_out[file.name] = error.problem
    tqdm.write(visible(f"left out: {file}: {error.problem}"), file=sys.stderr)


class _Run:
    def __init__(self, read: Weights, side: int | None, out: Path, result: Segmented):
        self.read, self.side, self.out, self.result = read, side, out, result
        self.counts = np.zeros(read.method.clusters, np.int64)
        categories = [{"id": k, "name": name} for k, name in enumerate(result.names)]
        self.coco: dict[str, list[dict[str, Any]]] = {
            "images": [], "categories": categories, "annotations": [],
        }  # fmt: skip

    def labels_of(self, picture: np.ndarray) -> np.ndarray:
        return segment_picture(self.read.method, picture, self.side, self.read.card.superpixels)

    def estimate(self, files: Sequence[Path]) -> float:
        """Seconds for all pictures, from the first of them that can be read.

        Reading and writing take time by a picture's own pixels, the network by those it sees.
        """
        for file in files:
            try:
                began = time.perf_counter()
                picture = read_picture(file, self.read.card.channels)
                loading = time.perf_counter() - began
                break
            except DataError:
                continue
        else:
            return 0.0
        own = math.prod(picture.shape[:2])
        piece = resized(picture, working_size(*picture.shape[:2], self.side))[:LARGEST, :LARGEST]
        method, regions = self.read.method, self.read.card.superpixels
        segment_picture(method, piece, None, regions)  # the first time takes longer
        began = time.perf_counter()
        segment_picture(method, piece, None, regions)
        by_seen = (time.perf_counter() - began) / math.prod(piece.shape[:2])
        part = picture[:LARGEST, :LARGEST]
        began = time.perf_counter()
        overlay = _overlay(part, np.zeros(part.shape[:2], np.uint8))
        overlay.save(io.BytesIO(), format="PNG", compress_level=1)
        # Half as much again for the index and the small pictures.
        by_own = loading / own + 1.5 * (time.perf_counter() - began) / math.prod(part.shape[:2])
        total, looked_at = 0.0, set(self.looked_at(files))
        for file in files:
            size = picture_size(file)
            seen = working_size(*size, self.side)
            passes = 2 if max(seen) > LARGEST else 1
            passes *= 4 if file in looked_at else 1
            total += by_own * math.prod(size) + passes * by_seen * math.prod(seen)
        return total

    def looked_at(self, files: Sequence[Path]) -> list[Path]:
        """Pictures that the verdict is made from: some, and none that takes long."""
        chosen = [files[place] for place in sorted(spread(len(files), LOOKED_AT))]
        sizes = {file: working_size(*picture_size(file), self.side) for file in chosen}
        return [file for file, size in sizes.items() if math.prod(size) <= WORTH_TELLING]

    def look(self, files: Sequence[Path]) -> None:
        """Measure what can be without labels; nothing for fewer than two pictures."""
        small = []
        for file in self.looked_at(files) if len(files) > 1 else ():
            with suppress(DataError):  # named when its turn comes
                picture = read_picture(file, self.read.card.channels)
                small.append(resized(picture, working_size(*picture.shape[:2], self.side)))
        if len(small) < 2:
            return
        export, method = self.read.export, self.read.method
        starts = export.start_agreement if export else None
        regions = self.read.card.superpixels
        segment = partial(segment_picture, method, shorter_side=None, regions=regions)
        found = look(segment, small, method.clusters, starts)
        self.result.signals, self.result.colours = found.signals, found.colours
        self.result.verdict = verdict(found.signals)

    def all(self, files: Sequence[Path], annotations: Labels | None, rle: bool) -> None:
        self.look(files)
        shown, colours = spread(len(files), SHOWN), self.result.colours
        clusters = self.read.method.clusters
        bar = tqdm(files, desc="segmenting", unit="picture", disable=len(files) < 2)
        for place, file in enumerate(bar):
            try:
                picture = read_picture(file, self.read.card.channels)
                if annotations:
                    annotations.check(file.stem, picture.shape[:2])
            except DataError as error:
                if len(files) == 1 or error.file != file:  # a label map's is not left out
                    raise
                _leave_out(self.result, file, error)
                continue
            labels = self.labels_of(picture)
            self.counts += np.bincount(labels.ravel(), minlength=clusters)
            overlay = self.write(file.stem, picture, labels)
            if rle:
                self.add_rle(file.name, labels)
            if place in shown:
                images = [Image.fromarray(picture[..., :3]), overlay]
                for image in images:
                    image.thumbnail((THUMBNAIL, THUMBNAIL))
                if colours:
                    small = resized(picture, images[0].size[::-1])
                    images.append(_overlay(small, segment_picture(colours, small, None)))
                self.result.shown.append((file.stem, images))
            if annotations and file.stem in annotations.annotations:
                size = Views(torch.zeros(()).expand(1, 1, *labels.shape))
                layers = Stripes(clusters).segment(size)[0].numpy()
                answers = {"these weights": labels, "stripes": layers}
                if colours:
                    answers["K-Means on colour"] = segment_picture(colours, picture, None)
                annotations.add(file.stem, answers)
                self.result.labelled.append(file.stem)
            self.result.done.append(file.stem)
        self.result.usage = self.counts / max(1, self.counts.sum())

    def write(self, name: str, picture: np.ndarray, labels: np.ndarray) -> Image.Image:
        """Index and overlay of a picture; returns the overlay."""
        index = Image.fromarray(labels, mode="P")
        index.putpalette(png_palette())
        overlay = _overlay(picture, labels)
        for image, file in ((index, f"{name}.png"), (overlay, f"{name}_overlay.png")):

            def save(path: Path, image: Image.Image = image, file: str = file) -> None:
                # Level 1 takes a sixth of the time for a tenth more bytes of a photograph.
                image.save(path, format="PNG", compress_level=1 if image is overlay else 6)
                # Listed before it has its name, so that a kill leaves no file that is not.
                with storing(path), (self.out / LISTING).open("a", encoding="utf-8") as listing:
                    listing.write(f"{sha256_of(path)}  {file}\n")

            write_whole(self.out / file, save)
        return overlay

    def add_rle(self, file: str, labels: np.ndarray) -> None:
        """Add a picture's labels (H, W) to `coco`; a category's id is its cluster."""
        from pycocotools import mask  # deferred: only needed here

        height, width = labels.shape
        image = len(self.coco["images"]) + 1
        row = {"id": image, "file_name": file, "height": height, "width": width}
        self.coco["images"].append(row)
        for cluster in np.unique(labels).tolist():
            code = mask.encode(np.asfortranarray(labels == cluster, np.uint8))
            annotation = {
                "id": len(self.coco["annotations"]) + 1,
                "image_id": image,
                "category_id": cluster,
                "segmentation": {"size": [height, width], "counts": code["counts"].decode()},
                "area": int(mask.area(code)),
                "bbox": mask.toBbox(code).tolist(),
                "iscrowd": 0,
            }
            self.coco["annotations"].append(annotation)


def _overlay(picture: np.ndarray, labels: np.ndarray) -> Image.Image:
    """Half picture, half colours of the clusters; integers, because large pictures are large."""
    half = picture[..., :3] >> 1
    colours = np.frombuffer(png_palette(), np.uint8).reshape(256, 1, 3)
    half += cv2.applyColorMap(labels, colours >> 1)
    return Image.fromarray(half)
