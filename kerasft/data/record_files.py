"""TFRecord files: where each record stands, and what it holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from kerasft.data.current_read import begins
from kerasft.errors import UserError


@dataclass(frozen=True)
class Spot:
    """Where a record stands: its file, and the offset and length of its content in bytes."""

    path: str
    offset: int
    length: int


def scan(path: Path) -> Iterator[tuple[Spot, bytes]]:
    """Walk the records of a file: where each stands, and what it holds.

    Args:
        path: A TFRecord file, uncompressed.

    Yields:
        The `Spot` and the content of each record.

    Raises:
        UserError: If the file is no TFRecord file, is compressed, or is cut short.
    """
    begins(path)
    size, offset, number = path.stat().st_size, 0, 0
    with open(path, "rb") as file:
        if size >= 2 and file.read(2) in (b"\x1f\x8b", b"\x78\x9c"):
            raise UserError(
                f"{path} is compressed. Unpack it (gunzip), so that records can be read in any "
                "order."
            )
        file.seek(0)
        while offset < size:
            head = file.read(12)
            length = int.from_bytes(head[:8], "little")
            if len(head) == 12 and _masked_crc(head[:8]) != int.from_bytes(head[8:], "little"):
                what = "is no TFRecord file" if number == 0 else "is broken"
                raise UserError(
                    f"{path} {what}: the checksum of record {number:,} at byte {offset:,} is "
                    "wrong. Write the file again, or leave it out."
                )
            if len(head) < 12 or offset + 16 + length > size:
                raise UserError(
                    f"{path} is cut short: record {number:,} at byte {offset:,} should go on "
                    f"beyond the file's {size:,} bytes. Write or copy the file again."
                )
            content = file.read(length)
            file.read(4)
            yield Spot(str(path), offset + 12, length), content
            offset += 16 + length
            number += 1


@lru_cache(maxsize=1)
def _crc_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)


def _masked_crc(data: bytes) -> int:
    """Return the CRC-32C of `data` in the form that TFRecord keeps it in."""
    crc, table = 0xFFFFFFFF, _crc_table()
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
