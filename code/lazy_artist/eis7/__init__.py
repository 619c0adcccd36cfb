"""The two labelling programs of Casper's challenge for mechanists (EIS VII, 2023), recovered."""

from lazy_artist.eis7.cnn import cnn_label
from lazy_artist.eis7.transformer import transformer_label

__all__ = ["cnn_label", "transformer_label"]
