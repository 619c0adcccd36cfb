"""Runs the cells of a chapter within a test, on measurements made by hand."""

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

REPORT = Path(__file__).resolve().parents[3] / "report"
CODE = re.compile(r"^```\{python\}\n(.*?)^```$|`\{python\} (.+?)`", re.M | re.S)


def run_cells(chapter: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Runs the cells and inline expressions of `report/<chapter>.qmd` in order.

    Returns what cells end in, by label (of a claim by its id), and the texts of inline expressions,
    by their code.
    """
    names: dict[str, Any] = {}
    shown, inline = {}, {}
    for match in CODE.finditer((REPORT / f"{chapter}.qmd").read_text(encoding="utf-8")):
        if match[2]:
            inline[match[2]] = str(eval(match[2], names))
            continue
        label = re.search(r"^#\| label: (\S+)", match[1], re.M)
        tree = ast.parse(match[1])
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, chapter, "exec"), names)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), chapter, "eval"), names)
            shown[label[1] if label else getattr(value, "id", f"cell {len(shown)}")] = value
    return shown, inline


def table(shown: Any) -> dict[str, list[str]]:
    """The rows of a Markdown table, the head among them, by their first cells."""
    lines = (line.strip().strip("|").split("|") for line in shown.data.strip().splitlines())
    rows = ([cell.strip() for cell in line] for line in lines)
    return {first: rest for first, *rest in rows if set(first) - set(":-")}


def measured_by(share: Callable[[Any, str], float]) -> Callable[..., pd.DataFrame]:
    """A stand-in for `evaluate_networks`: accuracies are `share(network, split)`, shortcut rates 1
    less these."""

    def evaluate_networks(networks, splits, n_eval):
        assert n_eval is None
        return pd.DataFrame(
            {
                "network": one.name, "arch": one.arch, "seed": one.seed, "split": split,
                "accuracy": share(one, split), "shortcut_rate": 1 - share(one, split),
            }
            for split in splits
            for one in networks
        )  # fmt: skip

    return evaluate_networks
