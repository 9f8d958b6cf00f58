from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from typer.testing import CliRunner

from recoflow import schema
from recoflow.campaigns import freshness
from recoflow.campaigns.audiences import select
from recoflow.cli import app
from recoflow.errors import CampaignError
from recoflow.models.store import bundle_store, versions
from recoflow.models.store.bundle import Bundle
from recoflow.storage.lake.lake import Lake
from recoflow.storage.paths import Paths

SAMPLE = Path(__file__).parents[3] / "data/environments/lorem.yaml"


def consumed(**items: list[str]) -> pl.DataFrame:
    pairs = [(f"u:{user}", item) for user, found in items.items() for item in found]
    return pl.DataFrame(pairs, schema={"subject": pl.String, "item_id": pl.String}, orient="row")


def chosen(frame: pl.DataFrame) -> list[tuple[str, str, float]]:
    assert frame["rank"].to_list() == list(range(1, frame.height + 1))
    return frame.select("user_id", "item_id", "score").rows()


def test_users_come_by_the_score_of_the_item_that_fits_them_best(newsroom: Bundle) -> None:
    assert chosen(select.choose_audience(["b"], 5, newsroom, consumed())) == [("sport", "b", 7), ("politics", "b", 2)]
    found = select.choose_audience(["b", "g"], 5, newsroom, consumed())
    assert chosen(found) == [("politics", "g", 7), ("sport", "b", 7)]
    assert select.choose_audience(["b", "g"], 1, newsroom, consumed()).equals(found.head(1))


def test_what_was_consumed_does_not_count_and_who_consumed_all_is_left_out(newsroom: Bundle) -> None:
    taken = consumed(politics=["g"], sport=["b", "g"], stranger=["b"])
    assert chosen(select.choose_audience(["b", "g"], 5, newsroom, taken)) == [("politics", "b", 2)]


def test_items_that_nobody_can_be_chosen_for_are_named(newsroom: Bundle) -> None:
    with pytest.raises(CampaignError, match="'zzz': is not in the catalogue"):
        select.choose_audience(["a", "zzz"], 5, newsroom, consumed())
    disabled = newsroom.items.with_columns(is_enabled=pl.col("item_id") != "b")
    with pytest.raises(CampaignError, match="'b': is disabled"):
        select.choose_audience(["a", "b"], 5, replace(newsroom, items=disabled), consumed())
    factors = newsroom.item_factors.copy()
    factors[1] = 0
    with pytest.raises(CampaignError, match="'b': has no score"):
        select.choose_audience(["a", "b"], 5, replace(newsroom, item_factors=factors), consumed())


@settings(max_examples=60)
@given(seed=st.integers(0, 10_000), size=st.integers(1, 12), has_history=st.booleans(), block=st.integers(1, 40))
def test_the_audience_is_that_of_the_definition(
    make: SimpleNamespace, seed: int, size: int, has_history: bool, block: int
) -> None:
    random = np.random.default_rng(seed)
    items = [f"i{number}" for number in range(6)]
    users = {f"u:{number:02}": random.integers(-2, 3, 2) for number in range(10)} | {"d:phone": (9, 9)}
    bundle = make.bundle(make.items([{"item_id": item} for item in items]), users, random.integers(1, 3, (6, 2)))
    if has_history:
        history = sparse.csr_matrix(random.integers(0, 2, (11, 6)).astype(np.float32))
        bundle = replace(bundle, history=history, similarity=sparse.csr_matrix(np.eye(6, dtype=np.float32)))
    wanted = sorted(random.choice(items, 3, replace=False).tolist())
    taken = {(f"u:{number:02}", item) for number in range(10) for item in wanted if random.random() < 0.3}
    scores = bundle.scorer.score(np.arange(11))
    expected = []
    for row, subject in enumerate(bundle.subjects):
        if subject.startswith("u:") and bundle.scorer.is_known()[row]:
            fits = [(-scores[row, items.index(item)], item) for item in wanted if (subject, item) not in taken]
            expected += [(*min(fits), subject)] if fits else []
    expected.sort(key=lambda each: (each[0], each[2]))
    pairs = pl.DataFrame(sorted(taken), schema={"subject": pl.String, "item_id": pl.String}, orient="row")
    whole = select.choose_audience(wanted, size, bundle, pairs)
    assert chosen(whole) == [(subject[2:], item, -score) for score, item, subject in expected[:size]]
    marks = [[(subject, item) in taken for item in items] for subject in bundle.subjects.tolist()]
    choice = select.Choice(bundle, sparse.csc_matrix(np.array(marks)), [select.USER], scores_at_once=block)
    in_blocks = choice.best(wanted, size)
    assert in_blocks["subject"].to_list() == [f"u:{user}" for user in whole["user_id"]]
    assert in_blocks.select("rank", "item_id", "score").equals(whole.select("rank", "item_id", "score"))


def test_the_command_leaves_out_whoever_consumed_it_since_and_writes_a_file(tmp_path: Path, newsroom: Bundle) -> None:
    layout = Paths(tmp_path)
    layout.environments.mkdir()
    (layout.environments / "lorem.yaml").write_text(SAMPLE.read_text())
    models, lake = layout.models("lorem"), Lake(layout.lake("lorem"))
    known = replace(newsroom, manifest=newsroom.manifest | {"tables": dict.fromkeys(freshness.TABLES)})
    bundle_store.save_bundle(known, models / newsroom.version)
    versions.promote(models, newsroom.version)
    bits = schema.event_type_bits(["purchase"])
    row = {"subject": "u:sport", "item_id": "b", "event_types": bits}
    usual = {pl.String: "", pl.Float32: 1.0, pl.Int32: 1, pl.Int64: 1, pl.Float64: 1.0, pl.Boolean: False}
    moment = datetime(2026, 3, 1, tzinfo=UTC)
    full = {
        name: row.get(name, usual.get(type(kind) if isinstance(kind, pl.DataType) else kind, moment))
        for name, kind in schema.INTERACTIONS.items()
    }
    lake.append("interactions", pl.DataFrame([full], schema=schema.INTERACTIONS), transaction=None)
    arguments = ["audience", "-e", "lorem", "--item", "b", "--size", "9", "--data", str(tmp_path)]
    done = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "out.csv"), "--json"])
    assert done.exit_code == 0, done.output
    assert [row["user_id"] for row in json.loads(done.stdout)["audience"]] == ["politics"]
    assert (tmp_path / "out.csv").read_text() == "rank,user_id,item_id,score\n1,politics,b,2.0\n"
    assert "politics" in CliRunner().invoke(app, arguments).output
