"""The model of an inference: what must be known at once, and what the finisher counts later."""

from __future__ import annotations

import functools
import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch

from warpspan import guard
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
        "_dtype",
        "_facts",
        "_hidden",
        "cache_looks",
        "compiled",
        "device",
        "exports",
        "has_state",
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
        self.device = torch.device("cpu") if anchor is None else anchor.device
        self.has_state = anchor is not None or _has_packed_state(inner)
        self.exports = _is_exporter(module)
        # The tracker's own notes, kept here so that it need not look them up for each call:
        # why calls are not recorded, where they run, the name and attributes of their spans.
        self.skip_reason: SkipReason | None = None
        self.recorded = True
        self.runtime_device: Any = None
        self.start: tuple[str, dict[str, Any]] | None = None
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
        if self._anchor is None:
            return _first_tensor(module) is None
        anchor = self._anchor()
        if self._hidden:
            with Unseen():
                return self._is_where_it_was(anchor)
        return anchor is not None and anchor.device == self.device and anchor.dtype == self._dtype

    def _is_where_it_was(self, anchor: torch.Tensor | None) -> bool:
        return anchor is not None and anchor.device == self.device and anchor.dtype == self._dtype

    def facts(self) -> Model:
        """The model's facts, counted on the first call. Runs on the finisher's thread."""
        if self._facts is None:
            self._facts = Model(self.name, compiled=self.compiled)
            module = self.module()
            if module is not None:
                try:
                    self._facts = _count(self._facts, module)
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


def _class_name(module: torch.nn.Module) -> str:
    if isinstance(module, torch.jit.ScriptModule):
        return str(getattr(module, "original_name", type(module).__name__))
    return type(module).__name__


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
    """Frozen script modules and dynamically quantized ones keep weights that are no parameters."""
    return isinstance(module, torch.jit.ScriptModule) or any(
        type(child).__module__.startswith(_AO_QUANTIZED) for child in module.modules()
    )


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
