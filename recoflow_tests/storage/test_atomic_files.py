from __future__ import annotations

import hashlib

import pytest

from recoflow.storage import atomic_files


def test_bytes_replace_the_file(tmp_path):
    path = tmp_path / "folder" / "file"
    atomic_files.write_atomic(path, b"old")
    atomic_files.write_atomic(path, b"new")

    assert path.read_bytes() == b"new"
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    atomic_files.write_atomic(path, b"old")

    def fail(file):
        file.write(b"half")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        atomic_files.write_atomic(path, fail)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_file_that_goes_to_disk_while_it_is_written_is_the_same(tmp_path):
    pieces = [bytes([number]) * (number * 37_997) for number in range(60)]
    assert sum(map(len, pieces)) > 2 * 32 * 1024**2  # what goes to disk at once

    atomic_files.write_atomic(tmp_path / "file", lambda file: file.writelines(pieces))

    assert (tmp_path / "file").read_bytes() == b"".join(pieces)


def test_sha256_is_of_the_content(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * 1_000_000)

    assert atomic_files.sha256(path) == hashlib.sha256(b"x" * 1_000_000).hexdigest()
