"""Mixed traffic of many users: clicks, events, orders, stock and prices are written and read at the same time.

    pip install locust==2.47.0
    locust -f bench/load/locustfile.py --headless --users 1000 --spawn-rate 50 --run-time 2m --host http://127.0.0.1:8000

| variable | meaning |
| --- | --- |
| LOAD_KEY | a key for all tenants with the scopes write, manage and read; none if the server has no keys |
| LOAD_TENANTS | number of tenants (10) |
| LOAD_TENANT | a single tenant instead, for a key that is bound to one |

A response with a status that the task does not expect is a failure, and its problem document is in the message. A 429
or 503 with `Retry-After` is not a failure: the user waits for this time, and the request is counted under a name of its
own, such as "POST /event: 429, waited".
"""

import json
import os
import random
import time
import uuid

import gevent
from locust import FastHttpUser, between, events, task
from locust.runners import WorkerRunner

import rows

TENANTS = [os.environ["LOAD_TENANT"]] if os.environ.get("LOAD_TENANT") else [
    f"load-{number}" for number in range(int(os.environ.get("LOAD_TENANTS", "10")))
]
KEY = os.environ.get("LOAD_KEY", "")
USERS = 100_000
PRODUCTS = 500
# Ids are below this number and contents depend on them alone, so that some are sent twice, as clients do.
EVENTS = 5_000_000
ORDERS = 1_000_000
RUN = "mixed"
# A longer Retry-After would silence a user for the rest of a short run.
WAIT_S_MAX = 30.0


def problem(response):
    try:
        said = json.loads(response.text)
        return f"{str(said.get('type', '')).rsplit('/', 1)[-1]}: {said.get('detail', said.get('title', ''))}"
    except (ValueError, TypeError, AttributeError):
        return str(response.text or response.error)[:200]


class Client(FastHttpUser):
    """A user of one tenant at a time."""

    wait_time = between(0.1, 1.0)
    connection_timeout = 30.0
    network_timeout = 60.0

    def ask(self, method, path, name, expect, body=None, headers=None):
        """Sends a request and judges its status. Returns the response if it is an expected one."""
        headers = {"Content-Type": "application/json", **(headers or {})}
        if KEY:
            headers["Authorization"] = "Bearer " + KEY
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        wait_s = None
        with self.client.request(method, path, name=name, data=body, headers=headers, catch_response=True) as response:
            status, retry_after = response.status_code, (response.headers or {}).get("Retry-After", "")
            if status in expect:
                response.success()
            elif status in (429, 503) and retry_after.isdigit():
                response.request_meta["name"] = f"{name}: {status}, waited"
                response.success()
                wait_s = min(float(retry_after), WAIT_S_MAX)
            else:
                response.failure(f"{status} {problem(response)}")
        if wait_s is not None:
            gevent.sleep(wait_s)
        return response if status in expect else None

    def check(self, name, is_right, message):
        """Counts a wrong content of a response as a failure of its own."""
        if not is_right:
            events.request.fire(request_type="CHECK", name=name, response_time=0, response_length=0,
                                exception=AssertionError(message), context={})

    @staticmethod
    def commerce(rest):
        return f"/api/v1/tenants/{random.choice(TENANTS)}/{rest}"

    @task(40)
    def post_click(self):
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        page = {"page": f"/p/{random.randrange(997)}"}
        click = {"user_id": random.randrange(USERS), "timestamp": now, "metadata": page}
        self.ask("POST", "/event", "/event", (202,), click)

    @task(15)
    def post_event(self):
        event = rows.event_of(RUN, random.choice(TENANTS), random.randrange(EVENTS))
        response = self.ask("POST", "/events", "/events", (200, 201, 202), event)
        if response is not None:
            self.check("/events", '"conflict":true' not in response.text, "an equal event is a conflict")

    @task(3)
    def post_events_in_bulk(self):
        tenant, first = random.choice(TENANTS), random.randrange(EVENTS)
        many = [rows.event_of(RUN, tenant, number) for number in range(first, first + random.randint(10, 200))]
        response = self.ask("POST", "/events/bulk", "/events/bulk", (200,), {"events": many})
        if response is not None:
            self.check("/events/bulk", json.loads(response.text)["rejected"] == 0, "valid events were rejected")

    @task(5)
    def read_events(self):
        path = f"/events?tenant_id={random.choice(TENANTS)}&page_size=50&order=desc"
        self.ask("GET", path, "/events (page)", (200,))

    @task(4)
    def read_buckets(self):
        size = random.choice(("hour", "day"))
        path = f"/metrics?tenant_id={random.choice(TENANTS)}&bucket_size={size}"
        self.ask("GET", path, f"/metrics ({size})", (200,))

    @task(2)
    def ingest_orders(self):
        first, count = random.randrange(ORDERS), random.randint(10, 50)
        body = b"".join(rows.pieces_of(RUN, random.choice(TENANTS), range(first, first + count)))
        headers = {"Idempotency-Key": str(uuid.uuid4()), "Content-Type": "application/x-ndjson"}
        response = self.ask("POST", "/api/v1/ingest/orders", "/api/v1/ingest/orders", (200,), body, headers)
        if response is not None:
            summary = json.loads(response.text)
            stored = summary["rows_inserted"] + summary["rows_duplicate"]
            is_right = stored == count and not summary["errors"]
            self.check("/api/v1/ingest/orders", is_right, f"{stored} of {count} orders are stored")

    @task(3)
    def search_orders(self):
        query = random.choice(("q=ann*", f"product_id=p-{random.randrange(997)}", "status=paid", "min_total=400"))
        response = self.ask("GET", self.commerce(f"orders/search?limit=100&{query}"), "…/orders/search", (200,))
        if response is not None:
            self.check("…/orders/search", '"_end":true' in response.text, "the stream has no end row")

    @task(2)
    def read_sales(self):
        group = random.choice(("day", "category", "product"))
        path = self.commerce(f"metrics/sales?group_by={group}&precision=approx")
        self.ask("GET", path, f"…/metrics/sales ({group})", (200,))

    @task(6)
    def change_stock(self):
        now, run = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), uuid.uuid4()
        updates = [
            {"event_id": f"{run}-{place}", "product_id": f"p-{random.randrange(PRODUCTS)}",
             "delta": random.randint(1, 5), "occurred_at": now}
            for place in range(random.randint(1, 20))
        ]
        body = {"mode": "merge", "updates": updates}
        self.ask("PUT", self.commerce("stock/bulk_update"), "…/stock/bulk_update", (200, 202), body)

    @task(8)
    def observe_price(self):
        product = random.randrange(PRODUCTS)
        # One price in fifty differs by more than the limit of an anomaly.
        factor = random.choice((50, 150)) if random.randrange(50) == 0 else random.randint(95, 105)
        cents = (1_000 + product * 37) * factor // 100
        price = {"event_id": str(uuid.uuid4()), "price": f"{cents // 100}.{cents % 100:02}", "currency": "USD",
                 "observed_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        path = self.commerce(f"products/p-{product}/price-event")
        self.ask("POST", path, "…/price-event", (200, 201, 202), price)


@events.quitting.add_listener
def report(environment, **_):
    """Prints the outcome, in the words of the other programs of this folder."""
    if isinstance(environment.runner, WorkerRunner):
        # With several processes, the figures of all are in the one that leads them.
        return
    total = environment.stats.total
    waited = sum(entry.num_requests for entry in environment.stats.entries.values() if entry.name.endswith(", waited"))
    print(f"requests        {total.num_requests:,}, of which {waited:,} were refused for a while")
    if total.num_requests == 0:
        print("failed: no request was sent")
        environment.process_exit_code = 1
    elif total.num_failures:
        print(f"failed: {total.num_failures:,} requests")
        environment.process_exit_code = 1
    else:
        print("ok")
