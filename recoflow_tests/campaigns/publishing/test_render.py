from __future__ import annotations

import csv
import dataclasses
import gzip
import json

import polars as pl
import pytest

from recoflow.campaigns.lists.rank_blocks import BlockLimits
from recoflow.campaigns.publishing import render

REQUEST = """environment,user_id,device_id,list_name,list_size,page_type
lorem,sport,,"Top, ""best"" ones",2,home
lorem,stranger,phone 2,Other,1,home
lorem,,,Broken,1,home
"""


@pytest.fixture
def result(reply, newsroom):
    return reply(REQUEST, newsroom)


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_strings_are_quoted_integers_are_not_and_null_is_empty(result, tmp_path):
    render.write_response(result, tmp_path / "out.csv")
    header, first, *_, last = (tmp_path / "out.csv").read_text(encoding="utf-8").splitlines()
    campaign, (one, *_) = result.campaign_id, pl.read_parquet(result.requests)["request_id"]
    assert header == (
        '"user_id","device_id","user_group","version","campaign_id","request_id","list_name","item_id","url","rank"'
    )
    assert first == (
        f'"sport",,"recoflow","recoflow_1","{campaign}","{one}","Top, ""best"" ones","b","https://lorem.test/b",1'
    )
    assert last.startswith('"stranger","phone 2","fallback",')


def test_a_compressed_request_gets_a_compressed_response_of_the_same_content(reply, newsroom, make, result, tmp_path):
    plain = render.write_response(dataclasses.replace(result, name=make.name), tmp_path / "plain")
    packed = [
        render.write_response(dataclasses.replace(result, name=f"{make.name}.gz"), tmp_path / name) for name in "ab"
    ]
    assert gzip.decompress(packed[0].path.read_bytes()) == plain.path.read_bytes()
    assert packed[0].sha256 == packed[1].sha256
    assert packed[0].path.read_bytes()[4:8] == b"\0\0\0\0"  # no time


def test_every_part_is_rendered_in_order(reply, newsroom, tmp_path, result):
    whole = render.write_response(result, tmp_path / "whole")
    parts = reply(REQUEST, newsroom, folder="parts", limits=BlockLimits(lists=1))
    assert len(parts.parts) == 2
    cut = render.write_response(parts, tmp_path / "cut")
    assert (cut.sha256, cut.rows) == (whole.sha256, 3)


@pytest.mark.parametrize("value", ["=1+1", "+1", "-1", "@x", "\tx", "\rx"])
def test_formulas_are_made_harmless_only_where_it_is_asked_for(make, reply, tmp_path, value):
    items = make.items([{"item_id": "=a", "attributes": {"title": value}}])
    bundle = make.bundle(items, {"u:sport": (1,)}, [[1]])
    for is_safe, expected in ((False, value), (True, f"'{value}")):
        staged = reply(REQUEST, bundle, folder=str(is_safe), csv_safe=is_safe, information_fields=["title"])
        render.write_response(staged, tmp_path / "out.csv")
        row = read(tmp_path / "out.csv")[1]
        assert (row[7], row[8]) == ("=a", expected)  # ids are never changed


def test_information_fields_stand_between_item_and_rank(reply, newsroom, tmp_path):
    staged = reply(REQUEST, newsroom, information_fields=["premium", "missing", "categories", "section"])
    render.write_response(staged, tmp_path / "out.csv")
    header, row, *_ = read(tmp_path / "out.csv")
    assert header[7:] == ["item_id", "premium", "missing", "categories", "section", "rank"]
    assert row[7:] == ["b", "false", "", '["sport", "football"]', "1", "1"]


def test_a_response_without_rows_is_a_header(reply, newsroom, tmp_path):
    staged = reply(REQUEST.replace(",2,", ",0,").replace(",1,", ",0,"), newsroom)
    written = render.write_response(staged, tmp_path / "out.csv")
    assert written.rows == 0
    assert len(read(written.path)) == 1


def test_errors_and_manifest_account_for_every_row(result, tmp_path):
    written = render.write_response(result, tmp_path / "out.csv")
    render.write_errors(pl.read_parquet(result.errors), tmp_path / "errors.csv")
    render.write_manifest(result, written, tmp_path / "manifest.json")
    errors = (tmp_path / "errors.csv").read_text(encoding="utf-8").splitlines()
    assert errors[0] == '"line","column","code","message"'
    assert errors[1].startswith('4,"user_id","missing_identity","')
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    counts = manifest["counts"]
    assert (counts["read"], counts["answered"], counts["failed"]) == (3, 2, 1)
    assert counts["answered"] == counts["personalized"] + counts["fallback"] + counts["unpersonalized"]
    assert manifest["response_sha256"] == written.sha256
    assert (manifest["campaign_id"], manifest["model_version"]) == (result.campaign_id, "v1")


def test_a_refused_file_is_answered_with_its_reason_alone(ask, tmp_path):
    request = ask("")
    render.write_errors(request.errors, tmp_path / "errors.csv")
    render.write_rejection(request, tmp_path / "manifest.json")
    assert read(tmp_path / "errors.csv")[1][:3] == ["", "", "empty_file"]
    assert json.loads((tmp_path / "manifest.json").read_text())["rejection"]["code"] == "empty_file"
