"""Raises an exception at a chosen instruction of chosen files, as a signal handler may."""

from __future__ import annotations

import dis
import functools
import sys
from pathlib import Path

from torch.nn import Module

import warpspan

PACKAGE = Path(warpspan.__file__).parent


def files(*parts):
    """Names of files of the package, or of its folders."""
    return tuple(str(PACKAGE / part) for part in parts)


#: What runs on a caller's thread.
CALLERS = files(
    "api.py", "emit/emitter.py", "emit/spans.py", "guard.py", "hooks", "probes", "runtime"
)


class Instructions:
    """The instructions of a call, and how to be interrupted at each of them.

    An instruction is a code object and an offset in it; only the first time that it runs counts.

    Args:
        call: what runs.
        files: beginnings of the names of files whose instructions count.
    """

    def __init__(self, call, files=CALLERS):
        self._call = call
        self._files = files

    def all(self):
        """Those that the call reaches, in their order.

        Without those between the body of a `with` and the call of its `__exit__`, which load three
        constants: CPython delivers nothing there, and a lock that is taken would stay taken.
        """
        return [one for one in self._reached() if one[1] not in _exits(one[0])]

    def _reached(self):
        reached = {}

        def note(frame, event, _):
            if event == "opcode":
                reached.setdefault((frame.f_code, frame.f_lasti))

        self._run(note)
        return list(reached)

    def interrupt(self, instruction, error):
        """Run the call, and raise an error before an instruction.

        Returns:
            What came out of the call, and whether the instruction was reached.
        """
        reached = []

        def throw(frame, event, _):
            if event == "opcode" and (frame.f_code, frame.f_lasti) == instruction and not reached:
                reached.append(instruction)
                raise error

        try:
            self._run(throw)
        except BaseException as raised:
            raised.__traceback__ = None  # it keeps the frames alive
            return raised, bool(reached)
        return None, bool(reached)

    def _run(self, note):
        files = self._files

        def enter(frame, event, _):
            code = frame.f_code
            # The code of torch's own method has our instructions in it (`hooks/torch/call_code.py`).
            ours = code is Module._call_impl.__code__ or code.co_filename.startswith(files)
            if event != "call" or not ours:
                return None
            frame.f_trace_opcodes = True
            frame.f_trace_lines = False

            def local(frame, event, argument):
                note(frame, event, argument)
                return local

            return local

        before = sys.gettrace()
        sys.settrace(enter)
        try:
            self._call()
        finally:
            sys.settrace(before)


@functools.cache
def _exits(code):
    """Offsets of the instructions that lead from the body of a `with` to its `__exit__`."""
    found = set()
    instructions = list(dis.get_instructions(code))
    for number, one in enumerate(instructions):
        after = instructions[number : number + 5]
        constants = [each for each in after if each.opname in ("LOAD_CONST", "DUP_TOP")]
        if one.opname == "LOAD_CONST" and one.argval is None and after[:3] == constants[:3]:
            before = instructions[number - 1]
            if before.opname in ("SWAP", "ROT_TWO"):  # of a `return` in the body
                found.add(before.offset)
            for each in after:
                found.add(each.offset)
                if each.opname.startswith("CALL"):
                    break
    return frozenset(found)


def name(code):
    """The name of a function; with that of its class from Python 3.11 on."""
    return getattr(code, "co_qualname", code.co_name)


def missing(names, instructions):
    """Those of some functions that no instruction is in."""
    reached = {name(code) for code, _ in instructions}
    if sys.version_info < (3, 11):
        names = {one.rpartition(".")[2] for one in names}
    return set(names) - reached
