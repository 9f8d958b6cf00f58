from __future__ import annotations

import dataclasses
import itertools
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import sparse

from recoflow import schema
from recoflow.campaigns.lists import build_lists
from recoflow.campaigns.lists.rank_blocks import BlockLimits
from recoflow.campaigns.staging import staged
from recoflow.errors import CampaignError, ModelError
from recoflow.models.algorithms.scorer import Scorer

HEADER = "environment,user_id,device_id,list_name,list_size,page_type"


def rows(*lines: str, variables: str = "") -> str:
    return "\n".join((HEADER + variables, *(f"lorem,{line}" for line in lines))) + "\n"


def items_of(make, result):
    return ["".join(items) for *_, items in make.lists(result)]


def test_known_users_get_their_best_items_without_those_they_consumed(make, reply, newsroom):
    result = reply(rows("sport,,Top,3,home", "politics,,Top,3,home"), newsroom)
    assert items_of(make, result) == ["bcd", "hgf"]
    assert set(make.recommendations(result)["user_group"]) == {"recoflow"}


def test_a_device_is_its_only_user(make, reply, newsroom):
    assert items_of(make, reply(rows(",phone,Top,3,home"), newsroom)) == ["bcd"]


def test_a_device_of_several_users_stands_for_itself_and_never_for_a_user(make, reply, newsroom):
    assert items_of(make, reply(rows(",kiosk,Top,3,home"), newsroom)) == ["gfe"]


def test_an_unknown_user_on_a_device_that_stands_for_itself_gets_what_suits_the_device(make, reply, newsroom):
    result = reply(rows("stranger,kiosk,Top,3,home", "stranger,phone,Top,3,home"), newsroom)
    assert items_of(make, result) == ["gfe", "abc"]  # the phone is somebody else's
    assert make.recommendations(result)["user_group"].unique(maintain_order=True).to_list() == ["recoflow", "fallback"]


def test_devices_of_nobody_share_no_lists(make, reply, newsroom):
    """Or the second device would get none of the first one's items, as a second list of the same user does."""

    def answered(*users):
        asked = rows(f"{users[0]},phone,Top,8,mail", f"{users[1]},kiosk,Top,8,mail")
        return make.lists(reply(asked, newsroom))

    assert answered("anonymous", " NULL ") == answered("", "")
    assert [len(items) for *_, items in answered("anonymous", "anonymous")] == [7, 7]


def test_what_the_user_or_the_named_device_consumed_is_left_out(make, reply, newsroom):
    assert items_of(make, reply(rows("politics,kiosk,Top,3,home"), newsroom)) == ["gfe"]
    assert items_of(make, reply(rows("nothing,kiosk,Top,8,home"), newsroom)) == ["gfedca"]


def test_strangers_and_users_without_factors_get_popular_items_that_they_did_not_consume(make, reply, newsroom):
    result = reply(rows("stranger,,Top,3,home", "nothing,,Top,3,home"), newsroom)
    assert items_of(make, result) == ["abc", "acd"]
    assert set(make.recommendations(result)["user_group"]) == {"fallback"}
    assert (result.counts.fallback, result.counts.personalized) == (2, 0)


def test_fallback_lists_are_trending_items_and_equal_ones_by_popularity(make, reply, newsroom):
    bundle = dataclasses.replace(newsroom, trending=np.array([0, 0, 2, 2, 0.5, 0, 3, 0], np.float32))
    assert items_of(make, reply(rows("stranger,,Top,8,home"), bundle)) == ["gcdeabfh"]
    result = reply(
        rows("stranger,,Top,3,home"), bundle, configurations={"t": {"algorithm": "trending"}}, lists={"Top": "t"}
    )
    assert items_of(make, result) == ["gcd"]
    assert make.recommendations(result)["score"].to_list() == [3, 2, 2]


def test_a_list_may_name_a_model_beside_the_champion(make, reply, newsroom):
    other = Scorer(newsroom.user_factors[:, ::-1].copy(), newsroom.item_factors)
    bundle = dataclasses.replace(newsroom, alternatives={"als": other}, manifest={"model": {"name": "bpr"}})
    configurations = {"m": {"algorithm": "als"}, "c": {"algorithm": "champion"}}
    lines = ["sport,,A,3,home,m", "politics,,A,3,home,m", "nothing,,A,3,home,m", "sport,,B,3,home,c"]
    result = reply(rows(*lines, variables=",configuration_id"), bundle, configurations=configurations)
    assert items_of(make, result) == ["hgf", "abc", "acd", "bcd"]
    assert (result.counts.personalized, result.counts.fallback) == (3, 1)


def test_a_configuration_says_by_which_events_an_item_is_consumed(make, reply, newsroom):
    bits = {name: schema.event_type_bits([name]) for name in ("impression", "purchase")}
    bundle = dataclasses.replace(
        newsroom,
        seen_types=np.array([bits["impression"], bits["purchase"], bits["impression"] | bits["purchase"]], np.int32),
    )
    configurations = {"unseen": {"consumed": ["impression"]}, "unbought": {"consumed": ["purchase"]}}
    lines = [f"{who},,{name},2,home,{name}" for who in ("politics", "nothing", "sport") for name in configurations]
    lines += [f",kiosk,{name},2,home,{name}" for name in configurations]
    repeat = {name: each | {"repeat_items": True} for name, each in configurations.items()}
    result = reply(rows(*lines, variables=",configuration_id"), bundle, configurations=repeat)
    # kiosk saw h, nothing bought b, sport saw and bought a
    assert items_of(make, result) == ["hg", "hg", "ab", "ac", "bc", "bc", "gf", "hg"]


def test_disabled_and_unavailable_items_are_never_recommended(make, reply, newsroom):
    items = newsroom.items.with_columns(
        is_enabled=pl.col("item_id") != "b", is_available=~pl.col("item_id").is_in(["c", "h"])
    )
    bundle = dataclasses.replace(newsroom, items=items)
    result = reply(rows("sport,,Top,8,home", "politics,,Top,3,home", "stranger,,Top,3,home"), bundle)
    assert items_of(make, result) == ["defg", "gfe", "ade"]


def test_rows_filter_by_equality_membership_or_any_of_several(make, reply, newsroom):
    cells = ["politics", '"[""football"",""politics""]"', "curling", ""]
    lines = [f"politics,,L{number},8,home,{cell}" for number, cell in enumerate(cells)]
    result = reply(
        rows(*lines, variables=",category"),
        newsroom,
        aliases={"category": "categories"},
        configurations={"c": {"repeat_items": True}},
        lists=dict.fromkeys(("L0", "L1", "L2", "L3"), "c"),
    )
    assert items_of(make, result) == ["hgfe", "hgfedcba", "hgfedcba"]
    assert (result.counts.empty, result.counts.short, result.counts.answered) == (1, 2, 4)


def test_several_variables_must_all_be_met(make, reply, newsroom):
    lines = ["sport,,A,8,home,sport,true", "sport,,B,8,home,politics,true", "sport,,C,8,home,,2"]
    result = reply(rows(*lines, variables=",categories,premium"), newsroom)
    assert items_of(make, result) == ["h"]  # a is consumed


def test_configurations_filter_limit_the_age_and_the_score(make, reply, newsroom):
    configurations = {
        "filtered": {"filters": {"section": "2", "categories": ["politics", "sport"]}},
        "young": {"max_age_days": 2},
        "good": {"minimum_score": 5},
        "again": {"consumed": []},
    }
    lines = [f"sport,,L{name},8,home,{name}" for name in configurations]
    header = rows(*lines, variables=",configuration_id")
    result = reply(header.replace("sport,,L", "sport,,"), newsroom, configurations=configurations)
    assert items_of(make, result) == ["efgh", "bc", "d", "a"]  # good: a is consumed, b and c are taken


def test_popular_and_newest_are_no_fallback_and_know_what_was_consumed(make, reply, newsroom):
    bundle = dataclasses.replace(newsroom, popular=np.array([1, 2, 3, 4, 4, 3, 2, 1], np.float32))
    configurations = {"p": {"algorithm": "popular"}, "n": {"algorithm": "newest", "repeat_items": True}}
    lines = ["sport,,A,3,home,p", "sport,,B,3,home,n", "stranger,,A,3,home,n"]
    result = reply(rows(*lines, variables=",configuration_id"), bundle, configurations=configurations)
    assert items_of(make, result) == ["dec", "bcd", "abc"]
    assert set(make.recommendations(result)["user_group"]) == {"recoflow"}
    assert (result.counts.unpersonalized, result.counts.personalized, result.counts.fallback) == (3, 0, 0)


def test_items_without_a_date_are_the_oldest(make, reply):
    items = make.items([{"item_id": "a", "published_at": None}, {"item_id": "b"}, {"item_id": "c"}])
    bundle = make.bundle(items, {"u:x": (1,)}, [[1], [1], [1]])
    result = reply(rows("x,,A,3,home"), bundle, configurations={"n": {"algorithm": "newest"}}, lists={"A": "n"})
    assert items_of(make, result) == ["bca"]


def test_lists_of_one_user_hold_different_items_in_the_order_of_the_file(make, reply, newsroom):
    lines = ["sport,,One,2,home", "politics,,One,3,home", "sport,,Two,3,home", ",phone,Three,9,home"]
    assert items_of(make, reply(rows(*lines), newsroom)) == ["bc", "hgf", "def", "gh"]


def test_a_list_may_repeat_items_where_its_configuration_allows_it(make, reply, newsroom):
    lines = ["sport,,One,2,home", "sport,,Two,3,home", "sport,,Three,3,home"]
    result = reply(rows(*lines), newsroom, configurations={"r": {"repeat_items": True}}, lists={"Two": "r"})
    assert items_of(make, result) == ["bc", "bcd", "efg"]


def test_a_campaign_without_an_accepted_row_is_staged_empty(make, reply, newsroom):
    result = reply(rows(",,Top,3,home"), newsroom)
    assert make.recommendations(result).schema == staged.part_columns(("url",))
    assert (result.counts.read, result.counts.failed, result.counts.items) == (1, 1, 0)


def test_a_campaign_for_which_no_item_is_eligible_is_staged_empty(make, reply, newsroom):
    bundle = dataclasses.replace(newsroom, items=newsroom.items.with_columns(is_enabled=pl.lit(value=False)))
    result = reply(rows("sport,,Top,3,home", "stranger,,Top,3,home"), bundle)
    assert (result.counts.empty, result.counts.items) == (2, 0)


def test_a_refused_request_is_not_answered(ask, newsroom, make, tmp_path):
    with pytest.raises(CampaignError, match="refused"):
        build_lists.build_lists(ask("nonsense"), newsroom, make.environment(), tmp_path / "x", make.now)


def test_factors_that_are_not_finite_are_not_answered_with(reply, newsroom):
    broken = newsroom.item_factors.copy()
    broken[3] = np.nan
    with pytest.raises(ModelError):
        reply(rows("sport,,Top,3,home"), dataclasses.replace(newsroom, item_factors=broken))


def test_what_an_earlier_attempt_staged_is_replaced(make, reply, newsroom):
    reply(rows("sport,,Top,3,home", "politics,,Top,3,home"), newsroom, limits=BlockLimits(lists=1))
    result = reply(rows("stranger,,Top,3,home"), newsroom)
    assert make.recommendations(result)["user_id"].unique().to_list() == ["stranger"]
    assert staged.load_staged(result.folder, staged.StagedLists) == result


def test_a_folder_without_a_manifest_is_not_staged(tmp_path):
    with pytest.raises(CampaignError, match="no manifest"):
        staged.load_staged(tmp_path, staged.StagedLists)


def test_request_ids_tell_lists_apart_and_depend_on_the_campaign_alone(reply, newsroom):
    lines = ["a,b,c,1,home", "a,,c,1,home", ",a,c,1,home", "a|1:b,,c,1,home", "a,b,d,1,home"]
    first = pl.read_parquet(reply(rows(*lines), newsroom).requests)["request_id"]
    assert first.n_unique() == len(lines)
    again = reply(rows(*lines), newsroom, folder="again", configurations={"x": {}})
    assert pl.read_parquet(again.requests)["request_id"].equals(first)


def test_a_similarity_model_ranks_by_its_own_scores(make, reply, newsroom):
    history = sparse.csr_matrix(np.eye(len(newsroom.subjects), 8, dtype=np.float32))  # subject i read item i
    similarity = sparse.csr_matrix(np.roll(np.eye(8, dtype=np.float32), 1, axis=1) * 100)  # …which is like item i + 1
    bundle = dataclasses.replace(
        newsroom,
        user_factors=np.zeros_like(newsroom.user_factors),
        history=history,
        similarity=similarity,
    )
    result = reply(rows("politics,,Top,2,home", "sport,,Top,2,home", "stranger,,Top,2,home"), bundle)
    assert items_of(make, result) == ["da", "eb", "ab"]  # subjects by id: kiosk, nothing, politics, sport


# Invariants over random worlds, against the definition applied list by list


lists_asked = st.lists(
    st.tuples(
        st.sampled_from(["u0", "u1", "u2", "zero", "stranger", ""]),
        st.sampled_from(["", "d0", "d1", "d2"]),
        st.integers(1, 6),
        st.sampled_from(["", "x", "y", '"[""x"",""y""]"']),
        st.sampled_from(["", "repeat", "young", "again", "pop"]),
    ).filter(lambda row: row[0] or row[1]),
    min_size=1,
    max_size=8,
)
CONFIGURATIONS = {
    "repeat": {"repeat_items": True},
    "young": {"max_age_days": 1},
    "again": {"consumed": []},
    "pop": {"algorithm": "popular"},
}


@pytest.fixture
def given_world(make, reply, worlds):
    return make, reply, worlds


@pytest.fixture(scope="session")
def worlds(make):
    def make_bundle(seed):
        rng = np.random.default_rng(seed)
        count = int(rng.integers(1, 14))
        items = [
            {
                "item_id": f"i{number:02}",
                "is_enabled": bool(rng.random() < 0.9),
                "is_available": bool(rng.random() < 0.9),
                "published_at": None if rng.random() < 0.2 else make.now - timedelta(days=int(rng.integers(0, 3))),
                "attributes": {"tag": [["x"], "y", ["x", "y"], None][rng.integers(0, 4)]},
            }
            for number in range(count)
        ]
        subjects = ["u:u0", "u:u1", "u:u2", "u:zero", "d:d1"]
        factors = {subject: rng.integers(-2, 3, 2) * (subject != "u:zero") for subject in subjects}
        seen = {subject: [each["item_id"] for each in items if rng.random() < 0.2] for subject in subjects}
        return make.bundle(
            make.items(items),
            factors,
            rng.integers(-2, 3, (count, 2)),
            seen=seen,
            popular=rng.integers(0, 3, count),
            trending=rng.integers(0, 3, count),
            devices={"d0": "u0", "d1": None},
        )

    return make_bundle


def expected_lists(bundle, asked, now):
    """What docs/spec/campaigns.md says, one list after the other: (items, whether it is a fallback list)."""
    items = bundle.items.with_columns(tag=pl.col("attributes").str.json_path_match("$.tag")).to_dicts()
    subjects = {subject: row for row, subject in enumerate(bundle.subjects)}
    owner = dict(bundle.devices.iter_rows())
    given = {}
    for user, device, size, tag, configuration in asked:
        person = f"u:{user or owner.get(device)}" if user or owner.get(device) else f"d:{device}"
        rows_known = [subjects[each] for each in (person, f"d:{device}") if each in subjects]
        personal = next((row for row in rows_known if bundle.user_factors[row].any()), None)
        is_fallback = personal is None and configuration != "pop"
        scores = (
            bundle.popular
            if configuration == "pop"
            else bundle.trending * 100 + bundle.popular
            if personal is None
            else bundle.item_factors @ bundle.user_factors[personal]
        )
        consumed = (
            set()
            if configuration == "again"
            else {
                item
                for row in rows_known
                for item in bundle.seen_indices[bundle.seen_indptr[row] : bundle.seen_indptr[row + 1]]
            }
        )
        taken = set() if configuration == "repeat" else set(itertools.chain(*given.get(person, [])))
        tags = {"": None, "x": {"x"}, "y": {"y"}}.get(tag, {"x", "y"})
        allowed = [
            number
            for number, item in enumerate(items)
            if item["is_enabled"] and item["is_available"] and number not in consumed and number not in taken
            and (tags is None or any(f'"{each}"' in f'"{item["tag"]}"' for each in tags))
            and (configuration != "young" or (item["published_at"] and item["published_at"] >= now - timedelta(days=1)))
        ]  # fmt: skip
        chosen = sorted(allowed, key=lambda number: (-scores[number], number))[:size]
        given.setdefault(person, []).append(chosen)
        yield [items[number]["item_id"] for number in chosen], is_fallback


block_limits = st.sampled_from([BlockLimits(1, mask_bytes=1), BlockLimits(3, mask_bytes=1), BlockLimits(1000)])


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000), asked=lists_asked, limits=block_limits)
def test_random_campaigns_are_what_the_definition_gives_list_by_list(given_world, seed, asked, limits):
    make, reply, worlds = given_world
    bundle = worlds(seed)
    lines = [
        f"{user},{device},L{n},{size},home,{tag},{configuration}"
        for n, (user, device, size, tag, configuration) in enumerate(asked)
    ]

    request = rows(*lines, variables=",tag,configuration_id")
    result = reply(request, bundle, configurations=CONFIGURATIONS, information_fields=[], limits=limits)

    expected = list(expected_lists(bundle, asked, make.now))
    found = make.recommendations(result)
    assert found.group_by("row", maintain_order=True).agg("item_id").rows() == [
        (row, items) for row, (items, _) in enumerate(expected) if items
    ]
    assert found["rank"].to_list() == [rank for items, _ in expected for rank in range(1, len(items) + 1)]
    assert found["row"].is_sorted()
    requests = pl.read_parquet(result.requests)
    assert (requests["user_group"] == "fallback").to_list() == [is_fallback for _, is_fallback in expected]
    assert result.counts.short == sum(len(items) < each[2] for (items, _), each in zip(expected, asked, strict=True))
    assert result.counts.items == found.height


def test_the_same_request_gives_the_same_bytes_however_it_is_cut_into_blocks(make, reply, worlds):
    lines = [f"u{number % 3},,L{number},2,home" for number in range(9)]
    first = reply(rows(*lines), worlds(3), folder="first")
    again = reply(rows(*lines), worlds(3), folder="again")
    assert first.files == again.files
    cut = reply(rows(*lines), worlds(3), folder="cut", limits=BlockLimits(lists=2))
    assert len(cut.parts) > 1
    assert make.recommendations(cut).equals(make.recommendations(first))
