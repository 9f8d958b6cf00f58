"""Checks by great-expectations over Parquet files."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from recoflow.quality import gx_runner
from recoflow.quality.gx_runner import Check, Expectation
from recoflow.storage import sql

pytestmark = pytest.mark.slow


def test_an_expectation_that_cannot_be_computed_fails_its_check(tmp_path):
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "a.parquet")
    checks = [
        Check("sound", "t", "All is well.", (Expectation("ExpectColumnValuesToNotBeNull", {"column": "a"}),)),
        Check("broken", "t", "All is well.", (Expectation("ExpectColumnValuesToNotBeNull", {"column": "b"}),)),
    ]
    findings = gx_runner.run_checks({"t": f"FROM {sql.parquet([str(tmp_path / 'a.parquet')])}"}, checks, {})
    assert [finding.passed for finding in findings] == [True, False]
    assert "could not be computed" in findings[1].message


def test_names_of_files_are_data(tmp_path: Path):
    path = tmp_path / "it's.parquet"
    pl.DataFrame({"a": [None]}, schema={"a": pl.Int64}).write_parquet(path)
    check = Check("present", "t", "a is present.", (Expectation("ExpectColumnValuesToNotBeNull", {"column": "a"}),))
    (finding,) = gx_runner.run_checks({"t": f"FROM {sql.parquet([str(path)])}"}, [check], {})
    assert finding.message == "Not so: a is present. a: 1 of 1 values (None)."
