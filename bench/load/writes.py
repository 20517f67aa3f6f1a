"""Writes the rows that reads.py reads. A later run uses them again.

Requires only Python 3.9 or later.
"""

import json
import time

import rows
from api import JSON, check, pause_s, quoted
from stream import BULK_ROWS, Events, Orders, begin, lines_of, prepare

RUN = "reads"
CUSTOMER = "reads-customer"
PRICED = 200
STOCK_ROWS = 5_000
# Levels are below this number.
STOCK_MAX = 1_000


class AllEvents(Events):
    """The events of every source."""

    def __init__(self, args):
        super().__init__(args)
        self.path = f"/events?tenant_id={quoted(args.tenant)}&order=asc"


def events_of(api, args, run):
    path = f"/events?tenant_id={quoted(args.tenant)}&source=load-{quoted(run)}&page_size=1"
    return api.ask("GET", path).json()["total"]


def customers(api, args, run, names, each):
    """Writes orders and events of named customers, `each` of both. Rows that are there already are not stored twice."""
    total, tenant = len(names) * each, json.dumps(args.tenant)
    for first in range(0, total, BULK_ROWS):
        numbers = range(first, min(first + BULK_ROWS, total))
        body = "".join(rows.order_of(run, tenant, number, names[number // each]) for number in numbers).encode()
        key = f"{run}-{args.tenant}-{each}-{numbers.start}-{numbers.stop}"
        headers = {"Idempotency-Key": key, "Content-Type": "application/x-ndjson"}
        summary = api.ask("POST", "/api/v1/ingest/orders", body, headers, waits_for=(409,)).json()
        check(summary["rows_failed"] == 0, f"orders failed: {summary['errors'][:3]}")
        events = []
        for number in numbers:
            event = rows.event_of(run, args.tenant, number)
            event["payload"]["customer_id"] = names[number // each]
            events.append(event)
        summary = api.ask("POST", "/events/bulk", {"events": events}, JSON).json()
        check(summary["rejected"] == 0, f"events were rejected: {summary['results'][:3]}")
    wait_for(args, total, lambda: events_of(api, args, run), "events")


def wait_for(args, wanted, present, what):
    """Waits until as many rows are visible: those that are accepted are in the journal until their commit."""
    deadline = time.monotonic() + args.patience
    while present() < wanted:
        check(time.monotonic() < deadline, f"the {what} were accepted but are not stored")
        time.sleep(0.1)


class Stock:
    """The tenant's levels."""

    kind = "stock levels"

    def __init__(self, args):
        self.args, self.path = args, f"/api/v1/tenants/{quoted(args.tenant)}/stock"

    def present(self, api):
        end = b"{}"
        for end in lines_of(begin(api, self.path)):
            pass
        end = json.loads(end)
        check(end.get("_end") is True, "the list of stock ended without its _end row")
        return end["rows"]

    def write(self, api):
        for first in range(0, self.args.rows, STOCK_ROWS):
            updates = [
                {"event_id": f"{RUN}-{number}", "product_id": f"stock-{number:09}", "quantity": number % STOCK_MAX,
                 "occurred_at": rows.time_of(number)}
                for number in range(first, min(first + STOCK_ROWS, self.args.rows))
            ]
            deadline, tries = time.monotonic() + self.args.patience, 0
            while updates:
                body = {"mode": "last_write_wins", "updates": updates}
                said = api.ask("PUT", self.path + "/bulk_update", body, JSON, expect=(200, 202)).json()["products"]
                decided = {row["product_id"] for row in said if row["result"] in ("applied", "duplicate")}
                updates = [update for update in updates if update["product_id"] not in decided]
                if updates:
                    check(time.monotonic() < deadline, f"products are not decided: {said[:3]}")
                    time.sleep(pause_s(tries))
                    tries += 1


class Clicks:
    """The server's clicks."""

    kind = "clicks"

    def __init__(self, args):
        self.args, self.found = args, 0

    def present(self, api):
        self.found = api.ask("GET", "/clicks?page_size=1").json()["total"]
        return self.found

    def write(self, api):
        for number in range(self.found, self.args.rows):
            click = {"user_id": number % 50021, "timestamp": rows.time_of(number),
                     "metadata": {"page": f"/products/{number % 997}", "button": "buy"}}
            api.ask("POST", "/event", click, JSON, expect=(202,))
        wait_for(self.args, self.args.rows, lambda: self.present(api), self.kind)


def prices(api, args):
    for product in range(PRICED):
        price = {"event_id": f"{RUN}-{product}", "price": f"{10 + product}.50", "currency": "USD",
                 "observed_at": rows.time_of(0)}
        path = f"/api/v1/tenants/{quoted(args.tenant)}/products/p-{product}/price-event"
        api.ask("POST", path, price, JSON, expect=(200, 201, 202))


def missing(api, args, has_clicks):
    """Writes the missing rows of every kind, and returns the number of clicks."""
    for source in (Orders(args), AllEvents(args), Stock(args)):
        prepare(api, source, args.rows)
    prices(api, args)
    customers(api, args, RUN, [CUSTOMER], max(1, args.rows // 100))
    return prepare(api, Clicks(args), args.rows) if has_clicks else 0
