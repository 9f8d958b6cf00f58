"""The information field `because_of`: the item of a person's history that adds most to the score of a recommended one.

What belongs here: for which lists it is asked, and of which histories. What does not: what adds what (see
`models.store.explain`).

The histories are those of the interactions at the campaign's version, as a person folded in today would have them.
Since a training weights fade, the same for all of a person's items.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from scipy import sparse

from recoflow import schema
from recoflow.campaigns import freshness
from recoflow.campaigns.lists import plan as planning
from recoflow.models.algorithms import matrix
from recoflow.models.store import explain
from recoflow.storage import sql

if TYPE_CHECKING:
    from recoflow.campaigns.lists.plan import Lists, Longs
    from recoflow.campaigns.lists.rank_blocks import Indices
    from recoflow.models.store.bundle import Bundle
    from recoflow.settings.environment import Environment
    from recoflow.storage.lake.lake import Lake


def explanation_weights(
    bundle: Bundle, people: pl.DataFrame, environment: Environment, lake: Lake, tables: Mapping[str, int | None]
) -> sparse.csr_matrix | None:
    """The histories that reasons are looked for in, of models that do not keep them.

    Args:
        bundle: brought up to date.
        people: user_id, device_id of the request's rows.
        environment: of the request.
        lake: of its environment.
        tables: name → version, for each of `freshness.TABLES`.

    Returns:
        CSR float32 [users × items] of the bundle, rows of others than the request's people empty; None where nobody
        asks for reasons or no model needs it.
    """
    if schema.BECAUSE_OF not in environment.campaigns.information_fields:
        return None
    if not any(map(explain.needs_weights, planning.scorers(bundle).values())):
        return None
    wanted = freshness.request_subjects(people, bundle.devices)
    rows = bundle.rows_of(wanted)
    known = wanted.filter(pl.Series(rows >= 0))
    with sql.connect() as connection:
        lake.view(connection, "interactions", tables["interactions"])
        connection.register("known", pl.DataFrame({"subject": known}).to_arrow())
        frame = sql.frame(connection, "FROM interactions SEMI JOIN known USING (subject)", schema.INTERACTIONS)
    subjects, items = matrix.ids_of(known), matrix.ids_of(bundle.items["item_id"])
    found = matrix.from_interactions(frame, subjects=subjects, items=items).matrix
    lengths = np.zeros(len(bundle.subjects), np.int64)
    lengths[rows[rows >= 0]] = np.diff(found.indptr)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    return sparse.csr_matrix((found.data, found.indices, starts), shape=(len(lengths), len(items)))


class Explanations:
    """Finds the reasons of filled lists of one request.

    Args:
        bundle: the models.
        lists: of the request.
        eligible: rows of `bundle.items` by the numbers that recommended items have.
        histories: see `weights`.
    """

    def __init__(self, bundle: Bundle, lists: Lists, eligible: Longs, histories: sparse.csr_matrix | None) -> None:
        self._lists = lists
        self._eligible = eligible
        self._ids = bundle.items["item_id"]
        asked = set(lists.ranking.tolist())
        self._explainers = {
            ranking: explain.Explainer(scorer, histories)
            for ranking, scorer in planning.scorers(bundle).items()
            if ranking in asked and explain.can_explain(scorer)
        }

    def of(self, block: Longs, filled: Longs, chosen: Indices) -> pl.Series:
        """The reason of each chosen item as an item id, null where nothing of the history speaks for it.

        Args:
            block: the lists.
            filled: how many items each got.
            chosen: their items, one list behind the other.
        """
        reasons = np.full(len(chosen), -1, np.int64)
        ranking = self._lists.ranking[block]
        for number, explainer in self._explainers.items():
            mine = ranking == number
            places = np.repeat(mine, filled)
            items = self._eligible[chosen[places]]
            reasons[places] = explainer.reasons(self._lists.personal[block[mine]], filled[mine], items)
        return self._ids.gather(pl.Series(reasons).replace(-1, None)).alias(schema.BECAUSE_OF)
