"""Request files: CSV in, typed rows, row errors and counts out; or one named reason why the whole file is refused.

What belongs here: the rules of spec/CAMPAIGNS.md about rows. What does not: bytes (see `framing`), header and cells
(see `cells`), names (see `filename`), what a filter or a configuration means for items (see `rules`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import polars as pl

from recoflow.campaigns import audience_request, cells, columnwise, experiments, filename, identifiers, rules
from recoflow.campaigns.cells import COLUMNS, PERSON
from recoflow.campaigns.identifiers import PADDING
from recoflow.campaigns.problems import ERRORS, VARIABLE, Errors, Problem, Strangers, bad_size, is_sound, shown, sift
from recoflow.campaigns.rejection import Rejection, RequestRejectedError
from recoflow.configuration import ALGORITHMS
from recoflow.sources.fields import BLANK

if TYPE_CHECKING:
    from recoflow.campaigns.audience import Catalogue
    from recoflow.campaigns.cells import Cells
    from recoflow.environment import Environment

LIST: Final = (*PERSON, "list_name")
MAX_LISTS: Final = 1000  # of one person in one request; who has more is a placeholder such as `guest`


@dataclass(frozen=True)
class RequestCounts:
    """What became of the rows of a file; `read == accepted + failed` always holds.

    `page_types_replaced` counts accepted rows whose page type gave way to the first one of the same user and device,
    `headers_repeated` lines that repeat the header, which are no rows.
    """

    read: int = 0
    accepted: int = 0
    failed: int = 0
    page_types_replaced: int = 0
    headers_repeated: int = 0


@dataclass(frozen=True)
class Request:
    """A request file as it was understood.

    Args:
        name: the file's name as uploaded.
        environment: the account's environment.
        sha256: of the file's bytes.
        campaign_id: one per environment, name and content.
        rows: accepted rows in the file's order: row (Int64, 0, 1, …), line (Int64), user_id, device_id, list_name,
            list_size (Int64), configuration_id (null: the default), page_type, version and algorithm (see
            `experiments.assign`), and one String column `variable:NAME` for each variable that filters.
            Ids are without blanks around them; where any had some, a column PADDING + its name says which, null
            where there were none. Of a request for audiences `audience_request.ROWS`.
        filters: row column → item attribute.
        errors: ERRORS, in the order of lines.
        rejection: why the whole file is refused; rows are then empty.
        counts: accounting of the rows.
        suspended: experiment → why it does not take place.
        is_for_audiences: whether its rows ask for people for items, not for items for people.
    """

    name: str
    environment: str
    sha256: str
    campaign_id: str
    rows: pl.DataFrame
    filters: Mapping[str, str]
    errors: pl.DataFrame
    rejection: Rejection | None = None
    counts: RequestCounts = field(default_factory=RequestCounts)
    suspended: Mapping[str, str] = field(default_factory=dict)
    is_for_audiences: bool = False


def campaign_id(environment: str, name: str, sha256: str) -> str:
    """The identifier of one campaign: the same for the same environment, file name and content."""
    identity = "\0".join((environment, name, sha256)).encode("utf-8", "surrogatepass")
    return hashlib.sha256(identity).hexdigest()[:20]


def parse(
    path: Path,
    *,
    name: str,
    environment: Environment,
    sha256: str,
    known_attributes: Collection[str],
    algorithms: Collection[str] = ALGORITHMS,
    catalogue: Catalogue | None = None,
) -> Request:
    """Read a request file, for lists or for audiences: its header tells which.

    Args:
        path: where the file lies.
        name: its name as uploaded.
        environment: the account that it came by.
        sha256: of its bytes.
        known_attributes: the attributes that items have (see `rules.attribute_names`).
        algorithms: what configurations may choose (see `rules.algorithms`).
        catalogue: the items that audiences may be asked for; None when there are none.

    Returns:
        The request. Whatever is wrong with the file is in it as data: `rejection` and `errors`.
    """
    empty = Request(
        name=name,
        environment=environment.name,
        sha256=sha256,
        campaign_id=campaign_id(environment.name, name, sha256),
        rows=_rows_schema(()).to_frame(),
        filters={},
        errors=ERRORS.to_frame(),
    )
    try:
        filename.parse(name, environment.name)
        read = cells.read(path, filename.is_compressed(name), environment)
        if cells.is_for_audiences(read.header):
            return audience_request.judge(empty, read, environment.campaigns, catalogue)
        return _judge(empty, read, _Terms(environment, known_attributes, algorithms))
    except RequestRejectedError as error:
        return _refused(empty, error.rejection)


def _refused(request: Request, rejection: Rejection) -> Request:
    row = (rejection.line, rejection.column, rejection.code, rejection.message)
    errors = pl.DataFrame([row], schema=ERRORS, orient="row")
    return replace(request, errors=errors, rejection=rejection)


def _rows_schema(variables: Collection[str]) -> pl.Schema:
    columns = {"row": pl.Int64, "line": pl.Int64} | dict.fromkeys((*COLUMNS[1:], "version", "algorithm"), pl.String)
    return pl.Schema(columns | {"list_size": pl.Int64} | dict.fromkeys(variables, pl.String))


@dataclass(frozen=True)
class _Terms:
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
            name: rules.unsupported(configuration, self.algorithms, self.attributes)
            for name, configuration in self.environment.campaigns.configurations.items()
        }
        return {name: reason for name, reason in reasons.items() if reason}


def _judge(empty: Request, read: Cells, terms: _Terms) -> Request:
    campaigns = terms.environment.campaigns
    variables = [column for column in read.header if column not in COLUMNS]
    filters = terms.filters(variables)
    cells.check_cells(read.rows, len(filters), campaigns.max_cells)
    unknown = [name for name in variables if name not in filters and name not in campaigns.variables]
    unsupported = terms.unsupported()
    suspended = experiments.suspended(campaigns, unsupported, terms.algorithms)
    rules_of_cells = _cell_problems(terms, unsupported)
    strangers, errors = Strangers(unknown, _STRANGE), Errors()
    count, blocks = 0, [_rows_schema([VARIABLE + variable for variable in filters]).to_frame().drop("row")]
    for block in read.blocks:
        count += len(block)
        rows = experiments.assign(_read_rows(block, [*filters, *unknown]), campaigns, suspended)
        rows = rows.with_columns(_configuration(terms.environment))
        sound = sift(rows, [*rules_of_cells, *_filter_problems(rows, filters)], errors)
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
    cells.check_volume(sound["list_size"], campaigns.max_items)
    sound.insert_column(0, pl.int_range(len(sound), eager=True).alias("row"))
    paddings = [PADDING + each for each in PERSON if PADDING + each in sound.columns]
    return replace(
        empty,
        rows=sound[[*_rows_schema(()).names(), *paddings, *(VARIABLE + variable for variable in filters)]],
        filters={VARIABLE + variable: attribute for variable, attribute in filters.items()},
        errors=errors.listed(),
        counts=RequestCounts(count, len(sound), count - len(sound), replaced, len(read.repeated)),
        suspended=suspended,
    )


def _read_rows(block: pl.DataFrame, variables: Sequence[str]) -> pl.DataFrame:
    """The rows of a block as they are judged: ids as events read them, and beside them the blanks around."""
    rows = block.select(
        pl.col(cells.LINE).alias("line"),
        *(identifiers.meant(column) for column in PERSON),
        "list_name",
        "list_size",
        *(cells.text(column).alias(column) for column in ("configuration_id", "page_type")),
        *(cells.text(variable).alias(VARIABLE + variable) for variable in variables),
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


def _cell_problems(terms: _Terms, unsupported: Mapping[str, str]) -> list[Problem]:
    campaigns = terms.environment.campaigns
    configuration = pl.col("configuration_id")
    return [
        Problem(
            "missing_identity",
            "user_id",
            pl.all_horizontal(pl.col(PERSON).is_null()),
            pl.lit("Neither user_id nor device_id is given. Give at least one of them."),
        ),
        Problem("missing_list_name", "list_name", cells.text("list_name").is_null(), pl.lit("list_name is empty.")),
        Problem("missing_page_type", "page_type", pl.col("page_type").is_null(), pl.lit("page_type is empty.")),
        bad_size("list_size", campaigns.max_list_size),
        Problem(
            "unknown_configuration",
            "configuration_id",
            configuration.is_not_null() & ~configuration.is_in(list(campaigns.configurations)),
            pl.format("Configuration '{}' is not registered. Register it first.", shown("configuration_id")),
        ),
        Problem(
            "unsupported_configuration",
            "configuration_id",
            configuration.is_in(list(unsupported)),
            pl.format(
                "Configuration '{}' cannot be used: {}.",
                shown("configuration_id"),
                configuration.replace_strict(unsupported, default="", return_dtype=pl.String),
            ),
        ),
    ]


def _filter_problems(rows: pl.DataFrame, filters: Mapping[str, str]) -> list[Problem]:
    problems = []
    for variable in filters:
        cell = pl.col(VARIABLE + variable)
        lists = rows.select(cell.filter(cell.str.starts_with("[")).unique()).to_series()
        wrong = [text for text in lists if not rules.is_list_of_values(text)]
        message = pl.format('\'{}\' is not a JSON array of values, like ["shoes","hats"].', shown(VARIABLE + variable))
        if wrong:
            problems.append(Problem("bad_filter", variable, cell.is_in(wrong), message))
    return problems


def _crowds(rows: pl.DataFrame) -> list[Problem]:
    """Ids that no person can have: each of their lists would be without the items of all those before it."""
    problems = []
    has_user = pl.col("user_id").is_not_null()
    for column, is_meant in (("user_id", has_user), ("device_id", ~has_user)):
        often = columnwise.frequent(rows, column, is_meant, MAX_LISTS)
        message = pl.format(
            f"'{{}}' stands in more than {MAX_LISTS} rows. Leave {column} empty where nobody is known.", shown(column)
        )
        if len(often):
            problems.append(Problem("nobodys_id", column, is_meant & pl.col(column).is_in(often.implode()), message))
    return problems


_STRANGE: Final = (
    "is neither an item attribute nor declared. Remove it, or name it in `campaigns.variables` or `aliases`"
)


def _duplicate(rows: pl.DataFrame) -> Problem:
    message = "List '{}' of this user and device stands in an earlier row, which is answered."
    is_repeated = columnwise.is_repeated(rows, LIST)
    return Problem("duplicate_list", "list_name", pl.lit(is_repeated), pl.format(message, shown("list_name")))
