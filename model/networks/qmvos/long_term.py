"""Long-term memory: what is used most of old frames, in a few tokens (XMem, section 3.4).

For one session whose objects are known from its first frame, by PyTorch: sessions that are served
are bounded by their bank's slots instead.

O objects, T tokens of a frame, M tokens of all memory, P prototypes, K and V channels.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from model.networks.base import Tensors, raise_logits
from model.networks.qmvos.memory_read import measure_likeness, weigh_tokens
from model.networks.qmvos.model import Qmvos, to_maps, to_tokens

LEAST_READS = 1e-7  # what a token's count of reads begins with


@dataclass(frozen=True, slots=True)
class LongTermLimits:
    """How much is remembered: frames while they work, and tokens of those that were.

    At `working` frames all but the first and the newest are condensed, `left` remain. They become
    `prototypes` tokens; of those at most `tokens` are kept.
    """

    working: int = 10
    left: int = 5
    prototypes: int = 128
    tokens: int = 10_000


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of memory with how much they were used; a prototype has no selection."""

    key: Tensor  # (M, K)
    shrinkage: Tensor  # (M, 1)
    value: Tensor  # (O, M, V)
    used: Tensor  # (M,) attention that each got
    reads: Tensor  # (M,) how often it could have got some
    selection: Tensor | None = None  # (M, K)

    @property
    def usage(self) -> Tensor:
        """Return the attention that each token got a read, (M,)."""
        return self.used / self.reads

    def take(self, index: Tensor | slice) -> "Tokens":
        """Return some of the tokens."""
        selection = None if self.selection is None else self.selection[index]
        return Tokens(
            self.key[index],
            self.shrinkage[index],
            self.value[:, index],
            self.used[index],
            self.reads[index],
            selection,
        )

    def count(self, attention: Tensor) -> "Tokens":
        """Return the tokens after a read in which each got so much attention, (M,)."""
        return Tokens(
            self.key,
            self.shrinkage,
            self.value,
            self.used + attention,
            self.reads + 1,
            self.selection,
        )


@dataclass
class Condensed:
    """What one consolidation chose."""

    prototypes: Tensor  # (P,) places among the candidates, most used first
    survivors: Tensor | None  # bool, of the long-term tokens that were there; None: all stayed


@dataclass
class LongTermMemory:
    """Working frames and prototypes of older ones; reading counts what is used."""

    limits: LongTermLimits
    top_k: int | None
    working: Tokens | None = None
    long_term: Tokens | None = None
    frame_tokens: int = 0
    history: list[Condensed] = field(default_factory=list)

    def remember(self, entry: Tensors, selection: Tensor) -> None:
        """Add a frame: its entry (1, ...) and its selection (1, T, K); condense if it is one more.

        A frame that is added was not read yet.
        """
        key = entry["key_s16"][0]
        self.frame_tokens = len(key)
        new = Tokens(
            key,
            entry["shrinkage_s16"][0],
            entry["value_s16"][0],
            key.new_zeros(len(key)),
            key.new_full((len(key),), LEAST_READS),
            selection[0],
        )
        self.working = new if self.working is None else join_tokens(self.working, new)
        if len(self.working.key) >= self.limits.working * self.frame_tokens:
            self.condense(self.working)

    def read(self, query: Tensor, selection: Tensor) -> Tensor:
        """Return what each object's memory says, (1, O, T, V), of query and selection (1, T, K)."""
        assert self.working is not None, "a frame is remembered before another is read"
        memory = self.working
        if self.long_term is not None:
            memory = join_tokens(self.long_term, memory)
        likeness = measure_likeness(query, selection, memory.key[None], memory.shrinkage[None])
        weights = weigh_tokens(likeness, self.top_k)  # (1, T, M)
        attention = weights[0].sum(dim=0)
        old = 0 if self.long_term is None else len(self.long_term.key)
        if self.long_term is not None:
            self.long_term = self.long_term.count(attention[:old])
        self.working = self.working.count(attention[old:])
        return weights[:, None] @ memory.value[None]

    def condense(self, working: Tokens) -> None:
        """Turn all but the first frame and the newest ones into prototypes."""
        survivors = self.forget_unused()
        first, last = self.frame_tokens, (self.limits.left - 1) * self.frame_tokens
        candidates = working.take(slice(first, len(working.key) - last))
        chosen = candidates.usage.topk(self.limits.prototypes).indices
        made = make_prototypes(candidates, chosen)
        self.long_term = made if self.long_term is None else join_tokens(self.long_term, made)
        self.working = join_tokens(
            working.take(slice(0, first)), working.take(slice(len(working.key) - last, None))
        )
        self.history.append(Condensed(chosen, survivors))

    def forget_unused(self) -> Tensor | None:
        """Let the least used long-term tokens go for prototypes to come; return who stays."""
        most = self.limits.tokens - self.limits.prototypes
        if self.long_term is None or len(self.long_term.key) < most:
            return None
        stays = torch.zeros(len(self.long_term.key), dtype=torch.bool)
        stays[self.long_term.usage.topk(most).indices] = True
        self.long_term = self.long_term.take(stays)
        return stays


def make_prototypes(candidates: Tokens, chosen: Tensor) -> Tokens:
    """Return prototypes at the keys of the chosen candidates.

    Their values are those of all candidates, as if a prototype were the frame that asks: weighed by
    how alike each is to its key under its own selection.
    """
    assert candidates.selection is not None, "working tokens keep their selection"
    key = candidates.key[chosen]
    likeness = measure_likeness(
        key[None],
        candidates.selection[chosen][None],
        candidates.key[None],
        candidates.shrinkage[None],
    )
    weights = likeness[0].softmax(dim=-1)  # (P, M)
    return Tokens(
        key,
        weights @ candidates.shrinkage,
        weights @ candidates.value,
        key.new_zeros(len(key)),
        key.new_full((len(key),), LEAST_READS),
    )


def join_tokens(older: Tokens, newer: Tokens) -> Tokens:
    """Return the tokens of both; they have selections if both do."""
    selection = None
    if older.selection is not None and newer.selection is not None:
        selection = torch.cat((older.selection, newer.selection))
    return Tokens(
        torch.cat((older.key, newer.key)),
        torch.cat((older.shrinkage, newer.shrinkage)),
        torch.cat((older.value, newer.value), dim=1),
        torch.cat((older.used, newer.used)),
        torch.cat((older.reads, newer.reads)),
        selection,
    )


class LongTermTracker:
    """One video followed with long-term memory; a frame in `every` is remembered."""

    def __init__(
        self,
        network: Qmvos,
        image: Tensor,
        masks: Tensor,
        *,
        every: int = 5,
        limits: LongTermLimits | None = None,
    ) -> None:
        """Begin with a normalized image (1, 3, H, W) and its hard masks (1, O, H, W)."""
        self.network, self.every = network, every
        self.memory = LongTermMemory(limits or LongTermLimits(), network.config.top_k)
        self.state: Tensors | None = None
        self.since = 0
        self._remember(image, masks)

    def segment(self, image: Tensor) -> Tensor:
        """Return the logits (1, O, h, w) at stride 4 of the next frame."""
        network, state = self.network, self.state
        assert state is not None
        seen = network.encode_frames(image)
        read = self.memory.read(to_tokens(seen.key), to_tokens(seen.selection))
        logits, after = network.decode(seen, to_maps(read, seen.f16.shape[-2:]), state, exists=None)
        self.since += 1
        if self.since < self.every:
            self.state = after
        else:
            height, width = image.shape[-2:]
            there = torch.ones(logits.shape[:2], dtype=torch.bool)
            full = raise_logits(logits[:, None], (height, width))
            self._remember(image, network.soften(full, there)[:, 0])
        return logits

    def _remember(self, image: Tensor, masks: Tensor) -> None:
        seen = self.network.encode_frames(image)
        entry, self.state = self.network.memorize(seen, masks, self.state)
        self.memory.remember(entry, to_tokens(seen.selection))
        self.since = 0
