from __future__ import annotations

import polars as pl

from recoflow.interactions import build, signature
from recoflow.settings.environment import Environment
from recoflow.settings.sections import Sftp

ENVIRONMENT = Environment(name="lorem", sftp=Sftp(username="lorem", private_key="key", known_hosts="hosts"))


def test_only_those_who_did_something_have_another_signature(filled, new):
    rows = [{"user_id": f"u{n % 5}", "item_id": f"i{n % 7}", "days": n} for n in range(40)]
    before = signature.of_frame(build.interactions(filled.events(*rows), ENVIRONMENT, filled.as_of))
    with new() as other:
        later = other.events(*rows, {"user_id": "u1", "item_id": "i0", "days": 50}, {"user_id": "new"})
        after = signature.of_frame(build.interactions(later, ENVIRONMENT, filled.as_of))

    both = before.join(after, on="subject", how="full", coalesce=True, suffix="_after")
    changed = both.filter(pl.col("signature").ne_missing(pl.col("signature_after")))
    assert changed["subject"].sort().to_list() == ["u:new", "u:u1"]


def test_age_alone_does_not_change_a_signature(filled):
    rows = [{"user_id": f"u{n % 5}", "item_id": f"i{n % 7}", "days": n + 1} for n in range(40)]
    interactions = build.interactions(filled.events(*rows), ENVIRONMENT, filled.as_of)

    shuffled = interactions.with_columns(pl.col("weight") / 2).sample(fraction=1, shuffle=True, seed=1)

    assert signature.of_frame(shuffled).equals(signature.of_frame(interactions))


def test_something_else_of_the_same_time_and_kind_is_something_else(filled):
    interactions = build.interactions(filled.events({"user_id": "ann"}), ENVIRONMENT, filled.as_of)

    other = interactions.with_columns(pl.lit("j").alias("item_id"))

    assert signature.of_frame(other)["signature"][0] != signature.of_frame(interactions)["signature"][0]
