"""Checks of numbers, booleans and names that users pass: one rule for each. This module imports nothing of fastbp."""

from __future__ import annotations

import difflib
import functools
import inspect
import math
import re
import reprlib
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import numpy as np

AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Any])
CLOSE = 0.7  # least similarity of a name that is suggested for a mistyped one; 1: identical
LONG = 60  # characters beyond which a value in a message is shortened


def number(name: str, value: Any, low: float = -math.inf, high: float = math.inf, low_open: bool = False,
           high_open: bool = False) -> float:
    """Return `value` as a finite float from low to high; otherwise raise TypeError or ValueError.

    Real numbers of Python and NumPy are accepted. Booleans, strings and arrays are not numbers.
    """
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} must be a number, got {shown(value)}")
    try:
        given = float(value)
    except OverflowError:  # an int beyond the largest float
        given = math.inf if value > 0 else -math.inf
    inside = (given > low if low_open else given >= low) and (given < high if high_open else given <= high)
    if not (inside and math.isfinite(given)):
        if high == math.inf:
            limits = "finite" if low == -math.inf else f"a finite number {'>' if low_open else '>='} {low}"
        else:
            limits = f"in {'(' if low_open else '['}{low}, {high}{')' if high_open else ']'}"
        raise ValueError(f"{name} must be {limits}, got {shown(value)}")
    return given


def positive(name: str, value: Any) -> float:
    """Return `value` as a float, finite and > 0; otherwise raise TypeError or ValueError."""
    return number(name, value, 0, low_open=True)


def not_negative(name: str, value: Any) -> float:
    """Return `value` as a float, finite and >= 0; otherwise raise TypeError or ValueError."""
    return number(name, value, 0)


def fraction(name: str, value: Any) -> float:
    """Return `value` as a float in [0, 1); otherwise raise TypeError or ValueError."""
    return number(name, value, 0, 1, high_open=True)


def whole_number(name: str, value: Any, least: int, most: float = math.inf) -> int:
    """Return `value` as an int from least to most; otherwise raise TypeError or ValueError. 10.0 is not accepted."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be a whole number, got {shown(value)}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {shown(int(value))}")
    if value > most:
        raise ValueError(f"{name} must be at most {most}, got {shown(int(value))}")
    return int(value)


def truth(name: str, value: Any) -> bool:
    """Return `value` as a bool; otherwise raise TypeError."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {shown(value)}")
    return bool(value)


def settle(settings: object, name: str, rule: Callable[..., Any], *limits: Any, **details: Any) -> None:
    """Check one field of frozen settings by one of the rules above, and set it to the result: a plain value."""
    object.__setattr__(settings, name, rule(name, getattr(settings, name), *limits, **details))


def one_of(what: str, name: Any, valid: Iterable[str], aliases: Mapping[str, str] | None = None) -> str:
    """Return the valid name that `name` means; otherwise raise a ValueError that lists the valid ones.

    Case, spaces, hyphens and underscores are ignored.

    Parameters
    ----------
    what : str
        Kind of name, for the message.
    aliases : dict, optional
        Other names, in lower case without spaces and underscores, and the valid name of each.

    Examples
    --------
    >>> one_of("activation", "LeakyReLU", ["relu", "leaky_relu"])
    'leaky_relu'
    >>> one_of("optimizer", "adm", ["sgd", "adam"])
    Traceback (most recent call last):
    ...
    ValueError: unknown optimizer 'adm'; did you mean 'adam'? valid: sgd, adam
    """
    known = (dict(aliases) if aliases else {}) | {_plain(one): one for one in valid}
    if isinstance(name, str) and _plain(name) in known:
        return known[_plain(name)]
    near = difflib.get_close_matches(_plain(name), known, 1, CLOSE) if isinstance(name, str) else []
    advice = f" did you mean {known[near[0]]!r}?" if near else ""
    raise ValueError(f"unknown {what} {shown(name)};{advice} valid: {', '.join(valid)}")


def check_spelling(what: str, name: str, owner: object, names: Iterable[str]) -> None:
    """Raise AttributeError if `name` is assigned to an owner that lacks it and resembles one of `names`."""
    if name.startswith("_") or hasattr(owner, name):  # the usual case: looking for similar names takes 50 us
        return
    near = difflib.get_close_matches(name, list(names), 1, CLOSE)
    if near:
        raise AttributeError(f"a {what} has no {name}; did you mean {near[0]!r}?")


def level_of_caller() -> int:
    """Return the stacklevel with which a warning points to the line that called fastbp."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "fastbp":
        level, frame = level + 1, frame.f_back
    return level


def known_as(elsewhere: Mapping[str, str] | None = None, /,
             **others: str | tuple[str, Callable[[Any], Any]]) -> Callable[[AnyFunction], AnyFunction]:
    """Decorate a function: it accepts other names of its keywords, and gives advice about unknown keywords.

    Parameters
    ----------
    elsewhere : dict, optional
        Keywords that belong to another call, and what the TypeError says about them.
    others
        Another name and the parameter that it means, optionally with a function that converts the value.

    Examples
    --------
    >>> @known_as({"epochs": "epochs belongs to fit"}, lr="eta")
    ... def settings(eta=0.1):
    ...     return eta
    >>> settings(lr=0.5)
    0.5
    >>> settings(rate=0.5)
    Traceback (most recent call last):
    ...
    TypeError: settings() got an unexpected keyword argument 'rate'; valid: eta
    >>> settings(epochs=3)
    Traceback (most recent call last):
    ...
    TypeError: settings() got an unexpected keyword argument 'epochs': epochs belongs to fit
    """
    meanings = {name: target if isinstance(target, tuple) else (target, _same) for name, target in others.items()}

    def decorate(function: AnyFunction) -> AnyFunction:
        parameters = list(inspect.signature(function).parameters)
        title = function.__qualname__.removesuffix(".__init__").rpartition("<locals>.")[2]

        @functools.wraps(function)
        def with_other_names(*values: Any, **keywords: Any) -> Any:
            for name in [name for name in keywords if name not in parameters]:
                if name not in meanings:
                    raise TypeError(f"{title}() got an unexpected keyword argument {name!r}"
                                    + _advice(name, parameters, meanings, elsewhere or {}))
                own, change = meanings[name]
                if own in keywords or own in parameters[: len(values)]:
                    raise TypeError(f"{title}() got {own} twice, once as {name}; give it once")
                keywords[own] = change(keywords.pop(name))
            return function(*values, **keywords)

        return with_other_names  # type: ignore[return-value]

    return decorate


def _same(value: Any) -> Any:
    return value


def _advice(name: str, parameters: list[str], meanings: Mapping[str, tuple[str, Callable[[Any], Any]]],
            elsewhere: Mapping[str, str]) -> str:
    """Return the advice about an unknown keyword."""
    if name in elsewhere:
        return f": {elsewhere[name]}"
    names = {own: own for own in parameters if own != "self"}
    names |= {other: own for other, (own, _) in meanings.items()}
    near = difflib.get_close_matches(name, names, 1, CLOSE)
    return f"; did you mean {names[near[0]]!r}?" if near else f"; valid: {', '.join(dict.fromkeys(names.values()))}"


def shown(value: object) -> str:
    """Return the repr of a value, shortened if it is long."""
    try:
        text = repr(value)
    except ValueError:  # Python refuses to print an int of more than 4,300 digits
        return f"a whole number of {value.bit_length()} bits" if isinstance(value, int) else type(value).__name__
    return text if len(text) <= LONG or not isinstance(value, (int, str)) else reprlib.repr(value)


def counted(n: int, what: str) -> str:
    """Return a number with its noun, for a message.

    Examples
    --------
    >>> counted(1, "sample"), counted(2000, "sample")
    ('1 sample', '2,000 samples')
    """
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).lower()
