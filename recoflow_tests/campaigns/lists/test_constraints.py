"""Constraints, boosts, buries and diversity: examples, and random campaigns held against the written definition."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recoflow.campaigns.lists import constraints
from recoflow.campaigns.lists.rank_blocks import BlockLimits
from recoflow.campaigns.publishing import list_gate

pytestmark = pytest.mark.slow

HEADER = "environment,user_id,device_id,list_name,list_size,page_type"


def rows(*lines: str, variables: str = "") -> str:
    return "\n".join((HEADER + variables, *(f"lorem,{line}" for line in lines))) + "\n"


def query(key, value, *, how="match", negated=False):
    return {"key": key, how: {"value": value, "not": negated}}


def limit(asked, **limits):
    return {"query": asked, "limit": limits}


SPORT = query("categories", "sport", how="contains")


@pytest.fixture
def listed(make, reply, newsroom):
    """The items of one list of eight (or so many) for the reader of sport or another, as one text."""

    def answered(user="sport", size=4, **configuration):
        configurations = {"c": configuration}
        result = reply(rows(f"{user},,Top,{size},home"), newsroom, configurations=configurations, lists={"Top": "c"})
        list_gate.audit_lists(result, newsroom)
        return "".join(make.recommendations(result)["item_id"])

    return answered


def test_a_maximum_gives_way_to_the_next_best(listed):
    assert listed() == "bcde"
    assert listed(constraints=[limit(SPORT, max=2)]) == "bcef"
    assert listed(constraints=[limit(SPORT, max=0)]) == "efgh"


def test_places_that_a_minimum_needs_are_kept_for_it(listed):
    politics = query("categories", "politics", how="contains")
    assert listed(constraints=[limit(politics, min=3)]) == "befg"
    assert listed(size=2, constraints=[limit(politics, min=1)]) == "be"


def test_a_list_that_cannot_meet_its_minimum_is_short(listed):
    assert listed(constraints=[limit(query("premium", value=True), min=2)]) == "bch"  # a is consumed
    assert listed(constraints=[limit(query("categories", "curling", how="contains"), min=3)]) == "b"


def test_not_is_met_by_all_other_items(listed):
    assert listed(constraints=[limit(query("premium", value=True, negated=True), max=2)]) == "bch"
    assert listed(constraints=[limit(query("categories", "sport", how="contains", negated=True), min=3)]) == "befg"


def test_match_is_about_the_whole_attribute_and_contains_about_one_of_its_elements(listed):
    assert listed(constraints=[limit(query("categories", "sport"), max=0)]) == "bcde"  # they are football as well
    assert listed(constraints=[limit(query("categories", "politics"), max=0)]) == "bcd"
    assert listed(constraints=[limit(query("section", 1, how="contains"), max=0)]) == "efgh"


def test_a_minimum_inside_a_maximum_keeps_its_places_there(listed):
    inner = query("premium", value=True)
    assert listed("politics", constraints=[limit(SPORT, max=1)]) == "hgfe"
    nested = [limit(query("section", 1), max=2), limit(query("item_type", "article"), max=3), limit(inner, min=1)]
    assert listed("politics", size=8, constraints=nested) == "hgf"
    outer = [limit(query("section", 2), max=2), limit(query("premium", value="false"), min=2)]
    assert listed("politics", size=4, constraints=outer) == "hgdc"


def test_boosts_and_buries_move_items_whatever_the_sign_of_their_scores(make, reply):
    items = make.items([{"item_id": item, "attributes": {"hot": item in "bd"}} for item in "abcd"])
    bundle = make.bundle(items, {"u:x": (1,)}, [[3], [2], [-1], [-2]])
    found = {}
    for name in ("boosts", "buries"):
        configurations = {"c": {name: [{"query": query("hot", value=True), "factor": 4}]}}
        result = reply(rows("x,,A,4,home"), bundle, configurations=configurations, lists={"A": "c"})
        found[name] = make.recommendations(result).select("item_id", "score").rows()
    assert found["boosts"] == [("b", 8), ("a", 3), ("d", -0.5), ("c", -1)]
    assert found["buries"] == [("a", 3), ("b", 0.5), ("c", -1), ("d", -8)]


def test_a_minimum_score_is_one_of_the_model(listed):
    boosts = [{"query": query("premium", value=True), "factor": 100}]
    assert listed("politics", size=8, boosts=boosts) == "hagfedcb"
    assert listed("politics", size=8, boosts=boosts, minimum_score=3) == "hgfedc"


def test_diversity_prefers_items_unlike_those_that_the_list_holds(make, reply):
    items = make.items([{"item_id": item} for item in "abcd"])
    bundle = make.bundle(items, {"u:x": (1, 1)}, [[4, 0], [3, 0], [0, 2], [0, 0]])
    found = []
    for weight in (1, 0.5):
        configurations = {"c": {"diversity": weight}}
        result = reply(rows("x,,A,4,home"), bundle, configurations=configurations, lists={"A": "c"})
        found.append("".join(make.recommendations(result)["item_id"]))
        list_gate.audit_lists(result, bundle)
    assert found == ["abcd", "acdb"]


def test_a_class_is_ranked_no_deeper_than_its_maximum_lets_lists_hold():
    part = constraints.ItemClass(size=50, most=3)
    assert part.depth(np.array([10, 2]), np.array([0, 20])).tolist() == [3, 22]


# Random campaigns against the definition in the docstring of `constraints`, item by item


KEYS = {"section": ["x", "y", 1, None], "tags": [["x"], ["x", "y"], "y", [], None], "premium": [True, False, None]}
queries = st.sampled_from(sorted(KEYS)).flatmap(
    lambda key: st.builds(
        query,
        st.just(key),
        st.sampled_from(["x", "y", 1, "true"]),
        how=st.sampled_from(["match", "contains"]),
        negated=st.booleans(),
    )
)
limits = st.tuples(st.integers(0, 3), st.none() | st.integers(0, 3)).map(
    lambda pair: {"min": pair[0] if pair != (0, None) else 1} | ({} if pair[1] is None else {"max": max(pair)})
)
boosts = st.lists(st.fixed_dictionaries({"query": queries, "factor": st.sampled_from([1, 1.5, 2, 10])}), max_size=2)
configurations = st.fixed_dictionaries(
    {"constraints": st.lists(st.fixed_dictionaries({"query": queries, "limit": limits}), max_size=3)},
    optional={
        "boosts": boosts,
        "buries": boosts,
        "diversity": st.sampled_from([0, 0.3, 0.5, 0.9, 1]),
        "algorithm": st.sampled_from(["champion", "popular", "trending", "newest"]),
        "filters": st.just({"section": ["x", "y"]}),
        "max_age_days": st.just(1),
        "minimum_score": st.sampled_from([-2, 0, 1]),
        "repeat_items": st.booleans(),
        "consumed": st.just([]),
    },
)
lists_asked = st.lists(
    st.tuples(
        st.sampled_from(["u0", "u1", "u2", "zero", "stranger"]),
        st.integers(1, 7),
        st.sampled_from(["", "x", '"[""x"",true]"']),
        st.sampled_from(["0", "1", ""]),
    ),
    min_size=1,
    max_size=7,
)


@pytest.fixture
def given_world(make, reply):
    def make_bundle(seed):
        rng = np.random.default_rng(seed)
        count = int(rng.integers(1, 20))
        items = [
            {
                "item_id": f"i{number:02}",
                "is_enabled": bool(rng.random() < 0.9),
                "published_at": None if rng.random() < 0.1 else make.now - timedelta(days=int(rng.integers(0, 3))),
                "attributes": {key: values[rng.integers(len(values))] for key, values in KEYS.items()},
            }
            for number in range(count)
        ]
        subjects = ["u:u0", "u:u1", "u:u2", "u:zero"]
        factors = {subject: rng.integers(-2, 3, 2) * (subject != "u:zero") for subject in subjects}
        seen = {subject: [each["item_id"] for each in items if rng.random() < 0.2] for subject in subjects}
        factors_of_items = rng.integers(-2, 3, (count, 2))
        return make.bundle(
            make.items(items),
            factors,
            factors_of_items,
            seen=seen,
            popular=rng.integers(0, 3, count),
            trending=rng.integers(0, 3, count),
        )

    return make, reply, make_bundle


def spoken(value):
    """The texts that an attribute's value answers to."""
    elements = value if isinstance(value, list) else [value]
    return [each if isinstance(each, str) else json.dumps(each) for each in elements if each is not None]


def meets(attributes, asked):
    how = "match" if "match" in asked else "contains"
    texts = spoken(attributes[asked["key"]])
    (wanted,) = spoken(asked[how]["value"])
    is_met = wanted in texts and (how == "contains" or set(texts) == {wanted})
    return is_met != asked[how]["not"]


@dataclass
class Definition:
    """One list, chosen by the book: `allowed` are the items that it may hold, `scores` those of the model."""

    configuration: dict
    attributes: dict  # of all recommendable items
    vectors: list
    size: int
    chosen: list = field(default_factory=list)

    def limits(self):
        """(places, items that fall under it, minima that are needed in it)"""
        everything = set(self.attributes)
        minima = [(self.meeting(each), each["limit"].get("min", 0)) for each in self.configuration["constraints"]]
        yield self.size, everything, minima
        for each in self.configuration["constraints"]:
            if "max" in each["limit"]:
                under = self.meeting(each)
                yield each["limit"]["max"], under, [pair for pair in minima if pair[0] and pair[0] <= under]

    def meeting(self, constraint):
        return {item for item, each in self.attributes.items() if meets(each, constraint["query"])}

    def may_take(self, item):
        for places, under, minima in self.limits():
            if item not in under:
                continue
            free = places - len(under & set(self.chosen))
            lacking = [(meeting, least - len(meeting & set(self.chosen))) for meeting, least in minima]
            unmet = [(meeting, lack) for meeting, lack in lacking if lack > 0]
            helps = any(item in meeting for meeting, _ in unmet)
            if free < 1 or not (helps or free > sum(lack for _, lack in unmet)):
                return False
        return True

    def boosted(self, item, score):
        multiplier = 1.0
        for boost in self.configuration.get("boosts", ()):
            multiplier *= boost["factor"] if meets(self.attributes[item], boost["query"]) else 1
        for bury in self.configuration.get("buries", ()):
            multiplier /= bury["factor"] if meets(self.attributes[item], bury["query"]) else 1
        return score * multiplier if score > 0 else score / multiplier

    def cosine(self, one, other):
        one, other = ([float(each) for each in self.vectors[item]] for item in (one, other))
        lengths = math.sqrt(sum(a * a for a in one)) * math.sqrt(sum(a * a for a in other))
        return sum(a * b for a, b in zip(one, other, strict=True)) / lengths if lengths else 0.0

    def candidates(self, scores):
        ordered = sorted(scores, key=lambda item: (-scores[item], item))
        found = set(ordered[: max(100, 10 * self.size)])
        kinds = {}
        for item in ordered:
            kind = tuple(meets(self.attributes[item], each["query"]) for each in self.configuration["constraints"])
            kinds.setdefault(kind, []).append(item)
        return found.union(*(items[: self.size] for items in kinds.values()))

    def items(self, allowed):
        """(item, score) of the list, from the items that it may hold and their scores by the model."""
        scores = {item: self.boosted(item, score) for item, score in allowed.items()}
        weight = self.configuration.get("diversity")
        among = scores if weight is None else self.candidates(scores)
        low, high = (min(scores[item] for item in among), max(scores[item] for item in among)) if among else (0, 0)

        def value(item):
            if weight is None:
                return scores[item]
            relevance = (scores[item] - low) / (high - low) if high > low else 0
            similarity = max((self.cosine(item, other) for other in self.chosen), default=0)
            return weight * relevance - (1 - weight) * similarity

        while len(self.chosen) < self.size:
            able = [item for item in among if item not in self.chosen and self.may_take(item)]
            if not able:
                break
            self.chosen.append(min(able, key=lambda item: (-value(item), item)))
        if weight is None:
            self.chosen.sort(key=lambda item: (-scores[item], item))
        return [(item, scores[item]) for item in self.chosen]


def expected_lists(bundle, asked, settings_by_id, now):
    items = bundle.items.to_dicts()
    attributes = {n: json.loads(item["attributes"]) for n, item in enumerate(items) if item["is_enabled"]}
    dates = sorted({items[n]["published_at"] for n in attributes if items[n]["published_at"]})
    newest = {n: dates.index(items[n]["published_at"]) + 1 if items[n]["published_at"] else 0 for n in attributes}
    pairs = {n: (float(bundle.trending[n]), float(bundle.popular[n])) for n in attributes}
    fallback = {n: sorted(set(pairs.values())).index(pair) + 1 for n, pair in pairs.items()}
    subjects = list(bundle.subjects)
    taken = {}
    for user, size, tags, configuration_id in asked:
        configuration = {"constraints": []} | settings_by_id.get(configuration_id, {})
        row = subjects.index(f"u:{user}") if f"u:{user}" in subjects else None
        algorithm = configuration.get("algorithm", "champion")
        is_fallback = algorithm == "champion" and (row is None or not bundle.user_factors[row].any())
        scores = {"popular": bundle.popular, "trending": bundle.trending, "newest": newest}.get(algorithm, fallback)
        if algorithm == "champion" and not is_fallback:
            scores = bundle.item_factors @ bundle.user_factors[row]
        seen = () if row is None else bundle.seen_indices[bundle.seen_indptr[row] : bundle.seen_indptr[row + 1]]
        excluded = set() if configuration.get("consumed") == [] else set(map(int, seen))
        excluded |= set() if configuration.get("repeat_items") else set(taken.get(user, ()))
        allowed = {n: float(scores[n]) for n in attributes if n not in excluded}
        if tags:
            allowed = {
                n: s
                for n, s in allowed.items()
                if {"x", *(["true"] * (tags != "x"))} & set(spoken(attributes[n]["tags"]))
            }
        if "filters" in configuration:
            allowed = {n: s for n, s in allowed.items() if {"x", "y"} & set(spoken(attributes[n]["section"]))}
        if "max_age_days" in configuration:
            dated = {n: items[n]["published_at"] for n in allowed}
            allowed = {n: s for n, s in allowed.items() if dated[n] and dated[n] >= now - timedelta(days=1)}
        if "minimum_score" in configuration and not is_fallback:
            allowed = {n: s for n, s in allowed.items() if s >= configuration["minimum_score"]}
        chosen = Definition(configuration, attributes, bundle.item_factors, size).items(allowed)
        taken.setdefault(user, []).extend(n for n, _ in chosen)
        yield [(items[n]["item_id"], float(np.float32(score))) for n, score in chosen]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10_000),
    asked=lists_asked,
    chosen=st.tuples(configurations, configurations),
    limits=st.sampled_from([BlockLimits(1, mask_bytes=1), BlockLimits(3, mask_bytes=1), BlockLimits(1000)]),
)
def test_random_lists_are_what_the_definition_gives(given_world, seed, asked, chosen, limits):
    make, reply, make_bundle = given_world
    bundle = make_bundle(seed)
    settings_by_id = {str(number): each for number, each in enumerate(chosen)}
    lines = [f"{user},,L{n},{size},home,{tags},{name}" for n, (user, size, tags, name) in enumerate(asked)]

    request = rows(*lines, variables=",tags,configuration_id")
    result, again = (
        reply(request, bundle, configurations=settings_by_id, information_fields=[], folder=folder, limits=limits)
        for folder in ("staging", "again")
    )

    assert result.counts.failed == 0
    assert result.files == again.files
    expected = list(expected_lists(bundle, asked, settings_by_id, make.now))
    found = make.recommendations(result)
    by_row = {
        row: list(zip(items, scores, strict=True))
        for row, items, scores in found.group_by("row").agg("item_id", "score").rows()
    }
    assert [by_row.get(row, []) for row in range(len(asked))] == expected
    assert found["row"].is_sorted()
    assert found["rank"].to_list() == [rank for each in expected for rank in range(1, len(each) + 1)]
    list_gate.audit_lists(result, bundle)
