"""The widgets of chapters 5 and 7 in a real browser: the console against PyTorch and the chapter's
own functions, the explorer against the frame that it is made from; both by mouse and by keys."""

import base64
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from browsing import faults, open_page
from playing import Playground, write_page
from playwright.sync_api import Page, expect
from scipy.special import softmax
from test_widgets_browser import answers

from lazy_artist import latents, widgets
from lazy_artist.canvas import paint
from lazy_artist.chapters import decomposition as d
from lazy_artist.chapters import intervention, steering
from lazy_artist.debias import METHODS
from lazy_artist.evaluate import predict
from lazy_artist.interface import to_array
from lazy_artist.playground import describe
from lazy_artist.sae import fit_autoencoder
from lazy_artist.standin import draw_digits

N, LEVEL, RNG = 20, 2.5, np.random.default_rng(0)
# of n digits in ten colours (10, n, 3, 28, 28): logits with slider `row` of a `kind` at a level
STEER = """([text, n, row, kind, level]) => {
  const all = new Float32Array(Uint8Array.from(atob(text), c => c.charCodeAt(0)).buffer);
  const coder = Widgets.data("latents"), set = coder.sliders[row][kind];
  const net = Widgets.data("networks").networks.find(one => one.name === "cheater");
  globalThis.RUNS ??= Array.from({length: 10 * n}, (_, i) => {
    const run = Network.forward(net, all.subarray(2352 * i, 2352 * (i + 1)));
    return {...run, z: Steering.encode(coder, run.blocks[2])};
  });
  return RUNS.map(({logits, z}, i) => {
    const painted = Array.from({length: 10}, (_, c) => RUNS[c * n + i % n].z);
    const gained = Steering.move(set, level, z, painted, coder.effect);
    return Array.from(logits, (logit, c) => logit + gained[c]);
  });
}"""


def page_of(made: Playground, kind: str, *needs: str):
    placed = widgets.place(kind, "Try.", "See.", page="x.html", still="A still.", needs=needs)
    return write_page(made.path.with_name(f"{kind}.html"), placed)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Playground:
    return Playground(tmp_path_factory.mktemp("widgets"))


@pytest.fixture(scope="module")
def steered(made) -> SimpleNamespace:
    """The console of an autoencoder of the cheater of `playing`; ones in all ten colours; and what
    the chapter's own `turn_red` finds of them."""
    model, greys = made.networks["cheater"], draw_digits(10, 9)[0]
    network = SimpleNamespace(seed=0, load=lambda: model)
    images = np.concatenate([paint(greys, np.full(10, c), 9) for c in range(10)])
    x = latents.sample_activations(model, "block3", images, 16, 0)
    sae = fit_autoencoder(x, 160, "batchtopk", 8, seed=0, steps=60, batch=400)
    z = latents.mean_latents(model, "block3", images, sae)
    cells = z.reshape(10, 10, -1).transpose(2, 1, 0)
    frame = pd.DataFrame({"label": ["colour"] * 160})
    ones = np.stack([draw_digits(10, seed)[0][1] for seed in range(N)])
    with pytest.MonkeyPatch.context() as patch:
        for module in (d, steering):
            patch.setattr(module, "load_sae", lambda *_, **__: sae.requires_grad_(False))
            patch.setattr(module, "label_latents", lambda *_: {"cells": cells, "latents": frame})
        some = np.concatenate([ones, greys]), np.append(np.ones(N, int), np.arange(10))
        patch.setattr(d, "split_digits", lambda name: some)
        patch.setattr(d, "REDS", (12,))
        curve = d.turn_red.__wrapped__(network, {}, 1, N, N)["curve"]
        console = steering.console.__wrapped__(network, {}, 1, 12)
    widgets.export("latents", console, made.path.with_name("widgets"))
    painted = np.concatenate([paint(ones, np.full(N, c), d.TEST_SEED) for c in range(10)])
    path = page_of(made, "steering", "networks", "latents")
    made_of = {"console": console, "curve": curve, "sae": sae, "model": model}
    return SimpleNamespace(images=painted, path=path, **made_of)


def by_hand(steered, images: np.ndarray, row: int, kind: str, level: float) -> np.ndarray:
    """Logits of a digit's images (10 colours, n, ...) with all latents encoded at each place, and
    those of a slider moved there; of shapes to the means that were exported."""
    sae, one = steered.sae, steered.console["sliders"][row][kind]
    used = np.flatnonzero([np.isclose(steered.console["encoder"], e / float(sae.scale)).all(1).any()
                           for e in to_array(sae.encoder)])  # fmt: skip
    chosen, rows = used[one["latents"]], np.arange(len(one["latents"]))
    z = latents.mean_latents(steered.model, "block3", images, sae)
    z = z.reshape(10, -1, 160)[:, :, chosen]
    base, target = z.mean(0), z[one["towards"], :, rows].T
    if "base" in one:
        base, target = np.array(one["base"]), np.array(one["target"])
    shift = one["times"] * (base + level * (target - base) - z).reshape(len(images), -1)
    added = torch.tensor(shift, dtype=torch.float32) @ sae.directions()[chosen]
    with steered.model.block3.register_forward_hook(lambda _, __, x: x + added[:, :, None, None]):
        return steered.model(torch.from_numpy(images)).detach().numpy()


def test_the_console_moves_latents_as_the_chapter_does(steered, browser):
    given = [base64.b64encode(steered.images.tobytes()).decode(), N]
    with open_page(browser, steered.path) as tab:
        for row in range(13):
            for kind in ("own", "control"):
                there = by_hand(steered, steered.images, row, kind, LEVEL)
                here = np.array(tab.evaluate(STEER, [*given, row, kind, LEVEL]))
                np.testing.assert_allclose(here, there, atol=1e-3, rtol=0)
        plain = predict(steered.model, steered.images)
        assert np.abs(by_hand(steered, steered.images, 0, "own", LEVEL) - plain).max() > 1
        curve = steered.curve.set_index(["images", "latents", "dose"])
        for colour, images in enumerate(("red ones", "green ones")):
            for dose in (0, 0.5, 4):
                here = np.array(tab.evaluate(STEER, [*given, 0, "own", dose])).reshape(10, N, 10)
                shares = softmax(here[colour], axis=1).mean(0)
                there = curve.loc[images, "red", dose].sort_values("answer").probability
                np.testing.assert_allclose(shares, there, atol=1e-3)


def told(made, steered, digit: int, colour: int, moves: dict[int, float], kind="own") -> list[str]:
    """What the console's cards say of a digit in a colour, with sliders moved."""
    images = np.stack([made.painted(made.examples[digit], c) for c in range(10)])
    plain = predict(steered.model, images)
    gained = [by_hand(steered, images, row, kind, at) - plain for row, at in moves.items()]
    logits = plain + sum(gained)
    shares = [softmax(one[colour].astype(float)) for one in (plain, logits)]
    return [describe([one.argmax()], [one.max()])[0] for one in shares]


def test_the_console_is_used_by_buttons_and_keys_and_shared_by_its_link(made, steered, browser):
    def slider(tab: Page, name: str):
        return tab.get_by_role("slider", name=f"Latents of {name}")

    with open_page(browser, steered.path) as tab:
        expect(tab.get_by_text("A still.")).to_be_hidden()
        assert answers(tab) == told(made, steered, 1, 0, {})
        assert float(slider(tab, "red").input_value()) == pytest.approx(1, abs=0.051)
        tab.get_by_role("button", name="Walk a red 1").press("Enter")
        assert answers(tab) == told(made, steered, 1, 0, {0: 0})
        tab.get_by_role("button", name="Make a green 1").click()
        assert answers(tab) == told(made, steered, 1, 1, {0: 4})
        tab.wait_for_url("**#steering?digit=1&hue=3&red=4")
        slider(tab, "violet").press("End")
        slider(tab, "violet").press("ArrowLeft")
        expect(slider(tab, "violet")).to_have_attribute("aria-valuetext", "3.9 times as in violet")
        slider(tab, "the shape of 7").press("Home")
        tab.get_by_role("button", name="Leave the latents of red").press("Enter")
        expect(slider(tab, "red")).to_have_attribute("aria-valuetext", re.compile("as it is, "))
        tab.get_by_role("button", name="test digit 4").click()
        assert answers(tab) == told(made, steered, 4, 1, moves := {7: 3.9, 12: 0})
        tab.get_by_role("checkbox").check()
        assert answers(tab) == told(made, steered, 4, 1, moves, "control")
        tab.wait_for_url("**#steering?digit=4&hue=3&others=1&violet=3.9&shape7=0")
        address = tab.url
        tab.get_by_role("button", name="Leave all").click()
        assert answers(tab) == told(made, steered, 4, 1, {}, "control")
    with open_page(browser, steered.path) as tab:
        tab.goto(address)
        tab.reload()
        assert answers(tab) == told(made, steered, 4, 1, moves, "control")
        tab.get_by_role("button", name="Draw").click()
        tab.locator(".pad").press("Space")
        tab.wait_for_timeout(400)
        assert "nothing" not in "".join(answers(tab))


# --- the explorer --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def explored(made) -> SimpleNamespace:
    """Accuracies by hand, another one in every cell; the first four methods at all shares."""
    rng, rows = np.random.default_rng(3), []
    for k, (name, method) in enumerate(METHODS.items()):
        biases = intervention.swept()[1] if k < 4 else [method.correlation or 0.95]
        for bias, augment in [(b, True) for b in biases] + [(biases[0], False)]:
            row = {"network": name, "correlation": bias, "augment": augment}
            seconds, accuracy = 10 + k, rng.uniform(0.2, 0.98)
            rows += [row | {"seed": s, "seconds": seconds, "accuracy": accuracy + s / 1000}
                     for s in range(3 if augment else 1)]  # fmt: skip
    measured = pd.DataFrame(rows).assign(arch="cnn", split="hard")
    pairs = [[0, 1], [7, 3]]
    asked = {"images": RNG.random((2, 3, 28, 28))}
    asked["probabilities"] = RNG.random((len(METHODS), 2, 10))
    data = intervention.explorer(measured, asked, pairs)
    widgets.export("methods", data, made.path.with_name("widgets"))
    return SimpleNamespace(
        measured=measured, data=data, path=page_of(made, "cures", "methods"), asked=asked
    )


def ranked(explored, bias: float, needs: list[str], most: float, augment: bool = True) -> list[str]:
    """Titles of the methods that may be used, the best first."""
    rows = explored.measured.query("correlation == @bias and augment == @augment")
    mean = rows.groupby("network").accuracy.mean().sort_values(ascending=False)
    usable = [METHODS[name] for name in mean.index if 10 + list(METHODS).index(name) <= 10 * most]
    return [one.title for one in usable if one.needs in needs and not one.reference]


def listed(tab: Page) -> list[str]:
    rows = tab.locator(".methods summary").all()
    texts = [[part.inner_text() for part in row.locator("span").all()] for row in rows]
    return [title[2:] for rank, title, *_ in texts if rank]


def test_the_explorer_ranks_what_was_measured_and_names_the_rest(explored, browser):
    levels, biases = explored.data["levels"], intervention.swept()[1]
    with open_page(browser, explored.path) as tab:

        def choose(name: str, group: str) -> None:
            group = tab.get_by_role("group", name=group)
            group.get_by_role("radio", name=name, exact=True).check()

        choose("any", "Processor time")
        names = ("● nothing", "▲ that the shortcut is colour", "■ each image's colour")
        for known, name in enumerate(names):
            choose(name, "One knows")
            usable = [m.title for m in METHODS.values() if m.needs in levels[: known + 1]]
            for bias, share in zip(biases, ("5", "2", "1", "½"), strict=True):
                choose(share, "Misleading colours")
                wanted = ranked(explored, bias, levels[: known + 1], np.inf)
                assert listed(tab) == wanted and len(wanted) > 2
                assert f"measured, {wanted[0]} has the highest" in tab.locator(".best").inner_text()
                said = tab.locator(".methods ~ .small").inner_text().partition(": ")[2].rstrip(".")
                assert said == ", ".join(title for title in usable if title not in wanted)
        choose("5", "Misleading colours")
        choose("1.25 × ERM", "Processor time")
        assert listed(tab) == ranked(explored, 0.95, levels, 1.25)
        choose("no (one seed)", "Augmented")
        assert listed(tab) == ranked(explored, 0.95, levels, 1.25, augment=False)
        tab.wait_for_url("**#cures?share=5&know=labels&time=1.25&plain=1")


def test_a_method_opens_by_keys_and_by_its_link(explored, browser):
    with open_page(browser, explored.path) as tab:
        tab.get_by_role("radio", name="5", exact=True).focus()
        for _ in range(3):
            tab.keyboard.press("ArrowRight")
        assert tab.get_by_role("radio", name="½").is_checked()
        tab.locator("summary", has_text="ERM").press("Enter")
        tab.wait_for_url("**open=erm")
        row = explored.data["methods"][0]
        told = [one["told"] for one in row["results"] if one["augment"]]
        opened = tab.locator("details[open]")
        assert opened.count() == 1 and row["hypothesis"] in opened.inner_text()
        numbers = [f"{share}: {text}" for share, text in zip("521½", told, strict=True)]
        assert "; ".join(numbers) in opened.inner_text()
        assert opened.locator("pre").inner_text() == row["code"]
        assert opened.locator("figcaption b").all_inner_texts() == [
            str(each.argmax()) for each in explored.asked["probabilities"][0]
        ]
        address = tab.url
    with open_page(browser, explored.path) as tab:
        tab.goto(address)
        tab.reload()
        expect(tab.locator("details[open] summary")).to_contain_text("ERM")
        assert tab.get_by_role("radio", name="½").is_checked()


@pytest.mark.parametrize("kind", ["steered", "explored"])
def test_neither_widget_has_a_fault(kind, request, browser):
    path = request.getfixturevalue(kind).path
    assert faults(browser, path, "light") + faults(browser, path, "dark") == []
    with open_page(browser, path, java_script_enabled=False) as bare:
        expect(bare.get_by_text("A still.")).to_be_visible()
