"""What a person points at, as maps that lie over the picture's features.

B pictures, P points, K maps, H and W the picture's size, h and w that at stride 4.
"""

import torch
from torch import Tensor
from torch.nn import functional

from model.core.prompt_contract import BOX_END, BOX_START, ON_BACKGROUND, ON_OBJECT

STRIDE = 4
NEAR, FAR = 5.0, 28.0  # pixels: how far a click reaches in its two maps
NOWHERE = 1e9  # the squared distance of a click that is none
PROMPT_MAPS = 8  # K


def draw_prompts(points: Tensor, labels: Tensor, previous: Tensor) -> Tensor:
    """Return maps (B, K, h, w), 0 to 1, of points (B, P, 2), labels (B, P), previous (B, H, W).

    Clicks on the object near and far, those on something else likewise, inside of the box, that
    there is a box, the mask so far, that there is one. `previous` is 0 to 1.
    """
    soft = functional.avg_pool2d(previous[:, None], STRIDE)  # (B, 1, h, w)
    height, width = soft.shape[-2:]
    rows = torch.arange(height, device=soft.device, dtype=torch.float32) * STRIDE + 1.5
    columns = torch.arange(width, device=soft.device, dtype=torch.float32) * STRIDE + 1.5
    maps = [*draw_clicks(points, labels == ON_OBJECT, rows, columns)]
    maps += [*draw_clicks(points, labels == ON_BACKGROUND, rows, columns)]
    box, given = draw_box(points, labels, rows, columns)
    everywhere = torch.ones_like(soft[:, 0])
    has_mask = (soft.amax(dim=(1, 2, 3)) > 0).float()
    maps += [box, given[:, None, None] * everywhere]
    maps += [soft[:, 0], has_mask[:, None, None] * everywhere]
    return torch.stack(maps, dim=1)


def draw_clicks(
    points: Tensor, wanted: Tensor, rows: Tensor, columns: Tensor
) -> tuple[Tensor, Tensor]:
    """Return two maps (B, h, w) that are 1 at the points that are `wanted` and fall off around."""
    down = (rows[None, None] - points[..., 1:]) ** 2  # (B, P, h)
    across = (columns[None, None] - points[..., :1]) ** 2  # (B, P, w)
    none = torch.where(wanted, 0.0, NOWHERE)[..., None, None]
    nearest = (down[..., :, None] + across[..., None, :] + none).amin(dim=1)  # (B, h, w)
    near = torch.exp(nearest * (-0.5 / NEAR**2))
    return near, torch.exp(nearest * (-0.5 / FAR**2))


def draw_box(
    points: Tensor, labels: Tensor, rows: Tensor, columns: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the map (B, h, w) of the inside of each box, and whether there is one, (B,)."""
    start, end = labels == BOX_START, labels == BOX_END  # (B, P)
    given = (start.any(dim=1) & end.any(dim=1)).float()
    first = (points * start[..., None]).sum(dim=1)  # (B, 2)
    last = (points * end[..., None]).sum(dim=1)
    sides = []
    for axis, places in ((1, rows), (0, columns)):
        low = (places[None] - first[:, axis, None]) / STRIDE + 0.5
        high = (last[:, axis, None] - places[None]) / STRIDE + 0.5
        sides.append(low.clamp(0, 1) * high.clamp(0, 1))
    return sides[0][:, :, None] * sides[1][:, None, :] * given[:, None, None], given
