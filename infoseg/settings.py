"""Every setting of the replication: its type, its default and the reason for it.

A default is the paper's value or, where the paper is silent, an assumption that is marked as one.
`infoseg/conf` says only what a profile has otherwise; DVC composes it into params.yaml
(`dvc exp run -S profile=paper`). Unknown keys, wrong types and settings that contradict each other
raise `ParamsError` naming the key. Nothing here imports torch.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationError,
    model_validator,
)

from infoseg.files import ParamsError

#: What differs from the defaults, by profile; inside the package, so that a wheel has it.
CONF = Path(__file__).parent / "conf"


class Strict(BaseModel):
    """Base of all settings: unknown keys are errors, values cannot be changed after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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


def _odd(side: int) -> int:
    if side % 2 == 0:
        raise ValueError("must be odd: patches are centred on a pixel")
    return side


Positive = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]
Strength = Annotated[float, Field(ge=0, lt=1)]
Side = Annotated[int, Field(ge=32)]
#: A key that files and folders are named by.
Name = Annotated[str, AfterValidator(_part_of_a_path)]
#: What stands in tables and figures.
Title = Annotated[str, AfterValidator(one_line)]


# ---- raw data ------------------------------------------------------------------------------------


class CocoScenesSource(Strict):
    """Rendered scenes in COCO's raw layout; see `infoseg.data.scenes`. Sizes in pixels."""

    kind: Literal["coco_scenes"]
    seed: NonNegative = 0
    stuff_images: Annotated[int, Field(ge=0, le=500_000)]
    person_images: NonNegative
    val_share: Strength = 0.1
    long_side: Positive = 320
    short_side: Annotated[int, Field(ge=64)] = 240


class PotsdamScenesSource(Strict):
    """Rendered aerial tiles in Potsdam's raw layout; see `infoseg.data.scenes`."""

    kind: Literal["potsdam_scenes"]
    seed: NonNegative = 0
    tiles: Annotated[int, Field(gt=0, le=24)]
    unlabelled: Annotated[int, Field(ge=0, le=14)]
    tile_size: Annotated[int, Field(ge=256)] = 960


class LocalSource(Strict):
    """Raw files that are already on a disk, read in place. `path` may start with `~`."""

    kind: Literal["local"]
    path: str


class OfficialSource(Strict):
    """The published files of one group of `infoseg/data/official.yaml`.

    raw: folder with archives or extracted trees, read in place and never written to; null takes
    the environment's INFOSEG_RAW, if it is set.
    """

    kind: Literal["official"]
    group: Literal["coco", "cocostuff", "curated", "potsdam"]
    raw: str | None = None
    downloads: str = "downloads"  # for what has to be fetched; relative to the repository


Source = Annotated[
    CocoScenesSource | PotsdamScenesSource | LocalSource | OfficialSource,
    Field(discriminator="kind"),
]


# ---- data sets -----------------------------------------------------------------------------------


class SuperpixelSettings(Strict):
    """SLIC superpixels of every prepared image; see `infoseg.data.superpixels`.

    *Assumption: InMARS names neither algorithm nor number; SLIC's usual compactness, and regions of
    about 10 x 10 px, which follow objects closely at the paper's sizes.*
    """

    pixels_per_region: Positive = 100  # mean area aimed at, in pixels of the prepared image
    compactness: PositiveFloat = 10  # nearness against Lab colour; higher gives squarer regions
    smoothing: Weight = 1  # standard deviation in pixels of the Gaussian before it; 0: none


#: Annotated classes, where the variant or the kind of a data set fixes them.
CLASSES = {"stuff15": 15, "stuff3": 3, "potsdam6": 6, "potsdam3": 3, "coco_persons": 2}


class DatasetParams(Strict):
    """What every data set has.

    crop: side of the square that training and evaluation see, in pixels of the prepared images (128
    and 200 in the paper, 5.1). pad: images smaller than the crop are zero-padded (COCO's protocol);
    otherwise they are an error. superpixels: of every image, for methods that read them (InMARS);
    null for none, since they take longer than all else in a preparation.
    """

    kind: str
    title: Title  # the name in tables
    source: str  # key under `sources`
    clusters: Positive  # K; the number of annotated classes where the kind fixes it
    over_clustering: bool = False  # allows K to differ from that
    crop: Side = 128
    pad: bool = True
    superpixels: SuperpixelSettings | None = None
    on_bad_input: Literal["error", "skip"] = "error"  # skip: leave out and count

    @model_validator(mode="before")
    @classmethod
    def _one_cluster_per_class(cls, raw: Any) -> Any:
        classes = _fixed_classes(raw) if isinstance(raw, dict) else None
        return {"clusters": classes} | raw if classes else raw

    @model_validator(mode="after")
    def _clusters_match(self) -> DatasetParams:
        if classes := _fixed_classes(dict(self)):
            check_clusters(self.clusters, classes, self.over_clustering)
        return self


def _fixed_classes(raw: dict[str, Any]) -> int | None:
    return CLASSES.get(str(raw.get("variant", raw.get("kind"))))


def check_clusters(clusters: int, classes: int, over_clustering: bool) -> None:
    """K must equal the number of classes unless over-clustering is allowed (5.1)."""
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
    scale: Annotated[float, Field(gt=0, le=1)] = 0.33  # before the crop, as IIC's code
    unlabelled: Literal["ignore", "sky"] = "ignore"


class CocoPersonsParams(DatasetParams):
    """COCO-Persons, reconstructed: the authors' selection was never published.

    images: how many to aim at by raising min_person_share; null keeps the rule as it stands.
    *Assumption: 0.1 and 360 px stand in for the unpublished rule.*
    """

    kind: Literal["coco_persons"]
    shorter_side: Positive = 128
    images: Positive | None = None
    min_person_share: Share = 0.1
    max_person_share: Share = 1.0
    min_side: int = 360
    crowd: Literal["ignore", "person", "exclude"] = "ignore"


class PotsdamParams(DatasetParams):
    """colour_tolerance: how far, per channel, a label's colour may be from the six (two of the
    distributed labels are lossy); 0 is exact."""

    kind: Literal["potsdam"]
    variant: Literal["potsdam6", "potsdam3"]
    crop: Side = 200
    pad: bool = False
    grid: Positive = 15  # crops along each side of a tile
    colour_tolerance: Annotated[int, Field(ge=0, le=120)] = 80


class FolderParams(DatasetParams):
    """Any folder of images."""

    kind: Literal["folder"]
    channels: Literal[3, 4] = 3  # 4: TIFFs of four 8-bit bands, RGB and infrared
    labels: str | None = None  # name of the folder of label maps
    shorter_side: Positive | None = None  # pictures are brought down to it; null leaves them


#: Settings by kind of data set.
KINDS: dict[str, type[DatasetParams]] = {
    "coco_persons": CocoPersonsParams,
    "coco_stuff": CocoStuffParams,
    "folder": FolderParams,
    "potsdam": PotsdamParams,
}


def _of_kind(kinds: dict[str, Any], raw: dict[str, Any]) -> Any:
    """Settings by the class that their kind names."""
    kind = str(raw.get("kind"))
    if kind not in kinds:
        raise ValueError(f"kind '{kind}' is not among {sorted(kinds)}")
    return kinds[kind].model_validate(raw)


Dataset = Annotated[
    SerializeAsAny[DatasetParams],
    BeforeValidator(lambda raw: _of_kind(KINDS, raw) if isinstance(raw, dict) else raw),
]


# ---- methods -------------------------------------------------------------------------------------


class OptimiserSettings(Strict):
    """Adam, at 1e-4 with batches of 64 (5.1).

    *Assumption: steps, schedule and flips are not stated; 640,000 crops, constant, flipped.*
    """

    steps: Positive = 10_000  # parameter updates
    batch: Annotated[int, Field(ge=2)] = 64  # images in each
    learning_rate: PositiveFloat = 1e-4
    schedule: Literal["constant", "cosine"] = "constant"  # or half a cosine, to zero
    average: Strength = 0.0  # EMA decay of the weights that are evaluated and kept; 0: none
    flip: bool = True
    crop: Positive | None = None  # side of training crops in pixels; null: as in evaluation


class JitterSettings(Strict):
    """How far colours may change: factors from 1 - s to 1 + s. Defaults: IIC's code."""

    brightness: Strength = 0.4
    contrast: Strength = 0.4
    saturation: Strength = 0.4
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.125  # share of the full circle, either way


class MethodSettings(Strict):
    """What every row of Table 1 has.

    train_on: all pictures, as the paper, or the `chosen` half alone (`infoseg.data.store.halves`),
    so that the other half holds groups that training never saw.
    """

    kind: str
    title: Title  # the row's name
    paper_row: str | None = None  # the row of the paper's Table 1 it is laid beside
    train_on: Literal["all", "chosen"] = "all"
    seeds: list[Annotated[int, Field(ge=0, lt=2**32)]] = Field([0, 1, 2], min_length=1)

    @model_validator(mode="after")
    def _seeds_differ(self) -> MethodSettings:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds: the same seed twice")
        return self

    def numbers(self) -> dict[str, Any]:
        """What decides the numbers of a run: everything but which seeds there are."""
        return self.model_dump(exclude={"seeds"})


class ClusterSettings(MethodSettings):
    """pixels_per_image: drawn at random for k-means (the released code of Doersch and Isola, by an
    oversight, took one per batch). passes: of scikit-learn over them."""

    pixels_per_image: Positive = 100
    passes: Positive = 20


class TrunkSettings(Strict):
    """sobel: two gradients beside the colours; null is IIC's input: with them on COCO, without on
    Potsdam's four bands. width: factor on the trunk's channels."""

    sobel: bool | None = None
    width: PositiveFloat = 1.0


class RandomCNNSettings(TrunkSettings, MethodSettings):
    """Random CNN, first reading: the untrained head of IIC's network."""

    kind: Literal["random_cnn"] = "random_cnn"
    title: Title = "Random CNN"
    paper_row: str | None = "Random CNN"


class RandomCNNKMeansSettings(TrunkSettings, ClusterSettings):
    """Random CNN, second reading: k-means on the features of the untrained trunk."""

    kind: Literal["random_cnn_kmeans"] = "random_cnn_kmeans"
    title: Title = "Random CNN, clustered"
    paper_row: str | None = "Random CNN"


class KMeansSettings(ClusterSettings):
    """K-Means on colours, as IIC's code."""

    kind: Literal["kmeans"] = "kmeans"
    title: Title = "K-Means"
    paper_row: str | None = "K-Means"
    pixels_per_image: Positive = 1000
    standardise: bool = False  # divide channels by their standard deviation first; not in IIC's


class PatchSettings(TrunkSettings, ClusterSettings):
    """pairs: `batch` places patches alike in all images of a batch, as released; `image` anew in
    each. pairs_per_image: 1 as released, where all a step sees is one place and one answer; more
    teach faster. *Assumption: rate, batch and steps are unrecorded; InfoSeg's.*"""

    patch: Annotated[Positive, AfterValidator(_odd)] = 11  # side in pixels of the input
    head_width: Positive = 1024  # channels of the head's convolution and first linear layer
    dropout: Strength = 0.5  # of that layer's outputs
    pairs: Literal["batch", "image"] = "batch"
    pairs_per_image: Positive = 1
    optimiser: OptimiserSettings = OptimiserSettings()


class DoerschSettings(PatchSettings):
    """directions: 9 as released, where the first and the last are the same direction, so that the
    loss cannot fall below 2/9 log 2; 8 tells them all apart."""

    kind: Literal["doersch"] = "doersch"
    title: Title = "Doersch"
    paper_row: str | None = "Doersch"
    directions: Literal[8, 9] = 9


class IsolaSettings(PatchSettings):
    """All settings are those of `PatchSettings`: the method has none of its own."""

    kind: Literal["isola"] = "isola"
    title: Title = "Isola"
    paper_row: str | None = "Isola"


class IICSettings(TrunkSettings, MethodSettings):
    """weight_a, weight_b: lambda of either head's loss; above 1 it favours clusters of equal size.
    displacement: T, in pixels of the input; the window has (2T + 1)^2 displacements. turn:
    consecutive steps of one head before the other's (*assumption: shorter turns than the authors'
    epochs do the same*). jitter, flip: of the second view, flip being a probability. mask: the loss
    leaves out pixels that are not annotated, as the authors' code."""

    kind: Literal["iic"] = "iic"
    title: Title = "IIC"
    paper_row: str | None = "IIC"
    clusters_a: Annotated[int, Field(ge=2)] = 45  # outputs of the over-clustering head
    weight_a: PositiveFloat = 1.0
    weight_b: PositiveFloat = 1.0
    displacement: NonNegative = 10
    turn: Positive = 100
    jitter: JitterSettings = JitterSettings()
    flip: Share = 0.5
    mask: bool = True
    optimiser: OptimiserSettings = OptimiserSettings(batch=60, flip=False)

    @model_validator(mode="after")
    def _both_heads_get_a_turn(self) -> IICSettings:
        if self.optimiser.steps < 2 * self.turn:
            raise ValueError(
                f"turn is {self.turn}, but in {self.optimiser.steps} steps both heads need a turn"
            )
        return self


class ACSettings(MethodSettings):
    """width, blocks, norm: of the network, see `OrderedNetwork` (norm false is the unofficial
    code's: nearly every pixel starts in one cluster). resolution: where the loss compares class
    maps, at the size of the `input` or, much faster, of the `map`, whose cells have 4 px; T is
    rounded down to cells. The input is colours (and infrared): Sobel gradients would look a pixel
    ahead in every order. *Assumption: rate and batch of the unofficial code for COCO-Stuff-3.*"""

    kind: Literal["ac"] = "ac"
    title: Title = "AC"
    paper_row: str | None = "AC"
    width: PositiveFloat = 1.0
    blocks: Positive = 4
    norm: bool = True
    displacement: NonNegative = 10  # T of IIC's loss, in pixels
    weight: PositiveFloat = 1.0  # lambda of IIC's loss
    resolution: Literal["input", "map"] = "input"
    optimiser: OptimiserSettings = OptimiserSettings(batch=30, learning_rate=4e-5)


class InMARSSettings(TrunkSettings, MethodSettings):
    """noise_weight, spatial_weight: of the two divergences; at 0 their passes are left out.
    power_iterations: of either search, at a forward and a backward pass each. xi: how far from the
    image its gradients are taken, as a share of epsilon and shift; around 1 the search found the
    most. *Assumption: no number was found in public; mu and the weights are IMSAT's.*"""

    kind: Literal["inmars"] = "inmars"
    title: Title = "InMARS"
    paper_row: str | None = "InMARS"
    entropy_weight: PositiveFloat = 4.0  # mu, which favours clusters of equal size
    weigh_by_area: bool = False  # a region counts by its pixels rather than once
    noise_weight: Weight = 10.0
    epsilon: PositiveFloat = 2.0  # L2 norm of an image's noise, of all channels in 0..1
    spatial_weight: Weight = 10.0
    shift: PositiveFloat = 4.0  # the furthest a pixel is moved, in pixels
    grid: Annotated[int, Field(ge=2)] = 5  # nodes of the displacement field along each side
    xi: PositiveFloat = 1.0
    power_iterations: NonNegative = 1
    optimiser: OptimiserSettings = OptimiserSettings()


Norm = Literal["none", "layer", "batch"]
Marginal = Literal["paired", "random_position", "same_class", "rematched", "log_sum_exp", "mean_k"]


class NetworkSettings(Strict):
    """Everything about the network that the paper leaves open (Figure 3).

    block_a: `figure3` is 3x3,64,1 → 4x4,128,2 → 3x3,256,1 → 4x4,512,2 → 3x3,512,1 (receptive field
        24 px, near IIC's 30); `cheap` is 4x4,128,2 → 4x4,512,2 → 1x1,512 (10 px);
        `dim` is Deep InfoMax's 4x4,64,2 → 4x4,128,2 (10 px).
    block_c: `residual` is the paper's; `none` leaves it out (the paper claims that it helps, 4.2):
        what block A ends with is L then, and P is its channels, whatever `features` says.
    input: `grey` replaces red, green and blue by their luma, so that features cannot rest on hue
        (infrared stays).
    standardise: by mean and standard deviation of the `dataset`'s colours, or of each `image`,
        which takes away what tells an image by its overall colour and contrast.
    """

    block_a: Literal["figure3", "cheap", "dim"] = "figure3"
    width: PositiveFloat = 1.0  # factor on the channels of A and B
    layers_b: Positive = 3  # convolutions of B, each 4x4,512,2, as far as pixels are left
    features: Positive = 1024  # P, the length of local and global features (5.1)
    block_c: Literal["residual", "none"] = "residual"
    norm_c: Norm = "none"  # at the end of block C
    norm_d: Norm = "none"  # before block D
    input: Literal["colour", "grey"] = "colour"
    standardise: Literal["none", "dataset", "image"] = "dataset"


class ObjectiveSettings(Strict):
    """The mutual-information step (4.3), and what the paper leaves open about it.

    score_factor: multiplies every dot product <L, H> in Eqs 3 and 8. 1 is the paper as written;
        about 4.5 / sqrt(P) keeps V soft at the start whatever P is (0.14 at P = 1024).
    measure: `jsd` (Eq. 7) or `dv` (Donsker-Varadhan, the ablation of Table 2).
    assignment: `soft` (Eq. 5) or `hard` (S = H of the arg max, Table 2).
    marginal: what S(x') of Eq. 8 is made of; see `infoseg.losses.negative_scores`. `paired` is
        Eq. 8 as written.
    negatives: `derangement` pairs every image with one other, `all_pairs` with all others.
    """

    tau: PositiveFloat = 0.8  # smoothness of Eq. 3, the paper's
    score_factor: PositiveFloat = 0.14
    measure: Literal["jsd", "dv"] = "jsd"
    assignment: Literal["soft", "hard"] = "soft"
    marginal: Marginal = "paired"
    negatives: Literal["derangement", "all_pairs"] = "derangement"
    gradient_through_v: bool = True  # V is part of the objective, or a constant weight


class InfoSegSettings(MethodSettings):
    """upsampling: `labels` repeats Eq. 4's low-resolution labels (nearest; the paper says "by
    upsampling"); `scores` interpolates the class scores bilinearly before the arg max.
    clusters_per_class: K as a multiple of the data set's; above 1, clusters left over by the
    one-to-one match have no class; at 0, K is 1, and what is left is Local Deep InfoMax with one
    global feature. start: a file of weights whose blocks A, B and C (and D, where K is the same)
    training starts from, or null for the paper's random start."""

    kind: Literal["infoseg"] = "infoseg"
    title: Title = "InfoSeg"
    paper_row: str | None = "InfoSeg"
    network: NetworkSettings = NetworkSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    optimiser: OptimiserSettings = OptimiserSettings()
    jitter: JitterSettings | None = None  # of training crops; the paper names no augmentation
    upsampling: Literal["labels", "scores"] = "labels"
    clusters_per_class: NonNegative = 1
    start: str | None = None

    @model_validator(mode="after")
    def _gradient_exists(self) -> InfoSegSettings:
        if self.objective.marginal == "log_sum_exp" and not self.objective.gradient_through_v:
            raise ValueError(
                "objective.gradient_through_v: log_sum_exp has no V in it to cut the gradient "
                "through; set it to true"
            )
        return self


class IICMISettings(InfoSegSettings):
    """IIC's loss in InfoSeg's network: of `objective`, tau and score_factor alone count.

    *Assumptions, for the paper names none of them: V is interpolated to the input's size, as IIC's
    predictions are; lambda is 1; there is no over-clustering head, since there is one V; and no
    mask, since InfoSeg sees none.*
    """

    kind: Literal["iic_mi"] = "iic_mi"
    title: Title = "IIC-MI"
    displacement: NonNegative = 10  # T, in pixels
    weight: PositiveFloat = 1.0  # lambda
    jitter: JitterSettings = JitterSettings()  # of the second view
    flip: Share = 0.5  # probability, of the second view


#: Settings by kind of method. A new method is its file, a line of `infoseg.methods.registry` and
#: its settings here.
METHOD_SETTINGS: dict[str, type[MethodSettings]] = {
    "random_cnn": RandomCNNSettings,
    "random_cnn_kmeans": RandomCNNKMeansSettings,
    "kmeans": KMeansSettings,
    "doersch": DoerschSettings,
    "isola": IsolaSettings,
    "iic": IICSettings,
    "ac": ACSettings,
    "inmars": InMARSSettings,
    "infoseg": InfoSegSettings,
    "iic_mi": IICMISettings,
}


class MethodChanges(BaseModel):
    """What a method has otherwise than its kind, or than the method it is `like`; per_dataset: and
    otherwise again for a data set, by its key. Checked by `Params.method`."""

    model_config = ConfigDict(extra="allow", frozen=True)
    like: str | None = None
    per_dataset: dict[str, dict[str, Any]] = {}


# ---- runs ----------------------------------------------------------------------------------------


class TrainingParams(Strict):
    """How runs use the machine.

    precision: `auto` is bfloat16 on CUDA and on CPUs with bfloat16 arithmetic. recompute: gradient
    checkpointing in the compared methods' trunk, for less memory (docs/gpu.md) and the same
    numbers. deterministic: the same seed gives the same bytes; `auto` is so on the CPU, and on
    CUDA, where it costs time, true is.
    """

    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    # Of one run: fixed, so that bytes do not depend on what runs beside it.
    threads: Annotated[int, Field(gt=0, le=1024)] = 1
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: bool = False  # torch.compile the training step
    recompute: bool = False
    evaluations: NonNegative = 4  # evenly spread over a training, beside one before it; 0: none
    evaluation_batch: Positive = 32
    log_every: Positive = 20  # steps between rows of history.csv
    deterministic: Literal["auto"] | bool = "auto"


class ExecutionParams(Strict):
    """What decides how long runs take, and none of their numbers: no stage depends on it."""

    checkpoint_seconds: Weight | None = 60  # between checkpoints of a training; null: none


class Figure4Params(Strict):
    """methods: whose predictions are shown, one row each. panels: pictures of each data set, of
    those the profile has, evenly spaced in rank by their PA under the last of the methods."""

    methods: list[str]
    panels: dict[str, Annotated[int, Field(ge=1, le=8)]] = Field(min_length=1)


class FiguresParams(Strict):
    """What the other figures are of."""

    dataset: str  # its picture is Figures 1 and 2; its trainings are drawn
    confusion: str  # its confusion matrix is drawn


#: Rows of the paper's Table 2 before the last, which is InfoSeg as Table 1 has it.
TABLE2 = ("iic_mi", "dv_hard", "dv_soft", "jsd_hard")


class AblationParams(Strict):
    """Variants that run on `dataset`: the paper's Table 2, and others for Table 2b.

    table1_rows: methods of Table 1 that belong into Table 2b, and the question each answers; they
    are not trained a second time. content: methods for the table of content or place, and of each
    the variant that was trained on one half of the pictures; those that do not run are left out.
    """

    dataset: str
    variants: list[str] = []
    table1_rows: dict[str, Title] = {}
    content: dict[str, str] = {}


class Variant(Strict):
    """A method with something changed."""

    question: Title  # the heading it stands under in Table 2b
    of: str = "infoseg"
    changes: dict[str, Any]  # to the method's settings, those for the data set included


class ProfileParams(Strict):
    """Which runs there are: every data set x method x seed, and the ablations.

    sources: what each is made from, which DVC compares with what it was when its data were
    prepared: a local source's path, the code that renders, the list of official files. inputs: the
    source of every data set that the pipeline prepares, at least of `datasets`; each preparation
    waits for its own source alone. reported: the pictures that tables are about: `all`, as the
    paper, or the `half` whose labels no setting was chosen by.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9_-]+$")]
    description: Title
    reported: Literal["all", "half"] = "all"
    notes: list[Title] = []  # what Table 1 has to be read with
    sources: dict[str, str]
    datasets: Annotated[list[str], Field(min_length=1)]
    inputs: dict[str, str]
    persons_rule: list[str] = []  # data sets of persons that notebook 9 scans selection rules for
    methods: list[str]
    ablations: AblationParams
    figure4: Figure4Params
    figures: FiguresParams


class Run(Strict):
    """One training: data set, method, seed."""

    dataset: str
    method: str
    seed: int

    @property
    def key(self) -> str:
        return f"{self.dataset}-{self.method}-{self.seed}"


class Params(Strict):
    """All of params.yaml."""

    profile: ProfileParams
    sources: dict[Name, Source]
    datasets: dict[Name, Dataset]
    training: TrainingParams = TrainingParams()
    execution: ExecutionParams = ExecutionParams()
    methods: dict[Name, MethodChanges] = {}
    variants: dict[Name, Variant] = {}

    @model_validator(mode="after")
    def _references_exist(self) -> Params:
        profile, ablations, methods = self.profile, self.profile.ablations, self.method_names
        for place, names, known in (
            ("profile.sources", profile.sources, self.sources),
            ("profile.datasets", profile.datasets, self.datasets),
            ("profile.inputs", profile.inputs, self.datasets),
            ("profile.persons_rule", profile.persons_rule, profile.inputs),
            ("profile.methods", profile.methods, methods),
            ("profile.figure4.methods", profile.figure4.methods, methods),
            ("profile.figure4.panels", profile.figure4.panels, self.datasets),
            ("profile.figures.dataset", [profile.figures.dataset], self.datasets),
            ("profile.figures.confusion", [profile.figures.confusion], self.datasets),
            ("profile.ablations.dataset", [ablations.dataset], self.datasets),
            ("profile.ablations.variants", ablations.variants, self.variants),
            ("profile.ablations.table1_rows", ablations.table1_rows, methods),
            ("profile.ablations.content", ablations.content, methods),
            ("profile.ablations.content", ablations.content.values(), self.variants),
            *((f"profile.inputs.{n}", [s], profile.sources) for n, s in profile.inputs.items()),
            *((f"datasets.{n}.source", [d.source], self.sources) for n, d in self.datasets.items()),
            *(
                (f"methods.{name}.per_dataset", changes.per_dataset, self.datasets)
                for name, changes in self.methods.items()
            ),
        ):
            if unknown := [name for name in names if name not in known]:
                raise ValueError(f"{place}: '{unknown[0]}' is not among {sorted(known)}")
        for method, name in ablations.content.items():
            half = self.variants[name]
            if (half.of, half.changes.get("train_on")) != (method, "chosen"):
                raise ValueError(
                    f"profile.ablations.content.{method}: '{name}' is not {method} with train_on: "
                    "chosen"
                )
        if both := set(self.variants) & set(methods) - {"iic_mi"}:
            raise ValueError(f"variants: '{min(both)}' is the name of a method, too")
        if missing := set(profile.datasets) - profile.inputs.keys():
            raise ValueError(f"profile.inputs: '{min(missing)}' of profile.datasets is missing")
        for name, path in profile.sources.items():
            source = self.sources[name]
            if isinstance(source, LocalSource) and path != source.path:
                raise ValueError(
                    f"profile.sources.{name}: '{path}' is not sources.{name}.path, '{source.path}'"
                )
        for name, source in profile.inputs.items():
            if source != (expected := self.datasets[name].source):
                raise ValueError(
                    f"profile.inputs.{name}: '{source}' is not datasets.{name}.source, '{expected}'"
                )
        return self

    @property
    def method_names(self) -> list[str]:
        """Methods that there are: those of the settings, and every kind by its own name."""
        return list(dict.fromkeys([*self.methods, *METHOD_SETTINGS]))

    def runs(self) -> list[Run]:
        """All runs of the profile, data set by data set."""
        profile = self.profile
        return [run for d in profile.datasets for m in profile.methods for run in self.seeds(d, m)]

    def ablations(self) -> list[Run]:
        """The runs of Tables 2 and 2b that are not runs of Table 1."""
        ablations = self.profile.ablations
        return [run for name in ablations.variants for run in self.seeds(ablations.dataset, name)]

    def seeds(self, dataset: str, method: str) -> list[Run]:
        """The runs of a method on a data set, one for each of its seeds."""
        seeds = self.method(method, dataset).seeds
        return [Run(dataset=dataset, method=method, seed=seed) for seed in seeds]

    @property
    def papers_data(self) -> bool:
        """Whether the numbers are of the paper's own data sets."""
        sets = [self.datasets[name] for name in self.profile.datasets]
        return not any(isinstance(s, FolderParams) for s in sets) and all(
            isinstance(self.sources[s.source], LocalSource | OfficialSource) for s in sets
        )

    def method(self, name: str, dataset: str) -> MethodSettings:
        """Settings of a method or a variant for one data set. Raises ParamsError naming an unknown
        key."""
        if name not in self.variants and name not in self.method_names:
            raise ParamsError(f"methods: '{name}' is not among {sorted(self.method_names)}")
        place = f"variants.{name}" if name in self.variants else f"methods.{name}"
        try:
            if name in self.variants:
                return self._variant(name, dataset)
            return _of_kind(METHOD_SETTINGS, self._tree(name, dataset))
        except ValidationError as error:
            raise ParamsError(explain(error, place, "for " + dataset)) from None
        except ValueError as error:
            raise ParamsError(f"{place}: {error}") from None

    def _tree(self, name: str, dataset: str, above: tuple[str, ...] = ()) -> dict[str, Any]:
        """A method's settings: the defaults of its kind, or another method's (`like`), then its own
        changes, then those for the data set."""
        changes = self.methods.get(name, MethodChanges())
        like, own = changes.like, changes.model_extra or {}
        if like is None:
            base = _of_kind(METHOD_SETTINGS, {"kind": own.get("kind", name)}).model_dump()
        elif like in (name, *above) or like not in self.method_names:
            raise ValueError(f"like: '{like}' is not another method")
        else:
            base = self._tree(like, dataset, (name, *above))
        return merge(merge(base, own), changes.per_dataset.get(dataset, {}))

    def _variant(self, name: str, dataset: str) -> MethodSettings:
        variant = self.variants[name]
        if variant.of not in self.method_names:
            raise ValueError(f"of: '{variant.of}' is not among {sorted(self.method_names)}")
        default = self._tree(variant.of, dataset)
        row = {"title": f"{default['title']}, {name}", "paper_row": None}
        settings = _of_kind(METHOD_SETTINGS, merge(default, variant.changes) | row)
        if settings.numbers() == _of_kind(METHOD_SETTINGS, default | row).numbers():
            raise ValueError(f"changes nothing of methods.{variant.of} on {dataset}: leave it out")
        return settings


def merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A tree with the changes of another, key by key."""
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


# ---- reading -------------------------------------------------------------------------------------


def parse_params(raw: Any, origin: str) -> Params:
    """Validate a parameter tree. origin: the file or profile, named in every error."""
    if not isinstance(raw, dict):
        raise ParamsError(f"{origin}: expected a mapping of sections, found {type(raw).__name__}")
    try:
        params = Params.model_validate(raw)
    except ValidationError as error:
        raise ParamsError(explain(error, "", origin)) from None
    for name in params.method_names:
        for dataset in params.datasets:
            params.method(name, dataset)
    params.ablations()
    for run in params.runs():
        inmars = isinstance(params.method(run.method, run.dataset), InMARSSettings)
        if inmars and params.datasets[run.dataset].superpixels is None:
            raise ParamsError(
                f"datasets.{run.dataset}.superpixels: {run.method} of profile.methods reads "
                "superpixels; make them with {}, or with settings of their own"
            )
    return params


def load_params(root: Path, profile: str | None = None, overrides: Sequence[str] = ()) -> Params:
    """The settings of the project at `root`.

    profile: compose `infoseg/conf` for this profile, as `dvc exp run -S profile=…` does; None reads
    params.yaml. overrides: `key.path=value`, Hydra's syntax.
    Raises ParamsError naming the key at fault.
    """
    if profile is not None:
        return parse_params(compose(profile, overrides), f"infoseg/conf, profile={profile}")
    path = root / "params.yaml"
    if not path.exists():
        raise ParamsError(f"{path} is missing: run this in the repository, or choose a --profile")
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    # ValueError: no UTF-8, a date or a number that is none.
    except (yaml.YAMLError, ValueError, RecursionError, OSError) as error:
        raise ParamsError(f"{path} is not valid YAML: {error}") from None
    if overrides and isinstance(raw, dict):
        from omegaconf import OmegaConf

        try:
            merged = OmegaConf.merge(raw, OmegaConf.from_dotlist(list(overrides)))
            raw = OmegaConf.to_container(merged, resolve=True)
        except Exception as error:  # any kind, by what the text is made of
            raise ParamsError(f"{' '.join(overrides)}: cannot be set in {path}: {error}") from None
    return parse_params(raw, str(path))


def compose(profile: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Compose `conf/config.yaml` here with a profile by Hydra: what DVC puts into params.yaml."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    known = sorted(path.stem for path in (CONF / "profile").glob("*.yaml"))
    if profile not in known:  # a path to another folder's file is none, either
        raise ParamsError(f"profile: '{profile}' is not among {known} in {CONF / 'profile'}")
    # `++`: a setting that has its default in a class stands nowhere in conf/.
    given = [text if text[:1] in "+~" else f"++{text}" for text in overrides]
    try:
        with initialize_config_dir(str(CONF.resolve()), version_base=None):
            config = hydra_compose("config", overrides=[f"profile={profile}", *given])
        return OmegaConf.to_container(config, resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise ParamsError(f"infoseg/conf, profile={profile}: {error}") from None


def explain(error: ValidationError, prefix: str, origin: str) -> str:
    """Pydantic's findings as one line each, `key: what is wrong`."""
    messages = {
        "extra_forbidden": "unknown key (a typo, or a key of another version)",
        "missing": "missing",
    }
    # In paths, but no keys of the file: the tags of `Source`, and pydantic's word for a bad key.
    kinds = {"coco_scenes", "potsdam_scenes", "local", "official"}
    lines = [f"bad parameters ({origin}):"]
    for finding in error.errors():
        parts = [str(part) for i, part in enumerate(finding["loc"]) if i != 2 or part not in kinds]
        key = ".".join([prefix] * bool(prefix) + [part for part in parts if part != "[key]"])
        message = messages.get(finding["type"], finding["msg"].removeprefix("Value error, "))
        lines.append(f"  {key}: {message}" if key else f"  {message}")
    return "\n".join(lines)
