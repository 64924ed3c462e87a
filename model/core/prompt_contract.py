"""The optional third graph of a model, `<name>_prompt`: clicks, a box and a mask so far to a mask.

Its spec is JSON in its metadata (key `PROMPT_METADATA_KEY`); all its weights are in it. Axes: B
pictures, P points, H and W the picture's size as the graph sees it, a multiple of `multiple`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Final

from model.core.contract import ContractError, Tensor

PROMPT_METADATA_KEY: Final = "tamvt_prompt"
# What a point is: on the object, on something else, none, or two corners of a box.
ON_OBJECT, ON_BACKGROUND, PADDING, BOX_START, BOX_END = 1, 0, -1, 2, 3

PROMPT_INPUTS: Final = (
    Tensor("image", "uint8", "BHW3"),
    Tensor("points", "float32", "BP2"),  # x, y in pixels; the first one's center is 0, 0
    Tensor("point_labels", "int32", "BP"),
    Tensor("previous", "uint8", "BHW"),  # soft; all 0: there is none
)
PROMPT_OUTPUTS: Final = (Tensor("mask", "uint8", "BHW"), Tensor("score", "float32", "B"))


@dataclass(frozen=True, slots=True)
class PromptSpec:
    """What a prompt graph says about itself.

    `short_side` is the size that it was trained at; a score below `sure_above` means that it is
    not sure of its mask. `parity` is the largest difference of a soft mask from PyTorch's, of 255.
    """

    name: str
    short_side: int
    weights_sha256: str  # over the values by name, as of the other graphs
    license: str = ""
    max_ratio: float = 2.5
    multiple: int = 32
    sure_above: float = 0.75  # 16 % of masks score less, among them half of those below IoU 0.6
    parameters: int | None = None
    parity: int | None = None

    @property
    def graph(self) -> str:
        """Return the graph's name."""
        return f"{self.name}_prompt"

    def to_json(self) -> str:
        """Return compact JSON with sorted keys."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> PromptSpec:
        """Return the spec in `text`; fields that we do not know are ignored.

        Raise ContractError if it is unfit.
        """
        try:
            raw = json.loads(text)
            spec = cls(**{key: raw[key] for key in cls.__dataclass_fields__ if key in raw})
            sizes = spec.short_side > 0 and spec.multiple > 0 and spec.max_ratio >= 1
            if not sizes or len(spec.weights_sha256) != 64:
                raise ContractError("the metadata of a prompt graph that cannot be")
        except ContractError:
            raise
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ContractError(f"unreadable metadata of a prompt graph: {error!r}") from error
        return spec
