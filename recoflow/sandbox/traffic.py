"""What the readers of the sample publisher do: visits of four kinds, each a sequence of events.

What belongs here: which events a visit consists of, and giving all of them times and ids at the end. What does not: the
shared pieces of a visit (visits), the catalogue (newsroom) and the tastes (readers).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl

from recoflow.sandbox.catalogue import MILLISECONDS_PER_DAY
from recoflow.sandbox.readers import CHANNELS, quota
from recoflow.sandbox.sessions import (
    Integers,
    Scene,
    Sessions,
    Table,
    active,
    article_views,
    begin_visits,
    is_clicked,
    rows,
    show_lists,
    tasted,
)

MAIL_SHARE: Final = 0.11  # of all events
SHOP_SHARE: Final = 0.06
ACCOUNT_SHARE: Final = 0.01
LIST_SHARE: Final = 0.62  # of the reading visits see a list of recommendations
PROVIDER: Final = "recoflow"
ARM: Final = "recoflow_1"
CAMPAIGN: Final = "weekly_mail"
READING_LISTS: Final = ("Recommended for you", "Most read")
MAIL_LIST: Final = "Relevant for you this week"
SUBSCRIPTIONS: Final = ("digital_monthly", "digital_yearly", "weekend_paper")
COLUMNS: Final = (
    "event_id",
    "event_type",
    "timestamp",
    "user_id",
    "device_id",
    "channel",
    "page_type",
    "action_item",
    "action_item_type",
    "interaction_type",
    "request_id",
    "campaign_id",
    "list_name",
    "rank",
    "user_group",
    "version",
    "quantity",
    "price",
    "discount",
    "currency",
    "order_id",
    "subscription_type",
    "checkpoint",
    "referrer",
)


def simulate(stage: Scene, events: int) -> pl.DataFrame:
    """Exactly `events` events, sorted by time: one row per event with the columns of Froomle's specification."""
    mails = _mails(stage, round(events * MAIL_SHARE))
    shop = _shop(stage, round(events * SHOP_SHARE))
    account = _account(stage, round(events * ACCOUNT_SHARE))
    rest = events - sum(part.events.height for part in (mails, shop, account))
    return _assemble(stage, (mails, shop, account, _reading(stage, rest)))


def _mails(stage: Scene, budget: int) -> Sessions:
    """A weekly mail: opened, its list seen, some items clicked and read; about `budget` events."""
    random = stage.random
    midnight = stage.end // MILLISECONDS_PER_DAY * MILLISECONDS_PER_DAY
    sent = np.arange(midnight - MILLISECONDS_PER_DAY, stage.begin, -7 * MILLISECONDS_PER_DAY)[::-1] + 6 * 3_600_000
    count = max(2, budget // 8)
    campaign = (random.random(count) * len(sent)).astype(np.int64)
    delay = (-np.log(1.0 - random.random(count)) * 5 * 3_600_000).astype(np.int64)
    opened = np.minimum(sent[campaign] + delay, stage.end - 7_200_000)
    _, first = np.unique(visitor := active(stage, count, stage.users) * len(sent) + campaign, return_index=True)
    opened, visitor, campaign = opened[first], visitor[first] // len(sent), campaign[first]  # a mail is opened once
    visits = begin_visits(stage, visitor, opened)
    seen, item, rank = show_lists(stage, visits.with_columns(start=sent[campaign]), 5, np.zeros(len(first), np.bool_))
    clicked = is_clicked(stage, visitor[seen], item, rank, 0.5)
    days = sent.astype("datetime64[ms]").astype("datetime64[D]").astype(str)
    names = np.array([f"{CAMPAIGN}_{day}" for day in days])
    mail: Table = {"page_type": CAMPAIGN, "channel": "email", "user_group": PROVIDER, "version": ARM}
    listed: Table = mail | {"list_name": MAIL_LIST}
    at = seen[clicked]
    views = article_views(stage, at, 20 + 10 * rank[clicked], item[clicked], 2.0)
    events = [
        rows(np.arange(len(first)), 0, "batch_open", 0.0, campaign_id=names[campaign], **mail),
        rows(seen, rank, "batch_impression", 0.0, item=item, rank=rank, campaign_id=names[campaign[seen]], **listed),
        rows(
            at, 19 + 10 * rank[clicked], "batch_click_on_recommendation", 25.0,
            item=item[clicked], rank=rank[clicked], campaign_id=names[campaign[at]], **listed,
        ),
        *views,
    ]  # fmt: skip
    return Sessions(visits.with_columns(login=pl.lit(0, pl.Int64)), pl.concat(events, how="diagonal"))


def _shop(stage: Scene, budget: int) -> Sessions:
    """Visits to the shop: three products seen, one or two put into the cart, some bought; about `budget` events."""
    random = stage.random
    count = max(2, budget // 7)
    visits = begin_visits(stage, active(stage, count, stage.users)).with_columns(login=pl.lit(0, pl.Int64))
    every = np.arange(count)
    product = _products(stage, visits)
    has_two = (random.random(count) < 0.5) & (product[:, 0] != product[:, 1])
    has_two[(product[:, 0] != product[:, 1]).argmax()] = True
    removes = np.zeros(count, np.bool_)
    removes[has_two.nonzero()[0][quota(random, int(has_two.sum()), 0.25)]] = True
    buys = quota(random, count, 0.45)
    visit = np.concatenate([every, every[has_two]])  # the rows of all carts
    place = np.repeat([0, 1], [count, int(has_two.sum())])
    item = product[visit, place]
    price = stage.catalogue.frame["price"].to_numpy()[item]
    quantity = 1 + (random.random(len(item)) < 0.15)
    discount = np.where(random.random(len(item)) < 0.1, np.round(price * 0.1, 2), np.nan)
    order_id = np.array([f"order-{v + 1:06d}" for v in visit])
    bought = buys[visit] & ~(removes[visit] & (place == 1))
    page = "product_detail"
    events = [
        rows(every, 0, "page_visit", 0.0, page_type="category"),
        *(rows(every, 10 * k + 10, "detail_pageview", 30.0, item=product[:, k], page_type=page) for k in range(3)),
        rows(
            visit, 11 + 10 * place, "add_to_cart", 12.0,
            item=item, price=price, quantity=quantity, currency="EUR", page_type=page, is_shop=True,
        ),
        rows(
            every[removes], 40, "remove_from_cart", 40.0,
            item=product[removes, 1], page_type="checkout", is_shop=True,
        ),
        rows(every[buys], 50, "page_visit", 20.0, page_type="checkout"),
        rows(
            visit[bought], 52 + place[bought], "purchase", 20.0,
            item=item[bought], price=price[bought], quantity=quantity[bought], discount=discount[bought],
            order_id=order_id[bought], currency="EUR", page_type="checkout", is_shop=True,
        ),
    ]  # fmt: skip
    return Sessions(visits, pl.concat(events, how="diagonal"))


def _products(stage: Scene, visits: pl.DataFrame) -> Integers:
    """Three products for each visit, mostly from the visitor's favourite shelf; [visits × 3]."""
    catalogue, shape = stage.catalogue, (visits.height, 3)
    shelves = len(catalogue.topics) - catalogue.article_topics
    anyone = catalogue.article_topics + (stage.random.random(shape) * shelves).astype(np.int64)
    favourite = stage.audience.shelf[visits["visitor"].to_numpy()][:, None]
    shelf = np.where(stage.random.random(shape) < 0.75, favourite, anyone)
    start = np.repeat(visits["start"].to_numpy(), 3)
    return catalogue.draw(stage.random.random(len(start)), shelf.ravel(), start).reshape(shape)


def _account(stage: Scene, budget: int) -> Sessions:
    """Paywalls met, newsletters ordered, subscriptions begun and ended; about `budget` events."""
    random = stage.random
    count = max(4, budget)
    visits = begin_visits(stage, active(stage, count, stage.users)).with_columns(login=pl.lit(0, pl.Int64))
    every = np.arange(count)
    kind = np.where(every % 8 == 0, 0, np.where(every % 8 == 1, 1, 2))
    subscription = np.array(SUBSCRIPTIONS)[(random.random(count) * len(SUBSCRIPTIONS)).astype(np.int64)]
    interaction = np.where(random.random(count) < 0.6, "paywall", "newsletter_signup")
    events = [
        rows(every[kind == 0], 0, "start_subscription", 0.0, subscription_type=subscription[kind == 0]),
        rows(every[kind == 1], 0, "cancel_subscription", 0.0, subscription_type=subscription[kind == 1]),
        rows(every[kind == 2], 0, "user_interaction", 0.0, interaction_type=interaction[kind == 2], page_type="other"),
    ]
    return Sessions(visits, pl.concat(events, how="diagonal"))


def _reading(stage: Scene, budget: int) -> Sessions:
    """Visits of readers: a first page, perhaps a list, clicks, articles found otherwise. Exactly `budget` events."""
    random, audience = stage.random, stage.audience
    count = budget // 5 + 10
    visits = begin_visits(stage, active(stage, count, len(audience.activity_steps)))
    visitor, start = visits["visitor"].to_numpy(), visits["start"].to_numpy()
    every = np.arange(count)
    has_list = quota(random, count, LIST_SHARE)
    has_list[0] = True  # the first visit is never cut off, so that a small world has impressions too
    at = has_list.nonzero()[0]
    is_popular = random.random(len(at)) < 0.35
    seen, item, rank = show_lists(stage, visits[at], 5, is_popular)
    clicked = is_clicked(stage, visitor[at[seen]], item, rank, 0.45)
    name = np.where(is_popular, READING_LISTS[1], READING_LISTS[0])
    listed: Table = {"page_type": "home", "user_group": PROVIDER, "version": ARM}
    found = np.repeat(every, (random.random(count) * 4.2).astype(np.int64))
    order = np.arange(len(found)) - np.searchsorted(found, found)
    referrer = np.where(random.random(count) < 0.5, "https://search.example/", "https://social.example/")
    page = np.where(random.random(count) < 0.7, "home", np.where(random.random(count) < 0.8, "category", "search"))
    page[has_list] = "home"
    comes_from = random.random(count) < 0.3
    to, ranks = at[seen[clicked]], rank[clicked]
    events = [
        rows(every[~comes_from], 0, "page_visit", 0.0, page_type=page[~comes_from]),
        rows(every[comes_from], 0, "page_visit", 0.0, page_type=page[comes_from], referrer=referrer[comes_from]),
        rows(at[seen], rank, "impression", 0.3, item=item, rank=rank, list_name=name[seen], **listed),
        rows(
            to, 19 + 10 * ranks, "click_on_recommendation", 15.0,
            item=item[clicked], rank=ranks, list_name=name[seen[clicked]], **listed,
        ),
        *article_views(stage, to, 20 + 10 * ranks, item[clicked], 1.5),
        *article_views(stage, found, 100 + 10 * order, tasted(stage, visitor[found], start[found]), 45.0),
    ]  # fmt: skip
    return _cut(visits, pl.concat(events, how="diagonal"), stage, budget)


def _cut(visits: pl.DataFrame, events: pl.DataFrame, stage: Scene, budget: int) -> Sessions:
    """The first visits that fit into `budget`, then visits of one page until it is full."""
    size = np.bincount(events["visit"].to_numpy(), minlength=visits.height)
    kept = int(np.searchsorted(np.cumsum(size), budget, side="right"))
    missing = budget - int(size[:kept].sum())
    bounces = begin_visits(stage, active(stage, missing, len(stage.audience.activity_steps)))
    pages = rows(kept + np.arange(missing), 0, "page_visit", 0.0, page_type="home")
    return Sessions(
        pl.concat([visits.head(kept), bounces]),
        pl.concat([events.filter(pl.col("visit") < kept), pages], how="diagonal"),
    )


def _assemble(stage: Scene, parts: tuple[Sessions, ...]) -> pl.DataFrame:
    """Number the visits through, give each event its time, and write indices out as ids."""
    offsets = np.cumsum([0, *(part.visits.height for part in parts[:-1])]).tolist()
    visits = pl.concat([part.visits for part in parts])
    events = pl.concat(
        [part.events.with_columns(pl.col("visit") + offset) for part, offset in zip(parts, offsets, strict=True)],
        how="diagonal",
    ).sort("visit", "step", maintain_order=True)
    visit = events["visit"].to_numpy()
    seconds = events["gap"].to_numpy() * (0.4 + 1.2 * stage.random.random(len(visit)))
    running = np.cumsum(np.round(seconds * 1000).astype(np.int64))
    begins = np.searchsorted(visit, visit)  # the first event of the same visit
    time = visits["start"].to_numpy()[visit] + running - running[begins]
    audience, catalogue = stage.audience, stage.catalogue
    user = np.where(
        events["step"].to_numpy() >= visits["login"].to_numpy()[visit], visits["visitor"].to_numpy()[visit], -1
    )
    device = visits["device"].to_numpy()[visit]
    channel = pl.Series(CHANNELS).gather(audience.device_channel[device])
    user_id = pl.Series(audience.user_ids).gather(pl.Series(user).replace(-1, None))
    item = events["item"]
    events = events.with_columns(
        timestamp=pl.Series(time).cast(pl.Datetime("ms", "UTC")),
        user_id=user_id,
        device_id=pl.when(pl.col("channel").is_null()).then(pl.Series(audience.device_ids).gather(device)),
        channel=pl.coalesce(pl.col("channel"), channel),
        action_item=catalogue.frame["item_id"].gather(item),
        action_item_type=catalogue.frame["item_type"].gather(item),
        request_id=pl.when(pl.col("list_name").is_not_null()).then(
            pl.format("request-{}", pl.col("visit").cast(pl.String).str.zfill(6))
        ),
        discount=pl.col("discount").fill_nan(None),
    ).sort("timestamp", "visit", "step", maintain_order=True)
    shop_id = pl.format("shop-{}", pl.int_range(pl.len()).cast(pl.String).str.zfill(7))
    return events.with_columns(event_id=pl.when(pl.col("is_shop")).then(shop_id)).select(COLUMNS)
