"""Your pictures: segment them at their own size, and train InfoSeg on a folder of them.

`infoseg train --images` prepares the pictures as the profile `folder` does; from there on it is a
run like any other. What fits the number and the size of the pictures is decided here; every other
setting is the profile's.
"""

from __future__ import annotations

import logging
import math
import os
import re
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from filelock import FileLock, Timeout
from PIL import Image
from tqdm import tqdm

from infoseg.data.archives import naming
from infoseg.data.folder import read_classes
from infoseg.data.pictures import (
    check_classes,
    check_size,
    files_by_stem,
    find_pictures,
    has_infrared,
    label_values,
    passed_over,
    picture_size,
    read_labels,
    read_picture,
    resized,
)
from infoseg.data.prepare import available_cores, prepare
from infoseg.data.store import IGNORE, load_prepared, sha256_of
from infoseg.data.superpixels import region_count, superpixels
from infoseg.diagnostics import Stripes
from infoseg.evaluation import measure
from infoseg.files import (
    DataError,
    InfosegError,
    ParamsError,
    find_root,
    in_clone,
    make_folder,
    visible,
    write_json,
    write_whole,
)
from infoseg.losses import class_probabilities
from infoseg.machine import choose_device, keep_freed_memory, reproducible
from infoseg.methods import tiling
from infoseg.methods.base import Method
from infoseg.methods.infoseg import InfoSeg
from infoseg.methods.kmeans import KMeans
from infoseg.results.page import write_contact_sheet, write_page
from infoseg.results.palette import MAX_CLASSES, png_palette
from infoseg.runs import Project
from infoseg.settings import Run, SuperpixelSettings, compose, parse_params
from infoseg.training import Optimisation
from infoseg.verdict import LOOKED_AT, Signals, Verdict, agreement, look, spread, verdict
from infoseg.views import Views
from infoseg.weights import (
    DEFAULT_WEIGHTS,
    check_target,
    describe_run,
    export_weights,
    read_weights,
    write_weights,
)

#: Block A quarters a picture and block B halves that three times; smaller ones cannot pass.
SMALLEST = 32
#: Side of the pictures that pages show, in pixels at most, and how many of them are kept for that.
THUMBNAIL, SHOWN = 320, 60
#: Pixels above which one picture takes too long to be segmented several times.
LARGE = 2000**2
#: What `segment_files` writes beside label maps and overlays.
PAGES = ("contact_sheet.png", "index.html", "signals.json", "coco.json")
#: In an output folder: SHA-256 and name of every label map and overlay written there.
LISTING = ".segmented"

#: In the output of a training: the folder of the pictures it was made of.
ORIGIN = "images.txt"

DATASET, METHOD = "pictures", "infoseg"
#: Fewer pictures than this are a warning: a class has to be seen in several of them.
FEW = 20
#: Of `--from`: the weights that come with infoseg.
SHIPPED = "shipped"
#: Independent starts, and minutes for all of them together, unless something else is asked for.
STARTS, MINUTES = 5, 3.0

Picture = str | os.PathLike[str] | Image.Image | np.ndarray
"""A file, a Pillow image, or pixels (H, W, C) uint8."""


# ---- one picture ---------------------------------------------------------------------------------


class Segmenter:
    """Trained weights, ready for pictures.

    path: of the weights; None for those that come with infoseg. device: auto, cpu, cuda or cuda:N.
    Raises DataError for a missing, damaged or foreign file.

    clusters: K. channels: 3, or 4 with infrared. names: of the clusters, with the class where
    labels said which. title: of the weights. card: the model card as Markdown, "" for a run's
    weights that were not exported. shorter_side: pixels that a picture's shorter side is brought
    down to before it is segmented; set it to None for every picture's own size.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None, device: str = "auto"):
        file = None if path is None else Path(os.path.expanduser(path))
        self._weights = read_weights(file, choose_device(device))
        method, card, export, self.card = self._weights
        self.clusters: int = method.clusters
        self.channels: int = card.channels
        classes = (export and export.cluster_names) or [None] * method.clusters
        self.names = [f"cluster {k}" + f" ({name})" * bool(name) for k, name in enumerate(classes)]
        run = f"{card.method} on {card.dataset}, seed {card.seed}"
        self.title: str = export.title if export else run
        self.shorter_side: int | None = (export and export.shorter_side) or card.crop

    def segment(self, picture: Picture) -> np.ndarray:
        """Return the cluster of every pixel, (H, W) uint8.

        A file is turned upright as its EXIF orientation says, a Pillow image is taken as it is.
        Raises DataError for what is no picture.
        """
        pixels, regions = pixels_of(picture, self.channels), self._weights.card.superpixels
        return segment_picture(self._weights.method, pixels, self.shorter_side, regions)

    def probabilities(self, picture: Picture) -> np.ndarray:
        """Return the class probabilities V of Eq. 3 at the picture's size, (K, H, W) float32.

        V has a position every 4 pixels of the size that is segmented, and is brought up bilinearly;
        so near borders its arg max may differ from `segment`, which brings up labels. Raises
        InfosegError for another method's weights.
        """
        method, kind = self._weights.method, self._weights.card.settings["kind"]
        if not isinstance(method, InfoSeg):
            problem = f"these weights are of {kind}: only InfoSeg has Eq. 3's probabilities"
            raise InfosegError(problem)
        pixels = pixels_of(picture, self.channels)
        small = resized(pixels, working_size(*pixels.shape[:2], self.shorter_side))
        scores = tiling.infoseg_scores(method, tiling.as_tensor(small))
        v = class_probabilities(scores.flatten(1), method.objective.tau).view_as(scores)
        return tiling.enlarged(v, pixels.shape[:2]).numpy()

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the weights to a .safetensors file, and its model card beside it."""
        return write_weights(self._weights, Path(os.path.expanduser(path)))


def load(path: str | os.PathLike[str] | None = None, device: str = "auto") -> Segmenter:
    """Read weights; None for those that come with infoseg. See `Segmenter`."""
    return Segmenter(path, device)


def pixels_of(picture: Picture, channels: int) -> np.ndarray:
    """Return the pixels (H, W, channels) uint8 of a picture. Raises DataError for what is none."""
    if isinstance(picture, str | os.PathLike):
        return read_picture(existing(picture), channels)
    # `convert` would clip modes of 32 bits.
    if isinstance(picture, Image.Image) and picture.mode[0] not in "IF":
        with naming(Path("picture"), "cannot be decoded", "Open an intact one"):
            picture = picture.convert("RGB")
    pixels = np.asarray(picture)
    shape = pixels.shape
    if pixels.dtype != np.uint8 or len(shape) != 3 or shape[2] != channels or not pixels.size:
        raise DataError(
            f"a picture is a file, a Pillow image of 8 bits or an array (H, W, {channels}) uint8, "
            f"not {pixels.dtype} of shape {shape}"
        )
    return pixels


def existing(picture: str | os.PathLike[str]) -> Path:
    """Return the absolute path of a picture. Raises DataError where there is no such file."""
    file = Path(os.path.abspath(os.path.expanduser(picture)))
    if not os.path.isfile(file):  # False for what is no path at all
        raise DataError("there is no such file", file=file, advice="Check the path")
    return file


def working_size(height: int, width: int, shorter_side: int | None) -> tuple[int, int]:
    """Return the size a picture is segmented at: brought down, never up but to 32 pixels.

    shorter_side: None or 0 for the picture's own size. Raises ParamsError for less.
    """
    if shorter_side and not shorter_side > 0:
        raise ParamsError(f"shorter_side is {shorter_side}; it is a number of pixels")
    scale = min(1.0, shorter_side / min(height, width)) if shorter_side else 1.0
    return max(SMALLEST, round(height * scale)), max(SMALLEST, round(width * scale))


@torch.no_grad()
def segment_picture(
    method: Method,
    picture: np.ndarray,
    shorter_side: int | None,
    regions: SuperpixelSettings | None = None,
) -> np.ndarray:
    """Return the cluster of every pixel, (H, W) uint8, of a picture (H, W, C) uint8 of any size.

    The picture is brought down to `shorter_side` first if it is larger (methods know objects at the
    scale they were trained on); labels are repeated back to the picture's own size. Large pictures
    are taken in tiles, see `infoseg.methods.tiling`. regions: how to make superpixels, for a method
    that needs them.
    """
    size = picture.shape[:2]
    small = resized(picture, working_size(*size, shorter_side))
    pixels = tiling.as_tensor(small)
    if method.sees.regions:
        ids, device = superpixels(small, regions), tiling.device_of(method)
        on_device = torch.from_numpy(ids.astype(np.int64))[None].to(device)
        image = pixels[None].to(device).float() / 255
        views = Views(image, regions=on_device, region_count=region_count(ids))
        labels = method.segment(views)[0].byte().cpu().numpy()
    else:
        labels = tiling.segment_tiled(method, pixels)
    return (
        labels if labels.shape == size else tiling.repeated(torch.from_numpy(labels), size).numpy()
    )


# ---- folders of pictures -------------------------------------------------------------------------


@dataclass
class Segmented:
    """What became of a folder of pictures.

    done: names of the pictures. left_out: those that could not be read, and why. usage: share of
    all pixels in each cluster, (K,). signals, verdict, colours: see `infoseg.verdict`; None for
    fewer than two pictures. accuracy: PA and mIoU in percent of these weights, of K-Means on
    colour, of stripes and of one class, on the pictures `labelled`; match: the class of each
    cluster. shown: name, and small picture, overlay and K-Means' overlay, of up to 60 of them.
    """

    done: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    usage: np.ndarray = field(default_factory=lambda: np.zeros(0))
    signals: Signals | None = None
    verdict: Verdict | None = None
    colours: KMeans | None = None
    labelled: list[str] = field(default_factory=list)
    accuracy: dict[str, tuple[float, float]] = field(default_factory=dict)
    match: dict[str, str | None] = field(default_factory=dict)
    shown: list[tuple[str, list[Image.Image]]] = field(default_factory=list)

    def facts(self) -> dict[str, Any]:
        """Return what signals.json holds."""
        return {
            "pictures": len(self.done),
            "left_out": self.left_out,
            "cluster_usage": self.usage.round(4).tolist(),
            "verdict": self.verdict.word if self.verdict else None,
            "signals": self.signals.as_dict() if self.signals else None,
            "labelled": len(self.labelled),
            "accuracy": {k: {"pa": pa, "miou": miou} for k, (pa, miou) in self.accuracy.items()},
            "match": self.match,
        }

    def sentences(self) -> list[str]:
        """Return the verdict, the accuracy where there are labels, and how many are done."""
        lines = list(self.verdict.sentences) if self.verdict else []
        done = f"{len(self.done)} picture{'s' * (len(self.done) != 1)}"
        if self.accuracy:
            rows = [f"{name} {pa:.1f} ({miou:.1f})" for name, (pa, miou) in self.accuracy.items()]
            maps = f"With {len(self.labelled)} label maps of {done}"
            lines.append(f"{maps}, PA (mIoU): {', '.join(rows)}")
        elif self.labelled:
            lines.append("Every pixel of the label maps is 255: there is nothing to measure with")
        return [*lines, f"{done} segmented"]


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
    index.html and signals.json. weights: None for those that come with infoseg. shorter_side: None
    for the one the weights were trained at, 0 for every picture's own size. labels: folder of index
    PNGs to evaluate with. rle: write coco.json, too: run lengths of every cluster of every picture,
    as COCO has them. tell: is given the verdict, the accuracy and where the page is.

    A picture that cannot be read is left out, with a warning. Raises DataError naming the file for
    weights or labels that cannot be used, if no picture can be, or for a file in `out` that is not
    as an earlier call wrote it.
    """
    keep_freed_memory()
    model = Segmenter(weights, device)
    if shorter_side is not None:
        model.shorter_side = shorter_side or None
    if model.clusters > MAX_CLASSES:
        problem = f"has {model.clusters} clusters, and there are colours for {MAX_CLASSES}"
        raise DataError(problem, file=weights, advice="Train with fewer classes")
    files = find_pictures(source)
    _check_output(source, out, files)
    if rest := passed_over(source):
        tell(visible(rest))
    annotations = Labels(labels, files) if labels else None
    result, coco = Segmented(), {"images": [], "categories": [], "annotations": []}
    _look(model, files, result)
    counts = np.zeros(model.clusters, np.int64)
    shown = spread(len(files), SHOWN)
    bar = tqdm(files, desc="segmenting", unit="picture", disable=len(files) < 2)
    for place, file in enumerate(bar):
        try:
            _check_name(file)
            picture = read_picture(file, model.channels)
        except DataError as error:
            if len(files) == 1:
                raise
            result.left_out[visible(file.name)] = error.problem
            tqdm.write(visible(f"left out: {file}: {error.problem}"), file=sys.stderr)
            continue
        annotation = annotations.read(file.stem, picture.shape[:2]) if annotations else None
        clusters = model.segment(picture)
        index, overlay = Image.fromarray(clusters, mode="P"), _overlay(picture, clusters)
        counts += index.histogram()[: model.clusters]
        index.putpalette(png_palette())
        _save(index, out, f"{file.stem}.png")
        _save(overlay, out, f"{file.stem}_overlay.png")
        result.done.append(file.stem)
        if rle:
            _add_run_lengths(coco, file.name, clusters)
        if place in shown:
            images = [Image.fromarray(picture[..., :3]), overlay]
            for image in images:
                image.thumbnail((THUMBNAIL, THUMBNAIL))
            if result.colours:
                small = resized(picture, images[0].size[::-1])
                images.append(_overlay(small, segment_picture(result.colours, small, None)))
            result.shown.append((file.stem, images))
        if annotation is not None:
            layers = Stripes(model.clusters).segment(Views(torch.zeros(1, 1, *clusters.shape)))
            answers = {"these weights": clusters, "stripes": layers[0].numpy()}
            if result.colours:
                answers["K-Means on colour"] = segment_picture(result.colours, picture, None)
            answers["one class"] = np.zeros_like(clusters)
            annotations.add(annotation, answers, model.clusters)
            result.labelled.append(file.stem)
    if not result.done:
        problem = f"none of its {len(files)} pictures can be used"
        raise DataError(problem, file=source, advice="What is wrong with each is said above")
    result.usage = counts / counts.sum()
    if annotations:
        result.accuracy, result.match = annotations.summary()
    write_contact_sheet(out / "contact_sheet.png", result)
    write_page(out / "index.html", result, model)
    write_json(out / "signals.json", result.facts())
    (out / "coco.json").unlink(missing_ok=True)  # of other weights
    if rle:
        coco["categories"] = [{"id": k, "name": name} for k, name in enumerate(model.names)]
        write_json(out / "coco.json", coco)
    with (out / LISTING).open("a", encoding="utf-8") as listing:
        listing.writelines(f"{_entry(out / n, n)}\n" for n in PAGES if (out / n).exists())
    for sentence in [*result.sentences(), f"look at {out / 'index.html'}"]:
        tell(sentence)
    return result


def _look(model: Segmenter, files: Sequence[Path], result: Segmented) -> None:
    """Measure what can be without labels, on some pictures of which none takes long."""
    small = []
    for place in spread(len(files), LOOKED_AT) if len(files) > 1 else ():
        with suppress(DataError):  # named when its turn comes
            size = working_size(*picture_size(files[place]), model.shorter_side)
            if math.prod(size) <= LARGE:
                small.append(resized(read_picture(files[place], model.channels), size))
    if len(small) > 1:
        signals, _, result.colours = look(model.segment, small, model.clusters)
        export = model._weights.export
        result.signals = signals._replace(starts=export.start_agreement if export else None)
        result.verdict = verdict(result.signals)


def _overlay(picture: np.ndarray, labels: np.ndarray) -> Image.Image:
    """Half picture, half colours of the clusters; integers, because large pictures are large."""
    half = picture[..., :3] >> 1
    colours = np.frombuffer(png_palette(), np.uint8).reshape(256, 1, 3)
    half += cv2.applyColorMap(labels, colours >> 1)
    return Image.fromarray(half)


def _save(image: Image.Image, out: Path, name: str) -> None:
    def save(path: Path) -> None:
        # Run lengths alone: a fifth of the time of Pillow's default, for as many bytes.
        image.save(path, format="PNG", compress_level=1, compress_type=3)
        # Listed before it has its name, so that a kill leaves no file that is not.
        with (out / LISTING).open("a", encoding="utf-8") as listing:
            listing.write(_entry(path, name) + "\n")

    write_whole(out / name, save)


def _entry(path: Path, name: str) -> str:
    """A line of `LISTING`, whatever characters there are in a name."""
    return f"{sha256_of(path)}  {visible(name)}".replace("\n", "\\n")


def _check_name(file: Path) -> None:
    """Raise DataError for a name to which no other could be made for what is written."""
    if file.name.encode("utf-8", "replace").decode() != file.name:
        raise DataError("has a name that is not UTF-8", file=file, advice="Rename it")
    if len(f"{file.stem}_overlay.png".encode()) > 255:
        raise DataError("has too long a name", file=file, advice="Shorten it")


def _check_output(source: Path, out: Path, files: Sequence[Path]) -> None:
    """Raise DataError where writing to `out` would replace pictures, each other or hand-made maps.

    A file there that is not as `segment_files` wrote it may be hand-made.
    """
    if out.resolve() in {source.resolve(), source.resolve().parent}:
        raise DataError("is where the pictures are", file=out, advice="Choose another OUT folder")
    written = {f"{file.stem}_overlay" for file in files} | {"contact_sheet"}
    for file in files:
        if file.stem in written:
            problem = "is named as what is written here for another picture or for all of them"
            advice = "Rename it, or name the folder of the pictures rather than one of results"
            raise DataError(problem, file=file, advice=advice)
    listed = []
    with suppress(FileNotFoundError):
        listed = (out / LISTING).read_text(errors="replace").splitlines()
    for file in sorted(out.iterdir()) if out.is_dir() else ():
        # Between a page and its entry somebody may have stopped us.
        new_page = file.name in PAGES and not any(line.endswith(f" {file.name}") for line in listed)
        hidden = file.name.startswith(".") and file.suffix != ".png"  # .DS_Store, what we list in
        ours = hidden or (listed and new_page)
        if file.is_file() and not ours and _entry(file, file.name) not in listed:
            problem = "is not as `infoseg segment` wrote it, and could be overwritten"
            advice = "Move it elsewhere, or choose another OUT folder"
            raise DataError(problem, file=file, advice=advice)


def _add_run_lengths(coco: dict[str, list[Any]], name: str, labels: np.ndarray) -> None:
    """Add a label map as COCO's run lengths; the id of a category is its cluster."""
    from pycocotools import mask  # deferred: only needed here

    size, image = list(labels.shape), len(coco["images"]) + 1
    coco["images"].append({"id": image, "file_name": name, "height": size[0], "width": size[1]})
    for cluster in np.unique(labels).tolist():
        code = mask.encode(np.asfortranarray(labels == cluster, np.uint8))
        coco["annotations"].append({
            "id": len(coco["annotations"]) + 1,
            "image_id": image,
            "category_id": cluster,
            "segmentation": {"size": size, "counts": code["counts"].decode()},
            "area": int(mask.area(code)),
            "bbox": mask.toBbox(code).tolist(),
            "iscrowd": 0,
        })  # fmt: skip


class Labels:
    """Label maps <picture's name>.png: 8-bit class numbers from 0, 255 = unknown.

    Class names are those of `dataset.json` beside the folder, where it describes them. Raises
    DataError for a folder that is missing or holds a label for none of the pictures.
    """

    def __init__(self, folder: Path, pictures: Sequence[Path]):
        maps, stems = files_by_stem(folder, (".png",)), {picture.stem for picture in pictures}
        self.maps = {stem: file for stem, file in maps.items() if stem in stems}
        if not self.maps:
            problem = "holds a label map for none of the pictures"
            advice = "Check the path; name label maps after the pictures, with the ending .png"
            raise DataError(problem, file=folder, advice=advice)
        folder = Path(os.path.abspath(folder))
        self.names = read_classes(folder.parent / "dataset.json", folder.name)
        label_values(self.maps.values(), named=bool(self.names))
        self.counts: dict[str, np.ndarray] = {}
        for picture, size in _readable(picture_size, pictures):  # before anything is written
            self.read(picture.stem, size)

    def read(self, name: str, size: tuple[int, int]) -> np.ndarray | None:
        """Read a picture's label map, if it has one. Raises DataError for another (H, W) size."""
        if name not in self.maps:
            return None
        labels = read_labels(self.maps[name])
        check_size(labels, size, self.maps[name])
        if self.names:
            check_classes(labels, len(self.names), self.maps[name])
        return labels

    def add(self, labels: np.ndarray, answers: dict[str, np.ndarray], clusters: int) -> None:
        """Count a picture's pixels by annotated class and by the cluster (H, W) of each answer."""
        known = labels != IGNORE
        for name, answer in answers.items():
            pairs = answer[known].astype(np.int64) * 256 + labels[known]
            counts = np.bincount(pairs, minlength=clusters * 256).reshape(-1, 256)
            self.counts[name] = self.counts.get(name, 0) + counts

    def summary(self) -> tuple[dict[str, tuple[float, float]], dict[str, str | None]]:
        """PA and mIoU in percent of every answer, and the first one's match.

        Clusters are matched with classes once for all pictures. Empty if no pixel was annotated.
        """
        seen = np.flatnonzero(sum(counts.sum(0) for counts in self.counts.values()))
        if not len(seen):
            return {}, {}
        names = self.names or [f"class {c}" for c in range(int(seen.max()) + 1)]
        measured = {
            answer: measure(counts[None, :, : len(names)], names)
            for answer, counts in self.counts.items()
        }
        accuracy = {answer: (m["pa"], m["miou"]) for answer, m in measured.items()}
        return accuracy, next(iter(measured.values()))["match"]


# ---- training ------------------------------------------------------------------------------------


def train_on_folder(
    images: Path,
    classes: int,
    out: Path | None = None,
    labels: Path | None = None,
    steps: int | None = None,
    seeds: Sequence[int] = range(STARTS),
    overrides: Sequence[str] = (),
    minutes: float | None = None,
    start: str | None = None,
    segment: bool = True,
    tell: Callable[[str], None] = print,
) -> Path:
    """Train InfoSeg on a folder of pictures and segment them; returns the weights' file.

    classes: K, 2 to 27. out: for weights, model card, signals.json, segmented/ and everything in
    between; default runs/own/<name> in the repository, infoseg-runs/<name> elsewhere. labels:
    folder of label maps named like the pictures, to measure with; training never sees them.
    minutes: of training, all starts together, resolved to a number of steps; default 3. steps: of
    every start, in place of minutes; on one machine, the same weights every time. seeds: one for
    each start, of which `_choose` keeps one. start: weights to start from, a file or "shipped";
    None for a random start, as the paper. overrides: of the profile's settings, Hydra's syntax.
    segment: write segmented/, label maps and a page. tell: is given what is going on.

    Raises ParamsError for settings that make no sense, DataError for pictures that cannot be used.
    """
    _check_options(classes, steps, minutes, seeds, overrides)
    name = re.sub(r"[^\w-]", "_", images.resolve().name) or DATASET
    images = _folder_of_pictures(images)
    files = find_pictures(images)
    if rest := passed_over(images):
        tell(visible(rest))
    _check_count(images, len(files))
    if labels:  # looked at before training, not after
        Labels(labels, files)
    try:
        root = find_root()
    except InfosegError:
        root = Path.cwd()
    place = root / "runs" / "own" if in_clone(root) else Path.cwd() / "infoseg-runs"
    out = (out or place / name).resolve()
    _check_own_output(out, images)
    if segment:
        _check_output(images, out / "segmented", files)

    infrared = all(has for _, has in _readable(has_infrared, files))
    asked = os.environ.get("OMP_NUM_THREADS", "")  # by who runs other things beside this
    threads = int(asked) if re.fullmatch("[1-9][0-9]{0,2}", asked) else available_cores()
    tree = compose("folder", [
        f"training.threads={threads}", "training.evaluations=0",
        f"datasets.{DATASET}.channels={4 if infrared else 3}",
        f"datasets.{DATASET}.on_bad_input=skip", f"datasets.{DATASET}.clusters={classes}",
        *overrides,
    ])  # fmt: skip
    parse_params(tree, "profile folder")
    folder = str(images.resolve())
    tree["sources"][DATASET]["path"] = tree["profile"]["sources"][DATASET] = folder
    dataset, method = tree["datasets"][DATASET], tree["methods"][METHOD]
    dataset["title"] = name
    if start is not None:
        method["start"] = str(DEFAULT_WEIGHTS if start == SHIPPED else existing(start))
        read_weights(Path(method["start"]), torch.device("cpu"))

    def opened() -> Project:
        return Project(out, parse_params(tree, "profile folder"), root, make_missing=True)

    with _alone(out):
        write_whole(out / ORIGIN, lambda file: file.write_bytes(os.fsencode(images.resolve())))
        # Anew every time: the folder may hold other pictures than before.
        project = opened()
        prepare(project.params.datasets[DATASET], [images], project.prepared(DATASET), DATASET)
        prepared = load_prepared(project.prepared(DATASET))
        count = len(prepared)
        _check_count(images, count)
        if count < FEW:
            tell(
                f"{count} pictures are few: what all of them share, and what only one shows, may "
                f"be told apart in place of classes. {FEW} or more are better; large ones can be "
                "cut up."
            )

        # No batch may hold a picture twice. The largest picture decides the crop: smaller ones get
        # a black border.
        shorter = int(prepared.index[["height", "width"]].min(axis=1).max())
        dataset["crop"] = max(SMALLEST, min(dataset["crop"], shorter))
        optimiser = method["optimiser"]
        optimiser["batch"] = min(optimiser["batch"], count)
        optimiser["crop"] = min(optimiser["crop"] or dataset["crop"], dataset["crop"])
        per_step = _seconds_per_step(opened())
        if not (steps or minutes) and any("optimiser.steps" in text for text in overrides):
            steps = optimiser["steps"]
        steps = steps or max(1, round(60 * (minutes or MINUTES) / per_step / len(seeds)))
        optimiser["steps"] = steps
        project = opened()
        tell(
            f"{count} pictures{' of RGB and infrared' * infrared}, {classes} classes: "
            f"{len(seeds)} start{'s' * (len(seeds) > 1)} of {steps} steps (the same again: --steps "
            f"{steps}), {optimiser['batch']} crops of {optimiser['crop']} px each, on "
            f"{project.device}, about {max(1, round(steps * per_step * len(seeds)))} s"
        )
        project.train(DATASET, METHOD, seeds)
        run, signals = _choose(project, seeds)
        write_json(out / "signals.json", signals.as_dict())
        facts = {"signals": verdict(signals).sentences, "start_agreement": signals.starts}
        facts |= {"started_from": Path(start).name} if start else {}
        export = describe_run(project, run).model_copy(update=facts)
        weights = export_weights(project.weights_path(run), out / "weights.safetensors", export)
        tell(f"weights and model card: {weights}")
        if segment:
            segment_files(images, out / "segmented", weights, labels=labels, tell=tell)
        words = ["infoseg", "segment", "OTHER_PICTURES", "OUT", "--weights", str(weights)]
        tell(f"for other pictures: {shlex.join(words)}")
        return weights


def fit(
    pictures: str | os.PathLike[str] | Sequence[Picture],
    classes: int = 4,
    minutes: float = MINUTES,
    random_state: int = 0,
    steps: int | None = None,
    starts: int = STARTS,
    start: str | None = None,
) -> Segmenter:
    """Train InfoSeg on a folder, or a list, of pictures; files of the training are temporary.

    classes: K, 2 to 27. minutes: of training, resolved to a number of steps that depends on the
    machine and its load. steps: of every start, in place of minutes; on one machine, the same
    weights every time. random_state: decides the seeds of all starts. starts: how many, of
    which one is kept without labels. start: weights to start from, a file or "shipped". Raises
    ParamsError and DataError as `train_on_folder`.
    """
    with tempfile.TemporaryDirectory(prefix="infoseg-") as scratch:
        if isinstance(pictures, str | os.PathLike):
            folder = Path(os.path.expanduser(pictures))
        else:
            folder = _as_folder(pictures, Path(scratch) / "pictures")
        weights = train_on_folder(
            folder,
            classes,
            Path(scratch) / "out",
            steps=steps,
            seeds=range(random_state * starts, (random_state + 1) * starts),
            minutes=minutes,
            start=start,
            segment=False,
            tell=logging.getLogger(__name__).info,
        )
        return Segmenter(weights)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let nobody else train into a folder meanwhile. Raises DataError where somebody does."""
    make_folder(folder)
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout:
        advice = "Wait for its end, or name another folder with --out"
        raise DataError("another training writes there", file=folder, advice=advice) from None


def _check_options(
    classes: int,
    steps: int | None,
    minutes: float | None,
    seeds: Sequence[int],
    overrides: Sequence[str],
) -> None:
    """Raise ParamsError for what makes no sense, or is said twice."""
    if not 2 <= classes <= MAX_CLASSES:
        raise ParamsError(f"--classes is {classes}; choose 2 to {MAX_CLASSES}")
    for option, value in {"steps": steps, "minutes": minutes, "restarts": len(seeds)}.items():
        if value is not None and not 0 < value < 1e9:
            raise ParamsError(f"--{option} is {value}; it must be above 0 and below 1e9")
    if not 0 <= min(seeds) <= max(seeds) < 2**32:
        raise ParamsError(f"--seed is {seeds[0]}; the seeds of all starts are 0 to 2^32 - 1")
    said = {"clusters": "--classes", "seeds": "--seed and --restarts", "path": "--images"}
    said |= {"steps": "--steps or --minutes"} if steps or minutes else {}
    for text in overrides:
        if option := said.get(text.partition("=")[0].rpartition(".")[2]):
            raise ParamsError(f"-S {text}: {option} says that")


def _folder_of_pictures(folder: Path) -> Path:
    """`folder`, or `images` in it, which the profile's reader would take, too.

    Raises ParamsError where both hold pictures.
    """
    if not (folder / "images").is_dir():
        return folder
    with suppress(DataError):  # there are none
        problem = f"holds pictures ({find_pictures(folder)[0].name}), and a folder images"
        raise ParamsError(f"{folder} {problem}: name that one, or move one of the two")
    return folder / "images"


def _readable(look: Callable[[Path], Any], files: Sequence[Path]) -> Iterator[tuple[Path, Any]]:
    """Each file with what `look` returns, but for those it cannot read."""
    for file in files:
        try:
            seen = look(file)
        except DataError:  # it is left out, and named, when its pixels are read
            continue
        yield file, seen


def _check_own_output(out: Path, images: Path) -> None:
    """Raise DataError where a training on `images` would write over what was made of others."""
    origin, path = out / ORIGIN, os.fsencode(images.resolve())
    if origin.exists() and (other := origin.read_bytes()) != path:
        problem = f"holds what was made of other pictures, {visible(os.fsdecode(other))}"
        advice = "Name a folder of its own with --out, or remove that one"
        raise DataError(problem, file=out, advice=advice)
    check_target(out / "weights.safetensors")


def _as_folder(pictures: Sequence[Picture], folder: Path) -> Path:
    """A folder of links to those pictures that are files, and of the others as PNGs."""
    make_folder(folder)
    for number, picture in enumerate(pictures):
        if isinstance(picture, str | os.PathLike):
            file = existing(picture)
            # What a file is its content says; a folder is searched by endings.
            (folder / f"{number:06d}-{file.stem[-40:]}.png").symlink_to(file)
        else:
            Image.fromarray(pixels_of(picture, 3)).save(folder / f"{number:06d}.png")
    return folder


def _check_count(images: Path, count: int) -> None:
    if count < 2:
        raise DataError(
            f"has {count} picture{'s' * (count != 1)} to train on, and InfoSeg learns by comparing "
            "pictures with each other",
            file=images,
            advice=f"Use at least 2, better {FEW} or more; a large picture can be cut into pieces",
        )


def _seconds_per_step(project: Project) -> float:
    """Of a training's steps, measured on a method that is thrown away."""
    cell = project.cell(DATASET, METHOD, [0])
    with reproducible(cell.training, 0) as device:
        optimisation = Optimisation(cell.build(0), cell.data, cell.training, 0, "")
        times = []
        for _ in range(8):
            began = time.perf_counter()
            optimisation.advance()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(time.perf_counter() - began)
    return float(np.median(times[1:]))


def _choose(project: Project, seeds: Sequence[int]) -> tuple[Run, Signals]:
    """The start to keep: the one whose labels changes of colour alter least.

    On 12 folders of 40 photographs, five starts each, this had 32.7 mIoU, the best start 34.8 and
    any one 28.1; on street photographs 37.5, 39.9 and 33.9 (results/own).
    """
    prepared = project.load(DATASET)
    pictures = [np.array(prepared.image(i)) for i in spread(len(prepared), LOOKED_AT)]
    runs, looks = [Run(dataset=DATASET, method=METHOD, seed=seed) for seed in seeds], []
    with reproducible(project.params.training) as device:
        for run in runs:
            method, _ = project.trained(run, device)
            segment = partial(segment_picture, method, shorter_side=None)
            looks.append(look(segment, pictures, method.clusters)[:2])
    best = int(np.argmax([signals.jitter for signals, _ in looks]))
    signals, labels = looks.pop(best)
    starts = [agreement(labels, rest, signals.clusters, match=True) for _, rest in looks]
    return runs[best], signals._replace(starts=float(np.mean(starts)) if starts else None)
