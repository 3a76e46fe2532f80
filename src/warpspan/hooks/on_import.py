"""Something to do once the program has imported a module, which can be called off.

wrapt keeps what it was given until the module is imported. It knows one function of this file for
each module that was ever waited for, and that function knows who waits now. Needs no torch.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import ModuleType

from wrapt import register_post_import_hook

from warpspan import guard

# Re-entrant: what is called at an import may wait for further ones.
_lock = threading.RLock()
_waiting: dict[str, list[OnImport]] = {}
_registered: set[str] = set()


class OnImport:
    """Calls a function with a module at the module's import, at once where it is imported already.

    Args:
        name: of the module.
        call: called at most once. What it raises is counted and does not reach the import.
    """

    def __init__(self, name: str, call: Callable[[ModuleType], None]) -> None:
        self._name = name
        self._call: Callable[[ModuleType], None] | None = call
        with _lock:
            _waiting.setdefault(name, []).append(self)
            first = name not in sys.modules and name not in _registered
            if first:
                _registered.add(name)
        # Outside of the lock: what is called may import, and an import may come here.
        if name in sys.modules:
            _imported(name, sys.modules[name])
        if first:
            register_post_import_hook(_loaded, name)

    def cancel(self) -> None:
        """Don't call it any more."""
        self._call = None
        with _lock:
            waiting = _waiting.get(self._name, [])
            if self in waiting:
                waiting.remove(self)
                if not waiting:
                    del _waiting[self._name]

    def _run(self, module: ModuleType) -> None:
        call, self._call = self._call, None
        if call is not None:
            try:
                call(module)
            except Exception as error:
                guard.caught("import hook", error)


def _loaded(module: ModuleType) -> None:
    """Called by wrapt, which has forgotten it by then."""
    _registered.discard(module.__name__)
    _imported(module.__name__, module)


def _imported(name: str, module: ModuleType) -> None:
    with _lock:
        waiting = _waiting.pop(name, [])
    for one in waiting:
        one._run(module)
