"""The one reader for pictures and label maps, and the published ways to rescale them.

Pillow decodes. TIFFs that it has no mode for (RGB and infrared; 16 bits of colour) are read by
tifffile, or by OpenCV where tifffile alone lacks the compression. Files are read through
``Traversable``: from a folder or straight from an archive.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
import tifffile
from PIL import ExifTags, Image, UnidentifiedImageError

from infoseg.data.archives import names_in, not_found, read_bytes
from infoseg.errors import DataError

#: Names of pictures that a folder is searched for; what a file is, its content says.
ENDINGS = (".jpeg", ".jpg", ".png", ".tif", ".tiff")
#: Bytes that a picture's file may have.
FILE_LIMIT = 2**30
#: Pixels a picture may have: 23,000 x 23,000, 1.6 GB of memory in three channels.
MOST_PIXELS = 23_000**2
#: Formats that Pillow decodes itself, whatever a file's name says; EPS it hands to Ghostscript.
_FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "GIF", "JPEG2000", "PPM", "WEBP")
#: Pillow modes with at most 8 bits per channel.
_EIGHT_BITS = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"}
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
#: Compressions of TIFFs that tifffile decodes without imagecodecs: none, deflate, PackBits, LZMA.
_TIFFFILE_DECODES = {1, 8, 32946, 32773, 34925}
#: Not as OME and the like, which name other files that tifffile would open, ``../`` included.
_ALONE = {"is_ome": False, "is_mmstack": False, "is_ndtiff": False}
_WHAT = "Save it as a JPEG, PNG or TIFF of 8 or 16 bits"
_INTACT = "Replace the file by an intact copy, or leave it out with on_bad_input=skip"

Image.MAX_IMAGE_PIXELS = None  # pictures are held against MOST_PIXELS before they are decoded
# What they find wrong, the error says.
cv2.utils.logging.setLogLevel(0)
logging.getLogger("tifffile").setLevel(logging.CRITICAL)


def files_by_stem(folder: Traversable, endings: Collection[str]) -> dict[str, Traversable]:
    """Return the files of a folder by their name without its ending, sorted by it.

    Hidden ones are left out. Raises DataError for a folder that cannot be listed, and for two files
    that differ in their endings alone.
    """
    files: dict[str, Traversable] = {}
    for name in sorted(map(Path, names_in(folder)), key=lambda name: (name.stem, name.name)):
        if name.suffix.lower() not in endings or not (folder / name.name).is_file():
            continue
        file = files.setdefault(name.stem, folder / name.name)
        if file.name != name.name:
            raise DataError(
                f"has the same name as {file.name}",
                file=folder / name.name,
                advice="Rename one of the two",
            )
    return files


def find_pictures(source: Path) -> list[Path]:
    """Return the picture files of a folder, sorted by name, or a single file.

    Raises DataError for a missing or empty folder, and for two files that differ in their endings
    alone, since results are named after pictures.
    """
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise DataError("not found", file=source, advice="Check the path of the pictures")
    pictures = files_by_stem(source, ENDINGS)
    if not pictures:
        raise DataError(
            "holds no JPEG, PNG or TIFF picture",
            file=source,
            advice="Name the folder that the pictures lie in; folders inside it are not searched",
        )
    return list(pictures.values())


# ---- reading -------------------------------------------------------------------------------------


@contextmanager
def _decoding(file: Traversable) -> Iterator[None]:
    """Turn whatever goes wrong in decoding into a DataError that names the file."""
    try:
        yield
    except DataError as error:
        raise DataError(error.problem, file=file, advice=error.advice) from None
    except FileNotFoundError:
        raise not_found(file) from None
    except UnidentifiedImageError:
        problem = "is not a picture in a format that is read here"
        raise DataError(problem, file=file, advice=_INTACT) from None
    # A damaged picture fails in many ways: OSError, SyntaxError, struct.error, zlib.error, ...
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"cannot be decoded ({reason})", file=file, advice=_INTACT) from None


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
            raise DataError("has no infrared band", advice="Use TIFFs of four bands, or RGB alone")
        else:
            pixels = _read_pillow(content, upright)
    return np.ascontiguousarray(pixels)


def read_labels(file: Traversable) -> np.ndarray:
    """Read an 8-bit greyscale or palette picture as (H, W) uint8: stored indices, not colours."""
    content = read_bytes(file, FILE_LIMIT)
    with _decoding(file):
        picture = Image.open(io.BytesIO(content), formats=_FORMATS)
        _check_area(*picture.size)
        if picture.mode not in ("L", "P"):
            raise DataError(
                f"has pixels of type {picture.mode!r}; labels are 8-bit greyscale or palette "
                "indices",
                advice="Convert it to an 8-bit PNG whose pixel values are class numbers",
            )
        return np.asarray(picture)


def picture_size(file: Traversable) -> tuple[int, int]:
    """Return height and width of a picture as it is shown, from its header. Raises DataError."""
    with _decoding(file), file.open("rb") as stream, _tiff_page(stream) as page:
        if page is not None:
            width, height, turn = page.imagewidth, page.imagelength, _tiff_orientation(page)
        else:
            picture = Image.open(stream, formats=_FORMATS)
            (width, height), turn = picture.size, _orientation(picture)
        _check_area(width, height)
    return (width, height) if turn >= 5 else (height, width)


def has_infrared(file: Traversable) -> bool:
    """Say whether this is an RGB TIFF of four bands the last of which is not said to be alpha.

    Raises DataError for a file that cannot be read.
    """
    with _decoding(file), file.open("rb") as stream, _tiff_page(stream) as page:
        if page is None:
            return False
        return page.photometric == 2 and page.samplesperpixel == 4 and not _has_alpha(page)


@contextmanager
def _tiff_page(stream: BinaryIO) -> Iterator[tifffile.TiffPage | None]:
    """Open the first page of a TIFF; None for another format."""
    start = stream.read(4)
    stream.seek(0)
    if start not in _TIFF:
        yield None
        return
    with tifffile.TiffFile(stream, **_ALONE) as tiff:
        yield tiff.pages[0]


def _has_alpha(page: tifffile.TiffPage) -> bool:
    return bool({1, 2} & set(page.extrasamples))


def _check_area(width: int, height: int) -> None:
    if height * width > MOST_PIXELS:
        raise DataError(
            f"is {width:,} x {height:,} pixels, more than {MOST_PIXELS / 1e6:.0f} million",
            advice="Cut it into pieces, or shrink it",
        )


def _read_pillow(content: bytes, upright: bool) -> np.ndarray:
    """Return (H, W, 3) uint8; Pillow itself turns TIFFs upright."""
    picture = Image.open(io.BytesIO(content), formats=_FORMATS)
    _check_area(*picture.size)
    if picture.mode not in _EIGHT_BITS and not picture.mode.startswith("I;16"):
        raise DataError(f"has pixels of type {picture.mode!r}", advice=_WHAT)
    turn = _orientation(picture) if upright and picture.format != "TIFF" else 1
    picture.load()
    if picture.format == "PNG" and content[24:26] == b"\x10\x02":  # of 16 bits, Pillow keeps 8
        pixels = cv2.cvtColor(_read_opencv(content), cv2.COLOR_BGR2RGB)
    elif picture.mode.startswith("I;16"):
        pixels = np.asarray(picture)[..., None].repeat(3, 2)
    else:
        if picture.mode == "P" and "transparency" in picture.info:
            picture = picture.convert("RGBA")
        pixels = np.asarray(picture if picture.mode == "RGB" else picture.convert("RGB"))
    return _turned(_eight_bits(pixels), turn)


def _read_tiff(content: bytes, channels: int) -> np.ndarray:
    with io.BytesIO(content) as stream, _tiff_page(stream) as page:
        _check_area(page.imagewidth, page.imagelength)
        bands, deep = page.samplesperpixel, page.bitspersample == 16
        if bands > 4 or (channels == 4 and bands != 4):
            raise DataError(
                f"has {bands} band{'s' * (bands > 1)} instead of {channels}",
                advice="Use TIFFs of four bands, red, green, blue and infrared"
                if channels == 4
                else "Save the three to look at as an RGB picture",
            )
        plain = page.photometric in (0, 1, 2)  # grey of either direction, RGB
        infrared = bands == 4 and (channels == 4 or not _has_alpha(page))
        if not plain or not (deep or infrared):
            return _read_pillow(content, upright=True)
        turn, white_is_zero = _tiff_orientation(page), page.photometric == 0
        if page.compression in _TIFFFILE_DECODES:
            pixels = page.asarray()
            pixels = np.moveaxis(pixels, 0, 2) if page.axes == "SYX" else pixels
        elif _has_alpha(page) or (bands > 1 and page.photometric != 2):
            raise DataError("has bands of a kind that is read uncompressed only", advice=_WHAT)
        else:
            if page.planarconfig == 1:
                Image.open(io.BytesIO(content)).load()  # OpenCV lets damaged strips pass
            pixels = _read_opencv(content)
            if bands > 1:
                code = cv2.COLOR_BGRA2RGBA if bands == 4 else cv2.COLOR_BGR2RGB
                cv2.cvtColor(pixels, code, pixels)
    if pixels.dtype not in (np.uint8, np.uint16):
        raise DataError(f"has pixels of type {pixels.dtype}", advice=_WHAT)
    pixels = _turned(_eight_bits(~pixels if white_is_zero else pixels), turn)
    if channels == 4:
        return pixels
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    return pixels[..., :3] if bands >= 3 else pixels[..., :1].repeat(3, 2)


def _read_opencv(content: bytes) -> np.ndarray:
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ValueError("OpenCV cannot read it")
    return pixels


def _orientation(picture: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 where EXIF is damaged or says something else."""
    try:
        return _known(picture.getexif().get(ExifTags.Base.Orientation))
    except Exception:  # damaged EXIF fails in many ways, and the picture may be whole
        return 1


def _tiff_orientation(page: tifffile.TiffPage) -> int:
    tag = page.tags.get("Orientation")
    return 1 if tag is None else _known(tag.value)


def _known(orientation: object) -> int:
    return int(orientation) if orientation in range(1, 9) else 1


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn (H, W, ...) pixels upright, as an orientation of EXIF or TIFF says."""
    if orientation >= 5:  # rows are columns
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def _eight_bits(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype == np.uint8:
        return pixels
    bits = int(pixels.max()).bit_length() if pixels.size else 0
    bits = max(8, bits + bits % 2)
    return (pixels >> (bits - 8)).astype(np.uint8)


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
    height, width = size
    if picture.shape[:2] == size:
        return picture
    smaller = height <= picture.shape[0] and width <= picture.shape[1]
    how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return cv2.resize(picture, (width, height), interpolation=how)


def rescale_iic(image: np.ndarray, scale: float) -> np.ndarray:
    """Rescale a (H, W, C) uint8 image by ``scale`` as IIC's training code does; uint8.

    Bilinear without antialiasing (cv2 INTER_LINEAR with fx = fy = scale), so below one half some
    source pixels have no weight at all: another resize gives other pictures. In float32, then
    *truncated* to uint8 as IIC does before colour jitter; IIC's test path keeps the fraction, a
    difference below one grey level. The result is round(H * scale) x round(W * scale), ties to
    even, at least 1 (assumption: cv2 fails on pictures that vanish).
    """
    if scale == 1:
        return image
    small = cv2.resize(
        image.astype(np.float32), _vanishing(image, scale), fx=scale, fy=scale,
        interpolation=cv2.INTER_LINEAR,
    )  # fmt: skip
    return small.reshape(*small.shape[:2], image.shape[2]).astype(np.uint8)


def rescale_labels(labels: np.ndarray, scale: float) -> np.ndarray:
    """Rescale (H, W) uint8 labels by ``scale``, nearest neighbour as cv2 rounds it (IIC code)."""
    if scale == 1:
        return labels
    return cv2.resize(
        labels, _vanishing(labels, scale), fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST
    )


def _vanishing(pixels: np.ndarray, scale: float) -> tuple[int, int] | None:
    """Return an explicit size only where cv2's own rounding would give zero pixels."""
    height, width = (round(side * scale) for side in pixels.shape[:2])
    return None if height and width else (max(width, 1), max(height, 1))
