"""The report's page: its style sheet and its template, filled in by `report`.

One file without script or outside resource: it opens from disk, on paper and on a phone, and looks
the same wherever it is kept.
"""

from __future__ import annotations

# Colours are pairs of a light and a dark value; text on its ground has a contrast of at least 4.5.
CSS = """
:root {
  color-scheme: light dark;
  --ground: #ffffff; --raised: #f5f7f9; --ink: #1c2329; --soft: #55606b; --line: #d5dbe1;
  --link: #005a9c; --good: #00664a; --bad: #a33b00; --open: #55606b; --warn: #fff6df;
  --warn-line: #b98900;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #14181c; --raised: #1d2329; --ink: #e4e8ec; --soft: #a5b0ba; --line: #36404a;
    --link: #7cc0f5; --good: #5fd0a5; --bad: #ffa06b; --open: #a5b0ba; --warn: #2d2610;
    --warn-line: #d9a514;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-padding-top: 1rem; }
body {
  margin: 0 auto; max-width: 62rem; padding: 1.5rem 1rem 4rem;
  background: var(--ground); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", Arial, sans-serif;
  overflow-wrap: break-word;
}
h1, h2, h3 { line-height: 1.25; text-wrap: balance; }
h1 { font-size: 1.75rem; margin: 0 0 .25rem; }
h2 { font-size: 1.3rem; margin: 3rem 0 .75rem; padding-top: .75rem;
     border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 2rem 0 .5rem; }
p, .claims p { margin: .5rem 0; max-width: 46rem; }
a { color: var(--link); text-underline-offset: .15em; }
a:focus-visible, [tabindex]:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
code { font: .9em/1.4 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
       overflow-wrap: anywhere; }
.soft, .note, figcaption { color: var(--soft); font-size: .9rem; }
.note { margin: .35rem 0; }
.warning { margin: 1.25rem 0; padding: .75rem 1rem; max-width: none; background: var(--warn);
           border-left: 4px solid var(--warn-line); }
nav { margin: 1.5rem 0 0; padding: .75rem 1rem; background: var(--raised); font-size: .95rem; }
nav h2 { margin: 0; padding: 0; border: 0; font-size: .95rem; }
nav ol { margin: .35rem 0 0; padding-left: 1.4rem; columns: 16rem; column-gap: 2rem; }
nav li { break-inside: avoid; }
.table { margin: 1rem 0 .75rem; max-width: 100%; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums lining-nums;
        font-size: .95rem; line-height: 1.35; }
caption { text-align: left; padding: 0 0 .5rem; font-weight: 600; }
/* In a table that scrolls sideways, words stay where they can be read. */
caption > span, [scope=rowgroup] > span {
  position: sticky; left: 0; display: inline-block; max-width: min(60rem, calc(100vw - 2rem));
}
th, td { padding: .35rem clamp(.4rem, 1vw, .75rem); text-align: right; white-space: nowrap; }
th { font-weight: 400; }
thead th { font-weight: 600; vertical-align: bottom; border-top: 2px solid var(--ink);
           border-bottom: 1px solid var(--soft); }
thead th:first-child, [scope=row], [scope=rowgroup] {
  text-align: left; padding-left: 0;
}
.grid thead th:first-child, .grid [scope=row] {
  position: sticky; left: 0; background: var(--ground);
}
[scope=rowgroup] { padding-top: .9rem; white-space: normal; font-style: italic; }
.apart { color: var(--soft); }
tbody + tbody { border-top: 1px solid var(--line); }
table tbody:last-of-type { border-bottom: 2px solid var(--ink); }
.spread { display: inline-block; min-width: 3.4em; text-align: left; color: var(--soft);
          white-space: pre; }
.words { width: 100%; }
.words th, .words td { text-align: left; vertical-align: top; white-space: normal;
                       padding-left: 0; }
.words tbody tr + tr { border-top: 1px solid var(--line); }
.words tbody tr.same { border-top: 0; }
.words tbody th { width: 30%; }
.words ul { margin: 0; padding-left: 1.1rem; }
figure { margin: 1rem 0 0; }
.card { background: #ffffff; border: 1px solid var(--line); padding: .5rem; overflow-x: auto; }
.card img { display: block; margin: 0 auto; max-width: 100%; height: auto; }
figcaption { margin-top: .5rem; max-width: 46rem; }
.claims { list-style: none; margin: 1rem 0; padding: 0; }
.claims li { padding: .75rem 0; border-top: 1px solid var(--line); display: grid;
             grid-template-columns: 12.5rem 1fr; gap: 0 1rem; }
.claims p { margin: 0 0 .35rem; }
.claims .claim { font-weight: 600; }
.verdict { font-weight: 600; color: var(--open); }
.verdict::before { display: inline-block; width: 1.4em; }
.holds { color: var(--good); } .holds::before { content: "✓"; }
.fails { color: var(--bad); } .fails::before { content: "✗"; }
.open::before { content: "?"; } .unrun::before { content: "–"; }
footer { margin-top: 3rem; padding-top: .75rem; border-top: 1px solid var(--line); }
@media (max-width: 40rem) {
  h1 { font-size: 1.45rem; }
  .grid table { font-size: .875rem; }
  .grid [scope=row], .grid [scope=rowgroup], .grid th:first-child { padding-left: 0; }
  .grid [scope=row] { max-width: 8.5rem; white-space: normal; }
  .claims li { display: block; }
  /* A row of words becomes a small section: three columns of words need more room. */
  .words thead { position: absolute; clip-path: inset(50%); width: 1px; height: 1px;
                 overflow: hidden; }
  .words, .words tbody, .words tr, .words th, .words td { display: block; width: auto; }
  .words tbody th { width: auto; padding: .6rem 0 0; font-weight: 600; }
  .words td { padding: .1rem 0; }
  .words td:last-child { padding-bottom: .6rem; }
  .words tr.same td:empty { display: none; }
  .words [data-title]::before { content: attr(data-title) ": "; color: var(--soft); }
  /* A figure drawn for a page is not shrunk below what can be read: it scrolls. */
  .card img { max-width: none; width: max(100%, min(36rem, var(--width))); }
}
@media print {
  :root { --ground: #fff; --raised: #fff; --ink: #000; --soft: #444; --line: #bbb; --link: #000;
          --good: #000; --bad: #000; --open: #444; --warn: #fff; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  nav { display: none; }
  h2, h3, caption { break-after: avoid; }
  figure, .claims li, tr { break-inside: avoid; }
  .table, .card { overflow: visible !important; }
  .grid table { font-size: 8pt; }
  th, td { padding: .25rem .4rem; }
}
"""

#: Of every page: `title` and `css` are filled in.
HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{{ title }}</title>
<style>{{ css }}</style>
</head>
"""

TEMPLATE = (
    HEAD
    + """<body>
<header>
<h1>{{ title }}</h1>
<p class="soft">Profile <code>{{ c.profile }}</code>: {{ c.description }}</p>
</header>
<main>
{% if warning %}
<p class="warning" role="note"><strong>{{ warning[0] }}</strong> {{ warning[1] }}</p>
{% endif %}
<section id="what" aria-label="What this is">
{% for sentence in summary %}
<p>{{ sentence }}</p>
{% endfor %}
</section>
<nav aria-labelledby="contents">
<h2 id="contents">On this page</h2>
<ol>
{% for key, heading in sections %}
<li><a href="#{{ key }}">{{ heading }}</a></li>
{% endfor %}
</ol>
</nav>
{% for heading, grid, text in tables %}
<section id="table-{{ loop.index }}">
<h2>{{ heading }}</h2>
{% if text %}
<p>{{ text }}</p>
{% endif %}
<div class="grid">
{{ grid }}</div>
</section>
{% endfor %}
{% if c.claims %}
<section id="claims">
<h2>{{ headings.claims }}</h2>
<p>“Not decided” means that the difference is within its spread over seeds or over groups of
pictures, or that one side of the comparison is a single seed. Verdicts are about
{{ verdicts_about }}.</p>
<ul class="claims">
{% for claim in c.claims %}
<li>
<p class="verdict {{ marks[claim.verdict] }}">{{ claim.verdict }}</p>
<div>
<p class="claim">{{ claim.text }}</p>
<p>{{ claim.finding }}</p>
<p class="soft">In the paper: {{ claim.source }}</p>
</div>
</li>
{% endfor %}
</ul>
</section>
{% endif %}
{% if figures %}
<section id="figures">
<h2>{{ headings.figures }}</h2>
{% for heading, picture, alt, caption in figures %}
<h3>{{ heading }}</h3>
<figure>
<div class="card" role="region" aria-label="{{ heading }}" tabindex="0">
<img src="{{ picture.uri }}" width="{{ picture.width }}" height="{{ picture.height }}"
 style="--width: {{ picture.width }}px" alt="{{ alt }}">
</div>
{% if caption %}
<figcaption>{{ caption }}</figcaption>
{% endif %}
</figure>
{% endfor %}
</section>
{% endif %}
{% if c.signs %}
<section id="signs">
<h2>{{ headings.signs }}</h2>
<p>Read from each run's last evaluation. {{ quiet }}</p>
{% if signs %}
<table class="words">
<thead><tr><th scope="col">Run</th><th scope="col">Signs</th></tr></thead>
<tbody>
{% for run, sentences in signs %}
<tr><th scope="row"><code>{{ run }}</code></th><td>
<ul>
{% for sentence in sentences %}
<li>{{ sentence }}</li>
{% endfor %}
</ul>
</td></tr>
{% endfor %}
</tbody>
</table>
{% endif %}
</section>
{% endif %}
{% if c.deviations %}
<section id="deviations">
<h2>{{ headings.deviations }}</h2>
<p>What the paper leaves open or describes otherwise, and what was chosen here. Names in
<code>this type</code> are the settings that hold a choice.</p>
<table class="words">
<thead><tr>
{% for title in deviation_titles %}
<th scope="col">{{ title }}</th>
{% endfor %}
</tr></thead>
<tbody>
{% for what, cells in deviations %}
<tr><th scope="row">{{ what|code }}</th>
{% for title, text in cells %}
<td data-title="{{ title }}">{{ text|code }}</td>
{% endfor %}
</tr>
{% endfor %}
</tbody>
</table>
</section>
{% endif %}
{% if c.timing %}
<p class="note">How long each run took is in <a href="{{ c.timing }}">{{ c.timing }}</a>: times are
all that changes when the same thing is made again.</p>
{% endif %}
</main>
</body>
</html>
"""
)
