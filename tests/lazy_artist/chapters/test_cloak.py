"""Chapter 6's measurements, on networks whose smallest changes are known, and its cells on frames
made by hand."""

import io
import itertools
import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from cells import run_cells, table
from scipy.ndimage import gaussian_filter
from torch import nn

from lazy_artist import attack, store
from lazy_artist.canvas import COLOUR_NAMES, paint
from lazy_artist.chapters import cloak
from lazy_artist.chapters.cloak import CONFIDENT, GOALS, NORMS, PREDICTS, UNREACHED
from lazy_artist.config import TEST_SEED
from lazy_artist.debias import METHODS
from lazy_artist.evaluate import Estimate

LOG9 = math.log(9)
MORE = {PREDICTS: 0, CONFIDENT: LOG9 / 100}  # what a `RedMeter` needs beyond its threshold
OTHERS = [name for name in METHODS if not METHODS[name].reference and name != "combination"]


class RedMeter(nn.Module):
    """Sees a 3 where the mean red exceeds a threshold, else a 7: z_3 - z_7 = 100 (red - threshold).
    The smallest change adds the same to all red values; a third of its energy is brightness."""

    def __init__(self, threshold: float = 0.5):
        super().__init__()
        self.threshold, self.seen = threshold, []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen.append(images.detach())
        margin = 100 * (images[:, 0].mean((1, 2)) - self.threshold)
        logits = torch.stack([margin] * 10, 1) * 0 - 1e3
        logits[:, 3], logits[:, 7] = margin / 2, -margin / 2
        return logits


def handle(model: nn.Module | None, name: str = "cheater", seed: int = 0) -> SimpleNamespace:
    return SimpleNamespace(name=name, seed=seed, load=lambda: model)


def plain(reds: list[float], green: float = 0.4, blue: float = 0.6) -> np.ndarray:
    """Images of a single colour each."""
    rgb = [(red, green, blue) for red in reds]
    return np.ones((1, 1, 28, 28), np.float32) * np.float32(rgb)[:, :, None, None]


def sevens(images: np.ndarray) -> dict[str, np.ndarray]:
    """What a measurement is given, and then finds as `shared_images`, with `as_given`."""
    return {"images_of_7": images}


@pytest.fixture
def as_given(monkeypatch):
    monkeypatch.setattr(cloak, "shared_images", lambda **shared: shared)


# --- networks and images -------------------------------------------------------------------------


def test_the_adversarial_loss_is_of_images_moved_against_the_network(monkeypatch):
    radius, meter, calibrated = 0.1, RedMeter(), []

    def train(model, split, seed, loss, epochs, **recipe):
        images = torch.tensor(plain([0.45, 0.52, 0.97]))
        loss(meter, images, torch.tensor([7, 3, 7]), torch.arange(3))
        start, moved = (x[:, 0] - images[:, 0] for x in meter.seen)
        assert start.abs().max() <= radius and start.std() > 0.04  # a random start
        towards = torch.tensor([1.0, -1.0])[:, None, None]  # redder for the 7, less red for the 3
        assert (moved[:2] * towards > 0.25 * radius - 1e-6).all()  # at least 1.25 - 1 steps
        assert (moved.abs() <= radius + 1e-6).all() and meter.seen[1].max() <= 1

    monkeypatch.setattr(cloak, "train", train)
    monkeypatch.setattr(cloak, "calibrate", lambda model, seed: calibrated.append(seed) or 0.5)
    made = cloak.train_yardstick.__wrapped__(True, radius, 0.1, 2, 1.5)
    assert made["temperature"] == 0.5 and calibrated == [2]
    assert made["weights"]["block1.0.weight"].shape == (32, 3, 5, 5)


def test_the_colour_reader_sees_neither_places_nor_shapes(monkeypatch):
    def train(model, split, seed, loss, **recipe):
        images = torch.rand(4, 3, 28, 28)
        one = loss(model, images, torch.arange(4), torch.arange(4))
        shuffled = images.flatten(2)[:, :, torch.randperm(784)].view_as(images)
        torch.testing.assert_close(loss(model, shuffled, torch.arange(4), torch.arange(4)), one)

    monkeypatch.setattr(cloak, "train", train)
    monkeypatch.setattr(cloak, "calibrate", lambda model, seed: 1.0)
    made = cloak.train_yardstick.__wrapped__(False, 0.0, 0.95, 2, 1.5)
    reader = cloak.ColourReader("colour reader", "cnn", SimpleNamespace(value=lambda: made))
    model = reader.load()
    assert not model.training and sum(w.numel() for w in model.parameters()) == 12_074
    np.testing.assert_array_equal(model.head.weight.detach(), made["weights"]["head.weight"])


def test_shared_images_are_the_first_that_all_judges_classify_correctly(monkeypatch):
    labels = np.arange(100) % 10
    images = np.float32((np.arange(100) + 0.3) / 255)[:, None, None, None] * np.ones_like(
        plain([1])
    )
    grey = np.round(255 * images) / np.float32(255)

    def predict(predictions, images):  # of images that hold their own numbers
        return np.eye(10)[predictions[(255 * images[:, 0, 0, 0]).round().astype(int)]]

    split = SimpleNamespace(labels=labels, images=images)
    monkeypatch.setattr(cloak, "test_split", lambda name: split)
    monkeypatch.setattr(cloak, "predict", predict)
    one, other = labels.copy(), labels.copy()
    one[7], other[27] = 1, 3
    one[10::10] = 8  # a single 0 is left
    found = cloak.shared_images.__wrapped__([handle(one), handle(other)], 4, 2)
    np.testing.assert_array_equal(found["index"], [17, 37, 47, 57])
    np.testing.assert_array_equal(found["images_of_7"], grey[[17, 37, 47, 57]])  # of 8 bits
    pairs = [[digit, digit + 10] for digit in range(10)]
    pairs[0], pairs[7] = [0, 0], [17, 37]
    np.testing.assert_array_equal(found["pairs"], grey[pairs])
    with pytest.raises(ValueError, match="no 7 correctly"):
        cloak.shared_images.__wrapped__([handle(labels * 0)], 4, 2)


# --- measurements --------------------------------------------------------------------------------


def test_smallest_changes_of_a_network_that_measures_red(as_given):
    measure = cloak.smallest_changes.__wrapped__
    images = sevens(plain([0.40, 0.30, 0.60, 0.45, 0.35]))  # the third is a 3 already
    frame = measure(handle(RedMeter()), images, 4, ["linf", "l2"], 20)
    for (norm, goal), part in frame.groupby(["norm", "goal"]):
        assert part["image"].tolist() == [0, 1, 3]
        need = np.array([0.10, 0.20, 0.05]) + MORE[goal]
        np.testing.assert_allclose(part["size"], need * {"linf": 1, "l2": 28}[norm], rtol=3e-3)
        np.testing.assert_allclose(part["chroma"], 2 / 3, atol=1e-3)
        np.testing.assert_allclose(part["coarse"], 1, atol=1e-3)  # the same in every pixel
        assert part["noise"].eq(0).all() == ((norm, goal) == ("linf", PREDICTS))
    assert len(frame) == 12
    lost = measure(handle(RedMeter(1.2)), sevens(plain([0.4])), None, ["linf"], 5)
    assert lost["size"].tolist() == [UNREACHED] * 2
    assert lost[["chroma", "coarse"]].isna().all(axis=None)
    blind = measure(handle(RedMeter(0.1)), sevens(plain([0.4])), None, ["linf"], 5)
    assert len(blind) == 0 and list(blind) == list(frame)


def test_the_coarse_share_of_a_change_is_that_of_its_blocks(as_given, monkeypatch):
    images = plain([0.4, 0.4, 0.4])
    changed = images.copy()
    changed[0, 0, :4, :4] += 0.1  # a whole block
    changed[1, 2, 2:4] += 0.1  # half of each block in a row: means are half as large
    changed[2, 0, 5, 9] += 0.1  # a single pixel
    found = SimpleNamespace(epsilon=np.full(3, 0.1), images=changed)
    monkeypatch.setattr(attack, "minimal_epsilon", lambda *_, **__: found)
    frame = cloak.smallest_changes.__wrapped__(handle(RedMeter()), sevens(images), 3, ["l2"], 9)
    np.testing.assert_allclose(frame["coarse"], [1, 1 / 2, 1 / 16] * 2, rtol=1e-5)


def test_random_signs_have_each_images_own_size(monkeypatch):
    images, sizes = plain([0.5, 0.5, 0.5]), np.array([0.1, 0.3, np.inf])
    corner = lambda _, x: np.eye(10)[np.where(x[:, 0, 0, 0] > 0.7, 3, 7)]  # noqa: E731
    monkeypatch.setattr(cloak, "predict", corner)
    rng = np.random.default_rng(TEST_SEED)
    signs = [rng.choice(np.float32([-1, 1]), size=images.shape)[:, 0, 0, 0] for _ in range(10)]
    up = np.mean(np.array(signs) > 0, axis=0)
    assert cloak.random_signs(None, images, sizes).tolist() == [0, up[1], up[2]]


def test_sizes_in_every_colour(as_given, monkeypatch):
    grey = np.full((2, 28, 28), 255, np.uint8)
    grey[1, :, :4] = 0
    digits = {"aligned": (np.stack([0 * grey[0], grey[1], grey[0]]), None)}
    monkeypatch.setattr(cloak.canvas, "split_digits", digits.__getitem__)
    shared = {"index": np.array([2, 1, 0])}
    frame = cloak.sizes_by_colour.__wrapped__(handle(RedMeter(0.7)), shared, 2, 20)
    groups = frame.groupby(["colour", "goal"])
    for (name, goal), part in groups:
        red = paint(grey, np.full(2, COLOUR_NAMES.index(name)), TEST_SEED)[:, 0].mean((1, 2))
        assert part["prediction"].tolist() == np.where(red > 0.7, 3, 7).tolist()
        expected = np.where(red > 0.7, np.nan, 0.7 - red + MORE[goal])
        np.testing.assert_allclose(part["size"], expected, rtol=0.02)
    assert len(groups) == 20


def test_changes_of_colour_alone(as_given):
    images = plain([0.2, 0.45], green=0.3, blue=0.8)
    more = sevens(np.concatenate([images, images]))
    frame = cloak.colour_changes.__wrapped__(handle(RedMeter()), more, 2)
    tint, hue = (part["size"].tolist() for _, part in frame.groupby("change", sort=False))
    np.testing.assert_allclose(tint, [10 / 32, 2 / 32], atol=1e-6)  # the next above .3 and .05
    assert hue == attack.colour_attack(RedMeter(), images, 3, "hue", grid=32).size.tolist()


def test_sizes_of_every_pair(as_given, monkeypatch):
    tags = np.arange(30).reshape(10, 3)  # of images: digit and number
    tags[4] = [14, 12, 29]
    pairs = np.float32(tags)[:, :, None, None, None] * np.ones((3, 28, 28), np.float32)

    def search(model, images, targets, steps):
        tag = images[:, 0, 0, 0].astype(float)
        return SimpleNamespace(epsilon=np.where(tag > 26, np.inf, tag + targets / 100))

    monkeypatch.setattr(attack, "minimal_epsilon", search)
    found = cloak.sizes_by_pair.__wrapped__(handle(None), {"pairs": pairs}, 15)
    medians = [1, 4, 7, 10, 14, 16, 19, 22, 25, UNREACHED]  # of the three tags
    rows = [(d, t, medians[d] + t / 100) for d in range(10) for t in range(10) if d != t]
    np.testing.assert_allclose(found.to_numpy(float), rows, rtol=1e-6)


def test_signs_of_masking(as_given, monkeypatch):
    square, queries = attack.square_attack, []

    def counted(*arguments):
        queries.append(arguments[-1])
        return square(*arguments)

    monkeypatch.setattr(attack, "square_attack", counted)
    images = sevens(plain([0.45, 0.38, 0.25, 0.05, 0.04]))  # .05, .12, .25, .45 away, and one more
    other = handle(RedMeter(0.47))
    frame = cloak.masking_signs.__wrapped__(handle(RedMeter()), other, images, 4, 2, 400)
    expected = {("size", 0.1): 0.25, ("size", 0.2): 0.5, ("size", 0.4): 0.75, ("size", 0.8): 1}
    expected |= {("steps", n): 0.5 for n in (5, 10, 20, 40)}  # the median is .185
    # the other's sizes are .02, .09, .22, .42: doubled, all but the first suffice
    expected |= {("transfer", 2): 0.75, ("own", 2): 1, ("square", 0.98): 0}
    expected |= {("square", 1.5): 1}  # of the first two: red everywhere is soon found
    assert queries == [400, 400]
    assert frame.set_index(["measured", "setting"])["share"].to_dict() == expected


def test_fmn_gets_five_times_the_gradients_of_all_our_descents(as_given, monkeypatch):
    for name, size in {"minimal_epsilon": (1, np.inf), "fmn": (np.inf, 4)}.items():

        def search(model, images, target, norm, steps, size=size):
            assert len(images) == 2
            return SimpleNamespace(epsilon=np.array([size[norm == "l2"], steps]))

        monkeypatch.setattr(attack, name, search)
    steps = {"linf": 100, "l2": 60}
    images = sevens(plain([0.1, 0.2, 0.3]))
    frame = cloak.compare_with_fmn.__wrapped__(handle(RedMeter()), images, 2, steps)
    assert frame["norm"].tolist() == ["linf", "linf", "l2", "l2"]
    np.testing.assert_array_equal(frame["ours"], [1, 100, np.nan, 60])
    np.testing.assert_array_equal(frame["fmn"], [np.nan, 500, 4, 1500])


def structural_similarity(x: np.ndarray, y: np.ndarray) -> float:
    def mean(z):
        return gaussian_filter(z, (0, 1.5, 1.5), truncate=3.5)[:, 5:-5, 5:-5]

    x, y = x.astype(float), y.astype(float)
    a, b = mean(x), mean(y)
    light = (2 * a * b + 1e-4) / (a * a + b * b + 1e-4)
    spread = mean(x * x) - a * a + mean(y * y) - b * b
    return np.mean(light * (2 * (mean(x * y) - a * b) + 9e-4) / (spread + 9e-4))


def test_the_smallest_change_of_whole_grey_levels(as_given, monkeypatch):
    grey = np.round(255 * plain([0.48, 0.40, 0.30])) / np.float32(255)
    measure, search = cloak.smallest_grey_change.__wrapped__, attack.targeted_pgd
    monkeypatch.setattr(
        attack, "targeted_pgd", lambda *given, steps, **more: search(*given, steps=8, **more)
    )  # enough for a network that is a ramp
    near, far, lost = (measure(handle(RedMeter()), sevens(grey), k, 33) for k in range(3))
    # the margin has to exceed log 9: 255 (.5 + .0219722 - red) levels, rounded up
    assert (near["levels"], far["levels"], lost["levels"]) == (12, 32, 0)
    assert near["before"][3] == pytest.approx(1 / (1 + math.exp(100 * (0.5 - 122 / 255))), rel=1e-3)
    for number, entry in enumerate((near, far)):
        np.testing.assert_array_equal(entry["image"], grey[number])
        moved = 255 * (entry["changed"].astype(float) - entry["image"])
        np.testing.assert_allclose(moved, moved.round(), atol=1e-4)
        assert np.abs(moved).max() == pytest.approx(entry["levels"])
        logits = RedMeter()(torch.from_numpy(entry["changed"][None]))
        np.testing.assert_allclose(entry["after"], logits.softmax(1)[0], atol=1e-6)
        assert entry["after"][3] > 0.9
    colour = attack.ciede2000(grey[:1], near["changed"][None])
    assert near["colour_mean"] == colour.mean() and near["colour_max"] == colour.max() > 1
    np.testing.assert_array_equal(lost["changed"], grey[2])
    assert lost["colour_max"] == 0 and lost["after"][3] == lost["before"][3] < 0.1
    x, y = np.random.default_rng(0).uniform(0.4, 0.5, (2, 3, 28, 28)).astype(np.float32)
    x, y = (np.round(255 * z) / np.float32(255) for z in (x, y))
    found = SimpleNamespace(images=y[None])
    monkeypatch.setattr(attack, "targeted_pgd", lambda *_, **__: found)
    different = measure(handle(RedMeter(0.3)), sevens(x[None]), 0, 1)
    assert different["ssim"] == pytest.approx(structural_similarity(x, y), abs=1e-6)


def test_what_counts_is_the_rounded_picture(as_given, monkeypatch):
    """The search adds .83 of its size to red, and .2 levels to green, outward one; and so much
    green is held against a 3. Red needs 8.1 levels: 8.3 would do, but are 8 when rounded."""

    class Meter(RedMeter):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            logits = super().forward(images)
            logits[:, 3] -= 1e4 * (images[:, 1].mean((1, 2)) - 102.5 / 255).relu()
            return logits

    def search(model, images, target, size, criterion, steps):
        asked.append((round(255 * size), criterion))
        moved = np.float32([0.83 * size, 0.2 / 255, 0])[:, None, None]
        return SimpleNamespace(images=images + moved)

    grey, asked = np.round(255 * plain([0.49])) / np.float32(255), []
    monkeypatch.setattr(attack, "targeted_pgd", search)
    found = cloak.smallest_grey_change.__wrapped__(handle(Meter()), sevens(grey), 0, 40)
    moved = 255 * (found["changed"].astype(float) - found["image"])
    np.testing.assert_allclose(moved.mean((1, 2)), [9, 0, 0], atol=1e-4)
    assert found["levels"] == 11 and found["after"][3] > 0.9
    assert asked == [(level, p) for level in range(1, 12) for p in (0.9, 0.99)][:-1]


def test_frames_are_gathered_with_infinity_for_what_was_not_reached(monkeypatch):
    monkeypatch.setattr(store.stored, "map", lambda function, calls: [function(**c) for c in calls])
    cure, cheater = handle(None, "cure", 2), handle(None)
    calls = [{"network": cure, "size": 0.5}, {"network": cheater, "size": UNREACHED}]
    frame = cloak.gather(lambda network, size: pd.DataFrame({"size": [size, np.nan]}), calls)
    np.testing.assert_array_equal(frame["size"], [0.5, np.nan, np.inf, np.nan])
    assert frame["network"].tolist() == ["cure", "cure", "cheater", "cheater"]
    assert frame["seed"].tolist() == [2, 2, 0, 0]


# --- statistics ----------------------------------------------------------------------------------


def tidy(network: str, matrix, norm: str = "linf", goal: str = PREDICTS) -> pd.DataFrame:
    """Sizes (seeds, images) as `smallest_changes` returns them, in another order; none for NaN."""
    values = pd.DataFrame(matrix).rename_axis("seed").melt(ignore_index=False, var_name="image")
    frame = values.reset_index().dropna()[::-1].rename(columns={"value": "size"})
    return frame.assign(network=network, norm=norm, goal=goal, chroma=0.5, coarse=0.2, noise=np.nan)


def test_a_matrix_has_the_images_that_every_seed_classifies_correctly():
    own = tidy("cure", [[0.1, np.nan, np.inf], [0.4, 0.5, 0.6]])
    length, sure = (tidy("cure", [[9.0] * 3] * 2, *of) for of in (["l2"], ["linf", CONFIDENT]))
    sizes = pd.concat([own, length, sure, tidy("oracle", [[7.0] * 3] * 2)])
    np.testing.assert_array_equal(cloak.matrix(sizes, "cure"), [[0.1, np.inf], [0.4, 0.6]])
    assert (cloak.matrix(sizes, "cure", column="chroma") == 0.5).all()
    assert cloak.matrix(sizes, "nobody").size == 0


def test_ratios_are_taken_seed_by_seed_on_the_images_of_both():
    one = tidy("cure", [[0.1, 0.2, np.nan, 9], [0.4, 0.2, 0.6, 9]])
    base = tidy("cheater", [[0.2, 0.4, 0.1, np.nan], [0.1, 0.3, 0.1, np.nan]])
    others = [tidy("cure", [[9.0] * 4] * 2, "l2"), tidy("oracle", [[9.0] * 4] * 2)]
    found = cloak.ratio_of(pd.concat([one, base, *others]), "cure", "cheater")
    ratios = np.log([0.15 / 0.3, 0.4 / 0.1])  # of medians: two images with the first seed, three
    reach = 12.7062 * np.std(ratios, ddof=1) / math.sqrt(2)  # Student's t with one degree
    assert found.mean == pytest.approx(math.sqrt(2)) and found.n == 2
    ends = np.exp([np.mean(ratios) - reach, np.mean(ratios) + reach])
    np.testing.assert_allclose(found.interval, ends, rtol=1e-4)
    single = cloak.ratio_of(pd.concat([one[one["seed"] == 1], base]), "cure", "cheater")
    assert (single.mean, single.interval) == (pytest.approx(4), None)
    far = pd.concat([tidy("robust", [[np.inf, np.inf]]), base, tidy("lost", [[np.inf, np.inf]])])
    assert cloak.ratio_of(far, "robust", "cheater")[:2] == (np.inf, None)
    assert cloak.ratio_of(far, "cheater", "robust")[:2] == (0, None)
    assert np.isnan(cloak.ratio_of(far, "robust", "lost").mean)


def test_medians_by_seed():
    found = cloak.by_seed(np.array([[1.0, 2, 9], [3, 4, np.inf]]))
    assert (found.mean, found.n) == (3, 2) and found.interval[0] == 0  # 3 - 12.7, cut
    assert cloak.by_seed(np.array([[1.0, 2], [3, np.inf]])) == Estimate(np.inf, None, 2)


def test_numbers_in_words():
    for interval, words in (((1.1, 2), "harder"), ((0.2, 0.9), "easier"), ((0.9, 1), "about as")):
        assert cloak.in_words(Estimate(1, interval, 3)).startswith(words)
    assert cloak.in_words(Estimate(0.5, None, 1)).startswith("easier")
    endless, confident = Estimate(np.inf, None, 2), Estimate(0.05, (0.04, 0.06), 2)
    assert cloak.size_text(endless) == "not reached" == cloak.size_text(np.nan)
    assert cloak.size_text(confident) == "0.050 [0.040, 0.060]"


def signs(network: str, **changed) -> pd.DataFrame:
    """Shares that raise no doubt, but for those given."""
    shares = {"size": (0.5, 0.9, 1, 1), "steps": (0.2, 0.2, 0.4, 0.5), "transfer": 0.1, "own": 0.9}
    rows = (shares | {"square": (0, 0.7)} | changed).items()
    frame = pd.DataFrame(rows, columns=["measured", "share"]).explode("share")
    return frame.assign(network=network, share=frame["share"].astype(float))


def test_each_check_on_masking_can_fail():
    doubts = {"size": (1, 1, 1, 0.99), "steps": (0.5, 0.4, 0.6, 0.6), "transfer": 0.9}
    doubts["square"] = (0.02, 1)
    for k, (measured, value) in enumerate(doubts.items()):
        both = [signs("cure"), signs("cheater", **{measured: value})]
        checks = cloak.judge_masking(pd.concat(both))
        assert checks["network"].tolist() == ["cure"] * 4 + ["cheater"] * 4
        assert checks["holds"].tolist() == [True] * 4 + [k != check for check in range(4)]
    assert checks["measured"][2] == "10% against 90%"
    assert checks["measured"][7] == "2% at 0.98 of our size (100% at 1.5)"
    assert cloak.judge_masking(signs("cure", square=(0, 0)))["holds"].all()


# --- figures and cells ---------------------------------------------------------------------------

SIZES = {
    "cheater": [[0.04, 0.2, 0.3, 0.06, 0.06], [0.01, 0.3, 0.4, 0.06, 0.06]],
    "cure": [[0.02, 0.03, 0.05, 0.005, 0.06], [0.02, 0.03, 0.05, np.inf, 0.06]],
    "oracle": [[0.1, np.nan, 0.3], [0.1, 0.2, 0.3]],
    "brief-oracle": [[0.02, 0.1, 0.1], [0.01, 0.15, 0.15]],
    "convinced-cheater": [[0.03, 0.1, 0.2], [0.02, 0.4, 0.3]],
    "colour reader": [[0.3, 0.3, 0.6]],
    "adversarially trained": [[0.2, 0.2, np.inf]],
    "cheater, ResNet-18": [[0.01, 0.02, 0.04, np.nan]],
}
FACTORS = {"linf": 1, "l2": 10, PREDICTS: 1, CONFIDENT: 2}


def all_sizes(sizes: dict[str, list]) -> pd.DataFrame:
    """Twice as large for confident predictions, ten times as large by length."""
    return pd.concat(
        tidy(name, np.array(matrix) * FACTORS[norm] * FACTORS[goal], norm, goal)
        for (name, matrix), norm, goal in itertools.product(sizes.items(), NORMS, GOALS)
    )


@pytest.mark.parametrize("norm", NORMS)
def test_curves_are_shares_at_each_size_allowed(norm):
    figure = cloak.size_curves(all_sizes(SIZES), norm)
    frame = pd.read_csv(io.StringIO(figure.data_csv), comment="#")
    for ax, goal in zip(figure.axes, GOALS, strict=True):
        part = frame.query("goal == @goal and network == 'cheater' and seed == 1")
        sizes = np.array(SIZES["cheater"][1]) * FACTORS[norm] * FACTORS[goal]
        below = np.mean(sizes <= part["size allowed"].to_numpy()[:, None], axis=1)
        shares = part.iloc[:, -1]
        np.testing.assert_allclose(shares, below if norm == "linf" else 1 - below)
        *thin, thick = (line.get_ydata() for line in ax.lines[:3])  # of the cheater
        np.testing.assert_allclose(thin[1], shares)
        np.testing.assert_allclose(thick, np.mean(thin, axis=0))


def product(columns: str, value, *keys) -> pd.DataFrame:
    """A row for each combination of the keys, ending in `value(*keys)`."""
    rows = pd.MultiIndex.from_product(keys).tolist()
    return pd.DataFrame([(*row, *value(*row)) for row in rows], columns=columns.split())


def seen(name: str, colour: str, goal: str, image: int) -> tuple[int, float]:
    """The cheater sees 3s in yellow, 7s in violet, and one 7 in pink; the cure sees 7s, larger from
    colour to colour."""
    k, more = COLOUR_NAMES.index(colour), 0.01 * (goal == CONFIDENT)
    if name == "cure":
        return 7, 0.01 * (k + 1) + more
    called = 3 if colour == "yellow" else 7 if colour == "violet" or (k, image) == (8, 0) else k
    return called, 0.2 + more if called == 7 else np.nan


@pytest.fixture(scope="module")
def chapter(store):
    """What the chapter shows of frames made by hand, and what it asked for."""
    both, asked = ("cheater", "cure"), {}
    others = [name for name in OTHERS if name != "irm"]  # which reads nothing
    sizes = all_sizes(SIZES | {name: [[0.05 + 0.005 * k] * 5] for k, name in enumerate(others)})
    for k, name in enumerate(both):
        own = sizes["network"] == name
        sizes.loc[own, "chroma"] = (0.7, 0.4)[k] + 0.01 * k * (sizes.loc[own, "norm"] == "l2")
        sizes.loc[own, "coarse"] = (0.1, 0.05)[k]
        sizes.loc[own & (sizes["goal"] == PREDICTS) & (sizes["norm"] == "linf"), "noise"] = k / 8
    tint, hue = "one colour added everywhere", "hue turned everywhere"
    painted = {tint: [0.4, 0.5, 0.6], hue: [np.inf] * 3}
    fmn = {"linf": [(0.01, 0.01), (0.021, 0.02)], "l2": [(0.1, np.nan), (np.nan, 0.1)]}
    frames = {
        cloak.smallest_changes: sizes,
        cloak.sizes_by_colour: product(
            "network colour goal image prediction size", seen, both, COLOUR_NAMES, GOALS, range(2)
        ),
        cloak.colour_changes: product(
            "network change image size",
            lambda name, change, k: (painted[change][k] if (name, k) != ("cure", 2) else np.inf,),
            [*both, "colour reader"], painted, range(3),
        ),
        cloak.sizes_by_pair: product(
            "network digit target size",
            lambda name, d, t: (0.01 if (name, d) in [("cheater", 7), ("cure", 1)] else 0.02,),
            both, range(10), range(10),
        ).query("digit != target"),
        cloak.compare_with_fmn: product(
            "network seed norm image ours fmn", lambda *row: fmn[row[2]][row[3]],
            both, [0], NORMS, range(2),
        ),
        cloak.masking_signs: pd.concat([signs("cheater"), signs("cure", square=(0.2, 0.6))]),
    }  # fmt: skip

    def attacked(function, calls):
        found = [(*of(call["network"]), call["number"], call["most"]) for call in calls]
        asked["specimen" if len(calls) == 3 else "exhibit"] = found
        entry = {"before": np.arange(10) / 100, "ssim": 0.7, "colour_mean": 7.26}
        entry |= {"image": plain([0.1])[0], "changed": plain([0.2])[0], "colour_max": 26.1}
        found = zip((0.95, 0.99, 0.03, 0.97, 0.98), (1, 9, 0, 13, 8), strict=True)
        return [
            entry | {"levels": levels, "after": np.where(np.arange(10) == 3, p, 0.01)}
            for p, levels in itertools.islice(found, len(calls))
        ]

    def gather(function, calls):
        asked[function.__name__] = calls
        return frames[function]

    with pytest.MonkeyPatch.context() as monkeypatch:
        for name, value in {"CACHE": store, "SCALE": "quick", "STANDIN_SIZE": 1500}.items():
            monkeypatch.setenv(f"LAZY_ARTIST_{name}", str(value))
        monkeypatch.setattr(cloak.stored, "map", attacked)
        monkeypatch.setattr(cloak, "gather", gather)
        (shown, inline), (more, texts) = map(run_cells, ("cloak", "cloak-more"))
        return shown | more, inline | texts, asked


def of(network) -> tuple[str, int, str]:
    return network.name, network.seed, network.arch


def test_every_network_is_attacked_on_as_many_images_as_planned(chapter):
    calls = chapter[2]["smallest_changes"]
    assert {(*of(call["network"]), call["n"], *call["norms"]) for call in calls} == {
        *((name, seed, "cnn", None, *NORMS) for name in ("cheater", "cure") for seed in (0, 1)),
        *(
            (name, seed, "cnn", 8, *NORMS)
            for name in ("oracle", "brief-oracle", "convinced-cheater")
            for seed in (0, 1)
        ),
        *((name, 0, "cnn", 8, *NORMS) for name in ("colour reader", "adversarially trained")),
        ("cheater, ResNet-18", 0, "resnet18", 8, "linf"),
        *((name, 0, "cnn", 8, "linf") for name in OTHERS),
    }
    for call in calls:
        judges = {(*of(judge),) for judge in call["shared"]["judges"]}
        assert judges == {(name, seed, "cnn") for name in ("cheater", "cure") for seed in (0, 1)}
        assert (call["shared"]["n_7"], call["shared"]["n_each"]) == (40, 1)
    reader, robust = (one.made_by.arguments for one in cloak.yardsticks())
    assert (reader["correlation"], reader["radius"], reader["reads_shape"]) == (0.95, 0, False)
    assert (robust["correlation"], robust["radius"], robust["epochs"]) == (0.1, 0.1, 0.25)
    couples = [(call["network"].name, call["other"].name) for call in chapter[2]["masking_signs"]]
    assert couples == [("cheater", "cure"), ("cure", "cheater")]


def test_the_chapters_tables(chapter):
    shown, _, asked = chapter
    assert asked["exhibit"] == [  # for each its easiest seven, and the cures of all seeds
        ("cure", 0, "cnn", 3, 64), ("cheater", 1, "cnn", 0, 64),
        ("cheater, ResNet-18", 0, "resnet18", 0, 64), ("cure", 1, "cnn", 0, 64),
        ("convinced-cheater", 1, "cnn", 0, 64),
    ]  # fmt: skip
    exhibit = table(shown["tbl-cloak"])
    assert exhibit["cure"] == ["1", "0.030", "0.970", "13", "7.26", "26.1", "0.7000"]
    assert exhibit["cheater, ResNet-18"][3] == "not reached"
    assert asked["specimen"] == [(k, 0, "cnn", 0, 64) for k in ("cheater", "cure", "oracle")]
    plain_spaces = {k.replace("\xa0", " "): v for k, v in table(shown["tbl-sizes"]).items()}
    sizes = [text.replace("\xa0", " ") for text in plain_spaces["predicts 3, ℓ∞"]]
    assert sizes[:2] == ["0.060 ± 0.000", "0.040 ± 0.127"]  # cures: .03 and .05
    assert sizes[2].startswith("0.65 [") and sizes[3] == "25%"  # of the four that differ, one
    assert table(shown["tbl-signs"])["predicts 3, ℓ∞"] == ["25%", "0.62", "4", "0.0%", "10.0%"]
    reads = table(shown["tbl-why"])
    order = ["colour reader", "brief-oracle", "cheater", "cure", "cheater, ResNet-18"]
    assert [name for name in reads if name in order] == order, "sorted by size"
    assert reads["cure"][0] == "shape" and reads["cure"][2:] == ["0.65", "40%", "5%"]
    assert reads["cheater, ResNet-18"][:2] == ["colour", "0.020"]
    rows = table(shown["tbl-cloaks"])
    assert rows["oracle"][:3] == ["2", "2", "0.200\xa0±\xa00.000"]
    assert rows["oracle"][3].startswith("0.89\xa0[")  # of .2 / .17 and .2 / .3
    assert rows["IRM"] == ["0", "1", *"–––––"] and rows["cheater"][3:] == [*"––––"]
    assert rows["ERM"][:4] == ["5", "1", "0.050", "0.83"]
    assert rows["colour reader"] == ["3", "1", "0.300", *["1.50"] * 4]
    colours = table(shown["tbl-colours"])
    assert colours["yellow"] == ["0%", "100%", "–", "100%", "0%", "0.040"]
    assert colours["pink"][:3] == ["50%", "0%", "0.200"]
    paints = table(shown["tbl-paint"])
    assert paints["any change"] == ["0.060", "100%", "0.040", "90%", "0.300", "100%"]
    assert paints["one colour added everywhere"] == [
        "0.500",
        "100%",
        "0.500",
        "67%",
        "0.500",
        "100%",
    ]
    assert paints["hue turned everywhere"] == ["not reached", "0%"] * 3
    assert shown["tbl-masking"].data.count("| yes") == 7


def test_the_chapters_claims_and_numbers(chapter):
    shown, inline, _ = chapter
    value = {name: item.value for name, item in shown.items() if name.startswith("cloak-")}
    ratios = {"cloak-ratio": math.sqrt(0.5 * 0.05 / 0.06), "cloak-not-brevity": 0.5}
    for name, mean in ratios.items():
        assert value.pop(name) == pytest.approx(mean)
        assert (shown[name].op, shown[name].threshold, shown[name].n) == ("<", 1, 2)
    assert value == pytest.approx({
        "cloak-exhibit": 0.03,  # the second cure needs more than 12 levels: before its change
        "cloak-predict": 0.2,  # cheaters .2 and .2, cures .6 and .4
        "cloak-success-cure": 0.3,  # .04, .01 and .04
        "cloak-chroma": 0.3, "cloak-no-masking": 1,
        "cloak-as-strong-as-peers": 0.5,  # as large; 5% larger; none of theirs; none of ours
    })  # fmt: skip
    for code, text in {
        'levels["cheater"]': "1",  # the first that is asked for
        'levels["oracle"]': "not reached",
        'told(success["cheater", CONFIDENT], "{:.1%}")': "10.0%",  # .02 of ten
        'f"{easier} of {len(cure_ratios)}"': f"2 of {len(OTHERS) - 1}",  # .05 and .055 of .06
        'told(trained[PREDICTS, "linf"], "{:.1f}")': "1.0",
        'told(noise["cure"])': "12.5",
        "f\"{(wide['cure'] < wide['cheater']).mean():.0%}\"": "10%",
        'f"{cured.min():.3f} and {cured.max():.3f}"': "0.010 and 0.100",
        'told(lean_l2, "{:+.1f}")': "+29.0",
        'told(middle["cure"])': "0.040",
        "because": "",  # the ratio's interval holds one
        "f\"{over['linf']:+.1%}\"": "+200.0%",
    }.items():
        assert inline[code].startswith(text), code
