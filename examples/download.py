#!/usr/bin/env python3
"""Exports a tenant's orders and downloads the file while it is written, resuming interrupted connections.

    python3 examples/download.py acme --format parquet --rows items --out items.parquet
    python3 examples/download.py acme --format csv --filter status=paid --filter from=2026-01-01T00:00:00Z

Requires only Python 3. Exits with 0 if the file is complete and matches the digest of the server, otherwise with 1.
"""

import argparse
import base64
import hashlib
import http.client
import json
import os
import sys
import time
import urllib.parse

BLOCK = 1 << 16
# Attempts without a new byte before it gives up.
TRIES = 10


def headers_of(args, more=None):
    headers = dict(more or {})
    if args.key:
        headers["Authorization"] = "Bearer " + args.key
    return headers


def connect(args):
    url = urllib.parse.urlsplit(args.server)
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    return kind(url.netloc, timeout=60)


def ask(args, method, path, body=None, more=None):
    connection = connect(args)
    try:
        connection.request(method, path, body, headers_of(args, more))
        answer = connection.getresponse()
        text = answer.read()
    finally:
        connection.close()
    said = json.loads(text) if text else {}
    if answer.status >= 400:
        sys.exit(f"{method} {path}: {answer.status} {said.get('detail', '')}\n{json.dumps(said.get('errors', ''))}")
    return said


def create(args):
    filters = {}
    for text in args.filter:
        name, _, value = text.partition("=")
        # A repeated name makes a JSON list.
        if name in ("product_id", "status"):
            filters.setdefault(name, []).append(value)
        else:
            filters[name] = value
    wish = {"format": args.format, "rows": args.rows, "compression": args.compression, "filters": filters}
    if args.fields:
        wish["fields"] = args.fields.split(",")
    # Clicks have no tenant.
    tenant = "" if args.rows == "clicks" else f"/tenants/{urllib.parse.quote(args.tenant, safe='')}"
    path = f"/api/v1{tenant}/reports/export"
    # If the response is lost, a retry with the same --idempotency-key creates no second export.
    key = {"Idempotency-Key": args.idempotency_key or os.urandom(16).hex(), "Content-Type": "application/json"}
    return ask(args, "POST", path, json.dumps(wish), key)


def download(args, export, out):
    """Writes the file to `out`. Returns its SHA-256 and the server's digest (None if it sent none)."""
    digest, done, etag, said, tries = hashlib.sha256(), 0, None, None, 0
    while True:
        before = done
        connection = connect(args)
        try:
            more = {"Range": f"bytes={done}-", "If-Range": etag} if etag else {}
            connection.request("GET", export["download_url"], headers=headers_of(args, more))
            answer = connection.getresponse()
            if answer.status == 416:
                # The last connection broke after the last byte.
                return digest, said
            if answer.status == 200 and done:
                # The file has changed: start from its beginning.
                out.seek(0)
                out.truncate()
                digest, done = hashlib.sha256(), 0
            elif answer.status not in (200, 206):
                sys.exit(f"download: {answer.status} {answer.read(2000).decode(errors='replace')}")
            etag, said = answer.headers["ETag"], answer.headers["Repr-Digest"] or said
            while block := answer.read1(BLOCK):
                out.write(block)
                digest.update(block)
                done += len(block)
                if args.cut and done - before >= args.cut:
                    raise ConnectionError("cut on purpose")
            # http.client does not report a body that ends before its length.
            if not answer.length:
                return digest, said
        except (OSError, http.client.HTTPException) as error:
            print(f"cut at {done} bytes ({error!r}), resuming", file=sys.stderr)
        finally:
            connection.close()
        tries = 0 if done > before else tries + 1
        if tries >= TRIES:
            sys.exit("no progress, giving up")
        time.sleep(min(0.1 * 2**tries, 5) if tries else 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("tenant", nargs="?", help="the tenant; none for clicks")
    parser.add_argument("--server", default="http://localhost:8000")
    parser.add_argument("--key", help="a key with the scope read (admin for clicks), if the server requires one")
    parser.add_argument("--format", default="csv", choices=["csv", "ndjson", "parquet"])
    parser.add_argument("--rows", default="orders", choices=["orders", "items", "events", "clicks"])
    parser.add_argument("--compression", default="none", choices=["none", "gzip", "zstd"])
    parser.add_argument("--fields", help="columns, separated by commas")
    parser.add_argument("--filter", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--idempotency-key")
    parser.add_argument("--out", help="output file; default: a name by format")
    parser.add_argument("--cut", type=int, default=0, help="break the connection after this many bytes, to test resuming")
    args = parser.parse_args()
    if (args.tenant is None) != (args.rows == "clicks"):
        parser.error("clicks have no tenant; all other rows have one")

    export = create(args)
    ending = {"none": "", "gzip": ".gz", "zstd": ".zst"}[args.compression] if args.format != "parquet" else ""
    name = args.out or f"{args.rows}.{args.format}{ending}"
    with open(name, "w+b") as out:
        digest, said = download(args, export, out)
        size = out.tell()
    state = ask(args, "GET", export["url"])
    # The digest was not known at the start of a download that followed the file.
    hexed = digest.hexdigest()
    told = state["digest"] == "sha-256:" + hexed
    if said is not None:
        told = told and said == f"sha-256=:{base64.b64encode(digest.digest()).decode()}:"
    print(json.dumps({"file": name, "bytes": size, "rows": state["rows"], "sha256": hexed, "verified": told}))
    return 0 if told and state["state"] == "done" and state["bytes"] == size else 1


if __name__ == "__main__":
    sys.exit(main())
