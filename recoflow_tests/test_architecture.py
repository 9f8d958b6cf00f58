"""The order of parts in CONTRIBUTING.md, read from the source: who imports whom and when, and how long files are.

And what tests may reach for: public names, never a constant of a module.
"""

from __future__ import annotations

import ast
import graphlib
import re
from collections import Counter
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
MAX_LINES, LONG = 400, 300  # lines of a module; few are long
MAX_LONG_SHARE = 0.03
TESTS = Path(__file__).parent
PATCHES = {"setattr", "delattr", "setitem", "delitem", "patch", "object"}  # of monkeypatch and unittest.mock
RAW_SFTP = "sends packets that paramiko has no public method for"
REPLACED = "tests a module that the next change of the readers removes"
MAY_REACH_INSIDE = {
    "defs/test_run_store.py": REPLACED,
    "faults/test_sftp_limits.py": RAW_SFTP,
    "faults/test_sftp_uploads.py": RAW_SFTP,
    "formats/test_bounds.py": REPLACED,
    "formats/test_buffers.py": REPLACED,
}


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


@cache
def imports(source: str) -> tuple[Import, ...]:
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

    return tuple(walk(ast.parse(source), True))


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
    for each in imports(source):
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
            resolved(each.target) for each in imports(path.read_text("utf-8")) if each.is_at_import_time or not is_early
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


def root_name(node: ast.expr) -> str:
    """The name that a chain of attributes, calls and indices begins with; empty when it begins with something else."""
    while isinstance(node, ast.Attribute | ast.Call | ast.Subscript):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def foreign_names(tree: ast.Module) -> set[str]:
    """What a test imports from elsewhere than recoflow, and itself."""
    names = {"self", "cls", "super"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            source = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            targets = ((alias.asname or alias.name.split(".")[0], source or alias.name) for alias in node.names)
            names.update(name for name, target in targets if target.split(".")[0] not in {"recoflow", "recoflow_tests"})
    return names


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def is_constant(name: str) -> bool:
    return re.fullmatch(r"_?[A-Z][A-Z0-9_]+", name) is not None


def patched_names(call: ast.Call) -> list[str]:
    """The names that a call patches, e.g. `["BLOCK"]` for `monkeypatch.setattr(als, "BLOCK", 64)`."""
    function = ast.unparse(call.func).rpartition(".")[2]
    if function not in PATCHES:
        return []
    owner = [each.attr for each in call.args[:1] if isinstance(each, ast.Attribute)]
    texts = [each.value for each in call.args[:2] if isinstance(each, ast.Constant) and isinstance(each.value, str)]
    return owner if function.endswith("item") else owner + [text.rpartition(".")[2] for text in texts]


def reaches_inside(source: str) -> list[str]:
    """Where a test touches a private name of recoflow or patches a constant, a line for each."""
    tree = ast.parse(source)
    foreign = foreign_names(tree)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("recoflow."):
            private = [alias.name for alias in node.names if is_private(alias.name)]
            found += [f"line {node.lineno} imports {name}" for name in private]
        elif isinstance(node, ast.Attribute) and is_private(node.attr) and root_name(node) not in foreign:
            found.append(f"line {node.lineno} touches {node.attr}")
        elif isinstance(node, ast.Assign):
            owned = [each for each in node.targets if isinstance(each, ast.Attribute) and is_constant(each.attr)]
            found += [f"line {node.lineno} sets {each.attr}" for each in owned if root_name(each) not in foreign]
        elif isinstance(node, ast.Call) and node.args and root_name(node.args[0]) not in foreign:
            inside = [name for name in patched_names(node) if is_constant(name) or is_private(name)]
            found += [f"line {node.lineno} patches {name}" for name in inside]
    return found


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


def test_no_module_is_too_long_and_few_are_long() -> None:
    lengths = {path: len(path.read_text("utf-8").splitlines()) for path in modules()}
    assert {str(path): lines for path, lines in lengths.items() if lines > MAX_LINES} == {}
    assert sum(lines > LONG for lines in lengths.values()) <= MAX_LONG_SHARE * len(lengths)


def test_a_class_name_stands_once() -> None:
    names = Counter(
        node.name
        for path in modules()
        for node in ast.parse(path.read_text("utf-8")).body
        if isinstance(node, ast.ClassDef) and not is_private(node.name)
    )
    assert [name for name, count in names.items() if count > 1] == []


def test_no_module_is_named_after_nothing() -> None:
    vague = {"utils", "util", "helpers", "common", "misc", "base", "core"}
    assert [path for path in modules() if path.stem in vague] == []


def test_tests_use_public_names_and_pass_constants() -> None:
    found = {
        path.relative_to(TESTS).as_posix(): reaches_inside(path.read_text("utf-8")) for path in TESTS.rglob("*.py")
    }
    inside = {path: lines for path, lines in found.items() if lines}
    assert {path: lines for path, lines in inside.items() if path not in MAY_REACH_INSIDE} == {}
    assert set(MAY_REACH_INSIDE) <= set(inside), "an exception that is needed no more"


@pytest.mark.parametrize(
    ("source", "offence"),
    [
        ('monkeypatch.setattr(als, "BLOCK", 64)', "patches BLOCK"),
        ('patch.setattr("recoflow.models.algorithms.als.BLOCK", 64)', "patches BLOCK"),
        ('monkeypatch.setitem(namespace.SERVICE, "requests", 0)', "patches SERVICE"),
        ('with patch.object(files, "CHUNK_BYTES", 7):\n    pass', "patches CHUNK_BYTES"),
        ('monkeypatch.setattr(quarantine, "_remove", fail)', "patches _remove"),
        ("files.CHUNK_BYTES = 7", "sets CHUNK_BYTES"),
        ("assert not buffers._waiting", "touches _waiting"),
        ("stack(1)._port(3)", "touches _port"),
        ("from recoflow.formats.files import _batches", "imports _batches"),
    ],
)
def test_reaching_inside_is_found(source: str, offence: str) -> None:
    assert reaches_inside(source) == [f"line 1 {offence}"]


@pytest.mark.parametrize(
    "source",
    [
        'monkeypatch.setattr(transfer, "upload", fail)',
        'monkeypatch.setenv("DAGSTER_HOME", "x")',
        'monkeypatch.setitem(sys.modules, "optuna", None)',
        "class World:\n    def count(self):\n        return self._count",
        "import os\nos._exit(1)",
        'import numba\nmonkeypatch.setattr(numba.config, "CACHE_DIR", "")',
        'paths.HOME.read_text("x")',
    ],
)
def test_public_names_may_be_used(source: str) -> None:
    assert reaches_inside(source) == []
