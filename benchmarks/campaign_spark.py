"""Spark's recommendForUserSubset on the factors of a bundle, writing the same CSV; run by pyspark's own environment.

    <python with pyspark> -m benchmarks.campaign_spark FOLDER USERS K

What belongs here: nothing that imports recoflow, which that environment does not have.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyspark
from pyarrow import parquet
from pyspark.ml.recommendation import ALSModel
from pyspark.sql import SparkSession
from pyspark.sql import functions as f

VERSION = "20261122T000000Z-benchmark"


def save_model(bundle: Path, folder: Path) -> None:
    """The factors in the files of an ALSModel, which cannot be made from factors otherwise."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "metadata").mkdir(parents=True)
    parameters = {"userCol": "user", "itemCol": "item", "predictionCol": "prediction", "coldStartStrategy": "nan"}
    sizes = []
    for side in ("user", "item"):
        factors = np.load(bundle / f"{side}_factors.npy")
        sizes.append(factors.shape[1])
        starts = np.arange(len(factors) + 1, dtype=np.int32) * factors.shape[1]
        lists = pa.ListArray.from_arrays(starts, factors.ravel())
        (folder / f"{side}Factors").mkdir()
        table = pa.table({"id": pa.array(np.arange(len(factors), dtype=np.int32)), "features": lists})
        parquet.write_table(table, folder / f"{side}Factors" / "part-00000.parquet")
    metadata = {
        "class": "org.apache.spark.ml.recommendation.ALSModel",
        "timestamp": 0,
        "sparkVersion": pyspark.__version__,
        "uid": "benchmark",
        "paramMap": {},
        "defaultParamMap": parameters | {"blockSize": 4096},
        "rank": sizes[0],
    }
    (folder / "metadata" / "part-00000").write_text(json.dumps(metadata) + "\n")
    (folder / "metadata" / "_SUCCESS").touch()


def main() -> None:
    root, users, k = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    model_folder, out = root / "out" / "spark-model", root / "out" / "spark-csv"
    save_model(root / VERSION, model_folder)
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    begin = time.perf_counter()
    threads = len(os.sched_getaffinity(0))
    builder = SparkSession.builder.master(f"local[{threads}]").config("spark.driver.memory", "8g")
    spark = builder.config("spark.ui.enabled", "false").config("spark.driver.host", "127.0.0.1")
    spark = spark.config("spark.sql.shuffle.partitions", str(2 * threads)).getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    model = ALSModel.load(str(model_folder))
    items = spark.read.parquet(str(root / VERSION / "items.parquet")).select(
        "item_id",
        f.get_json_object("attributes", "$.url").alias("url"),
        f.substring("item_id", 6, 7).cast("int").alias("item"),
    )
    asked = spark.read.csv(str(root / f"request-{users}x{k}.csv"), header=True)
    asked = asked.withColumn("user", f.substring("user_id", 6, 7).cast("int"))
    ranked = model.recommendForUserSubset(asked.select("user"), k)
    each = ranked.select("user", f.posexplode("recommendations").alias("place", "found"))
    rows = each.select("user", (f.col("place") + 1).alias("rank"), f.col("found.item").alias("item"))
    columns = ["user_id", "device_id", "user_group", "version", "campaign_id", "request_id", "list_name", "item_id"]
    told = {"user_group": "recoflow", "version": "recoflow_1", "campaign_id": "0" * 20, "request_id": "0" * 20}
    joined = rows.join(asked, "user").join(f.broadcast(items), "item")
    joined = joined.withColumns({name: f.lit(value) for name, value in told.items()})
    joined.select(*columns, "url", "rank").write.mode("overwrite").csv(str(out), header=True, quoteAll=True)
    seconds = time.perf_counter() - begin
    spark.stop()
    files = list(out.glob("*.csv"))  # each begins with a header
    lines = sum(path.read_bytes().count(b"\n") for path in files) - len(files)
    shutil.rmtree(out)
    shutil.rmtree(model_folder)
    print(json.dumps({"seconds": seconds, "rows": lines}))


if __name__ == "__main__":
    main()
