"""A training step that a GPU repeats as one launch (a CUDA graph): recorded once for each shape of a batch, then replayed.

A small sparse network's step takes a GPU microseconds, and some hundred launches by Python milliseconds. What is recorded are
the launches and their addresses. So all that a step reads and changes must stay where it is, and nothing in it may wait for the
device or depend on what Python knew. Source: torch's documentation of CUDA graphs, "whole-network capture".
"""

from collections.abc import Callable, Hashable

import torch
from torch import Tensor
from torch.nn import Module
from torch.optim import Optimizer

WARM = 3  # plain steps of a shape before it is recorded, in which libraries and caches get what they need
BEFORE = WARM + 2  # steps of a shape before it is replayed: one of them records it, one proves it
MOST = 64  # shapes that are recorded; batches of others are computed step by step
NEAR = 1e-3  # how far a replayed step may end from a plain one, as a fraction of how far the plain one went

Step = Callable[[Tensor, Tensor], None]


class Replay:
    """Does `step(x, y)` for each batch x (B, T, I), y, and replays it as soon as that is known to come to the same.

    A graph is used after a proof only: a step is replayed, undone, and computed again by Python. Where the two differ, or a
    step cannot be recorded, all further steps are plain ones, and `tell` is told why.

    step: changes the tensors of `state`, and nothing else that a later step reads.
    state: all tensors that a step changes, detached: parameters, buffers, what the optimizer keeps, sums.
    """

    def __init__(self, step: Step, state: Callable[[], list[Tensor]], tell: Callable[[str], None]) -> None:
        self.step, self.state, self.tell, self.on = step, state, tell, True
        self._of: dict[Hashable, Recorded] = {}

    def __call__(self, x: Tensor, y: Tensor) -> None:
        shape = (x.shape, _is_one(x), y.shape, y.dtype)
        if not self.on or (shape not in self._of and len(self._of) == MOST):
            return self.step(x, y)
        recorded = self._of.setdefault(shape, Recorded())
        if recorded.proved:
            return recorded.replay(x, y)
        why = None
        if recorded.graph:
            why = recorded.prove(self.step, self.state(), x, y)
        else:
            if recorded.plain == WARM:
                why = recorded.record(self.step, x, y)
            recorded.plain += 1
            self.step(x, y)
        if why:
            self.clear()
            self.on = False
            self.tell(why)
        return None

    def clear(self) -> None:
        """Forgets what was recorded, e.g. since a parameter has become another tensor."""
        self._of.clear()


class Recorded:
    """The step for one shape of a batch."""

    def __init__(self) -> None:
        self.plain, self.proved = 0, False  # how many plain steps there were; whether a replay has come to the same
        self.graph: torch.cuda.CUDAGraph | None = None

    def record(self, step: Step, x: Tensor, y: Tensor) -> str | None:
        """Records the step, which computes nothing. Returns why it cannot be recorded."""
        self.x, self.y = _once(x).clone(), y.clone()  # where the graph finds a batch
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                step(self.x.expand_as(x), self.y)
        except RuntimeError as error:
            return f"its step cannot be recorded: {str(error.__context__ or error).splitlines()[0]}"
        self.graph = graph
        return None

    def replay(self, x: Tensor, y: Tensor) -> None:
        assert self.graph is not None
        self.x.copy_(_once(x))
        self.y.copy_(y)
        self.graph.replay()

    def prove(self, step: Step, state: list[Tensor], x: Tensor, y: Tensor) -> str | None:
        """One step, replayed, undone and computed by Python, which counts. Returns why a replay is no good."""
        try:
            before, replayed = ([tensor.clone() for tensor in state] for _ in range(2))
        except torch.OutOfMemoryError:
            step(x, y)
            return "the device has no memory left to prove that a replayed step comes to the same"
        self.replay(x, y)
        for tensor, old, there in zip(state, before, replayed, strict=True):
            there.copy_(tensor)
            tensor.copy_(old)
        step(x, y)
        for plain, old, there in zip(state, before, replayed, strict=True):
            if not there.sub_(plain).norm() <= NEAR * old.sub_(plain).norm():
                return "a step that was replayed did not come to the same"
        self.proved = True
        return None


def changed(model: Module, optimizer: Optimizer, *more: Tensor) -> list[Tensor]:
    """All tensors that a step of a training changes, detached. Those of whole numbers, patterns, stay."""
    kept = (value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor))
    tensors = (*model.parameters(), *model.buffers(), *kept, *more)
    return [tensor.detach() for tensor in tensors if tensor.is_floating_point()]


def _is_one(x: Tensor) -> bool:
    """Whether all steps of x (B, T, I) are one, expanded."""
    return x.stride(1) == 0


def _once(x: Tensor) -> Tensor:
    return x[:, :1] if _is_one(x) else x
