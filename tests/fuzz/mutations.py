"""Bytes, texts and JSON that were right once, changed at random: the same seed, the same changes.

Blind changes end at the first checksum, so those of a PNG are made right again most of the time.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Sequence
from contextlib import suppress
from random import Random
from typing import Any, Final

INTERESTING: Final = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFF_FFFF, 0xFFFF_FFFF)
WORDS: Final = (
    *("NaN", "Infinity", "-Infinity", "null", "true", "[]", "{}", '""', "-0", "1e999", "1e-999"),
    *("9" * 400, "0x10", "1_0", '"\\ud800"', '"\\u0000"', "[" * 2000, '{"a":' * 500),
)
VALUES: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, -1, 1, 255, 256, 2**31, 2**63, 2**64, 10**400, 0.5, -0.0, 1e308),
    *(
        float("nan"),
        float("inf"),
        "",
        "\0",
        "\ud800",
        "\u0661",
        "a" * 5000,
        [],
        {},
        [[]],
        [None],
        {"": 0},
    ),
    *([0] * 3000, [[0.5] * 6] * 300, {"size": [1, 1], "counts": "1"}, [-1, -1, 1e9, 1e9]),
)
MAX_BYTES: Final = 200_000  # repeated changes must not grow an input without end


def change_bytes(random: Random, samples: Sequence[bytes]) -> bytes:
    """Return one of the samples, changed in one to eight places; seldom as it is."""
    data = bytearray(random.choice(samples))
    for _ in range(random.choice((0, 1, 1, 1, 2, 2, 3, 5, 8))):
        _change_once(random, data, samples)
    return bytes(data[:MAX_BYTES])


def _change_once(random: Random, data: bytearray, samples: Sequence[bytes]) -> None:
    at = random.randrange(len(data) + 1)
    end = min(len(data), at + random.choice((1, 2, 4, 8, 64, 1024)))
    match random.randrange(9):
        case 0:
            data[at:end] = random.randbytes(end - at)
        case 1 if at < len(data):
            data[at] ^= 1 << random.randrange(8)
        case 2:
            del data[at:]
        case 3:
            del data[at:end]
        case 4:
            data[at:at] = data[at:end] * random.choice((1, 2, 16))
        case 5:
            other = random.choice(samples)
            data[at:] = other[random.randrange(len(other) + 1) :]
        case 6:
            size = random.choice((1, 2, 4, 8))
            number = random.choice(INTERESTING) % 256**size
            data[at : at + size] = number.to_bytes(size, random.choice(("big", "little")))
        case 7:
            data[at:at] = random.randbytes(random.choice((1, 4, 64)))
        case _:
            data += random.randbytes(random.choice((1, 16)))


def change_png(random: Random, samples: Sequence[bytes]) -> bytes:
    """Return a changed PNG, by chunks too, whose checksums are right in nine cases of ten."""
    if random.random() < 0.3:
        changed = change_bytes(random, samples)
    else:
        chunks = _chunks_of(random.choice(samples))
        for _ in range(random.choice((1, 1, 2, 3))):
            _change_chunks(random, chunks, samples)
        joined = (struct.pack(">I4s", len(body), kind) + body + bytes(4) for kind, body in chunks)
        changed = b"\x89PNG\r\n\x1a\n" + b"".join(joined)
    return _right_checksums(changed) if random.random() < 0.9 else changed


def _change_chunks(
    random: Random, chunks: list[tuple[bytes, bytes]], samples: Sequence[bytes]
) -> None:
    at = random.randrange(len(chunks) + 1)
    match random.randrange(5):
        case 0 if at < len(chunks):
            del chunks[at]
        case 1:
            chunks.insert(at, random.choice(_chunks_of(random.choice(samples))))
        case 2:
            kinds = (
                b"IHDR",
                b"PLTE",
                b"tRNS",
                b"iCCP",
                b"zTXt",
                b"eXIf",
                b"acTL",
                b"gAMA",
                b"ABCD",
            )
            chunks.insert(at, (random.choice(kinds), random.randbytes(random.randrange(40))))
        case 3 if at < len(chunks) and chunks[at][0] == b"IDAT":
            with suppress(zlib.error):  # it was changed before
                pixels = zlib.decompressobj().decompress(chunks[at][1], MAX_BYTES)
                chunks[at] = b"IDAT", zlib.compress(change_bytes(random, [pixels]))
        case _ if at < len(chunks):
            kind, body = chunks[at]
            chunks[at] = kind, change_bytes(random, [body])
        case _:
            random.shuffle(chunks)
    if not chunks:
        chunks.append((b"IEND", b""))


def _chunks_of(png: bytes) -> list[tuple[bytes, bytes]]:
    """Return the chunks of a PNG that is right."""
    found, at = [], 8
    while at < len(png):
        length, kind = struct.unpack_from(">I4s", png, at)
        found.append((kind, png[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def _right_checksums(png: bytes) -> bytes:
    """Return the bytes with the checksum of each chunk as far as they can be walked."""
    data, at = bytearray(png), 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        if at + 12 + length > len(data):
            break
        checksum = zlib.crc32(memoryview(data)[at + 4 : at + 8 + length])
        struct.pack_into(">I", data, at + 8 + length, checksum)
        at += 12 + length
    return bytes(data)


def change_json(random: Random, samples: Sequence[Any]) -> bytes:
    """Return JSON text of a changed sample: values exchanged, keys repeated, the text itself."""
    value = json.loads(json.dumps(random.choice(samples)))
    for _ in range(random.choice((0, 1, 1, 2, 4))):
        value = change_value(random, value)
    text = json.dumps(value)
    if random.random() < 0.3:
        at = random.randrange(len(text) + 1)
        text = text[:at] + random.choice(WORDS) + text[at + random.choice((0, 1, 3)) :]
    if random.random() < 0.05:
        text = text.replace("{", f'{{"{random.choice(("id", "type", "frame", "size"))}":1,', 1)
    data = text.encode()
    return change_bytes(random, [data]) if random.random() < 0.2 else data[:MAX_BYTES]


def change_value(random: Random, value: Any) -> Any:
    """Return the value with one place of it, at any depth, replaced, repeated or left out."""
    if isinstance(value, dict) and value and random.random() < 0.8:
        name = random.choice(sorted(value))
        changed = change_value(random, value[name])
        renamed = random.choice((name, name, name, "other", str(random.choice(INTERESTING))))
        kept = {key: each for key, each in value.items() if key != name}
        return kept if random.random() < 0.1 else {**kept, renamed: changed}
    if isinstance(value, list) and value and random.random() < 0.8:
        at = random.randrange(len(value))
        middle = [] if random.random() < 0.1 else [change_value(random, value[at])]
        return [*value[:at], *middle * random.choice((1, 1, 1, 2, 50)), *value[at + 1 :]]
    if isinstance(value, int | float) and abs(value) < 1e300 and random.random() < 0.5:
        return random.choice((value + 1, -value, value * 1000, value + 0.5))
    if isinstance(value, str) and random.random() < 0.5:
        text = change_bytes(random, [value.encode("utf-8", "surrogatepass")])
        return text.decode("utf-8", "replace")
    return random.choice(VALUES)
