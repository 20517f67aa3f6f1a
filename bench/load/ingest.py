#!/usr/bin/env python3
"""Ingests orders in chunks, with an interruption, and verifies that the server has each of them once.

    python3 bench/load/ingest.py --url http://127.0.0.1:8000 --orders 1000000

Each chunk is one POST /api/v1/ingest/orders under its own Idempotency-Key, and is generated while it is sent. The
connection of one chunk is closed halfway, and the chunk is sent again under its key. The first chunk is sent a second
time at the end, which must store nothing. Then one more chunk is sent as a resumable upload (tus), is cut halfway, and
continues at the offset that the server reports. At the end, sales and a search must have exactly the orders that were
sent.

Requires only Python 3.9 or later. Exits with 0 if every check holds, otherwise with 1.
"""

import itertools
import json
import sys
import time

import rows
from api import LOST, MB, Answer, Api, arguments, check, count, main, peak_mb, quoted

INGEST = "/api/v1/ingest/orders"
UPLOADS = INGEST + "/uploads"
TUS = {"Tus-Resumable": "1.0.0"}
# Orders of one page of the search that counts.
PAGE = 100_000


class Cut(Exception):
    """This program closed the connection in the middle of a body."""


def post(api, key, pieces, pieces_max=None):
    """Sends a chunk and returns the answer and the number of bytes. With `pieces_max`, it closes the connection
    instead."""
    headers = {"Idempotency-Key": key, "Content-Type": "application/x-ndjson", "Transfer-Encoding": "chunked"}
    sent = 0
    connection = api.begin("POST", INGEST, headers)
    try:
        for piece in itertools.islice(pieces, pieces_max):
            connection.send(b"%x\r\n%s\r\n" % (len(piece), piece))
            sent += len(piece)
        if pieces_max is not None:
            api.close()
            raise Cut(sent)
        connection.send(b"0\r\n\r\n")
    except LOST as error:
        # A server that refuses early does not read the rest, but its response is there nevertheless.
        return answer_of(api, connection, error), sent
    return Answer(connection.getresponse()), sent


def answer_of(api, connection, error):
    try:
        answer = Answer(connection.getresponse())
    except LOST:
        raise error from None
    api.close()
    return answer


class Sent:
    """What was sent so far and what the server answered."""

    def __init__(self):
        self.orders = self.bytes = self.inserted = self.duplicate = 0

    def add(self, what, summary, orders):
        received, failed = summary["rows_received"], summary["rows_failed"]
        inserted, duplicate = summary["rows_inserted"], summary["rows_duplicate"]
        check(failed == 0, f"{what}: {failed} orders failed: {summary['errors'][:3]}")
        check(received == orders, f"{what}: {orders} orders sent, {received} received")
        check(inserted + duplicate == orders, f"{what}: {orders} sent, {inserted} + {duplicate} stored")
        # The rows that an interrupted request has stored belong to its key, and count as inserted when it is repeated.
        check(duplicate == 0, f"{what}: duplicates among new orders: {duplicate} {summary['errors'][:3]}")
        self.orders += orders
        self.inserted += inserted
        self.duplicate += duplicate


def ingest(api, args, sent):
    """Sends every chunk under its key, one of them twice. Returns the first summary."""
    size, cut_chunk, first = -(-args.orders // args.chunks), args.chunks // 2, None
    for chunk in range(args.chunks):
        numbers = range(min(chunk * size, args.orders), min((chunk + 1) * size, args.orders))
        if not numbers:
            continue
        key, what = f"{args.run}-{chunk}", f"chunk {chunk}"
        if chunk == cut_chunk:
            half = numbers[: len(numbers) // 2]
            pieces = sum(1 for _ in rows.pieces_of(args.run, args.tenant, half))
            try:
                post(api, key, rows.pieces_of(args.run, args.tenant, half), pieces)
            except Cut as cut:
                stored = sum(1 for _ in found(api, args, half))
                print(f"cut             chunk {chunk} after {cut.args[0] / MB:.2f} MB, {stored:,} of {len(half):,}"
                      " orders stored so far")

        def send():
            answer, send.bytes = post(api, key, rows.pieces_of(args.run, args.tenant, numbers))
            return answer

        # 409: the server has not yet noticed that the connection was closed.
        summary = api.insist(what, send, waits_for=(409,)).json()
        sent.add(what, summary, len(numbers))
        sent.bytes += send.bytes
        if chunk == cut_chunk:
            print(f"resumed         chunk {chunk}: {summary['rows_inserted']:,} orders sent again under its key, none is a duplicate")
        first = first or summary
    return first


def replay(api, args, first):
    """Sends the first chunk again. The server must return its first response."""
    numbers, key = range(first["rows_received"]), f"{args.run}-0"
    answer = api.insist("replay", lambda: post(api, key, rows.pieces_of(args.run, args.tenant, numbers))[0])
    check(answer.headers.get("Idempotent-Replayed") == "true", "the replay of chunk 0 has no Idempotent-Replayed")
    check(answer.json() == first, f"the replay of chunk 0 has another summary: {answer.json()}, first {first}")
    print(f"replayed        chunk 0, {len(numbers):,} orders: the first response")


def upload(api, args, sent):
    """Sends further orders as a resumable upload that is cut halfway."""
    numbers = range(args.orders, args.orders + args.upload_orders)
    length = sum(len(piece) for piece in rows.pieces_of(args.run, args.tenant, numbers))
    headers = {**TUS, "Upload-Length": str(length), "Idempotency-Key": f"{args.run}-upload"}
    answer = api.ask("POST", UPLOADS, b"", headers, expect=(201,))
    path = "/" + answer.headers["Location"].split("://")[-1].split("/", 1)[1]

    def patch(offset, bytes_max):
        """Sends the bytes from an offset on. Closes the connection after `bytes_max`."""
        headers = {**TUS, "Content-Type": "application/offset+octet-stream", "Upload-Offset": str(offset),
                   "Content-Length": str(length - offset)}
        connection, at = api.begin("PATCH", path, headers), 0
        try:
            for piece in rows.pieces_of(args.run, args.tenant, numbers):
                part = piece[max(0, offset - at) : max(0, bytes_max - at)]
                at += len(piece)
                if part:
                    connection.send(part)
                if at >= bytes_max < length:
                    api.close()
                    raise Cut
        except LOST as error:
            return answer_of(api, connection, error)
        return Answer(connection.getresponse())

    def reported():
        # 423: the server has not yet noticed that the connection was closed.
        answer = api.ask("HEAD", path, None, TUS, waits_for=(423,))
        return int(answer.headers["Upload-Offset"])

    def rest():
        offset = reported()
        print(f"upload resumed  at {offset / MB:.2f} MB of {length / MB:.2f} MB")
        return patch(offset, length)

    try:
        patch(0, length // 2)
    except Cut:
        print(f"upload cut      after {length // 2 / MB:.2f} MB")
    offset = reported()
    check(offset <= length // 2, f"the upload has {offset} bytes, {length // 2} were sent")
    answer = api.insist("upload", rest, expect=(204,), waits_for=(409, 423))
    check(answer.headers["Upload-Offset"] == str(length), f"the upload ended at {answer.headers['Upload-Offset']}")
    summary = api.ask("GET", path, None, TUS).json()
    check(summary["state"] == "finished", f"the upload is not finished: {summary}")
    sent.add("upload", summary, len(numbers))


def verify_sales(api, args, sent):
    """Compares the sales of this run's category with what was sent."""
    orders = units = cents = 0
    for number in range(sent.orders):
        items = rows.items_of(number)
        orders += 1
        units += sum(quantity for _, quantity, _ in items)
        cents += sum(quantity * price for _, quantity, price in items)
    path = f"/api/v1/tenants/{quoted(args.tenant)}/metrics/sales?group_by=category&precision=exact"
    groups = [group for group in api.ask("GET", path).json()["groups"] if group["key"] == f"load-{args.run}"]
    check(len(groups) == 1, f"sales have {len(groups)} groups of this run")
    found = (groups[0]["orders"], groups[0]["units"], groups[0]["revenue"])
    expected = (orders, units, f"{cents // 100}.{cents % 100:02}")
    check(found == expected, f"sales are {found}, sent were {expected} (orders, units, revenue)")
    print(f"sales           {found[0]:,} orders, {found[1]:,} units, {found[2]} USD: as sent")


def found(api, args, numbers):
    """Generates the numbers of this run's orders that a search finds at the times of these orders."""
    cursor, prefix = "", f"{args.run}-"
    path = (
        f"/api/v1/tenants/{quoted(args.tenant)}/orders/search?fields=order_id&limit={PAGE}"
        f"&from={rows.time_of(numbers.start)}&to={rows.time_of(numbers.stop - 1 + rows.PER_SECOND)}"
    )
    while cursor is not None:
        answer = api.ask("GET", path + (f"&cursor={quoted(cursor)}" if cursor else ""))
        lines = answer.body.splitlines()
        end = json.loads(lines.pop())
        check(end.get("_end") is True and end["rows"] == len(lines), f"the search ended with {end}")
        for line in lines:
            order = json.loads(line)["order_id"]
            if order.startswith(prefix):
                yield int(order[len(prefix):])
        cursor = end["next_cursor"]


def verify_search(api, args, sent):
    """Checks that a search finds each order of this run once."""
    seen = bytearray(sent.orders)
    for number in found(api, args, range(sent.orders)):
        check(number < sent.orders and not seen[number], f"the search found order {number} twice, or it was never sent")
        seen[number] = 1
    check(sum(seen) == sent.orders, f"the search found {sum(seen)} orders of this run, {sent.orders} were sent")
    print(f"search          {sent.orders:,} orders: each once")


def program(args):
    api, sent = Api(args), Sent()
    print(f"run             {args.run}, tenant {args.tenant}, {args.orders:,} orders in {args.chunks} chunks",
          flush=True)
    begun = time.monotonic()
    first = ingest(api, args, sent)
    seconds = time.monotonic() - begun
    print(f"ingested        {sent.orders:,} orders, {sent.bytes / MB:.1f} MB in {seconds:.1f} s:"
          f" {sent.orders / seconds:,.0f} orders/s, {sent.bytes / seconds / MB:.1f} MB/s")
    print(f"rows            {sent.inserted:,} inserted + {sent.duplicate:,} duplicate = {sent.orders:,}", flush=True)
    replay(api, args, first)
    if args.upload_orders:
        upload(api, args, sent)
    print(f"peak memory     {peak_mb():.1f} MB of this program while it sent", flush=True)
    verify_sales(api, args, sent)
    verify_search(api, args, sent)
    print(f"retries         {api.retries}")


if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument("--orders", type=count, default=1_000_000, help="orders of all chunks (default: %(default)s)")
    parser.add_argument("--chunks", type=count, default=20, help="requests (default: %(default)s)")
    parser.add_argument("--upload-orders", type=int, default=50_000, metavar="ORDERS",
                        help="orders of the resumable upload, 0 for none (default: %(default)s)")
    sys.exit(main(program, parser.parse_args()))
