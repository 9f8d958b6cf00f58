from __future__ import annotations

from pathlib import Path

from recoflow.settings.environment import Environment
from recoflow.storage.paths import Paths
from recoflow.storage.sftp.account import Account


def environment(**sftp):
    settings = {"username": "lorem", "private_key": "sftp/keys/recoflow", "known_hosts": "/etc/known_hosts", **sftp}
    return Environment.model_validate({"name": "lorem", "sftp": settings, "campaigns": {"retention_days": 3}})


def test_an_account_has_the_environments_settings_and_the_layouts_paths():
    account = Account.of(environment(port=22, quiet_seconds=5, max_bytes=7, owns_server=False), Paths(Path("/data")))
    assert account == Account(
        environment="lorem",
        host="127.0.0.1",
        port=22,
        username="lorem",
        private_key=Path("/data/sftp/keys/recoflow"),
        known_hosts=Path("/etc/known_hosts"),
        owns_server=False,
        quiet_seconds=5,
        max_bytes=7,
        retention_days=3,
    )


def test_the_port_that_the_embedded_server_took_goes_before_the_files(tmp_path):
    layout = Paths(tmp_path)
    assert Account.of(environment(embedded=True), layout).port == 2222
    layout.sftp.mkdir()
    layout.sftp_port.write_text("40000")
    assert Account.of(environment(embedded=True), layout).port == 40_000
    assert Account.of(environment(), layout).port == 2222
