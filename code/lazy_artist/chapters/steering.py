"""The console on the page of chapter 7: which latents its sliders move, and what they do."""

from __future__ import annotations

from typing import Any

import numpy as np

from lazy_artist import latents
from lazy_artist.canvas import N_CLASSES
from lazy_artist.chapters.decomposition import label_latents, load_sae
from lazy_artist.interface import to_array
from lazy_artist.networks import Network
from lazy_artist.store import stored

SHAPES = (0, 1, 7)  # digits whose shape has a slider


@stored
def console(
    network: Network, options: dict[str, Any], n_per_class: int, number: int
) -> dict[str, Any]:
    """What the console moves, for `widgets.export`: of K latents "encoder"
    (K, W) and "bias" (K,), of activations as they are, "threshold", and "effect" (K, 10).

    "sliders": for each colour, and each of `SHAPES`, the `number` of latents that it moves most
    towards its digit's logit, as `turn_red` ranks those of red ("own"; of shapes only latents that
    digit moves more than colour), and as many others that carry as much ("control"): "latents",
    which of the K; "times", of their moves; "towards", the colour or digit in which each is at
    level 1; of shapes "base" and "target", their means at 0 and 1."""
    model, sae = network.load(), load_sae(network, **options)
    effect = to_array(sae.directions() @ model.head.weight.T)
    centred = effect - effect.mean(1, keepdims=True)
    cells, sliders = label_latents(network, options, n_per_class)["cells"], []
    for kind, axis, levels in (("colour", 1, range(N_CLASSES)), ("shape", 2, SHAPES)):
        means = cells.mean(axis)  # (L, colours or digits)
        each, likes = means.var(1) * np.square(centred).sum(1), means.argmax(1)
        for level in levels:
            pushed = (means[:, level] - means.mean(1)) * centred[:, level]
            if kind == "shape":
                pushed[cells.mean(1).var(1) >= means.var(1)] = -np.inf
            own = np.argsort(-pushed, kind="stable")[:number]
            own = own[np.isfinite(pushed[own])]
            slider, carried = {"kind": kind, "level": level}, []
            for name, k in (("own", own), ("control", latents.matched(each, own))):
                carried.append((means[k].T @ centred[k]).var(0).sum())
                towards = likes[k] if name == "control" else np.full_like(k, level)
                slider[name] = {"latents": k, "towards": towards.tolist()}
                slider[name]["times"] = float(np.sqrt(carried[0] / max(carried[-1], 1e-12)))
                if kind == "shape":
                    slider[name] |= {"base": means[k].mean(1).tolist()}
                    slider[name] |= {"target": means[k, towards].tolist()}
            sliders.append(slider)
    sets = [slider[name] for slider in sliders for name in ("own", "control")]
    used = np.unique(np.concatenate([one["latents"] for one in sets]))
    for one in sets:
        one["latents"] = np.searchsorted(used, one["latents"]).tolist()
    rows = to_array(sae.encoder / sae.scale)[used]
    bias = to_array(sae.bias)[used] - rows @ to_array(sae.centre)
    coder = {"encoder": rows, "bias": bias, "threshold": float(sae.threshold)}
    return coder | {"effect": effect[used], "sliders": sliders}
