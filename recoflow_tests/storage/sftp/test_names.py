from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recoflow.storage.sftp import names


@given(st.binary(max_size=300))
def test_every_name_has_a_safe_form_that_is_usable_everywhere(name):
    safe = names.safe(name)
    assert names.fault(safe.encode()) is None
    assert safe.isascii()
    assert names.is_data(safe.encode() + b".errors.csv")
    assert names.escaped(name).isascii()
    assert names.escaped(name).isprintable()


@given(st.binary(max_size=80), st.binary(max_size=80))
def test_different_names_have_different_safe_forms(one, other):
    assert (names.safe(one) == names.safe(other)) == (one == other)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        (b"caf\xe9.csv", "UTF-8"),
        (b"a\nb", "control"),
        (b"a\x00b", "control"),
        ("a\u202eb".encode(), "invisible"),
        ("a\u200bb".encode(), "invisible"),
        (b"a/b", "not a file name"),
        (b"..", "not a file name"),
        (b"", "not a file name"),
        (b"x" * 201, "longer than 200 bytes"),
    ],
)
def test_a_name_that_cannot_be_echoed_says_why(name, fault):
    assert fault in names.fault(name)


@pytest.mark.parametrize(
    "time", ["2020-02-02T20:22:02Z", "2020-02-02T20%3A22%3A02Z", "2020-02-02T202202Z", "2020-02-02_20-22-02"]
)
def test_every_spelling_of_a_campaigns_time_is_a_data_name(time):
    name = f"lorem_mail_{time}.csv".encode()
    assert names.is_data(name)
    assert names.fault(name) is None


@pytest.mark.parametrize("name", [b".a.csv", b"~a.csv", b".in.a.csv", b"a.csv.filepart", b"a.csv.PART", b"a.csv.swp"])
def test_names_that_clients_upload_under_are_temporary(name):
    assert names.is_temporary(name)
    assert not names.is_data(name)


@pytest.mark.parametrize("name", [b"a.csv.done", b"a.csv.ok", b"a.csv.ready", b"a.csv.SHA256"])
def test_markers_are_never_data(name):
    assert names.is_marker(name)
    assert not names.is_data(name)


PLACES = [(folder, ending) for folder in names.FOLDERS for ending in (names.ERRORS, names.MANIFEST)]
strange = st.sampled_from(
    [b"periodic.", b"requests.", b"one_time.x", b"unusable-x", b".x", b"a\\b", b"x.errors.csv", b"x"]
)


@pytest.mark.fault("K6", "L7")
@given(st.lists(strange | st.binary(max_size=250), max_size=6, unique=True))
def test_every_answered_file_has_side_files_of_its_own(uploaded):
    uploaded += [names.side(name, names.ERRORS, folder).encode() for name in uploaded for folder in names.FOLDERS]
    uploaded = list(dict.fromkeys(uploaded))
    sides = [names.side(name, ending, folder) for name in uploaded for folder, ending in PLACES]
    assert len(set(sides)) == len(uploaded) * len(PLACES)
    assert all(names.is_side(side) and len(side.encode()) <= 255 for side in sides)


@pytest.mark.fault("K6", "L7")
def test_side_files_are_called_after_the_whole_name_and_those_of_dumps_begin_with_the_folder():
    assert names.side(b"x.csv", names.ERRORS) == "x.csv.errors.csv"
    assert names.side(b"x.csv.gz", names.MANIFEST) == "x.csv.gz.manifest.json"
    assert names.side(b"x.csv", names.ERRORS, "periodic") == "periodic.x.csv.errors.csv"
    assert names.side(b"periodic.x.csv", names.ERRORS) == "requests.periodic.x.csv.errors.csv"
