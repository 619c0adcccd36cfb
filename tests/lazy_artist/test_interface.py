"""The door of the public functions, on functions made here."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lazy_artist.canvas import Split
from lazy_artist.interface import (
    check_classes,
    check_images,
    check_number,
    check_pair,
    public,
    unwrapped,
)


class Pair(NamedTuple):
    double: np.ndarray
    total: float


@public
def double(x, scale=2.0):
    assert isinstance(x, np.ndarray)
    assert not x.flags.writeable or torch.from_numpy(x).shape == x.shape
    return {"pair": Pair(x * scale, float(x.sum())), "names": np.array(["a"])}


@given(
    shape=st.lists(st.integers(0, 4), min_size=1, max_size=3),
    order=st.permutations(range(3)),
    flips=st.lists(st.booleans(), min_size=3, max_size=3),
    dtype=st.sampled_from(["f4", ">f4", "f8", "i4", "u1", ">i2"]),
    kind=st.sampled_from(["array", "tensor", "read-only"]),
)
def test_any_layout_comes_in_and_the_same_kind_goes_out(shape, order, flips, dtype, kind):
    values = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    values = values.transpose([axis for axis in order if axis < values.ndim])
    values = values[tuple(slice(None, None, -1 if flip else 1) for flip in flips[: values.ndim])]
    values.flags.writeable = kind != "read-only"
    x = values
    if kind == "tensor":
        x = torch.tensor(values.astype(values.dtype.newbyteorder("=")).copy())
    found = double(x, np.float32(2))["pair"]
    assert isinstance(found.double, torch.Tensor if kind == "tensor" else np.ndarray)
    np.testing.assert_array_equal(np.asarray(found.double), values * 2)
    assert found.total == values.sum()


@pytest.mark.parametrize(
    "x",
    [
        torch.ones(3, requires_grad=True),
        torch.ones(3, dtype=torch.bfloat16),
        nn.Parameter(torch.ones(3)),
        torch.ones(1).expand(3),
    ],
)
def test_tensors_of_any_kind_are_taken(x):
    found = double(x)["pair"].double
    assert found.dtype == torch.float32 and found.tolist() == [2, 2, 2]


def test_files_mapped_into_memory_are_taken(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(3.0))
    found = double(np.load(tmp_path / "x.npy", mmap_mode="r"))
    assert found["pair"].double.tolist() == [0, 2, 4]


def test_names_of_arguments_stand_in_the_complaint():
    with pytest.raises(ValueError, match="^x is on the device meta"):
        double(torch.ones(3, device="meta"))
    with pytest.raises(ValueError, match="^images is on the device meta"):
        public(lambda split: split)(Split(torch.ones(3, device="meta"), [1], [1]))


def test_lists_tuples_and_splits_are_looked_into():
    look = public(lambda values: values)
    assert [type(v) for v in look([np.float32(1), torch.ones(1)])] == [float, torch.Tensor]
    assert look([3, 4]) == [3, 4]
    inside = []
    public(lambda split: inside.append(split))(Split(torch.ones(2), [1, 2], np.arange(4)[::-1]))
    assert isinstance(inside[0].images, np.ndarray) and inside[0].labels == [1, 2]
    assert inside[0].colours.tolist() == [3, 2, 1, 0]


@public
def settings():
    weight = torch.ones(1, requires_grad=True)
    product = torch.ones(2, 2) @ torch.ones(2, 2)
    return [product.dtype, product.device.type, (2 * weight).requires_grad, weight.is_inference()]


@pytest.mark.parametrize(
    "around",
    [
        torch.no_grad,
        torch.inference_mode,
        lambda: torch.autocast("cpu", torch.bfloat16),
        lambda: torch.device("meta"),
    ],
)
def test_torch_is_as_it_comes_within_and_as_it_was_after(around):
    with around():
        before = [torch.is_grad_enabled(), torch.is_inference_mode_enabled()]
        before += [torch.is_autocast_enabled("cpu"), torch.get_default_device()]
        assert settings() == [torch.float32, "cpu", True, False]
        after = [torch.is_grad_enabled(), torch.is_inference_mode_enabled()]
        assert after + [torch.is_autocast_enabled("cpu"), torch.get_default_device()] == before


def test_another_default_dtype_is_put_back_after_an_error_too():
    torch.set_default_dtype(torch.float64)
    try:
        assert settings()[0] == torch.float32
        with pytest.raises(ZeroDivisionError):
            public(lambda: 1 / 0)()
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_wrapped_networks_are_unwrapped():
    net = nn.Linear(1, 1)
    wrapped = torch.compile(nn.DataParallel(net), backend="eager")
    assert unwrapped(wrapped) is net
    assert public(lambda model: model)(wrapped) is net


IMAGES = np.full((2, 3, 4, 5), 0.5, np.float32)


@pytest.mark.parametrize(
    ("images", "told"),
    [
        ([1, 2], "images must be an array or a tensor .*not a list"),
        (IMAGES[0], r"\(N, C, H, W\).*not float32 \(3, 4, 5\)"),
        ((IMAGES * 255).astype(np.uint8), "float32.*divide grey values .* by 255.*uint8"),
        (IMAGES * 255, r"must lie in \[0, 1\]; divide"),
        (IMAGES - 1, r"must lie in \[0, 1\]"),
        (IMAGES * np.nan, r"must lie in \[0, 1\]"),
    ],
)
def test_images_that_are_none_are_refused(images, told):
    with pytest.raises((ValueError, TypeError), match=told):
        check_images(images)


def test_images_of_any_size_and_precision_become_float32():
    found = check_images(IMAGES.astype(np.float64))
    assert found.dtype == np.float32 and (found == 0.5).all()
    assert check_images(IMAGES) is IMAGES
    with pytest.raises(ValueError, match=r"\(N, 1, H, W\)"):
        check_images(IMAGES, channels=1)
    with pytest.raises(ValueError, match=r"same shape, not \(2, 3, 4, 5\) and \(1, 3, 4, 5\)"):
        check_pair(IMAGES, IMAGES[:1])
    with pytest.raises(ValueError, match="^changed must lie"):
        check_pair(IMAGES, 3 * IMAGES)


@pytest.mark.parametrize("kind", [list, np.int32, np.uint8, np.uint64])
def test_classes_of_any_integer_kind_become_int64(kind):
    values = [0, 9, 3] if kind is list else np.array([0, 9, 3], kind)
    found = check_classes(values, 3)
    assert found.dtype == np.int64 and found.tolist() == [0, 9, 3]
    found[0] = 7  # a copy
    assert list(values) == [0, 9, 3]


@pytest.mark.parametrize(
    ("classes", "told"),
    [
        ([[0], [9], [3]], r"labels must be .*\(3,\), one for each image, not of shape \(3, 1\)"),
        ([0, 9], r"not of shape \(2,\)"),
        (3, r"not of shape \(\)"),
        ([0.0, 9.0, 3.0], "not float64"),
        ([True, False, True], "not bool"),
        ([0, 10, 3], r"integers in 0\.\.9, not 0 to 10: out of range"),
        ([-1, 0, 3], "not -1 to 3"),
    ],
)
def test_classes_that_do_not_fit_are_refused(classes, told):
    with pytest.raises((ValueError, TypeError), match=told):
        check_classes(classes, 3, "labels")


def test_one_class_stands_for_all_where_that_is_meant():
    assert check_classes(4, 3, one=True).tolist() == [4, 4, 4]
    assert check_classes([], 0).shape == (0,)
    assert check_classes([40], 1, below=None).tolist() == [40]
    with pytest.raises(ValueError, match="^classes must be one integer, or integers of shape"):
        check_classes([1, 2], 3, one=True)


@pytest.mark.parametrize("value", [0, 1.5, "1", None, float("nan"), float("inf")])
def test_numbers_out_of_range_are_refused(value):
    with pytest.raises(ValueError, match=r"^size must be a number from 0.1 to 1 \(linf\), not"):
        check_number(value, "size", 0.1, 1, remedy=" (linf)")


def test_numbers_in_range_pass():
    check_number(1, "size", 0, 1)
    check_number(3.0, "steps", 1, 9, whole=True)
    with pytest.raises(ValueError, match="steps must be a whole number from 1 to 9, not 2.5"):
        check_number(2.5, "steps", 1, 9, whole=True)
