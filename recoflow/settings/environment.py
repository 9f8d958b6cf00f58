"""One environment's configuration: YAML in, frozen values out, errors that name file, line, key and cure.

What does not belong here: the other sections (`sections`), how YAML is read (`yaml_source`), secrets (the YAML contains
only paths to key files) and anything that opens a connection.
"""

from __future__ import annotations

from pathlib import Path

import pydantic
from pydantic import Field

from recoflow import schema
from recoflow.errors import ConfigurationError
from recoflow.settings import campaign_settings, list_configuration, yaml_source
from recoflow.settings.campaign_settings import Experiment, ScheduledCampaign
from recoflow.settings.list_configuration import Configuration
from recoflow.settings.sections import (
    NAME,
    NAME_RULE,
    Events,
    GatewaySettings,
    Quality,
    Retention,
    Schedules,
    Sftp,
    Sharing,
    TrainingSettings,
)
from recoflow.settings.yaml_source import PlacedError, Section

SAMPLE = "data/environments/lorem.yaml"


class Campaigns(Section):
    """How request files are answered."""

    provider: str = Field("recoflow", min_length=1)  # user_group of personalized lists
    version: str = Field("recoflow_1", min_length=1)  # the arm while no experiment runs
    information_fields: tuple[str, ...] = ("url",)  # item attributes, and because_of: the reason, an item id
    max_list_size: int = Field(1000, ge=1)
    max_audience_size: int = Field(100_000, ge=1)
    max_lists: int = Field(2_500_000, ge=1)  # of one file; at this and the next default it is read in less than 1 GiB
    max_request_bytes: int = Field(300 * 1024**2, ge=1)  # unpacked
    max_cells: int = Field(20_000_000, ge=1)  # of one file: its rows times the known columns and those that filter
    max_items: int = Field(200_000_000, ge=1)  # items that one file may ask for: the sum of its sizes
    page_types: tuple[str, ...] = ()  # beside schema.PAGE_TYPES
    aliases: dict[str, str] = {}  # request column → item attribute
    variables: tuple[str, ...] = ()  # request columns that are accepted though no item has the attribute
    lists: dict[str, str] = {}  # list_name → configuration_id for rows that name none
    configurations: dict[str, Configuration] = {}  # beside those that come by the API
    experiments: dict[str, Experiment] = {}
    scheduled: dict[str, ScheduledCampaign] = {}
    csv_safe: bool = False
    retention_days: float = Field(7, gt=0)

    @pydantic.field_validator("information_fields")
    @classmethod
    def _no_clash(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        clash = [name for name in value if name in (*schema.RESPONSE_COLUMNS, "rank", "page_type", "row", "score")]
        if clash or len(set(value)) != len(value):
            raise ValueError(f"{clash or value} would give two columns of one name")
        return value

    @pydantic.model_validator(mode="after")
    def _plans(self) -> Campaigns:
        for name in self.scheduled:
            if not NAME.fullmatch(name):
                raise PlacedError(("scheduled", name), f"'{name}' {NAME_RULE}")
        campaign_settings.check_experiments(self.experiments, self.configurations, self.version)
        campaign_settings.check_scheduled(self.scheduled, self.configurations, self.max_list_size)
        return self


class Environment(Section):
    """Everything that recoflow knows of one environment before it looks at data."""

    name: str
    title: str = ""
    owners: tuple[str, ...] = ()
    sftp: Sftp
    sharing: Sharing = Sharing()
    events: Events = Events()
    schedules: Schedules = Schedules()
    training: TrainingSettings = TrainingSettings()
    campaigns: Campaigns = Campaigns()
    gateway: GatewaySettings = GatewaySettings()
    quality: Quality = Quality()
    retention: Retention = Retention()

    @pydantic.field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        if not NAME.fullmatch(value):
            raise ValueError(NAME_RULE)
        return value

    @pydantic.model_validator(mode="after")
    def _models(self) -> Environment:
        campaign_settings.check_models(self.campaigns.experiments, self.training.models)
        list_configuration.check_algorithms(self.campaigns.configurations, self.training.models)
        return self

    @property
    def channels(self) -> frozenset[str]:
        """Channels that events may carry."""
        return frozenset(schema.CHANNELS + self.events.channels)

    @property
    def page_types(self) -> frozenset[str]:
        """Page types that events and requests may carry."""
        return frozenset(schema.PAGE_TYPES + self.events.page_types + self.campaigns.page_types)

    @property
    def counted_types(self) -> frozenset[str]:
        """Event types that make an interaction: those with a weight, and those by which something is consumed."""
        named = (each.consumed or () for each in self.campaigns.configurations.values())
        return frozenset(self.events.weights).union(self.events.consumed, *named)

    @property
    def named_models(self) -> tuple[str, ...]:
        """Those of `training.models` that a configuration or an experiment asks for, in their order there."""
        named: set[str | None] = {each.algorithm for each in self.campaigns.configurations.values()}
        named |= {arm.model for each in self.campaigns.experiments.values() for arm in each.arms.values()}
        return tuple(name for name in self.training.models if name in named)

    @property
    def default_item_type(self) -> str | None:
        """The only item type, if the environment has just one."""
        return self.events.item_types[0] if len(self.events.item_types) == 1 else None


def load_environment(path: Path) -> Environment:
    """Read one environment's file.

    Raises:
        ConfigurationError: naming file, line and key of the first thing that is wrong, and its cure.
    """
    content, lines = yaml_source.read_yaml(path, SAMPLE)
    try:
        environment = Environment.model_validate(content)
    except pydantic.ValidationError as error:
        place, problem, cure = yaml_source.explain_yaml_error(Environment, error, SAMPLE)
        culprit = f"{path}:{yaml_source.line_of(lines, place)}: {yaml_source.dotted(place) or 'file'}"
        raise ConfigurationError(culprit, problem, cure) from None
    if environment.name != path.stem:
        culprit = f"{path}:{lines[('name',)]}: name"
        raise ConfigurationError(culprit, f"is '{environment.name}' in a file named {path.name}", "Make them equal")
    return environment


def load_all(folder: Path) -> tuple[Environment, ...]:
    """Read every `*.yaml` in `folder`, in the order of their names.

    Raises:
        ConfigurationError: when the folder has none, two share an SFTP account, or one is wrong.
    """
    environments = tuple(load_environment(path) for path in sorted(folder.glob("*.yaml")))
    if not environments:
        raise ConfigurationError(str(folder), "has no environment", "Copy lorem.yaml from the repository into it")
    accounts: dict[tuple[str, int, str], str] = {}
    for environment in environments:
        account = (environment.sftp.host, environment.sftp.port, environment.sftp.username)
        if account in accounts:
            raise ConfigurationError(
                f"{folder / environment.name}.yaml: sftp.username",
                f"is the account of {accounts[account]} too",
                "Give each environment an account of its own",
            )
        accounts[account] = environment.name
    return environments
