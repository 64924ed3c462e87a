"""The decoder's shortcuts against what they stand for.

B sessions, L frames of a clip, O objects, X = B * L * O, T tokens, C channels.
"""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from model.networks.tamvt.mask_decoder import DecoderLayer, FoldedAttention, MaskDecoder
from model.networks.tamvt.pixel_decoder import Pyramid

C, FINE, HEADS = 32, 24, 8
CLIP = (1, 2, 3)  # B, L, O


def shaken(module: nn.Module) -> nn.Module:
    """The module with every parameter random, biases and norms included."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module.eval()


@pytest.fixture
def decoder() -> MaskDecoder:
    decoder = MaskDecoder(C, FINE, layers=4, heads=HEADS, feedforward=48, dropout=0.1)
    shaken(decoder)
    return decoder


@pytest.fixture
def pyramid() -> Pyramid:
    frames = CLIP[0] * CLIP[1] * CLIP[2]
    sizes = ((C, 2, 3), (C, 4, 5), (C, 7, 10), (FINE, 14, 19))
    return Pyramid(*(torch.randn(frames, *size) for size in sizes))


def torch_attention(ours: FoldedAttention) -> nn.MultiheadAttention:
    """PyTorch's own attention with the same parameters."""
    theirs = nn.MultiheadAttention(C, HEADS, batch_first=True).eval()
    theirs.load_state_dict(ours.state_dict())
    return theirs


@pytest.mark.parametrize("queries", [1, 4])
def test_folded_attention_is_multi_head_attention(queries: int) -> None:
    ours = FoldedAttention(C, HEADS, dropout=0.1)
    shaken(ours)
    query, tokens, place = torch.randn(6, queries, C), torch.randn(6, 11, C), torch.randn(11, C)
    expected, _ = torch_attention(ours)(query, tokens + place, tokens, need_weights=False)
    torch.testing.assert_close(ours(query, tokens, place), expected)


def test_the_folded_head_is_a_convolution_and_a_dot_product(decoder: MaskDecoder) -> None:
    state = torch.randn(*CLIP, C)
    fine = torch.randn(6, FINE, 14, 19)
    token = decoder.norm(state)
    for linear in decoder.mask_mlp[:-1]:
        token = functional.relu(linear(token))
    token = decoder.mask_mlp[-1](token).flatten(0, 2)
    expected = torch.einsum("xc,xchw->xhw", token, decoder.mask_features(fine))
    logits = decoder.predict_masks(state, fine)
    assert logits.shape == (*CLIP, 14, 19)
    torch.testing.assert_close(logits.flatten(0, 2), expected, atol=1e-4, rtol=1e-4)


def test_a_layer_attends_to_its_clip_then_its_frame_then_itself() -> None:
    layer = DecoderLayer(C, HEADS, feedforward=48, dropout=0.1)
    shaken(layer)
    state, code = torch.randn(*CLIP, C), torch.randn(CLIP[1], C)
    tokens, place = torch.randn(6, 11, C), torch.randn(11, C)
    to_clip, to_frame = map(torch_attention, (layer.self_attention, layer.cross_attention))
    frames = tokens.unflatten(0, CLIP)
    after = layer(state, code, tokens, place)
    for o in range(CLIP[2]):
        x = state[:, :, o]  # (B, L, C)
        x = layer.norm_self(x + to_clip(x + code, x + code, x, need_weights=False)[0])
        query, seen = (x + code).flatten(0, 1)[:, None], frames[:, :, o].flatten(0, 1)
        y = to_frame(query, seen + place, seen, need_weights=False)[0].view_as(x)
        x = layer.norm_cross(x + y)
        x = layer.norm_mlp(x + layer.linear2(functional.relu(layer.linear1(x))))
        torch.testing.assert_close(after[:, :, o], x, atol=1e-5, rtol=1e-4)


def test_every_layer_has_its_logits_and_the_last_is_the_answer(
    decoder: MaskDecoder, pyramid: Pyramid
) -> None:
    layers = decoder(pyramid, CLIP, every_layer=True)
    assert [tuple(logits.shape) for logits in layers] == [(*CLIP, 14, 19)] * 4
    (last,) = decoder(pyramid, CLIP)
    torch.testing.assert_close(last, layers[-1])


def test_objects_do_not_see_each_other(decoder: MaskDecoder, pyramid: Pyramid) -> None:
    (together,) = decoder(pyramid, CLIP)

    def of_object(feature: Tensor, o: int) -> Tensor:
        return feature.unflatten(0, CLIP)[:, :, o].flatten(0, 1)

    for o in range(CLIP[2]):
        alone = Pyramid(*(of_object(feature, o) for feature in pyramid))
        (logits,) = decoder(alone, (CLIP[0], CLIP[1], 1))
        torch.testing.assert_close(together[:, :, [o]], logits, atol=1e-4, rtol=1e-4)
