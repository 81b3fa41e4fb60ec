"""Counts, picture sizes and words as callers give them: of any integer kind, in any sequence, refused when none."""

from __future__ import annotations

import difflib
import functools
import operator
import os
import warnings
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

Function = TypeVar("Function", bound=Callable[..., Any])

_LONGEST_WORD = 100
_MANY = 24


def count(name: str, value: Any, least: int = 1) -> int:
    """A whole number (int, np.int64, ...) of at least `least`. ValueError, which names the argument, for others."""
    try:
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"{name} is {value!r}; expected a whole number, at least {least}.") from None
    if number < least or isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}; expected at least {least}.")
    return number


def count_or_none(name: str, value: Any, least: int = 1) -> int | None:
    """`count`, or None as it is."""
    return None if value is None else count(name, value, least)


def sides(name: str, value: Any) -> tuple[int, int] | None:
    """(height, width) of a side, of two in any sequence, or None as it is. ValueError for others."""
    if value is None:
        return None
    if not hasattr(value, "__len__"):
        side = count(name, value)
        return side, side
    if isinstance(value, str) or len(value) != 2:
        raise ValueError(f"{name} is {value!r}; expected a side, or (height, width).")
    height, width = (count(name, side) for side in value)
    return height, width


def renamed(**names: str) -> Callable[[Function], Function]:
    """Lets a function be called by the keywords of the version before, {old: new}, with a DeprecationWarning."""

    def changed(function: Function) -> Function:
        @functools.wraps(function)
        def call(*given: Any, **named: Any) -> Any:
            for old in names.keys() & named:
                sentence = f"{function.__name__}({old}=) is {names[old]}= now; {old}= goes with the next release."
                if names[old] in named:
                    raise TypeError(f"{sentence} Both are given.")
                warnings.warn(sentence, DeprecationWarning, stacklevel=2)
                named[names[old]] = named.pop(old)
            return function(*given, **named)

        return cast(Function, call)

    return changed


def nearest(word: object, known: Iterable[str]) -> str:
    """`" (did you mean PreLogits?)"` of the known word that is nearest to one that is not known, or nothing."""
    folded, asked = {name.casefold(): name for name in known}, str(word)[:_LONGEST_WORD].casefold()
    compared = difflib.SequenceMatcher(None, "", asked)

    def nearness(name: str) -> tuple[float, int]:
        """Of equally near ones the one that begins alike: Mixed_5b for Mixed_5a, and not Mixed_7a."""
        compared.set_seq1(name)
        return compared.ratio(), len(os.path.commonprefix([name, asked]))  # noqa: RUF071 - of characters

    close = max(difflib.get_close_matches(asked, folded, 10), key=nearness, default="")
    return f" (did you mean {folded[close]}?)" if close else ""


def chosen(name: str, word: str, known: Iterable[str]) -> str:
    """The word. ValueError, which lists the known ones and suggests the nearest, where it is none of them."""
    words = list(known)
    if word in words:
        return word
    shown = ", ".join(words if len(words) <= _MANY else [*words[: _MANY // 2], "...", *words[-_MANY // 2 :]])
    raise ValueError(f"{name} is {word!r}{nearest(word, words)}; expected one of {shown}.")
