"""Records in memory: consecutive numbers of 8 bytes, which compiled code reads by name through one pointer."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import infer_getattr, intrinsic, lower_getattr_generic, models, register_model

from fastbp.core.compiler.numba import AttributeTemplate

SLOT = ir.IntType(64)


def slots_of(kind: types.Type) -> int:
    """Return the number of slots of a field: one, or for a named tuple, one for each of its fields."""
    return sum(map(slots_of, kind)) if isinstance(kind, types.BaseTuple) else 1


class View(types.Type):  # type: ignore[misc]  # Numba has no types
    """The type of a pointer to a record: without copies or reference counts; unused fields are not read.

    fields: the Numba type of each field, in order: int64, float64, a pointer, or a named tuple of those.
    """

    def __init__(self, name: str, fields: dict[str, types.Type]):
        self.fields: dict[str, tuple[int, types.Type]] = {}
        self.size = 0
        for field, kind in fields.items():
            self.fields[field] = self.size, kind
            self.size += slots_of(kind)
        super().__init__(name)


@register_model(View)
class PointerModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: types.Type):
        super().__init__(manager, kind, SLOT.as_pointer())


@lower_getattr_generic(View)  # type: ignore[untyped-decorator]
def _read(context: Any, builder: Any, view: View, pointer: Any, field: str) -> Any:
    slot, kind = view.fields[field]
    return _load(context, builder, pointer, slot, kind)


@infer_getattr
class _Fields(AttributeTemplate):  # type: ignore[misc]
    key = View

    def generic_resolve(self, view: View, field: str) -> types.Type | None:
        return view.fields[field][1] if field in view.fields else None


def _load(context: Any, builder: Any, pointer: Any, slot: int, kind: types.Type) -> Any:
    if isinstance(kind, types.BaseTuple):
        values = []
        for part in kind:
            values.append(_load(context, builder, pointer, slot, part))
            slot += slots_of(part)
        return context.make_tuple(builder, kind, values)
    number, wanted = builder.load(builder.gep(pointer, [SLOT(slot)])), context.get_value_type(kind)
    to = builder.inttoptr if isinstance(kind, (types.CPointer, View)) else builder.bitcast
    return to(number, wanted)


def seen_as(view: View) -> Any:
    """Return the intrinsic that treats a pointer as one to a record of that kind."""
    @intrinsic
    def see(typing, pointer):
        def emit(context, builder, signature, arguments):
            return builder.bitcast(arguments[0], SLOT.as_pointer())

        return view(pointer), emit

    return see


@intrinsic
def slots_of_record(typing, record):
    """Return a pointer to the slots of a record, to write them by index."""
    def emit(context, builder, signature, arguments):
        return arguments[0]

    return types.CPointer(types.int64)(record), emit
