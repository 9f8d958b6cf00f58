"""The rehearsal goes the whole way, and is what compiles the loops."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from recoflow.sandbox import warm_up, world
from recoflow.settings.environment import Environment
from recoflow.settings.sections import Model, Sftp, TrainingSettings

SFTP = Sftp(username="lorem", private_key=Path("key"), known_hosts=Path("hosts"))


def test_a_rehearsal_answers_the_first_list_of_every_reader(tmp_path: Path) -> None:
    environment = Environment(
        name="other", sftp=SFTP, training=TrainingSettings(models={"als": Model(algorithm="als")})
    )
    assert warm_up.rehearse(environment, tmp_path) == 100 * next(iter(world.LISTS.values()))


def test_the_command_rehearses_every_environment(tmp_path: Path) -> None:
    data = Path(__file__).parents[2] / "data"
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "environments").symlink_to(data / "environments")
    bytecode = Path(importlib.util.cache_from_source(warm_up.__file__))
    bytecode.unlink(missing_ok=True)
    command = [sys.executable, "-m", "recoflow.cli", "compile", "--data", str(tmp_path / "data")]
    variables = os.environ | {"TMPDIR": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=variables)
    assert "lorem: 500 recommendations" in done.stdout
    assert bytecode.exists()
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["environments"]
