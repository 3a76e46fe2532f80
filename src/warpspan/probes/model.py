"""The model of an inference: what must be known at once, and what the finisher counts later."""

from __future__ import annotations

import functools
import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch

from warpspan import guard
from warpspan.probes.layout import UNKNOWN, Layout, layout_of
from warpspan.probes.unseen import Unseen
from warpspan.records import Model
from warpspan.records.skips import SkipReason

# Wrappers by the attribute that holds the model that the user wrote.
_WRAPPERS = {
    "OptimizedModule": "_orig_mod",
    "DistributedDataParallel": "module",
    "FullyShardedDataParallel": "module",
    "DataParallel": "module",
}
# Then a model that neither took nor returned a KV cache is taken for one without.
_CACHE_LOOKS = 4
# fully_shard() and replicate() give a model a class made of one of these and its own.
_SHARDED = frozenset({"FSDPModule", "FSDP", "DDP", "ReplicateModule"})
# A compiled engine in the place of parameters.
_ENGINES = "torch_tensorrt"
_AO_QUANTIZED = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized", "torch.nn.quantized")
_QUANTIZED_DTYPES = ("int8", "uint8", "qint8", "quint8", "float8", "float4", "int4", "uint4")


class ModelInfo:
    """A model that was seen: its name and device, and its facts once the finisher counted them.

    Args:
        module: the outermost module; only weakly held.
        forget: called when the module is gone.
    """

    __slots__ = (
        "__weakref__",
        "_anchor",
        "_anchor_device",
        "_dtype",
        "_facts",
        "_hidden",
        "_offload_hook",
        "cache_looks",
        "compiled",
        "device",
        "exports",
        "has_state",
        "holder",
        "is_leaf",
        "layout",
        "library",
        "module",
        "name",
        "recorded",
        "runtime_device",
        "skip_reason",
        "start",
    )

    def __init__(self, module: torch.nn.Module, forget: Callable[[Any], object]) -> None:
        #: The module, or None when it is gone.
        self.module = weakref.ref(module, forget)
        inner = unwrap(module)
        self.name = _class_name(inner)
        self.library = type(inner).__module__.partition(".")[0]
        self.layout = _layout(inner)
        self.compiled = _is_compiled(module)
        anchor = _first_tensor(module)
        # Its class would see what is read of it.
        kind: Any = type(anchor)
        self._hidden = (
            anchor is not None
            and kind.__torch_function__ is not torch._C._disabled_torch_function_impl
            and kind is not torch.Tensor
        )
        self._anchor = None if anchor is None else weakref.ref(anchor)
        self._dtype = None if anchor is None else anchor.dtype
        self._anchor_device = None if anchor is None else anchor.device
        hook, device = _offload(module, self._anchor_device)
        self._offload_hook = None if hook is None else weakref.ref(hook)
        self.device = device or self._anchor_device or _engine_device(inner)
        self.has_state = anchor is not None or _has_packed_state(inner)
        #: Whether it holds no other module that one can see.
        self.is_leaf = self.has_state or not _holds_modules(inner)
        self.exports = _is_exporter(module)
        # The tracker's own notes, kept here so that it need not look them up for each call:
        # why calls are not recorded, where they run, the name and attributes of their spans.
        self.skip_reason: SkipReason | None = None
        self.recorded = True
        self.runtime_device: Any = None
        self.start: tuple[str, dict[str, Any]] | None = None
        # The module whose method called it last, and whether it is in that module.
        self.holder: tuple[weakref.ref[torch.nn.Module], bool] | None = None
        # How many more of its calls are searched for a KV cache.
        self.cache_looks = _CACHE_LOOKS
        self._facts: Model | None = None

    def is_current(self, module: torch.nn.Module) -> bool:
        """Whether this still describes the module: same object, first parameter where it was.

        `module.compile()` changes it in place, too.
        """
        if self.module() is not module or (
            module._compiled_call_impl is not None and not self.compiled
        ):
            return False
        if self._offload_hook is not None:  # the parameters come and go with each call
            hook = self._offload_hook()
            return hook is not None and hook is module.__dict__.get("_hf_hook")
        if self._anchor is None:
            return _first_tensor(module) is None
        anchor = self._anchor()
        if self._hidden:
            with Unseen():
                return self._is_where_it_was(anchor, module)
        return self._is_where_it_was(anchor, module)

    def _is_where_it_was(self, anchor: torch.Tensor | None, module: torch.nn.Module) -> bool:
        return (
            anchor is not None
            and anchor.device == self._anchor_device
            and anchor.dtype is self._dtype
            and "_hf_hook" not in module.__dict__
        )

    @property
    def is_transparent(self) -> bool:
        """Whether a call is asked about module by module inside: it is no inference itself."""
        return self.skip_reason is SkipReason.PARAMETERLESS

    def facts(self) -> Model:
        """The model's facts, counted on the first call. Runs on the finisher's thread."""
        if self._facts is None:
            self._facts = Model(self.name, compiled=self.compiled)
            module = self.module()
            if module is not None:
                try:
                    self._facts = _count(self._facts, module)
                    if self._offload_hook is not None:  # where weights are now says nothing
                        self._facts = self._facts._replace(device_count=None)
                except Exception as error:
                    guard.caught("model facts", error)
        return self._facts


class ModelRegistry:
    """The models seen in this process. Dead ones are forgotten, none is kept alive.

    Args:
        skip_reason: says of a new model why its calls are not recorded, None where they are.
    """

    def __init__(self, skip_reason: Callable[[ModelInfo], SkipReason | None]) -> None:
        self._skip_reason = skip_reason
        self._infos: dict[int, ModelInfo] = {}

    def model_info(self, module: torch.nn.Module) -> ModelInfo:
        """What is known of a module, looked at anew when it was moved, cast or replaced."""
        key = id(module)
        model_info = self._infos.get(key)
        if model_info is None or not model_info.is_current(module):
            # In C: what a signal handler raises in a weak reference's callback would be lost.
            with Unseen():
                model_info = ModelInfo(module, functools.partial(self._infos.pop, key))
            model_info.skip_reason = self._skip_reason(model_info)
            model_info.recorded = model_info.skip_reason is None
            if model_info.skip_reason is not SkipReason.CONSTRUCTION:  # which ends
                self._infos[key] = model_info
        return model_info

    def forget(self) -> None:
        """Look at every model anew, as in a forked child."""
        self._infos.clear()


def unwrap(module: torch.nn.Module) -> torch.nn.Module:
    """The model inside torch.compile's and the data-parallel wrappers."""
    while (attribute := _WRAPPERS.get(type(module).__name__)) is not None:
        inner = getattr(module, attribute, None)
        if not isinstance(inner, torch.nn.Module):
            break
        module = inner
    return module


def is_training(module: torch.nn.Module) -> bool:
    """Whether it is in training mode."""
    # torch.compile's wrapper does not follow when the model inside is put into evaluation mode.
    model = unwrap(module)
    # A frozen script module has no mode. An exported program is always in training mode, and its
    # eval() is made to raise.
    return getattr(model, "training", False) and "eval" not in model.__dict__


def _layout(module: torch.nn.Module) -> Layout:
    if "_modules" not in vars(module) and not isinstance(module, torch.jit.ScriptModule):
        return UNKNOWN  # its `__init__` was not called, and its call will say so
    try:
        return layout_of(module)
    except Exception as error:  # an attribute of the user's may do anything
        guard.caught("input", error)
        return UNKNOWN


def _class_name(module: torch.nn.Module) -> str:
    if isinstance(module, torch.jit.ScriptModule):
        return str(getattr(module, "original_name", type(module).__name__))
    kind = type(module)
    bases = kind.__bases__
    if (
        len(bases) == 2
        and bases[0].__name__ in _SHARDED
        and kind.__name__.endswith(bases[1].__name__)
    ):
        return bases[1].__name__
    return kind.__name__


def _is_compiled(module: torch.nn.Module) -> bool:
    while True:
        if type(module).__name__ == "OptimizedModule" or module._compiled_call_impl is not None:
            return True
        inner = unwrap(module)
        if inner is module:
            return False
        module = inner


def _is_exporter(module: torch.nn.Module) -> bool:
    """Whether it is what torch.export calls in old versions of torch: the call traces only."""
    context = getattr(module, "dynamo_ctx", None) if _is_compiled(module) else None
    return bool(getattr(context, "export", False))


def _first_tensor(module: torch.nn.Module) -> torch.Tensor | None:
    first = next(iter(module.parameters()), None)
    return first if first is not None else next(iter(module.buffers()), None)


def _has_packed_state(module: torch.nn.Module) -> bool:
    """Whether weights are in it that are no parameters.

    Frozen script modules, dynamically quantized ones and compiled engines keep such, also where
    they are a part of it.
    """
    return any(
        isinstance(child, torch.jit.ScriptModule)
        or type(child).__module__.startswith((*_AO_QUANTIZED, _ENGINES))
        or any(isinstance(value, torch.ScriptObject) for value in vars(child).values())
        for child in module.modules()
    )


def _engine_device(module: torch.nn.Module) -> torch.device:
    """Where a module without parameters runs: engines on the current CUDA device."""
    if torch.cuda.is_initialized() and any(
        type(child).__module__.startswith(_ENGINES) for child in module.modules()
    ):
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def _holds_modules(module: torch.nn.Module) -> bool:
    return next(module.children(), None) is not None or any(
        isinstance(value, torch.nn.Module)
        or (
            isinstance(value, (list, tuple))
            and any(isinstance(item, torch.nn.Module) for item in value)
        )
        or (
            isinstance(value, dict)
            and any(isinstance(item, torch.nn.Module) for item in value.values())
        )
        for name, value in vars(module).items()
        if name != "_modules"
    )


def _offload(
    module: torch.nn.Module, found_on: torch.device | None
) -> tuple[Any, torch.device | None]:
    """The hook of accelerate that brings the weights of a module for each call, and to where.

    Args:
        module: the module.
        found_on: where its first parameter is now: on `meta`, if the weights are offloaded.
    """
    top = vars(module).get("_hf_hook")
    if top is None or found_on is None:
        return None, None
    device = _execution_device(top)
    if device is None and found_on.type == "meta":  # offloaded part by part
        parts = (vars(child).get("_hf_hook") for child in module.modules())
        device = next(filter(None, map(_execution_device, parts)), None)
    return top, device


def _execution_device(hook: Any) -> torch.device | None:
    # A sequence of hooks has those.
    for one in getattr(hook, "hooks", (hook,)):
        wanted = getattr(one, "execution_device", None)
        if wanted is not None:
            device = torch.device(wanted)
            if device.type == "cuda":
                torch.cuda.init()  # the call does so in a moment, to bring the weights
                if device.index is None:
                    return torch.device("cuda", torch.cuda.current_device())
            return device
    return None


def _count(known: Model, module: torch.nn.Module) -> Model:
    elements = 0
    by_dtype: Counter[torch.dtype] = Counter()
    devices = set()
    for parameter in module.parameters():
        size = parameter.numel()
        elements += size
        by_dtype[parameter.dtype] += size * parameter.element_size()
        devices.add(parameter.device)
    if not by_dtype:
        return known._replace(quantization=_quantization(unwrap(module), None))
    dtype = str(by_dtype.most_common(1)[0][0]).removeprefix("torch.")
    return known._replace(
        parameter_count=elements,
        parameter_bytes=by_dtype.total(),
        dtype=dtype,
        quantization=_quantization(unwrap(module), dtype),
        device_count=len(devices),
    )


def _quantization(module: torch.nn.Module, dtype: str | None) -> str | None:
    # transformers and diffusers put it in their config; the value is an enum or a string.
    config = getattr(getattr(module, "config", None), "quantization_config", None)
    if config is not None:
        method = config.get("quant_method") if isinstance(config, dict) else None
        method = method or getattr(config, "quant_method", None)
        if method is not None:
            return str(getattr(method, "value", method))
    for child in module.modules():
        package = type(child).__module__
        if package.startswith(_AO_QUANTIZED):
            return "torch.ao"
        if package.startswith("bitsandbytes"):
            return "bitsandbytes"
    if dtype is not None and dtype.startswith(_QUANTIZED_DTYPES):
        return dtype
    return None
