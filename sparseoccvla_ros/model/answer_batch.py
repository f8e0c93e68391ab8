"""Several answers decoded together, one token of each at a time, over scene prefixes that they share.

Only the projections and the feed-forward layers, which read all weights, see the answers as one batch; in attention
each answer has the keys and values of its own scene and text. A scene's prefix is used where it lies: it is neither
copied for an answer nor padded, and answers about one scene read it once together. What an answer has of its own, its
tail (question and tokens so far), lies in a buffer for all answers.

Letters: n answers, H key-value heads, G query heads per key-value head, d head width, P tokens of a prefix, T of a
tail.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, apply_rotary_pos_emb

from sparseoccvla_ros.model.language import KeyValues, SceneLanguage

#: Rows of the buffer's tails come in multiples of this many tokens, so that it seldom grows.
TAIL_STEP = 64


@dataclass(eq=False)
class Member:
    """An answer in the batch; changed by the batch only."""

    prefix: KeyValues
    #: Tokens of the tail, and how many there may be.
    length: int
    capacity: int


class AnswerBatch:
    """Keys and values of the answers that run, and one decoding step for all of them. For one thread.

    Args:
        language: the model; its adapter may change while no answer is in the batch.
    """

    def __init__(self, language: SceneLanguage) -> None:
        self._language = language
        self._members: list[Member] = []
        #: Keys and values [layers, 2, rows, H, T, d]; row i is the tail of member i. None while nothing runs.
        self._tails: Tensor | None = None

    def __len__(self) -> int:
        return len(self._members)

    @property
    def nbytes(self) -> int:
        """Memory of the tails, bytes; the prefixes are not the batch's."""
        return self._tails.nbytes if self._tails is not None else 0

    @torch.inference_mode()
    def add(self, prefix: KeyValues, read: KeyValues, more_tokens: int) -> Member:
        """Take an answer in.

        Args:
            prefix: the scene's, batch of one.
            read: prefix and question together, as :meth:`SceneLanguage.forward_embeddings` gives them.
            more_tokens: tokens that will be read at most.

        Raises:
            ValueError: prefix, question and answer exceed the context.
        """
        start, end = prefix.length, read.length
        total, limit = end + more_tokens, self._language.config.context_length
        if total > limit:
            raise ValueError(f'{total} tokens exceed the context of {limit}')
        member = Member(prefix, end - start, end - start + more_tokens)
        tail = torch.stack([torch.stack([part[0, :, start:] for part in layer]) for layer in read.layers])
        row = len(self._members)
        self._reserve(row + 1, member.capacity, tail)
        self._tails[:, :, row] = 0.0  # what an earlier answer left there may be NaN
        self._tails[:, :, row, :, : member.length] = tail
        self._members.append(member)
        return member

    @torch.inference_mode()
    def remove(self, member: Member) -> None:
        """Let an answer go; the last one's tail moves to its row. Without effect if it has gone already."""
        if member not in self._members:
            return
        row, last = self._members.index(member), len(self._members) - 1
        if row < last:
            self._tails[:, :, row] = self._tails[:, :, last]
            self._members[row] = self._members[last]
        self._members.pop()
        if not self._members:
            self._tails = None

    @torch.inference_mode()
    def step(self, tokens: Mapping[Member, int]) -> dict[Member, Tensor]:
        """Read one more token of each answer.

        Args:
            tokens: the token of every member of the batch.

        Returns:
            its hidden state float32 [D], final norm applied, as :meth:`SceneLanguage.forward_embeddings` would give it.

        Raises:
            ValueError: not exactly the members' tokens, or an answer has no room for another one.
        """
        if tokens.keys() != set(self._members):
            raise ValueError(f'{len(tokens)} tokens for the {len(self._members)} answers of the batch')
        full = next((member for member in self._members if member.length >= member.capacity), None)
        if full is not None:
            raise ValueError(f'an answer has room for {full.capacity} tokens and holds them already')
        model = self._language.causal_lm.model
        device = model.embed_tokens.weight.device
        places = _Places(self._members, self._groups(), device)
        token_ids = torch.tensor([tokens[member] for member in self._members], device=device)
        hidden = model.embed_tokens(token_ids)[:, None]  # [n, 1, D]
        rotation = model.rotary_emb(hidden, position_ids=(places.prefixes + places.lengths)[:, None])
        for index, layer in enumerate(model.layers):
            hidden = _layer(layer, hidden, rotation, self._tails[index], index, places)
        hidden = model.norm(hidden)[:, 0].float()
        for member in self._members:
            member.length += 1
        return dict(zip(self._members, hidden, strict=True))

    def _reserve(self, rows: int, tokens: int, tail: Tensor) -> None:
        """Make the buffer hold ``rows`` tails of ``tokens``; ``tail`` [layers, 2, H, ., d] has its sizes and format."""
        tokens = -(-tokens // TAIL_STEP) * TAIL_STEP
        old = self._tails
        if old is not None:
            if old.shape[2] >= rows and old.shape[4] >= tokens:
                return
            rows, tokens = max(rows, old.shape[2]), max(tokens, old.shape[4])
        layers, two, H, _, d = tail.shape
        # zeros: what is masked must be finite all the same, or it would spoil the weighted sums
        self._tails = tail.new_zeros(layers, two, rows, H, tokens, d)
        if old is not None:
            self._tails[:, :, : old.shape[2], :, : old.shape[4]] = old

    def _groups(self) -> list[tuple[KeyValues, list[int]]]:
        """The prefixes, with the rows of those who share each."""
        groups: dict[int, tuple[KeyValues, list[int]]] = {}
        for row, member in enumerate(self._members):
            groups.setdefault(id(member.prefix), (member.prefix, []))[1].append(row)
        return list(groups.values())


class _Places:
    """Where the keys and values of a step lie; the same for all layers. Sizes are known without asking the device."""

    def __init__(
        self, members: Sequence[Member], groups: list[tuple[KeyValues, list[int]]], device: torch.device
    ) -> None:
        lengths = [member.length for member in members]
        prefixes = [member.prefix.length for member in members]
        self.groups = groups
        self.rows = torch.arange(len(members), device=device)
        self.lengths = torch.tensor(lengths, device=device)
        self.prefixes = torch.tensor(prefixes, device=device)
        self.tail = max(lengths) + 1  # the new tokens included
        self.longest = max(prefixes)
        #: Where a row has no key, bool [n, 1, 1, longest + tail]; None: nowhere.
        self.absent: Tensor | None = None
        if len(set(lengths)) > 1 or len(set(prefixes)) > 1:
            after_prefix = torch.arange(self.longest, device=device) >= self.prefixes[:, None]
            after_tail = torch.arange(self.tail, device=device) > self.lengths[:, None]
            self.absent = torch.cat([after_prefix, after_tail], dim=1)[:, None, None]


def _layer(
    layer: LlamaDecoderLayer,
    hidden: Tensor,
    rotation: tuple[Tensor, Tensor],
    tails: Tensor,
    index: int,
    places: _Places,
) -> Tensor:
    """A decoder layer over hidden [n, 1, D]; writes the new keys and values into ``tails`` [2, rows, H, T, d]."""
    attention = layer.self_attn
    n, d = hidden.shape[0], attention.head_dim
    normed = layer.input_layernorm(hidden)
    query = attention.q_proj(normed).view(n, 1, -1, d).transpose(1, 2)
    keys = attention.k_proj(normed).view(n, 1, -1, d).transpose(1, 2)
    values = attention.v_proj(normed).view(n, -1, d)
    query, keys = apply_rotary_pos_emb(query, keys, *rotation)
    tails[0, places.rows, :, places.lengths] = keys[:, :, 0]
    tails[1, places.rows, :, places.lengths] = values
    H = keys.shape[1]
    query = query.reshape(n, H, -1, d) * attention.scaling  # [n, H, G, d]
    mixed = _attend(query, tails[:, :n, :, : places.tail], index, places)
    hidden = hidden + attention.o_proj(mixed.reshape(n, 1, -1))
    return hidden + layer.mlp(layer.post_attention_layernorm(hidden))


def _attend(query: Tensor, tails: Tensor, index: int, places: _Places) -> Tensor:
    """Softmax attention [n, H, G, d] of query [n, H, G, d] over each one's prefix and its tail [2, n, H, T, d]."""
    n, H, G, d = query.shape
    scores = query.new_empty(n, H, G, places.longest + places.tail)
    for prefix, rows in places.groups:
        keys = prefix.layers[index][0][0]  # [H, P, d]
        together = _rows(query, rows).transpose(0, 1).reshape(H, -1, d) @ keys.transpose(1, 2)  # [H, rows * G, P]
        scores[rows if len(rows) < n else slice(n), :, :, : keys.shape[1]] = together.view(
            H, len(rows), G, -1
        ).transpose(0, 1)
    scores[..., places.longest :] = query @ tails[0].transpose(2, 3)
    if places.absent is not None:
        scores.masked_fill_(places.absent, -torch.inf)
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(query.dtype)
    mixed = weights[..., places.longest :] @ tails[1]
    for prefix, rows in places.groups:
        values = prefix.layers[index][1][0]  # [H, P, d]
        own = _rows(weights, rows)[..., : values.shape[1]].transpose(0, 1).reshape(H, len(rows) * G, -1)
        part = (own @ values).view(H, len(rows), G, d).transpose(0, 1)
        if len(rows) == n:
            mixed = mixed + part
        else:
            mixed[rows] += part
    return mixed


def _rows(values: Tensor, rows: list[int]) -> Tensor:
    """Rows of [n, ...]; all of them need no copy."""
    return values if len(rows) == len(values) else values[rows]
