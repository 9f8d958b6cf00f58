"""A bundle brought up to date for one request: what happened since the training, with nothing trained.

What belongs here: current items, who owns which device now, and people who did something since. What does not: which
versions of the tables are current (see `inputs`), how a model takes a person in (see `models.algorithms.scorer`).

Both steps give the bundle itself where the tables are still those that it was trained on. Item factors, popularity and
trends stay those of the training; items that came since have factors where their attributes tell some
(`Bundle.item_encoder`), and no popularity until the next one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl
from scipy import sparse

from recoflow import schema
from recoflow.errors import ModelError
from recoflow.interactions import identity, signature
from recoflow.models.algorithms import matrix
from recoflow.storage import sql

if TYPE_CHECKING:
    import duckdb
    import numpy.typing as npt

    from recoflow.models.algorithms.scorer import Scorer
    from recoflow.models.store.bundle import Bundle
    from recoflow.storage.lake.lake import Lake

TABLES: Final = ("interactions", "items", "identity")

_WANTED: Final = "CREATE TEMP VIEW rows_now AS FROM interactions SEMI JOIN wanted USING (subject)"
_CHANGED: Final = "FROM rows_now SEMI JOIN changed USING (subject)"


def with_current_items(bundle: Bundle, lake: Lake, tables: Mapping[str, int | None]) -> Bundle:
    """The bundle with the catalogue of this version of the table: changed, disabled and new items.

    Args:
        bundle: as it was trained.
        lake: of its environment.
        tables: name → version, for each of TABLES.

    Returns:
        The bundle; an item that no update speaks of any more stays as the bundle knows it.
    """
    if not _differs(bundle, tables, "items"):
        return bundle
    current = lake.scan("items", version=tables["items"]).collect()
    gone = bundle.items.join(current, on="item_id", how="anti")
    items = pl.concat([current, gone]).sort("item_id")
    if items.height == bundle.items.height:
        return replace(bundle, items=items)
    numbered = items.select("item_id").with_row_index("place")
    places = bundle.items.join(numbered, on="item_id", maintain_order="left")["place"].to_numpy().astype(np.int64)
    return _with_more_items(bundle, items, places)


def fold_in_new_events(
    bundle: Bundle, people: pl.DataFrame | None, lake: Lake, tables: Mapping[str, int | None]
) -> Bundle:
    """The bundle with what the people of a request did until this version of the tables, and with nobody else.

    Whoever did something since the training, earlier things that arrived late included, or is forgotten, is folded in
    anew (`Scorer.fold_in`), with the items that they consumed.

    Args:
        bundle: with the items that may be recommended.
        people: user_id, device_id of the request's rows; None for everybody.
        lake: of its environment.
        tables: name → version, for each of TABLES.

    Returns:
        The bundle itself when nothing changed, else one of the request's subjects alone.

    Raises:
        ModelError: the table of interactions is damaged.
    """
    if not (_differs(bundle, tables, "identity") or _differs(bundle, tables, "interactions")):
        return bundle
    if people is not None:
        bundle = replace(bundle, devices=_devices(bundle, people, lake, tables))
    with sql.connect() as connection:
        lake.view(connection, "interactions", tables["interactions"])
        wanted = _everybody(connection, bundle) if people is None else request_subjects(people, bundle.devices)
        connection.register("wanted", pl.DataFrame({"subject": wanted}).to_arrow())
        connection.execute(_WANTED)
        now = signature.signatures_of(connection, "rows_now")
        rows = bundle.rows_of(wanted)
        known = pl.DataFrame({"subject": wanted.gather(np.flatnonzero(rows >= 0)), "row": rows[rows >= 0]})
        known = known.with_columns(pl.Series("before", bundle.signatures[known["row"].to_numpy()], pl.UInt64))
        compared = now.join(known, on="subject", how="full", coalesce=True)
        is_same = pl.col("signature").eq_missing(pl.col("before"))
        if compared.select(is_same.all()).item():
            return bundle
        changed = compared.filter(~is_same, pl.col("signature").is_not_null()).select("subject").sort("subject")
        rest = bundle.of_subjects(np.sort(compared.filter(is_same)["row"].to_numpy()))
        try:
            return _folded_in(rest, changed, connection)
        except ModelError as error:
            culprit = f"{error.culprit} (version {tables['interactions']} of the table)"
            cure = f"{error.cure}; a campaign that began before takes the new table once its inputs.json is removed"
            raise ModelError(culprit, error.problem, cure) from None


def _differs(bundle: Bundle, tables: Mapping[str, int | None], table: str) -> bool:
    """Whether the table is another than that of the training; one that does not exist says nothing."""
    return tables[table] is not None and bundle.manifest.get("tables", {}).get(table) != tables[table]


def _devices(bundle: Bundle, people: pl.DataFrame, lake: Lake, tables: Mapping[str, int | None]) -> pl.DataFrame:
    if not _differs(bundle, tables, "identity"):
        return bundle.devices
    named = people.lazy().select(pl.col("device_id").drop_nulls().unique())
    return lake.scan("identity", version=tables["identity"]).join(named, on="device_id", how="semi").collect()


def request_subjects(people: pl.DataFrame, devices: pl.DataFrame) -> pl.Series:
    """Everybody that the lists of a request may be about, sorted."""
    named = people.select("user_id", "device_id").unique()
    owners = identity.subject_of(named["user_id"], named["device_id"], devices)
    themselves = named.select(pl.lit("d:") + pl.col("device_id")).to_series()
    return pl.concat([owners.rename("subject"), themselves.rename("subject")]).drop_nulls().unique().sort()


def _everybody(connection: duckdb.DuckDBPyConnection, bundle: Bundle) -> pl.Series:
    """Who did something, and whom the bundle knows, sorted."""
    now = sql.frame(connection, "SELECT DISTINCT subject FROM interactions", pl.Schema({"subject": pl.String}))
    return pl.concat([now["subject"], bundle.subject_ids]).unique().sort()


def _folded_in(rest: Bundle, changed: pl.DataFrame, connection: duckdb.DuckDBPyConnection) -> Bundle:
    """The bundle with these subjects beside those that it has."""
    connection.register("changed", changed.to_arrow())
    rows = sql.frame(connection, _CHANGED, schema.INTERACTIONS)
    subjects, items = matrix.ids_of(changed["subject"]), matrix.ids_of(rest.items["item_id"])
    weights = matrix.from_interactions(rows, subjects=subjects, items=items).matrix
    seen = matrix.of_event_types(rows, subjects=subjects, items=items)
    everyone = np.concatenate([rest.subjects, subjects])
    order = np.argsort(everyone, kind="stable")
    shape = (len(rest.subjects), len(items))
    before = sparse.csr_matrix((rest.seen_types, rest.seen_indices, rest.seen_indptr), shape=shape)
    seen = sparse.csr_matrix(sparse.vstack([before, seen], format="csr")[order])

    def joined(scorer: Scorer) -> Scorer:
        return scorer.with_users(scorer.fold_in(weights)).of_users(order)

    return rest.with_scorer(
        joined(rest.scorer),
        {name: joined(scorer) for name, scorer in rest.alternatives.items()},
        subjects=everyone[order],
        signatures=np.concatenate([rest.signatures, np.zeros(len(subjects), np.uint64)])[order],
        seen_indptr=seen.indptr.astype(np.int64),
        seen_indices=seen.indices.astype(np.int32),
        seen_types=seen.data.astype(np.int32),
    )


def _with_more_items(bundle: Bundle, items: pl.DataFrame, places: npt.NDArray[np.int64]) -> Bundle:
    """The bundle with items that it does not know yet.

    Args:
        bundle: as it is.
        items: ITEMS, the bundle's among them.
        places: int64 [items of the bundle], ascending: their rows among `items`.
    """

    def spread(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        wide = np.zeros(items.height, values.dtype)
        wide[places] = values
        return wide

    scorer = bundle.scorer.of_items(places, items.height)
    if bundle.item_encoder is not None:
        is_new = np.ones(items.height, np.bool_)
        is_new[places] = False
        scorer.item_factors[is_new] = bundle.item_encoder.encode(items.filter(is_new))
    return bundle.with_scorer(
        scorer,
        {name: scorer.of_items(places, items.height) for name, scorer in bundle.alternatives.items()},
        items=items,
        seen_indices=places[bundle.seen_indices].astype(np.int32),
        popular=spread(bundle.popular),
        trending=spread(bundle.trending),
    )
