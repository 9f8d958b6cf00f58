"""Whether events can be trusted to say what recommendations did: the checks that are made of shares.

What belongs here: queries over `RECENT` and the lake's views. What does not: counts of whole tables (`event_checks`).

Sources, as in docs/spec/events.md. [F] "QA tests" of Froomle's public page "QA & Monitoring"; their thresholds are not
public, so all defaults are ours. [M] the checks of Metarank's `validate` command, told by its public documentation and
source: event types, field references, interaction–ranking join key, interaction metadata, interaction positions,
interaction types, use of item and of user string values; its ninth, event order, is left out because order does not
matter here. [R] recoflow's own.
"""

from __future__ import annotations

from typing import Final

from recoflow.event_quality.ratio_check import ShareCheck
from recoflow.interactions.identity import SUBJECT

# Events that agree in all of these, and in the person, are twins.
_SAME: Final = (
    "kind, part, event_type, timestamp, session_id, channel, page_type, item_id, item_type, interaction_type,"
    " request_id, campaign_id, list_name, rank, quantity, price, order_id, checkpoint"
)
# The events of the window that ends with the latest event, with the person behind each. `twins` is a hash:
# one number is grouped in a fraction of the time that twenty columns take.
RECENT: Final = f"""
CREATE OR REPLACE TEMP TABLE recent AS
SELECT
    row_number() OVER () AS number, {SUBJECT} AS person, hash({_SAME}, {SUBJECT}) AS twins,
    kind, event_id, event_type, timestamp, item_id, request_id, list_name, page_type, user_group, rank
FROM events AS person LEFT JOIN identity AS device USING (device_id)
WHERE timestamp > $since AND timestamp <= $until
"""

IMPRESSIONS: Final = "('impression', 'batch_impression')"
CLICKS: Final = "('click_on_recommendation', 'batch_click_on_recommendation')"
PAGEVIEWS: Final = "('page_visit', 'detail_pageview')"
# [F] names these two groups. A group that the event does not name is not counted as anonymous.
ANONYMOUS: Final = "coalesce(lower(user_group) IN ('anonymous', 'blacklist'), false)"

# What was shown in answer to a request: impressions of the same request, and what recoflow published.
SHOWN: Final = f"""
SELECT request_id, item_id FROM events WHERE event_type IN {IMPRESSIONS} AND request_id IS NOT NULL
UNION ALL SELECT request_id, item_id FROM responses
"""

_IMPRESSION_BEFORE: Final = """
SELECT number FROM recent AS click SEMI JOIN (FROM recent WHERE event_type = 'impression') AS shown
ON click.person = shown.person AND click.item_id = shown.item_id
    AND click.request_id IS NOT DISTINCT FROM shown.request_id
    AND click.list_name IS NOT DISTINCT FROM shown.list_name
    AND click.page_type IS NOT DISTINCT FROM shown.page_type
    AND click.user_group IS NOT DISTINCT FROM shown.user_group
    AND click.timestamp >= shown.timestamp AND click.timestamp <= shown.timestamp + to_seconds($click_seconds)
WHERE click.event_type = 'click_on_recommendation'
"""
_PAGEVIEW_AFTER: Final = """
SELECT number FROM recent AS click SEMI JOIN (FROM recent WHERE event_type = 'detail_pageview') AS view
ON click.person = view.person AND click.item_id = view.item_id
    AND view.timestamp >= click.timestamp AND view.timestamp <= click.timestamp + to_seconds($click_seconds)
WHERE click.event_type = 'click_on_recommendation'
"""
_PUBLISHED_BEFORE: Final = f"""
SELECT number FROM recent AS click SEMI JOIN responses AS given
ON click.request_id = given.request_id AND click.item_id = given.item_id AND click.list_name = given.list_name
    AND click.timestamp >= given.published_at
WHERE click.event_type IN {CLICKS}
"""
# An interaction in Metarank's sense: something done with an item, in answer to a ranking or not.
_INTERACTIONS: Final = f"item_id IS NOT NULL AND event_type NOT IN {IMPRESSIONS}"
CHECKS: Final = (
    ShareCheck(
        "anonymous_traffic_clicks",
        "[F] The share of clicks on recommendations whose user_group is anonymous or blacklist is within the limit.",
        f"SELECT event_id AS example, {ANONYMOUS} AS is_wrong FROM recent WHERE event_type IN {CLICKS}",
        "max_anonymous_share",
        "clicks are of nobody that recommendations could be made for",
        "Send device_id with every event, and user_id for everybody who is logged in",
    ),
    ShareCheck(
        "anonymous_traffic_pageviews",
        "[F] The share of page visits and detail page views whose user_group is anonymous or blacklist is within"
        " the limit.",
        f"SELECT event_id AS example, {ANONYMOUS} AS is_wrong FROM recent WHERE event_type IN {PAGEVIEWS}",
        "max_anonymous_share",
        "page views are of nobody that recommendations could be made for",
        "Send device_id with every event, and user_id for everybody who is logged in",
    ),
    ShareCheck(
        "anonymous_traffic_requests",
        "[F] The share of requested lists whose user_group is anonymous or blacklist is within the limit; counted in"
        " what was published.",
        f"SELECT DISTINCT request_id AS example, {ANONYMOUS} AS is_wrong FROM responses WHERE published_at > $since",
        "max_anonymous_share",
        "lists were asked for nobody that recommendations could be made for",
        "Name a user_id or device_id in each row of the request",
    ),
    ShareCheck(
        "clicks_without_preceding_impression",
        "[F] Each click on a recommendation follows an impression of the same person, page type, request id, list"
        " name, user group and item within `click_seconds`.",
        f"SELECT event_id AS example, number NOT IN ({_IMPRESSION_BEFORE}) AS is_wrong FROM recent"
        " WHERE event_type = 'click_on_recommendation'",
        "max_unattributed_share",
        "clicks follow no impression",
        "Send an impression for every recommendation that is seen, with the same attribution fields as the click",
    ),
    ShareCheck(
        "clicks_without_following_pageview",
        "[F] Each click on a recommendation leads to a detail page view of the same person and item within"
        " `click_seconds`. [R] The view need not repeat request id, list name and page type, which EVENTS.md does not"
        " ask of it; Metarank interactions are left out, because there the click is the view.",
        f"SELECT event_id AS example, number NOT IN ({_PAGEVIEW_AFTER}) AS is_wrong FROM recent"
        " WHERE event_type = 'click_on_recommendation' AND kind = 'event'",
        "max_unattributed_share",
        "clicks lead to no detail page view",
        "Send detail_pageview on the page that the click opens, under the same user_id or device_id",
    ),
    ShareCheck(
        "clicks_without_preceding_recommendation",
        "[F] Each click is on something that was recommended: a published response has its request id, list name and"
        " item. [R] A request id stands for one list of one person; clicks before the first publication do not count.",
        f"SELECT event_id AS example, number NOT IN ({_PUBLISHED_BEFORE}) AS is_wrong FROM recent"
        f" WHERE event_type IN {CLICKS} AND kind = 'event'"
        " AND timestamp >= (SELECT min(published_at) FROM responses)",
        "max_unattributed_share",
        "clicks are on nothing that was published",
        "Copy request_id and list_name from the response file into the click",
    ),
    ShareCheck(
        "clicks_join_rankings",
        "[M] interaction–ranking join key: the ranking or request that an event refers to is known.",
        f"SELECT event_id AS example, request_id NOT IN (SELECT request_id FROM ({SHOWN})) AS is_wrong FROM recent"
        f" WHERE request_id IS NOT NULL AND {_INTERACTIONS}",
        "max_unattributed_share",
        "events refer to a ranking or request that nobody has seen",
        "Send the impressions of every request, and use their request_id",
    ),
    ShareCheck(
        "clicked_items_in_ranking",
        "[M] interaction positions: the item of an event that refers to a ranking or request is one that it showed.",
        f"SELECT event_id AS example, (request_id, item_id) NOT IN (SELECT (request_id, item_id) FROM ({SHOWN}))"
        " AS is_wrong FROM recent"
        f" WHERE request_id IN (SELECT request_id FROM ({SHOWN})) AND {_INTERACTIONS}",
        "max_unattributed_share",
        "events are about an item that their ranking or request did not show",
        "Send an impression for every item that is seen; look for item ids that differ between the two",
    ),
    ShareCheck(
        "interacted_items_known",
        "[M] interaction metadata: items that something was done with are in the catalogue. [R] Metadata may arrive"
        " later than the interaction, because order does not matter here.",
        "SELECT item_id AS example, item_id NOT IN (SELECT item_id FROM items WHERE item_id IS NOT NULL) AS is_wrong"
        f" FROM recent WHERE {_INTERACTIONS}",
        "max_unknown_items_share",
        "events are about items without metadata",
        "Send the items' feed; look for item ids that differ between feed and events",
    ),
    ShareCheck(
        "interaction_types_weighted",
        "[M] interaction types: what is done with items has a weight in `events.weights` or makes them consumed."
        " [R] Checkpoints are left out: they say how far, not what.",
        "SELECT DISTINCT event_type AS example, event_type NOT IN (SELECT unnest($weighted)) AS is_wrong"
        f" FROM recent WHERE {_INTERACTIONS} AND event_type <> 'checkpoint'",
        "max_unweighted_types_share",
        "event types teach the model nothing",
        "Give the type a weight in events.weights, 0 if it is to teach nothing",
    ),
    ShareCheck(
        "events_unique",
        "[R] No event has a twin that differs from it in nothing but the event_id.",
        "SELECT event_id AS example, event_id <> min(event_id) OVER (PARTITION BY twins) AS is_wrong FROM recent",
        "max_duplicate_share",
        "events are told twice under different ids",
        "Give an event its id where it happens, not where it is sent",
    ),
    ShareCheck(
        "timestamps_in_range",
        "[R] Events happen before they are received (five minutes for wrong clocks) and not more than"
        " `max_event_age_days` before.",
        "SELECT event_id AS example, timestamp > received_at + to_minutes(5)"
        " OR timestamp < received_at - to_seconds($age_seconds) AS is_wrong FROM events",
        "max_mistimed_share",
        "events are of the future or too old",
        "Look at the sender's clock and time zone",
    ),
    ShareCheck(
        "devices_of_one_user",
        "[F] It should not happen that one device_id is seen with several user_ids.",
        "SELECT md5(device_id)[:8] AS example, user_id IS NULL AS is_wrong FROM identity",
        "max_shared_devices_share",
        "devices (told by a hash) were seen with several users, so that what happens on them belongs to nobody",
        "Give each browser and each app of a person an own device_id; do not send a constant",
    ),
)
