"""The innermost loop of the ranking core (see `top_k`): products of rows of 16-bit integers, and what they bound.

What belongs here: that product, as vectors of LLVM. What does not: what is done with bounds, which numba compiles.

Loops that LLVM vectorizes by itself do not use the instructions that multiply 16-bit integers and add neighbours
(vpmaddwd on x86). Its own vectors belong to no kind of processor: it takes the instructions that there are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from recoflow.ranking.quantization import PANEL

if TYPE_CHECKING:
    from collections.abc import Sequence

ROWS: Final = 5
"""Users whose products are computed together: as many sums as a processor with 16 vector registers holds."""
LANES: Final = 8

_INT, _LONG = ir.IntType(32), ir.IntType(64)
_SUMS, _PRODUCTS = ir.VectorType(_INT, LANES), ir.VectorType(_INT, 2 * LANES)
_SHORTS = ir.VectorType(ir.IntType(16), 2 * LANES)
_SCORES = ir.VectorType(ir.FloatType(), LANES)
_NONE = ir.Constant(_SUMS, [0] * LANES)


@intrinsic
def bound(  # type: ignore[no-untyped-def]  # noqa: PLR0917 - compiled code takes no names
    _context, queries, row, items, panel, tile, slot, place
):
    """Write what the scores of ROWS users and a panel are at most, and which of them reach the users' floors.

    A bound is (product + margin) × the user's unit × the item's unit + the user's leeway. Read and written are named
    tuples of `kernels`: Queries from `row` on, a `panel` of Items, and from `slot` on that at `place` of a Tile.
    """
    return types.void(queries, row, items, panel, tile, slot, place), _write_bounds


class _Arguments:
    """The arguments of `bound` in LLVM's terms."""

    def __init__(self, context: Any, builder: ir.IRBuilder, signature: Any, given: Any) -> None:
        def field(place: int, name: str) -> Any:
            number = signature.args[place].fields.index(name)
            kind, value = signature.args[place].types[number], builder.extract_value(given[place], number)
            return context.make_array(kind)(context, builder, value) if isinstance(kind, types.Array) else value

        self.users, self.user_units, self.leeway, self.floors, self.margin = (
            field(0, name) for name in ("integers", "units", "leeway", "floors", "margin")
        )
        self.panels, self.item_units = (field(2, name) for name in ("panels", "units"))
        self.bounds, self.hits = (field(4, name) for name in ("bounds", "hits"))
        self.panel, self.place = given[3], given[6]
        self.rows, self.slots = ([builder.add(given[i], _LONG(number)) for number in range(ROWS)] for i in (1, 5))


def _write_bounds(context: Any, builder: ir.IRBuilder, signature: Any, given: Any) -> ir.Value:
    arguments = _Arguments(context, builder, signature, given)
    products = iter(_products(builder, arguments))
    first_item = builder.mul(arguments.panel, _LONG(PANEL))
    item_units = [
        _load(builder, arguments.item_units, builder.add(first_item, _LONG(lane)), _SCORES)
        for lane in range(0, PANEL, LANES)
    ]
    margin = _repeated(builder, arguments.margin)
    for row, slot in zip(arguments.rows, arguments.slots, strict=True):
        unit, leeway, floor = (
            _repeated(builder, builder.load(builder.gep(values.data, [row])))
            for values in (arguments.user_units, arguments.leeway, arguments.floors)
        )
        panels = builder.extract_value(arguments.hits.shape, 1)
        panel = builder.add(builder.mul(slot, panels), arguments.place)
        reaching = []
        for lane, item_unit in zip(range(0, PANEL, LANES), item_units, strict=True):
            highest = builder.fadd(builder.sitofp(next(products), _SCORES), margin)
            scores = builder.fadd(builder.fmul(highest, builder.fmul(unit, item_unit)), leeway)
            first = builder.add(builder.mul(panel, _LONG(PANEL)), _LONG(lane))
            builder.store(scores, _pointer(builder, arguments.bounds, first, _SCORES), align=4)
            reaching.append(builder.fcmp_ordered(">=", scores, floor))
        hits = builder.bitcast(builder.shuffle_vector(*reaching, _places(range(PANEL))), ir.IntType(PANEL))
        builder.store(hits, builder.gep(arguments.hits.data, [panel]))
    return context.get_dummy_value()


def _products(builder: ir.IRBuilder, arguments: _Arguments) -> list[ir.Value]:
    """The products of ROWS users and PANEL items, user by user, as vectors of LANES 32-bit integers."""
    pairs = builder.extract_value(arguments.users.shape, 1)
    rows = [builder.mul(row, pairs) for row in arguments.rows]
    first = builder.mul(arguments.panel, builder.mul(pairs, _LONG(PANEL)))
    entry, loop, end = builder.block, builder.append_basic_block("pairs"), builder.append_basic_block("end")
    builder.branch(loop)

    builder.position_at_end(loop)
    pair = builder.phi(_LONG)
    before = [builder.phi(_SUMS) for _ in range(ROWS * PANEL // LANES)]
    start = builder.add(first, builder.mul(pair, _LONG(PANEL)))
    items = [
        _load(builder, arguments.panels, builder.add(start, _LONG(lane)), _SHORTS) for lane in range(0, PANEL, LANES)
    ]
    added = []
    for row in rows:
        both = builder.load(builder.gep(arguments.users.data, [builder.add(row, pair)]))
        user = builder.bitcast(_repeated(builder, both), _SHORTS)
        added += [_pairwise(builder, user, item) for item in items]
    after = [builder.add(total, new) for total, new in zip(before, added, strict=True)]
    following = builder.add(pair, _LONG(1))
    for phi, initial, next_ in zip(
        [pair, *before], [_LONG(0), *[_NONE] * len(after)], [following, *after], strict=True
    ):
        phi.add_incoming(initial, entry)
        phi.add_incoming(next_, loop)
    builder.cbranch(builder.icmp_signed("<", following, pairs), loop, end)

    builder.position_at_end(end)
    return after


def _pointer(builder: ir.IRBuilder, array: Any, place: ir.Value, kind: ir.VectorType) -> ir.Value:
    return builder.bitcast(builder.gep(array.data, [place]), kind.as_pointer())


def _load(builder: ir.IRBuilder, array: Any, place: ir.Value, kind: ir.VectorType) -> ir.Value:
    return builder.load(_pointer(builder, array, place, kind), align=4)


def _repeated(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """A vector of LANES times the same number."""
    nothing = ir.Constant(ir.VectorType(value.type, LANES), ir.Undefined)
    return builder.shuffle_vector(builder.insert_element(nothing, value, _INT(0)), nothing, _places([0] * LANES))


def _pairwise(builder: ir.IRBuilder, first: ir.Value, second: ir.Value) -> ir.Value:
    """The sums of two neighbouring products each: what LLVM knows as one instruction."""
    product = builder.mul(builder.sext(first, _PRODUCTS), builder.sext(second, _PRODUCTS))
    nothing = ir.Constant(_PRODUCTS, ir.Undefined)
    even, odd = (builder.shuffle_vector(product, nothing, _places(range(i, 2 * LANES, 2))) for i in (0, 1))
    return builder.add(even, odd)


def _places(chosen: Sequence[int]) -> ir.Constant:
    return ir.Constant(ir.VectorType(_INT, len(chosen)), list(chosen))
