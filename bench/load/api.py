"""A client of the server for the programs of this folder: one connection, retries as documented, figures of retries.

Requires only Python 3.9 or later.
"""

import argparse
import collections
import email.utils
import http.client
import json
import os
import resource
import sys
import threading
import time
import urllib.parse

# The statuses after which the same request may be sent again.
RETRIED = (408, 429, 502, 503, 504, 507)
JSON = {"Content-Type": "application/json"}
LOST = (http.client.HTTPException, OSError)
MB = 1_000_000


class Failed(Exception):
    """A check failed, or the server did not do what it documents."""


class Answer:
    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    def json(self):
        return json.loads(self.body)

    def problem(self):
        """Returns the slug and the detail of a problem document, or the start of another body."""
        try:
            said = json.loads(self.body)
            slug = str(said.get("type", "")).rsplit("/", 1)[-1]
            return f"{slug}: {said.get('detail', said.get('title', ''))}"
        except (ValueError, AttributeError):
            return self.body[:200].decode("utf-8", "replace")

    def wait_s(self, tries):
        """Returns how long to wait before the next attempt: `Retry-After`, or a growing time without it."""
        given = self.headers.get("Retry-After", "")
        if given.isdigit():
            return float(given)
        if given:
            return max(0.0, email.utils.parsedate_to_datetime(given).timestamp() - time.time())
        return pause_s(tries)


def pause_s(tries):
    return min(5.0, 0.1 * 2 ** min(tries, 6))


class Retries:
    """The attempts that were not the last, by reason. Several threads may count."""

    def __init__(self):
        self.lock = threading.Lock()
        self.counts = collections.Counter()

    def add(self, reason):
        with self.lock:
            self.counts[reason] += 1

    def __str__(self):
        return ", ".join(f"{reason}: {count}" for reason, count in sorted(self.counts.items())) or "none"


class Api:
    """One connection to the server, for one thread."""

    def __init__(self, args, retries=None):
        self.url = args.url.rstrip("/")
        self.parts = urllib.parse.urlsplit(self.url)
        if self.parts.scheme not in ("http", "https") or not self.parts.hostname:
            raise Failed(f"--url is not an http or https URL: {args.url}")
        self.key = args.key
        self.patience_s = args.patience
        self.retries = retries or Retries()
        self.connection = None
        self.has_connected = False

    def open(self):
        """Returns the connection, connected."""
        if self.connection is None:
            is_https = self.parts.scheme == "https"
            kind = http.client.HTTPSConnection if is_https else http.client.HTTPConnection
            self.connection = kind(self.parts.netloc, timeout=self.patience_s)
        if self.connection.sock is None:
            try:
                self.connection.connect()
            except OSError as error:
                if not self.has_connected:
                    raise Failed(f"cannot connect to {self.url}: {error}") from error
                raise
            self.has_connected = True
        return self.connection

    def close(self):
        if self.connection is not None:
            self.connection.close()
        self.connection = None

    def headers(self, more=None):
        headers = dict(more or {})
        if self.key:
            headers["Authorization"] = "Bearer " + self.key
        return headers

    def begin(self, method, path, headers):
        """Sends the head of a request. The caller sends the body."""
        connection = self.open()
        connection.putrequest(method, self.parts.path + path, skip_accept_encoding=True)
        for name, value in self.headers(headers).items():
            connection.putheader(name, value)
        connection.endheaders()
        return connection

    def start(self, method, path, body=None, headers=None):
        """Sends a request and returns the response before its body is read."""
        connection = self.open()
        connection.request(method, self.parts.path + path, body, self.headers(headers))
        return connection.getresponse()

    def ask(self, method, path, body=None, headers=None, expect=(200,), waits_for=()):
        """Sends a request until it has one of the expected statuses, and returns the answer.

        A request that was lost or refused for a while is sent again, so it must be one that the server applies once.
        `waits_for` are further statuses that mean: not yet.
        """
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()

        def send():
            return Answer(self.start(method, path, body, headers))

        return self.insist(f"{method} {path}", send, expect, waits_for)

    def insist(self, what, send, expect=(200,), waits_for=()):
        """Calls `send` until it returns an expected answer. Gives up after `--patience` seconds."""
        deadline, tries = time.monotonic() + self.patience_s, 0
        while True:
            try:
                answer = send()
            except LOST as error:
                self.close()
                reason, wait_s, said = "lost connection", pause_s(tries), f"{type(error).__name__} {error}"
            else:
                if answer.status in expect:
                    return answer
                said = f"{answer.status} {answer.problem()}"
                if answer.status not in RETRIED and answer.status not in waits_for:
                    raise Failed(f"{what}: {said}")
                reason, wait_s = str(answer.status), answer.wait_s(tries)
            tries += 1
            if time.monotonic() + wait_s > deadline:
                raise Failed(f"{what}: no success within {self.patience_s:.0f} s, last: {said}")
            self.retries.add(reason)
            time.sleep(wait_s)


def quoted(text):
    return urllib.parse.quote(text, safe="")


def check(condition, message):
    if not condition:
        raise Failed(message)


def peak_mb():
    """Returns the maximum memory that this program ever had resident."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux reports KiB, macOS bytes.
    return peak / MB if sys.platform == "darwin" else peak * 1024 / MB


def arguments(documentation):
    """Returns a parser with the flags that all programs have."""
    parser = argparse.ArgumentParser(
        description=documentation, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="the server (default: %(default)s)")
    parser.add_argument("--key", default=os.environ.get("LOAD_KEY", ""),
                        help="a key with the scopes write, manage and read (default: $LOAD_KEY, or none)")
    parser.add_argument("--tenant", default="load", help="the tenant that gets the rows (default: %(default)s)")
    parser.add_argument("--run", default=os.urandom(4).hex(),
                        help="a name that all ids of this run contain (default: random)")
    parser.add_argument("--patience", type=float, default=120.0, metavar="SECONDS",
                        help="time for the retries of one request (default: %(default)s)")
    return parser


def count(text):
    """Parses a positive number, for `type=`."""
    number = int(text.replace("_", ""))
    if number < 1:
        raise argparse.ArgumentTypeError("it must be at least 1")
    return number


def main(program, args):
    """Runs a program. Prints `ok` or the failure, and returns the exit code."""
    try:
        program(args)
    except Failed as error:
        print(f"failed: {error}", flush=True)
        return 1
    except LOST as error:
        print(f"failed: {args.url}: the connection was lost: {error!r}", flush=True)
        return 1
    except KeyboardInterrupt:
        print("failed: interrupted", flush=True)
        return 1
    print("ok", flush=True)
    return 0
