"""The one reader for pictures and label maps, and the published ways to rescale them.

Pillow decodes; tifffile TIFFs of 16 bits or with infrared, where it can without imagecodecs; OpenCV
other colours of 16 bits. Files are read through ``Traversable``: from a folder or straight from an
archive.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
import tifffile
from PIL import ExifTags, Image, UnidentifiedImageError

from infoseg.data.archives import names_in, naming, read_bytes
from infoseg.errors import DataError

#: Names of pictures that a folder is searched for; what a file is, its content says.
ENDINGS = (".jpeg", ".jpg", ".png", ".tif", ".tiff")
#: Bytes that a picture's file may have.
FILE_LIMIT = 2**30
#: Pixels a picture may have: 23,000 x 23,000, 1.6 GB of memory in three channels.
MOST_PIXELS = 23_000**2
#: Formats that Pillow decodes itself, whatever a file's name says; EPS it hands to Ghostscript.
_FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "GIF", "JPEG2000", "PPM", "WEBP")
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
#: Compressions of TIFFs that tifffile decodes without imagecodecs: none, deflate, PackBits, LZMA.
_TIFFFILE_DECODES = {1, 8, 32946, 32773, 34925}
#: Not as OME and the like, which name other files that tifffile would open, ``../`` included.
_ALONE = {"is_ome": False, "is_mmstack": False, "is_ndtiff": False}
_WHAT = "Save it as a JPEG, PNG or TIFF of 8 or 16 bits"
_FOUR = "Use TIFFs of four bands, red, green, blue and infrared, or RGB alone"
_INTACT = "Replace the file by an intact copy, or leave it out with on_bad_input=skip"

Image.MAX_IMAGE_PIXELS = None  # pictures are held against MOST_PIXELS before they are decoded
# The errors that are raised say what these two would log.
cv2.utils.logging.setLogLevel(0)
logging.getLogger("tifffile").setLevel(logging.CRITICAL)


def files_by_stem(folder: Traversable, endings: Collection[str]) -> dict[str, Traversable]:
    """Return the files of a folder by their name without its ending, sorted by it.

    Hidden ones are left out. Raises DataError for a folder that is missing or cannot be listed or
    holds no such file, and for two files that differ in their endings alone.
    """
    if not folder.is_dir():
        raise DataError("folder not found", file=folder, advice="Create it, or check the path")
    files: dict[str, Traversable] = {}
    for name in sorted(map(Path, names_in(folder)), key=lambda name: (name.stem, name.name)):
        if name.suffix.lower() in endings and (folder / name.name).is_file():
            file = files.setdefault(name.stem, folder / name.name)
            if file.name != name.name:
                raise DataError(
                    f"has the same name as {file.name}",
                    file=folder / name.name,
                    advice="Rename one of the two",
                )
    if not files:
        raise DataError(
            f"holds no file ending in {', '.join(endings)}",
            file=folder,
            advice="Put some there; folders inside it are not searched",
        )
    return files


def find_pictures(source: Path) -> list[Path]:
    """Return the picture files of a folder, sorted by name, or a single file.

    Raises DataError as ``files_by_stem`` does: results are named after pictures.
    """
    return [source] if source.is_file() else list(files_by_stem(source, ENDINGS).values())


# ---- reading -------------------------------------------------------------------------------------


def read_picture(file: Traversable, channels: int = 3, *, upright: bool = True) -> np.ndarray:
    """Read a picture as (H, W, channels) uint8.

    channels: 3 gives RGB: grey is repeated, CMYK and palettes are converted, alpha and infrared
    left out. 4 gives RGB and infrared, which only a TIFF of four bands has. upright: turn a picture
    as its EXIF orientation says; off for COCO, whose maps and polygons refer to pixels as stored.

    Of 16 bits, those are kept that the picture uses: values up to 4095 count as 12 bits, up to
    65535 as 16 (steps of two bits), and the 8 highest of them remain. A file of several pages or
    frames is its first. Raises DataError naming the file for anything else.
    """
    content = read_bytes(file, FILE_LIMIT)
    with _decoding(file):
        if content.startswith(_TIFF):
            pixels = _read_tiff(content, channels)
        elif channels != 3:
            raise DataError("has no infrared band", advice=_FOUR)
        else:
            pixels = _read_pillow(content, channels, upright)
    return np.ascontiguousarray(pixels)


def read_labels(file: Traversable) -> np.ndarray:
    """Read an 8-bit greyscale or palette picture as (H, W) uint8: stored indices, not colours."""
    content = read_bytes(file, FILE_LIMIT)
    with _decoding(file):
        picture = _open(io.BytesIO(content))
        if picture.mode not in ("L", "P"):
            problem = "labels are 8-bit greyscale or palette indices"
            raise DataError(
                f"has pixels of type {picture.mode!r}; {problem}",
                advice="Convert it to an 8-bit PNG whose pixel values are class numbers",
            )
        return np.asarray(picture)


def picture_size(file: Traversable) -> tuple[int, int]:
    """Return height and width of a picture as it is shown, from its header. Raises DataError."""
    with _decoding(file), file.open("rb") as stream, _tiff_page(stream) as page:
        if page is None:
            picture = _open(stream)
            (width, height), orientation = picture.size, _orientation(picture)
        else:
            width, height = page.imagewidth, page.imagelength
            orientation = page.tags.valueof("Orientation")
    return (width, height) if orientation in (5, 6, 7, 8) else (height, width)


def has_infrared(file: Traversable) -> bool:
    """Say whether this is an RGB TIFF of four bands the last of which is not said to be alpha.

    Raises DataError for a file that cannot be read.
    """
    with _decoding(file), file.open("rb") as stream, _tiff_page(stream) as page:
        four = page is not None and (page.photometric, page.samplesperpixel) == (2, 4)
        return four and not _has_alpha(page)


def _decoding(file: Traversable) -> AbstractContextManager[None]:
    return naming(file, "cannot be decoded", _INTACT)


def _open(stream: BinaryIO) -> Image.Image:
    try:
        picture = Image.open(stream, formats=_FORMATS)
    except UnidentifiedImageError:
        problem = "is not a picture in a format that is read here"
        raise DataError(problem, advice=_INTACT) from None
    _check_area(*picture.size)
    return picture


@contextmanager
def _tiff_page(stream: BinaryIO) -> Iterator[tifffile.TiffPage | None]:
    """Open the first page of a TIFF; None for another format."""
    start = stream.read(4)
    stream.seek(0)
    if start not in _TIFF:
        yield None
        return
    with tifffile.TiffFile(stream, **_ALONE) as tiff:
        page = tiff.pages[0]
        _check_area(page.imagewidth, page.imagelength)
        yield page


def _check_area(width: int, height: int) -> None:
    if height * width > MOST_PIXELS:
        raise DataError(
            f"is {width:,} x {height:,} pixels, more than {MOST_PIXELS / 1e6:.0f} million",
            advice="Cut it into pieces, or shrink it",
        )


def _read_pillow(content: bytes, channels: int, upright: bool) -> np.ndarray:
    """Return (H, W, channels) uint8, upright if it is a TIFF."""
    picture = _open(io.BytesIO(content))
    deep_grey, deep_colour = picture.mode.startswith("I;16"), "'RGB;16" in str(picture.tile)
    if picture.mode in ("I", "F"):  # 32 bits
        raise DataError(f"has pixels of type {picture.mode!r}", advice=_WHAT)
    orientation = _orientation(picture) if upright and picture.format != "TIFF" else 1
    picture.load()
    if deep_colour or channels == 4:  # Pillow keeps 8 bits, and no fourth band
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        pixels = pixels[..., [2, 1, 0, 3][:channels]]
    elif deep_grey:
        pixels = np.asarray(picture)[..., None].repeat(3, 2)
    else:
        if picture.mode == "P" and "transparency" in picture.info:
            picture = picture.convert("RGBA")
        pixels = np.asarray(picture.convert("RGB"))
    return _turned(_eight_bits(pixels), orientation)


def _read_tiff(content: bytes, channels: int) -> np.ndarray:
    with io.BytesIO(content) as stream, _tiff_page(stream) as page:
        bands = page.samplesperpixel
        if bands > 4 or (channels == 4 and bands != 4):
            raise DataError(
                f"has {bands} band{'s' * (bands > 1)} instead of {channels}",
                advice=_FOUR if channels == 4 else "Save the three to look at as an RGB picture",
            )
        plain, alpha = page.photometric in (0, 1, 2), _has_alpha(page)  # plain: grey or RGB
        decoded = plain and page.compression in _TIFFFILE_DECODES
        if channels == 4 and not decoded and (alpha or page.photometric != 2):
            raise DataError("has bands of a kind that is read uncompressed only", advice=_FOUR)
        special = page.bitspersample == 16 or channels == 4 or (bands == 4 and not alpha)
        if not decoded or not special:
            return _read_pillow(content, channels, upright=True)
        pixels = page.asarray()
        if pixels.dtype not in (np.uint8, np.uint16):
            raise DataError(f"has pixels of type {pixels.dtype}", advice=_WHAT)
        pixels = np.moveaxis(pixels, 0, 2) if page.axes == "SYX" else pixels
        pixels = ~pixels if page.photometric == 0 else pixels  # white is zero
        pixels = _turned(_eight_bits(pixels), page.tags.valueof("Orientation"))
    if bands < 3:
        return pixels.reshape(*pixels.shape[:2], -1)[..., :1].repeat(3, 2)
    return pixels[..., :channels]


def _has_alpha(page: tifffile.TiffPage) -> bool:
    return bool({1, 2} & set(page.extrasamples))


def _orientation(picture: Image.Image) -> object:
    try:
        return picture.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # damaged EXIF fails in many ways, and the picture may be whole
        return 1


def _turned(pixels: np.ndarray, orientation: object) -> np.ndarray:
    """Turn (H, W, ...) pixels upright, as an orientation 1 to 8 says; others say nothing."""
    if orientation in (5, 6, 7, 8):  # rows are columns
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def _eight_bits(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype == np.uint8:
        return pixels
    bits = int(pixels.max()).bit_length()
    return (pixels >> max(0, bits + bits % 2 - 8)).astype(np.uint8)


# ---- sizes ---------------------------------------------------------------------------------------


def check_size(labels: np.ndarray, size: tuple[int, int], file: Traversable) -> None:
    """Raise DataError naming the label file unless it has its image's (height, width)."""
    if labels.shape[:2] != size:
        raise DataError(
            f"is {labels.shape[1]} x {labels.shape[0]} pixels, its image is {size[1]} x {size[0]}",
            file=file,
            advice=_INTACT,
        )


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
    difference below one grey level. The result is round(H * scale) x round(W * scale), ties to
    even, at least 1 (assumption: cv2 fails on pictures that vanish).
    """
    small = _rescaled(image.astype(np.float32), scale, cv2.INTER_LINEAR)
    return small.reshape(*small.shape[:2], image.shape[2]).astype(np.uint8)


def rescale_labels(labels: np.ndarray, scale: float) -> np.ndarray:
    """Rescale (H, W) uint8 labels by ``scale``, nearest neighbour as cv2 rounds it (IIC code)."""
    return _rescaled(labels, scale, cv2.INTER_NEAREST)


def _rescaled(pixels: np.ndarray, scale: float, how: int) -> np.ndarray:
    height, width = (round(side * scale) for side in pixels.shape[:2])
    # A size is given only where cv2's own rounding, with which it maps pixels, would give none.
    size = None if height and width else (max(width, 1), max(height, 1))
    return cv2.resize(pixels, size, fx=scale, fy=scale, interpolation=how)
