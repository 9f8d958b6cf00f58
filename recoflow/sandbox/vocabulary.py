"""The words of the sample publisher: categories, topics, and the templates that titles are composed of.

What belongs here: words, and the putting together of one title or description. What does not: chance (the caller draws
the indices) and anything that knows of events. Towns, people's roles and titles are invented; no brand is named.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Topic:
    """What a reader may care for: the unit of the hidden tastes."""

    name: str
    subjects: tuple[str, ...]  # plural noun phrases, lower case, that fit each template of the category


@dataclass(frozen=True)
class Category:
    """A section of the site; `templates` use {subject}, {town} and {number}."""

    name: str
    templates: tuple[str, ...]
    topics: tuple[Topic, ...]


TOWNS: Final = (
    "Alderwick", "Brackenford", "Castlemere", "Dunhollow", "Elmsgate", "Fennbridge", "Greywater", "Hollinsea",
    "Kestrel Bay", "Larkhaven", "Mossley Cross", "Northquay", "Oldersham", "Port Sorrel", "Quillham", "Ravenstow",
    "Saltmere", "Tillingdon", "Upper Wend", "Vellmar", "Westerlee", "Yarrowby",
)  # fmt: skip
NUMBERS: Final = ("three", "four", "five", "six", "seven", "nine", "ten", "a dozen", "twenty", "forty")

ARTICLES: Final = (
    Category(
        "politics",
        (
            "{town} votes on {subject} after a long night of debate",
            "{number} questions that {town} asks about {subject}",
            "Why {subject} split the parties in {town}",
            "Mayor of {town} promises a new plan for {subject}",
            "{subject}: what changes in {town} from next month",
            "Residents of {town} want a say on {subject}",
        ),
        (
            Topic("city council", ("council budgets", "market squares", "late-night licences", "public toilets")),
            Topic("elections", ("polling stations", "postal votes", "first-time voters", "campaign posters")),
            Topic("housing", ("social homes", "empty houses", "rent limits", "holiday lets")),
            Topic("mobility", ("bus lanes", "low-traffic streets", "parking fees", "night trains")),
        ),
    ),
    Category(
        "business",
        (
            "{subject} in {town} brace for a hard winter",
            "How {number} {subject} turned around in {town}",
            "{subject} are back in {town}, and so are the customers",
            "What rising costs mean for {subject} near {town}",
            "{town} bets on {subject} to bring work home",
            "{subject}: {number} charts that explain the year",
        ),
        (
            Topic("small firms", ("family bakeries", "repair workshops", "corner shops", "young start-ups")),
            Topic("labour market", ("apprentices", "seasonal workers", "part-time jobs", "late-career changers")),
            Topic("energy", ("solar roofs", "heat pumps", "wind co-operatives", "shared boilers")),
            Topic("farming", ("dairy farms", "apple growers", "grain mills", "market gardeners")),
        ),
    ),
    Category(
        "sport",
        (
            "{town} celebrates {subject} after a late comeback",
            "{subject}: {town} wins by {number} points in the rain",
            "The coach of {town} explains the secret of {subject}",
            "{number} things we learned about {subject} in {town}",
            "Injuries force {town} to rethink {subject}",
            "Preview: {subject} in {town} this weekend",
        ),
        (
            Topic("cycling", ("hill sprints", "cobbled classics", "track relays", "gravel races")),
            Topic("football", ("penalty kicks", "cup derbies", "youth line-ups", "away matches")),
            Topic("athletics", ("cross-country runs", "high jumps", "half marathons", "relay teams")),
            Topic("swimming", ("open-water swims", "medley finals", "diving heats", "water-polo games")),
        ),
    ),
    Category(
        "culture",
        (
            "{subject} fill every seat in {town}",
            "Review: {subject} in {town} dare to be quiet",
            "{number} {subject} to see before the season ends",
            "Behind the scenes of {subject} in {town}",
            "{town} opens its doors to {subject}",
            "The return of {subject}, and why {town} waited for it",
        ),
        (
            Topic("theatre", ("street plays", "puppet shows", "one-act comedies", "amateur stages")),
            Topic("music", ("brass bands", "choir evenings", "jazz cellars", "summer festivals")),
            Topic("film", ("short films", "silent classics", "documentary nights", "open-air screenings")),
            Topic("museums", ("glass collections", "night tours", "portrait rooms", "travelling exhibitions")),
        ),
    ),
    Category(
        "science",
        (
            "Researchers in {town} rethink {subject}",
            "What {subject} tell us about the next {number} decades",
            "{subject}, explained in {number} minutes",
            "A surprise among {subject} near {town}",
            "{town} volunteers help to follow {subject}",
            "The long study of {subject} gets a second wind",
        ),
        (
            Topic("astronomy", ("meteor showers", "faint comets", "radio signals", "moon shadows")),
            Topic("biology", ("wild bees", "river otters", "moss gardens", "migrating swifts")),
            Topic("climate", ("warmer winters", "tidal records", "peat bogs", "tree rings")),
            Topic("archaeology", ("Roman roads", "clay tablets", "sunken boats", "burial mounds")),
        ),
    ),
    Category(
        "health",
        (
            "{number} habits of people who understand {subject}",
            "Doctors in {town} change their mind about {subject}",
            "What we get wrong about {subject}",
            "{subject}: when to worry and when to wait",
            "A clinic in {town} tries a kinder way with {subject}",
            "{subject} after forty: {number} honest answers",
        ),
        (
            Topic("sleep", ("short nights", "afternoon naps", "night shifts", "restless dreams")),
            Topic("nutrition", ("fermented foods", "hidden sugars", "school lunches", "plant proteins")),
            Topic("mind", ("anxious mornings", "quiet hours", "grief groups", "screen breaks")),
            Topic("hospitals", ("waiting rooms", "home visits", "night nurses", "second opinions")),
        ),
    ),
    Category(
        "food",
        (
            "{number} {subject} for a cold evening",
            "The cook from {town} who swears by {subject}",
            "{subject} without fuss: a weekday plan",
            "Where to find the best {subject} in {town}",
            "Our readers' {number} favourite {subject}",
            "{subject} the way they make them in {town}",
        ),
        (
            Topic("baking", ("rye loaves", "almond tarts", "butter biscuits", "cardamom buns")),
            Topic("seasonal", ("pumpkin soups", "spring salads", "root stews", "berry desserts")),
            Topic("vegetarian", ("lentil dishes", "mushroom pies", "chickpea bowls", "bean curries")),
            Topic("restaurants", ("lunch counters", "fish bars", "garden cafés", "noodle kitchens")),
        ),
    ),
    Category(
        "travel",
        (
            "{number} {subject} within a day of {town}",
            "Slow weekend: {subject} around {town}",
            "{subject} on a small budget",
            "We tried {subject} near {town} so that you can skip the queue",
            "The quiet side of {town}: {subject} out of season",
            "{subject} for families with little patience",
        ),
        (
            Topic("rail", ("night sleepers", "branch lines", "mountain railways", "steam excursions")),
            Topic("hiking", ("ridge paths", "forest loops", "long-distance trails", "hut tours")),
            Topic("city trips", ("roof terraces", "old quarters", "flea markets", "canal walks")),
            Topic("coast", ("tidal islands", "lighthouse walks", "ferry crossings", "winter beaches")),
        ),
    ),
    Category(
        "technology",
        (
            "{subject}: {number} settings to change today",
            "A school in {town} says no to {subject}",
            "The people of {town} who build {subject} at home",
            "Do {subject} keep what they promise? A test",
            "{subject} are getting cheaper, but not simpler",
            "How {subject} changed a workshop in {town}",
        ),
        (
            Topic("privacy", ("location trackers", "smart doorbells", "cookie banners", "shared passwords")),
            Topic("repair", ("spare batteries", "old laptops", "cracked screens", "repair cafés")),
            Topic("robotics", ("delivery robots", "robot mowers", "warehouse arms", "classroom robots")),
            Topic("gaming", ("puzzle games", "retro consoles", "board-game apps", "speed-running contests")),
        ),
    ),
    Category(
        "family",
        (
            "{number} ways to live with {subject}",
            "{subject}: what parents in {town} wish they had known",
            "Ask the expert: {subject} and a tired household",
            "Why {subject} matter more than you think",
            "{town} neighbours share {subject}",
            "A small guide to {subject} for beginners",
        ),
        (
            Topic("parenting", ("bedtime rituals", "picky eaters", "teenage silences", "pocket-money rules")),
            Topic("schools", ("homework clubs", "walking buses", "reading hours", "school gardens")),
            Topic("pets", ("shelter dogs", "indoor cats", "hen houses", "garden hedgehogs")),
            Topic("gardening", ("balcony beds", "compost heaps", "climbing roses", "winter vegetables")),
        ),
    ),
)

PRODUCTS: Final = (
    Category(
        "books",
        ("{subject} of {town}, paperback", "The big book of {subject}", "{number} essays on {subject}"),
        (Topic("reading", ("short stories", "crime novels", "travel letters", "local histories")),),
    ),
    Category(
        "kitchen",
        ("{subject}, set of {number}", "{subject} from {town}", "{subject} in oak and steel, for {number}"),
        (Topic("cookware", ("bread knives", "mixing bowls", "baking tins", "spice jars")),),
    ),
    Category(
        "outdoor",
        ("{subject} for {number} seasons", "{town} {subject}, waxed cotton", "{subject}, pack of {number}"),
        (Topic("outdoor gear", ("rain jackets", "trail maps", "wool socks", "picnic blankets")),),
    ),
    Category(
        "games",
        ("{subject} for {number} players", "The {town} box of {subject}", "{subject}, travel edition for {number}"),
        (Topic("table games", ("card games", "wooden puzzles", "quiz decks", "strategy games")),),
    ),
)

_DESCRIPTIONS: Final = (
    "What {subject} mean for {town}, told by the people who know them best.",
    "A closer look at {subject}, with voices from {town} and {number} figures that matter.",
    "Our reporter spent {number} days in {town} to learn about {subject}.",
    "{subject} in plain words: the background, the doubts and what comes next in {town}.",
)
_PRODUCT_DESCRIPTIONS: Final = (
    "{subject} from our shop, made in a workshop near {town}.",
    "Chosen by our editors: {subject} that last. Ships in {number} days.",
)


def compose(category: Category, topic: Topic, draws: tuple[int, int, int, int]) -> tuple[str, str]:
    """Title and description of one item.

    Args:
        category: gives the templates.
        topic: gives the subjects.
        draws: any non-negative integers, for template, subject, town and number in this order.
    """
    template, subject, town, number = draws
    words = {
        "subject": topic.subjects[subject % len(topic.subjects)],
        "town": TOWNS[town % len(TOWNS)],
        "number": NUMBERS[number % len(NUMBERS)],
    }
    descriptions = _PRODUCT_DESCRIPTIONS if category in PRODUCTS else _DESCRIPTIONS
    title = category.templates[template % len(category.templates)].format(**words)
    description = descriptions[(template + subject) % len(descriptions)].format(**words)
    return _sentence(title), _sentence(description)


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]
