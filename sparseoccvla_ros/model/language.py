"""The language model over one scene: prefix of occupancy tokens, text behind it, keys and values shared.

Letters: B samples, Q queries, C query width, D language width, L tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    DynamicCache,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)
from transformers.cache_utils import DynamicLayer

from sparseoccvla_ros.model.adapters import switch_adapter
from sparseoccvla_ros.model.chat import ChatFormat
from sparseoccvla_ros.model.config import LanguageConfig, VLAConfig
from sparseoccvla_ros.model.connector import Connector
from sparseoccvla_ros.model.forecaster import OccupancyForecaster
from sparseoccvla_ros.model.quantization import quantization_config
from sparseoccvla_ros.model.token_order import inverse_order, reorder, token_order
from sparseoccvla_ros.resources import share_path


@dataclass(frozen=True)
class KeyValues:
    """Attention keys and values of a token sequence: per layer (keys, values), each [B, heads, L, head width].

    Immutable: extending gives new ones, so that many continuations may share one scene's prefix.
    """

    layers: tuple[tuple[Tensor, Tensor], ...]

    @property
    def length(self) -> int:
        """Tokens."""
        return self.layers[0][0].shape[2]

    @property
    def nbytes(self) -> int:
        """Memory, bytes."""
        return sum(tensor.nbytes for layer in self.layers for tensor in layer)

    def repeated(self, times: int) -> KeyValues:
        """Each sample so many times in a row."""
        if times == 1:
            return self
        return KeyValues(
            tuple(
                (keys.repeat_interleave(times, 0), values.repeat_interleave(times, 0)) for keys, values in self.layers
            )
        )


@dataclass(frozen=True)
class ScenePrompt:
    """What the language model reads first: system text, T_o, T_g."""

    #: [B, L, D].
    embeddings: Tensor
    #: Where the Q occupancy tokens lie in L. The global tokens come after them and are the last.
    occupancy: slice
    #: The query at each of those places, int64 [B, Q]; None: in the encoder's order.
    order: Tensor | None

    @property
    def length(self) -> int:
        """Tokens."""
        return self.embeddings.shape[1]

    def at_queries(self, hidden: Tensor) -> Tensor:
        """Outputs [B, >= L, D] at the occupancy tokens, in the QUERIES' order [B, Q, D]."""
        outputs = hidden[:, self.occupancy]
        return outputs if self.order is None else reorder(outputs, inverse_order(self.order))


class SceneLanguage(nn.Module):
    """Connector, language model and forecaster."""

    def __init__(
        self, config: VLAConfig, llm: LlamaForCausalLM | PeftModel, tokenizer: PreTrainedTokenizerFast
    ) -> None:
        """Put the parts together; see :func:`new_llm`, :func:`pretrained_llm`, :func:`load_tokenizer`.

        Raises:
            ValueError: the tokenizer has more tokens than the language model, or there is no usable chat template.
        """
        super().__init__()
        language = config.language
        if len(tokenizer) > language.vocabulary:
            raise ValueError(
                f'the tokenizer has {len(tokenizer)} tokens, the language model only {language.vocabulary}: '
                'it belongs to another model'
            )
        self.config = language
        self._space = config.space
        self.tokenizer = tokenizer
        self.llm = llm
        self.connector = Connector(config.space, config.encoder.width, language.width, language.global_tokens)
        self.forecaster = OccupancyForecaster(
            config.forecaster, config.encoder.width, language.width, len(config.space.classes)
        )
        self._chat = ChatFormat(tokenizer, language.chat_template, language.system_prompt)

    @property
    def causal_lm(self) -> LlamaForCausalLM:
        """The language model without the adapter wrapper (its layers hold the adapters)."""
        return self.llm.get_base_model() if isinstance(self.llm, PeftModel) else self.llm

    @property
    def padding_token(self) -> int:
        """What fills rows behind their ends, where nothing looks: the tokenizer's, or any if it has none."""
        own = self.tokenizer.pad_token_id
        return 0 if own is None else own

    def switch_adapter(self, name: str, folder: Path | None) -> None:
        """See :func:`sparseoccvla_ros.model.adapters.switch_adapter`. Keys and values made before fit no more."""
        self.llm = switch_adapter(self.llm, name, folder)

    def scene_prompt(self, features: Tensor, positions_m: Tensor) -> ScenePrompt:
        """System text, T_o in the configured order, T_g.

        Args:
            features: [B, Q, C]. positions_m: [B, Q, 3], metres, ego frame.
        """
        occupancy, global_tokens = self.connector(features, positions_m)
        if self.config.blind:
            occupancy, global_tokens = torch.zeros_like(occupancy), torch.zeros_like(global_tokens)
        order = token_order(positions_m, self.config.token_order, self._space)
        system = torch.tensor(self._chat.system_tokens, device=features.device)
        text = self.embed_text(system[None]).expand(features.shape[0], -1, -1).to(occupancy.dtype)
        embeddings = torch.cat([text, reorder(occupancy, order), global_tokens], dim=1)
        return ScenePrompt(embeddings, slice(text.shape[1], text.shape[1] + occupancy.shape[1]), order)

    def read_scene(self, prompt: ScenePrompt, text: Tensor | None = None) -> tuple[Tensor, KeyValues]:
        """Run the language model over a scene, and over text behind it where that is given [B, n, D].

        Returns and raises as :meth:`forward_embeddings`. Text read here, or later on top of the keys and values, gets
        the same outputs.
        """
        embeddings = prompt.embeddings
        if text is not None:
            embeddings = torch.cat([embeddings, text.to(embeddings.dtype)], dim=1)
        elif self.config.blind and len(embeddings) > 1:  # every scene looks the same: one is read for all
            hidden, read = self.read_scene(replace(prompt, embeddings=embeddings[:1], order=None))
            return hidden.expand(len(embeddings), -1, -1), read.repeated(len(embeddings))
        mask = None
        if self.config.prefix_attention == 'bidirectional':
            mask = prefix_mask(slice(prompt.occupancy.start, prompt.length), embeddings.shape[1], embeddings.device)
        return self._forward(embeddings, None, mask)

    def forward_embeddings(self, embeddings: Tensor, past: KeyValues | None) -> tuple[Tensor, KeyValues]:
        """Run the language model over text [B, L, D], after what ``past`` holds of the same B.

        Returns:
            hidden states float32 [B, L, D], final norm applied; keys and values of past and new tokens together.

        Raises:
            ValueError: past and new tokens together exceed the context; nothing is ever truncated.
        """
        return self._forward(embeddings, past, None)

    def read_side_by_side(self, embeddings: Tensor, text: Tensor, past: KeyValues) -> Tensor:
        """Run the language model over several texts in a row, each after what ``past`` holds, none after another.

        Args:
            embeddings: [B, n, D].
            text: int64 [B, n], which text a token belongs to; the tokens of one lie together, in their order. -1:
                padding.
            past: of the same B.

        Returns:
            hidden states float32 [B, n, D]: each text's as :meth:`forward_embeddings` gives them for it alone.

        Raises:
            ValueError: past and one of the texts together exceed the context.
        """
        places = torch.arange(text.shape[1], device=text.device)
        begins = torch.ones_like(text, dtype=torch.bool)
        begins[:, 1:] = text[:, 1:] != text[:, :-1]
        offsets = places - torch.where(begins, places, 0).cummax(dim=1).values
        offsets = offsets.where(text >= 0, 0)
        seen = (text[:, :, None] == text[:, None, :]).tril()
        mask = torch.zeros(seen.shape, device=text.device).masked_fill(~seen, -torch.inf)
        mask = nn.functional.pad(mask, (past.length, 0))  # all of the past is seen
        return self._forward(embeddings, past, mask[:, None], past.length + offsets)[0]

    def _forward(
        self, embeddings: Tensor, past: KeyValues | None, mask: Tensor | None, positions: Tensor | None = None
    ) -> tuple[Tensor, KeyValues]:
        """``mask``: additive [1 or B, 1, L, past and L], None: causal; ``positions`` [B, L], None: in a row."""
        length = embeddings.shape[1] + (past.length if past else 0)
        if positions is not None:
            length = int(positions.max()) + 1
        if length > self.config.context_length:
            raise ValueError(f'{length} tokens exceed the context of {self.config.context_length}')
        cache = DynamicCache()
        for keys, values in past.layers if past else ():
            layer = DynamicLayer()
            layer.lazy_initialization(keys, values)
            layer.keys, layer.values = keys, values  # the layer's update concatenates: these stay as they are
            cache.layers.append(layer)
        model = self.causal_lm.model
        dtype = model.embed_tokens.weight.dtype
        out = model(
            inputs_embeds=embeddings.to(dtype),
            attention_mask=None if mask is None else mask.to(dtype),
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        )
        key_values = KeyValues(tuple((layer.keys, layer.values) for layer in cache.layers))
        return out.last_hidden_state.float(), key_values

    def logits(self, hidden: Tensor) -> Tensor:
        """Next-token scores float32 [..., vocabulary] of hidden states [..., D]."""
        head = self.causal_lm.lm_head
        return head(hidden.to(head.weight.dtype)).float()

    def embed_text(self, token_ids: Tensor) -> Tensor:
        """Token embeddings [B, n, D] of ids [B, n]."""
        return self.causal_lm.model.embed_tokens(token_ids)

    def question_tokens(self, turns: Sequence[tuple[str, str | None]]) -> list[int]:
        """Tokens that follow the scene prefix.

        Args:
            turns: questions with their answers, oldest first; the last answer is None where the model is to answer.

        A token's name inside a question or answer ('</s>', '<|user|>') stays text: a question cannot end its turn.
        """
        return self._chat.question_tokens(turns)

    def planning_tokens(self) -> list[int]:
        """The planning prompt as a question."""
        return self.question_tokens([(self.config.planning_prompt, None)])

    def forecast(
        self, hidden_occupancy: Tensor, features: Tensor, positions_m: Tensor
    ) -> tuple[tuple[Tensor, Tensor], ...]:
        """See :meth:`OccupancyForecaster.forward`."""
        return self.forecaster(hidden_occupancy, features, positions_m)


def prefix_mask(visual: slice, length: int, device: torch.device) -> Tensor:
    """Additive attention mask [1, 1, length, length] of a prefix language model: 0 where a token (row) attends to a
    token (column), minus infinity elsewhere. Text is causal; the visual tokens attend to all before them and to each
    other.
    """
    mask = torch.full((length, length), -torch.inf, device=device).triu(1)
    mask[visual, visual] = 0.0
    return mask[None, None]


def llama_config(language: LanguageConfig) -> LlamaConfig:
    """transformers' configuration of the architecture."""
    return LlamaConfig(
        hidden_size=language.width,
        intermediate_size=language.ffn_width,
        num_hidden_layers=language.layers,
        num_attention_heads=language.attention_heads,
        num_key_value_heads=language.key_value_heads,
        head_dim=language.head_width or language.width // language.attention_heads,
        vocab_size=language.vocabulary,
        max_position_embeddings=language.context_length,
        rms_norm_eps=language.norm_eps,
        rope_parameters=_rope_parameters(language),
        tie_word_embeddings=language.tied_embeddings,
    )


def _rope_parameters(language: LanguageConfig) -> dict[str, float | str]:
    """transformers' names."""
    scaling = language.rope_scaling
    if scaling is None:
        return {'rope_type': 'default', 'rope_theta': language.rope_theta}
    parameters = {'rope_type': scaling.kind, 'rope_theta': language.rope_theta, 'factor': scaling.factor}
    if scaling.kind == 'llama3':
        parameters['low_freq_factor'] = scaling.low_freq_factor
        parameters['high_freq_factor'] = scaling.high_freq_factor
        parameters['original_max_position_embeddings'] = scaling.original_context
    return parameters


def new_llm(language: LanguageConfig, dtype: torch.dtype = torch.float32) -> LlamaForCausalLM | PeftModel:
    """A language model with random weights, LoRA adapters added where the configuration has them.

    Built in ``dtype`` from the start: 7 billion weights would take 27 GB of the host's memory in float32 on the way.
    """
    llm = AutoModelForCausalLM.from_config(llama_config(language), dtype=dtype)
    return _with_lora(llm, language).to(dtype)


def pretrained_llm(language: LanguageConfig, dtype: torch.dtype) -> LlamaForCausalLM | PeftModel:
    """The pretrained language model that the configuration names, in ``dtype`` or quantized, LoRA adapters added.

    Raises:
        ValueError: its architecture is not the configured one, weights are missing (which transformers itself would
            fill in at random) or superfluous, or it cannot be quantized here; lists what does not fit.
    """
    found = AutoConfig.from_pretrained(language.pretrained)
    expected = llama_config(language)
    # all that a checkpoint saved later would be rebuilt from
    names = ('model_type', 'hidden_size', 'intermediate_size', 'num_hidden_layers', 'num_attention_heads',
             'num_key_value_heads', 'head_dim', 'vocab_size', 'rms_norm_eps', 'rope_parameters',
             'tie_word_embeddings', 'attention_bias', 'mlp_bias', 'hidden_act')  # fmt: skip
    wrong = [
        f'{name}: configured {getattr(expected, name)}, found {getattr(found, name, None)}'
        for name in names
        if getattr(expected, name) != getattr(found, name, None)
    ]
    if wrong:
        raise ValueError(f'{language.pretrained} is another model: {"; ".join(wrong)}')
    quantized = {}
    if language.quantization is not None:
        quantized['quantization_config'] = quantization_config(language.quantization, dtype)
    llm, info = LlamaForCausalLM.from_pretrained(
        language.pretrained, dtype=dtype, output_loading_info=True, **quantized
    )
    for problem, what in (('missing_keys', 'lacks weights'), ('unexpected_keys', 'has weights without a place')):
        if info[problem]:
            raise ValueError(f'{language.pretrained} {what}: {", ".join(sorted(info[problem]))}')
    llm = _with_lora(llm, language)
    return llm if quantized else llm.to(dtype)


def load_tokenizer(name_or_path: str | Path) -> PreTrainedTokenizerFast:
    """The tokenizer in a folder, in a folder that comes with the package, or on the hub (in that order)."""
    path = Path(name_or_path)
    if not path.is_dir() and not path.is_absolute():
        try:
            path = share_path(path)
        except FileNotFoundError:
            return AutoTokenizer.from_pretrained(str(name_or_path))
    return AutoTokenizer.from_pretrained(path, local_files_only=True)


def _with_lora(llm: LlamaForCausalLM, language: LanguageConfig) -> LlamaForCausalLM | PeftModel:
    if language.lora is None:
        return llm
    lora = LoraConfig(
        r=language.lora.rank,
        lora_alpha=language.lora.alpha,
        lora_dropout=language.lora.dropout,
        target_modules=list(language.lora.targets),
        task_type='CAUSAL_LM',
    )
    return get_peft_model(llm, lora)
