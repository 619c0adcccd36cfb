"""The opening page and the colophon tell what the chapters tell."""

import numpy as np

from lazy_artist.data import load_digits
from lazy_artist.experiments import cheating, closing


def test_the_opening_page_tells_what_the_chapters_tell():
    page = closing.opening()
    lazy, honest = cheating.accuracies("cheater"), cheating.accuracies("oracle")
    assert page["easy"] == f"{100 * lazy['validation'].mean:.1f}%"
    assert page["hard"] == f"{100 * lazy['hard'].mean:.1f}%"
    assert page["oracle"] == f"{100 * honest['hard'].mean:.1f}%"
    figure = page["figure"]
    assert figure["bars"]["oracle"] == {"easy": honest["validation"], "hard": honest["hard"]}
    assert len(figure["images"]) == len(figure["probabilities"]) == 8


def test_the_colophon_names_data_scale_and_seeds():
    told = closing.colophon().set_index("what")["value"]
    assert told["digits"] == "procedural stand-in"
    assert told["scale"] == "quick" and told["seeds of every network"] == "0, 1"
    assert load_digits("train").md5 in told["checksum of train digits (md5)"]
    assert load_digits("test").md5 in told["checksum of test digits (md5)"]
    assert f"numpy {np.__version__}" in told["software"]
