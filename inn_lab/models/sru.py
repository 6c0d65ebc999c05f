"""The simple recurrent unit: all products with the input at once, then an element-wise recurrence."""

import torch
from torch import Tensor

from inn_lab.linear import is_still
from inn_lab.models.recurrent import Recurrent
from inn_lab.ranges import Units, WeightCount
from inn_lab.sizing import sru_hidden


class SRUCell(torch.nn.Module):
    """The simple recurrent unit without a readout.

        f_t = σ(W_f x_t + v_f ⊙ c_{t−1} + b_f),   c_t = f_t ⊙ c_{t−1} + (1 − f_t) ⊙ W x_t,   c = 0 at first
        r_t = σ(W_r x_t + v_r ⊙ c_{t−1} + b_r),   h_t = r_t ⊙ c_t + (1 − r_t) ⊙ x_t

    If I ≠ H, the last x_t is W_h x_t, a fourth product with x, as in Lei et al.'s own code.

    Source: Lei et al. 2018, Eqs. 1–4; Kale 2024, 2.6.

    Shapes: (B, T, I) -> (B, T, H), (B, T, H): all h_t, all c_t.
    """

    def __init__(self, n_inputs: int, hidden_size: int, device: torch.device | None = None) -> None:
        super().__init__()
        self.n_inputs, self.hidden_size = n_inputs, hidden_size
        products = 3 if n_inputs == hidden_size else 4
        self.weight = torch.nn.Parameter(torch.empty(products * hidden_size, n_inputs, device=device))  # W, W_f, W_r(, W_h)
        self.v = torch.nn.Parameter(torch.empty(2, hidden_size, device=device))  # v_f, v_r
        self.b = torch.nn.Parameter(torch.empty(2, hidden_size, device=device))  # b_f, b_r

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        steps, (v_f, v_r), (b_f, b_r) = x.shape[1], self.v, self.b
        products = torch.nn.functional.linear(x[:, :1] if is_still(x) else x, self.weight)  # (B, T or 1, 3 or 4 times H)
        candidate, forget, reset, *skip = products.expand(-1, steps, -1).split(self.hidden_size, dim=2)  # (B, T, H)
        c, states = x.new_zeros(len(x), self.hidden_size), []
        for new, now in zip(candidate.unbind(1), (forget + b_f).unbind(1), strict=True):  # only this waits for the step before
            states.append(c := torch.lerp(new, c, torch.sigmoid(now + v_f * c)))  # (B, H)
        c = torch.stack(states, dim=1)  # (B, T, H)
        before = torch.nn.functional.pad(c[:, :-1], (0, 0, 1, 0))
        r = torch.sigmoid(reset + v_r * before + b_r)
        return torch.lerp(skip[0] if skip else x, c, r), c


class SRU(Recurrent):
    """The simple recurrent unit (Lei et al. 2018), see `SRUCell`, with a linear readout.

    Initialised uniform in ±1/√H, as torch does with its recurrent networks.

    Shapes: (B, T, I) -> (B, T, O). B batch, T steps, I inputs, H state, O outputs.

    Raises ConfigError unless exactly one of `n_weights` and `hidden_size` is given.
    """

    core: SRUCell

    def __init__(
        self,
        n_inputs: int,
        n_outputs: int,
        *,
        n_weights: WeightCount | None = None,
        hidden_size: Units | None = None,
        generator: torch.Generator | None = torch.default_generator,
    ) -> None:
        super().__init__(SRUCell, sru_hidden, n_inputs, n_outputs, n_weights, hidden_size, generator)

    def matrices(self) -> list[tuple[int, str, Tensor]]:
        return [(0, "i2h", self.core.weight), (0, "h2h", self.core.v)]
