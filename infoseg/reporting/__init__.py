"""What readers see: the paper's numbers, the tables, the figures, the report.

    published         what the paper prints, keyed by its own row and column titles
    tables, table2    evaluations in, Tables 1, 2 and 2b out (a frame, CSV, Markdown, LaTeX)
    markup            a small grid of cells as Markdown, LaTeX or HTML, for any table
    claims            the paper's claims, each with what was found and a verdict
    palette           one colour per class; black is "not annotated", grey "no class"
    panels            pictures side by side: Figure 4
    network_figures   Figure 1, and by its name Figure 2 (data_flow); Figure 3 is docs/figure3.svg
    figures           charts of one evaluation: training curve, confusion, class shares
    charts            charts of many: training signals, spread over seeds
    report            the page, from page (its looks), embed (pictures) and
                      deviations
    sections          what notebook 2 shows of a training
    style             fonts and colours of every figure, and how figures become files
    placing           placing by hand what no layout engine places well

Nothing is imported here, so that tables need no plotting library.
"""
