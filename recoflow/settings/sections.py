"""The sections of an environment's YAML file: the shape and the limits of each setting."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import pydantic
from pydantic import AfterValidator, Field

from recoflow.settings.campaign_settings import Cron
from recoflow.settings.list_configuration import event_types
from recoflow.settings.yaml_source import PlacedError, Section

NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
HOST = re.compile(r"[a-z0-9.-]+(:\d+)?|\[[0-9a-f:.]+\](:\d+)?")
ORIGIN = re.compile(rf"[a-z][a-z0-9+.-]*://({HOST.pattern})")
NAME_RULE = "must be lower case letters, digits and _, beginning with a letter, 40 at most"
MODELS = Literal["als", "bpr", "lmf", "item_neighbours", "ease", "spectral", "popular", "trending", "newest", "blend"]


# Quoted in YAML, which takes 0640 for a number. Its owner must be able to read and write.
Mode = Annotated[str, Field(pattern=r"^0[67][0-7]{2}$")]


class Sftp(Section):
    """The SFTP account that requests come from and responses go to."""

    host: str = "127.0.0.1"
    port: int = Field(2222, ge=1, le=65535)
    embedded: bool = False  # the account is on the sandbox's server, which may have had to take another port
    username: str
    private_key: Path  # path, relative to the data folder unless absolute; never the key itself
    known_hosts: Path
    # True where the server offers a claims/ folder out of the client's reach; false: files are claimed in place.
    # False as well where two installations share the account: each leaves the claims of the other alone.
    owns_server: bool = True
    quiet_seconds: float = Field(60, ge=0)
    max_bytes: int = Field(2 * 1024**3, ge=1)
    # How a response that was uploaded is verified before it is published: files of up to 64 MiB by their bytes, larger
    # ones by their size alone, or with read_back by their bytes, too.
    verify: Literal["size", "read_back"] = "size"
    # Of files that recoflow puts into responses/, for a server that serves the customer under another account of the
    # same group; null: as the server makes them. The embedded server has no use for it.
    file_mode: Mode | None = None


class Sharing(Section):
    """Who but recoflow's own account may reach something under the data folder: modes in octal, e.g. "0640"."""

    warehouse_mode: Mode = "0600"  # of warehouse.duckdb; all environments are in it, so each must allow it
    inbox_mode: Mode | None = None  # of inbox/<name>/, for others who drop files there; null: recoflow's account alone

    @property
    def warehouse(self) -> int:
        """The mode of warehouse.duckdb as a number."""
        return int(self.warehouse_mode, 8)

    @property
    def inbox(self) -> int:
        """The mode of the local inbox as a number."""
        return int(self.inbox_mode or "0700", 8)


class Events(Section):
    """How events become weighted interactions."""

    weights: Annotated[dict[str, float], AfterValidator(event_types)] = {
        "detail_pageview": 1.0,
        "click_on_recommendation": 2.0,
        "batch_click_on_recommendation": 2.0,
        "item_interaction": 2.0,
        "add_to_cart": 3.0,
        "remove_from_cart": -1.0,
        "purchase": 5.0,
    }
    half_life_days: float | None = Field(30.0, gt=0)  # null: no decay
    consumed: Annotated[tuple[str, ...], AfterValidator(event_types)] = (
        "detail_pageview",
        "click_on_recommendation",
        "batch_click_on_recommendation",
        "purchase",
    )
    channels: tuple[str, ...] = ()  # beside schema.CHANNELS
    page_types: tuple[str, ...] = ()  # beside schema.PAGE_TYPES
    item_types: tuple[str, ...] = ()  # the only one, if there is just one, is the default of action_item_type
    metarank_types: Annotated[dict[str, str], AfterValidator(lambda v: (event_types(tuple(v.values())), v)[1])] = {}


class Schedules(Section):
    """When things happen without anyone asking; cron lines in `timezone`."""

    timezone: str = "UTC"
    poll_seconds: int = Field(30, ge=1)  # how often the SFTP account and the inbox are looked at
    training: Cron = "0 3 * * *"
    retention: Cron = "30 4 * * *"


class Model(Section):
    """One candidate of the training; settings that are left out are chosen on a hold-out or from the data's size."""

    algorithm: MODELS
    factors: int | None = Field(None, ge=1, le=4096)
    alpha: float | None = Field(None, gt=0)
    regularization: float | None = Field(None, ge=0)
    exponent: float | None = Field(None, ge=0, le=2)  # als: of the frequency in λ; spectral: of the normalization
    neighbours: int | None = Field(None, ge=1, le=10_000)  # kept per item
    iterations: int | None = Field(None, ge=1, le=1000)
    components: dict[str, Model] | None = Field(None, min_length=1)  # of a blend
    weights: dict[str, Annotated[float, Field(ge=0)]] | None = None  # of the blend's components

    @pydantic.model_validator(mode="after")
    def _blend(self) -> Model:
        if self.algorithm != "blend" and (self.components is not None or self.weights is not None):
            raise ValueError("components and weights belong to algorithm blend")
        if self.weights is not None and (
            set(self.weights) != set(self.components or ()) or not any(self.weights.values())
        ):
            raise ValueError("weights must name exactly the components, and one must be above 0")
        return self


class TrainingSettings(Section):
    """What is trained and what it must show before it serves."""

    models: dict[str, Model] = Field(default_factory=lambda: {"als": Model(algorithm="als")}, min_length=1)
    seed: int = 42
    k: int = Field(10, ge=1, le=1000)
    split: Literal["temporal", "leave_last_out", "random"] = "temporal"
    holdout: float = Field(0.1, gt=0, lt=1)  # share of the interactions that the evaluation holds out
    margin: float = Field(0.05, ge=0, lt=1)  # a candidate may be worse than the champion by this share of its NDCG@k
    keep_versions: int = Field(5, ge=1)


class GatewaySettings(Section):
    """Who may send over HTTP, and how much at once."""

    token_files: tuple[Path, ...] = ()  # each holds one token; relative to the data folder unless absolute
    token_variables: tuple[str, ...] = ()  # names of process variables, each with one token
    # Without any token: events and items are taken from this machine only, under these host names besides loopback,
    # and from pages of these origins besides the gateway's own.
    hosts: tuple[str, ...] = ()  # `reco.example.com`, with or without `:port`
    origins: tuple[str, ...] = ()  # `https://shop.example.com`, as a browser sends it
    max_body_bytes: int = Field(4 * 1024**2, ge=1024, le=16 * 1024**2)
    max_events: int = Field(10_000, ge=1)  # of one request
    max_pending_bytes: int = Field(64 * 1024**2, ge=1024)  # bodies that are read or wait for the disk; beyond: 429
    body_seconds: float = Field(30, gt=0)  # a body that takes longer to arrive is given up
    seal_seconds: float = Field(10, gt=0)  # what was acknowledged waits for the ingest no longer than this
    seal_bytes: int = Field(64 * 1024**2, ge=1024)
    min_free_bytes: int = Field(256 * 1024**2, ge=0)  # with less space on the disk nothing is taken

    @pydantic.model_validator(mode="after")
    def _names(self) -> GatewaySettings:
        rules = (("hosts", HOST, "reco.example.com"), ("origins", ORIGIN, "https://shop.example.com"))
        for key, rule, example in rules:
            for index, value in enumerate(getattr(self, key)):
                if not rule.fullmatch(value):
                    raise PlacedError((key, index), f"'{value}' does not look like `{example}`; write it in lower case")
        return self

    @property
    def is_open(self) -> bool:
        """Whether no token is named, so that programs of this machine may send without one."""
        return not (self.token_files or self.token_variables)


class Quality(Section):
    """Thresholds of the checks; a share is of what its check looks at."""

    max_quarantined_share: float = Field(0.05, ge=0, le=1)
    max_fallback_share: float = Field(1.0, ge=0, le=1)
    min_known_share: float = Field(0.1, ge=0, le=1)  # people of a request whom the model knows
    max_empty_information_share: float = Field(0.5, ge=0, le=1)  # rows of a response, for each information field
    min_coverage: float = Field(0.01, ge=0, le=1)
    min_personalization: float = Field(0.05, ge=0, le=1)  # share of a list that another person's list does not have
    window_days: int = Field(28, ge=1)  # events are judged over so many days before the latest one
    click_seconds: float = Field(120, gt=0)  # between impression, click and page view
    max_anonymous_share: float = Field(0.5, ge=0, le=1)
    max_unattributed_share: float = Field(0.05, ge=0, le=1)  # clicks without impression, page view, recommendation …
    max_unknown_items_share: float = Field(0.05, ge=0, le=1)
    max_unweighted_types_share: float = Field(0.0, ge=0, le=1)
    max_duplicate_share: float = Field(0.01, ge=0, le=1)
    max_mistimed_share: float = Field(0.01, ge=0, le=1)
    max_event_age_days: float = Field(3650, gt=0)  # between an event and its receipt
    max_shared_devices_share: float = Field(0.05, ge=0, le=1)
    min_volume_ratio: float = Field(0.5, ge=0)  # a day's events against that weekday in the weeks before
    max_volume_ratio: float = Field(2.0, gt=0)
    max_silence_hours: float = Field(48, gt=0)
    min_subjects: int = Field(50, ge=0)
    min_items: int = Field(20, ge=0)
    min_interactions: int = Field(500, ge=0)


class Retention(Section):
    """For how many days things are kept; null: for ever. Tables: the rows, by the time that is named."""

    events: float | None = Field(None, gt=0)  # timestamp
    quarantine: float | None = Field(None, gt=0)  # received_at
    responses: float | None = Field(None, gt=0)  # published_at
    campaigns: float | None = Field(30, gt=0)  # folders of answered campaigns: request, staged lists, response
    runs: float | None = Field(90, gt=0)  # Dagster's runs with their events and logs
