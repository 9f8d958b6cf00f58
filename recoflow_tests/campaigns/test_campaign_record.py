from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from recoflow.campaigns import campaign_record
from recoflow.errors import CampaignError


def test_a_request_file_that_is_not_kept_any_more_is_told_by_its_own_name(tmp_path: Path) -> None:
    file = tmp_path / "0123456789abcdef"
    file.write_bytes(b"x")
    received_at = datetime(2026, 3, 1, tzinfo=UTC)
    opened = campaign_record.open_record(
        tmp_path, "lorem", file, name="lorem_2026-03-01.csv", sha256="0" * 64, revision=1, received_at=received_at
    )
    assert campaign_record.load_record(tmp_path, opened.key).request_file() == file
    file.unlink()
    with pytest.raises(CampaignError, match=r"lorem_2026-03-01\.csv: is not here any more"):
        opened.request_file()
