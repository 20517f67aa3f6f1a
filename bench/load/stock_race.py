#!/usr/bin/env python3
"""Lets concurrent clients change the stock of a few products, and verifies that no change is lost or applied twice.

    python3 bench/load/stock_race.py --url http://127.0.0.1:8000 --products 4 --updates 20000

In mode merge, each request adds deltas to several products. A request that would make a stock negative is rejected.
Some requests are sent a second time, and the server must answer `duplicate` with the first quantity and version. In
mode reject, each request expects the version that the client knows. If another client was faster, the response has the
current version and the client tries again with the same event.

At the end, for each product: every version from 1 to the last belongs to exactly one change of one client; replayed in
order of their versions, the deltas give the quantity that the server answered to each change; and the stock is that of
the last version.

Requires only Python 3.9 or later. Exits with 0 if every check holds, otherwise with 1.
"""

import collections
import random
import sys
import threading
import time

from api import LOST, Api, Failed, Retries, arguments, check, count, main, pause_s, quoted

# The stock at the start, low enough that some changes would make it negative.
START = 50
REPLAYED = 10
# Refusals of one product that end by themselves.
LATER = ("queue_full", "journal_full", "overloaded", "outcome_unknown")
TIME = "2024-01-01T00:00:00Z"

Change = collections.namedtuple("Change", "version delta quantity")


class Race:
    """The clients of one mode and what they were answered."""

    def __init__(self, args, mode):
        self.args, self.mode = args, mode
        self.products = [f"{args.run}-{mode}-{number}" for number in range(args.products)]
        self.retries, self.lock = Retries(), threading.Lock()
        self.changes = {product: [] for product in self.products}
        self.times_s, self.figures, self.failure = [], collections.Counter(), None

    def run(self):
        self.client(0, start=True)
        self.times_s.clear()
        share, more = divmod(self.args.updates, self.args.clients)
        threads = [
            threading.Thread(target=self.client, args=(number, False, share + (number < more)), daemon=True)
            for number in range(self.args.clients)
        ]
        begun = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self.failure:
            raise self.failure
        return time.monotonic() - begun

    def client(self, number, start=False, updates=0):
        try:
            client = Client(self, number)
            client.start() if start else client.work(updates)
            with self.lock:
                for product, changes in client.changes.items():
                    self.changes[product] += changes
                self.times_s += client.times_s
                self.figures += client.figures
        except (Failed, *LOST) as error:
            self.failure = error if isinstance(error, Failed) else Failed(f"{type(error).__name__} {error}")
            if start:
                raise self.failure from error

    def verify(self):
        """Compares the end state with the answers of all clients."""
        api = Api(self.args)
        for product, changes in self.changes.items():
            changes.sort()
            versions = [change.version for change in changes]
            check(versions == list(range(1, len(changes) + 1)),
                  f"{product}: {len(changes)} changes were applied, their versions are {different(versions)}")
            quantity = 0
            for change in changes:
                quantity += change.delta
                check(change.quantity == quantity,
                      f"{product}: version {change.version} has {change.quantity}, its changes add up to {quantity}")
            path = f"/api/v1/tenants/{quoted(self.args.tenant)}/stock/{quoted(product)}"
            level = api.ask("GET", path).json()
            found, expected = (level["quantity"], level["version"]), (quantity, len(changes))
            check(found == expected, f"{product}: quantity and version are {found}, applied were {expected}")


def different(versions):
    """Returns the first version that is missing or repeated."""
    for expected, version in enumerate(versions, 1):
        if version != expected:
            return f"{version} where {expected} is expected"
    return "complete"


class Client:
    """One thread with its own connection."""

    def __init__(self, race, number):
        self.race, self.name = race, f"{race.args.run}-{number}"
        self.api = Api(race.args, race.retries)
        self.path = f"/api/v1/tenants/{quoted(race.args.tenant)}/stock/"
        self.random = random.Random(self.name)
        self.changes = {product: [] for product in race.products}
        self.times_s, self.figures, self.events = [], collections.Counter(), 0

    def event(self, product, delta):
        self.events += 1
        return {"event_id": f"{self.name}-{self.events}", "product_id": product, "delta": delta, "occurred_at": TIME}

    def start(self):
        """Gives every product its first stock."""
        self.name += "-start"
        self.apply("merge", [self.event(product, START) for product in self.race.products])

    def work(self, updates):
        while self.events < updates:
            if self.race.failure:
                return
            left = updates - self.events
            if self.race.mode == "merge":
                self.merge(left)
            else:
                self.expect_version()

    def delta(self):
        return self.random.choice((-5, -4, -3, -2, -1, 1, 2, 3, 4, 5))

    def merge(self, left):
        wanted = min(left, self.race.args.batch)
        chosen = [self.random.choice(self.race.products) for _ in range(wanted)]
        updates = [self.event(product, self.delta()) for product in chosen]
        applied = self.apply("merge", updates)
        again = [update for update in updates if update["product_id"] in applied]
        if again and self.random.randrange(REPLAYED) == 0:
            for product, row in self.send("merge", again).items():
                first = applied[product]
                same = [row[name] == first[name] for name in ("quantity", "version")]
                check(row["result"] == "duplicate" and all(same), f"sent again: {row}, first: {first}")
            self.figures["replayed"] += len(again)

    def expect_version(self):
        product = self.random.choice(self.race.products)
        known = self.changes[product]
        update = self.event(product, self.delta())
        update["expected_version"] = known[-1].version if known else 1
        while True:
            row = self.timed("reject", [update])[product]
            if row["result"] != "conflict" or row["code"] != "stale_version":
                self.note([update], {product: row})
                return
            self.figures["stale"] += 1
            update["expected_version"] = row["version"]

    def apply(self, mode, updates):
        """Sends updates, and returns the rows of the products to which they were applied."""
        return self.note(updates, self.timed(mode, updates))

    def timed(self, mode, updates):
        begun = time.monotonic()
        rows = self.send(mode, updates)
        self.times_s.append(time.monotonic() - begun)
        return rows

    def note(self, updates, rows):
        """Keeps what was applied, and returns it."""
        applied = {}
        for product, row in rows.items():
            if row["result"] in ("applied", "duplicate"):
                # A duplicate is an update whose first response was lost or pending.
                delta = sum(update["delta"] for update in updates if update["product_id"] == product)
                self.changes[product].append(Change(row["version"], delta, row["quantity"]))
                self.figures["applied"] += sum(update["product_id"] == product for update in updates)
                applied[product] = row
            elif row["result"] == "rejected" and row["code"] == "negative_stock":
                self.figures["rejected"] += sum(update["product_id"] == product for update in updates)
            else:
                raise Failed(f"an update had an unexpected result: {row}")
        return applied

    def send(self, mode, updates):
        """Sends a request, and the products that are not decided yet again. Returns each product's row."""
        decided, deadline, tries = {}, time.monotonic() + self.race.args.patience, 0
        while updates:
            body = {"mode": mode, "updates": updates}
            answer = self.api.ask("PUT", self.path + "bulk_update", body,
                                  {"Content-Type": "application/json"}, expect=(200, 202, 409)).json()
            check("products" in answer, f"the response has no products: {answer}")
            self.figures["requests"] += 1
            for row in answer["products"]:
                if row["result"] not in ("pending", "unknown") and row.get("code") not in LATER:
                    decided[row["product_id"]] = row
            updates = [update for update in updates if update["product_id"] not in decided]
            if updates:
                check(time.monotonic() < deadline, f"products are not decided: {answer}")
                self.race.retries.add("pending")
                time.sleep(pause_s(tries))
                tries += 1
        return decided


def program(args):
    for mode in args.mode.split(","):
        check(mode in ("merge", "reject"), f"--mode is unknown: {mode}")
    for mode in args.mode.split(","):
        race = Race(args, mode)
        seconds = race.run()
        figures, times, decided = race.figures, sorted(race.times_s), args.updates
        print(f"mode            {mode}: {args.clients} clients, {args.products} products, run {args.run}")
        print(f"decided         {decided:,} updates in {figures['requests']:,} requests and {seconds:.1f} s:"
              f" {decided / seconds:,.0f} updates/s, {figures['requests'] / seconds:,.0f} requests/s")
        print(f"latency         p50 {times[len(times) // 2] * 1000:.1f} ms,"
              f" p99 {times[len(times) * 99 // 100] * 1000:.1f} ms")
        print(f"outcomes        {figures['applied'] - args.products:,} applied, {figures['rejected']:,} rejected"
              f" (negative stock), {figures['stale']:,} stale versions tried again,"
              f" {figures['replayed']:,} sent twice")
        check(figures["applied"] - args.products + figures["rejected"] == args.updates, "some updates are undecided")
        race.verify()
        changes = sum(map(len, race.changes.values()))
        print(f"verified        {changes:,} changes: each version once, every quantity the sum of its deltas")
        print(f"retries         {race.retries}", flush=True)


if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument("--clients", type=count, default=16, help="threads (default: %(default)s)")
    parser.add_argument("--products", type=count, default=4, help="(default: %(default)s)")
    parser.add_argument("--updates", type=count, default=20_000, help="updates of each mode (default: %(default)s)")
    parser.add_argument("--batch", type=count, default=10, help="updates of a request of merge (default: %(default)s)")
    parser.add_argument("--mode", default="merge,reject", help="one mode or both (default: %(default)s)")
    sys.exit(main(program, parser.parse_args()))
