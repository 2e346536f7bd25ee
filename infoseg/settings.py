"""Every setting of the replication: its type, its default and the reason for it.

A default is the paper's value or, where the paper is silent, an assumption that the docstring says.
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
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegative = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]
Strength = Annotated[float, Field(ge=0, lt=1)]
Name = Annotated[str, AfterValidator(_part_of_a_path)]
"""A key that files and folders are named by."""
Title = Annotated[str, AfterValidator(one_line)]
"""What stands in tables and figures."""


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
    the environment's INFOSEG_RAW, if it is set. downloads: folder for what has to be fetched,
    relative to the repository.
    """

    kind: Literal["official"]
    group: Literal["coco", "cocostuff", "curated", "potsdam"]
    raw: str | None = None
    downloads: str = "downloads"


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
    *Assumption: InMARS names neither algorithm nor number; SLIC's usual compactness, and regions of
    about 10 x 10 px, which follow objects closely at the paper's sizes.*
    """

    pixels_per_region: Positive = 100
    compactness: PositiveFloat = 10
    smoothing: Weight = 1


class DatasetParams(Strict):
    """What every data set has.

    title: the name in tables. source: key under `sources`. clusters: K; the number of annotated
    classes where the kind fixes it. over_clustering: allows K to differ from that. crop: side of
    the square that training and evaluation see, in pixels of the prepared images (128 and 200 in
    the paper, 5.1). pad: images smaller than the crop are zero-padded (COCO's protocol); otherwise
    they are an error. superpixels: of every image, for methods that read them (InMARS); null for
    none, since they take longer than all else in a preparation.
    on_bad_input: `skip` leaves out what cannot be read and counts it.
    """

    kind: str
    title: Title
    source: str
    clusters: Positive
    over_clustering: bool = False
    crop: Annotated[int, Field(ge=32)] = 128
    pad: bool = True
    superpixels: SuperpixelSettings | None = None
    on_bad_input: Literal["error", "skip"] = "error"

    @classmethod
    def annotated_classes(cls, raw: dict[str, Any]) -> int | None:
        """Number of annotated classes where the kind of data set fixes it."""
        return None

    @model_validator(mode="before")
    @classmethod
    def _one_cluster_per_class(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and (classes := cls.annotated_classes(raw)):
            return {"clusters": classes} | raw
        return raw

    @model_validator(mode="after")
    def _clusters_match(self) -> DatasetParams:
        classes = self.annotated_classes(dict(self))
        if classes is not None:
            check_clusters(self.clusters, classes, self.over_clustering)
        return self


def check_clusters(clusters: int, classes: int, over_clustering: bool) -> None:
    """K must equal the number of classes unless over-clustering was asked for (5.1)."""
    if clusters != classes and not over_clustering:
        raise ValueError(
            f"clusters is {clusters} but the data have {classes} classes: set clusters to "
            f"{classes}, or over_clustering to true"
        )


class CocoStuffParams(DatasetParams):
    """scale: of the pictures before they are cropped, as IIC's code. unlabelled: `ignore` masks
    unlabelled pixels; `sky` repeats IIC's released code, which counts them as sky in the
    three-class variant."""

    kind: Literal["coco_stuff"]
    variant: Literal["stuff15", "stuff3"]
    scale: Annotated[float, Field(gt=0, le=1)] = 0.33
    unlabelled: Literal["ignore", "sky"] = "ignore"

    @classmethod
    def annotated_classes(cls, raw: dict[str, Any]) -> int | None:
        return {"stuff15": 15, "stuff3": 3}.get(raw.get("variant"))


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

    @classmethod
    def annotated_classes(cls, raw: dict[str, Any]) -> int | None:
        return 2


class PotsdamParams(DatasetParams):
    """grid: crops along each side of a tile. colour_tolerance: how far, per channel, a label's
    colour may be from the six (two of the distributed labels are lossy); 0 is exact."""

    kind: Literal["potsdam"]
    variant: Literal["potsdam6", "potsdam3"]
    crop: Annotated[int, Field(ge=32)] = 200
    pad: bool = False
    grid: Positive = 15
    colour_tolerance: Annotated[int, Field(ge=0, le=120)] = 80

    @classmethod
    def annotated_classes(cls, raw: dict[str, Any]) -> int | None:
        return {"potsdam6": 6, "potsdam3": 3}.get(raw.get("variant"))


class FolderParams(DatasetParams):
    """Any folder of images. labels: the name of its label folder, or null. channels: 3 for RGB, 4
    for TIFFs of four 8-bit bands, RGB and infrared. shorter_side: pictures are brought down to it;
    null leaves them."""

    kind: Literal["folder"]
    channels: Literal[3, 4] = 3
    labels: str | None = None
    shorter_side: Positive | None = None


#: Settings by kind of data set.
KINDS: dict[str, type[DatasetParams]] = {
    "coco_persons": CocoPersonsParams,
    "coco_stuff": CocoStuffParams,
    "folder": FolderParams,
    "potsdam": PotsdamParams,
}


def _by_kind(raw: Any) -> Any:
    if not isinstance(raw, dict):
        return raw  # a data set already, or left for validation to complain about
    kind = str(raw.get("kind"))
    if kind not in KINDS:
        raise ValueError(f"kind '{kind}' is not among {sorted(KINDS)}")
    return KINDS[kind].model_validate(raw)


Dataset = Annotated[SerializeAsAny[DatasetParams], BeforeValidator(_by_kind)]


# ---- methods -------------------------------------------------------------------------------------


class OptimiserSettings(Strict):
    """Adam, at 1e-4 with batches of 64 (5.1). steps: parameter updates; batch: images in each.

    schedule: the learning rate stays (`constant`) or falls to zero along half a cosine. average:
    decay of an exponential moving average of the weights, which is what is evaluated and kept; 0
    keeps the weights as they are. crop: side of the training crops in pixels, or null for that of
    the crops evaluation looks at; smaller ones cost less and show less of a picture at a time.
    *Assumption: steps, schedule and flips are not stated; 640,000 crops, constant, flipped.*
    """

    steps: Positive = 10_000
    batch: Annotated[int, Field(ge=2)] = 64
    learning_rate: PositiveFloat = 1e-4
    schedule: Literal["constant", "cosine"] = "constant"
    average: Annotated[float, Field(ge=0, lt=1)] = 0.0
    flip: bool = True
    crop: Positive | None = None


class JitterSettings(Strict):
    """How far colours may change: factors are drawn from 1 - s to 1 + s, hues turned by up to
    `hue` (at most one half) of a full circle either way. Defaults: IIC's code."""

    brightness: Strength = 0.4
    contrast: Strength = 0.4
    saturation: Strength = 0.4
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.125


class MethodSettings(Strict):
    """What every row of Table 1 has.

    title: the row's name. paper_row: the row of the paper's Table 1 it is laid beside, or null.
    train_on: all pictures, as the paper, or the `chosen` half alone (`infoseg.data.store.halves`),
    so that the other half holds groups that training never saw. seeds: of its runs. per_dataset:
    settings that differ for a data set, by its key.
    """

    kind: str
    title: Title
    paper_row: str | None = None
    train_on: Literal["all", "chosen"] = "all"
    seeds: list[int] = Field([0, 1, 2], min_length=1)
    per_dataset: dict[str, dict[str, Any]] = {}

    @model_validator(mode="after")
    def _seeds_differ(self) -> MethodSettings:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds: the same seed twice")
        return self

    def numbers(self) -> dict[str, Any]:
        """What decides the numbers of a run: everything but which seeds there are."""
        return self.model_dump(exclude={"seeds", "per_dataset"})


class ClusterSettings(MethodSettings):
    """pixels_per_image: how many pixels, drawn at random, each image gives to k-means (the released
    code of Doersch and Isola, by an oversight, took one per batch). passes: how often scikit-learn
    goes over them."""

    pixels_per_image: Positive = 100
    passes: Positive = 20


class TrunkSettings(Strict):
    """sobel: two gradients beside the colours; null is IIC's input: with them on COCO, without on
    Potsdam's four bands. width: factor on the trunk's channels; see `infoseg.trunk.Trunk`."""

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
    """standardise: divide each channel by its standard deviation first (not in IIC's code)."""

    kind: Literal["kmeans"] = "kmeans"
    title: Title = "K-Means"
    paper_row: str | None = "K-Means"
    pixels_per_image: Positive = 1000
    standardise: bool = False


class PatchSettings(TrunkSettings, ClusterSettings):
    """patch: side of a patch in pixels of the input, odd. head_width: channels of the head's
    convolution and outputs of its first linear layer. dropout: share of those outputs set to zero.
    pairs: `batch` places patches alike in all images of a batch, as released; `image` anew in each.
    pairs_per_image: 1 as released, where all a step sees is one place and one answer; more teach
    faster. *Assumption: rate, batch and steps are unrecorded; InfoSeg's.*"""

    patch: Annotated[Positive, AfterValidator(_odd)] = 11
    head_width: Positive = 1024
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
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
    """clusters_a: outputs of the over-clustering head. weight_a, weight_b: lambda of either head's
    loss; above 1 it favours clusters of equal size. displacement: T, in pixels of the input; the
    window has (2T + 1)^2 displacements. turn: consecutive steps of one head before the other's
    (*assumption: shorter turns than the authors' epochs do the same*). jitter, flip: of the second
    view, flip being a probability. mask: whether the loss leaves out pixels that are not annotated,
    as the authors' code does."""

    kind: Literal["iic"] = "iic"
    title: Title = "IIC"
    paper_row: str | None = "IIC"
    clusters_a: Annotated[int, Field(ge=2)] = 45
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
    """width, blocks, norm: of the network, see `infoseg.causal.OrderedNetwork` (norm false is the
    unofficial code's: nearly every pixel starts in one cluster). displacement, weight: of IIC's
    loss, T in pixels and lambda. resolution: where the loss compares class maps, at the size of the
    `input` or, much faster, of the `map`, whose cells have 4 px; T is rounded down to cells. The
    input is colours (and infrared): Sobel gradients would look a pixel ahead in every order.
    *Assumption: rate and batch of the unofficial code for COCO-Stuff-3.*"""

    kind: Literal["ac"] = "ac"
    title: Title = "AC"
    paper_row: str | None = "AC"
    width: PositiveFloat = 1.0
    blocks: Positive = 4
    norm: bool = True
    displacement: NonNegative = 10
    weight: PositiveFloat = 1.0
    resolution: Literal["input", "map"] = "input"
    optimiser: OptimiserSettings = OptimiserSettings(batch=30, learning_rate=4e-5)


class InMARSSettings(TrunkSettings, MethodSettings):
    """entropy_weight: mu, which favours clusters of equal size. weigh_by_area: a region counts by
    its pixels rather than once. noise_weight, spatial_weight: of the two divergences; at 0 their
    passes are left out. epsilon: L2 norm of an image's noise, of all channels in 0..1. shift: the
    furthest a pixel is moved, in pixels. grid: nodes of the displacement field along each side.
    power_iterations: of either search, at a forward and a backward pass each. xi: how far from the
    image its gradients are taken, as a share of epsilon and shift; around 1 the search found the
    most. *Assumption: no number was found in public; mu and the weights are IMSAT's.*"""

    kind: Literal["inmars"] = "inmars"
    title: Title = "InMARS"
    paper_row: str | None = "InMARS"
    entropy_weight: PositiveFloat = 4.0
    weigh_by_area: bool = False
    noise_weight: Weight = 10.0
    epsilon: PositiveFloat = 2.0
    spatial_weight: Weight = 10.0
    shift: PositiveFloat = 4.0
    grid: Annotated[int, Field(ge=2)] = 5
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
    width: factor on the channels of A and B; 1 is the above.
    layers_b: convolutions of B, each 4x4,512,2; there must be enough pixels left for the last.
    features: P, the length of local and global features; 1024 (5.1).
    block_c: `residual` is the paper's; `none` leaves it out (the paper claims that it helps, 4.2):
        what block A ends with is L then, and P is its channels, whatever `features` says.
    norm_c, norm_d: normalisation at the end of block C and before block D.
    input: `grey` replaces red, green and blue by their luma, so that features cannot rest on hue
        (infrared stays).
    standardise: `dataset` subtracts the data set's mean colour and divides by its standard
        deviation; `image` does so with the mean and deviation of each crop, which takes away what
        tells an image by its overall colour and contrast.
    """

    block_a: Literal["figure3", "cheap", "dim"] = "figure3"
    width: PositiveFloat = 1.0
    layers_b: Positive = 3
    features: Positive = 1024
    block_c: Literal["residual", "none"] = "residual"
    norm_c: Norm = "none"
    norm_d: Norm = "none"
    input: Literal["colour", "grey"] = "colour"
    standardise: Literal["none", "dataset", "image"] = "dataset"


class ObjectiveSettings(Strict):
    """The mutual-information step (4.3), and what the paper leaves open about it.

    tau: smoothness of Eq. 3; the paper sets 0.8.
    score_factor: multiplies every dot product <L, H> in Eqs 3 and 8. 1 is the paper as written;
        about 4.5 / sqrt(P) keeps V soft at the start whatever P is (0.14 at P = 1024).
    measure: `jsd` (Eq. 7) or `dv` (Donsker-Varadhan, the ablation of Table 2).
    assignment: `soft` (Eq. 5) or `hard` (S = H of the arg max, Table 2).
    marginal: what S(x') of Eq. 8 is made of; see `infoseg.losses.negative_scores`. `paired` is
        Eq. 8 as written.
    negatives: `derangement` pairs every image with one other, `all_pairs` with all others.
    gradient_through_v: whether V is part of the objective or a constant weight.
    """

    tau: PositiveFloat = 0.8
    score_factor: PositiveFloat = 0.14
    measure: Literal["jsd", "dv"] = "jsd"
    assignment: Literal["soft", "hard"] = "soft"
    marginal: Marginal = "paired"
    negatives: Literal["derangement", "all_pairs"] = "derangement"
    gradient_through_v: bool = True


class InfoSegSettings(MethodSettings):
    """jitter: of the colours of training crops, or null; the paper names no augmentation.
    upsampling: `labels` repeats Eq. 4's low-resolution labels (nearest; the paper says "by
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
    jitter: JitterSettings | None = None
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
    """As InfoSeg's, and: displacement, weight: T in pixels and lambda of IIC's loss. jitter, flip:
    of the second view, flip being a probability. Of `objective`, tau and score_factor alone count.

    *Assumptions, for the paper names none of them: V is interpolated to the input's size, as IIC's
    predictions are; lambda is 1; there is no over-clustering head, since there is one V; and no
    mask, since InfoSeg sees none.*
    """

    kind: Literal["iic_mi"] = "iic_mi"  # type: ignore[assignment]
    title: Title = "IIC-MI"
    displacement: NonNegative = 10
    weight: PositiveFloat = 1.0
    jitter: JitterSettings = JitterSettings()  # type: ignore[assignment]
    flip: Share = 0.5


#: Settings by kind of method. A new method is its file, a line of `infoseg.methods.registry` and
#: its settings here.
METHOD_SETTINGS: dict[str, type[MethodSettings]] = {
    settings.model_fields["kind"].default: settings
    for settings in (
        RandomCNNSettings,
        RandomCNNKMeansSettings,
        KMeansSettings,
        DoerschSettings,
        IsolaSettings,
        IICSettings,
        ACSettings,
        InMARSSettings,
        InfoSegSettings,
        IICMISettings,
    )
}


def _method_kind(kind: Any) -> type[MethodSettings]:
    if not isinstance(kind, str) or kind not in METHOD_SETTINGS:
        raise ValueError(f"kind '{kind}' is not among {sorted(METHOD_SETTINGS)}")
    return METHOD_SETTINGS[kind]


# ---- runs ----------------------------------------------------------------------------------------


class TrainingParams(Strict):
    """How runs use the machine.

    device: `auto` takes CUDA where there is one. threads: CPU threads of one run, fixed so that the
    bytes of a run do not depend on how many run side by side. precision: `auto` is bfloat16 on CUDA
    and on CPUs with bfloat16 arithmetic. compile: torch.compile the training step. recompute:
    gradient checkpointing in the compared methods' trunk; fits 16 GB cards, same numbers.
    evaluations: how often, evenly spread, the data set is evaluated during training, beside once
    before it; at 0 never. log_every: steps between rows of history.csv. deterministic: the same
    seed gives the same bytes; `auto` is so on the CPU, and on CUDA, where it costs time, true is.
    """

    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    threads: Positive = 1
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: bool = False
    recompute: bool = False
    evaluations: NonNegative = 4
    evaluation_batch: Positive = 32
    log_every: Positive = 20
    deterministic: Literal["auto"] | bool = "auto"


class ExecutionParams(Strict):
    """What decides how long runs take, and none of their numbers: no stage depends on it.

    checkpoint_seconds: between checkpoints of a training, or null for none.
    """

    checkpoint_seconds: Weight | None = 60


class Figure4Params(Strict):
    """methods: whose predictions are shown, one row each. panels: pictures of each data set, of
    those the profile has, evenly spaced in rank by their PA under the last of the methods."""

    methods: list[str]
    panels: dict[str, Annotated[int, Field(ge=1, le=8)]] = Field(min_length=1)


class FiguresParams(Strict):
    """dataset: whose picture Figures 1 and 2 show, and whose trainings are drawn. confusion: whose
    confusion matrix is."""

    dataset: str
    confusion: str


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
    """A method with something changed. question: the heading it stands under in Table 2b. of: the
    method. changes: to its settings, those for the data set included."""

    question: Title
    of: str = "infoseg"
    changes: dict[str, Any]


class ProfileParams(Strict):
    """Which runs there are: every data set x method x seed, and the ablations.

    inputs: the source of every data set that the pipeline prepares, at least of `datasets`; each
    preparation waits for its own source alone. reported: the pictures that tables are about: `all`,
    as the paper, or the `half` whose labels no setting was chosen by. notes: what Table 1 has to be
    read with. persons_rule: data sets of
    persons for which notebook 9 scans selection rules.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9_-]+$")]
    description: Title
    reported: Literal["all", "half"] = "all"
    notes: list[Title] = []
    sources: list[str]
    datasets: list[str]
    inputs: dict[str, str]
    persons_rule: list[str] = []
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
    methods: dict[Name, Any] = {}
    variants: dict[Name, Variant] = {}

    @model_validator(mode="after")
    def _references_exist(self) -> Params:
        profile, methods = self.profile, self.method_names
        for place, names, known in (
            ("profile.sources", profile.sources, self.sources),
            ("profile.datasets", profile.datasets, self.datasets),
            ("profile.inputs", list(profile.inputs), self.datasets),
            ("profile.persons_rule", profile.persons_rule, profile.inputs),
            ("profile.methods", profile.methods, methods),
            ("profile.figure4.methods", profile.figure4.methods, methods),
            ("profile.figure4.panels", list(profile.figure4.panels), self.datasets),
            ("profile.figures.dataset", [profile.figures.dataset], self.datasets),
            ("profile.figures.confusion", [profile.figures.confusion], self.datasets),
            ("profile.ablations.dataset", [profile.ablations.dataset], self.datasets),
            ("profile.ablations.variants", profile.ablations.variants, self.variants),
            ("profile.ablations.table1_rows", list(profile.ablations.table1_rows), methods),
            ("profile.ablations.content", list(profile.ablations.content), methods),
            ("profile.ablations.content", list(profile.ablations.content.values()), self.variants),
        ):
            for name in names:
                if name not in known:
                    raise ValueError(f"{place}: '{name}' is not among {sorted(known)}")
        for method, variant in profile.ablations.content.items():
            half = self.variants[variant]
            if (half.of, half.changes.get("train_on")) != (method, "chosen"):
                raise ValueError(
                    f"profile.ablations.content.{method}: '{variant}' is not {method} with "
                    "train_on: chosen"
                )
        if both := set(self.variants) & set(methods) - {"iic_mi"}:
            raise ValueError(f"variants: '{min(both)}' is the name of a method, too")
        for name, dataset in self.datasets.items():
            if dataset.source not in self.sources:
                raise ValueError(f"datasets.{name}.source: '{dataset.source}' is not in sources")
        if missing := set(profile.datasets) - profile.inputs.keys():
            raise ValueError(f"profile.inputs: '{min(missing)}' of profile.datasets is missing")
        for name, source in profile.inputs.items():
            if source != self.datasets[name].source:
                raise ValueError(
                    f"profile.inputs.{name}: '{source}' is not datasets.{name}.source, "
                    f"'{self.datasets[name].source}'"
                )
            if source not in profile.sources:
                raise ValueError(f"profile.inputs.{name}: '{source}' is not in profile.sources")
        return self

    @property
    def method_names(self) -> list[str]:
        """Methods that can be asked for: those of the settings, and every kind by its own name."""
        return list(dict.fromkeys([*self.methods, *METHOD_SETTINGS]))

    def runs(self) -> list[Run]:
        """All runs of the profile, data set by data set."""
        return [
            Run(dataset=dataset, method=method, seed=seed)
            for dataset in self.profile.datasets
            for method in self.profile.methods
            for seed in self.method(method, dataset).seeds
        ]

    def ablations(self) -> list[Run]:
        """The runs of Tables 2 and 2b that are not runs of Table 1."""
        dataset = self.profile.ablations.dataset
        return [
            Run(dataset=dataset, method=variant, seed=seed)
            for variant in self.profile.ablations.variants
            for seed in self.method(variant, dataset).seeds
        ]

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
            tree = self._tree(name, dataset)
            return _method_kind(tree["kind"]).model_validate(tree)
        except ValidationError as error:
            raise ParamsError(explain(error, place, "for " + dataset)) from None
        except ValueError as error:
            raise ParamsError(f"{place}: {error}") from None

    def _tree(self, name: str, dataset: str, above: tuple[str, ...] = ()) -> dict[str, Any]:
        """A method's settings: the defaults of its kind, or another method's (`like`), then its own
        changes, then those for the data set."""
        raw = self.methods.get(name)
        raw = {} if raw is None else raw
        if not isinstance(raw, dict):
            raise ValueError(f"expected a mapping of settings, found {type(raw).__name__}")
        changes = {key: value for key, value in raw.items() if key not in ("like", "per_dataset")}
        own = raw.get("per_dataset") or {}
        # What is not a mapping is left for validation to complain about.
        own = (own.get(dataset) or {}) if isinstance(own, dict) else {"per_dataset": own}
        own = own if isinstance(own, dict) else {"per_dataset": {dataset: own}}
        if "like" in raw:
            if raw["like"] in (name, *above) or raw["like"] not in self.method_names:
                raise ValueError(f"like: '{raw['like']}' is not another method")
            base = self._tree(raw["like"], dataset, (name, *above))
        else:
            base = _method_kind(changes.get("kind", name))().model_dump()
        return merge(merge(base, changes), own)

    def _variant(self, name: str, dataset: str) -> MethodSettings:
        variant = self.variants[name]
        if variant.of not in self.method_names:
            raise ValueError(f"of: '{variant.of}' is not among {sorted(self.method_names)}")
        default = self._tree(variant.of, dataset)
        own = {"title": f"{default['title']}, {name}", "paper_row": None}
        tree = merge(default, variant.changes) | own
        settings = _method_kind(tree["kind"]).model_validate(tree)
        unchanged = METHOD_SETTINGS[default["kind"]].model_validate(default | own)
        if settings.numbers() == unchanged.numbers():
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
        settings = params.methods.get(name)
        changes = settings.get("per_dataset") if isinstance(settings, dict) else None
        unknown = set(changes if isinstance(changes, dict) else ()) - set(params.datasets)
        if unknown:
            raise ParamsError(f"methods.{name}.per_dataset: unknown data set {sorted(unknown)[0]}")
        for dataset in params.datasets:
            params.method(name, dataset)
    for run in params.ablations():
        params.method(run.method, run.dataset)
    for run in params.runs():
        inmars = isinstance(params.method(run.method, run.dataset), InMARSSettings)
        if inmars and params.datasets[run.dataset].superpixels is None:
            raise ParamsError(
                f"datasets.{run.dataset}.superpixels: {run.method} of profile.methods reads "
                "superpixels; make them with {}, or with settings of their own"
            )
    return params


def load_params(
    root: Path, profile: str | None = None, overrides: Sequence[str] = (), file: str = "params.yaml"
) -> Params:
    """The settings of the project at `root`.

    profile: compose `infoseg/conf` for this profile, as `dvc exp run -S profile=…` does; None reads
    `file`, the composed parameters. overrides: `key.path=value`, Hydra's syntax.
    Raises ParamsError naming the key at fault.
    """
    if profile is not None:
        return parse_params(compose(profile, overrides), f"infoseg/conf, profile={profile}")
    path = root / file
    if not path.exists():
        raise ParamsError(f"{path} is missing: run this in the repository, or choose a --profile")
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    # ValueError: no UTF-8, a date or a number that is none.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ParamsError(f"{path} is not valid YAML: {error}") from None
    return parse_params(_overridden(raw, overrides, path) if overrides else raw, str(path))


def _overridden(raw: Any, overrides: Sequence[str], path: Path) -> Any:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if not isinstance(raw, dict):
        raise ParamsError(f"{path} holds no settings")
    try:
        merged = OmegaConf.merge(raw, OmegaConf.from_dotlist(list(overrides)))
        return OmegaConf.to_container(merged, resolve=True)
    except (
        OmegaConfBaseException, yaml.YAMLError, ValueError, TypeError, KeyError,
        RecursionError, OverflowError,
    ) as error:  # fmt: skip
        raise ParamsError(f"{' '.join(overrides)}: cannot be set in {path}: {error}") from None


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
        tree = OmegaConf.to_container(config, resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise ParamsError(f"infoseg/conf, profile={profile}: {error}") from None
    assert isinstance(tree, dict)
    return {str(key): value for key, value in tree.items()}


def explain(error: ValidationError, prefix: str, origin: str) -> str:
    """Pydantic's findings as one line each, `key: what is wrong`."""
    lines = []
    for finding in error.errors():
        # Discriminated unions put their tag into the path; it is not a key of the file.
        parts = [str(part) for part in finding["loc"]]
        kinds = {"coco_scenes", "potsdam_scenes", "local", "official"}
        parts = [part for i, part in enumerate(parts) if not (i == 2 and part in kinds)]
        parts = [part for part in parts if part != "[key]"]  # pydantic's word for a bad one
        key = ".".join(([prefix] if prefix else []) + parts)
        message = finding["msg"].removeprefix("Value error, ")
        if finding["type"] == "extra_forbidden":
            message = "unknown key (a typo, or a key of another version)"
        elif finding["type"] == "missing":
            message = "missing"
        lines.append(f"  {key}: {message}" if key else f"  {message}")
    return f"bad parameters ({origin}):\n" + "\n".join(lines)
