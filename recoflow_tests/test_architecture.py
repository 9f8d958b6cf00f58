"""The shape of DESIGN.md, read from the source text: who imports whom, what is imported when, how long files are."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "recoflow"
CONTRACTS = {"schema", "errors", "environment", "campaign_settings", "configuration", "cron", "printable", "yamlfile"}
# How loops are compiled, what is timed, the hash that the lake keeps, how files of others are opened, and threads.
GROUND = {"ahead", "compiled", "regular", "stopwatch", "unaligned", "workers", "xxh64"}
# Not the way of data: privacy and operations come last because they reach into everything that another stage keeps.
STAGES = ("sources", "events", "interactions", "models", "campaigns", "performance", "privacy", "operations")
STORES = ("storage", "quality")  # storage knows the contracts only, quality also storage; every stage may use both
OUTER = {"sandbox", "gateway", "engines", "api", "commands", "cli"}  # may use anything but defs
DAGSTER = {"defs", "definitions"}
COMPILER = "numba"  # kernels need it as soon as they are imported, so nothing that starts a program imports a kernel
STARTS = ("recoflow.definitions", "recoflow.cli", "recoflow.api")
HEAVY = {"great_expectations", "implicit", "pandas", "pyspark", "matplotlib", "sqlalchemy"}
MAX_LINES = 400


@dataclass(frozen=True)
class Import:
    """One import statement's target."""

    line: int
    target: str  # absolute dotted name
    is_at_import_time: bool


def modules() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def part(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(tree: ast.Module) -> Iterator[Import]:
    """Every import of a module; those under `if TYPE_CHECKING` and in functions do not run at import time."""

    def walk(node: ast.AST, is_early: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from (Import(child.lineno, alias.name, is_early) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"line {child.lineno}: write the import with its full name"
                yield from (Import(child.lineno, f"{child.module}.{alias.name}", is_early) for alias in child.names)
            else:
                is_deferred = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                is_for_types = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
                yield from walk(child, is_early and not is_deferred and not is_for_types)

    return walk(tree, True)


def allowed_parts(importer: str) -> set[str]:
    """Parts of recoflow that a part may import, itself among them."""
    if importer in CONTRACTS:
        return CONTRACTS
    if importer in GROUND:
        return CONTRACTS | GROUND
    base = CONTRACTS | GROUND
    if importer in STORES:
        return base | set(STORES[: STORES.index(importer) + 1])
    if importer in STAGES:
        return base | set(STORES) | set(STAGES[: STAGES.index(importer) + 1])
    if importer in OUTER or importer == "__init__":
        return base | set(STORES) | set(STAGES) | OUTER
    assert importer in DAGSTER, f"{importer} is a new part: give it a place in the order"
    return base | set(STORES) | set(STAGES) | OUTER | DAGSTER


def offences(path: Path, source: str) -> list[str]:
    """What is wrong with the imports of one module, a line for each."""
    found = []
    for each in imports(ast.parse(source)):
        package, *rest = each.target.split(".")
        place = f"recoflow/{path.relative_to(ROOT).as_posix()}:{each.line}"
        if package == "recoflow" and rest and rest[0] not in allowed_parts(part(path)):
            found.append(f"{place} imports {each.target}, which comes later in the way of the data")
        if package.startswith("dagster") and part(path) not in DAGSTER:
            found.append(f"{place} imports {each.target}; only recoflow/defs and definitions.py know Dagster")
        if package in HEAVY and each.is_at_import_time:
            found.append(f"{place} imports {each.target} when it is imported; import it in the function that needs it")
    return found


@cache
def early_imports() -> dict[str, set[str]]:
    """Module of recoflow → what is imported as soon as it is: modules of recoflow, and foreign packages."""
    paths = {".".join(("recoflow", *path.relative_to(ROOT).with_suffix("").parts)): path for path in modules()}
    known = {name.removesuffix(".__init__"): path for name, path in paths.items()}

    def resolved(target: str) -> str:
        while target.startswith("recoflow.") and target not in known:
            target = target.rpartition(".")[0]
        return target if target in known else target.split(".")[0]

    return {
        name: {resolved(each.target) for each in imports(ast.parse(path.read_text("utf-8"))) if each.is_at_import_time}
        for name, path in known.items()
    }


def way_to(graph: dict[str, set[str]], start: str, goal: str) -> list[str]:
    """The chain of imports that leads from one module to a package; empty when none does."""
    ways = {start: [start]}
    queue = [start]
    while queue:
        name = queue.pop(0)
        for target in sorted(graph.get(name, set()) - ways.keys()):
            ways[target] = [*ways[name], target]
            queue.append(target)
    return ways.get(goal, [])


def test_imports_follow_the_way_of_the_data() -> None:
    assert [line for path in modules() for line in offences(path, path.read_text("utf-8"))] == []


@pytest.mark.parametrize("start", STARTS)
def test_nothing_that_starts_a_program_loads_the_compiler(start: str) -> None:
    assert early_imports()[start]
    assert way_to(early_imports(), start, COMPILER) == []


def test_a_way_is_found_through_other_modules() -> None:
    graph = {"a": {"b", "os"}, "b": {"c"}, "c": {"a", "numba"}}
    assert way_to(graph, "a", "numba") == ["a", "b", "c", "numba"]
    assert way_to(graph, "a", "implicit") == []
    assert way_to(early_imports(), "recoflow.campaigns.rank_kernels", COMPILER)


@pytest.mark.parametrize(
    ("module", "source", "message"),
    [
        ("sources/files.py", "from recoflow.models import bundle", "comes later"),
        ("storage/lake.py", "from recoflow.sources import files", "comes later"),
        ("quality/finding.py", "def late():\n    from recoflow.events import ingest", "comes later"),
        ("sandbox/demo.py", "import recoflow.definitions", "comes later"),
        ("models/train.py", "def late():\n    import dagster_duckdb", "only recoflow/defs"),
        ("models/train.py", "import implicit.als", "in the function"),
        ("models/train.py", "try:\n    from implicit import als\nexcept ImportError:\n    pass", "in the function"),
    ],
)
def test_the_rules_above_catch(module: str, source: str, message: str) -> None:
    (offence,) = offences(ROOT / module, source)
    assert message in offence


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("models/train.py", "def fit():\n    import implicit.als"),
        ("models/kernels.py", "import numba"),
        ("models/train.py", "if TYPE_CHECKING:\n    import implicit"),
        ("campaigns/answer.py", "from recoflow.models import bundle\nfrom recoflow.storage import artifacts"),
        ("defs/models.py", "import dagster as dg\nfrom recoflow.campaigns import answer"),
    ],
)
def test_the_rules_above_allow(module: str, source: str) -> None:
    assert offences(ROOT / module, source) == []


def test_every_part_has_its_place() -> None:
    known = CONTRACTS | GROUND | set(STORES) | set(STAGES) | OUTER | DAGSTER | {"__init__"}
    assert {part(path) for path in modules()} <= known


def test_every_module_says_what_it_is() -> None:
    silent = [path for path in modules() if not ast.get_docstring(ast.parse(path.read_text("utf-8")))]
    assert silent == []


def test_no_module_is_too_long() -> None:
    lengths = {path: len(path.read_text("utf-8").splitlines()) for path in modules()}
    assert {str(path): lines for path, lines in lengths.items() if lines > MAX_LINES} == {}


def test_no_module_is_named_after_nothing() -> None:
    vague = {"utils", "util", "helpers", "common", "misc", "base", "core"}
    assert [path for path in modules() if path.stem in vague] == []
