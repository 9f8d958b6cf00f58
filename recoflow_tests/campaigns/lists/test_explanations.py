"""The information field `because_of`, through answer() and from the tables of a lake."""

from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl
import pytest
from scipy import sparse

from recoflow import schema
from recoflow.campaigns import freshness, inputs
from recoflow.campaigns.lists import explanations
from recoflow.campaigns.publishing import checks, list_gate, render
from recoflow.models.algorithms import train
from recoflow.models.algorithms.matrix import UserItems
from recoflow.models.store import bundle_files, bundle_store
from recoflow.quality.gx_runner import run_checks
from recoflow.settings.sections import Model
from recoflow.storage.lake.lake import Lake

pytestmark = pytest.mark.slow

HEADER = "environment,user_id,device_id,list_name,list_size,page_type,configuration_id\n"
CONFIGURATIONS = {
    "near": {"algorithm": "near"},
    "bpr": {"algorithm": "bpr"},
    "again": {"repeat_items": True, "consumed": []},
    **{name: {"algorithm": name} for name in ("popular", "trending", "newest")},
}
SETTINGS = {
    "information_fields": ["url", "because_of"],
    "configurations": CONFIGURATIONS,
    "models": ("als", "near", "bpr"),
}
READERS = {"u:sport": "abc", "u:politics": "fgh", "u:both": "ah", "d:kiosk": "de", "u:nothing": ""}


@pytest.fixture(scope="module")
def histories() -> sparse.csr_matrix:
    """INTERACTIONS' weights of READERS in the order of their ids; later letters weigh more."""
    rows = [[(ord(item) - 96) * (item in READERS[each]) for item in "abcdefgh"] for each in sorted(READERS)]
    return sparse.csr_matrix(np.array(rows, np.float32))


@pytest.fixture
def library(make, histories):
    """Items `a` … `h` and READERS, with the models als, near (item_neighbours) and bpr."""
    items = make.items(
        [{"item_id": item, "attributes": {"url": f"u/{item}", "because_of": "an attribute"}} for item in "abcdefgh"]
    )
    subjects = sorted(READERS)
    times = np.zeros(histories.nnz, np.int64), np.zeros(8, np.int64)
    data = UserItems(np.array(subjects), np.array(list("abcdefgh")), histories, *times)
    als, near, bpr = (
        train.train(data, Model(algorithm=name, **more), 3)
        for name, more in (("als", {"factors": 3}), ("item_neighbours", {}), ("bpr", {"factors": 3}))
    )
    model = {"name": "als", "algorithm": "als", **bundle_store.model_spec(als)}
    seen = {subject: list(read) for subject, read in READERS.items()}
    made = make.bundle(items, dict(zip(subjects, als.user_factors, strict=True)), als.item_factors, seen=seen)
    return dataclasses.replace(made, manifest={"model": model}, alternatives={"near": near, "bpr": bpr})


def ask(*rows: str) -> str:
    return HEADER + "".join(f"lorem,{row}\n" for row in rows)


def parts_of(library, weights, user: str, item: str) -> dict[str, float]:
    """What each item that the user read adds to the score of an item, by Hu, Koren & Volinsky in float64."""
    scorer = library.scorer
    (encoder,) = scorer.encoders
    row = scorer.confidence.apply(weights).toarray()[library.subjects.tolist().index(user)].astype(np.float64)
    factors = scorer.item_factors.astype(np.float64)
    ridge = encoder.regularization * (np.count_nonzero(row) + encoder.alpha * len(factors)) ** encoder.exponent
    system = encoder.alpha * factors.T @ factors + ridge * np.eye(3) + (factors * row[:, None]).T @ factors
    added = factors["abcdefgh".index(item)] @ np.linalg.inv(system) @ (row[:, None] * factors).T
    return {each: float(value) for each, value in zip("abcdefgh", added, strict=True) if each in READERS[user]}


def test_the_item_of_the_history_that_adds_most_stands_beside_each_item(reply, make, library, histories):
    request = ask("sport,,Top,5,mail,", "politics,,Top,8,mail,", "both,,Top,3,mail,again", ",kiosk,Top,3,mail,")
    staged = reply(request, library, weights=histories, **SETTINGS)
    answered = make.recommendations(staged)
    assert answered.columns[7:11] == ["item_id", "url", "because_of", "rank"]
    assert answered.height > 10
    for user, device, item, reason in answered.select("user_id", "device_id", "item_id", "because_of").iter_rows():
        subject = f"u:{user}" if user else f"d:{device}"
        others = {each: value for each, value in parts_of(library, histories, subject, item).items() if each != item}
        assert reason == max(others, key=others.__getitem__) if max(others.values()) > 0 else reason is None
    assert answered["because_of"].n_unique() > 3


def test_an_item_that_was_read_already_is_not_its_own_reason(reply, make, library, histories):
    staged = reply(ask("both,,Top,8,mail,again"), library, weights=histories, **SETTINGS)
    told = dict(make.recommendations(staged).select("item_id", "because_of").iter_rows())
    assert len(told) == 8
    assert told["a"] in {"h", None}
    assert told["h"] in {"a", None}


@pytest.mark.parametrize(
    "row",
    [
        "stranger,,Top,3,mail,",
        "nothing,,Top,3,mail,",
        *(f"sport,,Top,3,mail,{name}" for name in ("popular", "trending", "newest", "bpr")),
    ],
)
def test_where_no_history_speaks_the_cell_is_empty(reply, library, histories, tmp_path, row):
    staged = reply(ask(row), library, weights=histories, **SETTINGS, csv_safe=True)
    assert staged.counts.items == 3
    render.write_response(staged, tmp_path / "out.csv")
    header, *lines = (tmp_path / "out.csv").read_text().splitlines()
    assert header.endswith('"item_id","url","because_of","rank"')
    assert all(line.split(",")[-2] == "" for line in lines)


def test_each_list_is_explained_by_the_model_that_ranks_it(reply, make, library, histories):
    request = ask("sport,,Far,3,mail,", "sport,,Near,3,mail,near", "both,,Near,8,mail,near")
    staged = reply(request, library, weights=histories, **SETTINGS)
    rows = make.recommendations(staged).filter(pl.col("list_name") == "Near")
    near = library.alternatives["near"]
    for user, item, reason in rows.select("user_id", "item_id", "because_of").iter_rows():
        history = near.history[[library.subjects.tolist().index(f"u:{user}")]].toarray().ravel()
        added = history * near.similarity.toarray()[:, "abcdefgh".index(item)]
        assert reason == (None if added.max() <= 0 else "abcdefgh"[int(added.argmax())])
    assert rows["because_of"].drop_nulls().len()


def test_checks_and_audit_accept_the_column_and_a_second_answer_has_the_same_bytes(reply, make, library, histories):
    request = ask("sport,,Top,5,mail,", "both,,Top,5,mail,near", "stranger,,Top,3,mail,")
    settings = {"weights": histories} | SETTINGS
    staged = reply(request, library, **settings)
    assert all(finding.passed for finding in list_gate.audit_lists(staged, library))
    (found,) = checks.check_staged({"one": (staged, make.environment(**SETTINGS))}, run_checks).values()
    assert all(finding.passed for finding in found), found
    assert reply(request, library, folder="again", **settings).files == staged.files


def test_nobody_asks_nothing_is_read(library, make, tmp_path):
    people = pl.DataFrame({"user_id": ["sport"], "device_id": [None]}, schema_overrides={"device_id": pl.String})
    lake, tables = Lake(tmp_path / "lake"), dict.fromkeys(freshness.TABLES)
    assert explanations.explanation_weights(library, people, make.environment(), lake, tables) is None
    asking = make.environment(**SETTINGS)
    near = dataclasses.replace(library, alternatives={}, **arrays_of(library.alternatives["near"]), manifest={})
    assert explanations.explanation_weights(near, people, asking, lake, tables) is None
    assert explanations.explanation_weights(library, people, asking, lake, tables).nnz == 0


def arrays_of(scorer) -> dict[str, object]:
    return {name: getattr(scorer, name) for name in bundle_files.SCORER}


def test_histories_are_those_of_the_version_that_a_campaign_is_pinned_to(library, make, tmp_path):
    lake = Lake(tmp_path / "lake")
    usual = {"events": 1, "event_types": 2, "first_at": make.now, "last_at": make.now}

    def write(*rows: tuple[str, str, float]) -> None:
        full = [usual | {"subject": subject, "item_id": item, "weight": weight} for subject, item, weight in rows]
        lake.overwrite("interactions", pl.DataFrame(full, schema=schema.INTERACTIONS))

    write(("u:sport", "c", 2.0), ("u:sport", "a", 1.0), ("u:both", "h", 3.0), ("u:politics", "f", 9.0),
          ("u:sport", "unknown", 4.0), ("u:sport", "b", -1.0), ("d:kiosk", "d", 5.0), ("u:new", "d", 5.0))  # fmt: skip
    tables = inputs.current_tables(lake)
    write(("u:sport", "b", 7.0))
    people = pl.DataFrame({"user_id": ["both", "sport", "new"], "device_id": [None, "kiosk", None]})
    found = explanations.explanation_weights(library, people, make.environment(**SETTINGS), lake, tables)
    expected = np.zeros((5, 8))
    for subject, item, weight in (("u:sport", 0, 1), ("u:sport", 2, 2), ("u:both", 7, 3), ("d:kiosk", 3, 5)):
        expected[library.subjects.tolist().index(subject), item] = weight
    np.testing.assert_array_equal(found.toarray(), expected)
