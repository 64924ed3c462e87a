"""What is changed at random: small right inputs of every kind that the service reads."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

import numpy as np
from PIL import Image

from model.core.encoding import encode_polygons, encode_rle
from model.core.memory import Memory
from service.store.records import EncodedEntry, FrameMasks, ObjectMask, Session, Snapshot
from tests.support import scene

SIZE: Final = (scene.HEIGHT, scene.WIDTH)
NOW: Final = datetime(2030, 1, 1, tzinfo=UTC)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Return the image as Pillow saves it."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@cache
def mask_images() -> list[bytes]:
    """Return masks of two objects: palette, gray of 1, 8 and 16 bits, flat colors, with alpha."""
    labels = scene.labels(0, objects=2)
    gray = Image.fromarray(labels)
    soft = Image.fromarray((labels == 1).astype(np.uint8) * 255).resize((64, 48)).resize(SIZE[::-1])
    colors = Image.fromarray(scene.picture(0, objects=2) * (labels > 0)[..., None])
    return [
        scene.mask(objects=2),
        saved(gray, "PNG"),
        saved(Image.fromarray(labels == 1), "PNG"),
        saved(Image.fromarray(labels.astype(np.uint16)), "PNG"),
        saved(soft, "PNG"),
        saved(colors, "PNG"),
        saved(colors.convert("RGBA"), "PNG"),
        saved(gray.convert("LA"), "PNG"),
        saved(colors.quantize(8), "PNG", transparency=0),
    ]


@cache
def jpegs() -> list[bytes]:
    """Return a frame as JPEG: plain, progressive, gray, CMYK, turned by EXIF."""
    rgb = Image.fromarray(scene.picture(1, objects=2))
    turned = Image.Exif()
    turned[0x0112] = 6
    return [
        scene.jpeg(1, objects=2),
        saved(rgb, "JPEG", progressive=True),
        saved(rgb.convert("L"), "JPEG"),
        saved(rgb.convert("CMYK"), "JPEG"),
        saved(rgb, "JPEG", exif=turned),
    ]


@cache
def frame_pngs() -> list[bytes]:
    """Return a frame as PNG, with alpha too."""
    rgb = Image.fromarray(scene.picture(1, objects=2))
    return [
        scene.png(1, objects=2),
        saved(rgb.convert("RGBA"), "PNG"),
        saved(rgb, "PNG", dpi=(9, 9)),
    ]


@cache
def webps() -> list[bytes]:
    """Return a frame as WebP: lossy, lossless, with alpha, with metadata."""
    rgb = Image.fromarray(scene.picture(1, objects=2))
    return [
        saved(rgb, "WEBP"),
        saved(rgb, "WEBP", lossless=True),
        saved(rgb.convert("RGBA"), "WEBP"),
        saved(rgb, "WEBP", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0"),
    ]


@cache
def videos() -> list[bytes]:
    """Return three frames as MP4, MOV and WebM."""
    return [scene.video(range(1, 4), kind=kind) for kind in ("mp4", "mov", "webm")]


@cache
def objects() -> list[list[dict[str, Any]]]:
    """Return lists of objects in every shape that is read."""
    mask = scene.labels(0) == 1
    rle = encode_rle(mask)
    return [
        [{"id": 1, "rle": dict(rle), "label": "cup"}, {"id": 2, "box": [8, 56, 32, 32]}],
        [{"id": 3, "polygons": encode_polygons(mask)}],
        [{"id": 254, "rle": {"size": list(SIZE), "counts": [100, 50, SIZE[0] * SIZE[1] - 150]}}],
        [{"id": 7, "polygons": [[1.5, 2, 60, 3, 30, 70], [80, 80, 90, 80, 90, 90]], "label": "ö"}],
    ]


@cache
def boxes() -> list[list[float]]:
    """Return a box."""
    return [[8, 8, 40.5, 40]]


@cache
def options() -> list[dict[str, Any]]:
    """Return options of a session."""
    return [
        {"model": "toy", "clip_length": 2, "memory_size": 3, "labels": {"1": "cup"}},
        {"memory_gate": True},
        {},
    ]


def session() -> Session:
    """Return a session as the store keeps it."""
    return Session(
        session_id="s",
        model="toy",
        weights_sha256="0" * 64,
        frame_size=SIZE,
        model_size=SIZE,
        object_ids=(3, 9),
        labels={3: "boat"},
        clip_length=2,
        memory_size=4,
        memory=Memory.start(0, [3, 9], capacity=4).remember(2, [3, 9]),
        next_frame=3,
        snapshots=(Snapshot(0, corrected=True), Snapshot(2)),
        state="2.state",
    )


MASKS: Final = FrameMasks(
    frame=7,
    clip=(6, 7),
    digest="ab" * 32,
    objects=(ObjectMask(3, "counts`\\o", 12, (1, 2, 3, 4), 0.75, "visible"),),
)
ENTRY: Final = EncodedEntry(b"frame" * 20, b"masks" * 30, (3, 9))


@cache
def forms() -> list[bytes]:
    """Return multipart bodies with the boundary `frontier`."""
    disposition = b'--frontier\r\nContent-Disposition: form-data; name="%s"; filename="a"\r\n'
    part = disposition + b"Content-Type: image/png\r\n\r\n%s\r\n"
    small = b"\x89PNG" + bytes(range(40))
    return [
        part % (b"frame", small) + part % (b"mask", small) + b"--frontier--\r\n",
        b"".join(part % (b"frames", small) for _ in range(4)) + b"--frontier--\r\n",
        part % (b"options", b"{}") + part % (b"frame", b"\r\n--front") + b"--frontier--\r\n",
    ]
