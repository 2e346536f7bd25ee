"""What `infoseg segment` shows of its work: a contact sheet, and a page that is one file."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from infoseg.export import Weights
from infoseg.files import write_whole
from infoseg.results.page import CSS, HEAD
from infoseg.results.palette import class_colours
from infoseg.segmented import Segmented, sentences

#: Of the contact sheet: side of a cell, gap between cells, height of a caption, in pixels; pairs.
CELL, GAP, CAPTION, PAIRS, ACROSS = 144, 4, 14, 24, 4

_STYLE = """
.pairs { display: grid; grid-template-columns: repeat(auto-fill, minmax(19rem, 1fr)); gap: 1rem;
         margin: 1rem 0; }
.pairs figure { margin: 0; } .pairs div { display: flex; gap: 4px; }
.pairs img { width: calc(50% - 2px); height: auto; align-self: flex-start; }
.swatch { display: inline-block; width: .9em; height: .9em; margin-right: .5em;
          border: 1px solid var(--line); vertical-align: -.1em; }
"""

_TEMPLATE = (
    HEAD
    + """<body>
<header>
<h1>{{ title }}</h1>
<p class="soft">{{ done }} picture{{ "s" if done != 1 }} in {{ seconds }} s, with {{ weights }}.</p>
</header>
<main>
{% if left_out %}
<div class="warning" role="note"><p><strong>Left out:</strong></p><ul>
{% for name, problem in left_out.items() %}<li><code>{{ name }}</code>: {{ problem }}</li>
{% endfor %}</ul></div>
{% endif %}
{% if evaluation %}
<h2>With the labels</h2>
<p>Pixel accuracy {{ "%.1f" % evaluation.pa }} %{% if evaluation.miou is not none %}, mIoU
{{ "%.1f" % evaluation.miou }} %{% endif %}, on {{ evaluation.images }} labelled pictures at their
own size, after one match of clusters with classes for all of them. One constant answer would get
{{ "%.1f" % evaluation.constant_pa }} %.</p>
{% endif %}
<h2>Without labels</h2>
<ul>{% for sentence in sentences %}<li>{{ sentence }}</li>{% endfor %}</ul>
<div class="table" role="region" aria-label="Clusters" tabindex="0" style="overflow-x: auto">
<table><caption><span>Share of all pixels</span></caption>
<thead><tr><th scope="col">cluster</th><th scope="col">share</th></tr></thead>
<tbody>{% for row in clusters %}<tr><th scope="row"><span class="swatch"
style="background: {{ row[1] }}"></span>{{ row[0] }}</th><td>{{ row[2] }} %</td></tr>
{% endfor %}</tbody></table></div>
<h2>Pictures</h2>
{% if shown|length < done %}<p class="soft">{{ shown|length }} of {{ done }}, evenly spread; all of
them lie beside this page.</p>{% endif %}
<div class="pairs">
{% for one in shown %}<figure><div><img src="{{ one[1] }}" alt="{{ one[0] }}"><img
src="{{ one[2] }}" alt="{{ one[0] }}, coloured by cluster"></div>
<figcaption><code>{{ one[0] }}</code></figcaption></figure>
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
        "evaluation": result.evaluation,
        "sentences": sentences(result),
        "clusters": list(zip(result.names, colours, shares, strict=True)),
        "shown": [(name, _uri(picture), _uri(over)) for name, picture, over in result.shown],
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
        name, *images = result.shown[place]
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
