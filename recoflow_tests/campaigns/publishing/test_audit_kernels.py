from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recoflow.campaigns.publishing.audit_kernels import Histories, has_consumed

ITEMS = 6
HISTORY = st.lists(st.tuples(st.integers(0, ITEMS - 1), st.integers(1, 3)), max_size=8)


@settings(max_examples=60, deadline=None)
@given(st.lists(HISTORY, min_size=1, max_size=3), st.data())
def test_a_row_has_consumed_what_its_subject_did_in_a_way_that_counts(histories, data):
    row = st.tuples(st.integers(-1, len(histories) - 1), st.integers(0, 3), st.lists(st.integers(-1, ITEMS - 1)))
    rows = data.draw(st.lists(row, max_size=4))
    keys = np.sort([number * (ITEMS + 1) + item for number, (_, _, items) in enumerate(rows) for item in items])
    found = has_consumed(
        np.arange(len(rows)),
        keys.astype(np.int64),
        ITEMS + 1,
        np.array([subject for subject, _, _ in rows], np.int64),
        np.array([consumed for _, consumed, _ in rows], np.int32),
        Histories(
            np.cumsum([0, *map(len, histories)]),
            np.array([item for history in histories for item, _ in history], np.int32),
            np.array([types for history in histories for _, types in history], np.int32),
        ),
    )
    assert found.tolist() == [
        subject >= 0 and any(types & consumed and item in items for item, types in histories[subject])
        for subject, consumed, items in rows
    ]
