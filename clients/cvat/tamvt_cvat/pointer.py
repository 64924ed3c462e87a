"""CVAT's interaction function: clicks and a box to a mask.

    cvat-cli --server-host ... function create-native "TAM-VT points" \
        --function-module tamvt_cvat.pointer
"""

from __future__ import annotations

import cvat_sdk.auto_annotation as cvataa
import PIL.Image
from cvat_sdk.masks import encode_mask

from tamvt_client import Client, PointPrompt
from tamvt_cvat.service import encode_picture, open_client, told_to_cvat


class Pointer:
    """The function that CVAT's agent calls."""

    spec = cvataa.InteractionFunctionSpec(min_pos_points=1, min_neg_points=0, min_bounding_boxes=0)

    def __init__(self, client: Client) -> None:
        self._client = client

    def preprocess_image(
        self, context: cvataa.InteractionFunctionContext, image: PIL.Image.Image
    ) -> bytes:
        """Encode an image once for all clicks on it."""
        return encode_picture(image)

    def detect(
        self,
        context: cvataa.InteractionFunctionContext,
        pp_image: bytes,
        prompts: cvataa.InteractionPrompts,
    ) -> list[cvataa.InteractionResultShape]:
        """Return the mask that the clicks mean."""
        points = [
            *(PointPrompt(x=x, y=y, label=1) for x, y in prompts.pos_points),
            *(PointPrompt(x=x, y=y, label=0) for x, y in prompts.neg_points),
        ]
        box = None
        if prompts.bounding_box is not None:
            (left, top), (right, bottom) = prompts.bounding_box
            box = (left, top, right - left, bottom - top)
        with told_to_cvat("the clicks gave no mask"):
            found = self._client.refine(pp_image, box, points=points)
        return [cvataa.InteractionResultShape(type="mask", points=encode_mask(found.mask()))]


def create(url: str | None = None) -> Pointer:
    """Return the function; `cvat-cli` hands over what `-p` names."""
    return Pointer(open_client(url))
