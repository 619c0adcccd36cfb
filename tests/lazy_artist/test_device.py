"""Networks live on LAZY_ARTIST_DEVICE, all that is done with them too, and results are the same."""

import numpy as np
import pytest
import torch
from imitation import imitation

from lazy_artist import attack, config, debias, evaluate, featurevis, gradcam, latents, tuning
from lazy_artist.canvas import colour_split
from lazy_artist.debias.protocol import run_method
from lazy_artist.eis7 import transformer
from lazy_artist.faithfulness import deletion_curve, randomise
from lazy_artist.models import build
from lazy_artist.sae import fit_autoencoder, quality, steer
from lazy_artist.store import ArtifactError, run, stored
from lazy_artist.training import train

METHODS = debias.METHODS | debias.ABLATIONS


@pytest.fixture(scope="module")
def split():
    return colour_split("train", 0).take(slice(60))


def test_the_device_is_what_is_asked_for_and_here(monkeypatch):
    monkeypatch.delenv("LAZY_ARTIST_DEVICE", raising=False)
    here = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    assert config.device().type == (here.type if here else "cpu")
    monkeypatch.setenv("LAZY_ARTIST_DEVICE", "cpu")
    assert config.device() == torch.device("cpu")
    monkeypatch.setenv("LAZY_ARTIST_DEVICE", "warp")
    with pytest.raises(ValueError, match=r"'warp', which is not here: choose auto, cpu"):
        config.device()


def test_tensors_of_the_imitation_do_not_meet_others():
    with imitation() as device:
        there = torch.ones(3).to(device)
        assert (2 * there).device == device and (2 * there).cpu().tolist() == [2, 2, 2]
        with pytest.raises(RuntimeError, match="two devices"):
            there + torch.ones(3)
        with pytest.raises(RuntimeError):
            there.numpy()


@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains_there(name, split):
    with imitation() as device:
        method = METHODS[name]
        setting = (
            method.setting | {"passes": 0.01} if "passes" in method.setting else method.setting
        )
        model, _ = run_method(method.train, split, 0, "cnn", method.colours, 0.01, **setting)
        assert {weights.device for weights in model.parameters()} == {device}


def told(split):
    """What is made and measured of one network and of each kind of autoencoder."""
    model, trained = build("cnn", 0), build("cnn", 0)
    history = train(trained, split, seed=0, epochs=1, learning_rate=1e-5, batch_size=20)
    x, y = split.images[:6], split.labels[:6]
    logits = evaluate.predict(model, x)
    targets = (logits.argmax(1) + 1) % 10
    found = {
        "losses": history.losses,
        "logits": logits,
        "features": evaluate.predict(model, x, output="features"),
        "maps": gradcam.grad_cam(model, "block3", x, y),
        "energy": gradcam.gradient_energy(model, x, y),
        "integrated": gradcam.integrated_gradients(model, x, 0.1, y, 5),
        "activations": tuning.activations(model, ["block2"], x)["block2"],
        "ablated": tuning.ablated_logits(model, "block2", x, np.eye(64)[:2] > 0, 0.1),
        "deleted": deletion_curve(model, x, y, np.ones((6, 28, 28)), 0.1, steps=3),
        "pgd": attack.targeted_pgd(model, x, targets, 0.1, steps=3, restarts=2).images,
        "fmn": attack.fmn(model, x, targets, steps=4).images,
        "square": attack.square_attack(model, x, targets, 0.1, queries=3).images,
        "hue": attack.colour_attack(model, x, targets, "hue", grid=3).images,
        "random": evaluate.predict(randomise(model, ["head", "block1"], 0), x),
    }
    for norm in attack.NORMS:
        found[f"least {norm}"] = attack.minimal_epsilon(model, x, targets, norm, steps=8).images
    for where, canvas in (("mean", "fourier"), ("max", "pixels"), ((0, 0), "fourier")):
        settings = {"optima": 2, "steps": 3, "where": where, "parametrisation": canvas}
        drawn, _ = featurevis.visualise(model, "block2", np.eye(64)[:2], **settings)
        found[f"drawn {where}"] = drawn
    sample = latents.sample_activations(model, "block3", split.images, 4, 0)
    cells, weights = latents.cell_weights((0, 2, 5, 7)), [*model.parameters()]
    for kind, sparsity in (("relu", 1e-3), ("topk", 4), ("batchtopk", 4)):
        sae = fit_autoencoder(sample, 256, kind, sparsity, seed=0, steps=55).requires_grad_(False)
        weights.append(sae.bias)
        steered = latents.rewritten_logits(model, "block3", x, steer(sae, np.zeros(256), 0.1))
        recovered = latents.loss_recovered(model, "block3", sae, sample.mean(0), split)
        parts = latents.parts_by_cell(model, "block3", x, cells, sae)
        found |= {
            f"quality {kind}": list(quality(sae, sample).values()),
            f"mean latents {kind}": latents.mean_latents(model, "block3", x, sae),
            f"recovered {kind}": recovered,
            f"steered {kind}": steered,
            f"parts {kind}": [part.sum() for part in parts],
        }
    return found | {"sample": sample, "weights": {weight.device: 1 for weight in weights}}


def test_all_that_is_measured_there_is_what_it_is_here(split, monkeypatch):
    for module in ("training", "sae", "evaluate", "attack"):
        monkeypatch.setattr(f"lazy_artist.{module}.low_precision", lambda *_: torch.float32)
    here = told(split)
    with imitation() as device:
        there = told(split)
    assert list(there.pop("weights")) == [device] and list(here.pop("weights")) != [device]
    for name, value in here.items():
        for one, other in zip(np.atleast_1d(value), np.atleast_1d(there[name]), strict=True):
            np.testing.assert_allclose(other, one, rtol=2e-3, atol=2e-4, err_msg=name)


def test_the_transformer_trains_there_and_comes_back():
    table = np.eye(transformer.SIDE) > 0
    here = transformer.train_transformer(table, table | ~table, 0, 3)
    with imitation():
        there = transformer.train_transformer(table, table | ~table, 0, 3)
        assert there.embed.device.type == "cpu"
    torch.testing.assert_close(there.state_dict(), here.state_dict(), rtol=1e-4, atol=1e-6)


def no_data():
    return ""


@stored(data=no_data)
def greedy(seed):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.00 TiB")


def test_too_little_memory_there_says_what_to_set(monkeypatch, tmp_path):
    monkeypatch.setenv("LAZY_ARTIST_CACHE", str(tmp_path))
    with pytest.raises(ArtifactError, match="too little memory: set LAZY_ARTIST_DEVICE=cpu"):
        greedy(0)


def test_few_processes_share_an_accelerator(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setenv("LAZY_ARTIST_CACHE", str(tmp_path))
    monkeypatch.setattr("lazy_artist.store.joblib.cpu_count", lambda: 16)
    monkeypatch.setattr(
        "lazy_artist.store._compute_all", lambda missing, jobs, threads: asked.append(jobs) or []
    )
    for where, jobs in (("cpu", 16), ("cuda", 4)):
        monkeypatch.setattr("lazy_artist.store.device", lambda where=where: torch.device(where))
        monkeypatch.setattr("lazy_artist.store.machine", lambda: "")
        monkeypatch.setattr("lazy_artist.store._note", lambda *_: None)
        run([(greedy, {"seed": seed}) for seed in range(20)])
        assert asked[-1] == jobs
