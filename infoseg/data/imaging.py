"""Reading pictures strictly and rescaling them the way the published code does.

Every reader raises DataError naming the file, for anything that is not a complete 8-bit picture.
Files are read through ``Traversable``, from a folder or straight from an archive.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from importlib.resources.abc import Traversable
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import tifffile
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from infoseg.data.raw import not_found, read_all
from infoseg.errors import DataError

FILE_LIMIT = 2**30
"""Bytes that a file of a picture may have; what Pillow accepts fits uncompressed."""

_FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "GIF", "JPEG2000", "PPM", "WEBP")
"""Formats that Pillow decodes itself, whatever a file's name says; EPS it hands to Ghostscript."""

_ELSEWHERE = {"is_ome": False, "is_mmstack": False, "is_ndtiff": False}
"""Kinds of TIFF that name other files, which tifffile would open, ``../`` included."""

_RGB_SOURCES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"}
"""Pillow modes with at most 8 bits per channel; converting the others to RGB would clip them."""

_REPLACE = "Replace the file by an intact copy, or prepare with on_bad_input=skip to leave it out"


def _decoded(file: Traversable, decode: Callable[[bytes, Image.Image], np.ndarray]) -> np.ndarray:
    """Return ``decode(content, picture)``; the picture is opened but not yet decoded."""
    content = read_all(file, FILE_LIMIT)
    try:
        return decode(content, Image.open(io.BytesIO(content), formats=_FORMATS))
    except UnidentifiedImageError:
        raise DataError(
            "is not a picture in a format that is read here", file=file, advice=_REPLACE
        ) from None
    except _WrongPixels as error:
        raise DataError(str(error), file=file, advice=error.advice) from None
    # A damaged picture fails in many ways: OSError, SyntaxError, ValueError, struct.error, ...
    except Exception as error:
        raise DataError(f"cannot be decoded ({error})", file=file, advice=_REPLACE) from None


class _WrongPixels(Exception):
    def __init__(self, problem: str, advice: str) -> None:
        self.advice = advice
        super().__init__(problem)


def read_rgb(file: Traversable, *, upright: bool = False) -> np.ndarray:
    """Read a picture as (H, W, 3) uint8 RGB; greyscale, palette and CMYK are converted.

    upright: apply the EXIF orientation. Off for COCO, whose label maps and polygons refer to the
    pixels as stored. Alpha is dropped. Raises DataError for more than 8 bits per channel.
    """

    def decode(content: bytes, picture: Image.Image) -> np.ndarray:
        if picture.mode not in _RGB_SOURCES:
            raise _WrongPixels(
                f"has pixels of type {picture.mode!r}, more than 8 bits per channel",
                "Convert it to 8 bits first",
            )
        turned = upright and picture.getexif().get(ExifTags.Base.Orientation, 1) != 1
        # A JPEG that ends as it should: bytes FF D9 occur nowhere else in its compressed pixels.
        if not turned and _is(picture, "JPEG", "RGB") and content.endswith(b"\xff\xd9"):
            pixels = _fast(picture, 3, lambda: imagecodecs.jpeg8_decode(content))
            if pixels is not None:
                return pixels
        picture.load()
        if turned:
            picture = ImageOps.exif_transpose(picture)
        return np.asarray(picture if picture.mode == "RGB" else picture.convert("RGB"))

    return _decoded(file, decode)


def read_labels(file: Traversable) -> np.ndarray:
    """Read an 8-bit greyscale or palette PNG as (H, W) uint8: the stored indices, not colours."""

    def decode(content: bytes, picture: Image.Image) -> np.ndarray:
        if picture.mode not in {"L", "P"}:
            raise _WrongPixels(
                f"has pixels of type {picture.mode!r}; labels are 8-bit greyscale or palette "
                "indices",
                "Convert it to an 8-bit PNG whose pixel values are class numbers",
            )
        # Eight bits and grey in the header: Pillow stretches fewer bits to the range of eight.
        if _is(picture, "PNG", "L") and content[24:26] == b"\x08\x00":
            pixels = _fast(picture, None, lambda: imagecodecs.png_decode(content))
            if pixels is not None:
                return pixels
        return np.asarray(picture)

    return _decoded(file, decode)


def _is(picture: Image.Image, kind: str, mode: str) -> bool:
    return picture.format == kind and picture.mode == mode


def _fast(
    picture: Image.Image, channels: int | None, decode: Callable[[], np.ndarray]
) -> np.ndarray | None:
    """Decode with imagecodecs, a third faster than Pillow and with the same pixels.

    None where it fails: then Pillow decides, whose errors are the stricter and clearer ones.
    """
    try:
        pixels = decode()
    except Exception:
        return None
    shape = (picture.height, picture.width, *([channels] if channels else []))
    return pixels if pixels.shape == shape and pixels.dtype == np.uint8 else None


def read_tiff(file: Traversable, channels: int) -> np.ndarray:
    """Read an 8-bit TIFF of ``channels`` bands as (H, W, channels) uint8, interleaved or planar.

    Takes the memory of the pixels; from an archive also that of the member. Other files that a
    TIFF says it continues in are not read.
    """
    try:
        if isinstance(file, Path):
            pixels = _first_series(file)
        else:
            # Closed, because tifffile's objects keep it until the garbage collector comes.
            with io.BytesIO(read_all(file, FILE_LIMIT)) as content:
                pixels = _first_series(content)
    except _WrongPixels as error:
        raise DataError(str(error), file=file, advice=error.advice) from None
    except DataError:
        raise
    except FileNotFoundError:
        raise not_found(file) from None
    # A damaged TIFF fails in many ways: its own errors, struct, zlib, numpy, missing codecs.
    except Exception as error:
        raise DataError(f"cannot be decoded ({error})", file=file, advice=_REPLACE) from None
    if pixels.ndim == 3 and pixels.shape[2] != channels and pixels.shape[0] == channels:
        pixels = np.moveaxis(pixels, 0, 2)
    if pixels.ndim != 3 or pixels.shape[2] != channels or pixels.dtype != np.uint8:
        raise DataError(
            f"has shape {pixels.shape} and type {pixels.dtype} instead of {channels} bands uint8",
            file=file,
            advice=_REPLACE,
        )
    return np.ascontiguousarray(pixels)


def _first_series(source: Path | io.BytesIO) -> np.ndarray:
    with tifffile.TiffFile(source, **_ELSEWHERE) as tiff:
        series = tiff.series[0]
        claimed = series.size * series.dtype.itemsize
        if claimed > FILE_LIMIT:  # a file of two megabytes can unpack to two gigabytes
            raise _WrongPixels(
                f"says that it has {claimed} bytes of pixels, more than {FILE_LIMIT}",
                "Is it the right file? Cut a larger picture into tiles",
            )
        return series.asarray()


def check_same_size(labels: np.ndarray, image: np.ndarray, file: Traversable) -> None:
    """Raise DataError naming the label file unless both have the same height and width."""
    check_size(labels, image.shape[:2], file)


def check_size(labels: np.ndarray, size: tuple[int, int], file: Traversable) -> None:
    """Raise DataError naming the label file unless it has its image's (height, width)."""
    if labels.shape[:2] != size:
        raise DataError(
            f"is {labels.shape[1]} x {labels.shape[0]} pixels, its image is {size[1]} x {size[0]}",
            file=file,
            advice=_REPLACE,
        )


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
    resized = cv2.resize(
        image.astype(np.float32), _vanishing(image, scale), fx=scale, fy=scale,
        interpolation=cv2.INTER_LINEAR,
    )  # fmt: skip
    return resized.reshape(*resized.shape[:2], image.shape[2]).astype(np.uint8)


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


def fit_shorter_side(size: tuple[int, int], shorter_side: int | None) -> float:
    """Return the factor that brings the shorter of (height, width) down to a length; at most 1."""
    return 1.0 if shorter_side is None else min(1.0, shorter_side / min(size))


def check_scale(scale: float) -> None:
    """Raise ValueError unless 0 < scale <= 1."""
    if not 0 < scale <= 1:
        raise ValueError(f"scale must be in (0, 1], not {scale}")
