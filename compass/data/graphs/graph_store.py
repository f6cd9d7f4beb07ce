"""Graphs that are built once and read many times: one packed file per dataset.

A training reads every graph in every epoch, and its edges never change. The file is named after the dataset's digest and
appears only when complete, even if several processes write it at once. Every record has a checksum; a record with a wrong
checksum counts as missing. Reading copies one record and maps nothing, because mapped pages would add to the footprint.

A record holds: crc32, n atoms, e edges, bytes per source; then elements (n), ligand flags (n), positions (n, 3), edges per
target (n), sources (e). Edges are sorted by target, so that the counts determine the targets.
"""

from __future__ import annotations

import os
import struct
import weakref
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from compass.data.structures.graphs import Graph
from compass.files import open_file, replacing

SUFFIX = ".graphs"

MAGIC = b"CMPSGR01"
"""Marks our files; ends with the version of the layout and of graph building."""
_HEAD = struct.Struct("<8s16sQQI")
"""magic, digest, records, offset of their table of (offset, size), crc32 of all before it and of the table."""
_RECORD = struct.Struct("<IIII")
_CRC = struct.Struct("<I")
PART = ".part"
"""Suffix of files that are being written."""


def encode(graph: Graph) -> bytes:
    """`graph` as a record."""
    sources = graph.edge_index[0]
    width = 2 if graph.n_nodes <= 1 << 16 else 4
    counts = np.bincount(graph.edge_index[1], minlength=graph.n_nodes)
    body = b"".join(
        (
            graph.elements.astype("<u1").tobytes(),
            graph.is_ligand.astype("<u1").tobytes(),
            graph.positions.astype("<f4").tobytes(),
            counts.astype("<u4").tobytes(),
            sources.astype(f"<u{width}").tobytes(),
        )
    )
    sizes = struct.pack("<III", graph.n_nodes, graph.n_edges, width)
    return struct.pack("<I", zlib.crc32(body, zlib.crc32(sizes))) + sizes + body


def decode(record: bytes) -> Graph | None:
    """The graph of a record, without name and label; None if the record is not whole."""
    if len(record) < _RECORD.size:
        return None
    crc, n, e, width = _RECORD.unpack_from(record)
    if zlib.crc32(memoryview(record)[_CRC.size :]) != crc:
        return None
    at = _RECORD.size
    edge_index = np.empty((2, e), np.int64)
    edge_index[0] = np.frombuffer(record, f"<u{width}", e, at + 18 * n)
    edge_index[1] = np.repeat(np.arange(n), np.frombuffer(record, "<u4", n, at + 14 * n))
    return Graph(
        name="",
        elements=np.frombuffer(record, "<u1", n, at).astype(np.int64),
        is_ligand=np.frombuffer(record, "<u1", n, at + n).astype(np.bool_),
        positions=np.frombuffer(record, "<f4", 3 * n, at + 2 * n).reshape(n, 3).astype(np.float32),
        edge_index=edge_index,
        label=0.0,
    )


class GraphStore:
    """A finished file, open for reading by number. Forks share it; unpickling opens it again."""

    def __init__(self, path: Path, digest: str) -> None:
        """Open `path`.

        Raises:
            OSError: it cannot be read.
            ValueError: it is not a whole store of the dataset with this digest.
        """
        self._path, self._digest = path, digest
        with open_file(path) as file:
            self._fd = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._fd)
        head = self._at(0, _HEAD.size)
        if len(head) < _HEAD.size:
            raise ValueError("too short")
        magic, of, n_records, table_at, crc = _HEAD.unpack(head)
        if (magic, of) != (MAGIC, digest.encode()):
            raise ValueError("of another dataset or version")
        if table_at + 16 * n_records != os.fstat(self._fd).st_size:
            raise ValueError("cut")
        table = self._at(table_at, 16 * n_records)
        if zlib.crc32(table, zlib.crc32(head[: -_CRC.size])) != crc:
            raise ValueError("damaged")
        self._table = np.frombuffer(table, "<u8").reshape(-1, 2)

    def __reduce__(self) -> tuple[Any, ...]:
        return open_store, (self._path, self._digest)

    def read(self, number: int) -> Graph | None:
        """Graph `number`, without name and label; None if it was never written or is damaged."""
        offset, size = map(int, self._table[number])
        return decode(self._at(offset, size)) if size else None

    def _at(self, offset: int, size: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self._fd, size, offset)
        os.lseek(self._fd, offset, os.SEEK_SET)  # Windows has no forks, so no other process moves the position
        return os.read(self._fd, size)


def open_store(path: Path, digest: str) -> GraphStore | None:
    """The store in `path`; None if it is missing or damaged."""
    try:
        return GraphStore(path, digest)
    except (OSError, ValueError):
        return None


def write_store(path: Path, digest: str, n_graphs: int, records: Iterable[tuple[int, bytes]]) -> None:
    """Write the (number, record) pairs as the store `path`, which appears when it is complete.

    Raises:
        OSError: it cannot be written.
    """
    table = np.zeros((n_graphs, 2), "<u8")
    with replacing(path, suffix=PART) as file:
        file.seek(_HEAD.size)
        for number, record in records:
            table[number] = file.tell(), len(record)
            file.write(record)
        rows = table.tobytes()
        head = _HEAD.pack(MAGIC, digest.encode(), n_graphs, file.tell(), 0)
        file.write(rows)
        file.seek(0)
        file.write(head[: -_CRC.size] + _CRC.pack(zlib.crc32(rows, zlib.crc32(head[: -_CRC.size]))))
