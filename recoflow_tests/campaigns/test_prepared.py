"""A request as it was understood, to disk and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from polars.testing import assert_frame_equal

from recoflow.campaigns.inputs import Inputs
from recoflow.campaigns.prepared import load_prepared, save_prepared
from recoflow.campaigns.requests.model import Request
from recoflow.errors import CampaignError

HEAD = "environment,user_id,device_id,list_name,list_size,page_type"
INPUTS = Inputs("v1", {"items": 3, "identity": None, "interactions": 5}, {"name": "lorem"})


@pytest.mark.parametrize(
    "text",
    [
        f"{HEAD}\nlorem,ann,,Top,2,home\nlorem, bob ,,Top,x,home\n",
        f"{HEAD},categories\nlorem,ann,,Top,2,home,sport\n",
        f"{HEAD}\n",
        "user_id\nann\n",  # rejected as a whole
        "environment,audience_name,item_id,audience_size\nlorem,fans,a,2\n",
    ],
)
def test_a_request_comes_back_as_it_was(ask: Callable[..., Request], tmp_path: Path, text: str) -> None:
    request = ask(text)
    save_prepared(request, INPUTS, tmp_path / "prepared")
    again = load_prepared(tmp_path / "prepared", INPUTS)
    assert again is not None
    assert_frame_equal(again.rows, request.rows)
    assert_frame_equal(again.errors, request.errors)
    plain = {"rows": None, "errors": None}
    assert dataclasses.replace(again, **plain) == dataclasses.replace(request, **plain)


def test_one_that_was_read_with_other_inputs_is_none(ask: Callable[..., Request], tmp_path: Path) -> None:
    save_prepared(ask(f"{HEAD}\nlorem,ann,,Top,2,home\n"), INPUTS, tmp_path)
    assert load_prepared(tmp_path, dataclasses.replace(INPUTS, model_version="v2")) is None
    assert load_prepared(tmp_path, dataclasses.replace(INPUTS, settings={"name": "ipsum"})) is None
    assert load_prepared(tmp_path, dataclasses.replace(INPUTS, chosen_anew="the table is gone")) is not None
    assert load_prepared(tmp_path / "other", INPUTS) is None


@pytest.mark.parametrize("name", ["request.parquet", "errors.parquet", "request.json"])
def test_a_damaged_file_is_an_error_that_says_what_to_do(
    ask: Callable[..., Request], tmp_path: Path, name: str
) -> None:
    save_prepared(ask(f"{HEAD}\nlorem,ann,,Top,2,home\n"), INPUTS, tmp_path)
    (tmp_path / name).write_bytes(b"{")
    with pytest.raises(CampaignError, match=r"is damaged.*Materialize campaign_request"):
        load_prepared(tmp_path, INPUTS)


def test_an_attempt_that_was_cut_off_leaves_nothing_to_read(ask: Callable[..., Request], tmp_path: Path) -> None:
    save_prepared(ask(f"{HEAD}\nlorem,ann,,Top,2,home\n"), INPUTS, tmp_path)
    (tmp_path / "request.json").unlink()
    assert load_prepared(tmp_path, INPUTS) is None
