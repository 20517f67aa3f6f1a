"""The same sales figures from DuckDB: one thread, tables of its own in a file of its own.

    python sales.py DATABASE ORDERS.csv ITEMS.csv RUNS OUT.json

Loads the two files into DATABASE unless that is there already, asks every question RUNS times and once before, and
writes {"load_s": …, "answers": {"day exact": {"first_ms": …, "ms": […], "groups": [[key, orders, units, revenue,
customers, [p50, p95, p99]], …]}, …}} to OUT.json. Fetching the groups is on the clock, rendering them is not.
"""

import json
import os
import sys
import time

import duckdb

TABLES = """
CREATE TABLE orders AS SELECT * FROM read_csv(?, header = true, columns = {'id': 'BIGINT', 'customer': 'BIGINT',
    'status': 'TINYINT', 'ordered_at_us': 'BIGINT', 'total': 'BIGINT', 'units': 'BIGINT'});
CREATE TABLE items AS SELECT * FROM read_csv(?, header = true, columns = {'order_id': 'BIGINT', 'product': 'VARCHAR',
    'category': 'VARCHAR', 'quantity': 'BIGINT', 'unit_price': 'BIGINT'});
"""
# Statuses from 5 on are no sales. Days as text only once they are grouped.
DAYS = """
SELECT strftime(make_timestamp(day * 86400000000), '%Y-%m-%d'), * EXCLUDE (day) FROM (
    SELECT ordered_at_us // 86400000000 AS day, count(*), sum(units), sum(total), {customers}, {ranks}
    FROM orders WHERE status <= 4 GROUP BY day)
ORDER BY 1
"""
# An order counts once for each category or product it has, with that part's units and revenue.
PARTS = """
SELECT part, count(*), sum(units), sum(revenue), {customers}, {ranks} FROM (
    SELECT o.id, i.{by} AS part, any_value(o.customer) AS customer, any_value(o.total) AS total,
        sum(i.quantity) AS units, sum(i.quantity * i.unit_price) AS revenue
    FROM items i JOIN orders o ON o.id = i.order_id WHERE o.status <= 4 GROUP BY o.id, i.{by})
GROUP BY part ORDER BY part
"""
PRECISIONS = {
    "exact": {"customers": "count(DISTINCT customer)", "ranks": "quantile_disc(total, [0.5, 0.95, 0.99])"},
    "approx": {"customers": "approx_count_distinct(customer)", "ranks": "approx_quantile(total, [0.5, 0.95, 0.99])"},
}
QUESTIONS = {"day": DAYS, "category": PARTS, "product": PARTS}


def ask(connection: duckdb.DuckDBPyConnection, sql: str) -> tuple[float, list]:
    start = time.perf_counter()
    groups = connection.execute(sql).fetchall()
    return (time.perf_counter() - start) * 1e3, groups


def main() -> None:
    database, orders, items, runs, out = sys.argv[1:]
    is_new = not os.path.exists(database)
    connection = duckdb.connect(database, config={"threads": 1})
    start = time.perf_counter()
    if is_new:
        for statement, path in zip(TABLES.strip().split(";\n"), [orders, items]):
            connection.execute(statement.rstrip(";"), [path])
        connection.execute("CHECKPOINT")
    answers = {}
    load_s = time.perf_counter() - start
    for group, question in QUESTIONS.items():
        for precision, details in PRECISIONS.items():
            sql = question.format(by=group, **details)
            first_ms, groups = ask(connection, sql)
            answers[f"{group} {precision}"] = {
                "first_ms": first_ms,
                "ms": [ask(connection, sql)[0] for _ in range(int(runs))],
                "groups": [[key, *map(int, numbers), list(map(int, ranks))] for key, *numbers, ranks in groups],
            }
    with open(out, "w") as file:
        json.dump({"load_s": load_s, "answers": answers}, file)


main()
