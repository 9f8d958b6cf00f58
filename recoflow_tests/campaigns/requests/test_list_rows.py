from __future__ import annotations

import csv
import gzip
import io
import re
import zipfile

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from recoflow.campaigns.requests import csv_framing
from recoflow.campaigns.requests.identifiers import as_sent
from recoflow.campaigns.requests.model import campaign_id
from recoflow.formats.fields import BLANK, NO_IDENTITY

HEADER = "environment,user_id,device_id,list_name,list_size,page_type"
ROW = "lorem,ann,,Top,5,weekly_mail"


def rows(*lines: str, header: str = HEADER) -> str:
    return "\n".join((header, *lines)) + "\n"


def problems(request):
    return list(request.errors.select("line", "column", "code").iter_rows())


# Rules about rows


@pytest.mark.parametrize(
    ("line", "column", "code"),
    [
        ("lorem,,,Top,5,weekly_mail", "user_id", "missing_identity"),
        ("lorem,Logged out,undefined,Top,5,weekly_mail", "user_id", "missing_identity"),
        ("lorem,ann,,Top,0,weekly_mail", "list_size", "bad_list_size"),
        ("lorem,ann,,Top,1001,weekly_mail", "list_size", "bad_list_size"),
        ("lorem,ann,,Top,,weekly_mail", "list_size", "bad_list_size"),
        ("lorem,ann,,Top,5.0,weekly_mail", "list_size", "bad_list_size"),
        ("lorem,ann,,Top,-5,weekly_mail", "list_size", "bad_list_size"),
        ("lorem,ann,,Top,٥,weekly_mail", "list_size", "bad_list_size"),
        ("lorem,ann,,Top,99999999999999999999,weekly_mail", "list_size", "bad_list_size"),
        ("lorem,ann,,,5,weekly_mail", "list_name", "missing_list_name"),
        ("lorem,ann,,Top,5,", "page_type", "missing_page_type"),
        ('lorem,ann,,"",5,weekly_mail', "list_name", "missing_list_name"),
    ],
)
def test_a_row_that_breaks_a_rule_is_an_error_of_its_own(ask, line, column, code):
    request = ask(rows(line, "lorem,bob,,Top,5,weekly_mail"))

    assert problems(request) == [(2, column, code)]
    assert request.rows["user_id"].to_list() == ["bob"]
    assert (request.counts.read, request.counts.accepted, request.counts.failed) == (2, 1, 1)


def test_the_limit_of_list_size_can_be_configured(ask):
    assert problems(ask(rows("lorem,ann,,Top,1000,weekly_mail"))) == []
    assert problems(ask(rows("lorem,ann,,Top,11,weekly_mail"), max_list_size=10)) == [(2, "list_size", "bad_list_size")]


def test_a_row_may_break_several_rules_and_fails_once(ask):
    request = ask(rows("lorem,,,,x,"))
    assert {code for _, _, code in problems(request)} == {
        "missing_identity",
        "missing_list_name",
        "missing_page_type",
        "bad_list_size",
    }
    assert request.counts.failed == 1


def test_the_first_of_two_equal_lists_is_answered_and_the_second_is_an_error(ask):
    request = ask(rows(ROW, ROW, "lorem,ann,,Other,5,weekly_mail", "lorem,,ann,Top,5,weekly_mail"))
    assert problems(request) == [(3, "list_name", "duplicate_list")]
    assert request.rows["line"].to_list() == [2, 4, 5]


@pytest.mark.parametrize(("column", "row"), [("user_id", "lorem,guest,d{},Top"), ("device_id", "lorem,,web,Top {}")])
def test_an_id_with_more_lists_than_a_person_can_have_is_a_placeholder_and_none_of_them_is_answered(ask, column, row):
    crowd = [row.format(number) + ",5,weekly_mail" for number in range(1001)]
    shared = ["lorem,ben,web,Top,5,weekly_mail", "lorem,eve,web,Top,5,weekly_mail"]  # a device of several users
    request = ask(rows(*crowd, *shared))
    assert problems(request) == [(line, column, "placeholder_id") for line in range(2, 1003)]
    assert request.rows["user_id"].to_list() == ["ben", "eve"]

    assert not problems(ask(rows(*crowd[1:], *shared)))


def test_a_list_whose_first_row_is_wrong_is_answered_from_the_second(ask):
    request = ask(rows("lorem,ann,,Top,0,weekly_mail", ROW))
    assert request.rows["line"].to_list() == [3]


def test_the_first_page_type_of_a_user_and_device_is_used_and_replacements_are_counted(ask):
    request = ask(
        rows(ROW, "lorem,ann,,Two,5,daily_push", "lorem,ann,phone,Top,5,daily_push", "lorem,ann,,Three,5,weekly_mail")
    )
    assert request.rows["page_type"].to_list() == ["weekly_mail", "weekly_mail", "daily_push", "weekly_mail"]
    assert request.counts.page_types_replaced == 1
    assert problems(request) == []


# Configurations


def test_an_unknown_configuration_is_a_row_error(ask):
    request = ask(rows(f"{ROW},nope", f"{ROW[:-11]}weekly_mail,", header=f"{HEADER},configuration_id"))
    assert problems(request) == [(2, "configuration_id", "unknown_configuration")]


def test_rows_without_configuration_use_the_one_of_their_list(ask):
    request = ask(
        rows(ROW, "lorem,bob,,Other,5,weekly_mail"),
        configurations={"young": {"max_age_days": 3}},
        lists={"Top": "young"},
    )
    assert request.rows["configuration_id"].to_list() == ["young", None]


@pytest.mark.parametrize(
    ("configuration", "reason"),
    [
        ({"algorithm": "als"}, "not in service"),
        ({"filters": {"category": "sport"}}, "no item has the attribute 'category'.*did you mean 'categories'"),
        ({"boosts": [{"query": {"key": "brand", "match": {"value": 1}}, "factor": 2}]}, "attribute 'brand' that it"),
    ],
)
def test_a_configuration_that_the_model_cannot_do_is_a_row_error_that_says_why(ask, configuration, reason):
    request = ask(rows(ROW), configurations={"c": configuration}, lists={"Top": "c"})
    assert problems(request) == [(2, "configuration_id", "unsupported_configuration")]
    assert re.search(reason, request.errors["message"][0])


# Other variables


def test_a_variable_filters_on_the_attribute_of_its_name_or_alias(ask):
    request = ask(
        rows(f"{ROW},sport,eu", header=f"{HEADER},category,region"),
        attributes=["categories", "region"],
        aliases={"category": "categories"},
    )
    assert dict(request.filters) == {"variable:category": "categories", "variable:region": "region"}
    assert request.rows.select(list(request.filters)).row(0) == ("sport", "eu")


def test_a_variable_that_nobody_knows_fails_its_rows_and_is_reported_once_per_column(ask):
    lines = [f"lorem,u{number},,Top,5,weekly_mail,{cell}" for number, cell in enumerate(["", "x", "y"])]
    request = ask(rows(*lines, header=f"{HEADER},colour"))
    assert problems(request) == [(3, "colour", "unknown_variable")]
    assert "2 rows" in request.errors["message"][0]
    assert request.rows["user_id"].to_list() == ["u0"]
    assert request.counts.failed == 2


def test_a_declared_variable_is_accepted_though_no_item_has_it(ask):
    request = ask(rows(f"{ROW},red", header=f"{HEADER},colour"), variables=["colour"])
    assert (problems(request), dict(request.filters)) == ([], {})


@pytest.mark.parametrize("cell", ["[", '"[""a"""', '"[null]"', '"[[1]]"', '"[{}]"', "[]", "['a']"])
def test_a_cell_that_begins_like_an_array_and_is_none_is_a_row_error(ask, cell):
    request = ask(rows(f"{ROW},{cell}", header=f"{HEADER},categories"))
    assert problems(request) == [(2, "categories", "bad_filter")]


def test_variables_may_be_called_like_anything(ask):
    request = ask(rows(f"{ROW},1,2", header=f"{HEADER},row,line"), attributes=["row", "line"])
    assert request.rows.select("row", "line", *request.filters).row(0) == (0, 2, "1", "2")


# The file as a whole


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("", "empty_file"),
        ("\n\r\n\n", "empty_file"),
        (HEADER + "\n", "no_rows"),
        (rows(ROW, header=HEADER.replace("list_size", "list_siez")), "missing_column"),
        (rows(ROW, header=HEADER.replace("list_name", "List_Name")), "missing_column"),
        (rows("lorem,Top,5,home", header="environment,list_name,list_size,page_type"), "missing_column"),
        (rows(ROW, header=HEADER).replace(",", ";"), "wrong_delimiter"),
        (rows(ROW, header="lorem,ann,,Top,5,weekly_mail"), "missing_header"),
        (rows(f"{ROW},x", header=f"{HEADER},user_id"), "duplicate_column"),
        (rows(f"{ROW},x", header=f"{HEADER},"), "unnamed_column"),
        (rows(ROW, header=HEADER.replace("user_id", "”user_id”")), "curly_quotes"),
        (rows(ROW, "ipsum,bob,,Top,5,home"), "wrong_environment"),
        (rows(ROW, ",bob,,Top,5,home"), "wrong_environment"),
        (rows(ROW, "lorem,bob,,Top,5", ROW), "ragged_row"),
        (rows(ROW, f"{ROW},x"), "ragged_row"),
        (rows(ROW, 'lorem,bob,,"To"p,5,home', ROW), "stray_quote"),
        (rows(ROW, 'lorem,bob,,T"o"p,5,home', ROW), "stray_quote"),
        (rows(ROW).replace("\n", "\r"), "cr_only_lines"),
        (rows(ROW, "lorem,b\rb,,Top,5,home"), "cr_only_lines"),
        (rows(ROW).replace("ann", "a\0n"), "nul_byte"),
        (rows(ROW).encode("utf-16"), "not_utf8"),
        (rows(ROW).replace("ann", "né").encode("latin-1"), "not_utf8"),
        (gzip.compress(rows(ROW).encode(), mtime=0), "compressed"),
        (b"PK\x03\x04" + b"x" * 50, "compressed"),
        (b"\x28\xb5\x2f\xfd" + b"x" * 50, "compressed"),
        ("x" * 70_000, "header_too_long"),
    ],
)
@pytest.mark.fault("F44", "F56")
def test_a_file_that_cannot_be_read_is_refused_by_name(ask, content, code):
    request = ask(content)
    assert request.rejection.code == code, request.rejection
    assert request.rows.is_empty()
    assert request.errors["code"].to_list() == [code]
    assert request.errors["message"][0].endswith(".")


@pytest.mark.parametrize(
    "content",
    [
        rows(ROW, 'lorem,bob,,"Top,5,home', ROW),
        rows(ROW, "lorem,bob,,To"),
        rows(ROW) + "lorem,bob,,To",
        "environment,user_id,devi",
        (rows(ROW) + "é").encode()[:-1],
    ],
)
@pytest.mark.fault("F44")
def test_a_file_that_may_have_been_cut_off_has_a_code_of_its_own(ask, content):
    assert ask(content).rejection.code == "truncated"


def test_a_missing_final_line_end_behind_a_whole_row_is_no_problem(ask):
    assert ask(rows(ROW).rstrip("\n")).rows.height == 1


def test_refusals_name_the_line(ask):
    assert ask(rows(ROW, "ipsum,bob,,Top,5,home")).rejection.line == 3
    assert ask(rows('lorem,"a\n\nb",,Top,5,home', "\n", "lorem,bob", ROW)).rejection.line == 7
    assert ask(rows(ROW, "lorem,b\0b,,Top,5,home")).rejection.line == 3
    assert ask(rows(ROW, "lorem,né,,Top,5,home").encode("latin-1")).rejection.line == 3


def test_too_many_rows_bytes_or_items_are_refused_before_anything_is_ranked(ask, make):
    lines = [f"lorem,u{number},,Top,5,home" for number in range(3)]
    assert ask(rows(*lines), max_lists=3).rejection is None
    assert ask(rows(*lines), max_lists=2).rejection.code == "too_many_rows"
    assert ask(rows(*lines), max_items=15).rejection is None
    assert ask(rows(*lines), max_items=14).rejection.code == "too_many_items"


@pytest.mark.fault("M11")
def test_more_cells_than_memory_has_room_for_are_refused_with_the_cure(ask):
    header = "environment,user_id,device_id,list_name,list_size,page_type,category,colour,nothing"
    lines = [f"lorem,u{number},,Top,5,home,sport,," for number in range(3)]
    known = {"attributes": ["categories", "colour"], "aliases": {"category": "categories"}}
    asked = ask(rows(*lines, header=header), max_cells=27, **known)
    assert asked.rejection is None
    rejection = ask(rows(*lines, header=header), max_cells=26, **known).rejection
    assert rejection.code == "too_many_cells"
    assert "3 rows with 2 columns that filter are 27 cells, 26 is the limit" in rejection.message
    assert "Split it into several files, or leave out columns" in rejection.message


@pytest.mark.fault("F43")
def test_a_gzip_bomb_is_refused_before_it_is_unpacked(tmp_path):
    bomb = tmp_path / "bomb"
    with gzip.open(bomb, "wb") as file:
        for _ in range(64):
            file.write(b"\n" * (1 << 20))
    with pytest.raises(Exception, match="more than 5,000,000 bytes"):
        csv_framing.scan_rows(bomb, is_compressed=True, max_bytes=5_000_000, max_rows=100)


def test_gzip_is_read_where_the_name_says_so(ask, make):
    content = gzip.compress(rows(ROW).encode())
    assert ask(content, name=f"{make.name}.gz").rows.height == 1
    assert ask(content[:-12], name=f"{make.name}.gz").rejection.code == "truncated"
    assert ask(content[:20] + b"xxxxxxxx" + content[28:], name=f"{make.name}.gz").rejection.code == "not_gzip"
    assert ask(rows(ROW), name=f"{make.name}.gz").rejection.code == "not_gzip"
    assert ask(gzip.compress(content), name=f"{make.name}.gz").rejection.code == "compressed"
    assert ask(content + bytes(512), name=f"{make.name}.gz").rejection.code == "not_gzip"  # padded


@pytest.mark.fault("F44")
def test_a_zip_named_csv_is_refused(ask):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("request.csv", rows(ROW))
    assert ask(packed.getvalue()).rejection.code == "compressed"


def test_a_name_without_date_rejects_the_file(ask):
    assert ask(rows(ROW), name="lorem_weekly_mail.csv").rejection.code == "name_without_date"


# Framing of cells


@pytest.mark.parametrize(
    "content",
    [
        rows(ROW),
        "\ufeff" + rows(ROW),
        rows(ROW).replace("\n", "\r\n"),
        "\n\n" + rows("", ROW, ""),
        rows('"lorem","ann","","Top","5","weekly_mail"', header=",".join(f'"{name}"' for name in HEADER.split(","))),
        rows("weekly_mail,5,Top,,ann,lorem", header=",".join(reversed(HEADER.split(",")))),
        rows(ROW, header=HEADER.replace(",", " , ")),
        rows("lorem,ann,Top,5,weekly_mail", header="environment,user_id,list_name,list_size,page_type"),
    ],
)
def test_spellings_of_the_same_request_are_the_same(ask, content):
    request = ask(content)
    assert request.rejection is None
    columns = ["user_id", "device_id", "list_name", "list_size", "configuration_id", "page_type"]
    assert request.rows.select(columns).rows() == [("ann", None, "Top", 5, None, "weekly_mail")]


def test_cells_stay_what_they_are(ask):
    request = ask(rows("lorem,007,NaN,null,05,1e5", "lorem, x ,-,true,5,NA"))
    assert request.rows.select("user_id", "device_id", "list_name", "list_size", "page_type").rows() == [
        ("007", "NaN", "null", 5, "1e5"),
        ("x", "-", "true", 5, "NA"),
    ]
    assert request.rows.select(as_sent(request.rows, ["user_id"]))["user_id"].to_list() == ["007", " x "]


cells = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1, max_size=8)
ids = cells.filter(lambda text: text.strip(BLANK).lower() not in {"", *NO_IDENTITY})  # those stand for nobody


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    people=st.lists(
        st.tuples(ids, cells.filter(lambda text: text.strip(BLANK)), st.integers(0, 2)), min_size=1, max_size=8
    ),
    form=st.tuples(st.sampled_from(["\n", "\r\n"]), st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL])),
    chunk=st.integers(1, 40),
)
def test_whatever_a_csv_writer_writes_is_read_back_with_its_lines(ask, people, form, chunk):
    ending, quoting = form
    assume(
        quoting == csv.QUOTE_ALL or not any("\r" in cell for user, page_type, _ in people for cell in (user, page_type))
    )
    assume(not people[-1][1].endswith("\x1a"))  # the end of a file of MS-DOS
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator=ending, quoting=quoting)
    writer.writerow(HEADER.split(","))
    lines = []
    for number, (user, page_type, blank) in enumerate(people):
        file.write(ending * blank)
        lines.append(1 + file.getvalue().count("\n"))
        writer.writerow(["lorem", user, f"d{number}", "Top", 5, page_type])

    request = ask(file.getvalue(), chunk_bytes=chunk)

    assert request.rejection is None, request.rejection
    assert request.rows.select("line", "user_id", "page_type").rows() == [
        (line, user.strip(BLANK), page_type.strip(BLANK))
        for line, (user, page_type, _) in zip(lines, people, strict=True)
    ]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=60) | st.text('",\n\rab0', max_size=40).map(lambda text: rows(text).encode()))
def test_nothing_that_is_uploaded_raises(ask, content):
    request = ask(content)
    counts = request.counts
    assert counts.read == counts.accepted + counts.failed
    assert (request.rejection is None) or request.errors.height == 1


# Identity


def test_campaign_ids_depend_on_environment_name_and_content_alone():
    ids = {
        campaign_id(*key)
        for key in [("a", "b", "c"), ("a", "b", "d"), ("a", "x", "c"), ("e", "b", "c"), ("ab", "", "c")]
    }
    assert len(ids) == 5
    assert campaign_id("a", "b", "c") in ids
