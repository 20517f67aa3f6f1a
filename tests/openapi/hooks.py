"""What a schema cannot say: how the good requests of the schema's test are made good.

Requests that are bad on purpose stay as they are made; what is changed is judged again by the schema.
"""

import base64
import gzip
import hashlib
import io
import json
import zipfile

import schemathesis
from hypothesis import strategies as st

# Currencies by the digits of their amounts, where those are not two.
DIGITS = {
    **dict.fromkeys("BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF".split(), 0),
    **dict.fromkeys("BHD IQD JOD KWD LYD OMR TND".split(), 3),
    **dict.fromkeys("CLF UYW".split(), 4),
}
# Where a time may not be far ahead of the clock: one that never is, whatever the clock of the machine.
PAST = "2026-01-01T00:00:00Z"
ITEM_COLUMNS = {"line", "product_id", "category", "quantity", "unit_price", "amount"}
EVENT_COLUMNS = {"event_id", "tenant_id", "source", "event_type", "timestamp", "payload", "received_at"}
ONLY_EVENT_COLUMNS = EVENT_COLUMNS - {"tenant_id", "received_at"}
EVENT_FILTERS = {"source", "event_type"}
TIME_FILTERS = {"from", "to", "start_date", "end_date", "tz"}

# Formats of the document that are nobody else's.
WORDS = st.lists(st.from_regex(r"[A-Za-z0-9]{1,20}[*]?", fullmatch=True), min_size=1, max_size=10)
schemathesis.openapi.format("search-words", WORDS.map(" ".join))
schemathesis.openapi.format("time-zone", st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/New_York"]))
schemathesis.openapi.format("cursor", st.text(alphabet="0123456789abcdef", min_size=1, max_size=40))


def line_of(number):
    order = {
        "order_id": f"o-{number}",
        "tenant_id": "acme",
        "customer_id": f"c-{number % 7}",
        "customer_name": "Ann Smith",
        "customer_email": "ann@example.com",
        "status": "paid",
        "currency": "USD",
        "ordered_at": "2026-03-01T12:00:00Z",
        "items": [{"product_id": "p-1", "category": "garden", "quantity": 2, "unit_price": "19.99"}],
    }
    return json.dumps(order).encode() + b"\n"


def zipped(line):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("orders.ndjson", line)
    return packed.getvalue()


# A schema of bytes says nothing of what is in them.
LINES = st.integers(min_value=0, max_value=100_000).map(line_of)
schemathesis.openapi.media_type("application/octet-stream", st.one_of(LINES, LINES.map(gzip.compress), LINES.map(zipped)))
schemathesis.openapi.media_type("application/offset+octet-stream", LINES)


# The id of an upload is the last segment of `Location`, which no expression of OpenAPI takes apart.
UPLOAD = {"upload": "$response.header.Location#regex:/([0-9a-f]+)$"}
GOES_ON = {**UPLOAD, "header.Upload-Offset": "$response.header.Upload-Offset"}


# Sequences of requests begin where nothing is in the path: from an order they come to its products.
TENANT = {"tenant": "$request.body#/tenant_id"}
PRODUCT = {**TENANT, "product": "$request.body#/items/0/product_id"}


@schemathesis.hook
def before_load_schema(context, schema):
    def link(path, status, **parameters):
        links = schema["paths"][path]["post"]["responses"][status].setdefault("links", {})
        for operation, given in parameters.items():
            links[operation] = {"operationId": operation, "parameters": given}

    uploads = "/api/v1/ingest/orders/uploads"
    link(uploads, "201", uploadOffset=UPLOAD, uploadSummary=UPLOAD, continueUpload=GOES_ON, endUpload=UPLOAD)
    link("/api/v1/ingest/orders", "200", updateStock=TENANT, recordPrice=PRODUCT)


@schemathesis.serializer("application/x-ndjson")
def ndjson(context, value):
    """The schema is that of a line: one line is a body."""
    if isinstance(value, bytes):
        return value
    return json.dumps(value).encode() + b"\n"


@schemathesis.deserializer("application/x-ndjson")
def lines(context, response):
    """The schema is that of a line: the first is held to it. Exports are described as the bytes that they are."""
    if operation_id(context) in ("downloadExport", "downloadClickExport"):
        return response.text
    return json.loads(response.content.splitlines()[0])


def operation_id(of):
    return of.operation.definition.raw.get("operationId")


def is_good(case):
    return case.meta is not None and case.meta.generation.mode.is_positive


@schemathesis.hook
def before_call(context, case, kwargs):
    was_good = is_good(case)
    query = case.query or {}
    is_metrics = operation_id(case) == "metrics"
    if is_metrics and query:
        # Without a tenant this is the page for Prometheus, which has no parameters.
        case.query = {"tenant_id": "acme", **query}
    if not is_good(case):
        return
    if not was_good:
        # Good by the schema, but its judge knows none of the document's own formats.
        case.query.update({name: value for name, value in {"tz": "UTC", "q": "ann"}.items() if name in case.query})
    mend_query(case.query or {})
    if is_metrics and "tenant_id" in case.query:
        # Of a tenant there are counts, in buckets that have a size.
        case.query.setdefault("bucket_size", "day")
    mend_body(case)
    mend_headers(case)


def mend_query(query):
    mend_bounds(query)
    # Cursors are sealed: none that was made up is one.
    query.pop("cursor", None)
    query.pop("last_event_id", None)
    # Pages far behind are read by cursors.
    if int(query.get("page", 1)) * int(query.get("page_size", 1000)) > 1_000_000:
        del query["page"]


def mend_bounds(given):
    # Of the five that say which stretch of time one does not contradict another.
    for name in [name for name in ("from", "to", "start_date", "end_date", "since") if given.get(name)][1:]:
        del given[name]
    # Bounds do not cross.
    for least, most in (("min_price", "max_price"), ("min_total", "max_total"), ("above", "below")):
        if given.get(least) is not None:
            given.pop(most, None)


def mend_body(case):
    if not isinstance(case.body, dict):
        return
    body = case.body = whole(case.body)
    operation = operation_id(case)
    if operation == "ingestOrders" and case.media_type == "application/x-ndjson":
        for item in body["items"]:
            item["unit_price"] = amount(item["unit_price"], body["currency"])
            # The total fits 64 bits.
            item["quantity"] = min(item["quantity"], 1000)
    elif operation == "recordPrice":
        body["price"] = amount(body["price"], body["currency"])
        # Without an id of its own the event has that of a header.
        if body.get("event_id") is None:
            case.headers.setdefault("Idempotency-Key", "k")
        # At most a year ahead.
        body["observed_at"] = min(body["observed_at"], PAST)
    elif operation == "changeOrder":
        # At most 24 hours ahead.
        if body.get("occurred_at"):
            body["occurred_at"] = min(body["occurred_at"], PAST)
    elif operation == "updateStock":
        events = {}
        for update in body["updates"]:
            # At most a day ahead.
            update["occurred_at"] = min(update["occurred_at"], PAST)
            # An event is named once: another one of the product with the same id has other content.
            events.setdefault((update["product_id"], update["event_id"]), update)
        body["updates"] = list(events.values())
    elif operation == "createExport":
        # Which columns and filters there are depends on what a row is.
        rows, filters = body.get("rows"), body.get("filters") or {}
        if body.get("fields"):
            wrong = {"items"} if rows == "items" else ITEM_COLUMNS
            is_known = lambda name: name in EVENT_COLUMNS if rows == "events" else name not in wrong | ONLY_EVENT_COLUMNS
            body["fields"] = [name for name in body["fields"] if is_known(name)] or None
        for name in list(filters):
            if name not in TIME_FILTERS and (name in EVENT_FILTERS) != (rows == "events"):
                del filters[name]
        mend_bounds(filters)
    elif operation == "createClickExport":
        mend_bounds(body.get("filters") or {})


def whole(value):
    """JSON Schema takes 1.0 for an integer; what is to be an integer here is written as one."""
    if isinstance(value, dict):
        return {name: whole(member) for name, member in value.items()}
    if isinstance(value, list):
        return [whole(member) for member in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def amount(value, currency):
    """An amount has no more digits behind the point than its currency."""
    digits = DIGITS.get(currency, 2)
    if not isinstance(value, str):
        return int(value) % 10**9
    whole, point, fraction = value.partition(".")
    whole = whole[-9:]
    return f"{whole}.{fraction[:digits]}" if fraction and digits else whole


def mend_headers(case):
    headers = case.headers
    sent = case.body if isinstance(case.body, bytes) else b""
    if operation_id(case) == "createUpload":
        # The length is told or put off: exactly one of the two.
        if "Upload-Length" in headers:
            headers.pop("Upload-Defer-Length", None)
        else:
            headers["Upload-Defer-Length"] = "1"
    # An upload has room for what is sent with it and after it, and one length from its creation on.
    if "Upload-Length" in headers:
        headers["Upload-Length"] = "100000"
    # The sum of what is sent.
    if "Upload-Checksum" in headers:
        headers["Upload-Checksum"] = "sha1 " + base64.b64encode(hashlib.sha1(sent).digest()).decode()
    # One that was made up is no event that a stream had.
    headers.pop("Last-Event-ID", None)
    # The same key with other content is a conflict: a key of its own for each content.
    if "Idempotency-Key" in headers:
        content = repr((case.formatted_path, case.body, sorted(headers.items()))).encode()
        headers["Idempotency-Key"] = hashlib.sha256(content).hexdigest()
    if "Upload-Metadata" in headers:
        names = [pair.split(" ")[0] for pair in headers["Upload-Metadata"].split(",")]
        if len(set(names)) < len(names) or "idempotency_key" in names:
            del headers["Upload-Metadata"]
