"""The looks of every HTML page: one file without script or outside resource."""

# Colours are pairs of a light and a dark value; text on its ground has a contrast of at least 4.5.
CSS = """
:root { color-scheme: light dark; --ground: #fff; --ink: #1c2329; --soft: #55606b; --line: #d5dbe1;
  --link: #005a9c; --warn: #fff6df; --warn-line: #b98900; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #14181c; --ink: #e4e8ec; --soft: #a5b0ba; --line: #36404a;
    --link: #7cc0f5; --warn: #2d2610; --warn-line: #d9a514; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 66rem; padding: 1rem 1rem 2rem; background: var(--ground);
  color: var(--ink); overflow-wrap: break-word;
  font: .95rem/1.45 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", Arial, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .25rem; }
h2 { font-size: 1.2rem; margin: 1.75rem 0 .5rem; padding-top: .5rem;
  border-top: 1px solid var(--line); }
p { margin: .4rem 0; max-width: 56rem; }
a, summary { color: var(--link); }
summary { cursor: pointer; margin: .4rem 0; }
code, pre { font: .9em/1.4 ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  overflow-wrap: anywhere; white-space: pre-wrap; }
.soft, .note, figcaption { color: var(--soft); font-size: .9rem; }
.warning, blockquote { margin: .75rem 0; padding: .4rem 1rem; background: var(--warn);
  border-left: 4px solid var(--warn-line); }
/* A table wider than the screen scrolls by itself. */
table { display: block; overflow-x: auto; border-collapse: collapse; margin: .5rem 0;
  font-size: .9rem; line-height: 1.3; font-variant-numeric: tabular-nums; }
caption { display: block; text-align: left; padding: 0 0 .5rem; font-weight: 600; }
th, td { padding: .25rem .6rem; text-align: left; vertical-align: top; }
td[style*="right"] { white-space: nowrap; }
th:first-child, td:first-child { padding-left: 0; }
thead th { border-top: 2px solid var(--ink); border-bottom: 1px solid var(--soft); }
tbody tr + tr { border-top: 1px solid var(--line); }
/* Figures are drawn on white. */
img { display: block; max-width: 100%; height: auto; background: #fff; }
@media (max-width: 50rem) { th, td { padding: .25rem .35rem; } table { font-size: .82rem; } }
@media print { details { display: block; } h2, tr, img { break-inside: avoid; } }
"""

#: Of every page, a Jinja template: `title` and `css` are filled in.
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
