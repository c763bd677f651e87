"""Scalar functions, as vector code for all elements of some rows.

Such a function is written once, with operators and the functions of this module, and is called once, while code is
emitted: its arguments are then `Numbers`, and each operator emits an instruction. `each` adds the loops; `by_code` adds
them to several functions and chooses one by a code at run time. With the compiler's vectorizer, tanh took 1.4 to 2.6
times as long, since it loads every constant at every step and computes the last numbers of each row one by one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastbp.core.simd.memory import check_contiguous, data_of
from fastbp.core.simd.vectors import I1, I32, I64, Loop, Vectors, by_cases


class Numbers:
    """As many numbers as a vector register holds, in code that is being emitted."""

    def __init__(self, x: Vectors, value: Any):
        self.x, self.value = x, value

    @property
    def single(self) -> bool:
        """Whether they are float32."""
        return bool(self.x.bits == 32)

    def values(self, *operands: Numbers | float) -> list[Any]:
        """Return the operands of instructions; a constant becomes a vector of it."""
        return [operand.value if isinstance(operand, Numbers) else ir.Constant(self.x.type, [operand] * self.x.lanes)
                for operand in operands]

    def _by(self, instruction: str, *operands: Numbers | float) -> Numbers:
        return Numbers(self.x, getattr(self.x.builder, instruction)(*self.values(*operands)))

    def _called(self, name: str, *operands: Numbers | float) -> Numbers:
        return Numbers(self.x, self.x.call(name, *self.values(*operands)))

    def __add__(self, other: Numbers | float) -> Numbers:
        return self._by("fadd", self, other)

    def __radd__(self, other: float) -> Numbers:
        return self._by("fadd", other, self)

    def __sub__(self, other: Numbers | float) -> Numbers:
        return self._by("fsub", self, other)

    def __rsub__(self, other: float) -> Numbers:
        return self._by("fsub", other, self)

    def __mul__(self, other: Numbers | float) -> Numbers:
        return self._by("fmul", self, other)

    def __rmul__(self, other: float) -> Numbers:
        return self._by("fmul", other, self)

    def __truediv__(self, other: Numbers | float) -> Numbers:
        return self._by("fdiv", self, other)

    def __neg__(self) -> Numbers:
        return self._by("fneg", self)

    def __abs__(self) -> Numbers:
        return self._called("fabs", self)

    def __lt__(self, other: Numbers | float) -> Condition:
        return Condition(self, self.x.builder.fcmp_ordered("<", *self.values(self, other)))

    def __gt__(self, other: Numbers | float) -> Condition:
        return Condition(self, self.x.builder.fcmp_ordered(">", *self.values(self, other)))

    def __ge__(self, other: Numbers | float) -> Condition:
        return Condition(self, self.x.builder.fcmp_ordered(">=", *self.values(self, other)))


def fma(x: Numbers, y: Numbers | float, z: Numbers | float) -> Numbers:
    """x y + z, rounded once."""
    return x._called("fma", x, y, z)


def copysign(x: Numbers, y: Numbers) -> Numbers:
    """|x| with the sign of y."""
    return x._called("copysign", x, y)


def sqrt(x: Numbers) -> Numbers:
    return x._called("sqrt", x)


class Condition(NamedTuple):
    """For each of some numbers, whether a comparison holds."""

    numbers: Numbers
    holds: Any


def where(condition: Condition, x: Numbers | float, y: Numbers | float) -> Numbers:
    """x where the condition holds, else y.

    Not for results that are stored in place of x or y: LLVM would emit a masked store, which takes 5 times as long on a
    Zen 3. Multiply by 1 instead.
    """
    like = condition.numbers
    return Numbers(like.x, like.x.builder.select(condition.holds, *like.values(x, y)))


def polynomial(x: Numbers, coefficients: Sequence[float]) -> Numbers:
    """The sum of coefficients[i] x**i: even and odd powers separately, since a core runs several chains of
    multiply-adds at once but waits four or five cycles for each."""
    square = x * x
    even, odd = (_horner(square, part) for part in (coefficients[::2], coefficients[1::2]))
    return fma(x, odd, even)


def _horner(x: Numbers, coefficients: Sequence[float]) -> Numbers:
    total = Numbers(x.x, x.values(coefficients[-1])[0])
    for coefficient in coefficients[-2::-1]:
        total = fma(x, total, coefficient)
    return total


def power_of_two(n: Numbers) -> Numbers:
    """2**i for the number n = 1.5 * 2**23 + 127 + i (float64: 2**52, 1023), i within the range of normal exponents: its
    last bits are the exponent.

    Without a conversion to an integer, which is undefined for NaN: LLVM's optimizer turned it into numbers.
    """
    builder, (integer, fraction) = n.x.builder, (I32, 23) if n.single else (I64, 52)
    integers = ir.VectorType(integer, n.x.lanes)
    shift = ir.Constant(integers, [fraction] * n.x.lanes)
    return Numbers(n.x, builder.bitcast(builder.shl(builder.bitcast(n.value, integers), shift), n.x.type))


def each(compute: Callable[..., Numbers]) -> Any:
    """The intrinsic `run(x, y, n_rows, n, ld, parameters)`: y = compute(x, y, *parameters) for each number of as many
    rows of `n`, which lie `ld` apart in x and in y; parameters: a tuple of numbers of their type.

    It works on whole vectors: in both arrays a row must have room for `n` rounded up to whole vectors, and y is
    overwritten there. Rows that begin on a cache line, with room up to the end of one, satisfy this.
    """
    @intrinsic
    def run(typing, x, y, n_rows, n, ld, parameters):
        _check_alike(x, y)

        def emit(context, builder, signature, arguments):
            vectors = Vectors(builder, types.CPointer(x.dtype))
            places = [data_of(context, builder, kind, argument)
                      for kind, argument in zip((x, y), arguments, strict=False)]
            constants = [Numbers(vectors, vectors.splat(builder.extract_value(arguments[5], i)))
                         for i in range(len(parameters))]
            _emit_rows(vectors, lambda *numbers: compute(*numbers, *constants), places, *arguments[2:5])
            return context.get_dummy_value()

        return types.void(x, y, types.int64, types.int64, types.int64, parameters), emit

    return run


def by_code(functions: Mapping[int, Callable[..., Numbers] | None]) -> Any:
    """The intrinsic `run(code, arrays, n_rows, n, ld)`: like `each`, with the function of this code, on the
    elements of all arrays of a tuple; the last array is overwritten, or unchanged if the function is None.

    Returns whether the code exists. LLVM removes the loads that a function does not use.
    """
    @intrinsic
    def run(typing, code, arrays, n_rows, n, ld):
        _check_alike(*arrays)

        def emit(context, builder, signature, arguments):
            vectors = Vectors(builder, types.CPointer(arrays[0].dtype))
            places = [data_of(context, builder, kind, builder.extract_value(arguments[1], i))
                      for i, kind in enumerate(arrays)]

            def case(compute):
                if compute is not None:
                    _emit_rows(vectors, compute, places, *arguments[2:5])
                return I1(1)

            cases = {code: functools.partial(case, compute) for code, compute in functions.items()}
            return by_cases(builder, arguments[0], cases, I1(0))

        return types.boolean(types.int64, arrays, types.int64, types.int64, types.int64), emit

    return run


def _check_alike(*arrays: Any) -> None:
    for array in arrays:
        check_contiguous(array)
    if len({array.dtype for array in arrays}) > 1:
        raise numba.TypingError(f"expected arrays of one type, got {', '.join(map(str, arrays))}")


def _emit_rows(vectors: Vectors, compute: Callable[..., Numbers], places: Sequence[Any], n_rows: Any, n: Any,
               ld: Any) -> None:
    """Emits the loops over rows and vectors; `compute` gives what is stored at the last of the places."""
    builder = vectors.builder
    n_vectors = vectors.number_for(n)
    with Loop(builder, n_rows, places) as rows:
        with Loop(builder, n_vectors, rows.values) as row:
            numbers = [Numbers(vectors, vectors.load(place, I64(0))) for place in row.values]
            vectors.store(compute(*numbers).value, row.values[-1], I64(0))
            row.next([builder.gep(place, [I64(vectors.lanes)]) for place in row.values])
        rows.next([builder.gep(place, [ld]) for place in rows.values])
