"""Orders and events for the programs of this folder. A number always gives the same row."""

import calendar
import json
import time
import zlib

# The times of the rows are in the past for any clock, so no server refuses them as too far ahead.
START_S = calendar.timegm((2024, 1, 1, 0, 0, 0))
# Orders that share a second. Their sequence in a search depends on more than the time.
PER_SECOND = 3
FIRST = ("Ann", "Bob", "Carla", "Dev", "Eva", "Farid", "Grace", "Hugo", "Ines", "Jun")
LAST = ("Smith", "Jones", "Novak", "Okafor", "Silva", "Tanaka", "Weber", "Yilmaz", "Zhang", "Costa", "Dubois")
STATUSES = ("pending", "paid", "shipped", "delivered")
TYPES = ("click", "view", "search", "cart")
PIECE_BYTES = 1 << 16


def time_of(number):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(START_S + number // PER_SECOND))


def items_of(number):
    """Returns product, quantity and price in cents of one to three items."""
    return [
        ((number * 31 + place * 7) % 997, 1 + (number + place) % 4, 100 + (number * 7919 + place * 104729) % 20000)
        for place in range(1 + number % 3)
    ]


def order_of(run, tenant, number, named=None):
    """Returns a line with an order of the category `load-RUN`. `tenant` is JSON already. The customer depends on the
    number unless one is named."""
    items = ",".join(
        f'{{"product_id":"p-{product}","category":"load-{run}","quantity":{quantity},'
        f'"unit_price":"{cents // 100}.{cents % 100:02}"}}'
        for product, quantity, cents in items_of(number)
    )
    customer = number * 2654435761 % 50021 if named is None else zlib.crc32(named.encode())
    named = named or f"c-{customer}"
    first, last = FIRST[customer % len(FIRST)], LAST[customer % len(LAST)]
    return (
        f'{{"order_id":"{run}-{number:09}","tenant_id":{tenant},"customer_id":"{named}",'
        f'"customer_name":"{first} {last}","customer_email":"{first}.{last}.{customer}@example.com",'
        f'"status":"{STATUSES[number % 4]}","currency":"USD","ordered_at":"{time_of(number)}","items":[{items}]}}\n'
    )


def pieces_of(run, tenant, numbers):
    """Generates the orders as pieces of about 64 KiB that end with a line. No more than one piece is in memory."""
    tenant, lines, size = json.dumps(tenant), [], 0
    for number in numbers:
        line = order_of(run, tenant, number)
        lines.append(line)
        size += len(line)
        if size >= PIECE_BYTES:
            yield "".join(lines).encode()
            lines, size = [], 0
    if lines:
        yield "".join(lines).encode()


def event_of(run, tenant, number):
    """Returns an event of the source `load-RUN`."""
    return {
        "event_id": f"{run}-{number:09}",
        "tenant_id": tenant,
        "source": f"load-{run}",
        "event_type": TYPES[number % len(TYPES)],
        "timestamp": time_of(number),
        "payload": {"page": f"/products/{number % 997}", "position": number % 20, "session": f"s-{number % 7919}"},
    }
