"""Views of a batch: recolouring and affine augmentation, inside the training loop.

All take and return images (B, 3, 28, 28), and draw from torch's own generator, which
`training.train` seeds. Recolouring is an affine map of each image's colours, the same at all its
pixels: three channels go in, and three come out.
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
    matrices = (1 - strength) * torch.eye(3, device=device) + strength * rows
    mixed = torch.bmm(matrices, images.float().flatten(2)).clamp_(0, 1).view(images.shape)
    return mixed.to(images.dtype, memory_format=torch.channels_last)


def swap_colours(images: Tensor, invented: float = 0.0, keep_background: bool = True) -> Tensor:
    """Each image in the stroke colour of another one of the batch, or, with probability `invented`,
    in a colour drawn uniformly from [0.1, 1]^3.

    With an image's own colour c and background g (see `stroke_and_background`) and the new colour
    d, every pixel x -> clip(x + (c'(x - g) / c'(c - g)) (d - c), 0, 1), so that c -> d and g -> g.
    Before the clip, which cuts some of the stroke's pixels, the map can be inverted unless c'(d -
    g) = 0. Partners are drawn whatever their labels. Without `keep_background`, g is 0 and the
    background is tinted, by an amount that tells the old colour.
    """
    own, background = stroke_and_background(images)
    background = background * keep_background
    new = own[torch.randperm(len(own), device=own.device)]
    if invented:
        fresh = 0.1 + 0.9 * torch.rand_like(own)
        new = torch.where(torch.rand_like(own[:, :1]) < invented, fresh, new)
    planes = images.float().flatten(2)  # (B, 3, 784)
    along = own / (own * (own - background)).sum(1, keepdim=True)
    share = torch.bmm(along[:, None], planes) - (along * background).sum(1)[:, None, None]
    swapped = torch.baddbmm(planes, (new - own)[:, :, None], share).clamp_(0, 1)
    return swapped.view(images.shape).to(images.dtype, memory_format=torch.channels_last)


def stroke_and_background(images: Tensor) -> tuple[Tensor, Tensor]:
    """Each image's colour where it is bright, and where it is dark, float32 (B, 3) twice.

    Means over pixels x, weighted with |x|^4 and with 1 / (|x|^2 + 0.02)^2, where |x| is the length
    in RGB. No label is needed, and none is used.
    """
    planes = images.detach().float().flatten(2)  # (B, 3, 784)
    square = planes.square().sum(1, keepdim=True)
    weights = torch.cat([square.square() + 1e-12, (square + 0.02).reciprocal().square()], dim=1)
    means = torch.bmm(weights / weights.sum(2, keepdim=True), planes.transpose(1, 2))  # (B, 2, 3)
    return means[:, 0], means[:, 1]


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
