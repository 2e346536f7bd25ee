"""Pictures of any kind, written as the profile `folder` reads them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import tifffile
from PIL import Image
from tqdm import tqdm

from infoseg.data.imaging import check_size, read_labels
from infoseg.errors import DataError, visible
from infoseg.files import make_folder, write_json, write_whole
from infoseg.own_labels import Labels
from infoseg.pictures import has_infrared, read_picture, resized
from infoseg.segmentation import SMALLEST, working_size

#: Says that a folder is ours to empty.
_MARK = ".written-by-infoseg"


@dataclass(frozen=True)
class Staged:
    """Pictures as written for the profile `folder`. shorter: shorter side of each, in pixels.
    channels: 3 for RGB, 4 with infrared."""

    folder: Path
    shorter: list[int]
    left_out: int
    channels: int
    labels: str | None
    classes: int


def stage(
    files: Sequence[Path], folder: Path, shorter_side: int | None, labels: Path | None
) -> Staged:
    """Write pictures as `images/<name>.png`, RGB of 8 bits, and label maps beside them.

    Where all are RGB and infrared, they are written so, as TIFFs.
    shorter_side: larger ones are brought down to it. What cannot be read is left out with a
    warning; so are pictures with a side below 32 px. Raises DataError where `folder` is somebody
    else's, and for a label map that is unreadable or of another size than its picture.
    """
    if folder.exists() and not (folder / _MARK).exists():
        raise DataError(
            "is in the way: a folder of this name is written anew every time",
            file=folder,
            advice="Choose another --out",
        )
    known = Labels(labels, [file.stem for file in files], 1) if labels else None
    shutil.rmtree(folder, ignore_errors=True)
    make_folder(folder / "images")
    (folder / _MARK).touch()
    shorter, left_out, most = [], 0, 0
    channels = 4 if all(map(_is_infrared, files)) else 3
    for file in tqdm(files, desc="reading", unit="picture", disable=len(files) < 2):
        try:
            picture = read_picture(file, channels)
            if min(picture.shape[:2]) < SMALLEST:
                raise DataError(
                    f"is {picture.shape[1]} x {picture.shape[0]} pixels, fewer than the {SMALLEST} "
                    "the network needs on either side",
                    file=file,
                    advice="Use a larger copy",
                )
        except DataError as error:
            left_out += 1
            tqdm.write(visible(f"left out: {error}"), file=sys.stderr)
            continue
        height, width = picture.shape[:2]
        size = working_size(height, width, shorter_side)
        picture, target = resized(picture, size), folder / "images" / file.stem
        if channels == 3:
            _save(Image.fromarray(picture), target.with_name(f"{file.stem}.png"))
        else:
            tiff = partial(tifffile.imwrite, data=picture, photometric="rgb", extrasamples=[0])
            write_whole(target.with_name(f"{file.stem}.tif"), tiff)
        shorter.append(min(size))
        if known and file.stem in known.maps:
            label = read_labels(known.maps[file.stem])
            check_size(label, (height, width), known.maps[file.stem])
            most = max(most, int(label[label != 255].max(initial=0)))
            small = Image.fromarray(label).resize(size[::-1], Image.Resampling.NEAREST)
            _save(small, folder / "labels" / f"{file.stem}.png")
    count = 0
    if known:
        names = known.names or [f"class {c}" for c in range(most + 1)]
        count = len(names)
        table = {"labels": {"classes": {str(i): name for i, name in enumerate(names)}}}
        write_json(folder / "dataset.json", table)
    return Staged(folder, shorter, left_out, channels, "labels" if known else None, count)


def _is_infrared(file: Path) -> bool:
    try:
        return has_infrared(file)
    except DataError:  # it is left out, and told, when its pixels are read
        return True


def _save(image: Image.Image, path: Path) -> None:
    write_whole(path, lambda file: image.save(file, format="PNG", compress_level=1))
