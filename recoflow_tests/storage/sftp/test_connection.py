from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import paramiko
import pytest

from recoflow.errors import MailboxError
from recoflow.sandbox import keys
from recoflow.storage.sftp import connection
from recoflow.storage.sftp.account import Account
from recoflow.storage.sftp.connection import Link
from recoflow.storage.sftp.server_replies import LinkLostError


def opened(account: Account) -> None:
    with closing(Link(account)) as link:
        link.session()


def test_one_connection_is_used_again(drop):
    with closing(Link(drop.account)) as link:
        session = link.session()
        assert link.session() is session


@pytest.mark.fault("F39")
def test_an_unknown_host_is_refused_with_the_command_that_helps(drop, tmp_path):
    with pytest.raises(MailboxError, match="recoflow sftp trust"):
        opened(replace(drop.account, known_hosts=tmp_path / "none"))


@pytest.mark.fault("F39")
def test_a_changed_host_key_is_refused_before_the_log_in(drop, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(paramiko.Transport, "auth_publickey", lambda *_: asked.append(1))
    known = tmp_path / "known_hosts"
    connection.pin_host_key(known, drop.account.host, drop.account.port, keys.host_key(tmp_path))
    with pytest.raises(MailboxError, match="another host key") as refused:
        opened(replace(drop.account, known_hosts=known))
    assert not isinstance(refused.value, LinkLostError)
    assert asked == []


def test_a_key_that_the_server_does_not_know_is_refused_and_not_retried(drop, tmp_path):
    keys.prepare(tmp_path, ("lorem",))
    with pytest.raises(MailboxError, match="refused our key") as refused:
        opened(replace(drop.account, private_key=keys.service_key(tmp_path)))
    assert not isinstance(refused.value, LinkLostError)


def test_a_key_that_others_can_read_is_not_used(drop, tmp_path):
    key = tmp_path / "key"
    key.write_bytes(drop.account.private_key.read_bytes())
    key.chmod(0o640)
    with pytest.raises(MailboxError, match="chmod 600"):
        opened(replace(drop.account, private_key=key))


def test_a_short_rsa_key_is_not_used(drop, tmp_path):
    key = tmp_path / "key"
    paramiko.RSAKey.generate(2048).write_private_key_file(str(key))
    with pytest.raises(MailboxError, match="2048 bits"):
        opened(replace(drop.account, private_key=key))


@pytest.mark.parametrize("content", [b"", b"not a key", b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n"])
def test_a_file_that_is_no_key_is_named(drop, tmp_path, content):
    key = tmp_path / "key"
    key.write_bytes(content)
    key.chmod(0o600)
    with pytest.raises(MailboxError, match=str(key)):
        opened(replace(drop.account, private_key=key))
    with pytest.raises(MailboxError, match="does not exist"):
        opened(replace(drop.account, private_key=tmp_path / "none"))


def test_trusting_a_server_is_asking_for_its_key_and_writing_it_down(drop, tmp_path):
    known = tmp_path / "known" / "hosts"
    key = connection.fetch_host_key(drop.account.host, drop.account.port)
    assert key.fingerprint.startswith("SHA256:")
    connection.pin_host_key(known, drop.account.host, drop.account.port, key)
    opened(replace(drop.account, known_hosts=known))


def test_a_pinned_key_is_replaced_only_when_that_is_meant(tmp_path):
    known, old, new = tmp_path / "known_hosts", keys.host_key(tmp_path / "old"), keys.host_key(tmp_path / "new")
    connection.pin_host_key(known, "a.example", 22, old)
    connection.pin_host_key(known, "b.example", 2222, old)
    connection.pin_host_key(known, "a.example", 22, old)
    with pytest.raises(MailboxError, match="--replace"):
        connection.pin_host_key(known, "a.example", 22, new)
    connection.pin_host_key(known, "a.example", 22, new, replace=True)
    lines = known.read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["[b.example]:2222", "a.example"]
    assert paramiko.HostKeys(str(known)).check("a.example", new)


def test_nothing_listens_and_the_port_is_named(drop):
    with pytest.raises(LinkLostError, match=r"127\.0\.0\.1:1:"):
        connection.fetch_host_key("127.0.0.1", 1)
