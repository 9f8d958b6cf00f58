"""Everything under data/ is for its owner alone, except what the environments' settings name."""

import stat
from pathlib import Path

import pytest

from recoflow.errors import ConfigurationError
from recoflow.settings.environment import Environment
from recoflow.storage import permissions
from recoflow.storage.lake.lake import Lake
from recoflow.storage.paths import Paths
from recoflow.storage.warehouse import build_warehouse

pytestmark = pytest.mark.fault("M15")


def environment(name: str = "lorem", **sharing: str) -> Environment:
    sftp = {"username": name, "private_key": "key", "known_hosts": "hosts"}
    return Environment.model_validate({"name": name, "sftp": sftp, "sharing": sharing})


def mode(path: Path) -> str:
    return f"{stat.S_IMODE(path.stat().st_mode):04o}"


@pytest.fixture
def layout(tmp_path: Path) -> Paths:
    """An installation as an older recoflow left it."""
    made = Paths(tmp_path / "data")
    for folder in (made.lake("lorem") / "events", made.inbox("lorem"), made.inbox("ipsum")):
        folder.mkdir(parents=True)
        (folder / "part").touch()
    made.warehouse.touch()
    for path in (made.root, *made.root.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return made


def test_files_of_an_older_installation_become_private(layout: Paths) -> None:
    permissions.close(layout, permissions.shared(layout, [environment()]))
    modes = {mode(path) for path in (layout.root, *layout.root.rglob("*"))}
    assert modes == {"0700", "0600"}


def test_a_setting_opens_the_warehouse_to_a_group_and_the_way_to_it(layout: Paths) -> None:
    permissions.close(layout, permissions.shared(layout, [environment(warehouse_mode="0640")]))
    assert mode(layout.warehouse) == "0640"
    assert mode(layout.root) == "0710"  # it may pass, not list
    assert mode(layout.root / "lake") == "0700"


def test_the_setgid_bit_of_a_folder_stays(layout: Paths) -> None:
    layout.root.chmod(0o2755)
    permissions.close(layout, permissions.shared(layout, [environment(warehouse_mode="0640")]))
    assert mode(layout.root) == "2710"


def test_a_setting_opens_one_inbox(layout: Paths) -> None:
    permissions.close(layout, permissions.shared(layout, [environment(inbox_mode="0770"), environment("ipsum")]))
    assert mode(layout.root) == mode(layout.root / "inbox") == "0710"
    assert mode(layout.inbox("lorem")) == "0770"
    assert mode(layout.inbox("lorem") / "part") == "0600"
    assert mode(layout.inbox("ipsum")) == "0700"


def test_the_warehouse_holds_all_environments_so_each_must_allow_it() -> None:
    open_one = environment(warehouse_mode="0644")
    assert permissions.warehouse_mode([open_one]) == 0o644
    assert permissions.warehouse_mode([open_one, environment("ipsum", warehouse_mode="0640")]) == 0o640
    assert permissions.warehouse_mode([open_one, environment("ipsum")]) == 0o600


def test_the_warehouse_is_built_with_its_mode_and_keeps_it(tmp_path: Path) -> None:
    lakes = {"lorem": Lake(tmp_path / "none")}
    build_warehouse(lakes, tmp_path / "warehouse.duckdb")
    assert mode(tmp_path / "warehouse.duckdb") == "0600"
    build_warehouse(lakes, tmp_path / "warehouse.duckdb", 0o640)
    build_warehouse(lakes, tmp_path / "warehouse.duckdb")
    assert mode(tmp_path / "warehouse.duckdb") == "0640"


def test_what_a_link_leads_to_keeps_its_mode(layout: Paths, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.touch(0o644)
    (layout.root / "sample").symlink_to(elsewhere)
    (layout.root / "dangling").symlink_to(tmp_path / "nothing")
    permissions.close(layout, permissions.shared(layout, [environment()]))
    assert mode(elsewhere) == "0644"


def test_a_data_folder_that_is_a_link_is_closed_itself(layout: Paths, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(layout.root)
    through = Paths(tmp_path / "link")
    permissions.close(through, permissions.shared(through, [environment()]))
    assert mode(layout.root) == "0700"
    assert mode(layout.warehouse) == "0600"


@pytest.mark.parametrize("wrong", ["640", "0240", "0o640", "rw-r-----", "01777"])
def test_a_mode_is_four_octal_digits(wrong: str) -> None:
    with pytest.raises(ValueError, match="warehouse_mode"):
        environment(warehouse_mode=wrong)


def test_an_unquoted_mode_is_refused_by_name(tmp_path: Path) -> None:
    from recoflow.settings.environment import load_environment

    file = tmp_path / "lorem.yaml"
    file.write_text(
        "name: lorem\nsftp: {username: a, private_key: b, known_hosts: c}\nsharing:\n  warehouse_mode: 0640\n"
    )
    with pytest.raises(ConfigurationError, match=r"lorem.yaml:4: sharing.warehouse_mode"):
        load_environment(file)
