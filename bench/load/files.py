"""Counts the rows of an export's file while it arrives, in each format. No more than one row is in memory.

Requires only Python 3.9 or later.
"""

import csv
import zlib

from api import check

try:
    from compression import zstd
except ImportError:
    # Before Python 3.14.
    zstd = None

SUM_MAX = 1 << 64
# A payload may be longer than the module's own limit.
csv.field_size_limit(1 << 30)


class Lines:
    """Lines of NDJSON. Their sum does not depend on their order."""

    def __init__(self):
        self.rest, self.rows, self.sum = b"", 0, 0

    def add(self, piece):
        lines = (self.rest + piece).split(b"\n")
        self.rest = lines.pop()
        for line in lines:
            self.add_line(line)

    def add_line(self, line):
        self.rows += 1
        self.sum = (self.sum + zlib.crc32(line)) % SUM_MAX

    def end(self):
        check(not self.rest, "the file ends in the middle of a line")


class Csv(Lines):
    """Rows of CSV after the header. A line break between quotes is part of its row."""

    def __init__(self, fields):
        super().__init__()
        self.fields, self.row, self.quotes, self.rows = fields, b"", 0, -1

    def add_line(self, line):
        self.row += line + b"\n"
        self.quotes += line.count(b'"')
        if self.quotes % 2:
            return
        found = next(csv.reader([self.row.decode()], strict=True))
        check(len(found) == len(self.fields), f"a row of CSV has {len(found)} columns: {self.row[:200]!r}")
        check(self.rows >= 0 or found == self.fields, f"the header of the CSV is {found}")
        self.row, self.quotes, self.rows = b"", 0, self.rows + 1

    def end(self):
        super().end()
        check(not self.row and self.rows >= 0, "the CSV ends in the middle of a row, or has no header")


class Members:
    """Compressed members or frames, one after the other."""

    def __init__(self, begin, inner):
        self.begin, self.inner, self.member = begin, inner, None

    def add(self, piece):
        while piece:
            self.member = self.member or self.begin()
            self.inner.add(self.member.decompress(piece))
            piece = b""
            if self.member.eof:
                piece, self.member = self.member.unused_data, None

    def end(self):
        check(self.member is None, "the file ends in the middle of a compressed member")
        self.inner.end()

    @property
    def rows(self):
        return self.inner.rows

    @property
    def sum(self):
        return self.inner.sum


class Bytes:
    """A file whose rows are not counted while it arrives."""

    rows = sum = None

    def add(self, piece):
        pass

    def end(self):
        pass


def reader_of(status):
    """Returns the reader for the file of an export."""
    if status["format"] == "parquet":
        return Bytes()
    inner = Lines() if status["format"] == "ndjson" else Csv(status["fields"])
    if status["compression"] == "gzip":
        return Members(lambda: zlib.decompressobj(31), inner)
    if status["compression"] == "zstd":
        return Members(zstd.ZstdDecompressor, inner) if zstd else Bytes()
    return inner


class Thrift:
    """Thrift's compact protocol, as far as the footer of Parquet needs it."""

    def __init__(self, bytes_):
        self.bytes, self.at = bytes_, 0

    def byte(self):
        self.at += 1
        return self.bytes[self.at - 1]

    def varint(self):
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def integer(self):
        value = self.varint()
        return value >> 1 ^ -(value & 1)

    def fields(self):
        """Generates the number and the type of each field. The caller reads or skips its value."""
        number = 0
        while True:
            head = self.byte()
            if head == 0:
                return
            number = number + (head >> 4) if head >> 4 else self.integer()
            yield number, head & 0x0F

    def skip(self, kind, is_element=False):
        if kind in (1, 2):
            # A field of a struct has its truth in its type.
            self.at += is_element
        elif kind == 3:
            self.at += 1
        elif kind in (4, 5, 6):
            self.varint()
        elif kind == 7:
            self.at += 8
        elif kind == 8:
            length = self.varint()
            self.at += length
        elif kind in (9, 10):
            head = self.byte()
            length = head >> 4 if head >> 4 < 15 else self.varint()
            for _ in range(length):
                self.skip(head & 0x0F, is_element=True)
        elif kind == 12:
            for _, inner in self.fields():
                self.skip(inner)
        else:
            check(False, f"the footer of the Parquet file has a value of type {kind}")


def parquet_rows(footer):
    """Returns the number of rows in the footer of a Parquet file (`FileMetaData.num_rows`)."""
    thrift = Thrift(footer)
    try:
        for number, kind in thrift.fields():
            if (number, kind) == (3, 6):
                return thrift.integer()
            thrift.skip(kind)
    except IndexError:
        pass
    check(False, "the footer of the Parquet file has no number of rows")
