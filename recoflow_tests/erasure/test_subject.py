from __future__ import annotations

import json
import re
import string

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recoflow.erasure.subject import SHORT, ErasureSubject, is_ambiguous

IDS = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=SHORT, max_size=12).filter(
    lambda text: not is_ambiguous(text)
)
SEPARATORS = st.sampled_from(['"', " ", ",", "\n", "=", "&", "?", ":", "", "'"])


def of(*ids: str) -> ErasureSubject:
    return ErasureSubject(frozenset(ids), frozenset())


@given(identity=IDS, before=SEPARATORS, after=SEPARATORS)
def test_an_id_is_found_wherever_it_stands_alone_whatever_it_is_made_of(identity, before, after):
    assert of(identity).is_in(f"x {before}{identity}{after} y".encode())
    assert of(identity).is_in(json.dumps({"u": identity}).encode())
    assert of(identity).is_in(json.dumps({"u": identity}, ensure_ascii=False).encode())


@given(
    identity=st.text(string.ascii_letters + string.digits + "_-", min_size=SHORT, max_size=12).filter(
        lambda text: not is_ambiguous(text)
    ),
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


@pytest.mark.fault("C4")
@pytest.mark.parametrize(
    ("record", "is_own"),
    [
        ({"user_id": "42", "list_size": "7"}, True),
        ({"user_id": " 42", "list_size": "7"}, True),
        ({"user_id": 42}, True),
        ({"user_id": "7", "list_size": "42"}, False),
        ({"user_id": "7", "session_id": "42"}, False),
        ({"device_id": "42"}, False),  # a device is no user
        ({"event": "interaction", "user": "42", "item": "1"}, True),
        ({"event": "item", "item": "42", "user": "42"}, False),
        ({"event_type": "page_visit", "user_id": "7", "user": "42"}, False),
        ({"item_id": "42", "item_type": "article"}, False),
        ({"put": {"item_id": "42", "user": "42"}}, False),
        ({"session": "42"}, True),
        ({"user_id": "anonymous", "session_id": "42"}, True),
    ],
)
def test_a_record_belongs_to_who_is_in_its_field_for_people(record, is_own):
    assert of("42").owns(record) is is_own


@pytest.mark.fault("C4")
@pytest.mark.parametrize("identity", ["u-1", "12345", "1.250", "article", "detail_pageview"])
def test_an_id_that_looks_like_another_thing_is_ambiguous(identity):
    assert is_ambiguous(identity)


@pytest.mark.fault("C4")
@pytest.mark.parametrize("identity", ["ann-4711", "1234567", "ann@example.com", "phone-of-ann", "anna1"])
def test_an_id_of_a_form_of_its_own_is_distinctive(identity):
    assert not is_ambiguous(identity)


@pytest.mark.fault("C4")
@pytest.mark.parametrize(
    ("text", "left"),
    [
        ('{"n": 1.10, "who": "ann-4711", "raw": "a \\"ann-4711\\""}', '{"n": 1.10, "who": "", "raw": "a \\"\\""}'),
        ('{"n": 1234567, "at": "x 1234567 y"}', '{"n": null, "at": "x  y"}'),
        ('{"price": 12345, "to": "/p/12345"}', '{"price": 12345, "to": "/p/12345"}'),
        ('{"to": "/p/12345?user_id=12345"}', '{"to": "/p/12345?user_id="}'),
        ('{"friend": {"user_id": 12345}}', '{"friend": {"user_id": ""}}'),
        ('{"to": "/?mail=ann%40example.com&x"}', '{"to": "/?mail=&x"}'),
        ('{"who": "ann-47110"}', '{"who": "ann-47110"}'),
    ],
)
def test_a_mention_in_json_is_blanked_and_all_else_keeps_its_form(text, left):
    person = of("ann-4711", "1234567", "12345", "ann@example.com")
    assert person.blanked_json(text) == left
