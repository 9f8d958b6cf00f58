"""From the gateway's answer to the lake, by the sensor and a real Dagster run."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from recoflow.storage.lake.lake import Lake
from recoflow_tests import scenario
from recoflow_tests.gateway.client import Running, view


def test_what_was_acknowledged_is_ingested_though_sftp_is_away(tmp_path: Path) -> None:
    with scenario.installed(tmp_path / "data", "lorem") as installation:
        layout = installation.layout
        layout.sftp_port.write_text("1")  # nobody listens there
        assert isinstance(installation.tick("lorem_spool"), dg.SkipReason)
        gateway = Running(layout)
        assert gateway.post([view(1, action_item_type=None), view(2)]).status_code == 200
        assert gateway.client.put("/api/lorem/items/article/a1", json={"title": "Pear"}).status_code == 200
        assert gateway.end() == 0
        (request,) = installation.run_requests("lorem_spool")
        assert request.tags["recoflow/segments"] == "2"
        result = installation.run("lorem_ingest", request)
        assert result.success
        assert scenario.materializations(result)["events"]["accepted"] == 3
        lake = Lake(layout.lake("lorem"))
        assert lake.scan("events").collect().height == 2
        assert lake.scan("updates").collect()["entity_id"].to_list() == ["a1"]
        assert isinstance(installation.tick("lorem_spool"), dg.SkipReason)
        assert list(layout.spool("lorem").iterdir()) == []
