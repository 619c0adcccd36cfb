"""The two labelling programs of Casper's challenge for mechanists (EIS VII, 2023), recovered.

files                  the released network and labels: found, downloaded, checked, never trusted
cnn                    the first challenge: program, network, and the parts the program says it has
transformer            the second challenge: program, network, and its inner states
challenge_cnn          what report/challenge-cnn.qmd measures and shows
challenge_transformer  what report/challenge-transformer.qmd measures and shows
"""

from lazy_artist.eis7.cnn import cnn_label
from lazy_artist.eis7.transformer import transformer_label

__all__ = ["cnn_label", "transformer_label"]
