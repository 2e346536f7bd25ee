"""HTML pages, each one file without script or outside resource; the page of segmented pictures."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from infoseg.files import write_whole
from infoseg.results.palette import class_colours

if TYPE_CHECKING:
    from infoseg.own import Segmented, Segmenter

# Text on its ground has a contrast of at least 4.5.
CSS = """
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 66rem; padding: 1rem 1rem 2rem; background: #fff;
  color: #1c2329; overflow-wrap: break-word;
  font: .95rem/1.45 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", Arial, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .25rem; }
h2 { font-size: 1.2rem; margin: 1.75rem 0 .5rem; padding-top: .5rem;
  border-top: 1px solid #d5dbe1; }
p { margin: .4rem 0; max-width: 56rem; }
summary { color: #005a9c; cursor: pointer; margin: .4rem 0; }
code, pre { font: .9em/1.4 ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  overflow-wrap: anywhere; white-space: pre-wrap; }
.soft, figcaption { color: #55606b; font-size: .9rem; }
.warning, blockquote { margin: .75rem 0; padding: .4rem 1rem; background: #fff6df;
  border-left: 4px solid #b98900; }
/* A table wider than the screen scrolls by itself. */
table { display: block; overflow-x: auto; border-collapse: collapse; margin: .5rem 0;
  font-size: .9rem; line-height: 1.3; font-variant-numeric: tabular-nums; }
caption { display: block; text-align: left; padding: 0 0 .5rem; font-weight: 600; }
th, td { padding: .25rem .6rem; text-align: left; vertical-align: top; }
td[style*="right"] { white-space: nowrap; }
th:first-child, td:first-child { padding-left: 0; }
thead th { border-top: 2px solid #1c2329; border-bottom: 1px solid #55606b; }
tbody tr + tr { border-top: 1px solid #d5dbe1; }
img { display: block; max-width: 100%; height: auto; }
@media (max-width: 50rem) { th, td { padding: .25rem .35rem; } table { font-size: .82rem; } }
"""

#: Of every page, a Jinja template: `title` and `css` are filled in.
HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>{{ css }}</style>
</head>
"""

# ---- segmented pictures --------------------------------------------------------------------------

#: Of the contact sheet: side of a cell, gap between cells, height of a caption, in pixels; pairs.
CELL, GAP, CAPTION, PAIRS, ACROSS = 144, 4, 14, 24, 4
_CSS = """
.pairs { display: grid; grid-template-columns: repeat(auto-fill, minmax(27rem, 1fr)); gap: 1rem;
  margin: 1rem 0; }
.pairs figure { margin: 0; } .pairs div { display: flex; gap: 4px; }
.pairs img { flex: 1 1 0; min-width: 0; align-self: flex-start; }
.verdict { font-size: 1.15em; border-left: 4px solid; padding-left: .8em; }
.swatch { display: inline-block; width: .9em; height: .9em; margin-right: .5em;
  border: 1px solid #d5dbe1; vertical-align: -.1em; }
"""
_TEMPLATE = """<body>
<header>
<h1>Segmented pictures</h1>
<p class="soft">{{ done }} picture{{ "s" if done != 1 }}, segmented with {{ model.title }}.</p>
</header>
<main>
{% if result.verdict %}<div class="verdict" role="note">
{% for sentence in result.verdict.sentences %}<p>{{ sentence }}</p>{% endfor %}</div>{% endif %}
{% if result.left_out %}<div class="warning" role="note"><p><strong>Left out:</strong></p><ul>
{% for name, problem in result.left_out.items() %}<li><code>{{ name }}</code>: {{ problem }}</li>
{% endfor %}</ul></div>{% endif %}
{% if result.accuracy %}<h2>With the labels</h2>
<table><caption>On {{ result.labelled|length }} labelled pictures of {{ done }} at their own size,
clusters matched with classes once for all of them; in percent</caption>
<thead><tr><th scope="col"></th><th scope="col">PA</th><th scope="col">mIoU</th></tr></thead>
<tbody>{% for name, (pa, miou) in result.accuracy.items() %}<tr><th scope="row">{{ name }}</th>
<td>{{ "%.1f" % pa }}</td><td>{{ "%.1f" % miou }}</td></tr>
{% endfor %}</tbody></table>{% endif %}
<h2>Clusters</h2>
<table><caption>Share of all pixels</caption>
<thead><tr><th scope="col">cluster</th><th scope="col">share</th></tr></thead>
<tbody>{% for name, colour, share in clusters %}<tr><th scope="row"><span class="swatch"
style="background: {{ colour }}"></span>{{ name }}</th><td>{{ "%.1f" % (100 * share) }} %</td></tr>
{% endfor %}</tbody></table>
<h2>Pictures</h2>
<p class="soft">Each picture, its clusters{% if result.colours %}, and K-Means on colour with as
many clusters{% endif %}.{% if shown|length < done %} {{ shown|length }} of {{ done }}, evenly
spread; all of them lie beside this page.{% endif %}</p>
<div class="pairs">
{% for name, images in shown %}<figure><div>{% for image, alt in images %}<img src="{{ image }}"
alt="{{ name }}{{ alt }}">{% endfor %}</div>
<figcaption><code>{{ name }}</code></figcaption></figure>
{% endfor %}</div>
</main>
{% if model.card %}<footer><details><summary>About the weights</summary>
<pre>{{ model.card }}</pre></details></footer>{% endif %}
</body>
</html>
"""
_ALTS = ("", ", coloured by cluster", ", coloured by K-Means on colour")


def write_page(path: Path, result: Segmented, model: Segmenter) -> None:
    """Write a page of segmented pictures: verdict, accuracy, clusters, pictures."""
    from jinja2 import Environment  # deferred: not needed where nothing is drawn
    from markupsafe import Markup

    colours = ["#" + bytes(colour).hex() for colour in class_colours(model.clusters)]
    shown = [
        (name, [(_uri(image), alt) for image, alt in zip(images, _ALTS, strict=False)])
        for name, images in result.shown
    ]
    page = Environment(autoescape=True).from_string(HEAD + _TEMPLATE)
    text = page.render(
        title="Segmented pictures",
        css=Markup(CSS + _CSS),  # ours, and quotes in it must stay
        result=result,
        model=model,
        done=len(result.done),
        clusters=zip(model.names, colours, result.usage, strict=True),
        shown=shown,
    )
    write_whole(path, lambda file: file.write_text(text, encoding="utf-8"))


def _uri(image: Image.Image) -> str:
    stream = io.BytesIO()
    image.save(stream, format="JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def write_contact_sheet(path: Path, result: Segmented) -> None:
    """Write a PNG of up to 24 pictures, each beside its overlay, with its name below."""
    count = min(PAIRS, len(result.shown))
    across = min(ACROSS, count)
    pair, tall = 2 * CELL + 4 * GAP, CELL + CAPTION + GAP
    sheet = Image.new("RGB", (across * pair, -(-count // across) * tall + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for k, place in enumerate(np.linspace(0, len(result.shown) - 1, count).round().astype(int)):
        name, images = result.shown[place]
        x, y = GAP + k % across * pair, GAP + k // across * tall
        for i, image in enumerate(images[:2]):
            cell = ImageOps.pad(image, (CELL, CELL), color="white", centering=(0.5, 1))
            sheet.paste(cell, (x + i * (CELL + GAP), y))
        caption = name.encode("ascii", "replace").decode()  # what Pillow's own font can write
        draw.text((x, y + CELL + 1), caption[:44], fill="black")
    write_whole(path, lambda file: sheet.save(file, format="PNG"))
