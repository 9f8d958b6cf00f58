"""What `benchmarks.campaign` measures, one process each: the last line of each is a JSON object.

    python -m benchmarks.campaign_runs recoflow|limits|implicit FOLDER USERS K

`recoflow`: request file to response file as the job does it, with the checks of great-expectations and the audit. Its
stages overlap: the process of the checks gets ready while lists are ranked (the peak of its memory is added), the next
lists are ranked while others are staged, the audit runs while the CSV is written.
`limits`: ranking alone, with compiled code at hand, and pyarrow's writing of the same rows. That ends in memory, which
takes 2 or 6 seconds, depending on who had the memory before; recoflow's response is on disk, so the disk's seconds are
told beside it.
`implicit`: a script as one would write it around implicit: recommend() in its best batches, ids and urls by index, the
same writer, no check of anything.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recoflow.quality.checker_process import Checker

OUT = "out"


def peak_bytes(process: int | str = "self") -> int:
    """The largest resident size of a process; ru_maxrss would count that of its parent too."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) * 1024


def recoflow(root: Path, users: int, k: int) -> dict[str, Any]:
    from recoflow.quality.checker_process import Checker

    with Checker() as checker:  # first, as the job does it: both import meanwhile
        return campaign(root, users, k, checker)


def campaign(root: Path, users: int, k: int, checker: Checker) -> dict[str, Any]:
    """The steps of a campaign's three assets, in one process as a run takes them, without SFTP and Dagster."""
    from benchmarks import campaign_world
    from recoflow.campaigns import campaign_record
    from recoflow.campaigns.service import CampaignService, check_campaigns
    from recoflow.campaigns.staging.staged import StagedLists
    from recoflow.compute.stage_timer import StageTimer
    from recoflow.storage import atomic_files
    from recoflow.storage.lake.lake import Lake

    watch, folder = StageTimer(), campaign_world.Folder(root)
    environment, file = folder.environment, folder.request(users, k)
    lake = Lake(folder.paths.lake(environment.name))
    service = CampaignService(environment, folder.paths, lake, on_fault=print)
    with watch.stage("record"):
        record = campaign_record.open_record(
            service.folder,
            environment.name,
            file,
            name=campaign_world.REQUEST,
            sha256=atomic_files.sha256(file),
            revision=1,
            received_at=campaign_world.NOW,
        )
    prepared = service.prepare(record.key, watch)
    assert prepared.request.counts.accepted == users, prepared.request.errors
    built = service.build(prepared, watch)
    assert isinstance(built.answer, StagedLists)
    with watch.stage("checks"):
        findings = check_campaigns({record.key: built}, checker.validate)[record.key]
    beside = peak_bytes(checker.pid)
    assert all(finding.passed for finding in findings), findings
    rendered = service.render(record.key, watch)
    return {
        "stages": watch.seconds,
        "rows": built.answer.counts.items,
        "bytes": rendered.files[-1][0].stat().st_size,
        "beside": beside,
    }


def limits(root: Path, users: int, k: int) -> dict[str, Any]:
    import polars as pl
    from pyarrow import csv

    from benchmarks import campaign_world
    from recoflow.campaigns.publishing import render
    from recoflow.campaigns.staging import staged
    from recoflow.compute.stage_timer import StageTimer
    from recoflow.models.store import bundle_store
    from recoflow.ranking.top_k import prepare, top_k

    watch, bundle = StageTimer(), bundle_store.load_bundle(campaign_world.Folder(root).bundle)
    factors = bundle.user_factors[:users]
    top_k(factors[:1000], bundle.item_factors, k)
    seen = {"seen_indptr": bundle.seen_indptr[: users + 1], "seen_indices": bundle.seen_indices}
    with watch.stage("rank"):
        top_k(factors, prepare(bundle.item_factors, factors), k, **seen)
    (staging,) = campaign_world.Folder(root).paths.campaigns(campaign_world.NAME).glob(f"*/{staged.STAGING}")
    result = staged.load_staged(staging, staged.StagedLists)
    columns = list(render.response_columns(result.information_fields))
    table = pl.concat([pl.read_parquet(part, columns=columns) for part in result.parts]).to_arrow()
    with (root / OUT / "bare.csv").open("wb") as file:
        with watch.stage("write"):
            csv.write_csv(table, file)
        with watch.stage("sync"):
            os.fsync(file.fileno())
    (root / OUT / "bare.csv").unlink()
    return {"stages": watch.seconds}


def implicit(root: Path, users: int, k: int) -> dict[str, Any]:
    import numpy as np
    import polars as pl
    import scipy.sparse as sp
    from pyarrow import csv
    from threadpoolctl import threadpool_limits

    from benchmarks import campaign_world
    from benchmarks.rank import implicit_model
    from recoflow.compute.stage_timer import StageTimer

    watch, folder = StageTimer(), campaign_world.Folder(root)
    arrays = {name: np.load(folder.bundle / f"{name}.npy") for name in ("user_factors", "item_factors", "subjects")}
    indptr, indices = np.load(folder.bundle / "seen_indptr.npy"), np.load(folder.bundle / "seen_indices.npy")
    shape = len(arrays["user_factors"]), len(arrays["item_factors"])
    seen = sp.csr_matrix((np.ones(len(indices), np.float32), indices, indptr), shape=shape)
    items = pl.read_parquet(folder.bundle / "items.parquet")
    urls = items["attributes"].str.json_path_match("$.url")
    model = implicit_model(arrays["user_factors"], arrays["item_factors"])
    known = pl.DataFrame({"subject": pl.Series(arrays["subjects"], dtype=pl.String)}).with_row_index("position")
    asked = pl.read_csv(folder.request(users, k)).with_columns(subject=pl.lit("u:") + pl.col("user_id"))
    asked = asked.join(known, on="subject", how="left", maintain_order="left")
    writer = None
    with (root / OUT / "implicit.csv").open("wb") as file, threadpool_limits(1, "blas"):
        for start in range(0, users, 4000):
            part = asked[start : start + 4000]
            rows = part["position"].to_numpy()
            with watch.stage("recommend"):
                found, _ = model.recommend(rows, seen[rows], N=k, filter_already_liked_items=True)
            frame = part[np.repeat(np.arange(len(part)), k)].select(
                "user_id",
                "device_id",
                user_group=pl.lit("recoflow"),
                version=pl.lit("recoflow_1"),
                campaign_id=pl.lit("0123456789abcdefghij"),
                request_id=pl.lit("0123456789abcdefghij"),
                list_name="list_name",
                item_id=items["item_id"].gather(found.ravel()),
                url=urls.gather(found.ravel()),
                rank=pl.Series(np.tile(np.arange(1, k + 1), len(part))),
            )
            table = frame.to_arrow()
            with watch.stage("write"):
                writer = writer or csv.CSVWriter(file, table.schema)
                writer.write_table(table)
        if writer:
            writer.close()
    (root / OUT / "implicit.csv").unlink()
    return {"stages": watch.seconds}


def main() -> None:
    if sys.argv[1] == "recoflow":  # a first pass has no files to replace
        from benchmarks.campaign_world import NAME
        from recoflow.storage.paths import Paths

        shutil.rmtree(Paths(Path(sys.argv[2])).campaigns(NAME), ignore_errors=True)
    begin = time.perf_counter()
    run = {"recoflow": recoflow, "limits": limits, "implicit": implicit}[sys.argv[1]]
    (Path(sys.argv[2]) / OUT).mkdir(exist_ok=True)
    found = run(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(
        json.dumps(
            {
                **found,
                "seconds": time.perf_counter() - begin,
                "cpu_seconds": sum(each.ru_utime + each.ru_stime for each in used),
                "peak_bytes": peak_bytes() + found.pop("beside", 0),
            }
        )
    )


if __name__ == "__main__":
    main()
