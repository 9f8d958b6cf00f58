"""Request files: CSV in, typed rows, row errors and counts out; or one named reason why the whole file is refused.

What belongs here: the rules of docs/spec/campaigns.md about rows. What does not: bytes (see `csv_framing`), header and
cells (see `csv_reader`), names (see `filename`), what a filter or a configuration means for items (see `item_filters`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import polars as pl

from recoflow.campaigns.lists import experiments, item_filters
from recoflow.campaigns.requests import columnwise, csv_reader, identifiers
from recoflow.campaigns.requests.csv_reader import COLUMNS, PERSON
from recoflow.campaigns.requests.identifiers import PADDING
from recoflow.campaigns.requests.model import Request, RequestCounts
from recoflow.campaigns.requests.row_rules import (
    VARIABLE,
    RowErrors,
    RowRule,
    UnknownColumns,
    bad_size,
    is_sound,
    quoted_cell,
    split_valid,
)
from recoflow.formats.fields import BLANK

if TYPE_CHECKING:
    from recoflow.campaigns.requests.csv_reader import RequestCells
    from recoflow.settings.environment import Environment

LIST: Final = (*PERSON, "list_name")
MAX_LISTS: Final = 1000  # of one person in one request; who has more is a placeholder such as `guest`


def rows_schema(variables: Collection[str]) -> pl.Schema:
    """The columns of accepted rows, with these of variables."""
    columns = {"row": pl.Int64, "line": pl.Int64} | dict.fromkeys((*COLUMNS[1:], "version", "algorithm"), pl.String)
    return pl.Schema(columns | {"list_size": pl.Int64} | dict.fromkeys(variables, pl.String))


@dataclass(frozen=True)
class RequestTerms:
    """What a request may ask for."""

    environment: Environment
    attributes: Collection[str]
    algorithms: Collection[str]

    def filters(self, variables: Collection[str]) -> dict[str, str]:
        """Variable → item attribute, for the variables that name one."""
        aliases = self.environment.campaigns.aliases
        wanted = {variable: aliases.get(variable, variable) for variable in variables}
        return {variable: attribute for variable, attribute in wanted.items() if attribute in self.attributes}

    def unsupported(self) -> dict[str, str]:
        """Configuration → why it cannot be used here."""
        reasons = {
            name: item_filters.unsupported(configuration, self.algorithms, self.attributes)
            for name, configuration in self.environment.campaigns.configurations.items()
        }
        return {name: reason for name, reason in reasons.items() if reason}


def judge_list_rows(empty: Request, read: RequestCells, terms: RequestTerms) -> Request:
    """The request with the accepted rows and the errors of the others.

    Raises:
        RequestRejectedError: it asks for more than a request may.
    """
    campaigns = terms.environment.campaigns
    variables = [column for column in read.header if column not in COLUMNS]
    filters = terms.filters(variables)
    csv_reader.check_cells(read.rows, len(filters), campaigns.max_cells)
    unknown = [name for name in variables if name not in filters and name not in campaigns.variables]
    unsupported = terms.unsupported()
    suspended = experiments.suspended(campaigns, unsupported, terms.algorithms)
    rules_of_cells = _cell_problems(terms, unsupported)
    strangers, errors = UnknownColumns(unknown, _STRANGE), RowErrors()
    count, blocks = 0, [rows_schema([VARIABLE + variable for variable in filters]).to_frame().drop("row")]
    for block in read.blocks:
        count += len(block)
        rows = experiments.assign(_read_rows(block, [*filters, *unknown]), campaigns, suspended)
        rows = rows.with_columns(_configuration(terms.environment))
        sound = split_valid(rows, [*rules_of_cells, *_filter_problems(rows, filters)], errors)
        sound = strangers.sift(rows, sound).with_columns(pl.col("list_size").str.strip_chars(BLANK).cast(pl.Int64))
        blocks.append(sound)
    sound = pl.concat(blocks, how="diagonal")
    del blocks
    if crowds := _crowds(sound):
        sound = columnwise.kept(sound, is_sound(sound, crowds, errors))
    replaced = 0
    if not columnwise.is_distinct(sound, PERSON):  # who asks for one list repeats nothing
        sound = columnwise.kept(sound, is_sound(sound, [_duplicate(sound)], errors))
        page_types = sound["page_type"].gather(columnwise.first_alike(sound, PERSON))
        replaced = int((sound["page_type"] != page_types).sum())
        sound.replace_column(sound.get_column_index("page_type"), page_types)
    strangers.tell(errors)
    csv_reader.check_volume(sound["list_size"], campaigns.max_items)
    sound.insert_column(0, pl.int_range(len(sound), eager=True).alias("row"))
    paddings = [PADDING + each for each in PERSON if PADDING + each in sound.columns]
    return replace(
        empty,
        rows=sound[[*rows_schema(()).names(), *paddings, *(VARIABLE + variable for variable in filters)]],
        filters={VARIABLE + variable: attribute for variable, attribute in filters.items()},
        errors=errors.listed(),
        counts=RequestCounts(count, len(sound), count - len(sound), replaced, len(read.repeated)),
        suspended=suspended,
    )


def _read_rows(block: pl.DataFrame, variables: Sequence[str]) -> pl.DataFrame:
    """The rows of a block as they are judged: ids as events read them, and beside them the blanks around."""
    rows = block.select(
        pl.col(csv_reader.LINE).alias("line"),
        *(identifiers.meant(column) for column in PERSON),
        "list_name",
        "list_size",
        *(csv_reader.stripped_text(column).alias(column) for column in ("configuration_id", "page_type")),
        *(csv_reader.stripped_text(variable).alias(VARIABLE + variable) for variable in variables),
    )
    is_padded = [column for column in PERSON if (rows[column] != block[column]).any()]
    paddings = [identifiers.padding(pl.lit(block[column])).alias(PADDING + column) for column in is_padded]
    return rows.with_columns(paddings)


def _configuration(environment: Environment) -> pl.Expr:
    """The configuration that a row names, else the one of its list, else none."""
    of_list = (
        pl.col("list_name")
        .str.strip_chars(BLANK)
        .replace_strict(environment.campaigns.lists, default=None, return_dtype=pl.String)
    )
    return pl.coalesce("configuration_id", of_list).alias("configuration_id")


def _cell_problems(terms: RequestTerms, unsupported: Mapping[str, str]) -> list[RowRule]:
    campaigns = terms.environment.campaigns
    configuration = pl.col("configuration_id")
    return [
        RowRule(
            "missing_identity",
            "user_id",
            pl.all_horizontal(pl.col(PERSON).is_null()),
            pl.lit("Neither user_id nor device_id is given. Give at least one of them."),
        ),
        RowRule(
            "missing_list_name",
            "list_name",
            csv_reader.stripped_text("list_name").is_null(),
            pl.lit("list_name is empty."),
        ),
        RowRule("missing_page_type", "page_type", pl.col("page_type").is_null(), pl.lit("page_type is empty.")),
        bad_size("list_size", campaigns.max_list_size),
        RowRule(
            "unknown_configuration",
            "configuration_id",
            configuration.is_not_null() & ~configuration.is_in(list(campaigns.configurations)),
            pl.format("Configuration '{}' is not registered. Register it first.", quoted_cell("configuration_id")),
        ),
        RowRule(
            "unsupported_configuration",
            "configuration_id",
            configuration.is_in(list(unsupported)),
            pl.format(
                "Configuration '{}' cannot be used: {}.",
                quoted_cell("configuration_id"),
                configuration.replace_strict(unsupported, default="", return_dtype=pl.String),
            ),
        ),
    ]


def _filter_problems(rows: pl.DataFrame, filters: Mapping[str, str]) -> list[RowRule]:
    problems = []
    for variable in filters:
        cell = pl.col(VARIABLE + variable)
        lists = rows.select(cell.filter(cell.str.starts_with("[")).unique()).to_series()
        wrong = [text for text in lists if not item_filters.is_list_of_values(text)]
        message = pl.format(
            '\'{}\' is not a JSON array of values, like ["shoes","hats"].', quoted_cell(VARIABLE + variable)
        )
        if wrong:
            problems.append(RowRule("bad_filter", variable, cell.is_in(wrong), message))
    return problems


def _crowds(rows: pl.DataFrame) -> list[RowRule]:
    """Ids that no person can have: each of their lists would be without the items of all those before it."""
    problems = []
    has_user = pl.col("user_id").is_not_null()
    for column, is_meant in (("user_id", has_user), ("device_id", ~has_user)):
        often = columnwise.frequent(rows, column, is_meant, MAX_LISTS)
        message = pl.format(
            f"'{{}}' stands in more than {MAX_LISTS} rows. Leave {column} empty where nobody is known.",
            quoted_cell(column),
        )
        if len(often):
            problems.append(
                RowRule("placeholder_id", column, is_meant & pl.col(column).is_in(often.implode()), message)
            )
    return problems


_STRANGE: Final = (
    "is neither an item attribute nor declared. Remove it, or name it in `campaigns.variables` or `aliases`"
)


def _duplicate(rows: pl.DataFrame) -> RowRule:
    message = "List '{}' of this user and device stands in an earlier row, which is answered."
    is_repeated = columnwise.is_repeated(rows, LIST)
    return RowRule("duplicate_list", "list_name", pl.lit(is_repeated), pl.format(message, quoted_cell("list_name")))
