"""A device that is none, `far:0`: its tensors lie in the CPU's memory and say that they are elsewhere.

What a GPU refuses is refused here too: an operation on tensors of two devices, numpy's view of a tensor that is elsewhere, and
waiting for the device while a graph is recorded (`Graph`). So a machine without a GPU can try what runs on one. The numbers are
the CPU's, and so are the sparse products: it says nothing of CUDA's own kernels, nor of speed.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

from inn_lab import parts
from inn_lab.studies import train


class Module(_DummyBackendModule):
    """`torch.far`. Once this file is imported torch's tools take it for the accelerator, and ask what its autocast can do."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float16, torch.bfloat16]


_setup_privateuseone_for_python_backend("far", backend_module=Module())
torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(…, device=FAR) makes it here and sends it
FAR = torch.device("far", 0)
CPU = torch.device("cpu")
aten = torch.ops.aten

BETWEEN = {aten._to_copy.default, aten.copy_.default}  # from one device to another
BY_NUMBERS = {aten.index.Tensor, aten.index_put_.default, aten._index_put_impl_.default}  # which the CPU may hold
WAITS = {
    *(aten._local_scalar_dense.default, aten.equal.default, aten.nonzero.default, aten.masked_select.default),
    *(aten.repeat_interleave.Tensor, aten._unique2.default, aten.unique_dim.default, aten.unique_consecutive.default),
}


class Far(Tensor):
    """A tensor that is elsewhere."""

    there: Tensor

    @staticmethod
    def __new__(cls, there: Tensor) -> "Far":
        strided = there.layout is torch.strided
        more = {"strides": there.stride(), "storage_offset": there.storage_offset()} if strided else {}
        return Tensor._make_wrapper_subclass(cls, there.shape, dtype=there.dtype, device=FAR, **more)

    def __init__(self, there: Tensor) -> None:
        self.there = there

    def __repr__(self) -> str:
        return f"Far({self.there!r})"

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError("can't convert far:0 device type tensor to numpy. Use Tensor.cpu()")

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.there.__reduce_ex__(protocol)  # a file holds it as one of the CPU

    @classmethod
    def __torch_function__(cls, func: Callable, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu):  # each device has its own
            return tree_map(sent, func(*tree_map(fetched, args), **tree_map(fetched, kwargs or {})))
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return done(func, args, kwargs or {})


def fetched(value: Any) -> Any:
    return value.cpu() if isinstance(value, Far) else value


def sent(value: Any) -> Any:
    return value.to(FAR) if isinstance(value, Tensor) else value


def inner(value: Any) -> Any:
    return value.there if isinstance(value, Far) else CPU if value == FAR and isinstance(value, torch.device) else value


def done(func: Any, args: Any, kwargs: Any) -> Any:
    """The operation on the CPU, whose results are elsewhere if they belong there. Refuses tensors of two devices."""
    tensors = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
    far, near = ([value for value in tensors if isinstance(value, Far) is there] for there in (True, False))
    if func not in BETWEEN | BY_NUMBERS and far and any(value.dim() for value in near):
        raise RuntimeError(f"{func}: expected all tensors to be on the same device, but found far:0 and cpu")
    to = kwargs.get("device") or (FAR if far else CPU)
    graph = Graph.recording if far or to == FAR else None
    waits = func in WAITS or (func in BETWEEN | BY_NUMBERS and (bool(near) or to == CPU))
    if graph and (waits or (func in BY_NUMBERS and any(value.dtype is torch.bool for value in tensors[1:]))):
        raise RuntimeError(f"{func}: operation not permitted when stream is capturing")
    given, changes = {id(inner(value)): value for value in tensors}, func._schema.is_mutable
    operation = func, tree_map(inner, args), tree_map(inner, kwargs)
    results = _changed(func, args, kwargs) if graph and changes else operation[0](*operation[1], **operation[2])
    if graph:
        graph.operations.append((*operation, None if changes else results))
    if changes:  # tensors that are there
        return tree_map(lambda value: given.get(id(value), value), results)
    if to != FAR:
        return results
    view_of_usual = any(result.alias_info for result in func._schema.returns) and not far[0].is_inference()
    with torch.inference_mode(torch.is_inference_mode_enabled() and not view_of_usual):
        return tree_map(lambda value: Far(value) if isinstance(value, Tensor) else value, results)


def _changed(func: Any, args: Any, kwargs: Any) -> Any:
    """What an operation returns that changes its arguments, if it is not done."""
    values = dict(zip((argument.name for argument in func._schema.arguments), args, strict=False)) | kwargs
    found = [values[a.name] for a in func._schema.arguments if a.alias_info and a.alias_info.is_write]
    returns = func._schema.returns
    return None if not returns else found[0] if len(returns) == 1 else tuple(found)


class Graph:
    """In the place of a CUDA graph: the operations of a step, which are not done while they are recorded.

    A replay does them again with the same tensors and numbers, whatever Python's variables have become since.
    """

    recording: "Graph | None" = None
    made: "list[Graph]" = []

    def __init__(self) -> None:
        self.operations: list[tuple[Any, Any, Any, Any]] = []
        self.replays = 0
        Graph.made.append(self)

    def replay(self) -> None:
        self.replays += 1
        for func, args, kwargs, results in self.operations:
            again = func(*args, **kwargs)
            for old, new in zip(tree_leaves(results), tree_leaves(again), strict=False):
                if isinstance(old, Tensor):
                    old, new = (value if value.layout is torch.strided else value.values() for value in (old, new))
                    if old.data_ptr() != new.data_ptr():  # no view
                        old.copy_(new)


@contextmanager
def recording(graph: Graph) -> Iterator[None]:
    """In the place of `torch.cuda.graph`."""
    Graph.recording = graph
    try:
        yield
    finally:
        Graph.recording = None


# What makes a tensor of none; all other operations have one that is there.
MAKERS = "empty.memory_format empty_strided arange arange.start arange.start_step _sparse_csr_tensor_unsafe"
_library = torch.library.Library("aten", "IMPL", "PrivateUse1")
for _maker in MAKERS.split():
    _name, _, _overload = _maker.partition(".")
    _func = getattr(getattr(aten, _name), _overload or "default")
    _library.impl(_maker, lambda *args, _func=_func, **kwargs: done(_func, args, kwargs))


def takes_the_gpus_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then `trainer=gpu` is this device."""
    pick, lightning, load = parts.pick_device, train.lightning, torch.load

    def trainer_of(device: torch.device, **options: Any) -> Any:
        trainer = lightning(CPU, **options)
        if device == FAR:
            monkeypatch.setattr(trainer.strategy, "_root_device", FAR)
            monkeypatch.setattr(trainer.strategy.accelerator, "setup_device", lambda _: None)
        return trainer

    def loaded(*args: Any, map_location: Any = None, **kwargs: Any) -> Any:
        if map_location != FAR:
            return load(*args, map_location=map_location, **kwargs)
        return tree_map(sent, load(*args, map_location=CPU, **kwargs))

    monkeypatch.setattr(parts, "pick_device", lambda trainer: FAR if trainer.accelerator == "gpu" else pick(trainer))
    monkeypatch.setattr(train, "lightning", trainer_of)
    monkeypatch.setattr(torch, "load", loaded)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", recording)
    monkeypatch.setattr(Graph, "made", [])
    monkeypatch.setattr(torch.__future__, "_swap_module_params_on_conversion", True)  # Far has no data of its own to exchange
