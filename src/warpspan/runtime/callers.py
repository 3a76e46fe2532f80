"""Methods of a module that call its parts: their module calls are one inference, the method's.

A user who writes `model.encode_text(x)` or `model.forward(x)` counts one inference, though torch sees
a call of each part. So the caller of an outermost call is looked at: where it is a method of a module
that holds what is called, the inference is opened for that method, and it ends when the method's frame
does. Nothing of the user's class is touched. In the usual case the caller is none; that is known by its
code object, at the price of one comparison.

A frame has no callback for its end, but it owns its variables. One more among them ends the inference
when it is freed with the frame.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import weakref
from types import CodeType, FrameType
from typing import Any

import torch

from warpspan.probes import clock
from warpspan.probes.inputs import Seen
from warpspan.probes.model import ModelInfo
from warpspan.runtime.steps import Call, StepScope
from warpspan.runtime.window import Window

#: The frames between `open_call` and the caller of a module, which is the one at this depth.
DEPTH = 4
#: A method that runs longer is a program's main loop: it ends, and its calls count by themselves.
LONGEST_NS = 120_000_000_000
_VARIABLE = "__warpspan__"
_FUNCTION = 0x1 | 0x2  # CO_OPTIMIZED and CO_NEWLOCALS: no module and no class body
_SUSPENDS = 0x20 | 0x80 | 0x200  # generators and coroutines: what is open would leak out of them
_TORCH = os.path.dirname(torch.__file__) + os.sep  # noqa: PTH120 - compared with names of code
_OURS = os.path.dirname(os.path.dirname(__file__)) + os.sep  # noqa: PTH120
# These run a program and not one inference.
_DRIVERS = frozenset(
    {"fit", "train", "evaluate", "validate", "test", "run", "main", "serve", "loop", "benchmark"}
)
# Functions that construct a model, and run a part of it to see what it gives.
_FACTORIES = frozenset({("torchvision.models.detection._utils", "retrieve_out_channels")})
# Until Python 3.12, what these give is the dict that we would write to.
_READS_LOCALS = frozenset({"locals", "vars", "dir", "eval", "exec"})
_LOCALS_ARE_SHARED = sys.version_info < (3, 13)
_LIMIT = 4096
_FRAMES = 8

_THROUGH, _METHOD, _CONSTRUCTOR, _OTHER, _PLAIN, _HELPER = range(6)


class Callers:
    """What is known of the code that calls modules. It keeps code objects alive, a few thousand."""

    def __init__(self) -> None:
        #: The code of the last caller that is no method of what it called.
        self.plain: CodeType | None = None
        self._kinds: dict[int, tuple[CodeType, int]] = {}

    def enclosing(self, frame: FrameType, model: ModelInfo, module: Any) -> Method | None:
        """The outermost method that the call of a module is in, if its object holds the module.

        Args:
            frame: of the caller.
            model: what is known of the module.
            module: what is called.
        """
        caller: FrameType | None = frame
        while caller is not None and self._kind(caller) == _THROUGH:
            caller = caller.f_back
        if caller is None or (kind := self._kind(caller)) == _PLAIN:
            if caller is frame:
                self.plain = frame.f_code
            return None
        found = None
        first, misses = caller, 0
        while caller is not None and misses < _FRAMES:
            known = self._kind(caller)
            if known == _CONSTRUCTOR and caller is first:
                return Method(caller, _first_argument(caller), constructs=True)
            if known == _PLAIN:
                break
            owner = _first_argument(caller) if known == _METHOD else None
            if (
                owner is not None
                and (owner is not module or caller.f_code.co_name != "__call__")
                and _holds(owner, model, module)
            ):
                found, misses = Method(caller, owner), 0
            else:
                misses += 1
            caller = caller.f_back
        if kind == _OTHER:
            self._note(first.f_code, _PLAIN if found is None else _HELPER)
        return found

    def give_up(self, code: CodeType) -> None:
        """Take what is called from this code for inferences of their own."""
        self._note(code, _PLAIN)

    def _kind(self, frame: FrameType) -> int:
        code = frame.f_code
        known = self._kinds.get(id(code))
        if known is not None:
            return known[1]
        return self._note(code, _classify(frame))

    def _note(self, code: CodeType, kind: int) -> int:
        if len(self._kinds) >= _LIMIT:
            self._kinds.clear()
        self._kinds[id(code)] = code, kind
        return kind


class Method:
    """A call of a method that runs now.

    Args:
        frame: of the call.
        owner: the module whose method it is.
        constructs: it is the constructor.
    """

    __slots__ = ("constructs", "frame", "owner")

    def __init__(
        self, frame: FrameType, owner: torch.nn.Module, *, constructs: bool = False
    ) -> None:
        self.frame = frame
        self.owner = owner
        self.constructs = constructs

    @property
    def operation(self) -> str:
        """What the method does: its name."""
        name = self.frame.f_code.co_name
        return "forward" if name == "__call__" else name


class MethodWindow(Window):
    """The inference that a method of a module is; it ends with the method's frame."""

    #: The frame's id, valid as long as the frame has our variable.
    _frame_id = 0
    _code: CodeType | None = None
    _thread_id = 0

    def follow(self, frame: FrameType) -> None:
        """End when a frame does."""
        self._frame_id = id(frame)
        self._code = frame.f_code
        self._thread_id = threading.get_ident()
        variables = frame.f_locals
        if _LOCALS_ARE_SHARED:  # a copy, which would keep all it names until the frame ends
            variables.clear()
        variables[_VARIABLE] = _Ended(self)

    def step(
        self, model: ModelInfo | None, seen: Seen | None, call: Call | None = None
    ) -> StepScope:
        """Open a step; an error that leaves it ends the window."""
        del call
        self.identify(model, seen)
        return _MethodStep(self)

    def has_left(self, callers: Callers | None) -> bool:
        """Whether its method is no longer running: an exception may keep the frame beyond its end."""
        if threading.get_ident() != self._thread_id:
            return False
        if clock.host_ns() - self.began_ns > LONGEST_NS and callers is not None and self._code:
            callers.give_up(self._code)
            return True
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            if id(frame) == self._frame_id:
                return False
            frame = frame.f_back
        return True


class _MethodStep(StepScope):
    __slots__ = ("_error", "_window")

    def __init__(self, window: MethodWindow) -> None:
        self._window = window
        self._error: BaseException | None = None
        super().__init__(window.steps)

    def fail(self, error: BaseException) -> None:
        """Remember it until the step is closed."""
        self._error = error

    def close(self) -> None:
        """End the step, and the window with it where it failed: the traceback keeps the frame."""
        super().close()
        error, self._error = self._error, None
        if error is not None:
            self._window.fail(error)
            self._window.close()


class _Ended:
    """A variable of a method that ends the inference when it is freed."""

    __slots__ = ("_window",)

    def __init__(self, window: MethodWindow) -> None:
        self._window = window

    def __del__(self) -> None:
        try:
            self._window.close()
        except BaseException as error:  # a signal's: Python would print it here and go on
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(threading.get_ident()), ctypes.py_object(type(error))
            )


def _classify(frame: FrameType) -> int:
    code = frame.f_code
    name = code.co_name
    if name == "<module>" or code.co_flags & _FUNCTION != _FUNCTION:
        return _PLAIN
    if name.startswith("<") or code.co_filename.startswith(_OURS):  # a comprehension, a lambda
        return _THROUGH
    if (frame.f_globals.get("__name__"), name) in _FACTORIES:
        return _CONSTRUCTOR
    if _LOCALS_ARE_SHARED and not _READS_LOCALS.isdisjoint(code.co_names):
        return _OTHER
    owner = _first_argument(frame)
    # The code of a graph is not what a user wrote: Dynamo's calls the modules of its function.
    is_module = isinstance(owner, torch.nn.Module) and not isinstance(owner, torch.fx.GraphModule)
    if is_module and _is_method(type(owner), code):
        if name == "__init__":
            return _CONSTRUCTOR
        return _OTHER if code.co_flags & _SUSPENDS or name in _DRIVERS else _METHOD
    return _THROUGH if code.co_filename.startswith(_TORCH) else _OTHER


def _first_argument(frame: FrameType) -> Any:
    code = frame.f_code
    if not code.co_argcount:
        return None
    values = frame.f_locals
    first = values.get(code.co_varnames[0])
    if _LOCALS_ARE_SHARED:  # a copy, which would keep all it names until the frame ends
        ended = values.get(_VARIABLE)
        values.clear()
        if ended is not None:
            values[_VARIABLE] = ended
    return first


def _is_method(owner: type, code: CodeType) -> bool:
    """Whether a class defines this code as a method. What torch's base class defines is none."""
    for base in owner.__mro__:
        if base is torch.nn.Module:
            return False
        function = vars(base).get(code.co_name)
        while function is not None:
            if getattr(function, "__code__", None) is code:
                return True
            function = getattr(function, "__wrapped__", None) or getattr(function, "__func__", None)
    return False


def _holds(owner: torch.nn.Module, model: ModelInfo, module: torch.nn.Module) -> bool:
    """Whether a module has another one in it, or is it; looked up once for the two."""
    if "_is_replica" in owner.__dict__:  # a part of a call of DataParallel
        return False
    known = model.holder
    if known is None or known[0]() is not owner:
        holds = any(child is module for child in owner.modules())
        known = model.holder = weakref.ref(owner), holds
    return known[1]
