"""One module for each chapter of the report, with the stem of its `.qmd`: what the chapter measures
first, then its figures. `opening` serves the opening page and the colophon.

    biased_canvas cheater prober interrogation intervention cloak decomposition playground opening
"""
