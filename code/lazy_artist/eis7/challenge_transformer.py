"""The second challenge, solved: what report/challenge-transformer.qmd and transformer-instead.qmd
measure and show.

First the labels and the program that makes them, then the networks that this report trains. Tables
are bool (113, 113), x by row; in frames shares are fractions of 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from lazy_artist import plots
from lazy_artist.config import pick
from lazy_artist.eis7 import files, transformer
from lazy_artist.eis7.transformer import PROGRAM, SIDE, all_pairs, program_variables
from lazy_artist.store import stored

SPLITS = ("half", "few", "rows")
FEW = 3  # cells of each sparse row that the split "few" shows
RANKS = (1, 2, 3, 4, 6, 8)  # principal components of a stream that are kept


def transformer_checksum() -> str:
    """Of all that this chapter reads: the challenge's labels."""
    return files.MD5["transformer_label_info.pkl"]


def program_errors(truth: np.ndarray, constants: transformer.Constants = PROGRAM) -> int:
    """Cells of 12,769 that the program gets wrong, with its own constants or others."""
    variables = program_variables(*all_pairs(), constants)
    return int(np.sum(transformer.decide(variables, constants) != truth))


def label_changes(truth: np.ndarray) -> pd.DataFrame:
    """Where the label changes between y - 1 and y: "x", "y", whether it "rises" from 0 to 1, and
    which "curve" of the program it lies on: "line" (looked at first), "left", "lower" or "none"."""
    x, y = np.nonzero(truth[:, 1:] != truth[:, :-1])
    y = y + 1
    line = x + y == 133
    left = (x**4 < 40_000 * y) & (x**4 >= 40_000 * (y - 1))
    lower = (y**4 >= 360_000 * x) & ((y - 1) ** 4 < 360_000 * x)
    curve = np.select([line, left, lower], ["line", "left", "lower"], "none")
    return pd.DataFrame({"x": x, "y": y, "rises": truth[x, y], "curve": curve})


def scan_phases(truth: np.ndarray) -> pd.DataFrame:
    """Cells wrong, "errors", when the phase is floor(x^p) mod m and each phase has, in each region
    that the program's curves and line cut out, the label that is commoner there; by "exponent" p
    and "modulus" m, of which one is "varied" and the other that of the program."""
    x, y = all_pairs()
    variables = program_variables(x, y)
    region = variables.left + 2 * variables.lower + 4 * variables.line
    scans = [("exponent", p, 8) for p in np.round(np.arange(0.5, 2.5001, 0.01), 2)]
    scans += [("modulus", 1.5, m) for m in range(2, 17)]
    rows = []
    for varied, exponent, modulus in scans:
        root = np.floor(np.arange(SIDE) ** exponent + 1e-9).astype(np.int64)
        cell = (root % modulus)[x] * 8 + region
        ones = np.bincount(cell[truth], minlength=8 * modulus)
        total = np.bincount(cell.ravel(), minlength=8 * modulus)
        wrong = np.minimum(ones, total - ones).sum()
        rows.append((varied, exponent, modulus, wrong))
    return pd.DataFrame(rows, columns=["varied", "exponent", "modulus", "errors"])


def constant_ranges(truth: np.ndarray) -> pd.DataFrame:
    """How sharply the labels pin each constant: its "value", the range from "low" to "high" over
    which no more labels go wrong (the others kept; NaN for constants that are counts), and the
    errors at a value "below" and one "above": "errors below", "errors above"."""
    least = program_errors(truth)
    trials = {
        "exponent": (1.499, 1.501), "period": (7, 9), "left": (39_000, 41_000), "left_step": (2, 4),
        "lower": (350_000, 370_000), "lower_step": (1, 3), "top": (6, 8), "line": (132, 134),
    }  # fmt: skip
    rows = []
    for field, (below, above) in trials.items():
        value, ends = getattr(PROGRAM, field), [np.nan, np.nan]
        if field in ("exponent", "left", "lower", "line"):
            for k, sign in enumerate((-1, 1)):
                inside, outside = 0.0, 0.02  # bisection within 2%
                for _ in range(30):
                    middle = (inside + outside) / 2
                    tried = PROGRAM._replace(**{field: float(value) * (1 + sign * middle)})
                    free = program_errors(truth, tried) == least
                    inside, outside = (middle, outside) if free else (inside, middle)
                ends[k] = float(value) * (1 + sign * inside)
        wrong = [program_errors(truth, PROGRAM._replace(**{field: v})) for v in (below, above)]
        rows.append((field, value, *ends, below, wrong[0], above, wrong[1]))
    columns = ["constant", "value", "low", "high", "below", "errors below", "above", "errors above"]
    return pd.DataFrame(rows, columns=columns)


# --- the networks --------------------------------------------------------------------------------


def seen_cells(split: str, seed: int) -> np.ndarray:
    """The cells to train on: a random "half" of all; all cells of a random half of the "rows"
    (values of x); or these and FEW random cells of each other row ("few")."""
    rng = np.random.default_rng(seed)
    seen = np.zeros((SIDE, SIDE), bool)
    if split == "half":
        seen.ravel()[rng.permutation(SIDE * SIDE)[: SIDE * SIDE // 2]] = True
        return seen
    order = rng.permutation(SIDE)
    seen[order[: SIDE // 2 + 1]] = True
    if split == "few":
        for x in order[SIDE // 2 + 1 :]:
            seen[x, rng.permutation(SIDE)[:FEW]] = True
    return seen


def training_run(split: str, seed: int) -> dict[str, Any]:
    """The arguments of `transformer_weights` at this scale."""
    steps = pick(2000, 400) if split == "half" else pick(800, 250)
    return {"origin": files.source("transformer"), "split": split, "seed": seed, "steps": steps}


@stored(data=transformer_checksum)
def label_tables(origin: str) -> dict[str, np.ndarray]:
    """The "truth" and the answers of the "released" network; of a "stand-in", the program's labels
    and the answers of a network of our own that serves for nothing else."""
    if origin == "released":
        truth, released = files.transformer_labels()
    else:
        truth = transformer.transformer_label(*all_pairs())
        released = predict_cells(training_run("half", seed=99))["predictions"]
    return {"truth": truth, "released": released}


@stored(data=transformer_checksum)
def transformer_weights(origin: str, split: str, seed: int, steps: int) -> dict[str, torch.Tensor]:
    """Weights of a network of the challenge's architecture, trained on `seen_cells` of the
    "released" labels, or of the program's ("stand-in")."""
    truth = transformer.transformer_label(*all_pairs())
    if origin == "released":
        truth = files.transformer_labels()[0]
    model = transformer.train_transformer(truth, seen_cells(split, seed), seed, steps)
    return dict(model.state_dict())


def load_transformer(run: dict[str, Any]) -> transformer.Transformer:
    """The network of a `training_run`."""
    model = transformer.Transformer(0)
    model.load_state_dict(transformer_weights(**run))
    return model.eval()


@stored(data=transformer_checksum)
def predict_cells(run: dict[str, Any]) -> dict[str, np.ndarray]:
    """The "predictions" of all cells by the network of a `training_run`, and the "seen" cells."""
    logits = load_transformer(run).states().logits
    return {"predictions": _predictions(logits), "seen": seen_cells(run["split"], run["seed"])}


def _predictions(logits: torch.Tensor) -> np.ndarray:
    return (logits[:, 1] > logits[:, 0]).numpy().reshape(SIDE, -1)


def nearest_seen(truth: np.ndarray, seen: np.ndarray, row_weight: float) -> np.ndarray:
    """For each cell of a table the label of the nearest seen cell, by squared distance
    row_weight * dx^2 + dy^2; the first such cell at a tie. bool, of the table's shape."""
    from scipy.spatial import cKDTree  # slow to import

    scales = [np.sqrt(row_weight), 1.0]
    cells, known = np.argwhere(np.ones_like(seen)) * scales, np.argwhere(seen) * scales
    return truth[seen][cKDTree(known).query(cells)[1]].reshape(truth.shape)


def accounts(truth: np.ndarray, predictions: np.ndarray, seen: np.ndarray) -> pd.DataFrame:
    """What each "account" is worth: its accuracy on "seen" and on "unseen" cells; and on unseen
    ones the shares of the network's "predictions" and of its "errors" that it makes too.

    "row memory": the label of the nearest seen cell in the same row; "nearest cell": anywhere.
    "commonest label": of seen cells. "program, phase unknown": a learner who has all of the program
    but the phase of each row: it keeps the phases that fit the row's seen cells, and takes the
    label that most of them give (0 at a tie).
    """
    own = program_variables(*all_pairs())
    by_phase = np.stack([transformer.decide(own._replace(phase=phase)) for phase in range(8)])
    narrowed = truth.copy()
    for x in np.flatnonzero(~seen.all(axis=1)):
        fits = (by_phase[:, x, seen[x]] == truth[x, seen[x]]).all(axis=1)
        narrowed[x] = by_phase[fits, x].mean(axis=0) > 0.5
    tables = {
        "network": predictions,
        "program": transformer.transformer_label(*all_pairs()),
        "row memory": nearest_seen(truth, seen, row_weight=1e6),
        "nearest cell": nearest_seen(truth, seen, row_weight=1.0),
        "commonest label": np.full_like(truth, truth[seen].mean() > 0.5),
        "program, phase unknown": narrowed,
    }
    wrong = ~seen & (predictions != truth)
    compared = ((truth, seen), (truth, ~seen), (predictions, ~seen), (predictions, wrong))
    rows = [
        (name, *(np.mean(table[on] == other[on]) for other, on in compared))
        for name, table in tables.items()
    ]
    return pd.DataFrame(rows, columns=["account", "seen", "unseen", "predictions", "errors"])


def steps_to_change(truth: np.ndarray) -> np.ndarray:
    """For each cell of a table (X, Y) of labels the number of steps along y to the nearest cell
    with another label: int64 (X, Y); Y where the row has only one label."""
    side = truth.shape[1]
    steps = np.abs(np.subtract.outer(np.arange(side), np.arange(side)))  # (Y, Y)
    differs = truth[:, :, None] != truth[:, None, :]  # (X, Y, Y)
    return np.where(differs, steps, side).min(axis=2)


def error_curve(
    truth: np.ndarray, predictions: np.ndarray, seen: np.ndarray | None
) -> pd.DataFrame:
    """The share of unseen cells predicted "wrong", by groups of `steps_to_change`, "steps", and the
    counts that it is of, "errors" and "unseen".

    seen: None for the released network, which is right on its own half, so that all its errors
    are on unseen cells. Which these are is not known; half of each group is taken, as many as
    there are on average in halves drawn at random.
    """
    edges = [1, 2, 3, 4, 6, 9, 14, 22, 40, 113, 114]
    titles = ["1", "2", "3", "4–5", "6–8", "9–13", "14–21", "22–39", "40–112", "no change"]
    steps = pd.cut(steps_to_change(truth).ravel(), edges, right=False, labels=titles)
    unseen = np.full(truth.shape, 0.5) if seen is None else ~seen
    wrong = (predictions != truth) & (unseen > 0)
    counts = pd.DataFrame({"errors": wrong.ravel(), "unseen": unseen.ravel()})
    table = counts.groupby(steps, observed=False).sum()
    table["wrong"] = (table["errors"] / table["unseen"]).fillna(0)
    return table.rename_axis("steps").reset_index().astype({"steps": str})


@stored(data=transformer_checksum)
def dissect(run: dict[str, Any], maps: bool) -> dict[str, Any]:
    """What the network of a `training_run` holds and needs, over all 12,769 cells.

    "live neurons": how many fire on any cell; and with `maps` "neuron": (113, 113), the neuron that
    moves the margin most; "parts": (2, 113, 2), what x and what y add to the stream before the MLP,
    each in its own first two principal components.
    Frames: "ranks": share of predictions "unchanged" when a "stream" keeps so many "components";
    "ablations": the same when the part "ablated" is held at its mean; "probes": `linear_probes`,
    cells split by the network's seed; "variance": `two_way`, by "stage"; "neighbours", of the
    same two parts: see `nearest_numbers`.
    """
    model = load_transformer(run)
    s = model.states()
    before = _predictions(s.logits)

    def unchanged(logits: torch.Tensor) -> float:
        return float(np.mean(_predictions(logits) == before))

    with torch.no_grad():
        ranks = [
            {"stream": stream, "components": rank, "unchanged": unchanged(logits)}
            for rank in RANKS
            for stream, logits in (
                ("before the MLP", model.logits(keep_components(s.resid_mid, rank))),
                ("last", keep_components(s.resid_post, rank) @ model.unembed),
            )
        ]
        parts = s.heads.unbind(1)
        heads = [unchanged(model.logits(s.resid_mid - part + part.mean(0))) for part in parts]
        _, values, own = model.attend(*map(torch.from_numpy, map(np.ravel, all_pairs())))
        even = model.mix(s.attention.mean(0, keepdim=True).expand_as(s.attention), values, own)
        mean_stream, mean_neurons = (v.mean(0, keepdim=True) for v in (s.resid_mid, s.neurons))
        ablations = {
            "the head that matters least": max(heads),
            "the head that matters most": min(heads),
            "all attention shares (values still flow)": unchanged(model.logits(even)),
            "the MLP": unchanged(model.logits(s.resid_mid, mean_neurons)),
            "the path around the MLP": unchanged(model.logits(mean_stream, s.neurons)),
        }
        effect = model.mlp_out @ (model.unembed[:, 1] - model.unembed[:, 0]) * s.neurons.std(0)
        strongest = effect.abs().argsort(descending=True)
        held = s.neurons.clone()
        for done, count in ((0, 10), (10, 30), (30, 100), (100, 300)):
            chosen = strongest[done:count]
            held[:, chosen] = s.neurons[:, chosen].mean(0)
            ablations[f"the {count} strongest neurons"] = unchanged(model.logits(s.resid_mid, held))
    stages = {
        "stream before the MLP": s.resid_mid, "stream after the MLP": s.resid_post,
        "logit 1 − logit 0": s.logits[:, 1:] - s.logits[:, :1],
    }  # fmt: skip
    variance = [two_way(v.double().numpy()).assign(stage=name) for name, v in stages.items()]
    stream = s.resid_mid.double().numpy().reshape(SIDE, SIDE, -1)
    parts = np.stack([stream.mean(1), stream.mean(0)]) - stream.mean((0, 1))  # (2, 113, 128)
    planes = [part @ np.linalg.eigh(part.T @ part)[1][:, :-3:-1] for part in parts]
    neuron = s.neurons[:, strongest[0]].reshape(SIDE, SIDE).numpy()
    shown = {"neuron": neuron, "parts": np.stack(planes).astype(np.float32)}
    return (shown if maps else {}) | {
        "live neurons": int((s.neurons > 0).any(0).sum()),
        "ranks": pd.DataFrame(ranks),
        "ablations": pd.DataFrame(ablations.items(), columns=["ablated", "unchanged"]),
        "probes": linear_probes(s, run["seed"]),
        "variance": pd.concat(variance, ignore_index=True),
        "neighbours": nearest_numbers(parts),
    }


def nearest_numbers(parts: np.ndarray) -> pd.DataFrame:
    """Which other number lies nearest to each, in the vectors (2, 113, D) of x and of y: of x, for
    how many that is one of the same phase ("same phase"), and of y, for how many it is the number
    before or after ("next in order"); beside it the share among all other numbers, "chance"."""
    phase, number = program_variables(*all_pairs()).phase[:, 0], np.arange(SIDE)
    alike = {
        "same phase": phase[:, None] == phase,
        "next in order": np.abs(number[:, None] - number) == 1,
    }
    rows = []
    for (relation, related), vectors in zip(alike.items(), parts, strict=True):
        distance = np.square(vectors[:, None] - vectors).sum(-1) + np.diag(np.full(SIDE, np.inf))
        chance = (related.sum() - np.trace(related)) / (SIDE * (SIDE - 1))
        rows.append((relation, np.mean(related[number, distance.argmin(1)]), chance))
    return pd.DataFrame(rows, columns=["nearest", "share", "chance"])


def keep_components(stream: torch.Tensor, rank: int) -> torch.Tensor:
    """A stream (N, D) that keeps its mean and its first `rank` principal components."""
    values = stream.double()
    mean = values.mean(0)
    axes = torch.linalg.eigh((values - mean).T @ (values - mean))[1][:, -rank:]
    return ((values - mean) @ axes @ axes.T + mean).float()


def two_way(values: np.ndarray) -> pd.DataFrame:
    """The "share" of the variance of (12,769, D) that goes with each "source": "x" alone, "y"
    alone, and both together, "x × y" (two-way analysis of variance, one value a cell)."""
    table = values.reshape(SIDE, SIDE, -1)
    table = table - table.mean((0, 1))
    total = np.square(table).sum()
    x, y = (SIDE * np.square(table.mean(axis)).sum() / total for axis in (1, 0))
    return pd.DataFrame({"source": ["x", "y", "x × y"], "share": [x, y, 1 - x - y]})


def linear_probes(s: transformer.States, seed: int) -> pd.DataFrame:
    """Linear probes of the program's inner variables on the stream before the MLP: "accuracy" by
    "variable" on "held out" cells and on whole "rows", beside the share of the commonest value,
    "guess". A probe is a ridge regression to one-hot values, its inputs scaled to unit variance.
    "phases shuffled" is the control: the same phases, dealt out to the wrong rows."""
    x, y = all_pairs()
    v, rng = program_variables(x, y)._asdict(), np.random.default_rng(seed)
    phase = v.pop("phase")
    wanted = {"phase": phase, "phases shuffled": phase[rng.permutation(SIDE)], **v}
    cells = rng.random(x.size) < 0.5
    rows = (rng.permutation(SIDE) < SIDE // 2)[x].ravel()
    stream = s.resid_mid.double().numpy()
    result = []
    for name, values in wanted.items():
        values = values.ravel().astype(np.int64)
        guess = np.bincount(values).max() / values.size
        for kind, fitted in (("cells", cells), ("rows", rows)):
            inputs = (stream - stream[fitted].mean(0)) / (stream[fitted].std(0) + 1e-9)
            inputs = np.column_stack([inputs, np.ones(len(inputs))])
            targets = np.eye(values.max() + 1)[values[fitted]]
            square = inputs[fitted].T @ inputs[fitted] + np.eye(inputs.shape[1])
            weights = np.linalg.solve(square, inputs[fitted].T @ targets)
            right = (inputs[~fitted] @ weights).argmax(1) == values[~fitted]
            result.append((name, kind, np.mean(right), guess))
    return pd.DataFrame(result, columns=["variable", "held out", "accuracy", "guess"])


# --- figures -------------------------------------------------------------------------------------


def show_maps(maps: dict[str, np.ndarray], height: float = 2.7) -> plots.Figure:
    """Tables of labels by x (down) and y (across), side by side: white for 1, black for 0."""
    figure, (axes,) = plots.grid(plots.WIDTH, height, 1, len(maps))
    for ax, (name, table) in zip(axes, maps.items(), strict=True):
        ax.imshow(table, cmap="gray", vmin=0, vmax=1, aspect="auto")
        ax.set(title=name, xlabel="y")
    axes[0].set_ylabel("x")
    return figure


def show_changes(changes: pd.DataFrame) -> plots.Figure:
    """`label_changes` on a plane of x (down) and y (across), with the program's two curves and its
    line."""
    figure, ((ax,),) = plots.grid(plots.WIDTH, 3.9)
    x = np.linspace(0, 112, 500)
    for curve, y, name, colour, marker in (
        ("left", x**4 / 40_000, "x⁴ = 40,000 y", plots.BLUE, "o"),
        ("lower", (360_000 * x) ** 0.25, "y⁴ = 360,000 x", plots.VERMILION, "^"),
        ("line", 133 - x, "x + y = 133", plots.GREEN, "s"),
    ):
        on = changes[changes["curve"] == curve]
        ax.plot(y - 0.5, x, color=colour, linewidth=1)
        ax.scatter(on["y"] - 0.5, on["x"], s=14, color=colour, marker=marker,
                   label=f"{name} ({len(on)})")  # fmt: skip
    ax.set(xlim=(-1, 113), ylim=(113, -1), xlabel="y", ylabel="x")
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), title="changes of label on")
    note = "the label of x changes between y - 1 and y, from 0 to 1 if it rises"
    return plots.show(figure, changes, note)


def show_scan(scan: pd.DataFrame) -> plots.Figure:
    """`scan_phases`, by exponent (left) and by modulus (right); the minimum is written out."""
    figure, (axes,) = plots.grid(plots.WIDTH, 2.7, 1, 2, sharey=True, width_ratios=[1.5, 1])
    labels = "exponent p of floor(x^p) mod 8", "modulus m of floor(x^1.5) mod m"
    for ax, varied, label in zip(axes, ("exponent", "modulus"), labels, strict=True):
        part = scan[scan["varied"] == varied]
        x, errors = part[varied].to_numpy(), part["errors"].to_numpy()
        ax.plot(x, errors, color=plots.BLUE, linewidth=1, marker="o" if len(x) < 20 else "")
        best = int(errors.argmin())
        ax.annotate(f"{x[best]:g}: {errors[best]:,} wrong", (x[best], errors[best]),
                    xytext=(8, 14), textcoords="offset points", color=plots.VERMILION,
                    arrowprops={"arrowstyle": "-", "color": plots.VERMILION})  # fmt: skip
        ax.set_xlabel(label)
    axes[0].set(ylabel=f"cells wrong, of {SIDE**2:,}", ylim=(0, None))
    note = f"errors: of {SIDE**2} cells, with the phase floor(x^exponent) mod modulus"
    return plots.show(figure, scan, note)


def show_sorted(truth: np.ndarray) -> plots.Figure:
    """The label map with its rows as they come, and sorted by the program's phase, then by x."""
    phase = program_variables(*all_pairs()).phase[:, 0]
    order = np.argsort(phase, kind="stable")
    maps = {"rows in order of x (white: 1)": truth, "rows sorted by phase, then x": truth[order]}
    figure = show_maps(maps, height=1.95)
    ax = figure.axes[1]
    edges = np.searchsorted(phase[order], np.arange(9)) - 0.5
    for edge in edges[1:-1]:
        ax.axhline(edge, color=plots.AMBER, linewidth=1.2)
    ax.set_yticks((edges[:-1] + edges[1:]) / 2, range(8))
    ax.set_ylabel("phase")
    return figure


def show_error_curves(curves: pd.DataFrame) -> plots.Figure:
    """`error_curve`s by "network" and "seed": thick the mean over seeds, thin each seed."""
    figure, ((ax,),) = plots.grid(plots.WIDTH, 2.9)
    styles = ((plots.VERMILION, "--", "s"), (plots.BLUE, "-", "o"), (plots.DARK, ":", "^"))
    networks = curves.groupby("network", sort=False)
    for (name, own), (colour, dash, marker) in zip(networks, styles, strict=True):
        table = own.pivot(index="steps", columns="seed", values="wrong").loc[own["steps"].unique()]
        ax.plot(table.to_numpy(), dash, color=colour, linewidth=0.6, alpha=0.5)
        mean = table.mean(axis=1).to_numpy()
        ax.plot(mean, dash, color=colour, marker=marker, linewidth=1.4, label=name)
    ax.set_xticks(range(len(table)), table.index)
    ax.set(xlabel="steps along y to the nearest change of label", ylim=(0, None))
    plots.percent_axis(ax.yaxis, "wrong, of unseen cells")
    ax.legend()
    note = "wrong: errors / unseen cells; steps: along y to the nearest change of label"
    columns = ["network", "seed", "steps", "errors", "unseen", "wrong"]
    return plots.show(figure, curves[columns], note)


def show_inside(parts: np.ndarray, neuron: np.ndarray) -> plots.Figure:
    """The "parts" and the "neuron" of `dissect`: what y adds, by y (left); what x adds, by the
    share of 1 in the program's row (middle); the neuron by x (down) and y (across)."""
    ones = transformer.transformer_label(*all_pairs()).mean(axis=1)
    figure, (axes,) = plots.grid(plots.WIDTH, 3, 1, 3)
    panels = (("what y adds", parts[1], np.arange(SIDE), "y"), ("what x adds", parts[0], ones,
              "share of 1 in the row of x"))  # fmt: skip
    for ax, (title, points, values, label) in zip(axes, panels, strict=False):
        dots = ax.scatter(*points.T, c=values, s=14, cmap="viridis")
        figure.colorbar(dots, ax=ax, label=label, location="bottom")
        ax.set(title=title, xticks=[], yticks=[])
    axes[0].plot(*parts[1].T, color="#999999", linewidth=0.5, zorder=0)
    active = axes[2].imshow(neuron, cmap="cividis", aspect="auto")
    figure.colorbar(active, ax=axes[2], label="activity", location="bottom")
    axes[2].set(title="one neuron", xlabel="y", ylabel="x")
    frame = pd.DataFrame({"number": np.arange(SIDE), "share of 1 in its row": ones})
    for name, part in zip("xy", parts, strict=True):
        frame[[f"{name}, component 1", f"{name}, component 2"]] = part
    note = "what each number adds to the stream before the MLP, as x and as y: principal components"
    return plots.show(figure, frame, note)
