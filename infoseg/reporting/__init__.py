"""What readers see: the paper's numbers, the tables, the figures.

    published   what the paper prints, keyed by its own row and column titles
    tables      evaluations in, Table 1 out (a frame, CSV, Markdown, LaTeX)
    markup      a small grid of cells as Markdown or LaTeX, for any table
    palette     one colour per class; black is "not annotated", grey "no class"
    panels      pictures side by side: Figure 4, contact sheets
    figures     charts: training curve, confusion, class shares, Table 1 as bars
    style       fonts and colours of every figure, and how figures become files

Nothing is imported here, so that tables need no plotting library.
"""
