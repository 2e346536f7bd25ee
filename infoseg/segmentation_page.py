"""What `infoseg segment` shows of its work: a contact sheet, and a page that is one file."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from infoseg.export import Weights
from infoseg.files import write_whole
from infoseg.methods.kmeans import KMeans
from infoseg.results.page import CSS, HEAD
from infoseg.results.palette import class_colours
from infoseg.verdict import Signals, Verdict

#: Of the contact sheet: side of a cell, gap between cells, height of a caption, in pixels; pairs.
CELL, GAP, CAPTION, PAIRS, ACROSS = 144, 4, 14, 24, 4


@dataclass
class Segmented:
    """What became of a folder of pictures.

    done: names of the pictures. left_out: those that could not be read, and why. names: of the
    clusters. usage: share of all pixels in each cluster, (K,). signals, verdict, colours: see
    `infoseg.verdict`; None for fewer than two pictures. accuracy: PA and mIoU in percent of these
    weights, of K-Means on colour, of stripes and of one class, on the pictures `labelled`; match:
    the class of each cluster. shown: name, and small picture, overlay and K-Means' overlay, of up
    to 60 of them.
    """

    done: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    usage: np.ndarray = field(default_factory=lambda: np.zeros(0))
    signals: Signals | None = None
    verdict: Verdict | None = None
    colours: KMeans | None = None
    labelled: list[str] = field(default_factory=list)
    accuracy: dict[str, tuple[float, float]] = field(default_factory=dict)
    match: dict[str, str | None] = field(default_factory=dict)
    seconds: float = 0.0
    shown: list[tuple[str, list[Image.Image]]] = field(default_factory=list)

    def facts(self) -> dict[str, Any]:
        """What signals.json holds."""
        return {
            "pictures": len(self.done),
            "left_out": self.left_out,
            "cluster_usage": [round(float(share), 4) for share in self.usage],
            "verdict": self.verdict.word if self.verdict else None,
            "signals": self.signals.as_dict() if self.signals else None,
            "labelled": len(self.labelled),
            "accuracy": {name: {"pa": pa, "miou": miou}
                         for name, (pa, miou) in self.accuracy.items()},
            "match": self.match,
        }  # fmt: skip


_STYLE = """
.pairs { display: grid; grid-template-columns: repeat(auto-fill, minmax(27rem, 1fr)); gap: 1rem;
         margin: 1rem 0; }
.pairs figure { margin: 0; } .pairs div { display: flex; gap: 4px; }
.pairs img { flex: 1 1 0; min-width: 0; height: auto; align-self: flex-start; }
.verdict { font-size: 1.15em; border-left: 4px solid; padding-left: .8em; }
.swatch { display: inline-block; width: .9em; height: .9em; margin-right: .5em;
          border: 1px solid var(--line); vertical-align: -.1em; }
"""

_ALTS = ("", ", coloured by cluster", ", coloured by K-Means on colour")
_TEMPLATE = (
    HEAD
    + """<body>
<header>
<h1>{{ title }}</h1>
<p class="soft">{{ done }} picture{{ "s" if done != 1 }} in {{ seconds }} s, with {{ weights }}.</p>
</header>
<main>
{% if verdict %}<div class="verdict" role="note">
{% for sentence in verdict.sentences() %}<p>{{ sentence }}</p>{% endfor %}</div>{% endif %}
{% if left_out %}
<div class="warning" role="note"><p><strong>Left out:</strong></p><ul>
{% for name, problem in left_out.items() %}<li><code>{{ name }}</code>: {{ problem }}</li>
{% endfor %}</ul></div>
{% endif %}
{% if accuracy %}
<h2>With the labels</h2>
<div class="table" role="region" aria-label="Accuracy" tabindex="0" style="overflow-x: auto">
<table><caption><span>On {{ labelled }} labelled pictures of {{ done }} at their own size, clusters
matched with classes once for all of them; in percent</span></caption>
<thead><tr><th scope="col"></th><th scope="col">PA</th><th scope="col">mIoU</th></tr></thead>
<tbody>{% for name, values in accuracy.items() %}<tr><th scope="row">{{ name }}</th>
{% for value in values %}<td>{{ "%.1f" % value }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table></div>
{% endif %}
<h2>Clusters</h2>
<div class="table" role="region" aria-label="Clusters" tabindex="0" style="overflow-x: auto">
<table><caption><span>Share of all pixels</span></caption>
<thead><tr><th scope="col">cluster</th><th scope="col">share</th></tr></thead>
<tbody>{% for row in clusters %}<tr><th scope="row"><span class="swatch"
style="background: {{ row[1] }}"></span>{{ row[0] }}</th><td>{{ row[2] }} %</td></tr>
{% endfor %}</tbody></table></div>
<h2>Pictures</h2>
<p class="soft">Each picture, its clusters{% if verdict %}, and K-Means on colour with as many
clusters{% endif %}.</p>
{% if shown|length < done %}<p class="soft">{{ shown|length }} of {{ done }}, evenly spread; all of
them lie beside this page.</p>{% endif %}
<div class="pairs">
{% for name, images in shown %}<figure><div>{% for image, alt in images %}<img src="{{ image }}"
alt="{{ name }}{{ alt }}">{% endfor %}</div>
<figcaption><code>{{ name }}</code></figcaption></figure>
{% endfor %}</div>
</main>
{% if card %}<footer><details><summary>About the weights</summary>
<pre style="white-space: pre-wrap">{{ card }}</pre></details></footer>{% endif %}
</body>
</html>
"""
)


def write_page(path: Path, result: Segmented, read: Weights) -> Path:
    """One HTML file without script or outside resource: signals, accuracy, pictures."""
    from jinja2 import Environment  # deferred: not needed where nothing is drawn
    from markupsafe import Markup

    colours = ["#" + bytes(c).hex() for c in class_colours(len(result.usage))]
    shares = [f"{100 * share:.1f}" for share in result.usage]
    card, export = read.card, read.export
    fill: dict[str, Any] = {
        "css": Markup(CSS + _STYLE),  # ours, and quotes in it must stay
        "done": len(result.done),
        "seconds": max(1, round(result.seconds)),
        "title": "Segmented pictures",
        "weights": export.title if export else f"{card.method} on {card.dataset}, seed {card.seed}",
        "left_out": result.left_out,
        "verdict": result.verdict,
        "accuracy": result.accuracy,
        "labelled": len(result.labelled),
        "clusters": list(zip(result.names, colours, shares, strict=True)),
        "shown": [
            (name, [(_uri(image), alt) for image, alt in zip(images, _ALTS, strict=False)])
            for name, images in result.shown
        ],
        "card": read.text,
    }
    page = Environment(autoescape=True).from_string(_TEMPLATE).render(**fill)
    write_whole(path, lambda file: file.write_text(page, encoding="utf-8"))
    return path


def _uri(image: Image.Image) -> str:
    stream = io.BytesIO()
    image.save(stream, format="JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def write_contact_sheet(path: Path, result: Segmented) -> Path:
    """Write a PNG of up to 24 pictures, each beside its overlay, with its name below."""
    count = min(PAIRS, len(result.shown))
    places = np.linspace(0, len(result.shown) - 1, count).round().astype(int)
    across = min(ACROSS, count)
    rows = -(-count // across)
    pair, tall = 2 * CELL + GAP, CELL + CAPTION + GAP
    size = (across * (pair + 3 * GAP) + GAP, rows * tall + GAP)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for k, place in enumerate(places):
        name, images = result.shown[place]
        images = images[:2]
        x, y = GAP + k % across * (pair + 3 * GAP), GAP + k // across * tall
        for i, image in enumerate(images):
            fitted = image.copy()
            fitted.thumbnail((CELL, CELL))
            left = x + i * (CELL + GAP) + (CELL - fitted.width) // 2
            sheet.paste(fitted, (left, y + CELL - fitted.height))  # near their name
        told = name.encode("ascii", "replace").decode()  # what Pillow's own font can write
        told = told if len(told) <= 44 else told[:41] + "..."
        draw.text((x, y + CELL + 1), told, fill="black")
    write_whole(path, lambda file: sheet.save(file, format="PNG"))
    return path
