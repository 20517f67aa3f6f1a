#!/usr/bin/env python3
"""Streams a tenant's rows as NDJSON, and verifies their number, their order and the end of the stream.

    python3 bench/load/stream.py --url http://127.0.0.1:8000 --rows 100000 --ops-url http://127.0.0.1:9100

The rows are orders, newest first, or with `--kind events` events, oldest first. If the tenant has fewer, the program
writes the missing ones first. It keeps no rows in memory, so its peak memory shows that a client can read any number of
rows. The memory of the server is process_resident_memory_bytes of its page for Prometheus, read while the rows arrive.

Requires only Python 3.9 or later. Exits with 0 if every check holds, otherwise with 1.
"""

import json
import sys
import time

import memory
import rows
from api import MB, Answer, Api, arguments, check, count, main, peak_mb, quoted
from memory import Server

LIMIT_MAX = 100_000
BULK_ROWS = 2_000
INGEST_ROWS = 5_000
# The ids of a stream's rows are the same in every run, so that the rows of an earlier run are used again.
RUN = "stream"
NDJSON = {"Accept": "application/x-ndjson"}


def lines_of(response):
    """Generates the lines of a response as they arrive. An aborted stream raises IncompleteRead."""
    rest = b""
    # `readline` would take an aborted stream for its end.
    while True:
        piece = response.read1(1 << 16)
        if not piece:
            break
        lines = (rest + piece).split(b"\n")
        rest = lines.pop()
        yield from lines
    check(not rest, "the stream ended in the middle of a line")


class Orders:
    """The tenant's orders, newest first. A page has at most 100,000 and ends with a row that counts them."""

    kind = "orders"

    def __init__(self, args):
        self.path = f"/api/v1/tenants/{quoted(args.tenant)}/orders/search"
        self.args = args

    def present(self, api):
        """Returns how many rows there are, up to the number wanted."""
        found, cursor = 0, ""
        while found < self.args.rows and cursor is not None:
            limit = min(LIMIT_MAX, self.args.rows - found)
            more = f"&cursor={quoted(cursor)}" if cursor else ""
            end = b"{}"
            for end in lines_of(begin(api, f"{self.path}?fields=order_id&limit={limit}{more}")):
                pass
            end = json.loads(end)
            check(end.get("_end") is True, "the stream of ids ended without its _end row")
            found, cursor = found + end["rows"], end["next_cursor"]
        return found

    def write(self, api):
        for first in range(0, self.args.rows, INGEST_ROWS):
            numbers = range(first, min(first + INGEST_ROWS, self.args.rows))
            body = b"".join(rows.pieces_of(RUN, self.args.tenant, numbers))
            # The content of a key must not differ, so it contains what the content depends on.
            key = f"{RUN}-{self.args.tenant}-{numbers.start}-{numbers.stop}"
            api.ask("POST", "/api/v1/ingest/orders", body,
                    {"Idempotency-Key": key, "Content-Type": "application/x-ndjson"}, waits_for=(409,))

    def pages(self, api):
        """Generates the lines and rows of every page. The last row of a page is its end."""
        left, cursor = self.args.rows, ""
        while left and cursor is not None:
            limit = min(LIMIT_MAX, left)
            more = f"&cursor={quoted(cursor)}" if cursor else ""
            found, end = 0, None
            for line in lines_of(begin(api, f"{self.path}?limit={limit}{more}")):
                check(end is None, f"a row follows the end of the stream: {line[:100]!r}")
                row = json.loads(line)
                if row.get("_end"):
                    end = row
                    continue
                found += 1
                yield line, row
            check(end is not None, f"the stream ended after {found:,} rows without its _end row")
            check(end["rows"] == found, f"the _end row counts {end['rows']:,} rows, {found:,} arrived")
            left, cursor = left - found, end["next_cursor"]

    def key_of(self, row):
        return row["ordered_at"], row["order_id"]

    def is_sequence(self, before, after):
        return before >= after


class Events:
    """The tenant's events of this program's source, oldest first. The end of the body is the end of the stream."""

    kind = "events"

    def __init__(self, args):
        self.path = f"/events?tenant_id={quoted(args.tenant)}&source=load-{RUN}&order=asc"
        self.args = args

    def present(self, api):
        return api.ask("GET", self.path + "&page_size=1").json()["total"]

    def write(self, api):
        for first in range(0, self.args.rows, BULK_ROWS):
            numbers = range(first, min(first + BULK_ROWS, self.args.rows))
            events = [rows.event_of(RUN, self.args.tenant, number) for number in numbers]
            summary = api.ask("POST", "/events/bulk", {"events": events}).json()
            check(summary["rejected"] == 0, f"events were rejected: {summary['results'][:3]}")
        deadline = time.monotonic() + self.args.patience
        while self.present(api) < self.args.rows:
            # Pending events are in the journal and become visible with their commit.
            check(time.monotonic() < deadline, "the events were accepted but are not stored")
            time.sleep(0.1)

    def pages(self, api):
        for line in lines_of(begin(api, self.path)):
            yield line, json.loads(line)

    def key_of(self, row):
        return row["timestamp"], row["event_id"]

    def is_sequence(self, before, after):
        return before <= after


def begin(api, path, headers=NDJSON, expect=200):
    """Returns a response before its body is read. A server that is busy is asked again."""

    def send():
        response = api.start("GET", path, headers=headers)
        return response if response.status == expect else Answer(response)

    response = api.insist(f"GET {path}", send, expect=(expect,))
    if headers is NDJSON:
        kind = response.headers["Content-Type"]
        check(kind.startswith("application/x-ndjson"), f"GET {path}: the content type is {kind}")
    return response


def prepare(api, source, wanted):
    """Writes the rows if there are too few. Returns how many the stream must have."""
    found = source.present(api)
    if found < wanted:
        begun = time.monotonic()
        source.write(api)
        print(f"written         {wanted - found:,} {source.kind} in {time.monotonic() - begun:.1f} s", flush=True)
        found = source.present(api)
        check(found >= wanted, f"{wanted:,} {source.kind} were written, {found:,} are there")
    return found


def read(api, source, note=lambda line, row: None):
    """Reads a stream to its end and verifies the order of its rows. Returns the number of its rows and bytes, and the
    seconds until the first row."""
    begun, first, size, found = time.monotonic(), None, 0, 0
    # The ids of the rows with the time of the last row. Times are in order, so a repetition is among them.
    last, ids = None, set()
    for line, row in source.pages(api):
        first = first or time.monotonic() - begun
        size, found = size + len(line) + 1, found + 1
        at, name = source.key_of(row)
        check(last is None or source.is_sequence(last, at), f"row {found:,} ({name}, {at}) follows one of {last}")
        if at != last:
            last, ids = at, set()
        check(name not in ids, f"row {found:,} ({name}) is a repetition")
        ids.add(name)
        note(line, row)
    return found, size, first


def program(args):
    api, source = Api(args), {"orders": Orders, "events": Events}[args.kind](args)
    expected = prepare(api, source, args.rows)
    with Server(args) as server:
        begun = time.monotonic()
        found, size, first = read(api, source)
        seconds = time.monotonic() - begun
    check(found == expected, f"{found:,} rows arrived, {expected:,} are stored")
    print(f"streamed        {found:,} {args.kind} of tenant {args.tenant}, {size / MB:.1f} MB in {seconds:.2f} s:"
          f" {found / seconds:,.0f} rows/s, {size / seconds / MB:.1f} MB/s")
    print(f"first row       after {first * 1000:.1f} ms")
    print(f"memory          {peak_mb():.1f} MB of this program at most")
    print(f"server memory   {server}")
    print(f"retries         {api.retries}")


if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=count, default=100_000, help="rows to stream (default: %(default)s)")
    parser.add_argument("--kind", choices=("orders", "events"), default="orders", help="(default: %(default)s)")
    memory.add_flag(parser)
    sys.exit(main(program, parser.parse_args()))
