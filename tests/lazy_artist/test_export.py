"""Splits and networks as plain files."""

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from lazy_artist import canvas, export
from lazy_artist.models import build
from lazy_artist.networks import Network
from lazy_artist.store import Call


@pytest.fixture(autouse=True)
def few_digits(monkeypatch):
    monkeypatch.setenv("LAZY_ARTIST_STANDIN_SIZE", "240")


def test_splits_come_back_to_half_a_grey_level(tmp_path):
    export.main(["--out", str(tmp_path / "new" / "folder"), "--splits", "hard", "train"])
    for name, split in (
        ("hard", canvas.test_split("hard")),
        ("train", canvas.colour_split("train", 0)),
    ):
        found = np.load(tmp_path / f"new/folder/{name}.npz")
        images = found["images"].transpose(0, 3, 1, 2) / 255
        assert found["images"].dtype == np.uint8
        np.testing.assert_allclose(images, split.images, atol=0.5 / 255 + 1e-6)
        np.testing.assert_array_equal(found["labels"], split.labels)
        np.testing.assert_array_equal(found["colours"], split.colours)
        np.testing.assert_array_equal(found["palette"][:10], canvas.PALETTE)


class Handle(Network):
    def load(self):
        return build("cnn", 3).eval()


def test_networks_are_had_back_in_three_lines(tmp_path):
    handle = Handle("cheater", "cnn", Call(print, {"seed": 7}))
    (file,) = export.write_networks(tmp_path, [handle])
    assert file == tmp_path / "cheater-cnn-7.safetensors"
    model = build("cnn", 0)
    model.load_state_dict(load_file(file))
    images = torch.rand(2, 3, 28, 28)
    assert torch.equal(model.eval()(images), build("cnn", 3).eval()(images))
    with safe_open(file, "pt") as opened:
        assert opened.metadata() == {"network": "cheater", "arch": "cnn", "seed": "7"}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--splits", "Hard"], "unknown split 'Hard': choose one of train"),
        (["--networks", "lazy"], "unknown network 'lazy'"),
        (["--splits", "hard", "--out", "/dev/null/below"], "/dev/null"),
    ],
)
def test_what_cannot_be_written_is_told_in_a_line(arguments, told, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        export.main(["--out", str(tmp_path), *arguments])
    assert told in str(stopped.value) and not list(tmp_path.iterdir())
