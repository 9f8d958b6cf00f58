"""Experiments: stable and independent assignment, what an arm changes, and the check of the arms' sizes."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
import xxhash
from scipy.stats import chi2_contingency, chisquare, kstest

from recoflow.campaigns.lists import experiments
from recoflow.campaigns.publishing import deliveries, list_gate, response_files
from recoflow.campaigns.requests.model import Request
from recoflow.campaigns.staging.staged import StagedLists
from recoflow.models.store.bundle import Bundle
from recoflow.settings.campaign_settings import Experiment
from recoflow.settings.environment import Campaigns

pytestmark = pytest.mark.slow

MILLION = 1_000_000
HEAD = "environment,user_id,device_id,list_name,list_size,configuration_id,page_type\n"


def experiment(lists: tuple[str, ...] = (), **weights: float) -> Experiment:
    return Experiment(lists=lists, arms={arm: {"weight": weight} for arm, weight in weights.items()})


@pytest.fixture(scope="module")
def people() -> pl.Series:
    """A million simulated users."""
    return pl.select(pl.format("user-{}", pl.int_range(MILLION))).to_series()


@pytest.mark.parametrize(
    "weights", [{"a": 1, "b": 1}, {"a": 50, "b": 30, "c": 20}, {"a": 9, "b": 1}, {"a": 0.001, "b": 0.999}]
)
def test_a_million_users_are_divided_as_the_weights_say(people: pl.Series, weights: dict[str, float]) -> None:
    found = np.bincount(experiments.arms_of("a_a", experiment(**weights), people), minlength=len(weights))
    shares = np.array(list(weights.values())) / sum(weights.values())
    assert chisquare(found, shares * MILLION).pvalue > 0.01


def test_over_many_experiments_deviations_are_what_chance_gives(people: pl.Series) -> None:
    some = people.head(20_000)
    sizes = [np.bincount(experiments.arms_of(f"trial_{n}", experiment(a=1, b=1), some)) for n in range(100)]
    assert kstest([chisquare(each).pvalue for each in sizes], "uniform").pvalue > 0.01


def test_two_experiments_divide_people_independently(people: pl.Series) -> None:
    first = experiments.arms_of("subject_line", experiment(a=1, b=1, c=1), people)
    second = experiments.arms_of("ranking", experiment(d=1, e=3), people)
    table = np.bincount(first * 2 + second, minlength=6).reshape(3, 2)
    assert chi2_contingency(table).pvalue > 0.01


@pytest.mark.parametrize(
    ("person", "digest", "arm"),
    [
        ("reader-00021", "05a2754b39768cb7", 0),
        ("reader-00003", "4d0a6e586ddce516", 1),
        ("reader-00001", "f0eb3c98ddcba041", 2),
        ("u1", "913b6438c4a2c8dd", 2),
        ("é\U0001f600", "90eb75519d5fc2f2", 2),
    ],
)
def test_assignment_never_changes(person: str, digest: str, arm: int) -> None:
    assert xxhash.xxh64_hexdigest(f"subject_line\0{person}".encode()) == digest
    assert experiments.arms_of("subject_line", experiment(a=1, b=1, c=2), pl.Series([person])).tolist() == [arm]


def test_the_place_of_a_person_is_the_hash_as_a_fraction(people: pl.Series) -> None:
    some = people.head(1000)
    places = [xxhash.xxh64_intdigest(f"x\0{person}".encode()) / 2**64 for person in some]
    expected = [0 if place < 0.25 else 1 if place < 0.5 else 2 for place in places]
    assert experiments.arms_of("x", experiment(a=1, b=1, c=2), some).tolist() == expected


def assigned(campaigns: dict[str, Any], people: pl.Series, list_name: str = "news") -> pl.DataFrame:
    rows = pl.DataFrame({"user_id": people}).with_columns(
        pl.lit(None, pl.String).alias("device_id"),
        pl.lit(list_name).alias("list_name"),
        pl.lit(None, pl.String).alias("configuration_id"),
    )
    return experiments.assign(rows, Campaigns.model_validate(campaigns), ())


def test_an_arm_that_is_added_elsewhere_moves_nobody(people: pl.Series) -> None:
    subject = {"lists": ["news"], "arms": {"plain": {"weight": 1}, "bold": {"weight": 1}}}
    ranking = {"lists": ["shop"], "arms": {"old": {"weight": 1}, "new": {"weight": 1}}}
    more = {"lists": ["shop"], "arms": ranking["arms"] | {"newest": {"weight": 5}}}
    before = assigned({"experiments": {"subject": subject, "ranking": ranking}}, people)
    after = assigned({"experiments": {"ranking": more, "subject": subject}}, people)
    assert before.equals(after)
    assert set(before["version"].unique()) == {"plain", "bold"}


# What an arm changes, through a request and its answer

CAMPAIGNS: dict[str, Any] = {
    "version": "as_ever",
    "lists": {"news": "recent"},
    "configurations": {
        "recent": {"max_age_days": 3.5},
        "by_age": {"algorithm": "newest"},
        "hits": {"algorithm": "popular"},
    },
    "experiments": {
        "ranking": {
            "lists": ["shop"],
            "arms": {"same": {"weight": 1}, "new": {"weight": 1, "configuration": "by_age"}},
        },
        "model": {"lists": ["news"], "arms": {"usual": {"weight": 1}, "rival": {"weight": 1, "model": "champion"}}},
    },
}


def arm_of(name: str, person: str) -> str:
    found = Campaigns.model_validate(CAMPAIGNS).experiments[name]
    return list(found.arms)[experiments.arms_of(name, found, pl.Series([person]))[0]]


def person_in(name: str, arm: str, prefix: str = "nobody-") -> str:
    return next(f"{prefix}{number}" for number in range(100) if arm_of(name, f"{prefix}{number}") == arm)


def test_the_rows_of_an_arm_get_its_configuration_and_its_name_as_version(ask: Callable[..., Request]) -> None:
    old, new = person_in("ranking", "same"), person_in("ranking", "new")
    text = f"{HEAD}lorem,{old},,shop,3,,home\nlorem,{new},,shop,3,,home\nlorem,{new},,other,3,,home\n"
    rows = ask(text, **CAMPAIGNS).rows
    assert rows["version"].to_list() == ["same", "new", "as_ever"]
    assert rows["configuration_id"].to_list() == [None, "by_age", None]


def test_a_row_that_names_a_configuration_takes_no_part(ask: Callable[..., Request]) -> None:
    new = person_in("ranking", "new")
    rows = ask(f"{HEAD}lorem,{new},,shop,3,hits,home\n", **CAMPAIGNS).rows
    assert rows.select("configuration_id", "version").rows() == [("hits", "as_ever")]


def test_a_list_with_a_configuration_of_its_own_takes_part_and_keeps_it_unless_the_arm_has_one(
    ask: Callable[..., Request],
) -> None:
    usual, rival = person_in("model", "usual"), person_in("model", "rival")
    rows = ask(f"{HEAD}lorem,{usual},,news,3,,home\nlorem,{rival},,news,3,,home\n", **CAMPAIGNS).rows
    assert rows.select("configuration_id", "version", "algorithm").rows() == [
        ("recent", "usual", None),
        ("recent", "rival", "champion"),
    ]


def test_the_user_decides_and_the_device_where_there_is_no_user(ask: Callable[..., Request]) -> None:
    person = person_in("ranking", "new")
    other = person_in("ranking", "same", "device-")
    text = f"{HEAD}lorem,{person},{other},shop,3,,home\nlorem,,{person},shop,3,,home\nlorem,,{other},shop,3,,home\n"
    assert ask(text, **CAMPAIGNS).rows["version"].to_list() == ["new", "new", "same"]


def test_an_experiment_without_lists_takes_in_all_of_them(ask: Callable[..., Request]) -> None:
    both = {"experiments": {"all": {"arms": {"one": {"weight": 1}}}}}
    rows = ask(f"{HEAD}lorem,u,,shop,3,,home\nlorem,u,,news,3,,home\n", **both).rows
    assert rows["version"].to_list() == ["one", "one"]


def test_rows_that_are_refused_do_not_disturb_the_assignment(ask: Callable[..., Request]) -> None:
    read = ask(f"{HEAD}lorem,,,shop,3,,home\nlorem,u,,,3,,home\nlorem,u,,shop,3,,home\n", **CAMPAIGNS)
    assert read.errors["code"].to_list() == ["missing_identity", "missing_list_name"]
    assert read.rows["version"].to_list() == [arm_of("ranking", "u")]


def test_response_staged_rows_and_the_lake_carry_the_arm_and_the_audit_agrees(
    reply: Callable[..., StagedLists], newsroom: Bundle, make: SimpleNamespace, tmp_path: Any
) -> None:
    people = ["sport", "politics", *(f"stranger-{number}" for number in range(6))]
    text = HEAD + "".join(f"lorem,{person},,shop,2,,home\n" for person in people)
    staged = reply(text, newsroom, information_fields=["url"], **CAMPAIGNS)
    expected = {person: arm_of("ranking", person) for person in people}
    assert set(expected.values()) == {"same", "new"}
    given = make.recommendations(staged)
    assert dict(given.select("user_id", "version").iter_rows()) == expected
    newest = ["a", "b"]
    for user, items in given.group_by("user_id", maintain_order=True).agg("item_id").iter_rows():
        if expected[user] == "new" and user != "sport":  # who has read a
            assert items == newest
    assert set(given.filter(pl.col("user_id").str.starts_with("stranger"))["user_group"]) == {"fallback", "recoflow"}
    list_gate.audit_lists(staged, newsroom)
    assert (
        dict(pl.concat(deliveries.response_rows(staged, make.now)).select("user_id", "version").iter_rows()) == expected
    )
    response = next(path for path, name in response_files.render_files(staged, tmp_path) if name == staged.name)
    assert {row["user_id"]: row["version"] for row in csv.DictReader(io.StringIO(response.read_text()))} == expected


def test_an_arms_model_ranks_in_the_place_of_the_configurations_algorithm(
    reply: Callable[..., StagedLists], newsroom: Bundle, make: SimpleNamespace
) -> None:
    arms = {"by_age": {"weight": 1, "model": "champion"}}
    settings = {
        "lists": {"shop": "hits"},
        "configurations": {"hits": {"algorithm": "popular", "filters": {"categories": "politics"}}},
        "experiments": {"all": {"arms": arms}},
    }
    text = f"{HEAD}lorem,politics,,shop,2,,home\n"
    with_arm = make.recommendations(reply(text, newsroom, information_fields=[], **settings))
    without = make.recommendations(reply(text, newsroom, information_fields=[], **(settings | {"experiments": {}})))
    assert without["item_id"].to_list() == ["e", "f"]  # popular among politics
    assert with_arm["item_id"].to_list() == ["h", "g"]  # theirs, and still among politics
    assert with_arm["version"].unique().to_list() == ["by_age"]


@pytest.mark.parametrize(
    ("arm", "reason"),
    [
        ({"weight": 1, "model": "champion"}, "its model 'champion' is not in service"),
        ({"weight": 1, "configuration": "odd"}, "no item has the attribute 'colour'"),
    ],
)
def test_when_one_arm_cannot_be_answered_nobody_is_assigned(arm: dict[str, Any], reason: str) -> None:
    campaigns = Campaigns.model_validate(
        {
            "configurations": {"odd": {"filters": {"colour": "red"}}},
            "experiments": {"x": {"arms": {"a": {"weight": 1}, "b": arm}}},
        }
    )
    why = experiments.suspended(campaigns, {"odd": "no item has the attribute 'colour'"}, ["popular"])
    assert why == {"x": f"arm 'b': {reason}"}
    rows = pl.DataFrame({"user_id": ["u"], "device_id": [None], "list_name": ["l"], "configuration_id": [None]})
    given = experiments.assign(rows.cast(pl.String), campaigns, why)
    assert given.select("version", "algorithm", "configuration_id").rows() == [("recoflow_1", None, None)]
    finding = experiments.balance(given, campaigns, why)
    assert not finding.passed
    assert finding.message == f"x did not take place: arm 'b': {reason}"


# The check of the arms' sizes


def judged(sizes: dict[str, int], **weights: float) -> Any:
    rows = [(f"{arm}-{number}", None, arm) for arm, size in sizes.items() for number in range(size)]
    frame = pl.DataFrame(
        rows * 2, schema=dict.fromkeys(("user_id", "device_id", "version"), pl.String), orient="row"
    )  # two lists each
    campaigns = Campaigns(experiments={"x": experiment(**weights)})
    return experiments.balance(frame, campaigns, {})


def test_arms_of_the_right_sizes_pass_and_are_shown() -> None:
    finding = judged({"a": 520, "b": 480}, a=1, b=1)
    assert finding.passed
    assert finding.metadata["arms"] == [
        {"experiment": "x", "arm": "a", "people": 520, "expected": 500.0, "p": pytest.approx(0.2059, abs=1e-4)},
        {"experiment": "x", "arm": "b", "people": 480, "expected": 500.0, "p": pytest.approx(0.2059, abs=1e-4)},
    ]
    assert finding.metadata["arms"][0]["p"] == pytest.approx(chisquare([520, 480]).pvalue)


def test_a_ratio_that_the_weights_do_not_explain_warns_and_says_what_not_to_do() -> None:
    finding = judged({"a": 600, "b": 480, "c": 10}, a=1, b=1, c=0.01)
    assert (finding.passed, finding.severity) == (False, "warn")
    assert "x has a 600, b 480, c 10 people (p = " in finding.message
    assert "do not compare its arms" in finding.message


@pytest.mark.parametrize("sizes", [{"a": 6, "b": 0}, {"a": 0, "b": 0}])
def test_too_few_people_are_not_judged(sizes: dict[str, int]) -> None:
    finding = judged(sizes, a=1, b=1)
    assert finding.passed
    assert {each["p"] for each in finding.metadata["arms"]} == {None}


def test_one_arm_alone_is_not_judged() -> None:
    assert judged({"a": 90}, a=1).passed


def test_without_experiments_the_check_says_so() -> None:
    rows = pl.DataFrame(schema=dict.fromkeys(("user_id", "device_id", "version"), pl.String))
    assert experiments.balance(rows, Campaigns(), {}).message == "No experiment is set up."
