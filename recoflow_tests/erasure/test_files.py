from __future__ import annotations

import csv
import gzip
import io
import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recoflow.erasure.compressed_files import unpacked
from recoflow.erasure.files import file_mentions, redact_file
from recoflow.erasure.subject import ErasureSubject

ANN = ErasureSubject(frozenset({"ann-4711"}), frozenset())
OWN, OTHER = {"user_id": "ann-4711", "n": 1}, {"user_id": "bob-0815", "n": 2}


def keep(_path):
    return False


def drop(_path):
    return True


def written(path, content, packing=""):
    data = content.encode()
    if packing == "gzip":
        data = gzip.compress(data)
    elif packing == "zstd":
        data = pa.compress(data, codec="zstd", asbytes=True)
    path.write_bytes(data)
    return path


@pytest.mark.fault("M15")
def test_in_the_first_row_of_a_file_without_a_header_the_id_is_blanked(tmp_path):
    path = written(tmp_path / "file", "page_visit,ann-4711,home\npage_visit,bob-0815,home\n")
    assert file_mentions(path, ANN)
    redact_file(path, ANN, keep)
    assert "ann-4711" not in path.read_text()
    assert path.read_text().endswith("\npage_visit,bob-0815,home\n")
    assert not file_mentions(path, ANN)


@pytest.mark.fault("M15")
def test_a_header_keeps_the_names_of_fields_that_are_ids_of_the_person(tmp_path):
    path = written(tmp_path / "file", "user_id,n\nbob-0815,2\n")
    assert redact_file(path, ErasureSubject(frozenset({"user_id"}), frozenset()), keep) is None


@pytest.mark.parametrize("packing", ["", "gzip", "zstd"])
@pytest.mark.parametrize(
    ("content", "left"),
    [
        (f"{json.dumps(OWN)}\n{json.dumps(OTHER)}\n\n", f"{json.dumps(OTHER)}\n\n"),
        (f"{json.dumps([OWN, OTHER])}\n", f"{json.dumps([OTHER])}\n"),
        (f"{json.dumps({'events': [OTHER, OWN]})}", f"{json.dumps({'events': [OTHER]})}\n"),
        ("user_id,n\nann-4711,1\nbob-0815,2\n", "user_id,n\nbob-0815,2\n"),
        ('n,"user_id"\r\n"1\r\n2","ann-4711"\r\n3,bob-0815\r\n', 'n,"user_id"\r\n3,bob-0815\r\n'),
        ("user_id\nann-4711\n", "user_id\n"),
        ("\ufeffuser_id,n\nann-4711,1\n", "\ufeffuser_id,n\n"),
    ],
)
def test_records_about_the_person_go_and_the_others_stay_byte_for_byte(tmp_path, packing, content, left):
    path = written(tmp_path / "file", content, packing)
    done = redact_file(path, ANN, keep)
    assert (done.records, done.is_removed) == (1, False)
    assert unpacked(path.read_bytes()).decode() == left
    assert path.read_bytes()[:2] == {"": left.encode()[:2], "gzip": b"\x1f\x8b", "zstd": b"\x28\xb5"}[packing]
    assert redact_file(path, ANN, keep) is None


def test_json_over_several_lines_loses_the_records_of_the_person(tmp_path):
    path = written(tmp_path / "file.json", json.dumps([OWN, OTHER], indent=1))
    assert redact_file(path, ANN, keep).records == 1
    assert json.loads(path.read_text()) == [OTHER]


@pytest.mark.fault("M15")
def test_a_refused_file_that_is_no_json_loses_the_records_and_mentions_that_can_be_read(tmp_path):
    path = written(tmp_path / "file", '[\n{"user_id": "ann-4711"},\n{"user_id": "bob", "via": "ann-4711"},\n{"user')
    done = redact_file(path, ANN, keep)
    assert (done.records, done.blanked) == (1, 1)
    assert path.read_text() == '[\n,\n{"user_id": "bob", "via": ""},\n{"user'


def test_a_short_id_goes_by_its_column(tmp_path):
    path = written(tmp_path / "file", "user_id,list_size\n42,7\n7,42\n")
    assert redact_file(path, ErasureSubject(frozenset({"42"}), frozenset()), keep).records == 1
    assert path.read_text() == "user_id,list_size\n7,42\n"


@pytest.mark.fault("M15")
@pytest.mark.parametrize("packing", ["gzip", "zstd"])
def test_a_damaged_archive_with_the_person_goes_when_it_is_not_needed(tmp_path, packing):
    path = written(tmp_path / "file", "".join(f"{json.dumps(OWN | {'n': n})}\n" for n in range(40_000)), packing)
    path.write_bytes(path.read_bytes()[:-10])
    assert redact_file(path, ANN, keep) is None
    assert file_mentions(path, ANN)
    assert redact_file(path, ANN, drop).is_removed
    assert not path.exists()


def test_a_damaged_archive_without_the_person_stays(tmp_path):
    path = tmp_path / "file.gz"
    path.write_bytes(gzip.compress(json.dumps(OTHER).encode())[:-10])
    assert redact_file(path, ANN, drop) is None
    assert path.exists()


PEOPLE = st.sampled_from(["ann-4711", "bob-0815", "ann-47110", "", 'a "b", c\n'])


@given(rows=st.lists(st.tuples(PEOPLE, st.text(max_size=5)), max_size=8))
def test_no_mix_of_csv_records_loses_anybody_else(tmp_path_factory, rows):
    text = io.StringIO(newline="")
    csv.writer(text).writerows([("user_id", "text"), *rows])
    path = written(tmp_path_factory.mktemp("rows") / "file", text.getvalue())
    redact_file(path, ANN, keep)
    left = list(csv.reader(io.StringIO(path.read_bytes().decode(), newline="")))
    assert [tuple(row) for row in left[1:]] == [row for row in rows if row[0] != "ann-4711"]
