import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


@pytest.mark.fault("L14")
def test_no_version_of_starlette_with_the_hole_of_host_headers_can_be_installed():
    """CVE-2026-48710 is in 1.0.0, and mended in 1.0.1."""
    named = [Requirement(line) for line in tomllib.loads(PYPROJECT.read_text())["project"]["dependencies"]]
    (starlette,) = (each for each in named if each.name == "starlette")
    assert not starlette.specifier.contains("1.0.0")
    assert starlette.specifier.contains("1.0.1")
