"""Residual networks for images, and residual networks with wormholes: stages that are iterated until they converge."""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from inn_lab.errors import ConfigError
from inn_lab.linear import is_still
from inn_lab.models.base import Model, linear
from inn_lab.models.implicit import Settled, Settling
from inn_lab.ranges import Iterations, Memory, Range, Tolerance, count, each
from inn_lab.sizing import whole

GROUPS = 4  # of channels that GroupNorm normalises together
Channels = Annotated[int, Range(lambda v: 4 <= v <= 10_000 and v % GROUPS == 0, "a multiple of 4, from 4 to 10000", 16)]


class ResNet(Model):
    """y = V mean(Bₙ(Eₙ(… B₁(E₁(x)) …))) + c for the image of each step independently; the mean is over its pixels.

    A stage's entry Eᵢ, a 3×3 convolution of stride 2, a normalisation and a ReLU, halves the image's sides; the next stage has
    twice the channels. Bᵢ are its residual blocks, torchvision's `BasicBlock` (two 3×3 convolutions, and the identity).
    Initialised as torchvision does: He's law for convolutions. Normalised by group (GroupNorm) and not by batch, so that
    neither the output for an image nor its convergence depends on the other images of its batch.

    Source: He et al. 2016, Deep residual learning for image recognition; Wu and He 2018, Group normalization.

    Shapes: (B, T, I) -> (B, T, O). B batch, T steps, I = channels · height · width inputs, plane by plane, O outputs.

    Args:
        image: channels, height and width; None for data that are not images.
        width: channels of the first stage.
        blocks: how many residual blocks each stage has.

    Raises ConfigError for data that are no images, a width that is no multiple of 4, and a stage without blocks.
    """

    def __init__(
        self,
        n_inputs: int,
        n_outputs: int,
        *,
        image: tuple[int, int, int] | None,
        width: Channels,
        blocks: Annotated[Sequence[int], each(count(1, 50, "2,2"), 8)],
        generator: torch.Generator | None = torch.default_generator,
    ) -> None:
        super().__init__(n_inputs)
        if image is None:
            raise ConfigError("model: convolutions read images, and these data are none; take e.g. data=mnist_classification")
        if width < GROUPS or width % GROUPS:
            raise ConfigError(f"width={width}: its channels are normalised in {GROUPS} groups; e.g. width=16")
        if not blocks:
            raise ConfigError("blocks=[]: at least one stage; e.g. blocks=[2,2]")
        for stage, n in enumerate(blocks):
            whole(f"blocks[{stage}]", n)
        self.image = image
        self.units = width * (image[1] // 2) * (image[2] // 2)  # of the first stage, which has most
        planes = [image[0], *(width * 2**stage for stage in range(len(blocks)))]
        with torch.device("meta"):
            self.entries = nn.ModuleList(entry(*pair) for pair in pairwise(planes))
            self.stages = nn.ModuleList(self.stage(*pair) for pair in zip(planes[1:], blocks, strict=True))
        if generator is not None:
            self.to_empty(device=generator.device)
            self.apply(partial(initialise, generator=generator))
        self.readout = linear(planes[-1], n_outputs, generator)

    def stage(self, planes: int, n: int) -> nn.Module:
        """n residual blocks, (B, planes, h, w) -> the same."""
        from inn_lab import _torchvision  # noqa: F401
        from torchvision.models.resnet import BasicBlock  # isort: skip

        return nn.Sequential(*(BasicBlock(planes, planes, norm_layer=normalisation) for _ in range(n)))

    def run(self, place: int, u: Tensor) -> Tensor:
        """Applies a stage to the output of its entry: (B, c, h, w) -> the same."""
        return self.stages[place](u)

    def convolutions(self) -> list[nn.Conv2d]:
        return [module for module in self.modules() if isinstance(module, nn.Conv2d)]

    def matrices(self) -> list[tuple[int, str, Tensor]]:
        layers: list[nn.Conv2d | nn.Linear] = [*self.convolutions(), self.readout]
        return [(place, "i2h", layer.weight) for place, layer in enumerate(layers)]

    def size(self, steps: int) -> dict[str, float]:
        """As in `Model`; "layers" are those with weights, the number in "ResNet-50"."""
        return {**super().size(steps), "layers": len(self.convolutions()) + 1}

    def forward(self, x: Tensor) -> Tensor:
        images = (x[:, :1] if is_still(x) else x).flatten(0, 1).unflatten(1, self.image)  # (B or B · T, c, h, w)
        for place, enter in enumerate(self.entries):
            images = self.run(place, enter(images))
        y = self.readout(images.mean((2, 3))).unflatten(0, (len(x), -1))  # (B, 1 or T, O)
        return y.expand(-1, x.shape[1], -1)


class Wormhole(Settled, ResNet):
    """A `ResNet` in which each stage feeds its output back to its input, and is iterated until it converges.

        z = Bᵢ(u + tanh(γᵢ) z),   u = Eᵢ(…),   a γ for each channel

    The gates γ start at 0, closed: the network starts as the `ResNet` with the same weights. With blocks=[2, 2] the state goes
    back after the second block to the first, and after the fourth to the third. It is differentiated at the fixed point (see
    `fix`).

    Source: Habiba and Pearlmutter 2021, 3 and Fig. 6. There a controller, which is not described, chooses the way back. Here
    the gates learn how far it is open.

    Args:
        rtol, atol, max_iter, anderson: when a stage has converged and how it is iterated, see `Solver`.
        image, sizes: as in `ResNet`.

    Raises ConfigError for values out of their range, and as `ResNet`.
    """

    def __init__(
        self,
        n_inputs: int,
        n_outputs: int,
        *,
        rtol: Tolerance = 1e-4,
        atol: Tolerance = 1e-5,
        max_iter: Iterations = 300,
        anderson: Memory = 0,
        image: tuple[int, int, int] | None,
        **sizes: Any,
    ) -> None:
        super().__init__(n_inputs, n_outputs, image=image, **sizes)
        self.settlings = [Settling(rtol, atol, max_iter, anderson) for _ in self.stages]

    def stage(self, planes: int, n: int) -> nn.Module:
        return Loop(super().stage(planes, n), planes)

    def run(self, place: int, u: Tensor) -> Tensor:
        return self.settlings[place](self.stages[place], u, torch.zeros_like(u))


class Loop(nn.Module):
    """One iteration of a stage: from its state z and the output u of its entry, all (B, c, h, w)."""

    def __init__(self, blocks: nn.Module, planes: int) -> None:
        super().__init__()
        self.blocks, self.gate = blocks, nn.Parameter(torch.empty(planes, 1, 1))

    def forward(self, z: Tensor, u: Tensor) -> Tensor:
        return self.blocks(u + self.gate.tanh() * z)


def entry(planes: int, following: int) -> nn.Module:
    """(B, planes, h, w) -> (B, following, ⌈h / 2⌉, ⌈w / 2⌉)"""
    convolution = nn.Conv2d(planes, following, 3, stride=2, padding=1, bias=False)
    return nn.Sequential(convolution, normalisation(following), nn.ReLU())


def normalisation(planes: int) -> nn.Module:
    return nn.GroupNorm(GROUPS, planes)


def initialise(module: nn.Module, generator: torch.Generator) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
    elif isinstance(module, nn.GroupNorm):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, Loop):
        nn.init.zeros_(module.gate)
