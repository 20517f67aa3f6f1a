"""DuckDB writes a table of order items as CSV and as Parquet: `export.py SOURCE.parquet DATABASE OUT_DIR RESULT.json`.

The rows come from a Parquet file into a table of DuckDB's own first, which is not on the clock. One thread.
"""

import json
import os
import resource
import sys
import time

import duckdb

source, database, out, result = sys.argv[1:5]
connection = duckdb.connect(database, config={"threads": 1, "memory_limit": "4GB"})
connection.execute(f"CREATE OR REPLACE TABLE items AS SELECT * FROM read_parquet('{source}')")
connection.execute("CHECKPOINT")
rows = connection.execute("SELECT count(*) FROM items").fetchone()[0]
connection.close()
told = {"rows": rows}
for name, options in [
    ("csv", "FORMAT csv, HEADER true"),
    ("parquet", "FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 122880"),
]:
    # What was read for the other one is not to be in its memory.
    connection = duckdb.connect(database, config={"threads": 1, "memory_limit": "4GB"})
    path = os.path.join(out, "duckdb." + name)
    cpu, start = time.process_time(), time.perf_counter()
    connection.execute(f"COPY items TO '{path}' ({options})")
    told[name] = {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - cpu,
        "bytes": os.path.getsize(path),
    }
    connection.close()
told["peak_rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
with open(result, "w", encoding="utf-8") as file:
    json.dump(told, file)
