"""The named experiments: what a chapter asks for, trained or measured once and kept in the artefact
store.

    networks       the networks themselves: cheater, diligent, oracle; scale, seeds and recipes
    painting       chapter 1, The Biased Canvas
    cheating       chapter 2, The Cheater
    probing        chapter 3, The Prober
    interrogating  chapter 4, The Interrogation
    curing         chapter 5, The Intervention; the cured networks
    cloaking       chapter 6, The Invisible Cloak
    decomposing    chapter 7, The Decomposition
    solving        chapters 8 and 9, the two challenges
    playing        the playground
    closing        the opening page and the colophon

Networks come as models, results as arrays, estimates over seeds and tables.
"""

from lazy_artist.experiments.curing import robust
from lazy_artist.experiments.networks import cheater, diligent, oracle

__all__ = ["cheater", "diligent", "oracle", "robust"]
