"""Tokens come from files and variables, and belong to one environment each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recoflow.environment import Environment
from recoflow.errors import ConfigurationError
from recoflow.gateway.tokens import Access, Tokens


def environment(name: str, **gateway: Any) -> Environment:
    sftp = {"username": name, "private_key": "k", "known_hosts": "h"}
    return Environment.model_validate({"name": name, "sftp": sftp, "gateway": gateway})


def test_a_token_opens_its_own_environment_only(tmp_path: Path) -> None:
    (tmp_path / "lorem.token").write_text("from-file\n")
    lorem = environment("lorem", token_files=["lorem.token"], token_variables=["LOREM"])
    ipsum = environment("ipsum", token_variables=["IPSUM"])
    tokens = Tokens([lorem, ipsum, environment("open")], tmp_path, {"LOREM": "from-variable", "IPSUM": "other"})
    assert tokens.access("lorem", "from-file") is Access.GRANTED
    assert tokens.access("lorem", "from-variable") is Access.GRANTED
    assert tokens.access("lorem", "other") is Access.FOREIGN
    assert tokens.access("lorem", "nobody's") is Access.UNKNOWN
    assert tokens.access("lorem", None) is Access.UNKNOWN
    assert tokens.access("open", None) is Access.GRANTED
    assert tokens.access("open", "other") is Access.GRANTED


@pytest.mark.parametrize("variables", [{}, {"LOREM": " \n"}])
def test_a_token_that_is_missing_is_an_error_and_never_an_open_door(tmp_path: Path, variables: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="variable LOREM: holds no token for lorem"):
        Tokens([environment("lorem", token_variables=["LOREM"])], tmp_path, variables)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"lorem\.token: cannot be read"):
        Tokens([environment("lorem", token_files=["lorem.token"])], tmp_path, {})


def test_two_environments_cannot_share_a_token_and_the_message_does_not_show_it(tmp_path: Path) -> None:
    both = [environment("lorem", token_variables=["A"]), environment("ipsum", token_variables=["B"])]
    with pytest.raises(ConfigurationError, match="two environments") as error:
        Tokens(both, tmp_path, {"A": "secret", "B": "secret"})
    assert "secret" not in str(error.value)
