"""Whatever a model or a weight matrix is called with, it answers or says in a sentence why not.

No test of the suite's own: a process that reads past its memory takes everything along, so test_checks.py runs this in one of
its own, under NUMBA_BOUNDSCHECK=1, where the kernels check every address.
"""

import copy
import warnings
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import get_object, instantiate
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from torch import Tensor

from inn_lab import linear, schema
from inn_lab.data import transforms
from inn_lab.explain import CONF
from inn_lab.linear import CSR, Activation, LowRank, Sum, WeightMatrix, csr, kernels
from inn_lab.models.implicit import NotConverged
from inn_lab.models.ticks import CELLS
from inn_lab.models.wavefront import Link, Wavefront
from inn_lab.patterns import draw_exact
from inn_lab.ranges import arguments
from inn_lab.seeding import generator

warnings.simplefilter("ignore", NotConverged)
steady = settings(
    deadline=None, derandomize=True, max_examples=15, phases=[Phase.generate]
)  # a failure is small enough as it is

B, T, I, O = 2, 3, 64, 3  # noqa: E741
OUT, IN = 7, 11
DATA = SimpleNamespace(image=(1, 8, 8))
DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.int64, torch.uint8, torch.bool]
HELD = [
    torch.float64,
    torch.float64,
    torch.float16,
    torch.bfloat16,
]  # how models are: float32 has other kernels, and they are alike


def model(name: str) -> torch.nn.Module:
    """As a job builds it, of conf/model/NAME.yaml."""
    schema.register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("config", [f"model={name}", "n_weights=2000", "R=0.2"]).model
    small = {"hidden": [20, 10] if "hidden" in cfg and OmegaConf.is_list(cfg.hidden) else 20, "width": 4}
    small |= {"layers": {"a": 20, "b": 10}} if "layers" in cfg else {"blocks": [1, 1]}
    cfg.update({key: value for key, value in small.items() if cfg.get(key) is not None})
    more = {"image": DATA.image} if "image" in (arguments(get_object(cfg._target_)) or ()) else {}
    return instantiate(cfg, _partial_=True)(I, O, **more, generator=generator(0)).double()


def matrix(kind: type[WeightMatrix]) -> WeightMatrix:
    rng = generator(0)
    if kind is LowRank:
        return LowRank.drawn(OUT, IN, 0.4, 0.1, rng).double()
    if kind is Sum:
        return Sum([matrix(CSR), matrix(LowRank)])
    indices = draw_exact(OUT, IN, 30, rng)
    return kind(OUT, IN, indices, torch.randn(30, generator=rng, dtype=torch.float64))


def wavefront(cell: str) -> Wavefront:
    links = [Link(-1, 0, torch.ones(3, 3, dtype=torch.bool)), Link(0, 1, torch.eye(2, 3, dtype=torch.bool))]
    return Wavefront([3, 2], links, cell, generator(0)).double()


@dataclass(frozen=True)
class Asked:
    """A tensor as hypothesis finds and prints it: where its numbers lie is "whole", "turned", "every second" or "expanded"."""

    sizes: tuple[int, ...]
    dtype: torch.dtype
    lies: str
    seed: int

    def tensor(self) -> Tensor:
        draw = partial(torch.randn, generator=generator(self.seed, "x"), dtype=torch.float64)
        match self.sizes, self.lies:
            case _, "turned":
                return draw(self.sizes[::-1]).permute(*reversed(range(len(self.sizes)))).to(self.dtype)
            case (*others, last), "every second":
                return draw((*others, 2 * last)).to(self.dtype)[..., ::2]
            case (*_,), "expanded" if self.sizes:
                at = self.seed % len(self.sizes)
                return draw([1 if d == at else size for d, size in enumerate(self.sizes)]).to(self.dtype).expand(self.sizes)
        return draw(self.sizes).to(self.dtype)


@st.composite
def asked(draw: st.DrawFn, *right: int) -> Asked:
    """Of these sizes, of which often one is another."""
    sizes = list(right)
    match draw(st.sampled_from(["right", "right", "size", "size", "more", "fewer"])):
        case "size":
            at = draw(st.integers(0, len(sizes) - 1))
            sizes[at] = draw(st.sampled_from([0, 1, max(0, sizes[at] - 1), sizes[at] + 1, 5 * sizes[at]]))
        case "more":
            sizes.insert(draw(st.integers(0, len(sizes))), draw(st.integers(0, 2)))
        case "fewer":
            del sizes[draw(st.integers(0, len(sizes) - 1))]
    dtype = draw(st.sampled_from([torch.float64, torch.float64, *DTYPES]))
    lies = draw(st.sampled_from(["whole", "turned", "every second", "expanded"]))
    return Asked(tuple(sizes), dtype, lies, draw(st.integers(0, 5)))


def answer(module: torch.nn.Module, call, x: Tensor, fits: bool, out: tuple[int, ...], autocast: bool) -> None:
    """A result of this shape, that of the same numbers lying one after the other, with gradients; or a sentence."""
    dtype = next(t.dtype for t in module.state_dict().values() if t.is_floating_point())
    fits &= x.dtype is dtype is torch.float64
    autocast &= dtype is torch.float64  # it is for models in full precision
    if x.is_floating_point():
        x.requires_grad_()
    try:
        with torch.autocast("cpu", enabled=autocast):
            y, plain = call(x), call(x.detach().clone(memory_format=torch.contiguous_format))
        if y.requires_grad:  # nothing does of no columns
            torch.autograd.grad(y.sum(), [p for p in (x, *module.parameters()) if p.requires_grad], allow_unused=True)
    except (ValueError, TypeError) as error:
        assert not fits and "\n" not in str(error) and len(str(error)) > 20
    except RuntimeError as error:
        assert not fits and "not implemented for" in str(error), error  # torch's own, of halves
    else:
        assert y.shape == out
        assert torch.allclose(y, plain, atol=1e-9 if y.dtype is torch.float64 else 0.1, rtol=0, equal_nan=True)


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "model").glob("*.yaml")))
def test_every_model_answers_or_says_why_not(name: str) -> None:
    whole = model(name)

    @steady
    @given(asked(B, T, I), st.sampled_from(HELD), st.booleans())
    def ask(what: Asked, dtype: torch.dtype, autocast: bool) -> None:
        x, held = what.tensor(), copy.deepcopy(whole).to(dtype)
        fits = x.dim() == 3 and x.shape[2] == I and 0 not in x.shape
        answer(held, held, x, fits, (*x.shape[:2], O), autocast)

    ask()


KINDS = [kind for kind in map(linear.__dict__.get, linear.__all__) if isinstance(kind, type) and issubclass(kind, WeightMatrix)]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind is not WeightMatrix])
@steady
@given(st.data())
def test_every_matrix_answers_or_says_why_not(kind, data: st.DataObject) -> None:
    whole = matrix(kind).to(data.draw(st.sampled_from(HELD)))
    autocast, columns = data.draw(st.booleans()), data.draw(st.integers(0, IN))
    x = data.draw(asked(2, 3, IN)).tensor()
    fits = x.dim() > 0 and x.shape[-1] == IN
    answer(whole, whole, x, fits, (*x.shape[:-1], OUT), autocast)
    side = data.draw(st.integers(0, 1))
    x = data.draw(asked(4, (columns, IN - columns)[side])).tensor()
    fits = x.dim() > 0 and x.shape[-1] == (columns, IN - columns)[side]
    answer(whole, lambda x: whole.split(columns)[side](x), x, fits, (*x.shape[:-1], OUT), autocast)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind is not WeightMatrix])
@steady
@given(st.data())
def test_every_matrix_iterates_or_says_why_not(kind, data: st.DataObject) -> None:
    whole = matrix(kind).to(data.draw(st.sampled_from(HELD)))
    names = data.draw(st.lists(st.sampled_from(["relu", "linear", "tanh"]), min_size=2, max_size=2))
    first, n_outputs = data.draw(st.integers(0, OUT)), data.draw(st.integers(-1, OUT + 1))
    activation = Activation((names[0], first), (names[1], data.draw(st.sampled_from([OUT - first, OUT - first, 1]))))
    bias = data.draw(st.none() | asked(OUT).map(Asked.tensor))
    x = data.draw(asked(B, T, IN - OUT)).tensor()
    fits = x.dim() == 3 and x.shape[2] == IN - OUT and 0 not in x.shape and 1 <= n_outputs <= OUT
    fits &= sum(n for _, n in activation.rows) == OUT
    fits &= bias is None or (bias.shape == (OUT,) and bias.dtype is torch.float64)
    call = lambda x: whole.iterate(x, bias, activation, n_outputs)  # noqa: E731
    answer(whole, call, x, fits, (*x.shape[:2], n_outputs), data.draw(st.booleans()))


@pytest.mark.parametrize("cell", CELLS)
def test_a_wavefront_answers_or_says_why_not(cell: str) -> None:
    whole = wavefront(cell)

    @steady
    @given(asked(B, T, 3), st.sampled_from(HELD), st.booleans())
    def ask(what: Asked, dtype: torch.dtype, autocast: bool) -> None:
        x, held = what.tensor(), copy.deepcopy(whole).to(dtype)
        answer(held, held, x, x.dim() == 3 and x.shape[2] == 3 and 0 not in x.shape, (*x.shape[:2], 2), autocast)

    ask()


@steady
@given(st.integers(0, 3), st.integers(1, 9), st.integers(1, 9), st.data())
def test_any_box_and_any_corners_of_images(n: int, height: int, width: int, data: st.DataObject) -> None:
    """Also where no generator draws them."""
    x = torch.rand(n, height, width, generator=generator(0))
    numbers = st.lists(st.integers(-4, 12), min_size=8 * n, max_size=8 * n)
    corners = torch.tensor(data.draw(numbers), dtype=torch.long).view(n, 4, 2)
    for applied in (transforms.erase(x, corners[:, :2].flatten(1)), transforms.perspective(x, corners)):
        assert applied.shape == x.shape and bool(((applied >= 0) & (applied <= 1)).all())


@steady
@given(st.integers(0, 5), st.integers(0, 5), st.integers(0, 3), st.integers(0, 40), st.data())
def test_kernels_of_every_size(out: int, width: int, s: int, c: int, data: st.DataObject) -> None:
    """Empty blocks, empty rows and columns, and nothing at all."""
    n = data.draw(st.integers(0, out * width))
    indices = draw_exact(out, width, n, generator(n)) if out * width else torch.zeros(0, dtype=torch.int64)
    values = torch.randn(n, generator=generator(n), dtype=torch.float64)
    dense = torch.zeros(out * width, dtype=torch.float64).scatter(0, indices, values).view(out, width)
    columns = data.draw(st.integers(0, width))
    for block, part in zip(
        CSR(out, width, indices, values).blocks(columns), dense.split([columns, width - columns], 1), strict=True
    ):
        x, g = (torch.randn(s, rows, c, generator=generator(c, "x"), dtype=torch.float64) for rows in (block.n_columns, out))
        assert torch.allclose(csr.product(block, values, x), part @ x, atol=1e-12)
        assert torch.allclose(csr.product(*csr.transpose(block, values), g), part.T @ g, atol=1e-12)
        found, expected = torch.zeros(n, dtype=torch.float64), (g @ x.mT).sum(0)
        csr.sampled(block, g, x, found, data.draw(st.sampled_from([0, 100, 2**20])))
        rows, places = block.entries
        assert torch.allclose(found[places.long()], expected[rows.long(), block.columns[places].long()], atol=1e-12)


@pytest.mark.parametrize("c", [1, 8, 32, 41])
def test_here_the_kernels_check_every_address(c: int) -> None:
    """A damaged pattern, as no check lets one through: or this file would show nothing."""
    assert kernels.CHECKED
    x, g = torch.zeros(1, 11, c, dtype=torch.float64), torch.zeros(1, OUT, c, dtype=torch.float64)
    values = torch.zeros(OUT, dtype=torch.float64)
    for damage, wrong in [("columns", 11), ("columns", 2**30), ("columns", -1), ("stops", OUT + 1), ("starts", -1)]:
        block = CSR(OUT, IN, torch.arange(OUT) * IN, values).blocks(IN)[0]
        block.starts, block.stops = block.starts.clone(), block.stops.clone()
        getattr(block, damage)[-1 if damage == "stops" else 0] = wrong
        with pytest.raises(IndexError):
            csr.product(block, values, x)
        with pytest.raises(IndexError):
            csr.sampled(block, g, x, values.clone(), 2**40)
