"""The one reader for pictures and label maps, and the published ways to rescale them.

Pillow decodes; OpenCV pictures of 16 bits and TIFFs with infrared. Files are read through
``Traversable``: from a folder or straight from an archive.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable, Mapping
from contextlib import AbstractContextManager, suppress
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError, features
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from infoseg.data.archives import names_in, naming, read_bytes
from infoseg.data.store import IGNORE
from infoseg.files import DataError

#: Names of pictures that a folder is searched for; what a file is, its content says.
ENDINGS = (".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
#: Bytes that a picture's file may have: MOST_PIXELS of four bands, uncompressed.
FILE_LIMIT = 2**31
#: Pixels a picture may have: 23,000 x 23,000, 1.6 GB of memory in three channels.
MOST_PIXELS = 23_000**2
#: Formats that Pillow decodes itself, whatever a file's name says; EPS it hands to Ghostscript.
_FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "GIF", "JPEG2000", "PPM", "WEBP")
_FORMATS += ("AVIF",) * bool(features.check("avif"))
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
#: What an EXIF orientation asks for; 1 and numbers that are none, for nothing.
_TURNS = dict(enumerate((
    Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_180, Image.Transpose.FLIP_TOP_BOTTOM,
    Image.Transpose.TRANSPOSE, Image.Transpose.ROTATE_270, Image.Transpose.TRANSVERSE,
    Image.Transpose.ROTATE_90,
), start=2))  # fmt: skip
#: TIFF's number for WebP, whose pages libtiff gives as black.
_WEBP = 50001
_WHAT = "Save it as a JPEG, PNG or TIFF of 8 or 16 bits"
_FOUR = "Use TIFFs of four bands, red, green, blue and infrared, or RGB alone"
_INTACT = "Replace the file by an intact copy, or leave it out with on_bad_input=skip"

Image.MAX_IMAGE_PIXELS = None  # pictures are held against MOST_PIXELS before they are decoded
cv2.utils.logging.setLogLevel(0)  # the errors that are raised say what it would log


def files_by_stem(folder: Traversable, endings: Collection[str]) -> dict[str, Traversable]:
    """Return the files of a folder by their name without its ending, sorted by it.

    Hidden ones are left out. Raises DataError for a folder that is missing or holds no such file,
    and for two files that differ in their endings alone.
    """
    if not folder.is_dir():
        raise DataError("folder not found", file=folder, advice="Create it, or check the path")
    files: dict[str, Traversable] = {}
    for stem, name in sorted((Path(name).stem, name) for name in names_in(folder)):
        if Path(name).suffix.lower() in endings and (folder / name).is_file():
            if stem in files:
                problem = f"has the same name as {files[stem].name}"
                raise DataError(problem, file=folder / name, advice="Rename one of the two")
            files[stem] = folder / name
    if not files:
        advice = "Put some there; folders inside it are not searched"
        problem = f"holds no file ending in {', '.join(endings)}"
        raise DataError(problem, file=folder, advice=advice)
    return files


def find_pictures(source: Path) -> list[Path]:
    """Return a single file, or the pictures of a folder, sorted; raises as ``files_by_stem``."""
    return [source] if source.is_file() else list(files_by_stem(source, ENDINGS).values())


def passed_over(source: Path) -> str:
    """Say what of a folder is not looked at for pictures, "" if nothing is."""
    if source.is_file():
        return ""
    fits = {n for n in names_in(source) if Path(n).suffix.lower() in ENDINGS}
    # Nor are links that lead nowhere, and whatever else is no file.
    names = [n for n in names_in(source) if n not in fits or not (source / n).is_file()]
    if not names:
        return ""
    shown = ", ".join(names[:3]) + ", …" * (len(names) > 3)
    return (
        f"not looked at in {source}: {len(names)} ({shown}). Pictures end in {', '.join(ENDINGS)}; "
        "save others as JPEG, and take them out of folders inside"
    )


# ---- reading -------------------------------------------------------------------------------------


def read_picture(file: Traversable, channels: int = 3, *, upright: bool = True) -> np.ndarray:
    """Read a picture as (H, W, channels) uint8; of several pages or frames the first.

    channels: 3 gives RGB: grey is repeated, CMYK and palettes are converted, alpha and infrared
    left out. 4 gives RGB and infrared, which only a TIFF of four bands has. upright: turn a picture
    as its EXIF orientation says; off for COCO, whose maps and polygons refer to pixels as stored.

    Of 16 bits, the 8 highest that the picture uses are kept, in steps of two: values up to 4095
    count as 12 bits. Raises DataError naming the file for anything else.
    """
    content = read_bytes(file, FILE_LIMIT)
    with _decoding(file):
        stream = io.BytesIO(content)
        tags = _tiff_tags(stream)
        if channels == 4 and not _is_rgb_of_four(tags):
            raise DataError("has no infrared band", advice=_FOUR)
        if (bands := tags.get("SamplesPerPixel", 1)) > 4:
            advice = "Save the three to look at as an RGB picture"
            raise DataError(f"has {bands} bands instead of {channels}", advice=advice)
        if tags.get("Compression") == _WEBP:
            raise DataError("is a TIFF compressed as WebP", advice=_WHAT)
        deep = 16 in tags.get("BitsPerSample", ())
        if deep and tags.get("PlanarConfiguration") == 2:
            raise DataError("has 16-bit bands one after the other", advice="Interleave them")
        # Pillow keeps a fourth band only if it is said to be alpha (2), by which OpenCV multiplies
        # 8-bit colours; from premultiplied ones (1) Pillow takes the alpha out again.
        fourth = tags.get("ExtraSamples", (0,))
        raw = fourth == (0,) or (channels == 4 and (deep or fourth == (1,)))
        if _is_rgb_of_four(tags) and raw:
            if tags.get("Compression") != 1:
                _open(stream).load()  # OpenCV does not notice damage
            return _read_opencv(content, channels)
        picture = _open(stream)
        if picture.mode in ("I", "F"):  # 32 bits
            raise DataError(f"has pixels of type {picture.mode!r}", advice=_WHAT)
        if ";16" in f"{picture.mode} {picture.tile}" and picture.mode != "CMYK":
            picture.load()
            return _read_opencv(content, channels, tags.get("PhotometricInterpretation") == 0)
        picture.load()  # Pillow turns a TIFF itself, then
        turn = _TURNS.get(_orientation(picture)) if upright else None
        picture.info.pop("transparency", None)
        if channels == 3 and picture.mode != "RGB":  # else it would be copied
            picture = picture.convert("RGB")
        return np.asarray(picture if turn is None else picture.transpose(turn))


def _orientation(picture: Image.Image) -> int:
    """Return the EXIF orientation, 1 where none can be read, whatever type and other fields are."""
    with suppress(Exception):
        value = picture.getexif().get(ExifTags.Base.Orientation, 1)
        return int(max(value) if isinstance(value, bytes | tuple) else value)
    return 1


def _read_opencv(content: bytes, channels: int, inverted: bool = False) -> np.ndarray:
    """Return (H, W, channels) uint8, upright; inverted: white is zero."""
    how = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH if channels == 3 else cv2.IMREAD_UNCHANGED
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), how)
    if pixels is None:
        raise ValueError("damaged, or of a kind that OpenCV does not read")
    if pixels.ndim == 2:
        pixels = cv2.cvtColor(~pixels if inverted else pixels, cv2.COLOR_GRAY2RGB)
    else:
        blue = pixels[..., 0].copy()  # in place: a tile has 144 MB
        pixels[..., 0], pixels[..., 2] = pixels[..., 2], blue
    if pixels.dtype == np.uint8:
        return pixels
    bits = int(pixels.max()).bit_length()
    return (pixels >> max(0, bits + bits % 2 - 8)).astype(np.uint8)


def read_labels(file: Traversable) -> np.ndarray:
    """Read a greyscale or palette picture of up to 8 bits as (H, W) uint8: indices, not colours.

    Raises DataError for other types, and for what is no PNG: a JPEG changes class numbers.
    """
    content = read_bytes(file, FILE_LIMIT)
    advice = "Convert it to an 8-bit PNG whose pixel values are class numbers"
    with _decoding(file):
        picture = _open(io.BytesIO(content))
        if picture.format != "PNG":  # others lose or stretch class numbers
            raise DataError(f"is a {picture.format}, and no PNG", advice=advice)
        if picture.mode not in ("1", "L", "P"):
            problem = "labels are greyscale or palette indices of up to 8 bits"
            raise DataError(f"has pixels of type {picture.mode!r}; {problem}", advice=advice)
        labels = np.asarray(picture).astype(np.uint8)
        if content[24:26] in (b"\2\0", b"\4\0"):
            labels //= 255 // (2 ** content[24] - 1)  # Pillow stretches greys of 2 and 4 bits
        return labels


def label_values(maps: Iterable[Traversable], named: bool = False) -> set[int]:
    """Return the values of label maps but 255; those that cannot be read are passed over.

    named: something says which classes there are. Raises DataError for masks, as many tools write
    them: of 0 and 255 alone, or else, where classes are not named, of other greys. 255 is ignored.
    """
    values, file = set(), None
    for file in maps:
        with suppress(DataError):  # raised again when it is used
            values.update(np.unique(read_labels(file)).tolist())
    if len(values) == 2 and IGNORE in values:
        problem = f"holds {min(values)} and {IGNORE} alone, as all label maps; {IGNORE} is ignored"
        raise DataError(problem, file=file, advice="Number the classes 0, 1, …")
    largest = max(values - {IGNORE}, default=0)
    greys = (len(values) <= 4 and largest >= 64) or len(values) > 200
    if IGNORE in values and not named and greys:
        problem = f"is one of label maps of up to {largest}, and {IGNORE}, which is ignored: masks?"
        raise DataError(problem, file=file, advice="Number the classes 0, 1, …")
    return values - {IGNORE}


def picture_size(file: Traversable) -> tuple[int, int]:
    """Return height and width of a picture as it is shown, from its header. Raises DataError."""
    with _decoding(file), file.open("rb") as stream:
        tags = _tiff_tags(stream)
        width, height = tags.get("ImageWidth"), tags.get("ImageLength")
        orientation = tags.get("Orientation")
        if not tags:
            picture = _open(stream)
            width, height = picture.size
            orientation = _orientation(picture)
        return (width, height) if orientation in (5, 6, 7, 8) else (height, width)


def has_infrared(file: Traversable) -> bool:
    """Return whether this is an RGB TIFF whose fourth band is not alpha. Raises DataError."""
    with _decoding(file), file.open("rb") as stream:
        tags = _tiff_tags(stream)
        return _is_rgb_of_four(tags) and tags.get("ExtraSamples", (0,)) == (0,)


def _decoding(file: Traversable) -> AbstractContextManager[None]:
    return naming(file, "cannot be decoded", _INTACT)


def _open(stream: BinaryIO) -> Image.Image:
    """Read a picture's header. Raises DataError for too many pixels and other formats."""
    try:
        picture = Image.open(stream, formats=_FORMATS)
    except UnidentifiedImageError:
        problem = "is not a picture in a format that is read here"
        raise DataError(problem, advice=f"{_INTACT}. {_WHAT}") from None
    _check_area(*picture.size)
    return picture


def _check_area(width: int, height: int) -> None:
    if height * width > MOST_PIXELS:
        problem = f"is {width:,} x {height:,} pixels, more than {MOST_PIXELS / 1e6:.0f} million"
        raise DataError(problem, advice="Cut it into pieces, or shrink it")


def _tiff_tags(stream: BinaryIO) -> dict[str, Any]:
    """Return the tags of a TIFF's first page by name; none for another format."""
    header, tags = stream.read(8), {}
    if header.startswith(_TIFF):
        header += stream.read(8) if 43 in header[2:4] else b""  # BigTIFF
        directory = ImageFileDirectory_v2(header)
        stream.seek(directory.next)
        directory.load(stream)
        tags = directory.named()
        _check_area(tags["ImageWidth"], tags["ImageLength"])
    stream.seek(0)
    return tags


def _is_rgb_of_four(tags: Mapping[str, Any]) -> bool:
    return (tags.get("PhotometricInterpretation"), tags.get("SamplesPerPixel")) == (2, 4)


# ---- checks and sizes ----------------------------------------------------------------------------


def check_size(labels: np.ndarray, size: tuple[int, int], file: Traversable) -> None:
    """Raise DataError naming the label file unless it has its image's (height, width)."""
    if labels.shape[:2] != size:
        height, width = labels.shape[:2]
        problem = f"is {width} x {height} pixels, its image is {size[1]} x {size[0]}"
        raise DataError(problem, file=file, advice=_INTACT)


def check_classes(labels: np.ndarray, n_classes: int, file: Traversable) -> None:
    """Raise DataError naming the label file if a value is neither a class nor 255."""
    wrong = (labels >= n_classes) & (labels != IGNORE)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        value = labels[row, column]
        problem = f"value {value} at row {row}, column {column} is none of the {n_classes} classes"
        advice = f"Use 0-{n_classes - 1}, and {IGNORE} for pixels to ignore"
        if value == n_classes and labels.min() > 0:
            advice += "; these seem to count from 1"
        raise DataError(problem, file=file, advice=advice)


def resized(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a picture (H, W, C) uint8 at (height, width).

    Areas are averaged where it becomes smaller; bilinear where larger.
    """
    smaller = size[0] <= picture.shape[0] and size[1] <= picture.shape[1]
    how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return cv2.resize(picture, size[::-1], interpolation=how)


def rescale_iic(image: np.ndarray, scale: float) -> np.ndarray:
    """Rescale a (H, W, C) uint8 image by ``scale`` as IIC's training code does; uint8.

    Bilinear without antialiasing (cv2 INTER_LINEAR with fx = fy = scale), so below one half some
    source pixels have no weight at all: another resize gives other pictures. In float32, then
    *truncated* to uint8 as IIC does before colour jitter; IIC's test path keeps the fraction, a
    difference below one grey level. Returns round(H * scale) x round(W * scale), ties to even.
    """
    return cv2.resize(image.astype(np.float32), None, fx=scale, fy=scale).astype(np.uint8)


def rescale_labels(labels: np.ndarray, scale: float) -> np.ndarray:
    """Rescale (H, W) uint8 labels by ``scale``, nearest neighbour as cv2 rounds it (IIC code)."""
    return cv2.resize(labels, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
