"""The embedded server as its clients see it: paramiko, OpenSSH's sftp and scp, and people who mean ill."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import time

import paramiko
import pytest

from recoflow.errors import MailboxError
from recoflow.sandbox import feeder, keys, sftp_protocol, sftp_server


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("sftp")


@pytest.fixture(scope="module")
def server(root):
    with sftp_server.serve(root, keys.prepare(root, ("lorem", "ipsum")), port=0, login_seconds=1) as running:
        yield running


@pytest.fixture
def customer(root, server):
    with feeder.connect(root, "lorem", server.port) as sftp:
        yield sftp


@pytest.fixture
def files(root, server):
    folder = root / "accounts" / "lorem"
    yield folder
    for path in folder.glob("*/*"):
        path.unlink()


def test_a_customer_drops_finds_and_collects(customer, files, tmp_path):
    request = tmp_path / "a.csv"
    request.write_bytes(b"content")
    feeder.drop(customer, request)
    feeder.drop(customer, request, "b.jsonl", folder="periodic")
    assert (files / "requests" / "a.csv").read_bytes() == b"content"
    assert (files / "periodic" / "b.jsonl").read_bytes() == b"content"
    (files / "responses" / "a.csv").write_bytes(b"answer")
    assert feeder.responses(customer) == ["a.csv"]
    feeder.collect(customer, "a.csv", tmp_path / "got", remove=True)
    assert (tmp_path / "got").read_bytes() == b"answer"
    assert feeder.responses(customer) == []


def test_a_customer_sees_the_four_folders_and_nothing_else(customer):
    assert (
        sorted(customer.listdir("."))
        == sorted(customer.listdir("/"))
        == ["one_time", "periodic", "requests", "responses"]
    )
    assert customer.normalize("requests/../periodic/./x") == "/periodic/x"
    for path in ("claims", "staging", ".uploads", "../ipsum", "/etc", "requests/x/y"):
        with pytest.raises(OSError, match=r"No such file|Permission denied"):
            customer.listdir(path)


@pytest.mark.parametrize(
    "act",
    [
        lambda sftp: sftp.mkdir("new"),
        lambda sftp: sftp.mkdir("requests/new"),
        lambda sftp: sftp.rmdir("requests"),
        lambda sftp: sftp.remove("requests"),
        lambda sftp: sftp.rename("requests", "other"),
        lambda sftp: sftp.posix_rename("requests", "periodic"),
        lambda sftp: sftp.symlink("/etc/passwd", "requests/x"),
        lambda sftp: sftp.open("responses/x", "w"),
        lambda sftp: sftp.open("x", "w"),
        lambda sftp: sftp.open("claims/x", "w"),
        lambda sftp: sftp.open("../../../etc/passwd"),
        lambda sftp: sftp.open("requests/../../host_key"),
        lambda sftp: sftp.truncate("requests/x", 0),
        lambda sftp: sftp.open("requests/a\0b", "w"),
        lambda sftp: sftp.rename("requests/x", "claims/x"),
    ],
)
def test_what_a_customer_must_not_do_is_refused(customer, files, act):
    (files / "requests" / "x").write_bytes(b"x")
    before = sorted(path.relative_to(files) for path in files.rglob("*"))
    with pytest.raises((OSError, paramiko.SFTPError)):
        act(customer)
    assert sorted(path.relative_to(files) for path in files.rglob("*")) == before
    assert (files / "requests" / "x").read_bytes() == b"x"


@pytest.mark.fault("F31")
def test_links_folders_and_fifos_cannot_be_opened(customer, files, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    (files / "requests" / "link").symlink_to(secret)
    os.mkfifo(files / "requests" / "fifo")
    for name, mode in (("link", "r"), ("link", "w"), ("link", "a"), ("fifo", "r"), ("fifo", "a")):
        with pytest.raises(OSError, match=r"denied|Failure"):
            customer.open(f"requests/{name}", mode)
    assert stat.S_ISLNK(customer.stat("requests/link").st_mode)
    assert secret.read_bytes() == b"secret"


@pytest.mark.fault("F25")
def test_an_upload_appears_when_it_is_closed_and_not_before(customer, files):
    with customer.open("requests/a.csv", "wb") as upload:
        upload.write(b"half")
        upload.flush()
        assert list((files / "requests").iterdir()) == []
    assert (files / "requests" / "a.csv").read_bytes() == b"half"


@pytest.mark.fault("F25")
def test_an_upload_that_is_cut_off_never_appears(root, server, files):
    with feeder.connect(root, "lorem", server.port) as customer:
        upload = customer.open("requests/a.csv", "wb")
        upload.write(b"half")
        upload.flush()
        customer.get_channel().get_transport().close()
    for _ in range(100):
        if not list((files / ".uploads").iterdir()):
            break
        time.sleep(0.02)
    assert list((files / ".uploads").iterdir()) == list((files / "requests").iterdir()) == []


def test_writing_without_truncating_changes_only_what_is_written(customer, files):
    (files / "requests" / "a.csv").write_bytes(b"0123456789")
    with customer.open("requests/a.csv", "r+b") as file:
        file.seek(3)
        file.write(b"xyz")
    with customer.open("requests/a.csv", "ab") as file:
        file.write(b"!")
    assert (files / "requests" / "a.csv").read_bytes() == b"012xyz6789!"
    with pytest.raises(OSError, match="Failure"):
        customer.open("requests/a.csv", "wx")


def test_plain_rename_does_not_overwrite_and_posix_rename_does(customer, files):
    (files / "requests" / "a").write_bytes(b"a")
    (files / "requests" / "b").write_bytes(b"b")
    with pytest.raises(OSError, match="Failure"):
        customer.rename("requests/a", "requests/b")
    assert (files / "requests" / "b").read_bytes() == b"b"
    customer.posix_rename("requests/a", "requests/b")
    assert (files / "requests" / "b").read_bytes() == b"a"


def test_names_of_any_bytes_go_in_and_out(customer, files):
    name = b"requests/caf\xe9.csv"
    with customer.open(name, "wb") as upload:
        upload.write(b"x")
    assert [os.fsencode(path.name) for path in (files / "requests").iterdir()] == [b"caf\xe9.csv"]
    customer.remove(name)
    assert list((files / "requests").iterdir()) == []


def test_accounts_do_not_open_each_other(root, server):
    key = paramiko.Ed25519Key.from_private_key_file(str(keys.feeder_key(root, "ipsum")))
    for username in ("lorem", "nobody", ""):
        with (
            paramiko.Transport(("127.0.0.1", server.port)) as transport,
            pytest.raises(paramiko.AuthenticationException),
        ):
            transport.connect(username=username, pkey=key)


def test_passwords_and_nothing_at_all_open_no_account(root, server):
    with paramiko.Transport(("127.0.0.1", server.port)) as transport:
        transport.start_client(timeout=5)
        with pytest.raises(paramiko.BadAuthenticationType):
            transport.auth_none("lorem")
        with pytest.raises(paramiko.BadAuthenticationType):
            transport.auth_password("lorem", "lorem")


def test_only_the_service_key_sees_claims_and_staging(root, server, files):
    key = paramiko.Ed25519Key.from_private_key_file(str(keys.service_key(root)))
    with paramiko.Transport(("127.0.0.1", server.port)) as transport:
        transport.connect(username="lorem", pkey=key)
        with transport.open_sftp_client() as service:
            assert {"claims", "staging"} < set(service.listdir("."))
            with service.open("requests/a", "w") as upload:
                upload.write("x")
            service.posix_rename("requests/a", "claims/a")
    assert (files / "claims" / "a").exists()


def test_shells_commands_and_forwarding_are_refused(root, server):
    key = paramiko.Ed25519Key.from_private_key_file(str(keys.feeder_key(root, "lorem")))
    with paramiko.Transport(("127.0.0.1", server.port)) as transport:
        transport.connect(username="lorem", pkey=key)
        with pytest.raises(paramiko.SSHException):
            transport.open_session().exec_command("id")
        with pytest.raises(paramiko.SSHException):
            transport.open_session().invoke_shell()
        with pytest.raises(paramiko.ChannelException):
            transport.open_channel("direct-tcpip", ("127.0.0.1", 22), ("127.0.0.1", 1))


@pytest.mark.fault("F41")
def test_silent_connections_are_cut_and_block_nobody_for_long(root, server):
    silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(40)]
    deadline = time.monotonic() + 5
    try:
        while True:
            try:
                with feeder.connect(root, "lorem", server.port) as customer:
                    assert "requests" in customer.listdir(".")
                    return
            except (paramiko.SSHException, OSError, EOFError):
                assert time.monotonic() < deadline, "silent connections keep customers out"
                time.sleep(0.1)
    finally:
        for connection in silent:
            connection.close()


def test_one_session_holds_no_more_than_its_share_of_open_files(customer, files):
    (files / "requests" / "a").write_bytes(b"a")
    opened = [customer.open("requests/a") for _ in range(sftp_protocol.MAX_HANDLES)]
    with pytest.raises(OSError, match="Failure"):
        customer.open("requests/a")
    for file in opened:
        file.close()
    customer.open("requests/a").close()


def test_a_taken_port_is_told_and_a_free_one_can_be_had(root, server, tmp_path):
    with pytest.raises(MailboxError, match="is taken"), sftp_server.serve(tmp_path, {}, port=server.port):
        pass
    with sftp_server.serve(tmp_path, {}, port=0) as other:
        assert other.port != server.port


def test_keys_and_host_key_are_made_once_and_only_for_their_owner(tmp_path):
    first = keys.prepare(tmp_path, ("lorem",))
    host = keys.host_key(tmp_path)
    assert keys.prepare(tmp_path, ("lorem", "ipsum"))["lorem"] == first["lorem"]
    assert keys.host_key(tmp_path) == host
    for path in (keys.service_key(tmp_path), keys.feeder_key(tmp_path, "lorem"), tmp_path / "host_key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    keys.service_key(tmp_path).write_text("not a key")
    with pytest.raises(MailboxError, match="not an ed25519 key"):
        keys.prepare(tmp_path, ("lorem",))


def test_a_restart_keeps_the_host_key_and_clears_half_uploads(tmp_path):
    access = keys.prepare(tmp_path, ("lorem",))
    with sftp_server.serve(tmp_path, access, port=0) as first:
        fingerprint = first.host_key.fingerprint
    left = tmp_path / "accounts" / "lorem" / ".uploads" / "half"
    left.write_bytes(b"half")
    with sftp_server.serve(tmp_path, access, port=0) as second:
        assert second.host_key.fingerprint == fingerprint
        assert not left.exists()


@pytest.mark.skipif(shutil.which("sftp") is None, reason="OpenSSH's clients are not installed")
def test_openssh_sftp_and_scp_work_and_say_so(root, server, files, tmp_path):
    upload = tmp_path / "a.csv"
    upload.write_bytes(os.urandom(200_000))
    options = ["-i", str(keys.feeder_key(root, "lorem")), "-P", str(server.port), "-o", "IdentitiesOnly=yes"]
    options += ["-o", f"UserKnownHostsFile={root / 'known_hosts'}", "-o", "GlobalKnownHostsFile=/dev/null"]
    batch = f"""
        put -p {upload} requests/a.csv
        ls -l requests
        rename requests/a.csv requests/b.csv
        -mkdir x
        get requests/b.csv {tmp_path}/got
    """
    command = ["sftp", "-b", "-", *options, "lorem@127.0.0.1"]
    done = subprocess.run(command, check=False, input=batch, text=True, capture_output=True, timeout=20)
    assert done.returncode == 0, done.stderr
    assert "a.csv" in done.stdout
    assert (tmp_path / "got").read_bytes() == upload.read_bytes()
    command = ["scp", *options, str(upload), "lorem@127.0.0.1:requests/"]
    done = subprocess.run(command, check=False, capture_output=True, timeout=20)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (files / "requests").iterdir()) == ["a.csv", "b.csv"]
