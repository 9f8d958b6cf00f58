# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code="misc"
"""Words of eight bytes at places that are no multiple of eight, for compiled loops.

What belongs here: reading and writing one such word. What does not: many bytes at a time (formats/wide.py).

Nothing is checked: the caller knows that all eight bytes are there.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_WORD = ir.IntType(64)


def pointer(context, builder, array_type, values, kind=_WORD):
    """LLVM's pointer to a place of an array of bytes."""
    array, place = values
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [place]), kind.as_pointer())


@intrinsic
def load(_typing, array, place):  # noqa: ARG001 (numba calls it by these names)
    """The eight bytes from a position on, the first one lowest."""

    def generate(context, builder, signature, values):
        return builder.load(pointer(context, builder, signature.args[0], values), align=1)

    return types.uint64(array, types.uintp), generate


@intrinsic
def load_at(_typing, address):  # noqa: ARG001
    """The eight bytes from an address on."""

    def generate(_context, builder, _signature, values):
        return builder.load(builder.inttoptr(values[0], _WORD.as_pointer()), align=1)

    return types.uint64(types.uintp), generate


@intrinsic
def store(_typing, array, place, word):  # noqa: ARG001
    """Write eight bytes from a position on."""

    def generate(context, builder, signature, values):
        builder.store(values[2], pointer(context, builder, signature.args[0], values[:2]), align=1)
        return context.get_dummy_value()

    return types.void(array, types.uintp, types.uint64), generate
