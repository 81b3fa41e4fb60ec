"""Pickles as data: an interpreter of the few instructions that a dictionary of tensors or arrays needs.

Nothing is imported and nothing of the file's is called: a global is looked up in the
caller's own table or refused by its name. Memory and time are bounded by the number
of instructions, none of which makes more than a small object of the bytes it has.
"""

from __future__ import annotations

import pickle
import pickletools
import struct
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from inception.files.errors import ResourceLimit, UnsafeFile
from inception.files.tensor import damaged
from inception.files.tensorflow.wire import text

_STOP = ord(".")
_MOST_INSTRUCTIONS = 300_000  # a state_dict has 30,000, a training checkpoint 100,000


_WEIGHTS = ("weights", "save model.state_dict() alone, in torch")


class Built:
    """An object of a pickle that takes a state after it was made, as only such ones do: here, its attributes."""

    attributes: Mapping[Any, Any] = MappingProxyType({})

    def build(self, state: Any) -> bool:
        """Takes the state; False for one that is not of the kind."""
        if isinstance(state, dict):
            self.attributes = state
        return isinstance(state, dict)


class State(dict[Any, Any], Built):
    """An `OrderedDict` of a pickle, with the attributes it was given."""


class Record(Built):
    """An object of a class that is unknown here: its attributes, and nothing that it could do."""

    def __init__(self, *_: Any) -> None:
        pass


class Unpickler:
    """Runs one pickle after the other from `data`; `position` is behind the last one.

    Attributes:
        allowed: {"collections.OrderedDict": what stands for it}; a function there is one that the pickle may call.
        persistent: makes the object of a persistent id.
        expected: what the file should hold, and the advice where it holds more.
        records: objects of a TorchScript program's own classes become `Record`s.

    Raises:
        UnsafeFile: For any other global or instruction.
        CorruptFile: For damage.
    """

    def __init__(
        self,
        data: bytes | memoryview,
        allowed: Mapping[str, Any],
        persistent: Callable[[Any], Any],
        where: str,
        records: bool = False,
        expected: tuple[str, str] = _WEIGHTS,
    ) -> None:
        self.position = 0
        self._left = _MOST_INSTRUCTIONS
        self._data = memoryview(data)
        self._allowed = allowed
        self._persistent = persistent
        self._where = where
        self._what, self._advice = expected
        self._records = records

    def load(self) -> Any:
        """The object of the pickle at `position`."""
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []  # the stacks that marks have put aside
        self._memo: dict[int, Any] = {}
        while (code := self._take(1)[0]) != _STOP:
            self._left -= 1
            if code not in _INSTRUCTIONS or not self._left:
                raise self._refused(code)
            _INSTRUCTIONS[code](self)
        result = self._pop()
        if self._stack or self._below:
            raise self._damaged("stops with objects left over")
        return result

    # ---- bytes, stack, errors

    def _take(self, size: int) -> memoryview:
        taken = self._data[self.position : self.position + size]
        if len(taken) != size:
            raise self._damaged("ends in the middle, or is too long")
        self.position += size
        return taken

    def _number(self, size: int) -> int:
        return int.from_bytes(self._take(size), "little")

    def _text(self, size: int) -> str:
        return text(self._take(size), self._where)

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _pop(self, *kinds: type) -> Any:
        if not self._stack or (kinds and not isinstance(self._stack[-1], kinds)):
            raise self._damaged("takes an object that is not there")
        return self._stack.pop()

    def _top(self, kind: type) -> Any:
        self._push(value := self._pop(kind))
        return value

    def _since_mark(self) -> list[Any]:
        if not self._below:
            raise self._damaged("has no mark where one is needed")
        values, self._stack = self._stack, self._below.pop()
        return values

    def _damaged(self, found: str) -> Exception:
        return damaged(self._where, f"the pickle {found} (at byte {self.position})")

    def _refused(self, code: int) -> Exception:
        if not self._left:
            return ResourceLimit(f"{self._where}: the pickle is too long for {self._what}; {self._advice}.")
        known = _KNOWN.get(code)
        if known is None:
            return self._damaged(f"has the unknown instruction {code}")
        return UnsafeFile(
            f"{self._where}: the pickle uses the instruction {known}, which {self._what} do not need; {self._advice}."
        )

    # ---- instructions

    def _proto(self) -> None:
        self._take(1)

    def _frame(self) -> None:
        if self._number(8) > len(self._data) - self.position:
            raise self._damaged("has a frame that ends outside")

    def _mark(self) -> None:
        self._below.append(self._stack)
        self._stack = []

    def _tuple(self) -> None:
        values = self._since_mark()
        self._push(tuple(values))

    def _tuple_of(self, size: int) -> None:
        values = [self._pop() for _ in range(size)]
        self._push(tuple(reversed(values)))

    def _append(self) -> None:
        value = self._pop()
        self._top(list).append(value)

    def _appends(self) -> None:
        values = self._since_mark()
        self._top(list).extend(values)

    def _set(self, target: dict[Any, Any], keys: list[Any], values: list[Any]) -> None:
        if len(keys) != len(values):
            raise self._damaged("sets a key without a value")
        for key, value in zip(keys, values, strict=True):
            if not isinstance(key, str | int):
                raise self._damaged("has a key that is neither text nor number")
            if key in target:
                raise self._damaged(f"sets the key {str(key)[:100]!r} twice")
            target[key] = value

    def _setitem(self) -> None:
        value, key = self._pop(), self._pop()
        self._set(self._top(dict), [key], [value])

    def _setitems(self) -> None:
        values = self._since_mark()
        self._set(self._top(dict), values[::2], values[1::2])

    def _put(self, index: int) -> None:
        self._memo[index] = self._top(object)

    def _get(self, index: int) -> None:
        if index not in self._memo:
            raise self._damaged("takes an object that was never kept")
        self._push(self._memo[index])

    def _global(self) -> None:
        lines = bytes(self._data[self.position : self.position + 512]).split(b"\n", 2)
        if len(lines) != 3:
            raise self._damaged("has an endless name")
        self.position += len(lines[0]) + len(lines[1]) + 2
        self._look_up(text(lines[0], self._where), text(lines[1], self._where))

    def _stack_global(self) -> None:
        name, module = self._pop(str), self._pop(str)
        self._look_up(module, name)

    def _look_up(self, module: str, name: str) -> None:
        path = f"{module}.{name}"
        if self._records and path.startswith("__torch__."):
            return self._push(Record)
        if path not in self._allowed:
            raise UnsafeFile(
                f"{self._where}: the pickle names {path[:200]}, which is code and not {self._what}; {self._advice}."
            )
        self._push(self._allowed[path])

    def _reduce(self) -> None:
        arguments, function = self._pop(tuple), self._pop()
        if not callable(function):
            raise self._damaged("calls what is no function")
        self._push(function(*arguments))

    def _new_object(self) -> None:
        arguments, kind = self._pop(tuple), self._pop()
        if kind is not Record:
            raise self._refused(ord(pickle.NEWOBJ))
        self._push(Record(*arguments))

    def _build(self) -> None:
        state = self._pop()
        target = self._pop()
        if not isinstance(target, Built) or not target.build(state):
            raise UnsafeFile(f"{self._where}: the pickle sets attributes of what takes none; {self._advice}.")
        self._push(target)

    def _persistent_id(self) -> None:
        self._push(self._persistent(self._pop()))


def _constant(value: Any) -> Callable[[Unpickler], None]:
    return lambda machine: machine._push(value)


def _made(kind: type) -> Callable[[Unpickler], None]:
    return lambda machine: machine._push(kind())


def _integer(size: int, signed: bool = False) -> Callable[[Unpickler], None]:
    return lambda machine: machine._push(int.from_bytes(machine._take(size), "little", signed=signed))


def _text_of(length_size: int) -> Callable[[Unpickler], None]:
    return lambda machine: machine._push(machine._text(machine._number(length_size)))


def _bytes_of(length_size: int) -> Callable[[Unpickler], None]:
    return lambda machine: machine._push(bytes(machine._take(machine._number(length_size))))


def _indexed(do: Callable[[Unpickler, int], None], size: int) -> Callable[[Unpickler], None]:
    return lambda machine: do(machine, machine._number(size))


_BY_NAME: dict[str, Callable[[Unpickler], None]] = {
    "PROTO": Unpickler._proto,
    "FRAME": Unpickler._frame,
    "MARK": Unpickler._mark,
    "NONE": _constant(None),
    "NEWTRUE": _constant(True),
    "NEWFALSE": _constant(False),
    "BININT": _integer(4, signed=True),
    "BININT1": _integer(1),
    "BININT2": _integer(2),
    "LONG1": lambda machine: machine._push(int.from_bytes(machine._take(machine._number(1)), "little", signed=True)),
    "BINFLOAT": lambda machine: machine._push(struct.unpack(">d", machine._take(8))[0]),
    "SHORT_BINSTRING": _text_of(1),  # Python 2 wrote names so
    "BINSTRING": _text_of(4),
    "SHORT_BINUNICODE": _text_of(1),
    "BINUNICODE": _text_of(4),
    "BINUNICODE8": _text_of(8),
    "SHORT_BINBYTES": _bytes_of(1),
    "BINBYTES": _bytes_of(4),
    "BINBYTES8": _bytes_of(8),
    "BYTEARRAY8": _bytes_of(8),
    "EMPTY_TUPLE": _constant(()),
    "TUPLE1": lambda machine: machine._tuple_of(1),
    "TUPLE2": lambda machine: machine._tuple_of(2),
    "TUPLE3": lambda machine: machine._tuple_of(3),
    "TUPLE": Unpickler._tuple,
    "EMPTY_LIST": _made(list),
    "APPEND": Unpickler._append,
    "APPENDS": Unpickler._appends,
    "EMPTY_DICT": _made(dict),
    "SETITEM": Unpickler._setitem,
    "SETITEMS": Unpickler._setitems,
    "BINPUT": _indexed(Unpickler._put, 1),
    "LONG_BINPUT": _indexed(Unpickler._put, 4),
    "MEMOIZE": lambda machine: machine._put(len(machine._memo)),
    "BINGET": _indexed(Unpickler._get, 1),
    "LONG_BINGET": _indexed(Unpickler._get, 4),
    "GLOBAL": Unpickler._global,
    "STACK_GLOBAL": Unpickler._stack_global,
    "REDUCE": Unpickler._reduce,
    "NEWOBJ": Unpickler._new_object,
    "BUILD": Unpickler._build,
    "BINPERSID": Unpickler._persistent_id,
}
_KNOWN = {ord(op.code): op.name for op in pickletools.opcodes}
_INSTRUCTIONS = {code: _BY_NAME[name] for code, name in _KNOWN.items() if name in _BY_NAME}
