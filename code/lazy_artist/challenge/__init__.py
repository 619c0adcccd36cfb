"""The two labelling programs of Casper's challenge for mechanists (EIS VII, 2023), recovered.

files        the released networks and labels: found, fetched, checked, never trusted
cnn          the first challenge: program, network, and the parts the program says it has
transformer  the second challenge: program, network, and its inner states
"""

from lazy_artist.challenge.cnn import cnn_label
from lazy_artist.challenge.transformer import transformer_label

__all__ = ["cnn_label", "transformer_label"]
