from __future__ import annotations

import dataclasses
import gzip
import hashlib

import polars as pl
import pytest

from recoflow.campaigns.audiences import build_audiences, select, staged_audiences
from recoflow.campaigns.publishing import audience_gate, checks, response_files
from recoflow.campaigns.requests import request_parser
from recoflow.campaigns.staging import staged
from recoflow.erasure import files, remaining_mentions
from recoflow.erasure.subject import ErasureSubject
from recoflow.errors import AuditError
from recoflow.quality.gx_runner import run_checks
from recoflow.storage import atomic_files

pytestmark = pytest.mark.slow

HEADER = "environment,item_id,audience_size,audience_name"
ROWS = (HEADER, "lorem,b,3,Sport", 'lorem,"[""b"",""g""]",2,', "lorem,a,9,Short")


def content(*lines: str, header: str = HEADER) -> str:
    return "\n".join((header, *lines)) + "\n"


@pytest.fixture
def ask(tmp_path, make, newsroom):
    """Parse a request file with this content, against the newsroom's items."""

    def parse(text, *, bundle=newsroom, name=make.name, **campaigns):
        raw = text.encode() if isinstance(text, str) else text
        path = tmp_path / "request"
        path.write_bytes(raw)
        return request_parser.parse_request(
            path,
            name=name,
            environment=make.environment(**campaigns),
            sha256=hashlib.sha256(raw).hexdigest(),
            known_attributes=("categories",),
            catalogue=select.AudienceItems(bundle),
        )

    return parse


def problems(asked):
    return list(asked.errors.select("line", "column", "code").iter_rows())


@pytest.mark.parametrize(
    ("line", "column", "code"),
    [
        ("lorem,,5,x", "item_id", "missing_item_id"),
        ("lorem,zzz,5,x", "item_id", "unknown_item"),
        ('lorem,"[""a"",""zzz""]",5,x', "item_id", "unknown_item"),
        ('lorem,"[""a""",5,x', "item_id", "bad_item_id"),
        ("lorem,[],5,x", "item_id", "bad_item_id"),
        ("lorem,a,0,x", "audience_size", "bad_audience_size"),
        ("lorem,a,11,x", "audience_size", "bad_audience_size"),
        ("lorem,a,1.5,x", "audience_size", "bad_audience_size"),
        ("lorem,a,,x", "audience_size", "bad_audience_size"),
        ("lorem,b,4,Top", "item_id", "duplicate_audience"),
    ],
)
def test_a_row_that_breaks_a_rule_is_an_error_of_its_own(ask, line, column, code):
    asked = ask(content("lorem,b,5,Top", line), max_audience_size=10)
    assert problems(asked) == [(3, column, code)]
    assert asked.rows["item_id"].to_list() == ["b"]
    assert (asked.counts.read, asked.counts.accepted, asked.counts.failed) == (2, 1, 1)


def test_items_that_nobody_can_be_chosen_for_are_errors(ask, newsroom):
    disabled = newsroom.items.with_columns(is_enabled=pl.col("item_id") != "a")
    factors = newsroom.item_factors.copy()
    factors[1] = 0
    bundle = dataclasses.replace(newsroom, items=disabled, item_factors=factors)
    asked = ask(content("lorem,a,5,", "lorem,b,5,", "lorem,c,5,"), bundle=bundle)
    assert problems(asked) == [(2, "item_id", "unavailable_item"), (3, "item_id", "unscored_item")]


@pytest.mark.parametrize("name", ["colour", "line", "row", "0"])
def test_a_column_that_means_nothing_is_told_once_unless_it_is_declared(ask, name):
    text = content("lorem,a,5,p", "lorem,b,5,q", "lorem,c,5,", header=f"environment,item_id,audience_size,{name}")
    assert problems(ask(text)) == [(2, name, "unknown_variable")]
    assert ask(text).counts.failed == 2
    assert problems(ask(text, variables=[name])) == []


@pytest.mark.parametrize(
    ("header", "line", "code"),
    [
        (HEADER + ",user_id", "lorem,a,5,x,ann", "mixed_columns"),
        (HEADER + ",device_id", "lorem,a,5,x,ann", "mixed_columns"),
        (HEADER + ",list_name", "lorem,a,5,x,ann", "mixed_columns"),
        ("item_id,audience_size", "a,5", "missing_column"),
        ("environment,item_id", "lorem,a", "missing_column"),
        ("environment,audience_size", "lorem,5", "missing_column"),
        (HEADER, "ipsum,a,5,x", "wrong_environment"),
        (HEADER, "lorem,a,5,x\nlorem,b,6,y", "too_many_items"),
    ],
)
def test_a_file_that_breaks_a_rule_as_a_whole_is_refused_by_name(ask, header, line, code):
    asked = ask(content(line, header=header), max_items=10)
    assert asked.rejection.code == code
    assert asked.rows.is_empty()


@pytest.fixture
def result(ask, make, newsroom, tmp_path):
    return build_audiences.build_audiences(ask(content(*ROWS[1:])), newsroom, make.environment(), tmp_path / "staging")


def people(result):
    frame = pl.read_parquet(list(result.parts))
    return list(frame.select("audience_name", "user_id", "device_id", "best_item", "rank").iter_rows())


def test_people_and_devices_come_in_the_order_of_the_request_and_of_their_scores(result):
    assert people(result) == [
        ("Sport", "sport", None, "b", 1),
        ("Sport", None, "kiosk", "b", 2),
        ("Sport", "politics", None, "b", 3),
        (None, None, "kiosk", "g", 1),
        (None, "politics", None, "g", 2),
        ("Short", None, "kiosk", "a", 1),
        ("Short", "politics", None, "a", 2),
    ]
    counts = staged_audiences.AudienceCounts(read=3, answered=3, failed=0, short=1, empty=0, people=7)
    assert result.counts == counts
    assert staged.load_staged(result.folder, staged_audiences.StagedAudiences) == result


def test_the_same_request_gives_the_same_bytes(ask, make, newsroom, tmp_path, result):
    again = build_audiences.build_audiences(ask(content(*ROWS[1:])), newsroom, make.environment(), tmp_path / "again")
    assert again.files == result.files
    rendered = [response_files.render_files(each, each.folder) for each in (result, again)]
    first, second = ([path.read_bytes() for path, _ in each] for each in rendered)
    assert first == second
    header, row = first[-1].decode().splitlines()[:2]
    assert header == '"user_id","device_id","campaign_id","request_id","audience_name","item_id","rank"'
    assert row.startswith('"sport",,"')
    assert row.endswith(',"Sport","b",1')


def test_a_gzipped_request_gets_a_gzipped_response(ask, make, newsroom, tmp_path):
    asked = ask(gzip.compress(content(*ROWS[1:]).encode()), name=make.name + ".gz")
    result = build_audiences.build_audiences(asked, newsroom, make.environment(), tmp_path / "staging")
    path, name = response_files.render_files(result, tmp_path)[-1]
    assert name == make.name + ".gz"
    assert gzip.decompress(path.read_bytes()).count(b"\n") == 8


def test_sound_audiences_pass_every_check_and_the_audit(result, make, newsroom):
    findings = audience_gate.audit_audiences(result, newsroom)
    assert [finding.check for finding in findings] == list(audience_gate.CHECKS)
    found = checks.check_staged({"k": (result, make.environment())}, run_checks)["k"]
    assert [each.message for each in found if not each.passed] == []


PLACE = pl.col("place")


@pytest.mark.parametrize(
    ("check", "condition", "change"),
    [
        ("order_kept", PLACE == 0, {"rank": 2}),
        ("order_kept", PLACE < 3, {"rank": 4 - pl.col("rank")}),
        ("order_kept", PLACE == 1, {"score": 1000.0}),
        ("order_kept", PLACE == 1, {"score": float("nan")}),
        ("order_kept", PLACE >= 0, {"row": 2 - pl.col("row")}),
        ("rows_match", PLACE == 0, {"campaign_id": "other"}),
        ("rows_match", PLACE == 0, {"request_id": "other"}),
        ("rows_match", PLACE == 0, {"audience_name": "other"}),
        ("rows_match", PLACE == 0, {"item_id": "c"}),
        ("users_in_model", PLACE == 0, {"user_id": "ann"}),
        ("users_in_model", PLACE == 0, {"device_id": "kiosk"}),
        ("users_in_model", PLACE == 0, {"user_id": "ann", "subject": "u:ann"}),
        ("no_duplicate_users", PLACE == 2, {"user_id": "sport", "subject": "u:sport"}),
        ("items_recommendable", PLACE == 0, {"best_item": "c"}),
        ("nothing_consumed", PLACE == 6, {"user_id": "sport", "subject": "u:sport"}),
        ("scores_match_model", PLACE == 0, {"score": 7.5}),
    ],
)
def test_a_forged_audience_is_refused_by_the_check_that_it_breaks(result, newsroom, check, condition, change):
    path = result.parts[0]
    frame = pl.read_parquet(path).with_row_index("place")
    schema = frame.schema
    for column, value in change.items():
        changed = value if isinstance(value, pl.Expr) else pl.lit(value)
        frame = frame.with_columns(
            pl.when(condition).then(changed).otherwise(column).alias(column).cast(schema[column])
        )
    frame.drop("place").write_parquet(path)
    forged = dataclasses.replace(result, files=result.files | {path.name: atomic_files.sha256(path)})
    with pytest.raises(AuditError, match=f": {check}"):
        audience_gate.audit_audiences(forged, newsroom)


def test_changed_files_other_models_and_wrong_counts_are_refused(result, newsroom):
    with pytest.raises(AuditError, match="model_sound"):
        audience_gate.audit_audiences(result, dataclasses.replace(newsroom, version="v2"))
    wrong = dataclasses.replace(result, counts=dataclasses.replace(result.counts, people=8))
    with pytest.raises(AuditError, match="counts_add_up"):
        audience_gate.audit_audiences(wrong, newsroom)
    result.parts[0].write_bytes(result.parts[0].read_bytes() + b"x")
    with pytest.raises(AuditError, match="files_unchanged"):
        audience_gate.audit_audiences(result, newsroom)


@pytest.mark.parametrize(
    "person", [ErasureSubject(frozenset({"sport"}), frozenset()), ErasureSubject(frozenset(), frozenset({"kiosk"}))]
)
def test_what_is_staged_and_rendered_about_a_person_is_found_to_be_forgotten(result, tmp_path, person):
    assert remaining_mentions.mentions(result.parts[0], person)
    path, _ = response_files.render_files(result, tmp_path)[-1]
    assert files.redact_file(path, person, lambda _: False).records
    assert not remaining_mentions.mentions(path, person)
    assert len(path.read_text().splitlines()) > 1
