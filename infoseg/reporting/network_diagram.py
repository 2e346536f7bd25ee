"""Figure 3 of the paper, drawn from the network itself: the overview, and what its blocks hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from infoseg.model import Network
from infoseg.reporting.network_layers import Block, Layer, Shape, read_blocks
from infoseg.reporting.style import ACCENT, INK, new_figure, theme

# Inches. Everything is placed by hand: a diagram has no axes that could be laid out.
WIDTH, OVERVIEW, EDGE = 7.8, 1.75, 0.1
BOX, PITCH, HEAD, FOOT = 0.33, 0.57, 0.98, 0.5
#: Left edge and width of each block's column, narrower where no shortcut stands beside it.
COLUMNS = {
    "A": (0.10, 1.38),
    "B": (1.60, 1.38),
    "C": (3.10, 1.62),
    "C'": (4.84, 1.62),
    "D": (6.58, 1.12),
}
SHORTCUT = 0.24
#: Where in a box the arrows run: off the middle, so that shapes have room beside them.
LANE = 0.24
FILL = {"A": "#DCE8F2", "B": "#E4E4E4", "C": "#E3F0E6", "C'": "#E3F0E6", "D": "#F6EBD5"}
ROLES = {
    "A": "patch features",
    "B": "image features",
    "C": "local features",
    "C'": "image features",
    "D": "global features",
}
GREY = "0.4"


def figure3(network: Network, size: int | tuple[int, int]) -> Figure:
    """The network's diagram (Figure 3): (a) how the blocks are joined, (b) what they consist of.

    network: any `infoseg.model.Network`; kernels, channels, strides and receptive field are read
    from its modules. size: side of the input image in pixels, or (height, width); the shapes at the
    arrows, channels x height x width, are those of a forward of such an image.
    Raises ValueError for an image that is too small for the network.
    """
    height, width = (size, size) if isinstance(size, int) else size
    entry, blocks = read_blocks(network, height, width)
    rows = max(_rows(block) for block in blocks.values())
    high = EDGE + OVERVIEW + 0.12 + HEAD + rows * PITCH + FOOT + EDGE
    with theme():
        figure = new_figure(WIDTH, high, layout=None)
        ax = figure.add_axes((0, 0, 1, 1))
        ax.set_xlim(0, WIDTH)
        ax.set_ylim(0, high)
        ax.set_axis_off()
        _overview(ax, high - EDGE, entry, blocks, _input_note(network))
        top = high - EDGE - OVERVIEW - 0.12
        _text(ax, EDGE, top - 0.06, "(b) Blocks", size=9, ha="left", weight="bold")
        for name, block in blocks.items():
            _column(ax, block, *COLUMNS[name], top - HEAD)
        legend = (
            "Conv, W × W, C, d: convolution with filter size W × W, C channels and stride d. "
            "Shapes: channels × height × width.\n"
            "Blocks C and C′ each have weights of their own."
        )
        _text(ax, EDGE, EDGE + 0.13, legend, size=7, ha="left", color=GREY)
    return figure


def _input_note(network: Network) -> str:
    """What happens to the image before block A."""
    kinds = {
        "none": "as it is",
        "dataset": "standardised by data set",
        "image": "standardised by crop",
    }
    return f"{'grey' if network.grey else 'colour'},\n{kinds[network.standardise]}"


def shape_text(shape: Shape) -> str:
    """(128, 16, 16) → "128 × 16 × 16"."""
    return " × ".join(str(n) for n in shape)


# ---- (a) ---------------------------------------------------------------------------------------


def _overview(
    ax: Axes, top: float, entry: Shape, blocks: dict[str, Block], input_note: str
) -> None:
    """Image → A, then A → C → L above and A → B → C' → D → H below."""
    _text(ax, EDGE, top - 0.08, "(a) Overview", size=9, ha="left", weight="bold")
    upper, lower, middle = top - 0.5, top - 1.3, top - 0.9
    tall, wide = 0.42, 0.66
    starts = {"A": 1.98, "B": 3.7, "C": 5.28, "C'": 5.28, "D": 6.75}
    _box(ax, EDGE, middle - 0.3, 0.8, 0.6, "white", "Image")
    _text(ax, EDGE, middle - 0.35, input_note, size=6.5, color=GREY, va="top", ha="left")
    for name, y in (("A", middle), ("C", upper), ("B", lower), ("C'", lower), ("D", lower)):
        _box(ax, starts[name], y - tall / 2, wide, tall, FILL[name], f"Block {_prime(name)}")

    def arrow(start: float, end: float, y: float, shape: Shape) -> None:
        _arrow(ax, (start, y), (end, y), shape_text(shape))

    arrow(EDGE + 0.8, starts["A"], middle, entry)
    # The patch features go to both branches.
    fork = starts["A"] + wide + 0.15
    ax.plot([fork - 0.15, fork], [middle, middle], color=INK, lw=0.9)
    ax.plot([fork, fork], [lower, upper], color=INK, lw=0.9)
    arrow(fork, starts["C"], upper, blocks["A"].shape)
    arrow(fork, starts["B"], lower, blocks["A"].shape)
    arrow(starts["B"] + wide, starts["C'"], lower, blocks["B"].shape)
    arrow(starts["C'"] + wide, starts["D"], lower, blocks["C'"].shape)
    end = starts["D"] + wide / 2
    arrow(starts["C"] + wide, end - 0.1, upper, blocks["C"].shape)
    _result(ax, end, upper, "L", "local")
    # H leaves block D downwards and no further: there is no room to its right.
    _arrow(ax, (end, lower - tall / 2), (end, lower - tall / 2 - 0.2))
    _text(
        ax, end + 0.07, lower - tall / 2 - 0.1, shape_text(blocks["D"].shape), size=6.5, ha="left"
    )
    _result(ax, end - 0.07, lower - tall / 2 - 0.3, "H", "global")


def _result(ax: Axes, x: float, y: float, letter: str, words: str) -> None:
    _text(ax, x, y, letter, size=10, weight="bold", color=ACCENT, ha="left")
    _text(ax, x + 0.17, y - 0.01, words, size=7, ha="left", color=GREY)


# ---- (b) ---------------------------------------------------------------------------------------


def _rows(block: Block) -> int:
    """Boxes above one another, the sum of a residual block counted as one."""
    residual = (block.shortcut is not None) + (block.tail is not None)
    return max(1, len(block.layers) + residual)


def _column(ax: Axes, block: Block, left: float, width: float, top: float) -> None:
    """One block: title, layers from top to bottom, the shortcut beside them, output shape."""
    _text(ax, left, top + 0.66, f"Block {_prime(block.name)}", size=8, ha="left", weight="bold")
    _text(ax, left, top + 0.45, _subtitle(block), size=6.5, ha="left", color=GREY)
    inner = width - (SHORTCUT + 0.12 if block.shortcut else 0.0)
    x = left + LANE
    _arrow(ax, (x, top + 0.27), (x, top))
    _text(ax, x + 0.07, top + 0.19, shape_text(block.entry), size=6.5, ha="left")
    boxes = [(layer.text, layer.then, layer.shape) for layer in block.layers]
    boxes = boxes or [("left out", "", block.shape)]
    y = top
    for place, (text, then, shape) in enumerate(boxes, 1):
        _box(ax, left, y - BOX, inner, BOX, FILL[block.name], text, then)
        _arrow(ax, (x, y - BOX), (x, y - PITCH))
        # The shape a block ends with stands below its last arrow, larger.
        if place < len(boxes) or block.shortcut is not None:
            _text(ax, x + 0.07, y - BOX - 0.1, shape_text(shape), size=6.5, ha="left")
        y -= PITCH
    if block.shortcut is not None:
        y = _residual(ax, block, block.shortcut, left, inner, top, y)
    bold = {"size": 7, "weight": "bold", "color": ACCENT, "ha": "left"}
    _text(ax, left, y - 0.09, shape_text(block.shape), **bold)


def _residual(
    ax: Axes, block: Block, shortcut: Layer, left: float, inner: float, top: float, y: float
) -> float:
    """The shortcut beside the layers of block C, the sum, and what follows it; returns the end."""
    x, side = left + LANE, left + inner + 0.12
    centre = side + SHORTCUT / 2
    fork, bottom, plus = top + 0.1, y + 0.05, y - 0.1
    ax.plot([x, centre], [fork, fork], color=INK, lw=0.9)
    _arrow(ax, (centre, fork), (centre, top))
    _box(ax, side, bottom, SHORTCUT, top - bottom, FILL[block.name], "")
    _text(ax, centre, (top + bottom) / 2, shortcut.text, size=6.5, rotation=90)
    ax.plot([centre, centre], [bottom, plus], color=INK, lw=0.9)
    _arrow(ax, (centre, plus), (x + 0.09, plus))
    _text(ax, x, plus, "+", size=9, bbox={"boxstyle": "circle,pad=0.12", "fc": "white", "ec": INK})
    after = plus - 0.1
    y = after - (PITCH - BOX)
    _arrow(ax, (x, after), (x, y))
    if block.tail is not None:
        _text(ax, x + 0.07, after - 0.1, shape_text(shortcut.shape), size=6.5, ha="left")
        _box(ax, left, y - BOX, inner, BOX, FILL[block.name], block.tail.text)
        _arrow(ax, (x, y - BOX), (x, y - PITCH))
        y -= PITCH
    return y


def _subtitle(block: Block) -> str:
    seen = f", {block.field} px seen" if block.name == "A" and block.field else ""
    return f"{ROLES[block.name]}{seen}\n{_count(block.parameters)} parameters"


def _count(n: int) -> str:
    if n >= 1_000_000:
        return f"{n / 1e6:.1f} M"
    return f"{n / 1e3:.1f} k" if n >= 1000 else str(n)


# ---- pieces --------------------------------------------------------------------------------------


def _prime(name: str) -> str:
    return name.replace("'", "′")


def _box(
    ax: Axes, x: float, y: float, width: float, height: float, fill: str, text: str, then: str = ""
) -> None:
    shape = FancyBboxPatch(
        (x, y), width, height, boxstyle="round,pad=0,rounding_size=0.04", fc=fill, ec=INK, lw=0.7
    )
    ax.add_patch(shape)
    centre = x + width / 2, y + height / 2
    _text(ax, centre[0], centre[1] + (0.065 if then else 0), text, size=7)
    if then:
        _text(ax, centre[0], centre[1] - 0.075, then, size=6, color=GREY)


def _arrow(ax: Axes, start: Sequence[float], end: Sequence[float], text: str = "") -> None:
    style = {"arrowstyle": "-|>", "lw": 0.9, "color": INK, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", end, start, arrowprops=style | {"mutation_scale": 7})
    if text:
        _text(ax, (start[0] + end[0]) / 2, start[1] + 0.09, text, size=6.5)


def _text(ax: Axes, x: float, y: float, text: str, **style: Any) -> None:
    ax.text(x, y, text, **{"ha": "center", "va": "center", "linespacing": 1.15} | style)
