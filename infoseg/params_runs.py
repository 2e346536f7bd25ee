"""Settings of methods, of training and of profiles: what runs there are, and how they are run.

Data sets and their sources stand in `params_data`; how files become settings in `params`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from infoseg.params_data import Positive, Share, Strict, Title

# ---- methods -------------------------------------------------------------------------------------


class MethodSettings(Strict):
    """What every row of Table 1 has; each method's own settings stand beside its class.

    title: the row's name. paper_row: the row of the paper's Table 1 it is laid beside, or null.
    per_dataset: settings that differ for a data set, by its key; they replace those above.
    """

    kind: str
    title: Title
    paper_row: str | None
    per_dataset: dict[str, dict[str, Any]]


class OptimiserSettings(Strict):
    """Adam, as in the paper (5.1). steps: parameter updates; batch: images in each.

    schedule: the learning rate stays (`constant`) or falls to zero along half a cosine. average:
    decay of an exponential moving average of the weights, which is what is evaluated and kept; 0
    keeps the weights as they are. crop: side of the training crops in pixels, or null for that of
    the crops evaluation looks at; smaller ones cost less and show less of a picture at a time.
    """

    steps: Positive
    batch: Annotated[int, Field(ge=2)]
    learning_rate: Annotated[float, Field(gt=0)]
    schedule: Literal["constant", "cosine"]
    average: Annotated[float, Field(ge=0, lt=1)]
    flip: bool
    crop: Positive | None


# ---- runs ----------------------------------------------------------------------------------------


class TrainingParams(Strict):
    """How runs use the machine.

    images: share of the images that are trained on, the first by a hash of their names; signals
    without labels look at the rest. device: `auto` takes CUDA where there is one. threads: CPU
    threads of one run, fixed so that the bytes of a run do not depend on how many run side by side.
    precision: `auto` is bfloat16 on CUDA and on CPUs with bfloat16 arithmetic. compile:
    torch.compile the training step. recompute: the compared methods' trunk computes its largest
    activations again on the way back instead of keeping them, for cards of 16 GB; numbers stay the
    same. evaluations: how often, evenly spread, the data set is evaluated during training; at 0
    nothing but the last weights is evaluated, neither untrained nor best ones.
    log_every: steps between rows of history.csv. deterministic: the same seed gives the same bytes;
    `auto` is so on the CPU, and on CUDA, where it costs time that is measured and printed, true is.
    """

    images: Share
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")]
    threads: Positive
    precision: Literal["auto", "float32", "bfloat16"]
    compile: bool
    recompute: bool
    evaluations: Annotated[int, Field(ge=0)]
    evaluation_batch: Positive
    log_every: Positive
    deterministic: Literal["auto"] | bool


class ExecutionParams(Strict):
    """What decides how long runs take, and none of their numbers: no stage depends on it.

    checkpoint_seconds: between checkpoints of a training, or null for none. runs_per_gpu: side by
    side on each GPU, as far as its memory allows.
    """

    checkpoint_seconds: Annotated[float, Field(ge=0)] | None
    runs_per_gpu: Positive


class Repeats(Strict):
    """Further seeds for some of the runs, where all seeds of all runs would take too long."""

    datasets: list[str]
    methods: list[str]
    seeds: list[int]


class Figure4Params(Strict):
    """methods: whose predictions are shown, one row each. panels: pictures of each data set, of
    those the profile has."""

    methods: list[str]
    panels: dict[str, Annotated[int, Field(ge=1, le=8)]] = Field(min_length=1)


class FiguresParams(Strict):
    """dataset: whose picture Figures 1 and 2 show, and whose trainings are drawn. confusion: whose
    confusion matrix is."""

    dataset: str
    confusion: str


class Table2Params(Strict):
    """dataset: the one the ablations of Table 2 run on. variants: its rows before the last, which
    is InfoSeg as Table 1 has it, with the same seeds."""

    dataset: str
    variants: list[str]
    seeds: list[int]


class Table2bParams(Table2Params):
    """The open choices. table1_rows: methods of Table 1 that belong among them, and the question
    each answers; they are not trained a second time."""

    table1_rows: dict[str, str]


class Variant(Strict):
    """InfoSeg with something changed. question: the heading it stands under in Table 2b. changes:
    to the settings of the method `infoseg`, those for the data set included."""

    question: Title
    changes: dict[str, Any]


class ProfileParams(Strict):
    """Which runs there are: every data set x method x seed, and the repeats.

    inputs: the source of every data set that the pipeline prepares, at least of `datasets`; each
    preparation waits for its own source alone. persons_rule: data sets of persons for which
    notebook 10 scans selection rules.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9_-]+$")]
    description: Title
    sources: list[str]
    datasets: list[str]
    inputs: dict[str, str]
    persons_rule: list[str]
    methods: list[str]
    seeds: list[int]
    repeats: Repeats
    figure4: Figure4Params
    figures: FiguresParams
    table2: Table2Params
    table2b: Table2bParams

    @model_validator(mode="after")
    def _repeats_are_further_seeds(self) -> ProfileParams:
        twice = set(self.repeats.seeds) & set(self.seeds)
        if twice:
            raise ValueError(f"repeats.seeds: {min(twice)} is among seeds already")
        return self


class Run(Strict):
    """One training: data set, method, seed, and what it overrides of the method's settings."""

    dataset: str
    method: str
    seed: int

    @property
    def key(self) -> str:
        return f"{self.dataset}-{self.method}-{self.seed}"
