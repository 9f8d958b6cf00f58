from __future__ import annotations

import duckdb
import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from recoflow.campaigns.staging import parquet_part

KINDS = pl.Schema({"text": pl.String, "number": pl.Int64, "score": pl.Float32})


@settings(max_examples=30, deadline=None)
@given(
    values=st.lists(st.tuples(st.none() | st.text(max_size=3), st.integers(-9, 9), st.floats(-1, 1, width=32))),
    draw=st.data(),
)
def test_a_file_holds_the_rows_that_were_gathered_for_every_reader(values, draw, tmp_path_factory):
    frame = pl.DataFrame(values, KINDS, orient="row")
    places = st.integers(0, max(0, len(values) - 1))
    rows = np.array(draw.draw(st.lists(places, max_size=20 if values else 0)), np.int64)
    path = tmp_path_factory.mktemp("part") / "part.parquet"
    parquet_part.write_part(parquet_part.gather_columns(frame, rows), KINDS, path)
    assert_frame_equal(pl.read_parquet(path), frame[rows])
    assert duckdb.read_parquet(str(path)).fetchall() == frame[rows].rows()
    before = path.read_bytes()
    parquet_part.write_part(parquet_part.gather_columns(frame, rows), KINDS, path)
    assert path.read_bytes() == before
