from __future__ import annotations

import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recoflow.storage.sftp.server_replies import Attributes, ListingEntry
from recoflow.storage.sftp.upload_completeness import classify, digest_in, looks_cut

HEADER = b"environment,user_id,list_name\n"


def entry(name=b"a.csv", size=5, mtime=100, *, is_closed=False, kind=stat.S_IFREG):
    return ListingEntry(name, Attributes(size, kind | 0o600, mtime, is_closed))


def scans(*steps, quiet=60):
    """Run scans of (boot time, entries); the names that each finds complete."""
    seen, found = {}, []
    for boot, entries in steps:
        verdict = classify(entries, seen, quiet, "boot", boot)
        seen |= verdict.changed
        for name in verdict.gone:
            del seen[name]
        found.append([complete.entry.name for complete in verdict.complete])
    return found


def test_even_with_no_quiet_time_a_file_is_seen_twice():
    assert scans((0, [entry()]), (0, [entry()]), quiet=0) == [[], [b"a.csv"]]


def test_any_change_of_size_or_time_starts_the_rest_again():
    steps = [(0, entry()), (50, entry(size=6)), (100, entry(size=6, mtime=101)), (159, entry(size=6, mtime=101))]
    assert scans(*((boot, [found]) for boot, found in steps), (160, [entry(size=6, mtime=101)]))[-2:] == [
        [],
        [b"a.csv"],
    ]


def test_a_file_that_went_and_came_back_rests_again():
    assert scans((0, [entry()]), (30, []), (60, [entry()]), (119, [entry()])) == [[], [], [], []]


def test_a_clock_that_went_back_starts_the_rest_again():
    assert scans((1000, [entry()]), (0, [entry()]), (59, [entry()]), (60, [entry()]))[-2:] == [[], [b"a.csv"]]


def test_the_oldest_file_comes_first_and_ties_go_by_name():
    entries = [
        entry(b"c", mtime=1, is_closed=True),
        entry(b"b", mtime=2, is_closed=True),
        entry(b"a", mtime=2, is_closed=True),
    ]
    assert scans((0, entries)) == [[b"c", b"a", b"b"]]


def test_a_marker_alone_completes_nothing_else():
    assert scans((0, [entry(b"b.csv.done"), entry(b"a.csv")])) == [[]]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=12), st.integers(1, 5))
def test_a_complete_file_was_the_same_for_the_whole_quiet_time(states, quiet):
    steps = [(boot, [entry(size=size + 1, mtime=mtime)]) for boot, (size, mtime) in enumerate(states)]
    for boot, names in enumerate(scans(*steps, quiet=quiet)):
        if names:
            assert len(set(states[boot - quiet : boot + 1])) == 1


@pytest.mark.parametrize(
    ("content", "is_cut"),
    [
        (b"", False),
        (HEADER, False),
        (HEADER + b"lorem,u1,home\n", False),
        (HEADER + b"lorem,u1,home", False),
        (HEADER + b"lorem,u1,home\r\n\r\n", False),
        (HEADER + b'lorem,"a,b",home\n', False),
        (HEADER + b'lorem,u1,"two\nlines"\n', False),
        (HEADER + b"lorem,u1", True),
        (HEADER + b"lorem,u1\n", True),
        (HEADER + b'lorem,u1,"ho', True),
        (HEADER + b'lorem,"u1""', True),
    ],
)
def test_a_csv_that_broke_off_inside_a_row_is_seen(tmp_path, content, is_cut):
    path = tmp_path / "file"
    path.write_bytes(content)
    assert looks_cut(path, b"a.csv") is is_cut
    assert not looks_cut(path, b"a.jsonl")


@given(st.binary(max_size=400))
def test_no_bytes_break_the_look(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any bytes"
    path.write_bytes(content)
    assert looks_cut(path, b"a.csv") in {True, False}


@pytest.mark.parametrize("text", [b"%b", b"%b  a.csv\n", b"  %b *a.csv\r\n"])
def test_a_digest_is_read_from_every_usual_form(text):
    assert digest_in(text % (b"AB" * 32)) == "ab" * 32


@pytest.mark.parametrize("text", [b"", b"\n", b"ab" * 31, b"xy" * 32, b"\xff" * 64])
def test_what_is_no_digest_is_none(text):
    assert digest_in(text) is None
