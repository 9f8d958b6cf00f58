from __future__ import annotations

import gzip

import pytest

from recoflow.erasure import request_file
from recoflow.errors import SourceError


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("lorem_forget_2026-03-01.csv", True),
        ("forget.csv", True),
        ("lorem-Forget-1.CSV.gz", True),
        ("lorem_unforgettable_events.csv", False),
        ("lorem_forgetful_2026.csv", False),
        ("lorem_forget_2026.jsonl", False),
        ("lorem_events_2026-03-01.csv", False),
    ],
)
def test_a_request_is_told_by_a_word_of_its_own_in_its_name(name, is_one):
    assert request_file.is_request(name) is is_one


@pytest.mark.parametrize(
    ("content", "users", "devices"),
    [
        ("user_id,device_id\nann,\n,phone\nbob,tablet\n", {"ann", "bob"}, {"phone", "tablet"}),
        ('\ufeff"user_id"\r\n"a ""b"", c"\r\n', {'a "b", c'}, set()),
        ("device_id\n\nphone\nphone\n", set(), {"phone"}),
    ],
)
def test_people_are_named_by_either_id(tmp_path, content, users, devices):
    for packed in (content.encode(), gzip.compress(content.encode())):
        path = tmp_path / "file"
        path.write_bytes(packed)
        assert request_file.read_request_file(path, "forget.csv") == (users, devices)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"user_id\n",
        b'user_id\n""\n',
        b"user_id,device_id\n  ,\t\n",
        b"user_id,device_id\nnull,phone\n",
        b"user_id\nann\n Not Available\n",
        b"user_id,page_type\nann,home\n",
        b"user_id,user_id\nann,bob\n",
        b"user_id,device_id\nann\n",
        b"ann\nbob\n",
        b"user_id\n\xff\n",
        b'{"user_id": "ann"}\n',
    ],
)
def test_a_file_that_is_not_quite_a_request_forgets_nobody(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"forget\.csv: .*Send the columns user_id and device_id"):
        request_file.read_request_file(path, "forget.csv")


def test_what_is_told_of_a_file_without_a_header_names_nobody(tmp_path):
    path = tmp_path / "file"
    path.write_text("ann@example.com\nbob@example.com\n")
    with pytest.raises(SourceError) as refusal:
        request_file.read_request_file(path, "forget.csv")
    assert "example.com" not in str(refusal.value)
