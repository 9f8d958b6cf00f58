from __future__ import annotations

import io

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import csv

from recoflow.campaigns.publishing import csv_rows

TEXTS = st.none() | st.text(st.sampled_from('a",\n\r é€𝄞'), max_size=40)
ROW = st.tuples(TEXTS, TEXTS, st.none() | st.integers(-(2**63), 2**63 - 1))
KINDS = pa.schema([("plain", pa.string()), ('of "texts"', pa.string()), ("number", pa.int64())])


def by_pyarrow(table):
    sink = io.BytesIO()
    csv.write_csv(table, sink, csv.WriteOptions(quoting_style="needed"))
    return sink.getvalue()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(ROW, max_size=8), max_size=3))
def test_rows_are_the_bytes_that_pyarrow_writes_whether_or_not_their_texts_are_dictionaries(chunks):
    batches = [pa.record_batch([list(each) for each in zip(*rows, strict=True)], KINDS) for rows in chunks if rows]
    table = pa.Table.from_batches(batches, KINDS)
    encoded = table.set_column(1, KINDS.names[1], table[1].dictionary_encode())
    for each in (table, encoded):
        lines = map(bytes, csv_rows.csv_lines([csv_rows.encode_rows(each)]))
        assert csv_rows.csv_header(KINDS.names) + b"".join(lines) == by_pyarrow(table)


def test_many_rows_come_in_stretches_of_which_so_many_stay_as_they_are():
    table = pa.table({"text": ["x" * (place % 97) for place in range(3 * csv_rows.ROWS + 1)]})
    rows, expected = csv_rows.encode_rows(table), by_pyarrow(table).partition(b"\n")[2]
    assert b"".join(map(bytes, csv_rows.csv_lines([rows, rows]))) == 2 * expected
    first, second, third = (each for _, each in zip(range(3), csv_rows.csv_lines([rows], 3), strict=False))
    assert expected.startswith(bytes(first) + bytes(second) + bytes(third))
