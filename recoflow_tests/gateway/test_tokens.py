"""Tokens come from files and variables, and belong to one environment each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recoflow.errors import ConfigurationError, StorageError
from recoflow.gateway import local_tokens
from recoflow.gateway.tokens import TokenAccess, Tokens
from recoflow.settings.environment import Environment
from recoflow.storage.paths import Paths


def environment(name: str, **gateway: Any) -> Environment:
    sftp = {"username": name, "private_key": "k", "known_hosts": "h"}
    return Environment.model_validate({"name": name, "sftp": sftp, "gateway": gateway})


def test_a_token_opens_its_own_environment_only(tmp_path: Path) -> None:
    (tmp_path / "lorem.token").write_text("from-file\n")
    lorem = environment("lorem", token_files=["lorem.token"], token_variables=["LOREM"])
    ipsum = environment("ipsum", token_variables=["IPSUM"])
    tokens = Tokens([lorem, ipsum, environment("open")], Paths(tmp_path), {"LOREM": "from-variable", "IPSUM": "other"})
    assert tokens.access("lorem", "from-file") is TokenAccess.GRANTED
    assert tokens.access("lorem", "from-variable") is TokenAccess.GRANTED
    assert tokens.access("lorem", "other") is TokenAccess.FOREIGN
    assert tokens.access("lorem", "nobody's") is TokenAccess.UNKNOWN
    assert tokens.access("lorem", None) is TokenAccess.UNKNOWN
    assert tokens.access("open", None) is TokenAccess.UNKNOWN
    assert tokens.access("open", "other") is TokenAccess.FOREIGN


@pytest.mark.parametrize("variables", [{}, {"LOREM": " \n"}])
def test_a_token_that_is_missing_is_an_error_and_never_an_open_door(tmp_path: Path, variables: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="variable LOREM: holds no token for lorem"):
        Tokens([environment("lorem", token_variables=["LOREM"])], Paths(tmp_path), variables)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"lorem\.token: cannot be read"):
        Tokens([environment("lorem", token_files=["lorem.token"])], Paths(tmp_path), {})


def test_two_environments_cannot_share_a_token_and_the_message_does_not_show_it(tmp_path: Path) -> None:
    both = [environment("lorem", token_variables=["A"]), environment("ipsum", token_variables=["B"])]
    with pytest.raises(ConfigurationError, match="two environments") as error:
        Tokens(both, Paths(tmp_path), {"A": "secret", "B": "secret"})
    assert "secret" not in str(error.value)


@pytest.mark.fault("H5")
def test_an_environment_that_names_no_token_gets_a_random_one_once_that_its_owner_alone_reads(tmp_path: Path) -> None:
    layout = Paths(tmp_path)
    for name in ("lorem", "ipsum"):
        local_tokens.make(layout.token(name))
    made = layout.token("lorem").read_text()
    local_tokens.make(layout.token("lorem"))
    assert layout.token("lorem").read_text() == made
    assert made != layout.token("ipsum").read_text()
    assert len(made.strip()) >= 40
    assert layout.token("lorem").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in (tmp_path / "tokens").iterdir()) == ["ipsum", "lorem"]
    lorem, ipsum = environment("lorem"), environment("ipsum", token_variables=["IPSUM"])
    tokens = Tokens([lorem, ipsum], layout, {"IPSUM": "ipsum's"})
    assert tokens.access("lorem", made.strip()) is TokenAccess.GRANTED
    assert tokens.access("ipsum", layout.token("ipsum").read_text().strip()) is TokenAccess.UNKNOWN


def test_a_token_that_cannot_be_made_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("in the way")
    with pytest.raises(StorageError, match="lorem: cannot be written"):
        local_tokens.make(Paths(tmp_path).token("lorem"))
