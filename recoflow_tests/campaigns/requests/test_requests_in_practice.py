"""Request files as spreadsheets, databases and joined exports leave them."""

from __future__ import annotations

import csv
import io
import os
import re
import time

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recoflow.campaigns.publishing import plausibility
from recoflow.campaigns.requests import identifiers
from recoflow.settings.sections import Quality

pytestmark = pytest.mark.slow

HEADER = "environment,user_id,device_id,list_name,list_size,page_type"
ROW = "lorem,ann,,Top,5,weekly_mail"
SECONDS = int(os.environ.get("RECOFLOW_FUZZ_SECONDS", "30"))


def rows(*lines: str, header: str = HEADER) -> str:
    return "\n".join((header, *lines)) + "\n"


def codes(request):
    return list(request.errors.select("line", "code").iter_rows())


@pytest.mark.fault("K3")
@pytest.mark.parametrize("padded", ["ann ", " ann", "ann" + " " * 17, "\tann", '"ann\n"'])
@pytest.mark.parametrize("row", ["lorem,{},,Top,5,mail", "lorem,,{},Top,5,mail"])
def test_an_id_is_read_without_blanks_as_in_events_and_echoed_as_sent(reply, newsroom, ask, padded, row):
    request = ask(rows(row.format(padded)))
    column = "user_id" if request.rows["device_id"][0] is None else "device_id"
    sent = next(csv.reader(io.StringIO(padded)))[0] if padded[0] != '"' else "ann\n"
    as_sent = request.rows.select(identifiers.as_sent(request.rows, [column]))
    assert (request.rows[column][0], as_sent[column][0]) == ("ann", sent)
    staged = reply(rows(row.format(padded)), newsroom)
    assert pl.read_parquet(staged.requests)[column].to_list() == [sent]
    assert pl.read_parquet(staged.requests)["subject"][0].endswith(":ann")


@pytest.mark.fault("K3")
def test_a_padded_id_is_the_same_person_as_the_bare_one(ask):
    request = ask(rows(ROW, "lorem,ann ,,Top,5,weekly_mail", "lorem,ann  ,,Two,5,daily_push"))
    assert codes(request) == [(3, "duplicate_list")]
    assert request.rows["page_type"].to_list() == ["weekly_mail", "weekly_mail"]


@pytest.mark.fault("K3")
def test_all_cells_may_be_padded_as_databases_export_them(ask):
    padded = ",".join(cell.ljust(20) for cell in ("lorem", "ann", "", "Top", "5", "weekly_mail", "young", "sport"))
    header = f"{HEADER},configuration_id,categories"
    request = ask(rows(padded, header=header), configurations={"young": {"max_age_days": 3}})
    assert codes(request) == []
    read = request.rows.select("user_id", "device_id", "list_size", "page_type", "configuration_id").row(0)
    assert read == ("ann", None, 5, "weekly_mail", "young")
    assert request.rows["variable:categories"].to_list() == ["sport"]


@pytest.mark.fault("K5")
@pytest.mark.parametrize(
    "empty",
    [",,,,,", '"","","","","",""', "   ", "\t", "\x1a", " , ,,,,", ",,", ",,,,,,,,", '""', '" "', ",,,,,\r", "\t\x1a"],
)
def test_a_row_without_content_is_a_blank_line_wherever_it_stands(ask, empty):
    request = ask(rows(ROW, empty, "lorem,bob,,Top,5,weekly_mail", empty))
    assert (request.rejection, request.counts.read) == (None, 2)
    assert request.rows.select("line", "user_id").rows() == [(2, "ann"), (4, "bob")]
    assert ask(f"{empty}\n" + rows(ROW)).rows["line"].to_list() == [3]
    assert ask(rows(ROW) + empty).rows.height == 1
    assert ask(rows(empty)).rejection.code == "no_rows"
    assert ask(f"{empty}\n").rejection.code == "empty_file"


@pytest.mark.fault("K5")
def test_the_mark_that_ended_files_of_ms_dos_is_no_part_of_the_last_cell(ask):
    assert ask(rows(ROW)[:-1] + "\x1a").rows["page_type"].to_list() == ["weekly_mail"]


@pytest.mark.fault("K8")
@pytest.mark.parametrize(
    "again", [HEADER, HEADER.replace(",", " , "), "\ufeff" + HEADER, HEADER.replace("er_id", "er_id ")]
)
def test_a_repeated_header_is_skipped_and_counted(ask, again):
    request = ask(rows(ROW, again, "lorem,bob,,Top,5,weekly_mail"))
    assert request.rejection is None
    assert request.rows["line"].to_list() == [2, 4]
    assert (request.counts.read, request.counts.headers_repeated) == (2, 1)


@pytest.mark.fault("K8")
@pytest.mark.parametrize(
    "again",
    [
        ",".join(reversed(HEADER.split(","))),
        f"{HEADER},configuration_id",
        "environment,user_id,list_name,list_size,page_type",
        '\ufeff"environment","user_id","device_id","list_name","list_size","page_type"',
    ],
)
def test_a_second_header_that_is_another_is_named_with_its_line(ask, again):
    rejection = ask(rows(ROW, again, ROW)).rejection
    assert (rejection.code, rejection.line) == ("second_header", 3) or again.startswith("page_type")
    assert "second" in rejection.message or "environment" in rejection.message


@pytest.mark.fault("K11")
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_file_of_wide_characters_is_named_as_such(ask, encoding):
    rejection = ask(rows(ROW).replace(",", "\t").encode(encoding)).rejection
    assert rejection.code == "not_utf8"
    assert "UTF-16" in rejection.message or "UTF-32" in rejection.message


@pytest.mark.fault("K11")
def test_what_the_messages_of_a_request_propose_is_accepted(ask):
    quoted = re.search(r'e\.g\. (".*c")\.', ask(rows('lorem,a "b" c,,Top,5,mail')).rejection.message).group(1)
    assert ask(rows(f"lorem,{quoted},,Top,5,mail")).rows["user_id"].to_list() == ['a "b" c']
    message = ask(rows(f'{ROW},"[x"', header=f"{HEADER},categories")).errors["message"][0]
    array = re.search(r"like (\[.*\])\.", message).group(1).replace('"', '""')
    assert codes(ask(rows(f'{ROW},"{array}"', header=f"{HEADER},categories"))) == []
    header = re.search(r"a header like (\S+)\.", ask(rows(ROW, header="a,b,c,d,e,f")).rejection.message).group(1)
    assert ask(rows("lorem,ann,,Top,5,,mail", header=header)).rejection is None
    own = re.search(r"is for '(\w+)' only", ask(rows(ROW.replace("lorem", "ipsum"))).rejection.message).group(1)
    assert ask(rows(ROW.replace("lorem", own))).rejection is None
    most = re.search(r"from 1 to (\d+)", ask(rows(ROW.replace("5", "x"))).errors["message"][0]).group(1)
    assert codes(ask(rows(ROW.replace("5", most)))) == []


def test_so_many_errors_are_listed_as_can_be_read_and_the_others_are_counted(ask):
    request = ask(rows(*[f"lorem,u{number},,Top,0,mail" for number in range(100_003)]))
    assert codes(request)[:2] == [(2, "bad_list_size"), (3, "bad_list_size")]
    assert codes(request)[99_999:] == [(100_001, "bad_list_size"), (None, "more_errors")]
    assert request.errors["message"][100_000].startswith("3 more")
    assert request.counts.failed == 100_003


def test_a_file_with_more_columns_than_a_campaign_can_mean_is_refused_by_name(ask):
    wide = rows("," * 2000 + ROW, header=",".join(map(str, range(2000))) + f",{HEADER}")
    assert ask(wide).rejection.code == "too_many_columns"


# Checks of what can hardly be meant


def judged(reply, newsroom, model_people, *users, least=0.1):
    staged = reply(rows(*(f"lorem,{user},,Top,2,mail" for user in users)), newsroom)
    known, _ = plausibility.check_plausibility(
        type(staged)(**{**staged.__dict__, "model_people": model_people}), Quality(min_known_share=least)
    )
    return known.passed, known.severity


@pytest.mark.fault("K3")
def test_a_campaign_of_strangers_is_blocked_where_the_model_knows_a_thousand_people_and_else_warned_of(reply, newsroom):
    strangers = [f"stranger-{number}" for number in range(20)]
    assert judged(reply, newsroom, 1000, *strangers) == (False, "error")
    assert judged(reply, newsroom, 999, *strangers) == (False, "warn")
    assert judged(reply, newsroom, 1000, *strangers[:4]) == (False, "warn")
    assert judged(reply, newsroom, 1000, *strangers[:9], "sport ")[0]
    assert not judged(reply, newsroom, 1000, *strangers[:10], "sport")[0]
    assert judged(reply, newsroom, 1000, *strangers, least=0)[0]


@pytest.mark.fault("K2")
def test_an_information_field_that_no_item_has_is_counted_and_warned_of(reply, newsroom):
    staged = reply(rows(ROW), newsroom, information_fields=["titel"])
    assert staged.counts.items > 0
    assert staged.counts.empty_information == {"titel": staged.counts.items}
    _, filled = plausibility.check_plausibility(staged, Quality())
    assert (filled.passed, filled.severity) == (False, "warn")
    assert "'titel'" in filled.message
    assert plausibility.check_plausibility(staged, Quality(max_empty_information_share=1))[1].passed


# Whatever is uploaded


pieces = st.sampled_from(
    [",", '"', "\n", "\r\n", "\x1a", " ", "\ufeff", "lorem", "ann", "5", HEADER, ROW, ROW + "\n", "["]
)
uploads = st.binary(max_size=80) | st.lists(pieces, max_size=20).map("".join).map(lambda text: rows(text).encode())


def read_whatever(ask, content):
    request = ask(content)
    counts = request.counts
    assert counts.read == counts.accepted + counts.failed
    assert request.rows.height == counts.accepted
    assert request.rejection is None or request.errors["code"].to_list() == [request.rejection.code]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(uploads)
def test_whatever_is_uploaded_is_read_or_refused(ask, content):
    read_whatever(ask, content)


@pytest.mark.matrix
def test_whatever_is_uploaded_for_a_while_is_read_or_refused(ask):
    end = time.monotonic() + SECONDS

    @settings(max_examples=500, deadline=None, database=None)
    @given(uploads)
    def upload(content):
        read_whatever(ask, content)

    while time.monotonic() < end:
        upload()


# Files of many blocks


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    "last",
    [
        ROW,
        "lorem,x",
        "lorem,eve,,Top,5,weekly_mail,more",
        "\x1a",
        "ipsum,eve,,Top,5,weekly_mail",
        "environment,user_id",
        'lorem,"e\nv\ne",,Top,0,weekly_mail\x1a',
        ",,,",
    ],
)
def test_a_file_is_understood_alike_however_many_blocks_it_is_read_in(ask, end, last):
    lines = ["\ufeff", HEADER, "", f"{ROW}er", ",,", HEADER, 'lorem,"a\nb",,"To""p",0,weekly_mail', ",,,,,", " ", ROW]
    content = (end.join([lines[0] + lines[1], *lines[2:], *(f"lorem,u{n},,Top,5,m" for n in range(9)), last])).encode()
    whole = ask(content)
    for chunk in (len(HEADER) + 5, 71, 97, 150, len(content) - 1):
        parts = ask(content, chunk_bytes=chunk)
        assert (parts.rejection, parts.counts) == (whole.rejection, whole.counts)
        assert parts.rows.equals(whole.rows)
        assert parts.errors.equals(whole.errors)


@pytest.mark.fault("M11")
def test_a_row_of_15_mib_is_read_and_one_of_21_mib_is_refused(ask):
    people = [ROW.replace("ann", name) for name in ("ann", "bob", "eve")]
    assert ask(rows(people[0], people[1] + "x" * (15 << 20), people[2])).counts.accepted == 3
    rejection = ask(rows(people[0], people[1] + "x" * (21 << 20), people[2])).rejection
    assert rejection.code == "unreadable"
    assert "a row is longer than 16,777,216 bytes" in rejection.message
