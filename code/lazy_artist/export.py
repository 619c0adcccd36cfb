"""The painted splits and the named networks as plain files, for other programs.

    python -m lazy_artist.export --out FOLDER [--splits hard train …] [--networks cheater cure …]

A split is `<name>.npz`: "images" uint8 (N, 28, 28, 3), the RGB of each pixel times 255, rounded;
"labels" and "colours" int64 (N,), the number of the colour in "palette", float64 (20, 3): the ten
of training and the ten unseen ones. A network is `<name>-<arch>-<seed>.safetensors`, its weights by
name; `build(arch, 0).load_state_dict(load_file(path))` has it back.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from safetensors.torch import save
from tqdm import tqdm

from lazy_artist.canvas import PALETTE, SPLITS, UNSEEN_PALETTE, colour_split, test_split
from lazy_artist.config import BIAS
from lazy_artist.data import write_whole
from lazy_artist.interface import check_number
from lazy_artist.networks import KINDS, Network, network

NETWORKS = (*KINDS, "cure")


def write_splits(
    folder: Path, names: Iterable[str] = SPLITS, seed: int = 0, correlation: float = BIAS
) -> list[Path]:
    """Writes splits into a folder and returns the files. "train" is what networks of this `seed`
    and correlation are trained on; on the others all networks are measured. Raises ValueError,
    before any work, for an unknown name or a correlation outside [0, 1], and OSError where the
    folder cannot be written to."""
    names = list(names)
    if unknown := [name for name in names if name not in SPLITS]:
        raise ValueError(f"unknown split {unknown[0]!r}: choose one of {', '.join(SPLITS)}")
    check_number(correlation, "correlation", 0, 1)
    files = [Path(folder) / f"{name}.npz" for name in names]
    for name, file in zip(names, tqdm(files, "painting", disable=None), strict=True):
        split = colour_split(name, seed, correlation) if name == "train" else test_split(name)
        images = np.rint(255 * split.images.transpose(0, 2, 3, 1)).astype(np.uint8)
        content = io.BytesIO()
        palette = np.concatenate([PALETTE, UNSEEN_PALETTE])
        np.savez_compressed(
            content, images=images, labels=split.labels, colours=split.colours, palette=palette
        )
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, content.getvalue())
    return files


def write_networks(folder: Path, networks: Iterable[Network]) -> list[Path]:
    """Writes networks, trained first if they are not stored, into a folder; returns the files."""
    files = []
    for one in networks:
        about = {"network": one.name, "arch": one.arch, "seed": str(one.seed)}
        file = Path(folder) / f"{one.name}-{one.arch}-{one.seed}.safetensors"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, save(one.load().state_dict(), about))
        files.append(file)
    return files


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="lazy_artist.export", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="a folder; it is made if need be")
    parser.add_argument("--splits", nargs="*", default=[], metavar="NAME", help=", ".join(SPLITS))
    parser.add_argument("--networks", nargs="*", default=[], metavar="NAME",
                        help=", ".join(NETWORKS) + ", or any method of chapter 5")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of networks and training images")
    parser.add_argument("--arch", default="cnn", help="of networks: cnn or resnet18")
    options = parser.parse_args(arguments)
    names = options.splits if options.splits or options.networks else SPLITS
    try:
        networks = [network(kind, options.seed, options.arch) for kind in options.networks]
        files = write_splits(options.out, names, options.seed)
        files += write_networks(options.out, networks)
    except (ValueError, OSError) as error:
        sys.exit(f"{parser.prog}: {error}")
    print(*files, sep="\n")


if __name__ == "__main__":
    main()
