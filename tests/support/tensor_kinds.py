"""Tensors of every kind, and all that can be asked of one that we patch."""

from __future__ import annotations

import copy
import operator
import pickle
from typing import ClassVar

import numpy as np
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

METHODS = (
    *("item", "cpu", "tolist", "numpy", "nonzero", "to", "cuda", "copy_", "pin_memory"),
    *("__bool__", "__int__", "__float__", "__index__", "__array__", "__contains__"),
    *("type", "double", "half", "clone", "detach"),
)
FUNCTIONS = {
    "synchronize": (torch.cuda, "synchronize"),
    "Stream.synchronize": (torch.cuda.Stream, "synchronize"),
    "Event.synchronize": (torch.cuda.Event, "synchronize"),
    "Module.to": (nn.Module, "to"),
    "Module.cuda": (nn.Module, "cuda"),
    "Module.cpu": (nn.Module, "cpu"),
    "accelerator": (getattr(torch, "accelerator", torch.cuda), "synchronize"),
    "nonzero": (torch, "nonzero"),
}
# Before anything is instrumented: what users may have kept, and key their own tables by.
ORIGINALS = {name: getattr(torch.Tensor, name) for name in METHODS}
NAMES = {function: name for name, function in ORIGINALS.items()}


class Plain(torch.Tensor):
    """A subclass that overrides nothing."""


class Overriding(torch.Tensor):
    """Notes what it is asked for, and knows torch's functions by what they are."""

    log: ClassVar = []

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        cls.log.append(NAMES.get(func, getattr(func, "__name__", repr(func))))
        return super().__torch_function__(func, types, args, kwargs)


class Handling(torch.Tensor):
    """Answers some functions itself, found as users find them."""

    handlers: ClassVar = {
        ORIGINALS["item"]: lambda tensor: "answered",
        ORIGINALS["cpu"]: lambda tensor: 17,
    }

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func in cls.handlers:
            return cls.handlers[func](*args)
        return super().__torch_function__(func, types, args, kwargs)


class Wrapping:
    """No tensor at all, but something that overrides."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        return NAMES.get(func, getattr(func, "__name__", None)), len(args)


def quantized():
    return torch.quantize_per_tensor(torch.tensor([1.0, 2.0]), 0.5, 0, torch.quint8)


def inference():
    with torch.inference_mode():
        return torch.tensor([2.0])


def nested():
    return torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])


def jagged():
    parts = [torch.ones(2, 2), torch.ones(3, 2)]
    return torch.nested.nested_tensor(parts, layout=torch.jagged)


def fake(values):
    return FakeTensorMode().from_tensor(values)


KINDS = {
    "float": lambda: torch.tensor(2.0),
    "int": lambda: torch.tensor([3]),
    "bool": lambda: torch.tensor(True),
    "complex": lambda: torch.tensor(1 + 2j),
    "conjugate": lambda: torch.tensor([1 + 2j]).conj(),
    "bfloat16": lambda: torch.tensor(2.0, dtype=torch.bfloat16),
    "vector": lambda: torch.tensor([1.0, 0.0, 2.0]),
    "matrix": lambda: torch.arange(6.0).reshape(2, 3),
    "transposed": lambda: torch.arange(6.0).reshape(2, 3).t(),
    "expanded": lambda: torch.ones(1, 3).expand(2, 3),
    "image": lambda: torch.ones(1, 2, 2, 2),
    "empty": lambda: torch.zeros(0, 3),
    "leaf": lambda: torch.tensor([2.0], requires_grad=True),
    "inner": lambda: torch.tensor([2.0], requires_grad=True) * 2,
    "inference": inference,
    "parameter": lambda: nn.Parameter(torch.tensor([2.0])),
    "buffer": lambda: nn.UninitializedBuffer(),
    "plain subclass": lambda: torch.tensor([2.0]).as_subclass(Plain),
    "overriding": lambda: torch.tensor([2.0]).as_subclass(Overriding),
    "handling": lambda: torch.tensor([2.0]).as_subclass(Handling),
    "wrapping": Wrapping,
    "sparse": lambda: torch.eye(2).to_sparse(),
    "compressed": lambda: torch.eye(2).to_sparse_csr(),
    "quantized": quantized,
    "nested": nested,
    "jagged": jagged,
    "meta": lambda: torch.ones(2, device="meta"),
    "fake": lambda: fake(torch.ones(1)),
    "no tensor": lambda: [1.0],
}
CALLS = {
    "item": lambda t: torch.Tensor.item(t),
    "item of": lambda t: t.item(),
    "numpy too much": lambda t: t.numpy(1),
    "cpu": lambda t: t.cpu(),
    "cpu format": lambda t: t.cpu(memory_format=torch.channels_last),
    "tolist": lambda t: t.tolist(),
    "numpy": lambda t: t.numpy(),
    "numpy force": lambda t: t.numpy(force=True),
    "nonzero": lambda t: t.nonzero(),
    "nonzero tuple": lambda t: t.nonzero(as_tuple=True),
    "torch.nonzero": lambda t: torch.nonzero(t),
    "bool": bool,
    "int": int,
    "float": float,
    "complex": complex,
    "index": operator.index,
    "subscript": lambda t: [1, 2, 3, 4][t],
    "round": lambda t: round(t),
    "format": lambda t: f"{t:.1f}",
    "condition": lambda t: 1 if t else 0,
    "array": np.asarray,
    "array of": lambda t: np.asarray(t, dtype="float32"),
    "__array__": lambda t: t.__array__(np.float64),
    "contains": lambda t: 2.0 in t,
    "contains text": lambda t: "a" in t,
    "contains tensor": lambda t: torch.tensor(2.0) in t,
    "iterate": lambda t: list(t),
    "repr": repr,
    "to nothing": lambda t: t.to(),
    "to device": lambda t: t.to("cpu"),
    "to dtype": lambda t: t.to(torch.float64),
    "to both": lambda t: t.to("cpu", torch.float64, True),
    "to words": lambda t: t.to(device=torch.device("cpu"), dtype=torch.half, non_blocking=True),
    "to other": lambda t: t.to(torch.ones(1, dtype=torch.float64)),
    "to copy": lambda t: t.to("cpu", copy=True),
    "to itself": lambda t: t.to("cpu") is t,
    "to meta": lambda t: t.to("meta"),
    "to format": lambda t: t.to(memory_format=torch.channels_last),
    "to nonsense": lambda t: t.to("nonsense"),
    "to too much": lambda t: t.to("cpu", 1, 2, 3, 4, 5),
    "to unknown": lambda t: t.to(nonsense=1),
    "cuda": lambda t: t.cuda(),
    "cuda of": lambda t: t.cuda("nonsense"),
    "to cuda": lambda t: t.to("cuda"),
    "copy": lambda t: t.copy_(torch.ones(1)),
    "copy self": lambda t: t.copy_(t),
    "copy async": lambda t: t.copy_(torch.ones(1, dtype=torch.float64), non_blocking=True),
    "copy from": lambda t: torch.zeros(3).copy_(t),
    "copy wrong": lambda t: t.copy_(torch.ones(7, 7)),
    "copy nonsense": lambda t: t.copy_("nonsense"),
    "pin": lambda t: t.pin_memory(),
    "pin of": lambda t: t.pin_memory("cpu"),
    "is pinned": lambda t: t.is_pinned(),
    "type": lambda t: t.type(torch.float64),
    "deepcopy": copy.deepcopy,
    "pickle": lambda t: pickle.loads(pickle.dumps(t)),
    "bound": lambda t: (t.item.__name__, t.item.__self__ is t, t.to.__self__ is t),
    "vmap": lambda t: torch.vmap(lambda x: x.to(torch.float64) + x.cpu())(t),
    "vmap item": lambda t: torch.vmap(lambda x: x.item())(t),
    "vmap bool": lambda t: torch.vmap(lambda x: x if x else -x)(t),
    "vmap copy": lambda t: torch.vmap(lambda x: torch.zeros_like(x).copy_(x))(t),
    "vmap nonzero": lambda t: torch.vmap(lambda x: x.nonzero())(t),
    "grad": lambda t: torch.func.grad(lambda x: x.to(torch.float64).cpu().sum())(t),
    "grad item": lambda t: torch.func.grad(lambda x: x.sum() * x.sum().item())(t),
    "jvp": lambda t: torch.func.jvp(lambda x: x.to(torch.float64), (t,), (t,)),
    "functional": lambda t: torch.func.functionalize(lambda x: x.clone().copy_(x).to("cpu"))(t),
    "backward": lambda t: torch.autograd.grad(t.to(torch.float64).cpu().sum(), t),
}
