"""How much memory it takes to read, judge and refuse request files, each in a process of its own."""

from __future__ import annotations

import gzip
import itertools
import subprocess
import sys

import pytest

MIB = 1 << 20
HEADER = b"environment,user_id,device_id,list_name,list_size,page_type\n"
ROW = b"lorem,user-%050d,,Relevant for you and,10,weekly_mail_news\n"
LIST = b"lorem,user-%032d,dev-%032d,Relevant %d,10,weekly_mail_%04d\n"
PADDED = b"lorem,user-%032d                ,,Relevant for you,10,weekly_mail_news   \n"
BOTH = b"lorem,user-%044d   ,dev-%044d  ,Relevant for you %d,10,weekly_mail_%04d\n"
FILTERED = b"lorem,user-%020d,,Relevant for you and,10,weekly_mail_news,sport and more %d,c%d\n"
ITEM = b"lorem,item-%050d,10,audience of this one %d                     \n"
WIDE = HEADER.replace(b"\n", b",%s\n")
FILTERS = [b"filter_%d" % n for n in range(12)]
CELLS = b",something about sport" * 12 + b"\n"
MANY = 2_490_000
READ = """
import sys
from pathlib import Path
from recoflow.campaigns.requests.request_parser import parse_request
from recoflow.settings.environment import Campaigns, Environment
from recoflow.settings.sections import Sftp
sftp = Sftp(username="lorem", private_key=Path("key"), known_hosts=Path("hosts"))
environment = Environment(name="lorem", sftp=sftp, campaigns=Campaigns())
path = Path(sys.argv[1])
known = ["categories", "colour", *(f"filter_{n}" for n in range(12))]
read = parse_request(path, name=path.name, environment=environment, sha256="0", known_attributes=known)
status = Path("/proc/self/status").read_text()  # ru_maxrss counts the process that started this one, too
most = int(status.split("VmHWM:")[1].split()[0]) >> 10
print(most, read.rejection.code if read.rejection else read.counts.accepted)
"""
FILES = {
    "open_quote.csv": ([HEADER, b'lorem,"', *[b"x" * MIB] * 299], "truncated"),
    "one_line.csv": ([HEADER, *[b"x" * MIB] * 299], "unreadable"),
    "long_header.csv": ([b"x," * MIB] * 150, "header_too_long"),
    "columns.csv": (
        [b",".join(b"%d" % n for n in range(9000)) + b",", HEADER, b"," * 9000 + ROW % 1],
        "too_many_columns",
    ),
    "nul.csv": ([HEADER, *[b"\0" * MIB] * 300], "nul_byte"),
    "returns.csv": ([HEADER.replace(b"\n", b"\r"), *[b"lorem,a,,T,1,m\r" * 70_000] * 280], "cr_only_lines"),
    "blank.csv": ([HEADER, ROW % 1, *[b",,,,,\n" * 175_000] * 300], "too_many_rows"),
    "zip.csv": ([b"PK\x03\x04", *[b"x" * MIB] * 300], "compressed"),
    "rows.csv": (itertools.chain([HEADER], (ROW % number for number in range(MANY))), "2490000"),
    "wrong.csv": (itertools.chain([HEADER], (b"lorem,%d,,,0,\n" % number for number in range(MANY))), "0"),
    "lists.csv": (itertools.chain([HEADER], (LIST % (n // 3, n // 3, n % 3, 0) for n in range(MANY))), "2490000"),
    "twice.csv": (
        itertools.chain([HEADER], (LIST % (n // 3, n // 3, n % 3 % 2, n % 5) for n in range(MANY))),
        "1660000",
    ),
    "same.csv": (itertools.chain([HEADER], (LIST % (n // 900, n // 900, 1, n % 2) for n in range(MANY))), "2767"),
    "crowds.csv": (itertools.chain([HEADER], (LIST % (n // 1500, n // 1500, n % 1500, 0) for n in range(MANY))), "0"),
    "padded.csv": (itertools.chain([HEADER], (PADDED % number for number in range(MANY))), "2490000"),
    "both.csv": (
        itertools.chain([HEADER], (BOTH % (n // 3, n // 3, n % 3 % 2, n % 5) for n in range(2_100_000))),
        "1400000",
    ),
    "variables.csv": (
        itertools.chain(
            [HEADER.replace(b"\n", b",categories,colour\n")], (FILTERED % (n, n % 97, n % 7) for n in range(1_900_000))
        ),
        "1900000",
    ),
    "filters.csv": (
        itertools.chain([WIDE % b",".join(FILTERS)], (b"lorem,u%015d,,R,1,m" % n + CELLS for n in range(1_000_000))),
        "1000000",
    ),
    "cells.csv": (
        itertools.chain([WIDE % b",".join(FILTERS)], (b"lorem,u,,R,1,m" + b"," * 12 + b"\n" for _ in range(1_100_000))),
        "too_many_cells",
    ),
    "audiences.csv": (
        itertools.chain(
            [b"environment,item_id,audience_size,audience_name\n"], (ITEM % (n // 2, n % 2) for n in range(MANY))
        ),
        "2490000",
    ),
}


def read(path):
    command = [sys.executable, "-c", READ, str(path)]
    most, found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return int(most), found


@pytest.mark.matrix
@pytest.mark.fault("M11")
@pytest.mark.parametrize("name", FILES)
def test_no_request_file_of_300_mb_takes_more_than_one_gib(tmp_path, name):
    content, expected = FILES[name]
    path = tmp_path / f"lorem_2026-11-30_{name}"
    with path.open("wb") as file:
        file.writelines(content)
    most, found = read(path)
    assert found == expected
    assert most <= 1024


@pytest.mark.matrix
@pytest.mark.fault("M11")
def test_a_bomb_is_refused_by_name_in_little_memory(tmp_path):
    path = tmp_path / "lorem_2026-11-30.csv.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(HEADER)
        for _ in range(2048):
            file.write(b"\n" * MIB)
    most, found = read(path)
    assert (found, most <= 512) == ("too_large", True)
