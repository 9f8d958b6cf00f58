from __future__ import annotations

import json
import re
import string

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recoflow.privacy.person import SHORT, Person

IDS = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=SHORT, max_size=12)
SEPARATORS = st.sampled_from(['"', " ", ",", "\n", "=", "&", "?", ":", "", "'"])


def of(*ids: str) -> Person:
    return Person(frozenset(ids), frozenset())


@given(identity=IDS, before=SEPARATORS, after=SEPARATORS)
def test_an_id_is_found_wherever_it_stands_alone_whatever_it_is_made_of(identity, before, after):
    assert of(identity).is_in(f"x {before}{identity}{after} y".encode())
    assert of(identity).is_in(json.dumps({"u": identity}).encode())
    assert of(identity).is_in(json.dumps({"u": identity}, ensure_ascii=False).encode())


@given(
    identity=st.text(string.ascii_letters + string.digits + "_-", min_size=SHORT, max_size=12),
    more=st.text("ab1_-", min_size=1),
)
def test_an_id_within_a_longer_one_is_somebody_else(identity, more):
    for other in (identity + more, more + identity):
        if identity not in re.split("[^A-Za-z0-9_-]", other):
            assert not of(identity).is_in(f'{{"user_id": "{other}"}}'.encode())


@given(ids=st.sets(IDS, min_size=1, max_size=4), text=st.text(max_size=40))
def test_tables_and_files_agree_on_what_a_mention_is(ids, text):
    person = of(*ids)
    for content in (text, json.dumps({"id": next(iter(sorted(ids)))})):
        [(found,)] = duckdb.execute("SELECT regexp_matches($1, $2)", [content, person.pattern]).fetchall()
        assert found == person.is_in(content.encode("utf-8", "replace"))


@pytest.mark.parametrize(
    ("text", "is_found"),
    [
        ('{"user_id": "42", "price": 7}', True),
        ('{"user_id":42}', True),
        ('{"user":"42"}', True),
        ('{"user_id": "7", "price": 42}', False),
        ('{"user_id": "421"}', False),
        ("42", False),
    ],
)
def test_a_short_id_is_found_only_where_a_key_says_that_it_is_a_persons(text, is_found):
    assert of("42").is_in(text.encode()) is is_found


@pytest.mark.parametrize(
    ("cells", "is_found"),
    [(["42", "7"], True), ([" 42", "7"], True), (["7", "42"], False), (["7", "u"], False), (["42"], True)],
)
def test_a_short_id_in_a_csv_record_is_told_by_its_column(cells, is_found):
    assert of("42").is_in_row(["user_id", "list_size"], cells) is is_found
