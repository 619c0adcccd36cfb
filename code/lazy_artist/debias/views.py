"""Views of a batch: recolouring and affine augmentation, inside the training loop.

All take and return images (B, 3, 28, 28), and draw from torch's own generator, which
`training.train` seeds. Recolouring multiplies each image's colours by a 3x3 matrix of its own that
can be inverted: three channels go in, three come out, and no shade of information is thrown away.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def mix_colours(images: Tensor, strength: float = 1.0) -> Tensor:
    """Each image in other colours: x -> clip(M x, 0, 1), the same M at all its pixels.

    M = (1 - strength) I + strength A, where A has independent uniform entries and rows that add up
    to a number drawn from [0.6, 1.4].
    """
    device = images.device
    draws = torch.rand(len(images), 3, 3, device=device) + 1e-3
    sums = 0.6 + 0.8 * torch.rand(len(images), 3, 1, device=device)
    rows = draws / draws.sum(2, keepdim=True) * sums
    return _recoloured(images, (1 - strength) * torch.eye(3, device=device) + strength * rows)


def swap_colours(images: Tensor, invented: float = 0.5, keep_background: bool = True) -> Tensor:
    """Each image in the stroke colour of another one of the batch, or, with probability `invented`,
    in a colour drawn uniformly from [0.1, 1]^3.

    With an image's own colour c and background g (see `stroke_and_background`) and the new colour
    d, every pixel x -> clip(x + M (x - g), 0, 1), where

        M = (d - c) c' / (c' (c - g)),    so that c -> d and g -> g.

    The linear part I + M has the determinant c'(d - g) / c'(c - g), which is not 0: it can be
    inverted. Partners are drawn whatever their labels. Without `keep_background`, g is 0 and the
    background is tinted, by an amount that tells the old colour.
    """
    own, background = stroke_and_background(images)
    background = background * keep_background
    new = own[torch.randperm(len(own), device=own.device)]
    fresh = 0.1 + 0.9 * torch.rand_like(own)
    new = torch.where(torch.rand_like(own[:, :1]) < invented, fresh, new)
    matrices = swap_matrices(own, background, new)
    offsets = background - torch.einsum("bij,bj->bi", matrices, background)
    return _recoloured(images, matrices, offsets)


def swap_matrices(own: Tensor, background: Tensor, new: Tensor) -> Tensor:
    """The linear parts (B, 3, 3) of `swap_colours` for colours and backgrounds (B, 3)."""
    scale = (own * (own - background)).sum(1)[:, None, None]
    return torch.eye(3, device=own.device) + (new - own)[:, :, None] * own[:, None, :] / scale


def stroke_and_background(images: Tensor) -> tuple[Tensor, Tensor]:
    """Each image's colour where it is bright, and where it is dark, float32 (B, 3) twice.

    Means over pixels x, weighted with |x|^4 and with 1 / (|x|^2 + 0.02)^2, where |x| is the length
    in RGB. No label is needed, and none is used.
    """
    planes = images.detach().float().flatten(2)  # (B, 3, 784)
    square = planes.square().sum(1, keepdim=True)
    bright, dark = square.square() + 1e-12, (square + 0.02) ** -2
    return tuple((planes * weight).sum(2) / weight.sum(2) for weight in (bright, dark))


def affine(images: Tensor, degrees: float = 10, scale: float = 0.1, pixels: float = 2) -> Tensor:
    """Rotations up to `degrees`, stretches by up to `scale`, slants up to `degrees` and shifts up
    to `pixels`, drawn uniformly for each image (bilinear; the border is continued)."""
    draws = 2 * torch.rand(len(images), 6, device=images.device) - 1
    radians = math.radians(degrees)
    turn, stretch = radians * draws[:, 0], 1 + scale * draws[:, 1:3]
    slant, shift = radians * draws[:, 3], pixels / 14 * draws[:, 4:6]  # shift in half images
    cos, sin = turn.cos(), turn.sin()
    rows = torch.stack(
        [
            torch.stack([cos * stretch[:, 0], -sin + slant, shift[:, 0]], dim=1),
            torch.stack([sin, cos * stretch[:, 1], shift[:, 1]], dim=1),
        ],
        dim=1,
    )  # (B, 2, 3)
    grid = F.affine_grid(rows, list(images.shape), align_corners=False)
    warped = F.grid_sample(
        images.float().contiguous(), grid, padding_mode="border", align_corners=False
    )
    return warped.to(images.dtype, memory_format=torch.channels_last)


def _recoloured(images: Tensor, matrices: Tensor, offsets: Tensor | None = None) -> Tensor:
    """clip(M x + b, 0, 1) at every pixel x, for matrices (B, 3, 3) and offsets (B, 3)."""
    planes = images.float().flatten(2)  # (B, 3, 784)
    if offsets is None:
        planes = torch.bmm(matrices, planes)
    else:
        planes = torch.baddbmm(offsets[:, :, None], matrices, planes)
    planes = planes.clamp_(0, 1).view(images.shape)
    return planes.to(images.dtype, memory_format=torch.channels_last)
