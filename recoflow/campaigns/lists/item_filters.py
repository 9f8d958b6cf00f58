"""What rows and configurations ask of items: filters, age, availability, compiled once per distinct wish.

What belongs here: the meaning of filter cells and item attributes. What does not: scores and lists (see `build_lists`).
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from recoflow.settings.list_configuration import ALGORITHMS

if TYPE_CHECKING:
    from recoflow.models.store.bundle import Bundle
    from recoflow.settings.list_configuration import Configuration, Query

ITEM_TYPE: Final = "item_type"  # a column of items that filters like an attribute

Mask = npt.NDArray[np.bool_]
_DECODER: Final = msgspec.json.Decoder(dict[str, Any])  # to name the type at each text takes four times as long


def algorithms(bundle: Bundle) -> tuple[str, ...]:
    """What configurations may choose when this bundle answers: what every bundle can do, and models by their names."""
    models = (bundle.manifest["model"]["name"], *sorted(bundle.alternatives))
    return (*ALGORITHMS, *(name for name in models if name not in ALGORITHMS))


def unsupported(configuration: Configuration, algorithms: Collection[str], attributes: Collection[str]) -> str | None:
    """Why a configuration cannot be answered from a model bundle, or None when it can.

    An attribute that no item has is taken for a slip: its constraint would mean nothing, its filter an empty list.
    """
    if configuration.algorithm not in algorithms:
        return f"its algorithm '{configuration.algorithm}' is not in service (in service: {', '.join(algorithms)})"
    for key in (*configuration.filters, *(query.key for query in configuration.queries)):
        if key not in attributes:
            close = difflib.get_close_matches(key, attributes, n=1)
            hint = f"; did you mean '{close[0]}'?" if close else ""
            return f"no item has the attribute '{key}' that it asks for{hint}"
    return None


def values(cell: str) -> tuple[str, ...]:
    """The texts that a filter cell accepts: itself, or the elements of the JSON array in it.

    Raises:
        ValueError: a cell that begins like an array and is not a JSON array of one or more plain values.
    """
    if not cell.startswith("["):
        return (cell,)
    elements = json.loads(cell)
    if not elements or any(element is None or isinstance(element, list | dict) for element in elements):
        raise ValueError(f"{cell} is not an array of values")
    return tuple(_text(element) for element in elements)


def is_list_of_values(cell: str) -> bool:
    """Whether `values` can read a cell."""
    try:
        values(cell)
    except (ValueError, RecursionError):
        return False
    return True


def attribute_names(items: pl.DataFrame) -> frozenset[str]:
    """The names that filters may use for `items` (schema.ITEMS)."""
    decoded = (_decode(text) for text in items["attributes"].unique())
    return frozenset({ITEM_TYPE}.union(*decoded))


def attribute_texts(value: Any) -> tuple[str, ...]:
    """The texts that an attribute's value answers to: one for each element of a list, none for null and objects."""
    elements = value if isinstance(value, list) else [value]
    return tuple(_text(element) for element in elements if element is not None and not isinstance(element, list | dict))


def field(value: Any) -> str | None:
    """The text of an attribute's value in an information field: lists and objects as JSON, absent or null as None."""
    if value is None:
        return None
    return json.dumps(value, ensure_ascii=False, sort_keys=True) if isinstance(value, list | dict) else _text(value)


def is_eligible(items: pl.DataFrame) -> Mask:
    """bool [items]: enabled and available (schema.ITEMS)."""
    return items.select(pl.col("is_enabled") & pl.col("is_available")).to_series().to_numpy()


class ItemRules:
    """The items that may be recommended, and masks over them.

    Attributes:
        size: how many items there are.

    Args:
        items: schema.ITEMS of the items at hand, in the order that masks have.
        attributes: the attributes that filters or information fields will ask for.
    """

    def __init__(self, items: pl.DataFrame, attributes: Iterable[str]) -> None:
        self.size = len(items)
        self._published = items["published_at"]
        self._columns = _columns(items, frozenset(attributes))
        self._postings: dict[str, dict[str, npt.NDArray[np.int64]]] = {}

    def information(self, attribute: str) -> pl.Series:
        """The attribute of each item as text, null where it has none."""
        return pl.Series(attribute, [field(value) for value in self._columns[attribute]], dtype=pl.String)

    def mask(
        self, filters: Mapping[str, Collection[tuple[str, ...]]], max_age_days: float | None, as_of: datetime
    ) -> Mask:
        """bool [items]: items that meet every filter and are young enough.

        Args:
            filters: attribute → sets of texts; an item must answer to one of each set.
            max_age_days: items published earlier than this before `as_of`, or with no date, are left out.
            as_of: the moment that age is counted from.
        """
        mask = np.ones(self.size, np.bool_)
        for attribute, sets in filters.items():
            for accepted in sets:
                mask &= self._any_of(attribute, accepted)
        if max_age_days is not None:
            moment, first = as_of.astimezone(UTC), datetime.min.replace(tzinfo=UTC)
            oldest = moment - timedelta(days=min(max_age_days, (moment - first).days))  # no time is before the first
            mask &= (self._published >= oldest).fill_null(value=False).to_numpy()
        return mask

    def meets(self, query: Query) -> Mask:
        """bool [items]: items that meet the query of a constraint, boost or bury."""
        comparison = query.comparison
        mask = self._any_of(query.key, (_text(comparison.value),))
        if query.match is not None:
            answers = [len(set(attribute_texts(self._columns[query.key][item]))) for item in np.flatnonzero(mask)]
            mask[mask] = np.array(answers, np.int64) == 1
        return ~mask if comparison.is_negated else mask

    def _any_of(self, attribute: str, accepted: tuple[str, ...]) -> Mask:
        postings = self._posting(attribute)
        mask = np.zeros(self.size, np.bool_)
        for text in accepted:
            if text in postings:
                mask[postings[text]] = True
        return mask

    def _posting(self, attribute: str) -> dict[str, npt.NDArray[np.int64]]:
        if attribute not in self._postings:
            collected: dict[str, list[int]] = {}
            for item, value in enumerate(self._columns[attribute]):
                for text in attribute_texts(value):
                    collected.setdefault(text, []).append(item)
            self._postings[attribute] = {text: np.array(found, np.int64) for text, found in collected.items()}
        return self._postings[attribute]


def _columns(items: pl.DataFrame, attributes: frozenset[str]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {attribute: [] for attribute in attributes - {ITEM_TYPE}}
    for text in items["attributes"] if columns else ():
        decoded = _decode(text)
        for attribute, column in columns.items():
            column.append(decoded.get(attribute))
    return columns | {ITEM_TYPE: items["item_type"].to_list()}


def _decode(text: str | None) -> dict[str, Any]:
    return _DECODER.decode(text) if text else {}


def _text(value: Any) -> str:
    """One spelling per value: 5 and 5.0 are '5', true is 'true'."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
