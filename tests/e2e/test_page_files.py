"""A person's own files on the page: every frame is tracked, and what is saved fits the files."""

from __future__ import annotations

import contextlib
import io
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from PIL import Image
from playwright.async_api import FilePayload, Page, expect
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO

from model.core.encoding import decode_rle
from model.core.image_headers import ImageLimits
from model.core.j_and_f import jaccard
from service.media.formats.registry import read_annotations
from tests.support import scene
from tests.support.page import (
    CUP,
    FRAMES,
    begin_at,
    download,
    labels,
    open_images,
    open_video,
    paint,
    track,
    zipped_masks,
)

pytestmark = pytest.mark.anyio

# What is read of what is downloaded: the file, or what is in the ZIP.
OTHER_FILES = {
    "cvat": "annotations.xml",
    "coco-video": "video.json",
    "mots": "video.txt",
    "label-studio": "images.json",
    "yolo": "",
    "youtube-vos": "",
    "davis": "",
    "cutouts": "",
}


async def test_a_video_file_is_tracked(page: Page) -> None:
    video = FilePayload(name="square.webm", mimeType="video/webm", buffer=film())
    await page.locator("#video-file").set_input_files(video)
    await expect(page.locator("#counter")).to_have_text("1 / 12")
    await paint(page, (24, 24), (26, 26))
    await track(page)
    masks = await zipped_masks(page)
    assert len(masks) == 12
    assert jaccard(masks["00011.png"] == 1, scene.labels(11) == 1) > 0.8


async def test_images_are_tracked_in_the_order_of_their_names(page: Page) -> None:
    images = [
        FilePayload(name=f"{number}.png", mimeType="image/png", buffer=scene.png(number))
        for number in (10, 2, 0)
    ]
    # A folder cannot be handed to the browser from memory; its files can.
    await page.locator("#image-files").evaluate("(input) => { input.webkitdirectory = false; }")
    await page.locator("#image-files").set_input_files(images)
    await expect(page.locator("#counter")).to_have_text("1 / 3")
    await paint(page, (24, 24), (26, 26))
    await track(page)
    masks = await zipped_masks(page)
    assert jaccard(masks["10.png"] == 1, scene.labels(10) == 1) > 0.8


async def test_a_video_of_varying_rate_is_tracked_frame_by_frame(page: Page) -> None:
    data, times = scene.varied_video([0.1] * 8 + [1 / 59] * 10, kind="mp4")
    await open_video(page, "uneven.mp4", data)
    await expect(page.locator("#counter")).to_have_text(f"1 / {len(times)}")
    await paint(page, (24, 24), (26, 26))
    await track(page)
    masks = await zipped_masks(page)
    assert len(masks) == len(times)
    assert jaccard(masks["00017.png"] == 1, scene.labels(17) == 1) > 0.8


async def test_a_video_of_one_frame_opens_and_is_told_to_be_one(page: Page) -> None:
    await open_video(page, "still.mp4", scene.varied_video([0.04], kind="mp4")[0])
    await expect(page.locator("#counter")).to_have_text("1 / 1")
    await paint(page, (24, 24), (26, 26))
    await track(page)
    assert list(await zipped_masks(page)) == ["00000.png"]


async def test_a_video_that_was_cut_is_tracked_as_far_as_it_goes(page: Page) -> None:
    data, times = scene.varied_video([0.04] * 24, kind="webm")
    await open_video(page, "cut.webm", data[: len(data) * 3 // 4])
    await expect(page.locator("#status")).to_contain_text("cut.webm is cut off after frame ")
    await paint(page, (24, 24), (26, 26))
    await track(page)
    assert 4 <= len(await zipped_masks(page)) < len(times)


def cut(data: bytes) -> bytes:
    """The beginning of a file: of one that begins with its index, with most of its pictures."""
    return data[: len(data) * 3 // 4]


def scratched(data: bytes) -> bytes:
    """A file with nothing in a tenth of its pictures."""
    begin, step = data.index(b"mdat"), len(data) // 10
    middle = begin + (len(data) - begin) * 6 // 10
    return data[:middle] + bytes(step) + data[middle + step :]


@pytest.mark.parametrize("harm", [cut, scratched])
async def test_a_film_that_is_damaged_says_where_and_what_is_tracked(
    page: Page, harm: Callable[[bytes], bytes]
) -> None:
    data, times = scene.varied_video([0.04] * 72, kind="mp4")
    await open_video(page, "film.mp4", harm(data))
    await expect(page.locator("#counter")).not_to_have_text(f"1 / {FRAMES}")
    await paint(page, (24, 24), (26, 26))
    await track(page)
    status = str(await page.locator("#status").text_content())
    said = re.match(
        r"film\.mp4 is (?:damaged at|cut off after) frame (\d+): .*tracked before that: (\d+)\.",
        status,
    )
    assert said is not None, status
    assert "Done" not in status
    tracked = int(said[2])
    assert 0 <= int(said[1]) - tracked <= 1
    assert 10 < tracked < len(times)
    masks = await zipped_masks(page)
    assert len(masks) == tracked
    assert jaccard(masks[f"{tracked - 1:05d}.png"] == 1, scene.labels(tracked - 1) == 1) > 0.8


async def test_a_film_whose_index_is_cut_off_is_said_to_be(page: Page) -> None:
    data, _ = scene.varied_video([0.04] * 12, kind="mp4", movflags="+disable_chpl")
    for end in (len(data) * 3 // 4, data.index(b"moov") - 4):
        await open_video(page, "film.mp4", data[:end])
        await expect(page.locator("#status")).to_contain_text("film.mp4 is cut off: its index")


@pytest.mark.parametrize("kind", ["video", "images"])
async def test_a_broken_file_is_named_and_leaves_what_was_open(page: Page, kind: str) -> None:
    await begin_at(page, 48)
    drawn = await labels(page)
    if kind == "video":
        await open_video(page, "no film.mp4", b"nothing to see")
    else:
        await open_images(page, **{"no picture.png": b"nothing to see"})
    name = {"video": "no film.mp4", "images": "no picture.png"}[kind]
    await expect(page.locator("#status")).to_contain_text(f"{name} cannot be ")
    assert np.array_equal(await labels(page), drawn)
    await expect(page.locator("#gallery [aria-pressed=true]")).to_contain_text("A cup that")
    await track(page)


@pytest.mark.parametrize("codec", ["libx265", "mpeg4"])
async def test_a_codec_that_the_browser_lacks_is_told_with_the_way_out(
    page: Page, codec: str
) -> None:
    film = io.BytesIO()
    with av.open(film, "w", format="mp4") as container:
        stream = container.add_stream(codec, rate=24)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for number in range(4):
            frame = av.VideoFrame.from_ndarray(scene.picture(number), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    await open_video(page, "phone.mp4", film.getvalue())
    said = page.locator("#status")
    await expect(said).to_contain_text("phone.mp4 cannot be played by this browser")
    await expect(said).to_contain_text("Convert it to MP4 (H.264)")
    await expect(said).to_contain_text("tamvt track")


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
async def test_masks_have_the_names_and_the_sizes_of_the_images(page: Page) -> None:
    large = [cv2.resize(scene.picture(n), (1024, 768)).astype(np.uint8) for n in range(3)]
    names = ["Bild 2.PNG", "Bild 10.PNG", "Bild 11.png"]
    encoded = [scene.encode(picture, ".png") for picture in large]
    await open_images(page, **dict(zip(names, encoded, strict=True)), **{"._Bild 2.PNG": b"x"})
    await expect(page.locator("#status")).to_contain_text("1 file is left out")
    await page.locator("#size").fill("60")
    await paint(page, (120, 120), (130, 200), (200, 130), (190, 190))
    await track(page)
    masks = await zipped_masks(page)
    assert list(masks) == ["Bild 2.png", "Bild 10.png", "Bild 11.png"]
    assert {mask.shape for mask in masks.values()} == {(768, 1024)}
    truth = cv2.resize(scene.labels(2), (1024, 768), interpolation=cv2.INTER_NEAREST) == 1
    assert jaccard(masks["Bild 11.png"] == 1, truth) > 0.8
    coco = await coco_file(page)
    images = [(image["file_name"], image["height"], image["width"]) for image in coco["images"]]
    assert images == [(name, 768, 1024) for name in names]


async def test_an_image_that_cannot_be_decoded_is_named_and_costs_no_other(page: Page) -> None:
    images = {f"{number}.png": scene.png(number) for number in range(4)}
    await open_images(page, **{**images, "2.png": images["2.png"][:40]})
    await paint(page, (24, 24), (26, 26))
    await track(page)
    await expect(page.locator("#status")).to_contain_text("2.png cannot be decoded")
    assert list(await zipped_masks(page)) == ["0.png", "1.png", "3.png"]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
async def test_an_object_that_was_removed_is_gone_from_the_picture_and_the_files(
    page: Page,
) -> None:
    await begin_at(page, 52)
    await page.click("#add")
    await paint(page, (560, 40), (600, 60))
    await track(page)
    await page.get_by_label("Remove Object 1").click()
    await expect(page.locator("#objects li")).to_have_count(1)
    for again in (False, True):
        if again:
            await page.reload()
            await expect(page.locator("#status")).to_contain_text("Back where you were")
        masks = await zipped_masks(page)
        assert {number for mask in masks.values() for number in np.unique(mask)} == {0, CUP}
        coco = await coco_file(page)
        assert [category["id"] for category in coco["categories"]] == [CUP]
        assert {item["category_id"] for item in coco["annotations"]} == {CUP}
        await page.locator("#seek").fill("52")
        await expect(page.locator("#counter")).to_have_text(f"53 / {FRAMES}")
        assert not (await labels(page))[35:65, 565:595].any()
    await page.click("#add")
    await expect(page.get_by_label("Name of object 1", exact=True)).to_have_count(0)


async def test_masks_are_saved_in_the_files_of_other_tools(page: Page, tmp_path: Path) -> None:
    images = {f"shot {number}.png": scene.png(number) for number in range(3)}
    await open_images(page, **images)
    await paint(page, (24, 24), (26, 26))
    await track(page)
    masks = await zipped_masks(page)
    for kind, name in OTHER_FILES.items():
        await page.select_option("#format", kind)
        data = await download(page, "#annotations")
        if kind == "cutouts":
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                cutout = Image.open(io.BytesIO(archive.read("shot 2.png")))
            assert np.array_equal(np.asarray(cutout)[..., 3] == 255, masks["shot 2.png"] > 0)
            continue
        folder = tmp_path / kind
        folder.mkdir()
        if data.startswith(b"PK"):
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                archive.extractall(folder)
        else:
            (folder / name).write_bytes(data)
        read = list(read_annotations(folder / name, limits=ImageLimits()).frames)
        for frame, labels_there in zip(read, masks.values(), strict=True):
            assert np.array_equal(frame.labels(), labels_there), kind


async def coco_file(page: Page) -> dict[str, Any]:
    """The COCO file that the page downloads, once pycocotools has read every mask of it."""
    text = await download(page, "#coco")
    read = COCO()
    with contextlib.redirect_stdout(None):
        read.dataset = json.loads(text)
        read.createIndex()
    for annotation in read.loadAnns(read.getAnnIds()):
        image = read.loadImgs(annotation["image_id"])[0]
        mask = read.annToMask(annotation)
        assert mask.shape == (image["height"], image["width"])
        assert mask.sum() == annotation["area"] == coco_masks.area(annotation["segmentation"])
        assert annotation["bbox"] == coco_masks.toBbox(annotation["segmentation"]).tolist()
    return dict(read.dataset)


async def test_the_coco_file_names_the_object_in_every_frame(page: Page) -> None:
    await begin_at(page, 48)
    drawn = await labels(page) > 0
    await page.get_by_label("Name of object 6").fill("Espresso")
    await track(page)
    coco = json.loads(await download(page, "#coco"))
    assert coco["categories"] == [{"id": CUP, "name": "Espresso"}]
    assert len(coco["images"]) == FRAMES - 48
    first = coco["annotations"][0]
    assert np.array_equal(decode_rle(first["segmentation"]), drawn)


async def test_the_film_has_every_frame_at_its_own_time_with_its_mask(page: Page) -> None:
    data, times = scene.varied_video([0.1] * 8 + [1 / 59] * 10, kind="mp4")
    await open_video(page, "uneven.mp4", data)
    await expect(page.locator("#counter")).to_have_text(f"1 / {len(times)}")
    await paint(page, (24, 24), (26, 26))
    await track(page)
    await page.locator("#opacity").fill("100")
    with av.open(io.BytesIO(await download(page, "#film")), "r") as container:
        frames = list(container.decode(video=0))
    assert [frame.time for frame in frames] == pytest.approx(times, abs=0.002)
    for number in (9, 17):
        blue = frames[number].to_ndarray(format="rgb24").astype(int)
        shown = blue[..., 2] - blue[..., 0] > 100  # the object's color
        assert jaccard(shown, scene.labels(number) == 1) > 0.8


async def test_a_film_of_an_even_rate_says_so_and_can_be_played_here(page: Page) -> None:
    await begin_at(page, 10)
    await track(page)
    data = await download(page, "#film")
    with av.open(io.BytesIO(data), "r") as container:
        stream = container.streams.video[0]
        assert stream.average_rate is not None
        assert float(stream.average_rate) == pytest.approx(24, rel=0.01)
        assert float(container.duration or 0) / av.time_base == pytest.approx(50 / 24, abs=0.01)
        assert len({frame.pts for frame in container.decode(stream)}) == FRAMES - 10
    # The browser seeks in it by its index.
    await open_video(page, "film.webm", data)
    await expect(page.locator("#counter")).to_have_text(f"1 / {FRAMES - 10}")
    await page.locator("#seek").fill("49")
    await expect(page.locator("#counter")).to_have_text("50 / 50")


async def test_a_browser_without_an_encoder_records_the_film(page: Page) -> None:
    await page.evaluate("() => { delete globalThis.VideoEncoder; }")
    await begin_at(page, 54)
    await track(page)
    with av.open(io.BytesIO(await download(page, "#film")), "r") as container:
        sizes = [(frame.width, frame.height) for frame in container.decode(video=0)]
    assert set(sizes) == {(640, 360)}
    assert len(sizes) >= 3


def film() -> bytes:
    """Twelve frames of the walking square."""
    return scene.video(range(12), kind="webm")
