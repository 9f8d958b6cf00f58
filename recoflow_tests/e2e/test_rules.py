"""The rules of request and response files, one by one, through the real sensor, SFTP server and Dagster run.

All files below are dropped at once and answered as one burst; each test looks at what came back for its own.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from recoflow import schema
from recoflow.campaigns.lists import item_filters
from recoflow.models.store import versions
from recoflow.models.store.bundle import Bundle
from recoflow.sandbox import feeder, world
from recoflow_tests import scenario
from recoflow_tests.scenario import Scenario
from recoflow_tests.test_seed_documents import NAME as SEED_NAME
from recoflow_tests.test_seed_documents import REQUEST as SEED_REQUEST

HEADER = "environment,user_id,device_id,list_name,list_size,configuration_id,page_type"
READER = "reader-00001"
OTHER = "reader-00002"
MAX_BYTES = 20_000
COLUMNS = [*schema.RESPONSE_COLUMNS, "url", "rank"]


def rows(*lines: str, header: str = HEADER) -> str:
    return "\n".join([header, *lines]) + "\n"


def good(user: str = READER, name: str = "Top") -> str:
    return f"lorem,{user},,{name},3,,mail"


# Files whose rows are judged one by one: content, and what is told of each refused row.
ROWS = {
    "no_identity": (rows(good(), "lorem,,,Top,3,,mail"), [(3, "user_id", "missing_identity")]),
    "list_size": (
        rows(good(), *(f"lorem,{READER},,L{size},{size},,mail" for size in ("0", "1001", "x", "2.5"))),
        [(line, "list_size", "bad_list_size") for line in (3, 4, 5, 6)],
    ),
    "empty_cells": (
        rows(good(), f"lorem,{READER},,,3,,mail", f"lorem,{READER},,L,3,,"),
        [(3, "list_name", "missing_list_name"), (4, "page_type", "missing_page_type")],
    ),
    "page_types": (rows(good(), f"lorem,{READER},,Other,3,,push"), []),
    "duplicates": (rows(good(), good(OTHER), good()), [(4, "list_name", "duplicate_list")]),
    "configuration": (
        rows(good(), f"lorem,{OTHER},,Top,3,nobody,mail", f"lorem,{OTHER},,More,3,discover,mail"),
        [(3, "configuration_id", "unknown_configuration")],
    ),
    "unknown_variable": (
        rows(good() + ",", good(OTHER) + ",a", good(OTHER, "b") + ",c", header=HEADER + ",colour"),
        [(3, "colour", "unknown_variable")],
    ),
    "bad_filter": (
        rows(good() + ",", good(OTHER) + ',"[""a"""', header=HEADER + ",category"),
        [(3, "category", "bad_filter")],
    ),
    "bom_crlf_order": (
        '\ufeff"page_type", list_size ,list_name,device_id,user_id,environment\r\nmail,3,Top,,reader-00001,lorem\r\n',
        [],
    ),
    "devices": (rows("lorem,,some-device,Top,3,,mail", f"lorem,{READER},some-device,Top,3,,mail"), []),
}
AUDIENCES = "environment,item_id,audience_size,audience_name"
# Files that are refused as a whole.
REFUSED = {
    "mixed_columns": rows("lorem,a,3,,ann", header=AUDIENCES + ",user_id"),
    "wrong_environment": rows(good(), "ipsum,u,,Top,3,,mail"),
    "missing_column": rows("lorem,u,Top,3", header="environment,user_id,list_name,list_size"),
    "missing_header": rows(good(), header="a,b,c,d,e,f,g"),
    "curly_quotes": rows(good(), header=HEADER.replace("user_id", "”user_id”")),
    "wrong_delimiter": rows(good()).replace(",", ";"),
    "no_rows": HEADER + "\n",
    "ragged_row": rows(good() + ",too,many", good()),
    "stray_quote": rows(good().replace("Top", 'T"op'), good()),
    "not_utf8": rows(good()).encode() + b"lorem,\xff,,Top,3,,mail\n",
    "nul_byte": rows(good(), good().replace("Top", "T\0p")),
    "cr_only_lines": rows(good()).replace("\n", "\r") + "\n",
    "duplicate_column": rows(good() + ",mail", header=HEADER + ",page_type"),
    "too_large": rows(*(good(f"u{number}") for number in range(MAX_BYTES // 10))),
    "compressed": gzip.compress(rows(good()).encode()),
    "name_without_date": rows(good()),
}


def file_name(case: str) -> str:
    return "lorem_undated.csv" if case == "name_without_date" else f"lorem_{case}_2026-11-22T06:00:00Z.csv"


@dataclass
class Answered:
    """What lies in responses/ after the burst, and the model that ranked."""

    files: dict[str, bytes]
    bundle: Bundle

    def response(self, case: str) -> list[dict[str, str]]:
        return list(csv.DictReader(io.StringIO(self.files[file_name(case)].decode())))

    def manifest(self, case: str) -> dict[str, object]:
        return dict(json.loads(self.files[f"{file_name(case)}.manifest.json"]))

    def errors(self, case: str) -> list[dict[str, str]]:
        text = self.files.get(f"{file_name(case)}.errors.csv", b"line\n").decode()
        return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture(scope="module")
def answered(trained_data: Path, sample: world.World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Answered]:
    root = tmp_path_factory.mktemp("rules") / "data"
    with scenario.installed(root, "lorem", template=trained_data) as made:
        limit(made)
        drops = {file_name(case): content for case, (content, _) in ROWS.items()}
        drops |= {file_name(case): content for case, content in REFUSED.items()}
        drops |= {file_name("filters"): filters(), SEED_NAME: SEED_REQUEST}
        drops[file_name("people")] = world.request(sample, [*sample.users[:20], "somebody-new"])
        drops[file_name("audiences")] = audiences(made)
        drops[file_name("packed") + ".gz"] = gzip.compress(rows(good()).encode())
        made.drop_requests(drops)
        with made.definitions.resources["installation"].mailbox(made.environment("lorem")) as mailbox:
            for _ in range(5):
                mailbox.poll("requests")
            assert [name for name, _ in mailbox.held()] == []
        (request,) = made.run_requests("lorem_requests")
        assert request.job_name == "lorem_campaign_batch"
        assert made.campaign(request).success
        found = {}
        with made.customer() as sftp:
            for name in feeder.responses(sftp):
                with sftp.open(f"responses/{name}") as file:
                    found[name] = file.read()
        champion = versions.champion_bundle(made.layout.models("lorem"))
        assert champion is not None
        yield Answered(found, champion)


def limit(made: Scenario) -> None:
    path = made.layout.environments / "lorem.yaml"
    settings = yaml.safe_load(path.read_text())
    settings["sftp"]["max_bytes"] = MAX_BYTES
    path.write_text(yaml.safe_dump(settings))
    made.reload()


def audiences(made: Scenario) -> str:
    """One item, any of two, and two rows that are refused."""
    champion = versions.champion_bundle(made.layout.models("lorem"))
    assert champion is not None
    one, two = rankable(champion)[:2]
    any_of = json.dumps([one, two]).replace('"', '""')
    lines = [f"lorem,{one},5,One", f'lorem,"{any_of}",7,', "lorem,no-such-item,5,Two", f"lorem,{two},0,Three"]
    return rows(*lines, header=AUDIENCES)


def rankable(bundle: Bundle) -> list[str]:
    """Items that are enabled and that the model has factors of."""
    fit = item_filters.is_eligible(bundle.items) & bundle.item_factors.any(axis=1)
    return [item for item, is_fit in zip(bundle.items["item_id"], fit, strict=True) if is_fit]


def filters() -> str:
    cells = ["", "sport", '"[""sport"",""politics""]"', "no such category"]
    lines = [f"lorem,{READER},,L{number},5,,mail,{cell}" for number, cell in enumerate(cells)]
    return rows(*lines, header=HEADER + ",category")


@pytest.mark.parametrize("case", ROWS)
def test_a_row_that_breaks_a_rule_is_told_and_the_others_are_answered(answered: Answered, case: str) -> None:
    content, expected = ROWS[case]
    assert [(int(e["line"]), e["column"], e["code"]) for e in answered.errors(case)] == expected
    counts = answered.manifest(case)["counts"]
    read = len(content.split("\n")) - 2
    refused = 2 if case == "unknown_variable" else len(expected)  # told once for the column
    assert (counts["read"], counts["failed"], counts["answered"]) == (read, refused, read - refused)
    assert len({(row["user_id"], row["device_id"], row["list_name"]) for row in answered.response(case)}) == (
        read - refused
    )


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_that_breaks_a_rule_as_a_whole_gets_its_errors_and_no_response(answered: Answered, case: str) -> None:
    assert file_name(case) not in answered.files
    (error,) = answered.errors(case)
    assert error["code"] == case
    assert error["message"]


def test_audiences_are_answered_like_lists(answered: Answered) -> None:
    errors = [(int(e["line"]), e["column"], e["code"]) for e in answered.errors("audiences")]
    assert errors == [(4, "item_id", "unknown_item"), (5, "audience_size", "bad_audience_size")]
    counts = {"read": 4, "answered": 2, "failed": 2, "short": 0, "empty": 0, "people": 12}
    assert answered.manifest("audiences")["counts"] == counts
    header = answered.files[file_name("audiences")].decode().splitlines()[0]
    assert header == '"user_id","device_id","campaign_id","request_id","audience_name","item_id","rank"'
    found = answered.response("audiences")
    one, two = rankable(answered.bundle)[:2]
    asked = [("One", one)] * 5 + [("", json.dumps([one, two]))] * 7
    assert [(row["audience_name"], row["item_id"]) for row in found] == asked
    assert [int(row["rank"]) for row in found] == [*range(1, 6), *range(1, 8)]
    assert all(bool(row["user_id"]) != bool(row["device_id"]) for row in found)
    assert len({row["request_id"] for row in found}) == 2


def test_the_first_page_type_of_a_person_is_used_and_the_other_counted(answered: Answered) -> None:
    assert answered.manifest("page_types")["counts"]["page_types_replaced"] == 1


def test_the_published_example_is_answered(answered: Answered) -> None:
    answer = list(csv.DictReader(io.StringIO(answered.files[SEED_NAME].decode())))
    lists = [(row["user_id"], row["list_name"], int(row["rank"])) for row in answer]
    assert lists == [
        (user, name, rank)
        for user, name in [
            ("some-user", "Relevant for you this week"),
            ("some-other-user", "Relevant for you this week"),
            ("some-user", "Discover this"),
        ]
        for rank in range(1, 6)
    ]


def test_variables_filter_and_an_array_means_any_of_these(answered: Answered) -> None:
    kinds = {
        item["item_id"]: set(json.loads(item["attributes"] or "{}").get("categories") or [])
        for item in answered.bundle.items.iter_rows(named=True)
    }
    got: dict[str, list[set[str]]] = {f"L{number}": [] for number in range(4)}
    for row in answered.response("filters"):
        got[row["list_name"]].append(kinds[row["item_id"]])
    assert len(got["L0"]) == 5
    assert got["L1"]
    assert all("sport" in kind for kind in got["L1"])
    assert all(kind & {"sport", "politics"} for kind in got["L2"])
    assert got["L3"] == []
    assert answered.manifest("filters")["counts"]["empty"] == 1


def test_a_gzipped_request_gets_a_gzipped_response(answered: Answered) -> None:
    text = gzip.decompress(answered.files[file_name("packed") + ".gz"]).decode()
    assert [row["rank"] for row in csv.DictReader(io.StringIO(text))] == ["1", "2", "3"]


def test_the_response_has_the_columns_in_their_order_and_quotes_strings_only(answered: Answered) -> None:
    header, first = answered.files[file_name("people")].decode().splitlines()[:2]
    assert header == ",".join(f'"{column}"' for column in COLUMNS)
    cells = first.split(",")
    assert cells[1] == ""
    assert cells[-1] == "1"
    assert all(cell[0] == cell[-1] == '"' for cell in cells[:1] + cells[2:-1])


def test_lists_stand_in_the_order_of_the_request_with_ranks_from_one_and_no_item_twice(
    answered: Answered, sample: world.World
) -> None:
    answer = answered.response("people")
    users = [*sample.users[:20], "somebody-new"]
    wanted = [(user, name, rank) for name, size in world.LISTS.items() for user in users for rank in range(1, size + 1)]
    assert [(row["user_id"], row["list_name"], int(row["rank"])) for row in answer] == wanted
    pairs = [(row["user_id"], row["item_id"]) for row in answer]
    assert len(set(pairs)) == len(pairs)
    assert len({row["campaign_id"] for row in answer}) == 1
    lists = {(row["user_id"], row["list_name"]): row["request_id"] for row in answer}
    assert len(set(lists.values())) == len(lists) == len({(*key, value) for key, value in lists.items()})
    assert {row["user_group"] for row in answer if row["user_id"] == "somebody-new"} == {"fallback"}
    assert {row["version"] for row in answer} == {"recoflow_1"}


def test_nothing_consumed_or_disabled_is_recommended_and_urls_are_the_items(answered: Answered) -> None:
    bundle, answer = answered.bundle, answered.response("people")
    items = bundle.items["item_id"].to_list()
    recommendable = {item for item, is_fit in zip(items, item_filters.is_eligible(bundle.items), strict=True) if is_fit}
    urls = {
        item["item_id"]: json.loads(item["attributes"] or "{}").get("url", "")
        for item in bundle.items.iter_rows(named=True)
    }
    subjects = {subject: row for row, subject in enumerate(bundle.subjects)}
    for row in answer:
        assert row["item_id"] in recommendable
        assert row["url"] == urls[row["item_id"]]
        if (place := subjects.get(f"u:{row['user_id']}")) is not None:
            seen = bundle.seen_indices[bundle.seen_indptr[place] : bundle.seen_indptr[place + 1]]
            assert row["item_id"] not in {items[index] for index in seen}


def test_a_short_list_is_short_without_gaps_and_the_manifest_has_hash_and_model(answered: Answered) -> None:
    manifest = answered.manifest("people")
    assert manifest["response_sha256"] == hashlib.sha256(answered.files[file_name("people")]).hexdigest()
    assert manifest["model_version"] == answered.bundle.version
    shorts = answered.manifest("filters")["counts"]
    assert shorts["short"] >= 1
    ranks: dict[str, list[int]] = {}
    for row in answered.response("filters"):
        ranks.setdefault(row["list_name"], []).append(int(row["rank"]))
    assert all(found == list(range(1, len(found) + 1)) for found in ranks.values())
