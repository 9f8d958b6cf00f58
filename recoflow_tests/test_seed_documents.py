"""Froomle's public Batch Recommendations page, sentence by sentence, held against the functions that implement it.

Each test quotes what it tests. The page's own example files stand below, the response with its typographic slips
(curly quotes, one misplaced quote in the header) put right.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recoflow import schema
from recoflow.campaigns.lists import build_lists, item_filters
from recoflow.campaigns.publishing import render, response_files
from recoflow.campaigns.requests import filename, request_parser
from recoflow.campaigns.requests.rejection import RequestRejectedError
from recoflow.models.store.bundle import Bundle
from recoflow.settings.environment import Campaigns, Environment
from recoflow.settings.sections import Sftp

NAME = "lorem_weekly_mail_2020-02-02T20:22:02Z.csv"
REQUEST = """"environment","user_id","device_id","list_name","list_size","page_type"
"lorem","some-user",,"Relevant for you this week",5,"weekly_mail"
"lorem","some-other-user",,"Relevant for you this week",5,"weekly_mail"
"lorem","some-user",,"Discover this",5,"weekly_mail"
"""
RESPONSE = """"user_id","device_id","user_group","version","campaign_id","request_id","list_name","item_id","url","rank"
"some-user",,"froomle","froomle_1","11211211","12411511511","Relevant for you this week","item_id_1","some_url.net",1
"some-user",,"froomle","froomle_1","11211211","12411511511","Relevant for you this week","item_id_2","some_url2.net",2
"""
NOW = datetime(2020, 2, 2, 20, 30, tzinfo=UTC)


def environment(**campaigns) -> Environment:
    sftp = Sftp(username="lorem", private_key=Path("key"), known_hosts=Path("hosts"))
    settings = {"provider": "froomle", "version": "froomle_1", "aliases": {"category": "categories"}} | campaigns
    return Environment(name="lorem", sftp=sftp, campaigns=Campaigns.model_validate(settings))


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    """Twelve items in two categories, and both users of the example."""
    numbers = range(1, 13)
    items = pl.DataFrame(
        [
            {
                "item_id": f"item_id_{number:02}",
                "item_type": "article",
                "is_enabled": True,
                "is_available": True,
                "published_at": NOW,
                "updated_at": NOW,
                "attributes": json.dumps(
                    {"url": f"some_url{number}.net", "categories": ["sport"] if number < 7 else ["shoes", "hats"]}
                ),
            }
            for number in numbers
        ],
        schema=schema.ITEMS,
    )
    return Bundle(
        version="20200202",
        subjects=np.array(["u:some-other-user", "u:some-user"]),
        items=items,
        user_factors=np.array([[1, 0], [0, 1]], np.float32),
        item_factors=np.array([[number, 13 - number] for number in numbers], np.float32),
        seen_indptr=np.array([0, 0, 1], np.int64),
        seen_indices=np.array([0], np.int32),
        seen_types=np.array([schema.event_type_bits(["detail_pageview"])], np.int32),
        popular=np.array(numbers, np.float32),
        trending=np.array(numbers, np.float32),
        signatures=np.zeros(2, np.uint64),
        devices=pl.DataFrame(schema=schema.IDENTITY),
        manifest={"model": {"name": "als", "algorithm": "als", "parameters": {}}},
    )


@pytest.fixture
def ask(tmp_path, bundle):
    def parse(content, *, name=NAME, **campaigns):
        (tmp_path / "request").write_text(content, encoding="utf-8")
        return request_parser.parse_request(
            tmp_path / "request",
            name=name,
            environment=environment(**campaigns),
            sha256=hashlib.sha256(content.encode()).hexdigest(),
            known_attributes=item_filters.attribute_names(bundle.items),
        )

    return parse


@pytest.fixture
def reply(ask, bundle, tmp_path):
    """The response's text."""

    def parse_and_answer(content, *, name=NAME, **campaigns):
        asked = ask(content, name=name, **campaigns)
        assert asked.rejection is None, asked.rejection
        settings = environment(**campaigns)
        staged = build_lists.build_lists(asked, bundle, settings, tmp_path / "staging", NOW, threads=1)
        return render.write_response(staged, tmp_path / "response").path.read_text(encoding="utf-8")

    return parse_and_answer


def table(text):
    return list(csv.DictReader(io.StringIO(text)))


def replaced(column, value, row=0):
    """The example request with one cell changed."""
    rows = table(REQUEST)
    rows[row] = rows[row] | {column: value}
    file = io.StringIO()
    writer = csv.DictWriter(file, list(dict.fromkeys(key for each in rows for key in each)))
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def codes(asked):
    return asked.errors["code"].to_list()


# "How should I name my request file?"


def test_a_weekly_mail_would_look_like_the_example():
    parsed = filename.parse_filename(NAME, "lorem")
    assert (parsed.campaign, parsed.date) == ("weekly_mail", datetime(2020, 2, 2, 20, 22, 2, tzinfo=UTC))


def test_the_request_filename_has_to_contain_the_date_of_the_campaign():
    with pytest.raises(RequestRejectedError):
        filename.parse_filename("lorem_weekly_mail.csv", "lorem")


def test_the_filename_of_the_response_matches_the_one_provided(ask, bundle, tmp_path):
    staged = build_lists.build_lists(ask(REQUEST), bundle, environment(), tmp_path / "staging", NOW, threads=1)
    assert response_files.render_files(staged, tmp_path)[-1][1] == NAME


# "What type of CSV should I send?"


def test_the_example_request_is_understood_row_by_row(ask):
    asked = ask(REQUEST)
    assert (asked.rejection, asked.errors.height) == (None, 0)
    assert asked.rows.select("user_id", "device_id", "list_name", "list_size", "page_type").rows() == [
        ("some-user", None, "Relevant for you this week", 5, "weekly_mail"),
        ("some-other-user", None, "Relevant for you this week", 5, "weekly_mail"),
        ("some-user", None, "Discover this", 5, "weekly_mail"),
    ]


def test_the_csv_file_should_use_comma_as_delimiter(ask):
    assert ask(REQUEST.replace(",", ";")).rejection.code == "wrong_delimiter"


def test_strings_should_be_quoted_but_need_not_be(ask):
    assert ask(REQUEST.replace('"', "")).rows.equals(ask(REQUEST).rows)


def test_the_file_should_contain_a_header(ask):
    assert ask(REQUEST.split("\n", 1)[1]).rejection.code == "missing_header"


def test_null_values_are_sent_by_leaving_that_position_empty(ask):
    assert ask(REQUEST).rows["device_id"].null_count() == 3


# "What structure should the request file be?"


@pytest.mark.parametrize("column", ["environment", "list_name", "list_size", "page_type"])
def test_required_columns_are_required(ask, column):
    asked = ask(REQUEST.replace(f'"{column}"', '"another"', 1))
    assert (asked.rejection.code, asked.rejection.column) == ("missing_column", column)


def test_there_can_be_only_one_environment_in_a_single_request_file(ask):
    assert ask(replaced("environment", "ipsum", row=2)).rejection.code == "wrong_environment"


def test_at_least_one_way_of_identifying_who_to_generate_for_is_needed(ask):
    assert codes(ask(replaced("user_id", ""))) == ["missing_identity"]


def test_it_is_also_possible_to_give_a_value_for_both(reply):
    row = table(reply(replaced("device_id", "phone")))[0]
    assert (row["user_id"], row["device_id"]) == ("some-user", "phone")


@pytest.mark.parametrize(
    ("column", "code"),
    [("list_name", "missing_list_name"), ("page_type", "missing_page_type"), ("list_size", "bad_list_size")],
)
def test_required_values_are_required(ask, column, code):
    assert codes(ask(replaced(column, ""))) == [code]


def test_the_list_name_is_not_interpreted_but_sent_back(reply):
    assert table(reply(replaced("list_name", '"quoted", – ☃')))[0]["list_name"] == '"quoted", – ☃'


def test_list_size_is_the_number_of_recommendations_to_compute(reply):
    rows = table(reply(replaced("list_size", "3")))
    assert sum(row["user_id"] == "some-user" and row["list_name"].startswith("Relevant") for row in rows) == 3


def test_the_configuration_needs_to_be_registered_first(ask):
    asked = replaced("configuration_id", "mine")
    assert codes(ask(asked)) == ["unknown_configuration"]
    assert codes(ask(asked, configurations={"mine": {}})) == []


def test_the_first_page_type_will_always_be_used(ask):
    asked = ask(replaced("page_type", "daily_push", row=2))
    assert asked.rows["page_type"].to_list() == ["weekly_mail"] * 3
    assert asked.counts.page_types_replaced == 1


def test_other_variables_select_the_items(reply):
    rows = table(reply(replaced("category", "shoes")))
    chosen = [row["item_id"] for row in rows if row["list_name"].startswith("Relevant")][:5]
    assert chosen == [f"item_id_{number:02}" for number in (7, 8, 9, 10, 11)]


def test_an_array_of_values_means_any_of_these(reply):
    rows = table(reply(replaced("category", '["shoes","sport"]')))
    assert [row["item_id"] for row in rows][:2] == ["item_id_02", "item_id_03"]


# "What structure will the response file have?"


def test_the_response_has_the_columns_of_the_example(reply):
    assert reply(REQUEST).splitlines()[0] == RESPONSE.splitlines()[0]


def test_the_response_quotes_strings_and_no_integers_as_the_example_does(reply):
    ours, theirs = (text.splitlines()[1] for text in (reply(REQUEST), RESPONSE))

    def shape(line):
        return [cell[:1] == '"' for cell in line.replace(', "', "").split(",")]

    assert shape(ours) == shape(theirs)
    assert ours.startswith('"some-user",,"froomle","froomle_1","')
    assert ours.endswith(',"Relevant for you this week","item_id_02","some_url2.net",1')


def test_rows_stand_in_the_order_of_the_request_with_ranks_from_one_to_n(reply):
    rows = table(reply(REQUEST))
    assert [(row["user_id"], row["list_name"], int(row["rank"])) for row in rows] == [
        (user, name, rank)
        for user, name in [
            ("some-user", "Relevant for you this week"),
            ("some-other-user", "Relevant for you this week"),
            ("some-user", "Discover this"),
        ]
        for rank in range(1, 6)
    ]


def test_each_user_device_and_list_has_a_single_unique_request_id(reply):
    rows = table(reply(REQUEST))
    ids = {(row["user_id"], row["device_id"], row["list_name"]): row["request_id"] for row in rows}
    assert len(set(ids.values())) == len(ids) == 3
    assert all(ids[row["user_id"], row["device_id"], row["list_name"]] == row["request_id"] for row in rows)


def test_the_campaign_id_is_the_identifier_of_the_batch(reply):
    first, again, other = (
        {row["campaign_id"] for row in table(reply(REQUEST, name=name))} for name in (NAME, NAME, f"x_{NAME}")
    )
    assert first == again
    assert len(first | other) == 2


def test_user_group_tells_the_provider_and_who_got_a_fallback(reply):
    rows = table(reply(replaced("user_id", "a-stranger", row=1)))
    assert {(row["user_id"], row["user_group"]) for row in rows} == {
        ("some-user", "froomle"),
        ("a-stranger", "fallback"),
    }


def test_the_lists_of_one_user_have_no_item_in_common(reply):
    items = [row["item_id"] for row in table(reply(REQUEST)) if row["user_id"] == "some-user"]
    assert len(set(items)) == len(items) == 10


def test_the_names_of_information_fields_can_be_chosen(reply):
    header = reply(REQUEST, information_fields=["categories", "url"]).splitlines()[0]
    assert header.endswith('"item_id","categories","url","rank"')


def test_a_request_with_curly_quotes_in_its_header_is_told_so(ask):
    asked = ask(REQUEST.replace('"user_id"', "”user_id”"))
    assert asked.rejection.code == "curly_quotes"
    assert "quotes" in asked.rejection.message
