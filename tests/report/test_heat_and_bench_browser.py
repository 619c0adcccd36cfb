"""The heat that one can move and the attack bench in a real browser: do they compute what PyTorch
computes, and can they be used with mouse and keys, and shared by a link?"""

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from browsing import faults, open_page
from playing import Playground, write_page
from playwright.sync_api import Page, expect
from test_widgets_browser import answers, computed

from lazy_artist import attack, widgets
from lazy_artist.evaluate import predict
from lazy_artist.gradcam import grad_cam

RNG = np.random.default_rng(0)
STEPS = 20


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Playground:
    return Playground(tmp_path_factory.mktemp("widgets"))


def page(made: Playground, kind: str) -> Path:
    still = {"page": f"{kind}.html", "still": "Here is a picture."}
    placed = widgets.place(kind, "Try.", "See.", **still)
    return write_page(made.path.with_name(f"{kind}.html"), placed)


def covered(grey: np.ndarray, left: int, top: int, size: int) -> np.ndarray:
    grey = grey.copy()
    grey[top : top + size, left : left + size] = 0
    return grey


def attacked(
    model: torch.nn.Module, images: np.ndarray, targets: list[int], levels: np.ndarray,
    steps: int = STEPS,
) -> np.ndarray:  # fmt: skip
    """Images (N, 3, 28, 28) after the first steps of `attack.targeted_pgd`, none of which is left
    out when the target is reached; in double precision, in which the page adds up, too."""
    x, t = torch.from_numpy(np.float64(images)), torch.tensor(targets)
    delta, size, model = torch.zeros_like(x), torch.from_numpy(levels / 255), copy.deepcopy(model)
    for step in range(steps):
        at = (x + delta).requires_grad_()
        margin = attack._margin(model.double()(at), t, "predict").sum()
        gradient = torch.autograd.grad(margin, at)[0]
        decay = (1 + math.cos(math.pi * step / STEPS)) / 2
        delta = attack._step(x, delta, gradient, "linf", size, decay)
    return (x + delta).numpy()


def test_heat_of_covered_digits_is_that_of_the_modules(made, browser):
    draw = [RNG.integers(0, most, 200).tolist() for most in (10, 10, 21, 21)]
    given = [(*one, int(size)) for *one, size in zip(*draw, RNG.integers(0, 15, 200), strict=True)]
    greys = [covered(made.examples[digit], *patch) for digit, _, *patch in given]
    images = np.stack([made.painted(g, one[1]) for g, one in zip(greys, given, strict=True)])
    heat = """(() => {
      const {examples, colours, background} = Widgets.data("networks");
      const [digit, k, ...patch] = given;
      const grey = Network.cover(examples[digit], ...patch);
      const run = Network.forward(net, Network.paint(grey, colours[k].rgb, background));
      return Network.gradCam(net, run, Network.largest(run.logits));
    })()"""
    with open_page(browser, page(made, "heat")) as tab:
        for name, model in made.networks.items():
            maps = grad_cam(model, "block3", images, predict(model, images).argmax(1))
            here = computed(tab, name, images, given, heat).reshape(maps.shape)
            np.testing.assert_allclose(here, maps, atol=1e-5 * float(maps.max()), rtol=1e-3)


def test_the_patch_moves_by_keys_mouse_and_link(made, browser):
    def told(digit: int, colour: int, *patch: int) -> list[str]:
        return made.told(covered(made.examples[digit], *patch), colour)

    with open_page(browser, page(made, "heat")) as tab:
        assert answers(tab) == told(7, 3, 13, 5, 9)
        expect(tab.get_by_text("Uncovered: ")).to_have_count(3)
        uncovered = tab.get_by_text("Uncovered: ").all_inner_texts()
        assert [text.split()[1][0] for text in uncovered] == [t[0] for t in told(7, 3, 0, 0, 0)]
        tab.get_by_label("Patch", exact=True).focus()
        for key in ["ArrowDown"] * 3 + ["ArrowLeft"] * 2 + ["ArrowRight"]:
            tab.keyboard.press(key)
        assert answers(tab) == told(7, 3, 12, 8, 9)
        for _ in range(15):
            tab.keyboard.press("ArrowUp")
        assert answers(tab) == told(7, 3, 12, 0, 9)  # no further than the rim
        box = tab.locator(".stage canvas").bounding_box()
        pixel = box["width"] / 28
        tab.mouse.move(box["x"] + 15.5 * pixel, box["y"] + 3.5 * pixel)  # held by any of its pixels
        tab.mouse.down()
        tab.mouse.move(box["x"] + 9.5 * pixel, box["y"] + 12.5 * pixel, steps=4)
        tab.mouse.up()
        assert answers(tab) == told(7, 3, 6, 9, 9)
        tab.mouse.click(box["x"] + 27.5 * pixel, box["y"] + 27.5 * pixel)
        assert answers(tab) == told(7, 3, 19, 19, 9)
        patch = tab.locator(".patch").bounding_box()
        assert patch["x"] + patch["width"] == pytest.approx(box["x"] + box["width"], abs=1)
        tab.mouse.click(box["x"] + 5.5 * pixel, box["y"] + 22.5 * pixel)
        assert answers(tab) == told(7, 3, 1, 18, 9)
        tab.get_by_label("Patch: ").focus()
        tab.keyboard.press("ArrowLeft")
        tab.keyboard.press("ArrowLeft")
        tab.get_by_role("radio", name="blue").check()
        tab.get_by_role("button", name="test digit 4").press("Enter")
        assert answers(tab) == told(4, 2, 2, 19, 7)
        tab.wait_for_url("**#heat?digit=4&hue=5&size=7&left=2&top=19")
        tab.goto(tab.url.replace("digit=4&hue=5&size=7", "digit=2&hue=6&size=0"))
        assert answers(tab) == told(2, 7, 0, 0, 0)
        expect(tab.get_by_label("Patch", exact=True)).to_be_hidden()


def test_the_steps_of_an_attack_are_those_of_the_module(made, browser):
    greys = made.examples[np.arange(20) % 10]
    images = np.stack([made.painted(grey, i % 7) for i, grey in enumerate(greys)])
    targets, levels = [(i + 3) % 10 for i in range(20)], 1 + 5 * np.arange(20) % 32
    given = [[target, float(size / 255)] for target, size in zip(targets, levels, strict=True)]
    climb = """Array.from({length: %d}).reduce((delta, _, step) =>
      Network.ascend(net, image, delta, ...given, step / 20), new Float32Array(image.length))"""
    least = {5: 20, STEPS: 18}  # ways may part where a ReLU is at its kink, in PyTorch too
    with open_page(browser, page(made, "bench")) as tab:
        for name, model in made.networks.items():
            for steps, agreed in least.items():
                there = attacked(model, images, targets, levels, steps) - images
                here = computed(tab, name, images, given, climb % steps).reshape(there.shape)
                assert (np.abs(here - there).max((1, 2, 3)) < 1e-3).sum() >= agreed
            np.testing.assert_allclose(np.abs(here).max((1, 2, 3)), levels / 255, rtol=1e-3)


def finished(tab: Page) -> list[str]:
    """What stands beneath the answers, once nothing is computed any more."""
    busy = tab.get_by_text("Attacking").or_(tab.get_by_text("Searching"))
    expect(busy).to_have_count(0, timeout=120_000)
    return tab.locator(".card .small").all_inner_texts()


def test_the_bench_opens_cloaked_and_finds_the_least_sizes(made, browser, tmp_path):
    models = dict(zip(made.networks, [*made.networks.values()][::-1], strict=True))
    widgets.write(tmp_path / "widgets")
    data = widgets.network_data(models, dict.fromkeys(models, 1), made.examples, made.background)
    widgets.export("networks", data, tmp_path / "widgets")
    file = tmp_path / "bench.html"
    file.write_text(page(made, "bench").read_text("utf-8"), "utf-8")

    def after(digit: int, target: int) -> tuple[np.ndarray, np.ndarray]:
        """What the networks say at sizes of 0 to 32, and once rounded: (networks, sizes)."""
        image = np.round(255 * made.painted(made.examples[digit], digit)) / np.float32(255)
        images, told = np.repeat(image[None], 33, 0), []
        for model in models.values():
            changed = attacked(model, images, [target] * 33, np.arange(33.0)).astype(np.float32)
            rounded = np.round(255 * changed) / np.float32(255)
            told.append([predict(model, each).argmax(1) for each in (changed, rounded)])
        return np.moveaxis(np.array(told), 1, 0)

    def beneath(rounded: np.ndarray, told: np.ndarray, size: int, target: int) -> list[str]:
        texts = []
        for after, before in zip(rounded, told, strict=True):
            still = "still " if after[size] == before[size] else ""
            least = np.argmax(after == target)  # none of these networks wavers
            assert (after[least:] == target).all() and least > 1
            texts += [f"Rounded to 8 bits: {still}{after[size]}", f"Least size: {least} levels"]
        return texts

    with open_page(browser, file) as tab:
        tab.set_default_timeout(120_000)  # for machines that are busy
        tab.wait_for_function("document.querySelectorAll('.card .small button').length === 3")
        told, rounded = after(7, 3)
        size = int(np.argmax(rounded[1] == 3))
        assert rounded[0, size] != 3
        assert finished(tab) == beneath(rounded, told, size, 3)
        slider = tab.get_by_label("Largest change of a pixel")
        assert slider.input_value() == str(size)
        assert [text[0] for text in answers(tab)] == [str(top) for top in told[:, size]]
        tab.locator(".card .small button").first.press("Enter")
        finished(tab)
        assert slider.input_value() == str(np.argmax(rounded[0] == 3)) and answers(tab)[0][0] == "3"
        tab.get_by_role("button", name="test digit 4").press("Enter")
        tab.get_by_label("to be taken for a").select_option("8")
        find = tab.get_by_role("button", name="Find the least sizes")
        find.press("Enter")
        tab.get_by_role("button", name="Stop").press("Enter")
        assert finished(tab)[1::2] == ["Least size: not searched"] * 3
        find.press("Enter")
        tab.wait_for_function("document.querySelectorAll('.card .small button').length === 3")
        slider.press("ArrowRight")
        told, rounded = after(4, 8)
        assert finished(tab) == beneath(rounded, told, int(slider.input_value()), 8)
        assert tab.get_by_label("painted").input_value() == "4"
        tab.wait_for_url(f"**#bench?digit=4&colour=4&target=8&size={slider.input_value()}")
        tab.goto(tab.url.replace("digit=4", "digit=7").replace("colour=4", "colour=7"))
        finished(tab)
        told, rounded = after(7, 8)
        assert [t[0] for t in answers(tab)] == [str(t) for t in told[:, int(slider.input_value())]]


@pytest.mark.parametrize("kind", ["heat", "bench"])
def test_the_widgets_have_no_fault(made, browser, kind):
    file = page(made, kind)
    assert faults(browser, file, "light") + faults(browser, file, "dark") == []
