"""Pictures as people have them: any format, depth and colour space, to upright 8-bit arrays.

`infoseg.data.imaging` reads what data sets hold, strictly; this reads what lies on a disk.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import tifffile
from PIL import ExifTags, Image, ImageOps

from infoseg.data.folder import files_by_stem
from infoseg.errors import DataError

ENDINGS = {".jpg", ".jpeg", ".png", ".tif", ".tiff"}
TIFF = {".tif", ".tiff"}
#: Pixels a picture may have: 23,000 x 23,000, 1.6 GB of memory in three channels.
MOST_PIXELS = 23_000**2
#: Formats by content, whatever a name ends in; Pillow's others are not what people photograph in.
_FORMATS = ("JPEG", "PNG", "TIFF")
_WHAT = "Save it as a JPEG, PNG or TIFF of 8 or 16 bits"
_INTACT = "Replace it by an intact copy, or take it out of the folder"


def find_pictures(source: Path) -> list[Path]:
    """The picture files of a folder, sorted by name, or a single file.

    Raises DataError for a missing or empty folder, and for two files that differ in their endings
    alone, since results are named after pictures.
    """
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise DataError("not found", file=source, advice="Check the path of the pictures")
    found = files_by_stem(source, ENDINGS)
    if not found:
        inside = any(p.is_dir() for p in source.iterdir())
        raise DataError(
            "holds no JPEG, PNG or TIFF picture",
            file=source,
            advice="Name the folder that the pictures lie in; folders inside it are not searched"
            if inside
            else "Put pictures there",
        )
    return list(found.values())


@contextmanager
def _strictly(file: Path) -> Iterator[None]:
    """Whatever goes wrong in decoding becomes a DataError naming the file."""
    try:
        # The size is checked here, before any pixel is decoded, and against another limit.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            yield
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError("not found", file=file, advice="Check the path") from None
    except MemoryError:
        raise DataError(
            "does not fit into memory", file=file, advice="Cut it into pieces, or shrink it"
        ) from None
    # A damaged picture fails in many ways: OSError, SyntaxError, struct.error, codecs' own, ...
    except Exception as error:
        told = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"cannot be read as a picture ({told})", file=file, advice=_INTACT
        ) from None


def picture_size(file: Path) -> tuple[int, int]:
    """Height and width of a picture as it is shown, from its header. Raises DataError."""
    with _strictly(file):
        if _is_tiff(file):
            with tifffile.TiffFile(file) as tiff:
                page = tiff.pages[0]
                height, width = page.imagelength, page.imagewidth
                turned = _orientation(page) >= 5
        else:
            with _opened(file) as picture:
                width, height = picture.size
                turned = picture.getexif().get(ExifTags.Base.Orientation, 1) >= 5
    if height * width > MOST_PIXELS:
        raise DataError(
            f"is {width:,} x {height:,} pixels, more than {MOST_PIXELS / 1e6:.0f} million",
            file=file,
            advice="Cut it into pieces, or shrink it",
        )
    return (width, height) if turned else (height, width)


def read_picture(file: Path, channels: int = 3) -> np.ndarray:
    """Read a picture as (H, W, channels) uint8, upright as its EXIF or TIFF orientation says.

    channels: 3 gives RGB, for which grey is repeated, CMYK and palettes are converted, and alpha
    and infrared are left out; 4 gives RGB and infrared, which only a TIFF of four bands has.
    Of 16 bits, those are kept that the picture uses: values up to 4095 count as 12 bits, up to
    65535 as 16 (steps of two bits), and the 8 highest of them remain. A file of several pages or
    frames is its first.

    Raises DataError naming the file for anything else: unreadable or truncated, floating point,
    more than 4 bands, or too large.
    """
    picture_size(file)  # refuses what is too large
    with _strictly(file):
        if _is_tiff(file):
            pixels = _read_tiff(file, channels)
        elif channels == 4:
            raise DataError(
                "has no infrared band, which these weights need beside RGB",
                file=file,
                advice="Use TIFFs of four bands, or weights for RGB",
            )
        else:
            pixels = _read_other(file)
    return np.require(pixels, requirements="CW")


def has_infrared(file: Path) -> bool:
    """Whether this is a TIFF of four bands the last of which is not said to be alpha.

    Raises DataError for a file that cannot be read.
    """
    with _strictly(file):
        if not _is_tiff(file):
            return False
        with tifffile.TiffFile(file) as tiff:
            page = tiff.pages[0]
            alpha = {tifffile.EXTRASAMPLE.ASSOCALPHA, tifffile.EXTRASAMPLE.UNASSALPHA}
            rgb = page.photometric == tifffile.PHOTOMETRIC.RGB
            return rgb and page.samplesperpixel == 4 and not alpha & set(page.extrasamples)


def resized(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A picture (H, W, C) uint8 at (height, width), as the preparation of folders resizes: areas
    are averaged where it becomes smaller, bilinear where larger."""
    height, width = size
    if picture.shape[:2] == size:
        return picture
    smaller = height <= picture.shape[0] and width <= picture.shape[1]
    how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return cv2.resize(picture, (width, height), interpolation=how)


def _is_tiff(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@contextmanager
def _opened(file: Path) -> Iterator[Image.Image]:
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = MOST_PIXELS
    try:
        with Image.open(file, formats=_FORMATS) as picture:
            yield picture
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _read_other(file: Path) -> np.ndarray:
    """JPEG and PNG as (H, W, 3) uint8."""
    with _opened(file) as picture:
        if picture.format == "PNG" and file.read_bytes()[24] == 16:  # bits, in the header
            # Pillow reads 16 bits of grey alone, and cuts those of colours its own way.
            return _three_bands(_eight_bits(imagecodecs.png_decode(file.read_bytes())), file)
        if "transparency" in picture.info and picture.mode == "P":
            picture = picture.convert("RGBA")
        return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))


def _read_tiff(file: Path, channels: int) -> np.ndarray:
    with tifffile.TiffFile(file) as tiff:
        page = tiff.pages[0]
        plain = page.photometric in (0, 1, 2)  # grey of either direction, RGB
        if not plain:
            return _converted(file, channels)
        pixels = page.asarray()
        axes, orientation = page.axes, _orientation(page)
        if page.photometric == 0:  # white is zero
            pixels = ~pixels if pixels.dtype.kind in "ub" else pixels
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8) * 255
    if pixels.dtype not in (np.uint8, np.uint16):
        raise DataError(f"has pixels of type {pixels.dtype}", file=file, advice=_WHAT)
    if axes == "SYX":
        pixels = np.moveaxis(pixels, 0, 2)
    elif axes == "YX":
        pixels = pixels[..., None]
    elif axes != "YXS":
        raise DataError(f"has {pixels.ndim} dimensions ({axes})", file=file, advice=_WHAT)
    pixels = _turned(_eight_bits(pixels), orientation)
    if channels == 4:
        if pixels.shape[2] != 4:
            raise DataError(
                f"has {_bands(pixels)}; these weights need four, RGB and infrared",
                file=file,
                advice="Use TIFFs of four bands, or weights for RGB",
            )
        return pixels
    return _three_bands(pixels, file)


def _converted(file: Path, channels: int) -> np.ndarray:
    """A TIFF of a palette, CMYK or YCbCr, through Pillow, which knows these colour spaces."""
    with _opened(file) as picture:
        if channels == 4:
            raise DataError(f"is {picture.mode}, not RGB and infrared", file=file, advice=_WHAT)
        return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))


def _orientation(page: tifffile.TiffPage) -> int:
    tag = page.tags.get("Orientation")
    return int(tag.value) if tag is not None and 1 <= int(tag.value) <= 8 else 1


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn (H, W, C) pixels as TIFF's orientation 1-8 says."""
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


def _three_bands(pixels: np.ndarray, file: Path) -> np.ndarray:
    """(H, W) or (H, W, bands) → (H, W, 3): grey repeated, a second or fourth band left out."""
    pixels = pixels if pixels.ndim == 3 else pixels[..., None]
    if pixels.shape[2] > 4:
        raise DataError(
            f"has {_bands(pixels)}", file=file, advice="Save the three to look at as an RGB picture"
        )
    return pixels[..., :3] if pixels.shape[2] >= 3 else pixels[..., :1].repeat(3, 2)


def _bands(pixels: np.ndarray) -> str:
    return f"{pixels.shape[2]} band{'s' * (pixels.shape[2] > 1)}"
