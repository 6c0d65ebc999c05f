"""Transforms of images: whole batches at once, with different parameters for each image, on any device.

The definitions are torchvision's (`RandomErasing`, `RandomPerspective`, `GaussianBlur`, `adjust_sharpness`, `gaussian_noise`),
which H 2.3 applies image by image. Here each transform is a pair. `draw_…` draws the parameters of n images from an explicit
generator, on the generator's device; its partner applies them on the device of the pixels. So the same seed gives the same
pictures on every device.

Shapes: n images of H × W pixels, float in [0, 1]; `size` is the side of a square image. All functions work on planes; the three
planes of a colour image (3, H, W) are transformed alike (`apply_steps`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import torch
from torch import Generator, Tensor
from torch.nn import functional

from inn_lab.compiled import kernel

Range = tuple[float, float]


def compiled(name: str, x: Tensor) -> Callable[..., None] | None:
    """A kernel for such images; None where there is none, on a GPU for example."""
    if x.device.type != "cpu" or x.dtype is not torch.float32 or x.requires_grad:
        return None
    return kernel("inn_lab.data.kernels", name)


def resize(x: Tensor, size: int) -> Tensor:
    """Bilinear and antialiased, as torchvision's `resize`: (n, h, w) -> (n, size, size), (n, 3, h, w) -> (n, 3, size, size)."""
    if x.shape[-2:] == (size, size):
        return x
    planes = x.flatten(0, -3)[:, None]
    return functional.interpolate(planes, (size, size), mode="bilinear", antialias=True).view(*x.shape[:-2], size, size)


def normalise(x: Tensor, mean: float, std: float, out: Tensor | None = None) -> Tensor:
    """(x − mean) / std, written to `out` if it is given."""
    return torch.sub(x, mean, out=out).div_(std)


def uniform(shape: tuple[int, ...], low: float, high: float, generator: Generator) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device, dtype=torch.float64) * (high - low) + low


# --- erase


def draw_erase(n: int, size: int, generator: Generator, scale: Range, ratio: Range = (0.3, 3.3)) -> Tensor:
    """Boxes to erase: (n, 4) of top, left, height, width, in pixels.

    `scale` is the range of the erased fraction of the area, `ratio` that of height / width (uniform in its logarithm). A box as
    large as the image is drawn again, at most ten times; after that the box is empty and erases nothing (torchvision's
    RandomErasing).
    """
    area = size * size * uniform((n, 10), *scale, generator)
    aspect = uniform((n, 10), math.log(ratio[0]), math.log(ratio[1]), generator).exp()
    sides = torch.stack([area * aspect, area / aspect], dim=2).sqrt().round()  # (n, 10, 2)
    fits = (sides < size).all(dim=2)  # (n, 10)
    first = fits.to(torch.uint8).argmax(dim=1)  # the first try that fits
    sides = sides[torch.arange(n, device=sides.device), first] * fits.any(dim=1, keepdim=True)  # (n, 2)
    corners = (uniform((n, 2), 0, 1, generator) * (size - sides + 1)).floor()
    return torch.cat([corners, sides], dim=1).long()  # (n, 4)


def erase(x: Tensor, boxes: Tensor) -> Tensor:
    """Sets the pixels of each image's box to 0."""
    if ours := compiled("erase", x):
        out = x.clone(memory_format=torch.contiguous_format)
        ours(boxes.numpy(), out.numpy())
        return out
    top, left, height, width = boxes[:, :, None].unbind(dim=1)  # (n, 1) each
    rows = torch.arange(x.shape[1], device=x.device)
    columns = torch.arange(x.shape[2], device=x.device)
    in_rows = (rows >= top) & (rows < top + height)  # (n, H)
    in_columns = (columns >= left) & (columns < left + width)  # (n, W)
    return x.masked_fill(in_rows[:, :, None] & in_columns[:, None, :], 0.0)


# --- perspective


def draw_perspective(n: int, size: int, generator: Generator, distortion: float) -> Tensor:
    """Where the image's corners move to: (n, 4, 2) of x, y in whole pixels; top left, top right, bottom right, bottom left.

    Each coordinate moves inwards by 0 … int(distortion · (size // 2)) pixels (torchvision's RandomPerspective).
    """
    furthest = int(distortion * (size // 2))
    inwards = torch.randint(0, furthest + 1, (n, 4, 2), generator=generator, device=generator.device)
    corners = _corners(size, size, generator.device)  # (4, 2)
    return torch.where(corners == 0, inwards, corners - inwards)  # (n, 4, 2)


def _corners(height: int, width: int, device: torch.device) -> Tensor:
    return torch.tensor([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], device=device)


def _frame(corners: Tensor) -> tuple[Tensor, Tensor]:
    """The factors λ that make λ₀p₀ + λ₁p₁ + λ₂p₂ a multiple of p₃, and the products p₁×p₂, p₂×p₀, p₀×p₁; each p is (x, y, 1).

    corners (…, 4, 2) -> λ (…, 3), products (…, 3, 3). Whole numbers all, so exact. Their sum is the multiple, as the last
    entries say.
    """
    p = functional.pad(corners.double(), (0, 1), value=1.0)  # (…, 4, 3)
    products = torch.linalg.cross(p[..., [1, 2, 0], :], p[..., [2, 0, 1], :])  # (…, 3, 3)
    return (products * p[..., 3:, :]).sum(dim=-1), products


def homographies(endpoints: Tensor, height: int, width: int) -> Tensor:
    """The projective maps from the drawn pixel (x, y, 1) back to the image: (n, 4, 2) -> (n, 3, 3), float64, up to a factor.

    With the image's corners s, the endpoints e and λ as in `_frame`, the map that takes each e to its s is Σᵢ (λᵢ(s) / λᵢ(e))
    sᵢ (eⱼ × eₖ)ᵀ. This is the solution of the eight equations that torchvision solves numerically. If three endpoints are on a
    line there is no such map, and its entries are NaN.
    """
    corners = _corners(height, width, endpoints.device)
    to, _ = _frame(corners)
    back, products = _frame(endpoints)
    on_a_line = (back == 0).any(dim=1) | (back.sum(dim=1) == 0)
    factors = to / back.masked_fill(on_a_line[:, None], torch.nan)  # (n, 3)
    sources = functional.pad(corners[:3].double(), (0, 1), value=1.0)  # (3, 3), a corner a row
    return sources.T @ (factors[:, :, None] * products)  # (n, 3, 3)


def perspective(x: Tensor, endpoints: Tensor) -> Tensor:
    """Moves each image's corners to its endpoints; bilinear, 0 outside (torchvision's `perspective` with fill 0).

    torchvision samples a mask of ones too and multiplies by it, so that a border pixel that is partly outside is darkened
    twice. Here the mask is computed directly: along each axis it is the fraction of the sampled pixel that is inside. If the
    map has no finite value (three endpoints on a line, a pixel on the horizon), the pixel is outside.
    """
    _, height, width = x.shape
    maps = homographies(endpoints, height, width)
    half = torch.tensor([width, height], dtype=torch.float64, device=x.device)[:, None] / 2  # (2, 1)
    maps = torch.cat([maps[:, :2] / half - maps[:, 2:], maps[:, 2:]], dim=1)  # from pixels to grid_sample's [-1, 1]
    maps = (maps / maps.abs().amax(dim=(1, 2), keepdim=True)).to(x.dtype)
    if ours := compiled("warp", x):
        out = torch.empty_like(x, memory_format=torch.contiguous_format)
        ours(maps.numpy(), x.contiguous().numpy(), out.numpy())
        return out
    centres = [torch.arange(side, device=x.device, dtype=x.dtype) + 0.5 for side in (width, height)]
    along_x, along_y = maps[:, :, :1] * centres[0] + maps[:, :, 2:], maps[:, :, 1:2] * centres[1]  # (n, 3, W), (n, 3, H)
    moved = along_x[:, :, None, :] + along_y[:, :, :, None]  # (n, 3, H, W); no matrix product: TF32 would be too coarse
    grid = (moved[:, :2] / moved[:, 2:]).clamp_(-2, 2).nan_to_num_(2.0)  # (n, 2, H, W)
    sampled = functional.grid_sample(  # the grid as a view: grid_sample has a fast path for planes of x and of y
        x[:, None], grid.permute(0, 2, 3, 1), mode="bilinear", align_corners=False
    )[:, 0]  # (n, H, W)
    half = half.to(x.dtype)[:, :, None]
    inside = grid.abs_().mul_(-half).add_(half + 0.5).clamp_(0, 1)  # (n, 2, H, W)
    return sampled.mul_(inside[:, 0]).mul_(inside[:, 1])


# --- noise, blur, sharpness


def draw_noise(n: int, size: int, generator: Generator, sigma: float = 0.01) -> Tensor:
    """(n, size, size) of N(0, sigma²)."""
    return torch.randn(n, size, size, generator=generator, device=generator.device).mul_(sigma)


def add_noise(x: Tensor, noise: Tensor) -> Tensor:
    return (x + noise).clamp_(0, 1)


def draw_blur(n: int, size: int, generator: Generator, sigma: Range = (0.1, 2.0)) -> Tensor:
    """Standard deviations in pixels, uniform in the range: (n,)."""
    return uniform((n,), *sigma, generator).float()


@lru_cache(maxsize=8)
def _taps(side: int, radius: int, device: torch.device) -> Tensor:
    """(radius + 1, side, side): for each distance d, which pixels a pixel reads at ±d if the border reflects."""
    taps = torch.zeros(radius + 1, side, side)
    for shift in range(-radius, radius + 1):
        for row in range(side):
            column = abs(row + shift)
            column = 2 * (side - 1) - column if column >= side else column
            taps[abs(shift), row, column] += 1
    return taps.to(device)


def blur(x: Tensor, sigmas: Tensor, kernel: int = 15) -> Tensor:
    """Gaussian blur with a different standard deviation for each image; the border reflects (torchvision's `gaussian_blur`).

    Along each axis the blur is linear, so with its matrix A (a band, folded back at the border) it is A x Aᵀ: two batched
    products. `kernel` is odd; both sides of the image must exceed kernel // 2.
    """
    n, height, width = x.shape
    radius = kernel // 2
    distance = torch.arange(radius + 1, device=x.device)
    weights = torch.exp(-0.5 * (distance / sigmas[:, None]) ** 2)  # (n, radius + 1)
    weights = weights / (2 * weights.sum(dim=1, keepdim=True) - weights[:, :1])  # every distance but 0 is met twice
    rows = (weights @ _taps(height, radius, x.device).flatten(1)).view(n, height, height)
    columns = rows if width == height else (weights @ _taps(width, radius, x.device).flatten(1)).view(n, width, width)
    return rows @ x @ columns.mT


def sharpen(x: Tensor, factor: float = 4.0) -> Tensor:
    """factor · x + (1 − factor) · smoothed, cut to [0, 1]; smoothed is the mean over 3×3 with weight 5 in the middle.

    The outermost pixels are not smoothed, so they stay (torchvision's `adjust_sharpness`).
    """
    rows = x[:, :-2] + x[:, 1:-1] + x[:, 2:]  # (n, H − 2, W)
    squares = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]  # (n, H − 2, W − 2)
    middle = x[:, 1:-1, 1:-1]
    out = x.clone()
    out[:, 1:-1, 1:-1] = middle * (factor + (1 - factor) * 4 / 13) + squares.mul_((1 - factor) / 13)
    return out.clamp_(0, 1)


# --- the table


@dataclass(frozen=True)
class Transform:
    """One transform: how the parameters of n images are drawn, and how they are applied."""

    draw: Callable[[int, int, Generator], Tensor] | None  # (n, size, generator) -> one row an image; None: no parameters
    apply: Callable[..., Tensor]  # (x, parameters) -> x
    by_chance: bool = False  # whether torchvision's has a probability `p`, with which it is applied to an image


def erase_transform(scale: Range) -> Transform:
    return Transform(partial(draw_erase, scale=scale), erase, by_chance=True)


def perspective_transform(distortion: float) -> Transform:
    return Transform(partial(draw_perspective, distortion=distortion), perspective, by_chance=True)


Table = dict[str, tuple[Transform, ...]]

ANOMALY: Table = {  # H 2.3.2, in H's order; a kind's number is its place here
    "baseline": (),
    "perspective_small": (perspective_transform(0.5),),
    "perspective": (perspective_transform(0.9),),
    "erase": (erase_transform((0.1, 0.2)),),
    "noise": (Transform(draw_noise, add_noise),),
    "erase_perspective": (erase_transform((0.1, 0.2)), perspective_transform(0.9)),
    "blur": (Transform(draw_blur, blur),),
    "sharpness": (Transform(None, sharpen),),
}

CLASSIFICATION: Table = {  # H 2.3.1
    "none": (),
    "erase": (erase_transform((0.02, 0.05)),),
    "perspective": (perspective_transform(0.5),),
    "both": (erase_transform((0.02, 0.05)), perspective_transform(0.5)),
}


def apply_steps(x: Tensor, steps: tuple[Transform, ...], generator: Generator, probability: float = 1.0) -> Tensor:
    """Applies the steps one after the other. Each image has its own parameters, which its planes share.

    Each erasing and each perspective is skipped with 1 − `probability`. At 1 nothing is drawn for that.

    (n, size, size) or (n, 3, size, size) -> the same.
    """
    n, size, planes = len(x), x.shape[-1], x.flatten(0, -3)
    for step in steps:
        drawn: tuple[Tensor, ...] = ()
        if step.draw:
            each = step.draw(n, size, generator).to(x.device)[:, None]  # a row an image
            drawn = (each.expand(-1, x.shape[1:-2].numel(), *each.shape[2:]).flatten(0, 1),)  # a row a plane
        applied = step.apply(planes, *drawn)
        if step.by_chance and probability < 1:
            chosen = torch.rand(n, generator=generator, device=generator.device).to(x.device) < probability
            applied = torch.where(chosen.repeat_interleave(x.shape[1:-2].numel())[:, None, None], applied, planes)
        planes = applied
    return planes.view(x.shape)


def apply_mixed(
    x: Tensor, kinds: Tensor, generator: Generator, which: Tensor | None = None, probability: float = 1.0
) -> Tensor:
    """Transforms image i by the kinds[i]-th entry of `ANOMALY`; shapes and `probability` as in `apply_steps`.

    With `which` (m,) and kinds (m,), image i is x[which[i]]. Only the images of one kind are copied from x at a time. `kinds`
    and `which` may stay on the CPU, whatever the device of the images.
    """
    if len(kinds) and not 0 <= int(kinds.min()) <= int(kinds.max()) < len(ANOMALY):
        raise ValueError(f"kinds must lie in 0 … {len(ANOMALY) - 1}, got {int(kinds.min())} … {int(kinds.max())}")
    out = x.new_empty(len(kinds), *x.shape[1:])
    for kind, steps in enumerate(ANOMALY.values()):
        rows = (kinds == kind).nonzero().flatten()
        if len(rows):
            images = x.index_select(0, (rows if which is None else which[rows]).to(x.device))
            out.index_copy_(0, rows.to(x.device), apply_steps(images, steps, generator, probability))
    return out
