"""The named experiments: what a chapter asks for, trained or measured once and kept in the artefact
store.

    networks   the networks themselves: cheater, diligent, oracle; scale, seeds and recipes
    painting   chapter 1, The Biased Canvas
    cheating   chapter 2, The Cheater
    closing    the opening page and the colophon

Networks come as models, results as arrays, estimates over seeds and tables.
"""

from lazy_artist.experiments.networks import cheater, diligent, oracle

__all__ = ["cheater", "diligent", "oracle"]
