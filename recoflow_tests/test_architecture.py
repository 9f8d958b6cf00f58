"""The order of parts in CONTRIBUTING.md, read from the source: who imports whom and when, and how long files are."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "recoflow"
# The way of the data: each part may import itself and those before it.
ORDER = (
    *("printable", "errors", "schema", "settings", "compute", "storage", "quality"),
    *("formats", "ingest", "interactions", "event_quality", "models", "ranking", "campaigns"),
    *("erasure", "operations"),  # last, because they reach into everything that another stage keeps
)
NARROW = {"ranking": {"printable", "errors", "compute"}, "compute": {"printable", "errors"}}  # less than what is before
OUTER = {"sandbox", "server", "gateway", "engines", "api", "commands", "cli"}  # may use anything but defs
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
    if importer in NARROW:
        return NARROW[importer] | {importer}
    if importer in ORDER:
        return set(ORDER[: ORDER.index(importer) + 1])
    if importer in OUTER or importer == "__init__":
        return set(ORDER) | OUTER
    assert importer in DAGSTER, f"{importer} is a new part: give it a place in the order"
    return set(ORDER) | OUTER | DAGSTER


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
def graph(is_early: bool = False) -> dict[str, set[str]]:
    """Module of recoflow → modules of recoflow and foreign packages that it imports; early: as soon as it is loaded."""
    paths = {".".join(("recoflow", *path.relative_to(ROOT).with_suffix("").parts)): path for path in modules()}
    known = {name.removesuffix(".__init__"): path for name, path in paths.items()}

    def resolved(target: str) -> str:
        while target.startswith("recoflow.") and target not in known:
            target = target.rpartition(".")[0]
        return target if target in known else target.split(".")[0]

    return {
        name: {
            resolved(each.target)
            for each in imports(ast.parse(path.read_text("utf-8")))
            if each.is_at_import_time or not is_early
        }
        for name, path in known.items()
    }


def by_part(edges: dict[str, set[str]]) -> dict[str, set[str]]:
    """The imports between parts: the first name below `recoflow`."""
    parts: dict[str, set[str]] = {}
    for importer, targets in edges.items():
        mine = importer.split(".")[1] if "." in importer else "__init__"
        theirs = {target.split(".")[1] for target in targets if target.startswith("recoflow.")}
        parts.setdefault(mine, set()).update(theirs - {mine})
    return parts


def circle(edges: dict[str, set[str]]) -> list[str]:
    """Names of one circle of imports, the first one again at the end; empty when there is none."""
    try:
        graphlib.TopologicalSorter(edges).prepare()
    except graphlib.CycleError as error:
        names: list[str] = error.args[1]
        return names
    return []


def way_to(edges: dict[str, set[str]], start: str, goal: str) -> list[str]:
    """The chain of imports that leads from one module to a package; empty when none does."""
    ways = {start: [start]}
    queue = [start]
    while queue:
        name = queue.pop(0)
        for target in sorted(edges.get(name, set()) - ways.keys()):
            ways[target] = [*ways[name], target]
            queue.append(target)
    return ways.get(goal, [])


def test_imports_follow_the_way_of_the_data() -> None:
    assert [line for path in modules() for line in offences(path, path.read_text("utf-8"))] == []


@pytest.mark.parametrize("start", STARTS)
def test_nothing_that_starts_a_program_loads_the_compiler(start: str) -> None:
    assert graph(is_early=True)[start]
    assert way_to(graph(is_early=True), start, COMPILER) == []


def test_a_way_is_found_through_other_modules() -> None:
    edges = {"a": {"b", "os"}, "b": {"c"}, "c": {"a", "numba"}}
    assert way_to(edges, "a", "numba") == ["a", "b", "c", "numba"]
    assert way_to(edges, "a", "implicit") == []
    assert way_to(graph(is_early=True), "recoflow.ranking.kernels", COMPILER)


def test_no_module_imports_itself_through_others() -> None:
    """Imports in functions and those for types count, too."""
    assert circle(graph()) == []


def test_no_part_imports_itself_through_others() -> None:
    assert circle(by_part(graph())) == []


def test_circles_are_found() -> None:
    assert set(circle({"a": {"b", "os"}, "b": {"c"}, "c": {"b"}})) == {"b", "c"}
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
    edges = {"recoflow.x.one": {"recoflow.y.two"}, "recoflow.y.three": {"recoflow.x.four"}}
    assert by_part(edges) == {"x": {"y"}, "y": {"x"}}


@pytest.mark.parametrize(
    ("module", "source", "message"),
    [
        ("formats/files.py", "from recoflow.models.store import bundle", "comes later"),
        ("storage/sql.py", "from recoflow.formats import files", "comes later"),
        ("quality/finding.py", "def late():\n    from recoflow.ingest import run", "comes later"),
        ("ranking/top_k.py", "from recoflow.storage import sql", "comes later"),
        ("sandbox/demo.py", "import recoflow.definitions", "comes later"),
        ("models/algorithms/train.py", "def late():\n    import dagster_duckdb", "only recoflow/defs"),
        ("models/algorithms/train.py", "import implicit.als", "in the function"),
        (
            "models/algorithms/train.py",
            "try:\n    from implicit import als\nexcept ImportError:\n    pass",
            "in the function",
        ),
    ],
)
def test_the_rules_above_catch(module: str, source: str, message: str) -> None:
    (offence,) = offences(ROOT / module, source)
    assert message in offence


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("models/algorithms/train.py", "def fit():\n    import implicit.als"),
        ("models/algorithms/kernels.py", "import numba"),
        ("models/algorithms/train.py", "if TYPE_CHECKING:\n    import implicit"),
        ("campaigns/inputs.py", "from recoflow.models.store import bundle\nfrom recoflow.storage import atomic_files"),
        ("defs/models.py", "import dagster as dg\nfrom recoflow.campaigns import inputs"),
    ],
)
def test_the_rules_above_allow(module: str, source: str) -> None:
    assert offences(ROOT / module, source) == []


def test_every_part_has_its_place() -> None:
    known = set(ORDER) | OUTER | DAGSTER | {"__init__"}
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
