"""Settings of raw data and of data sets: what `sources` and `datasets` of params.yaml may say."""

from __future__ import annotations

import importlib
import importlib.util
import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializeAsAny,
    model_validator,
)


class Strict(BaseModel):
    """Base of all settings: unknown keys are errors, values cannot be changed after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Positive = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


def _part_of_a_path(name: str) -> str:
    # Also part of the commands of dvc.yaml, which a shell reads.
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        raise ValueError(
            f"{name!r} cannot be a name: letters, digits and '_', after the first also '.' and '-'"
        )
    return name


def one_line(text: str) -> str:
    """Return a text; ValueError if it holds a line break or another control character."""
    if re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", text):
        raise ValueError(f"{text!r} is not one line of text")
    return text


Name = Annotated[str, AfterValidator(_part_of_a_path)]
"""A key that files and folders are named by."""
Title = Annotated[str, AfterValidator(one_line)]
"""What stands in tables and figures."""
OnBadInput = Literal["error", "skip"]


# ---- raw data ------------------------------------------------------------------------------------


class CocoScenesSource(Strict):
    """Rendered scenes in COCO's raw layout; see `infoseg.data.scenes`. Sizes in pixels."""

    kind: Literal["coco_scenes"]
    seed: int
    stuff_images: int
    person_images: int
    val_share: Share
    long_side: Positive
    short_side: Positive


class PotsdamScenesSource(Strict):
    """Rendered aerial tiles in Potsdam's raw layout; see `infoseg.data.scenes`."""

    kind: Literal["potsdam_scenes"]
    seed: int
    tiles: Positive
    unlabelled: int
    tile_size: Positive


class LocalSource(Strict):
    """Raw files that are already on a disk, read in place. `path` may start with `~`."""

    kind: Literal["local"]
    path: str


class OfficialSource(Strict):
    """The published files of one group of `infoseg/data/sources.yaml`, used where they lie or
    downloaded.

    raw: folder with archives or extracted trees, read in place and never written to; null takes
    the environment's INFOSEG_RAW, if it is set. downloads: folder for what has to be fetched,
    relative to the repository.
    """

    kind: Literal["official"]
    group: Literal["coco", "cocostuff", "curated", "potsdam"]
    raw: str | None
    downloads: str


Source = Annotated[
    CocoScenesSource | PotsdamScenesSource | LocalSource | OfficialSource,
    Field(discriminator="kind"),
]


# ---- data sets -----------------------------------------------------------------------------------


class SuperpixelSettings(Strict):
    """SLIC superpixels of every prepared image; see `infoseg.data.superpixels`.

    pixels_per_region: mean area aimed at, in pixels of the prepared image. compactness: weight of
    nearness against Lab colour; higher gives squarer regions. smoothing: standard deviation, in
    pixels, of the Gaussian that blurs the image first; 0 does not.
    """

    pixels_per_region: Positive
    compactness: PositiveFloat
    smoothing: Annotated[float, Field(ge=0)]


class DatasetParams(Strict):
    """What every data set has.

    title: the name in tables. source: key under `sources`. clusters: K. over_clustering: allows K
    to differ from the number of annotated classes. crop: side of the square that training and
    evaluation see, in pixels of the prepared images. pad: images smaller than the crop are
    zero-padded (COCO's protocol); otherwise they are an error. superpixels: null computes none;
    methods that need them then refuse the data set.
    """

    kind: str
    title: Title
    source: str
    clusters: Positive
    over_clustering: bool
    crop: Annotated[int, Field(ge=32)]
    pad: bool
    superpixels: SuperpixelSettings | None
    on_bad_input: OnBadInput

    @property
    def classes(self) -> int | None:
        """Number of annotated classes where the kind of data set fixes it."""
        return None

    @model_validator(mode="after")
    def _clusters_match(self) -> DatasetParams:
        if self.classes is not None:
            check_clusters(self.clusters, self.classes, self.over_clustering)
        return self


def check_clusters(clusters: int, classes: int, over_clustering: bool) -> None:
    """K must equal the number of classes unless over-clustering was asked for (5.1)."""
    if clusters != classes and not over_clustering:
        raise ValueError(
            f"clusters is {clusters} but the data have {classes} classes: set clusters to "
            f"{classes}, or over_clustering to true"
        )


class CocoStuffParams(DatasetParams):
    """unlabelled: `ignore` masks unlabelled pixels; `sky` repeats IIC's released code, which counts
    them as sky in the three-class variant."""

    kind: Literal["coco_stuff"]
    variant: Literal["stuff15", "stuff3"]
    scale: Annotated[float, Field(gt=0, le=1)]
    unlabelled: Literal["ignore", "sky"]

    @property
    def classes(self) -> int:
        return 15 if self.variant == "stuff15" else 3


class CocoPersonsParams(DatasetParams):
    """COCO-Persons, reconstructed: the authors' selection was never published.

    images: how many to aim at by raising min_person_share; null keeps the rule as it stands.
    """

    kind: Literal["coco_persons"]
    shorter_side: Positive
    images: Positive | None = None
    min_person_share: Share
    max_person_share: Share
    min_side: int
    crowd: Literal["ignore", "person", "exclude"]

    @property
    def classes(self) -> int:
        return 2


class PotsdamParams(DatasetParams):
    """grid: crops along each side of a tile. colour_tolerance: how far, per channel, a label's
    colour may be from the six (two of the distributed labels are lossy); 0 is exact."""

    kind: Literal["potsdam"]
    variant: Literal["potsdam6", "potsdam3"]
    grid: Positive
    colour_tolerance: Annotated[int, Field(ge=0, le=120)]

    @property
    def classes(self) -> int:
        return 6 if self.variant == "potsdam6" else 3


class FolderParams(DatasetParams):
    """Any folder of images. labels: the name of its label folder, or null. channels: 3 for RGB, 4
    for TIFFs of four 8-bit bands, RGB and infrared."""

    kind: Literal["folder"]
    channels: Literal[3, 4]
    labels: str | None
    shorter_side: Positive | None


#: Settings of the kinds that come with the package.
KINDS: dict[str, type[DatasetParams]] = {
    "coco_persons": CocoPersonsParams,
    "coco_stuff": CocoStuffParams,
    "folder": FolderParams,
    "potsdam": PotsdamParams,
}


def added_reader(kind: str) -> Any:
    """`READER` of `infoseg/data/KIND.py`, the `infoseg.data.prepare.Reader` of a kind that was
    added; None without one."""
    name = f"infoseg.data.{kind}"
    if not re.fullmatch(r"[a-z][a-z0-9_]*", kind) or importlib.util.find_spec(name) is None:
        return None
    return getattr(importlib.import_module(name), "READER", None)


def _by_kind(raw: Any) -> Any:
    if not isinstance(raw, dict):
        return raw  # a data set already, or left for validation to complain about
    kind = str(raw.get("kind"))
    if kind in KINDS:
        return KINDS[kind].model_validate(raw)
    reader = added_reader(kind)
    if reader is None:
        raise ValueError(f"kind '{kind}' is not among {sorted(KINDS)}")
    return reader.settings.model_validate(raw)


Dataset = Annotated[SerializeAsAny[DatasetParams], BeforeValidator(_by_kind)]
