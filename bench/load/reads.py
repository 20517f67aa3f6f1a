#!/usr/bin/env python3
"""Reads every stream and export of a tenant, and shows that the memory of the server does not grow with them.

    python3 bench/load/reads.py --url http://127.0.0.1:8000 --rows 100000 --ops-url http://127.0.0.1:9100

If the tenant has fewer than `--rows` orders, events or stock levels, or the server fewer clicks, the program writes the
missing ones first. Then it reads one after the other: the orders and events as streams, the lists of products and
stock, counts of events, sales, everything that is held of a customer, and exports of everything in every format. It
verifies the number of rows, the end and the digest of each. With `--erase`, it finally erases customers of its own.

The memory of the server is process_resident_memory_bytes of its page for Prometheus, sampled during each read. If its
peak during one read is more than `--memory-mb` above the memory before the first read, the program fails.

Requires only Python 3.9 or later. Exits with 0 if every check holds, otherwise with 1.
"""

import argparse
import collections
import csv
import decimal
import hashlib
import json
import os
import sys
import time
import zlib

import files
import memory
import writes
from api import JSON, MB, Api, Failed, arguments, check, count, main, pause_s, peak_mb, quoted
from stream import Orders, begin, lines_of, read
from writes import CUSTOMER, PRICED, AllEvents

PAGE = 1_000
# One level in a hundred that `writes.py` writes is below it.
BELOW = 10
# Orders, and as many events, of a customer that is erased.
ERASED_ROWS = 10
# Errors of parsing and decompressing.
MALFORMED = (ValueError, LookupError, TypeError, zlib.error, csv.Error)
FORMATS = (("csv", "none"), ("ndjson", "none"), ("ndjson", "gzip"), ("ndjson", "zstd"), ("parquet", "zstd"))


class Stored:
    """Everything that the reads have to find, noted while the two streams of rows arrive."""

    def __init__(self):
        self.orders = self.items = self.units = self.customer_orders = self.sales = self.category_sales = 0
        self.revenue = collections.defaultdict(decimal.Decimal)
        self.ordered_products, self.levels, self.levels_below = set(), 0, 0
        self.order_lines, self.event_lines, self.click_lines = files.Lines(), files.Lines(), files.Lines()
        self.events, self.types, self.sessions, self.no_session = 0, collections.Counter(), set(), 0
        self.customer_events = self.clicks = 0

    def note_order(self, line, order):
        self.order_lines.add_line(line)
        self.orders += 1
        self.items += len(order["items"])
        self.customer_orders += order["customer_id"] == CUSTOMER
        self.ordered_products.update(item["product_id"] for item in order["items"])
        if order["status"] not in ("cancelled", "refunded"):
            self.sales += 1
            self.category_sales += len({item["category"] for item in order["items"]})
            self.units += order["units"]
            self.revenue[order["currency"]] += decimal.Decimal(order["total"])

    def note_event(self, line, event):
        self.event_lines.add_line(line)
        self.events += 1
        self.types[event["event_type"]] += 1
        payload = event["payload"]
        if isinstance(payload, dict) and "session" in payload:
            self.sessions.add(json.dumps(payload["session"], sort_keys=True))
        else:
            self.no_session += 1
        self.customer_events += isinstance(payload, dict) and payload.get("customer_id") == CUSTOMER


class Reads:
    """The reads of one run and their figures."""

    def __init__(self, args, api):
        self.args, self.api, self.stored = args, api, Stored()
        self.tenant = f"/api/v1/tenants/{quoted(args.tenant)}"
        self.figures, self.left_out, self.first_mb = [], [], None

    def measure(self, name, work, *given):
        """Calls `work`, which returns the number of rows and bytes, and prints its line."""
        with memory.Server(self.args) as server:
            begun = time.monotonic()
            try:
                found, size = work(*given)
            except Failed as error:
                raise Failed(f"{name}: {error}") from error
            except MALFORMED as error:
                raise Failed(f"{name}: a response is not as documented: {error!r}") from error
            seconds = time.monotonic() - begun
        before = peak = None
        if server.reason is None:
            before, peak = server.samples_mb[0], max(server.samples_mb)
            self.first_mb = before if self.first_mb is None else self.first_mb
        elif self.args.memory_mb:
            raise Failed(f"{name}: the memory of the server is unknown: {server.reason}")
        self.figures.append({
            "name": name, "rows": found, "bytes": size, "seconds": round(seconds, 4),
            "rows_per_second": round(found / seconds), "memory_before_mb": before, "memory_peak_mb": peak,
        })
        shown = ["-" if mb is None else f"{mb:.1f}" for mb in (before, peak)]
        print(f"{name:<22}{found:>12,}{size / MB:>10.1f}{seconds:>9.2f}{found / seconds:>12,.0f}"
              f"{shown[0]:>9}{shown[1]:>9}", flush=True)

    def leave_out(self, what, answer):
        self.left_out.append(what)
        print(f"left out        {what}: {answer.status} {answer.problem()}", flush=True)

    def verify_memory(self):
        """Fails if one read took more memory than permitted."""
        if self.first_mb is None:
            print("server memory   unknown")
            return
        most = max(self.figures, key=lambda figure: figure["memory_peak_mb"] or 0)
        above = most["memory_peak_mb"] - self.first_mb
        print(f"server memory   {self.first_mb:.1f} MB before the first read, {most['memory_peak_mb']:.1f} MB at most"
              f" ({most['name']})")
        check(not self.args.memory_mb or above <= self.args.memory_mb,
              f"{most['name']} took the memory of the server {above:.1f} MB above that before the first read,"
              f" {self.args.memory_mb:g} MB are permitted")

    # Streams and lists

    def orders(self):
        # As many pages as there are.
        whole = Orders(argparse.Namespace(**{**vars(self.args), "rows": sys.maxsize}))
        return read(self.api, whole, self.stored.note_order)[:2]

    def events(self):
        source = AllEvents(self.args)
        expected = source.present(self.api)
        found, size, _ = read(self.api, source, self.stored.note_event)
        check(found == expected, f"{found:,} rows arrived, {expected:,} are stored")
        return found, size

    def clicks(self):
        expected, last, size = self.stored.clicks, "", 0
        for line in lines_of(begin(self.api, "/clicks?order=asc")):
            at, size = json.loads(line)["timestamp"], size + len(line) + 1
            check(last <= at, f"a click of {at} follows one of {last}")
            last = at
            self.stored.click_lines.add_line(line)
        found = self.stored.click_lines.rows
        check(found == expected, f"{found:,} rows arrived, {expected:,} are stored")
        return found, size

    def list(self, path, member, note):
        """Reads a list page by page. It is in the order of the ids' bytes, and no id is repeated."""
        found, size, cursor, last = 0, 0, "", b""
        while cursor is not None:
            more = f"&cursor={quoted(cursor)}" if cursor else ""
            answer = self.api.ask("GET", f"{self.tenant}{path}limit={PAGE}{more}")
            page, size = answer.json(), size + len(answer.body)
            entries, cursor = page[member], page["next_cursor"]
            check(page["rows"] == len(entries), f"a page counts {page['rows']} rows and has {len(entries)}")
            check(entries or cursor is None, "an empty page has a cursor")
            for entry in entries:
                name = entry["product_id"].encode()
                check(name > last, f"{name!r} follows {last!r}")
                last, found = name, found + 1
                note(entry)
        return found, size

    def stock(self):
        def note(level):
            self.stored.levels += 1
            self.stored.levels_below += level["quantity"] < BELOW

        return self.list("/stock?", "stock", note)

    def stock_below(self):
        def note(level):
            check(level["quantity"] < BELOW, f"{level} is not below {BELOW}")

        found, size = self.list(f"/stock?below={BELOW}&", "stock", note)
        check(found == self.stored.levels_below, f"{found:,} levels, {self.stored.levels_below:,} are below {BELOW}")
        return found, size

    def products(self):
        named = collections.Counter()

        def note(product):
            # A product remains known when its orders are erased.
            is_ordered = product["product_id"] in self.stored.ordered_products
            named["orders"] += is_ordered and product["category"] is not None
            named["prices"] += bool(product["prices"])
            named["stock"] += product["stock"] is not None

        found, size = self.list("/products?", "products", note)
        for what, expected in (("orders", len(self.stored.ordered_products)), ("stock", self.stored.levels)):
            check(named[what] == expected, f"{named[what]:,} products have {what}, expected are {expected:,}")
        check(named["prices"] >= PRICED, f"{named['prices']} products have prices, {PRICED} were given one")
        return found, size

    # Figures

    def summary(self, group):
        answer = self.api.ask("GET", f"{self.tenant}/events/summary?group_by={group}")
        said, stored = answer.json(), self.stored
        total, counts = said["total"]["count"], {each["key"]: each["count"] for each in said["groups"]}
        check(total == stored.events, f"the total is {total:,}, {stored.events:,} events are stored")
        check(sum(counts.values()) == total, f"the groups add up to {sum(counts.values()):,}, the total is {total:,}")
        check(group != "event_type" or counts == stored.types, f"the groups are {counts}, stored are {stored.types}")
        return total, len(answer.body)

    def unique(self):
        answer = self.api.ask("GET", f"{self.tenant}/events/unique?by=payload.session")
        said, stored = answer.json(), self.stored
        found, expected = (said["events"], said["missing"]), (stored.events, stored.no_session)
        check(found == expected, f"events and missing ones are {found}, stored are {expected}")
        # Five times the standard error of an estimate.
        tolerance = 0 if said["meta"]["precision"] == "exact" else 0.0405 * len(stored.sessions)
        check(abs(said["count"] - len(stored.sessions)) <= tolerance,
              f"{said['count']:,} distinct values, stored are {len(stored.sessions):,}")
        return said["events"], len(answer.body)

    def sales(self, group):
        answer = self.api.ask("GET", f"{self.tenant}/metrics/sales?group_by={group}&precision=exact")
        stored, orders, units, revenue = self.stored, 0, 0, collections.defaultdict(decimal.Decimal)
        for each in answer.json()["groups"]:
            orders, units = orders + each["orders"], units + each["units"]
            revenue[each["currency"]] += decimal.Decimal(each["revenue"])
        expected = stored.sales if group == "day" else stored.category_sales
        check(orders == expected, f"the groups have {orders:,} orders, stored are {expected:,}")
        check(units == stored.units, f"the groups have {units:,} units, stored are {stored.units:,}")
        check(revenue == stored.revenue, f"the revenue is {dict(revenue)}, stored is {dict(stored.revenue)}")
        return stored.sales, len(answer.body)

    def customer(self):
        path, found, size, end = f"{self.tenant}/customers/{CUSTOMER}/export", 0, 0, None
        places = collections.Counter()
        for line in lines_of(begin(self.api, path)):
            check(end is None, f"a row follows the end of the stream: {line[:100]!r}")
            size += len(line) + 1
            row = json.loads(line)
            if row.get("_end"):
                end = row
                continue
            found += 1
            places[row["place"]] += 1
        check(end is not None, f"the stream ended after {found:,} rows without its _end row")
        check(end["rows"] == found, f"the _end row counts {end['rows']:,} rows, {found:,} arrived")
        held = {each["place"]: each["rows"] for each in end["held"]}
        for place, expected in (("orders", self.stored.customer_orders), ("events", self.stored.customer_events)):
            found_there = (places[place], held.get(place, 0))
            check(found_there == (expected, expected),
                  f"{place} and their count in the _end row are {found_there}, stored are {expected:,}")
        return found, size

    # Exports

    def export(self, collection, wish, expected, lines):
        """Creates an export, and downloads it while it is written. `lines` are those of the same rows, if known."""
        key = {"Idempotency-Key": os.urandom(16).hex()}
        status = self.api.ask("POST", collection, wish, {**JSON, **key}, expect=(200, 201)).json()
        url = f"{collection}/{status['id']}"
        reader, digest, size = files.reader_of(status), hashlib.sha256(), 0
        response = begin(self.api, url + "/download", headers=None)
        while True:
            piece = response.read1(1 << 16)
            if not piece:
                break
            digest.update(piece)
            reader.add(piece)
            size += len(piece)
        reader.end()
        status = self.finished(url, ("queued", "running"))
        check(status["state"] == "done", f"the export is {status['state']}: {status['error']}")
        check(status["bytes"] == size, f"{size:,} bytes arrived, the file has {status['bytes']:,}")
        arrived = f"sha-256:{digest.hexdigest()}"
        check(status["digest"] == arrived, f"the digest is {status['digest']}, {arrived} arrived")
        check(status["rows"] == expected, f"the export has {status['rows']:,} rows, stored are {expected:,}")
        found = self.parquet_rows(url + "/download", size) if wish["format"] == "parquet" else reader.rows
        check(found in (None, expected), f"the file has {found} rows, stored are {expected:,}")
        check(lines is None or reader.sum in (None, lines.sum), "the lines of the file differ from those of the stream")
        self.api.ask("DELETE", url, expect=(204, 404))
        return expected, size

    def finished(self, url, running):
        """Returns the state of an export or erasure once it is not one of `running`. Gives up after `--patience`
        seconds without progress."""
        tries, last, deadline = 0, None, 0
        while True:
            status = self.api.ask("GET", url).json()
            if status["state"] not in running:
                return status
            if status != last:
                last, deadline = status, time.monotonic() + self.args.patience
            check(time.monotonic() < deadline, f"no progress: {status}")
            time.sleep(pause_s(tries))
            tries += 1

    def parquet_rows(self, url, size):
        """Reads the footer of a Parquet file as ranges: four bytes of its length and `PAR1` are at the end."""

        def part(first):
            return begin(self.api, url, {"Range": f"bytes={first}-"}, expect=206).read()

        tail = part(size - 8)
        check(tail[4:] == b"PAR1", f"the Parquet file ends with {tail!r}")
        return files.parquet_rows(part(size - 8 - int.from_bytes(tail[:4], "little")))

    def exports(self):
        stored, of_tenant = self.stored, f"{self.tenant}/reports/export"
        kinds = [
            ("orders", of_tenant, stored.orders, stored.order_lines),
            ("items", of_tenant, stored.items, None),
            ("events", of_tenant, stored.events, stored.event_lines),
        ]
        if "clicks" not in self.left_out:
            kinds.append(("clicks", "/api/v1/reports/export", stored.clicks, stored.click_lines))
        for kind, collection, expected, lines in kinds:
            for form, compression in FORMATS:
                wish = {"format": form, "compression": compression}
                if kind != "clicks":
                    wish["rows"] = kind
                name = f"{kind} {form}" if form != "ndjson" or compression == "none" else f"{kind} {form} {compression}"
                self.measure(name, self.export, collection, wish, expected, lines if form == "ndjson" else None)

    # Erasures

    def erase(self, customers):
        if len(customers) == 1:
            answer = self.api.ask("DELETE", f"{self.tenant}/customers/{customers[0]}?mode=erase",
                                  expect=(200, 202), waits_for=(423,))
            said = answer.json()
            begun = [said if answer.status == 202 else {**said, "state": "finished", "certificate": said}]
        else:
            answer = self.api.ask("POST", f"{self.tenant}/customers/erase", {"customers": customers, "mode": "erase"},
                                  JSON, expect=(200, 202), waits_for=(423,))
            begun = answer.json()["erasures"]
            answered = sorted(each["customer"] for each in begun)
            check(answered == sorted(customers), f"{len(answered)} customers are answered, {len(customers)} were sent")
        erased = collections.Counter()
        for each in begun:
            if each["state"] != "finished":
                each = self.finished(f"{self.tenant}/erasures/{each['id']}", ("running",))
            for place in ("orders", "events"):
                found = sum(shard[place] for shard in each["certificate"]["shards"])
                check(found == ERASED_ROWS, f"a certificate has {found} {place}, the customer had {ERASED_ROWS}")
                erased[place] += found
        return erased["orders"] + erased["events"], len(answer.body)

    def erasures(self):
        # What was erased once cannot be written again, also if `--run` names an earlier run.
        run = f"{self.args.run}-{os.urandom(4).hex()}"
        customers = [f"{run}-erased-{number}" for number in range(1 + self.args.erase)]
        writes.customers(self.api, self.args, run, customers, ERASED_ROWS)
        self.measure("erasure of 1", self.erase, customers[:1])
        self.measure(f"erasure of {self.args.erase}", self.erase, customers[1:])
        path = f"{self.tenant}/orders/search?category=load-{quoted(run)}&limit=1"
        lines = list(lines_of(begin(self.api, path)))
        check(json.loads(lines[-1])["rows"] == 0, f"an order of an erased customer is left: {lines[0][:200]!r}")
        left = writes.events_of(self.api, self.args, run)
        check(left == 0, f"{left} events of erased customers are left")


def program(args):
    check(args.erase <= 1_000, "--erase is at most 1000")
    api = Api(args)
    reads = Reads(args, api)
    print(f"run             {args.run}, tenant {args.tenant}, {args.rows:,} rows of each kind", flush=True)
    # There is no such erasure, so the first answer is 403 or 404.
    for what, path in (("customer", f"{reads.tenant}/erasures/{'0' * 32}"), ("clicks", "/api/v1/reports/export")):
        answer = api.ask("GET", path, expect=(200, 403, 404))
        if answer.status == 403:
            check(what == "clicks" or not args.erase, f"the key cannot erase: 403 {answer.problem()}")
            reads.leave_out(what, answer)
    if args.memory_mb:
        with memory.Server(args) as server:
            pass
        check(server.reason is None, f"the memory of the server is unknown: {server.reason}. --ops-url is the"
              " operators' listener; --memory-mb 0 omits the check")
    failure = None
    try:
        reads.stored.clicks = writes.missing(api, args, has_clicks="clicks" not in reads.left_out)
        print(f"{'read':<22}{'rows':>12}{'MB':>10}{'seconds':>9}{'rows/s':>12}{'before':>9}{'peak':>9}", flush=True)
        reads.measure("orders", reads.orders)
        reads.measure("events", reads.events)
        if "clicks" not in reads.left_out:
            reads.measure("clicks", reads.clicks)
        reads.measure("stock", reads.stock)
        reads.measure("stock below", reads.stock_below)
        reads.measure("products", reads.products)
        for group in ("event_type", "hour"):
            reads.measure(f"events by {group}", reads.summary, group)
        reads.measure("unique sessions", reads.unique)
        if "customer" not in reads.left_out:
            reads.measure("customer", reads.customer)
        for group in ("day", "category"):
            reads.measure(f"sales by {group}", reads.sales, group)
        reads.exports()
        if args.erase:
            reads.erasures()
        print(f"memory          {peak_mb():.1f} MB of this program at most")
        print(f"retries         {api.retries}")
        reads.verify_memory()
    except BaseException as error:
        failure = str(error) if isinstance(error, Failed) else repr(error)
        raise
    finally:
        if args.json:
            with open(args.json, "w", encoding="utf-8") as out:
                json.dump({"run": args.run, "tenant": args.tenant, "rows": args.rows, "failed": failure,
                           "left_out": reads.left_out, "memory_before_mb": reads.first_mb, "reads": reads.figures},
                          out, indent=1)


def whole(text):
    """Parses a number from 0, for `type=`."""
    return 0 if text == "0" else count(text)


if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=count, default=100_000,
                        help="orders, events, stock levels and clicks to have (default: %(default)s)")
    parser.add_argument("--erase", type=whole, default=0, metavar="CUSTOMERS",
                        help="erase one customer, and then as many in one request, at most 1000 (default: none)")
    parser.add_argument("--memory-mb", type=float, default=200.0, metavar="MB",
                        help="permitted growth of the server's memory, 0 for no check (default: %(default)s)")
    parser.add_argument("--json", default="", metavar="FILE", help="write the figures to a file")
    memory.add_flag(parser)
    sys.exit(main(program, parser.parse_args()))
