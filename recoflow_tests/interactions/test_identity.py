from __future__ import annotations

import polars as pl

from recoflow import schema
from recoflow.interactions import identity


def test_a_device_with_one_user_belongs_to_that_user(filled):
    devices = identity.resolve_devices(
        filled.events({"device_id": "d1"}, {"device_id": "d1", "user_id": "ann"}, {"device_id": "d1", "user_id": "ann"})
    )

    assert devices.rows() == [("d1", "ann")]
    assert devices.schema == schema.IDENTITY


def test_a_device_with_two_users_belongs_to_none(filled):
    devices = identity.resolve_devices(
        filled.events({"device_id": "d1", "user_id": "ann"}, {"device_id": "d1", "user_id": "bob"})
    )

    assert devices.rows() == [("d1", None)]


def test_a_user_has_many_devices_and_devices_without_a_user_are_left_out(filled):
    devices = identity.resolve_devices(
        filled.events({"device_id": "d2", "user_id": "ann"}, {"device_id": "d1", "user_id": "ann"}, {"device_id": "d3"})
    )

    assert devices.rows() == [("d1", "ann"), ("d2", "ann")]


def test_the_subject_is_the_user_then_the_device_s_user_then_the_device():
    devices = pl.DataFrame({"device_id": ["own", "shared"], "user_id": ["ann", None]}, schema=schema.IDENTITY)
    people = [("bob", "own"), (None, "own"), (None, "shared"), ("bob", "shared"), (None, "new"), ("bob", None)]
    user_id, device_id = (pl.Series(ids, dtype=pl.String) for ids in zip(*people, strict=True))

    subjects = identity.subject_of(user_id, device_id, devices)

    assert subjects.to_list() == ["u:bob", "u:ann", "d:shared", "u:bob", "d:new", "u:bob"]


def test_nobody_has_no_subject_and_the_order_is_kept():
    devices = pl.DataFrame(schema=schema.IDENTITY)
    user_id = pl.Series([f"{n}" if n % 3 else None for n in range(5000)], dtype=pl.String)

    subjects = identity.subject_of(user_id, pl.repeat(None, 5000, dtype=pl.String, eager=True), devices)

    assert subjects.to_list() == [f"u:{n}" if n % 3 else None for n in range(5000)]
