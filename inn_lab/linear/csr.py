"""A sparse weight matrix in compressed sparse rows. It costs what its trainable entries cost, not what out × in would.

torch's CSR tensors do not work as parameters: their gradients leak memory or become dense (pytorch #109445, #98929, #41128).
Here the parameter is an ordinary vector of *values*, and the pattern is stored beside it. The derivatives are written by hand.
No tensor of size out × in is ever made.
"""

import functools
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import Tensor

from inn_lab.compiled import kernel
from inn_lab.linear.base import Activation, Change, Map, Patterned, check, check_entries, is_still
from inn_lab.linear.by_hand import first_order
from inn_lab.linear.gradient import FullGradient

CACHE = 2**20  # bytes that a core's second-level cache has at least, we assume
MOST = 2**31 - 1  # rows, columns or entries: they are counted in 32 bits
KERNELS = {torch.float32, torch.float64}  # dtypes of the kernels on the CPU
SPARSE_PRODUCT = ("a sparse product", ", or hold the matrix as masked")


class Block:
    """The pattern of a block of W, a range of its columns.

    Row i has the entries starts[i] … stops[i] − 1 of `columns` and of W's values. Columns are counted from the block's first
    column, which is W's column `first`. All int32. `full_gradient` is W's.
    """

    def __init__(
        self,
        starts: Tensor,
        stops: Tensor,
        columns: Tensor,
        n_columns: int,
        first: int = 0,
        full_gradient: FullGradient | None = None,
    ) -> None:
        self.starts, self.stops, self.columns, self.n_columns = starts, stops, columns, n_columns
        self.first, self.full_gradient = first, full_gradient
        self.n_rows, self.values_shape, self.device = len(starts), columns.shape, columns.device

    @functools.cached_property
    def chunks(self) -> Tensor:
        """The first row of each thread's piece; the pieces have about equally many entries. On the CPU."""
        counts = (self.stops - self.starts).cumsum(0).cpu()
        pieces = torch.get_num_threads()
        marks = torch.arange(1, pieces) * (int(counts[-1]) if len(counts) else 0) // pieces
        return torch.tensor([0, *torch.searchsorted(counts, marks).tolist(), self.n_rows], dtype=torch.int32)

    @functools.cached_property
    def entries(self) -> tuple[Tensor, Tensor]:
        """For each entry of the block its row and its index in W's values: (n,), (n,), int32, in order."""
        counts = (self.stops - self.starts).long()
        rows = torch.arange(self.n_rows, device=counts.device, dtype=torch.int32).repeat_interleave(counts)
        shift = self.starts - (counts.cumsum(0) - counts).int()
        return rows, torch.arange(len(rows), device=rows.device, dtype=torch.int32) + shift[rows]

    @functools.cached_property
    def transposed(self) -> tuple["Block", Tensor]:
        """The transposed block, and for each of its entries the index in W's values, (n,)."""
        rows, places = self.entries
        columns = self.columns[places]
        order = columns.argsort(stable=True)
        counts = columns.bincount(minlength=self.n_columns)
        ends = counts.cumsum(0)
        return Block((ends - counts).int(), ends.int(), rows[order], self.n_rows), places[order]

    @functools.cached_property
    def pointers(self) -> Tensor:
        """Where each row of the block begins, (n_rows + 1,), as torch.sparse needs it."""
        return torch.cat([self.starts.new_zeros(1), (self.stops - self.starts).cumsum(0).int()])

    def tensor(self, values: Tensor) -> Tensor:
        """A torch.sparse matrix of the block. values: one for each of its entries, in order."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse (CSR tensor support is in beta|invariant checks are implicitly)")
            shape = (self.n_rows, self.n_columns)
            return torch.sparse_csr_tensor(self.pointers, self.own_columns, values, shape, check_invariants=False)

    @functools.cached_property
    def own_columns(self) -> Tensor:
        return self.columns[self.entries[1]]


def check_operands(who: str, block: Block, values: Tensor, **dense: tuple[Tensor, tuple[int, ...]]) -> None:
    """Raises TypeError or ValueError unless a kernel can safely read these tensors. A kernel itself checks no address.

    values: of all of W. dense: by name a matrix and the shape it must have. The block was checked when it was made.
    """
    dtype, device = values.dtype, values.device
    if (
        values.shape == block.values_shape
        and device == block.device
        and (dtype in KERNELS or device.type != "cpu")
        and values.is_contiguous()
    ):
        for x, shape in dense.values():
            if x.shape != shape or x.dtype is not dtype or x.device != device or not x.is_contiguous():
                break
        else:
            return
    _explain(who, block, values, dense)


def _explain(who: str, block: Block, values: Tensor, dense: dict[str, tuple[Tensor, tuple[int, ...]]]) -> NoReturn:
    """Raises the error for what `check_operands` has found. `check_operands` runs before every product and must be fast."""
    if values.shape != block.values_shape or values.device != block.device:
        raise ValueError(
            f"{who}: the values are {tuple(values.shape)} on {values.device}, and the pattern {tuple(block.values_shape)} on "
            f"{block.device}; give a value for each entry, where the pattern is"
        )
    if values.device.type == "cpu" and values.dtype not in KERNELS:
        raise TypeError(
            f"{who}: the weights are {values.dtype}; a sparse product on the CPU takes torch.float32 or torch.float64, e.g. "
            "model.float(); or hold the matrix as masked"
        )
    for name, (x, shape) in dense.items():
        check(who, name, x, shape, values)
    strides = next(x.stride() for x in (values, *(x for x, _ in dense.values())) if not x.is_contiguous())
    raise ValueError(f"{who}: numbers do not lie one after the other, their strides are {strides}; take x.contiguous()")


def product(block: Block, values: Tensor, x: Tensor) -> Tensor:
    """Multiplies the block by each of S matrices: (S, in, C) -> (S, out, C)."""
    check_operands("product", block, values, x=(x, (len(x), block.n_columns, x.shape[-1])))
    if x.device.type != "cpu":
        return torch_product(block, values, x)
    out = x.new_empty(len(x), block.n_rows, x.shape[2])
    compiled("product")(*_arrays(block), values.numpy(), x.numpy(), out.numpy())
    return out


def sampled(block: Block, g: Tensor, x: Tensor, out: Tensor, cache: int = CACHE) -> None:
    """Computes Σ_s g[s] x[s]ᵀ at the block's entries only, and writes them to their places in `out`, a vector like W's values.

    g (S, out, C), x (S, in, C). Who listens to the full gradient gets g and x.
    """
    size, c = x.shape[0], x.shape[-1]
    check_operands("sampled", block, out, g=(g, (size, block.n_rows, c)), x=(x, (size, block.n_columns, c)))
    if block.full_gradient is not None:
        block.full_gradient.add(g, x, block.first)
    if x.device.type == "cpu":
        compiled("sampled")(*_arrays(block), g.numpy(), x.numpy(), out.numpy(), cache)
    else:
        torch_sampled(block, g, x, out)


def forward_steps(block: Block, values: Tensor, drive: Tensor, n_relu: int, steps: int) -> Tensor:
    """h_t = σ(drive_t + W h_{t−1}) for all t: (T or 1, H, B) -> (T, H, B). Of the last state only the linear rows are valid.

    If there is a drive for each step, the states overwrite it.
    """
    drives = steps if len(drive) == steps else 1
    check_operands("forward_steps", block, values, drive=(drive, (drives, block.n_rows, drive.shape[-1])))
    _check_square("forward_steps", block, n_relu)
    if drive.device.type != "cpu":
        return torch_forward_steps(block, values, drive, n_relu, steps)
    states = drive if len(drive) == steps else drive.new_empty(steps, *drive.shape[1:])
    step, arrays = compiled("forward_step"), (*_arrays(block), values.numpy(), drive.numpy())
    for t in range(steps):
        step(*arrays, n_relu, t, states.numpy())
    return states


def backward_steps(block: Block, values: Tensor, grad: Tensor, states: Tensor) -> Tensor:
    """g_t = σ'(a_t) ⊙ (Wᵀ g_{t+1} + dL/dh_t) for all t (T, H, B); `grad` (T, O, B) is the gradient of the linear rows."""
    steps, n_linear, batch = len(states), grad.shape[1], states.shape[-1]
    shapes = (steps, n_linear, batch), (steps, block.n_rows, batch)
    check_operands("backward_steps", block, values, grad=(grad, shapes[0]), states=(states, shapes[1]))
    _check_square("backward_steps", block, block.n_rows - n_linear)
    if states.device.type != "cpu":
        return torch_backward_steps(block, values, grad, states)
    transposed, turned = transpose(block, values)
    g = torch.empty_like(states)
    step, arrays = compiled("backward_step"), (*_arrays(transposed), turned.numpy(), grad.numpy())
    for t in reversed(range(len(states))):
        step(*arrays, states.shape[1] - grad.shape[1], t, states.numpy(), g.numpy())
    return g


def _check_square(who: str, block: Block, n_relu: int) -> None:
    if block.n_rows != block.n_columns or not 0 <= n_relu <= block.n_rows:
        raise ValueError(
            f"{who}: {n_relu} rows of ReLU, and a block of {block.n_rows} × {block.n_columns}; a state's is square"
        )


def transpose(block: Block, values: Tensor) -> tuple[Block, Tensor]:
    """The transposed block, and the values of its entries alone, (n,)."""
    check_operands("transpose", block, values)
    transposed, places = block.transposed
    return transposed, gather(values, places)


def gather(values: Tensor, places: Tensor) -> Tensor:
    """values[places], (n,)."""
    if values.device.type != "cpu":
        return values[places]
    out = values.new_empty(len(places))
    compiled("gather")(values.numpy(), places.numpy(), out.numpy())
    return out


def torch_product(block: Block, values: Tensor, x: Tensor) -> Tensor:
    """`product` by torch.sparse: cuSPARSE on CUDA, MKL on the CPU. The tests compare the kernel with it."""
    wide = block.tensor(values[block.entries[1]]) @ _side_by_side(x)
    return wide.unflatten(1, (len(x), x.shape[2])).transpose(0, 1).contiguous()


def torch_sampled(block: Block, g: Tensor, x: Tensor, out: Tensor) -> None:
    """`sampled` by torch.sparse, likewise."""
    places = block.entries[1]
    zeros = block.tensor(torch.zeros_like(places, dtype=out.dtype))
    out[places] = torch.sparse.sampled_addmm(zeros, _side_by_side(g), _side_by_side(x).T, beta=0.0).values()


def torch_forward_steps(block: Block, values: Tensor, drive: Tensor, n_relu: int, steps: int) -> Tensor:
    """`forward_steps` by torch.sparse, likewise."""
    matrix = block.tensor(values[block.entries[1]])
    states = drive.new_empty(steps, *drive.shape[1:])
    for t, now in enumerate(drive.expand(steps, -1, -1)):
        states[t] = now + matrix @ states[t - 1] if t else now
        states[t, :n_relu].relu_()
    return states


def torch_backward_steps(block: Block, values: Tensor, grad: Tensor, states: Tensor) -> Tensor:
    """`backward_steps` by torch.sparse, likewise."""
    transposed, turned = transpose(block, values)
    matrix = transposed.tensor(turned)
    n_relu = states.shape[1] - grad.shape[1]
    g = torch.zeros_like(states)
    g[:, n_relu:] = grad
    for t in reversed(range(len(states) - 1)):
        g[t] += matrix @ g[t + 1]
        g[t, :n_relu] *= states[t, :n_relu] > 0
    return g


def _side_by_side(x: Tensor) -> Tensor:
    return x.transpose(0, 1).flatten(1)  # (S, rows, C) -> (rows, S · C)


def compiled(name: str) -> Callable[..., None]:
    """A kernel for sparse matrices."""
    return kernel("inn_lab.linear.kernels", name)


def _arrays(block: Block) -> tuple[Any, ...]:
    return block.chunks.numpy(), block.starts.numpy(), block.stops.numpy(), block.columns.numpy()


class CSR(Patterned):
    """W in compressed sparse rows. The parameter is one vector of values, so any optimizer works on it.

    Raises ValueError for more rows, columns or entries than 32 bits can count.
    """

    pointers: Tensor
    columns: Tensor

    def __init__(self, out_features: int, in_features: int, indices: Tensor, values: Tensor) -> None:
        if (most := max(out_features, in_features, len(indices))) > MOST:
            raise ValueError(
                f"csr: {most} rows, columns or entries; it counts up to {MOST}, take fewer or hold the matrix as masked"
            )
        super().__init__(out_features, in_features, indices, values)
        self.values = torch.nn.Parameter(values.clone())
        pointers, columns = _compressed(indices, out_features, in_features)
        self.register_buffer("pointers", pointers)
        self.register_buffer("columns", columns)
        self._blocks: dict[int, tuple[Block, Block]] = {}

    @property
    def n_weights(self) -> int:
        return self.values.numel()

    def entries(self) -> tuple[Tensor, Tensor]:
        return _flat(self.pointers, self.columns, self.in_features), self.values.detach()

    def at_entries(self, numbers: Tensor) -> Tensor:
        return numbers

    def _rewire(self, indices: Tensor) -> Change:
        places, stays = _found(indices, self.entries()[0])
        before = self.values

        def carry(numbers: Tensor) -> Tensor:
            return torch.where(stays, numbers[places], 0) if len(numbers) else numbers.new_zeros(len(stays))

        # New tensors, and new blocks at the next product: a backward pass that waits has those that it began with.
        self.pointers, self.columns = _compressed(indices, self.out_features, self.in_features)
        self.values = torch.nn.Parameter(carry(before.detach()))
        self._blocks.clear()
        return Change(before, self.values, carry)

    def blocks(self, columns: int) -> tuple[Block, Block]:
        """The blocks of the first `columns` columns and of the others. They are made once and kept."""
        if columns not in self._blocks:
            if {self.pointers.dtype, self.columns.dtype} != {torch.int32}:
                raise TypeError(f"csr: the pattern became {self.columns.dtype}; convert the weights alone, e.g. model.double()")
            starts, stops = self.pointers[:-1], self.pointers[1:]
            left = torch.zeros(len(self.columns) + 1, dtype=torch.int32, device=self.columns.device)
            left[1:] = (self.columns < columns).cumsum(0)  # how many of the entries before lie left
            between = starts + (left[stops] - left[starts])
            right = self.columns - columns
            self._blocks[columns] = (
                Block(starts, between, self.columns, columns, 0, self.full_gradient),
                Block(between, stops, right, self.in_features - columns, columns, self.full_gradient),
            )
        return self._blocks[columns]

    @property
    def _like(self) -> Tensor:
        return self.values

    def _forward(self, x: Tensor) -> Tensor:
        return _Product.apply(x, self.values, self.blocks(self.in_features)[0])  # (…, in) -> (…, out)

    def _split(self, columns: int) -> tuple[Map, Map]:
        left, right = self.blocks(columns)
        return (
            Map(lambda x, values: _Product.apply(x, values, left), (self.values,)),
            Map(lambda h, values: _Product.apply(h, values, right), (self.values,)),
        )

    def _iterate(self, x: Tensor, bias: Tensor | None, activation: Activation, n_outputs: int) -> Tensor:
        blocks, n_relu = self.blocks(x.shape[2]), activation.n_relu
        n_linear = 0 if n_relu is None else self.out_features - n_relu
        if n_outputs > n_linear:  # the kernels know linear rows below ReLU's, and give those alone
            return super()._iterate(x, bias, activation, n_outputs)
        return _Iterate.apply(x, self.values, bias, blocks, n_linear)[..., -n_outputs:]

    def _apply(self, *args: Any, **kwargs: Any) -> "CSR":
        self._blocks.clear()  # they would stay on the old device
        return super()._apply(*args, **kwargs)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Rejects a pattern that is damaged or of another size as a whole; `load_state_dict` raises with the reason."""
        own = {"pointers": self.pointers, "columns": self.columns, "values": self.values}
        try:
            _check_pattern(self, **{name: state_dict.get(prefix + name, tensor) for name, tensor in own.items()})
        except (TypeError, ValueError) as error:
            rest[-1].append(f"{prefix}: {error}")  # torch's list of what went wrong
            return
        # What is loaded is written into new ones: a backward pass that waits has the pattern that it began with.
        self.pointers, self.columns = self.pointers.clone(), self.columns.clone()
        self._blocks.clear()
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _compressed(indices: Tensor, out_features: int, in_features: int) -> tuple[Tensor, Tensor]:
    """The pointers (out + 1,) and columns (n,) of flat positions, int32."""
    rows = (indices // in_features).bincount(minlength=out_features).cumsum(0)
    return torch.cat([rows.new_zeros(1), rows]).int(), (indices % in_features).int()


def _found(wanted: Tensor, among: Tensor) -> tuple[Tensor, Tensor]:
    """For sorted numbers (n,) where each stands among others (m,), sorted too, if it does; and whether it does."""
    places = torch.searchsorted(among, wanted).clamp_(max=max(0, len(among) - 1))
    return places, among[places] == wanted if len(among) else torch.zeros_like(wanted, dtype=torch.bool)


def _flat(pointers: Tensor, columns: Tensor, in_features: int) -> Tensor:
    """The entries' flat positions, (n,), int64."""
    counts = pointers.long().diff()
    rows = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
    return rows.mul_(in_features).add_(columns)


def _check_pattern(matrix: CSR, pointers: Tensor, columns: Tensor, values: Tensor) -> None:
    """Raises TypeError or ValueError unless these are a pattern and values of as many entries as the matrix has."""
    for name, given, own in (("pointers", pointers, matrix.pointers), ("columns", columns, matrix.columns)):
        if (
            not isinstance(given, Tensor)
            or given.dtype is not torch.int32
            or given.shape != own.shape
            or not given.is_contiguous()
        ):
            form = f"{given.dtype} {tuple(given.shape)}" if isinstance(given, Tensor) else f"a {type(given).__name__}"
            raise ValueError(
                f"{name} are {form}, and of this matrix torch.int32 {tuple(own.shape)}; load the state of a matrix of this size"
            )
    counts, n = pointers.long().diff(), len(columns)
    whole = int(pointers[0]) == 0 and int(pointers[-1]) == n and not bool((counts < 0).any())
    if not whole or not bool(((columns >= 0) & (columns < matrix.in_features)).all()):
        raise ValueError(
            f"pointers and columns are no pattern of {n} entries in {matrix.out_features} × {matrix.in_features}: the state is "
            "damaged, take another"
        )
    check_entries(matrix.out_features, matrix.in_features, _flat(pointers, columns, matrix.in_features), values)


class Fixed(CSR):
    """A sparse matrix without trainable entries: the identities and signs in a block matrix."""

    n_weights = 0
    _rewire = Patterned._rewire  # refuses

    def __init__(self, out_features: int, in_features: int, indices: Tensor, values: Tensor) -> None:
        super().__init__(out_features, in_features, indices, values)
        del self.values
        self.register_buffer("values", values.clone())


class _Product(torch.autograd.Function):
    """x Wᵀ for a block of W: (…, in) -> (…, out)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, values: Tensor, block: Block) -> Tensor:
        size = x.shape[:-1].numel()  # C
        columns = x.detach().reshape(size, block.n_columns).T.contiguous()[None]  # (…, in) -> (1, in, C)
        ctx.save_for_backward(columns, values)
        ctx.block, ctx.shape = block, x.shape
        return product(block, values.detach(), columns)[0].T.reshape(*x.shape[:-1], block.n_rows)

    @staticmethod
    @first_order(*SPARSE_PRODUCT)
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        columns, values = ctx.saved_tensors
        g = grad.reshape(columns.shape[2], ctx.block.n_rows).T.contiguous()[None]  # (…, out) -> (1, out, C)
        dx = dvalues = None
        if ctx.needs_input_grad[0]:
            dx = product(*transpose(ctx.block, values), g)[0].T.reshape(ctx.shape)
        if ctx.needs_input_grad[1]:
            dvalues = torch.zeros_like(values)
            sampled(ctx.block, g, columns, dvalues)
        return dx, dvalues, None


class _Iterate(torch.autograd.Function):
    """`WeightMatrix.iterate` as one function with a hand-written derivative. The first rows are ReLU, the last ones, the
    outputs, linear.

    With s_t = [x_t; h_{t−1}], a_t = W s_t + b and h_t = σ(a_t), the backward pass is g_t = σ'(a_t) ⊙ (Wₕᵀ g_{t+1} + dL/dh_t).
    dL/dW = Σ_t g_t s_tᵀ is computed at the pattern only. All states are stored as (T, rows, B), so that the state of a step is
    contiguous.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, values: Tensor, bias: Tensor | None, blocks: tuple[Block, Block], n_linear: int) -> Tensor:
        by_input, by_state = blocks
        n_relu = by_state.n_rows - n_linear
        still = is_still(x)
        seen = (x[:, :1] if still else x).detach().permute(1, 2, 0).contiguous()  # (B, T, I) -> (T or 1, I, B)
        weights = values.detach()
        drive = product(by_input, weights, seen)  # (T or 1, H, B)
        if bias is not None:
            drive += bias.detach()[:, None]
        states = forward_steps(by_state, weights, drive, n_relu, x.shape[1])  # (T, H, B)
        ctx.save_for_backward(seen, values, states)
        ctx.blocks = blocks
        return states[:, n_relu:].permute(2, 0, 1).contiguous()  # (B, T, O)

    @staticmethod
    @first_order(*SPARSE_PRODUCT)
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        seen, values, states = ctx.saved_tensors
        by_input, by_state = ctx.blocks
        g = backward_steps(by_state, values, grad.permute(1, 2, 0).contiguous(), states)  # (T, H, B)
        dx = dvalues = dbias = None
        if ctx.needs_input_grad[0]:
            dx = product(*transpose(by_input, values), g).permute(2, 0, 1)  # (B, T, I)
        if ctx.needs_input_grad[1]:
            dvalues = torch.empty_like(values)  # each entry stands in one of the two blocks
            sampled(by_state, g[1:], states[:-1], dvalues)
            sampled(by_input, g if len(seen) == len(g) else g.sum(0, keepdim=True), seen, dvalues)
        if ctx.needs_input_grad[2]:
            dbias = g.sum((0, 2))
        return dx, dvalues, dbias, None, None
