"""A device that is none, `far:0`: its tensors lie in the CPU's memory and say that they are elsewhere.

What a GPU refuses is refused here too: an operation on tensors of two devices, numpy's view of a tensor that is elsewhere. So a
machine without a GPU can try what runs on one, and see where it waits for the device (`waits`). The numbers are the CPU's, and
so are the sparse products: it says nothing of CUDA's own kernels, nor of speed.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from inn_lab import parts
from inn_lab.studies import train

_setup_privateuseone_for_python_backend("far")
torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(…, device=FAR) makes it here and sends it
FAR = torch.device("far", 0)
CPU = torch.device("cpu")
aten = torch.ops.aten

BETWEEN = {aten._to_copy.default, aten.copy_.default}  # from one device to another
BY_NUMBERS = {aten.index.Tensor, aten.index_put_.default, aten._index_put_impl_.default}  # which the CPU may hold
WAITS = {aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default, aten.unique_dim.default}
waited: list[str] = []


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
        waited.append("tolist")
        return self.there.tolist()

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
    far = [value for value in tensors if isinstance(value, Far)]
    if func not in BETWEEN | BY_NUMBERS and far and any(value.dim() for value in tensors if not isinstance(value, Far)):
        raise RuntimeError(f"{func}: expected all tensors to be on the same device, but found far:0 and cpu")
    if func in WAITS or (func is aten._to_copy.default and far and kwargs.get("device") == CPU):
        waited.append(str(func))
    results = func(*tree_map(inner, args), **tree_map(inner, kwargs))
    if func._schema.is_mutable:  # a tensor that is there
        given = {id(inner(value)): value for value in tensors}
        return tree_map(lambda value: given.get(id(value), value), results)
    if (kwargs.get("device") or (FAR if far else CPU)) != FAR:
        return results
    view_of_usual = any(result.alias_info for result in func._schema.returns) and not far[0].is_inference()
    with torch.inference_mode(torch.is_inference_mode_enabled() and not view_of_usual):
        return tree_map(lambda value: Far(value) if isinstance(value, Tensor) else value, results)


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
    monkeypatch.setattr(torch.__future__, "_swap_module_params_on_conversion", True)  # Far has no data of its own to exchange
