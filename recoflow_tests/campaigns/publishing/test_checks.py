from __future__ import annotations

import polars as pl
import pytest

from recoflow.campaigns.audiences import build_audiences, select
from recoflow.campaigns.publishing import checks
from recoflow.quality.gx_runner import run_checks

pytestmark = pytest.mark.slow

LISTS = "environment,user_id,list_name,list_size,page_type\n"


@pytest.fixture
def audiences(ask, make, newsroom, tmp_path):
    asked = ask("environment,item_id,audience_size\nlorem,b,2\n", catalogue=select.AudienceItems(newsroom))
    return build_audiences.build_audiences(asked, newsroom, make.environment(), tmp_path / "audiences")


def test_each_campaign_gets_its_own_findings_whatever_was_asked_for(reply, make, newsroom, audiences):
    plain = make.environment()
    strict = plain.model_copy(update={"quality": plain.quality.model_copy(update={"max_fallback_share": 0.0})})
    stranger = LISTS + "lorem,stranger,Top,3,home\n"
    named = {
        "known": (reply(LISTS + "lorem,sport,Top,3,home\n", newsroom, folder="known"), strict),
        "stranger": (reply(stranger, newsroom, folder="stranger"), strict),
        "allowed": (reply(stranger, newsroom, folder="allowed"), plain),
        "with_url": (
            reply(stranger, newsroom, folder="with_url", information_fields=["url"]),
            make.environment(information_fields=["url"]),
        ),
        "people": (audiences, strict),
    }
    found = checks.check_staged(named, run_checks)
    assert {key: sorted(each.check for each in findings) for key, findings in found.items()} == dict.fromkeys(
        named, sorted(checks.CHECKS)
    )
    assert {(key, each.check) for key, findings in found.items() for each in findings if not each.passed} == {
        ("stranger", "fallback_share"),
        *((key, "users_known") for key in ("stranger", "allowed", "with_url")),  # warned of: the model is small
    }


def test_a_torn_part_is_found(reply, make, newsroom):
    result = reply(LISTS + "lorem,sport,Top,3,home\n", newsroom)
    pl.read_parquet(result.parts[0])[1:].write_parquet(result.parts[0])
    (findings,) = checks.check_staged({"torn": (result, make.environment())}, run_checks).values()
    assert {"order_kept", "rows_match"} <= {each.check for each in findings if not each.passed}


def test_no_campaigns_have_no_findings():
    assert checks.check_staged({}, run_checks) == {}
