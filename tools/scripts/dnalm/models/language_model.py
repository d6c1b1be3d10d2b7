"""A loaded language model: token ids in, hidden states out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from dnalm.errors import UserError
from dnalm.models.failures import running
from dnalm.models.model_file import StoredModel
from dnalm.models.tokenizers import Encoding, Tokenizer

Heads = Mapping[int, Sequence[int]]  # numbers of heads of each layer
Chosen = Callable[[int, Tensor], Tensor]


class NoLanguageModelHead(UserError):  # noqa: N818 (a fact about a model more than an error)
    """Logits are asked of a model that was saved without a language-model head."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"The model '{name}' has no language-model head, so that it gives no logits and draws no tokens; "
            "choose hidden states where a tool offers them, or a model with its head."
        )


class HiddenStates(NamedTuple):
    """What a backbone gives: shape (batch, tokens, hidden size)."""

    last_hidden_state: Tensor


class Logits(NamedTuple):
    """What a language-model head gives: shape (batch, tokens, vocabulary size)."""

    logits: Tensor


class Cache(Protocol):
    """Keys and values of the tokens that a causal model has read, one row a sequence."""

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep the rows with these numbers; a number may repeat."""
        ...


@dataclass
class LanguageModel:
    """A backbone (no head) with its tokenizer.

    Attributes:
        stored: the model file or folder it was read from.
        architecture: its kind, as `model_type` names it.
        backbone: module whose forward takes input_ids and attention_mask and gives `last_hidden_state`.
        layers: the backbone's layers, in order.
        tokenizer: from bases to ids.
        hidden_size: width of a hidden state.
        vocabulary_size: ids below this exist.
        context_length: most tokens at once, special tokens included; None without a limit.
        causal: whether a token sees only what is left of it.
        with_head: the backbone with its language-model head, where that was asked for.
    """

    stored: StoredModel
    architecture: str
    backbone: nn.Module
    layers: nn.ModuleList
    tokenizer: Tokenizer
    hidden_size: int
    vocabulary_size: int
    context_length: int | None
    causal: bool
    with_head: nn.Module | None = None

    @property
    def pad_id(self) -> int:
        """The id to fill batches with: the tokenizer's, or 0 where it has none that exists (pads are masked out)."""
        pad = self.tokenizer.pad_id
        return pad if pad is not None and pad < self.vocabulary_size else 0

    def layer_number(self, layer: int) -> int:
        """Return a layer counted from 0 (embeddings) to the number of layers; negative ones count from the end.

        Raises:
            UserError: there is no such layer.
        """
        count = len(self.layers)
        number = layer if layer >= 0 else count + 1 + layer
        if not 0 <= number <= count:
            raise UserError(
                f"The model '{self.stored.name}' has no layer {layer}; "
                f"choose 0 (embeddings) to {count} (last), or -1 (last) to {-count - 1} (embeddings)."
            )
        return number

    def encode(self, sequences: Sequence[str]) -> list[Encoding]:
        """Tokenize sequences.

        Raises:
            UserError: the tokenizer drops letters, makes ids that the model lacks, or more special tokens than it reads.
        """
        encodings = self.tokenizer.encode(sequences)
        for bases, encoding in zip(sequences, encodings, strict=True):
            if int((encoding.ends - encoding.starts).sum()) != len(bases):
                raise UserError(
                    f"The tokenizer of the model '{self.stored.name}' drops letters of a sequence ({bases[:20]} …); "
                    "use a model whose tokenizer knows A, C, G, T and N."
                )
            if self.context_length is not None and encoding.special.sum() >= self.context_length:
                raise UserError(
                    f"The model '{self.stored.name}' reads {self.context_length:,} tokens, which leaves no room beside its "
                    "special tokens; use an intact model."
                )
        largest = max((int(encoding.ids.max()) for encoding in encodings if len(encoding)), default=0)
        if largest >= self.vocabulary_size:
            raise UserError(
                f"The tokenizer of the model '{self.stored.name}' makes the token id {largest}, but the model has only "
                f"{self.vocabulary_size} tokens; use a model with its own tokenizer."
            )
        return encodings

    def hidden_states(self, input_ids: Tensor, attention_mask: Tensor | None, layers: Sequence[int]) -> list[Tensor]:
        """Return the hidden states after some layers, numbered as Hugging Face's `hidden_states`.

        Args:
            input_ids: shape (batch, tokens).
            attention_mask: 1 for a token, 0 for padding, same shape; None where nothing is padded.
            layers: 0 for the embeddings, k for layer k; the last is after the final norm. What lies above the highest is
                not computed.

        Returns:
            One tensor a layer asked for, each of shape (batch, tokens, hidden size).
        """
        found: dict[int, Tensor] = {}
        highest = max(layers)

        def keep(number: int) -> Callable[..., None]:
            def hook(layer: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
                found[number] = args[0] if args else kwargs["hidden_states"]
                if number == highest:
                    raise _Reached

            return hook

        hooks = [
            self.layers[number].register_forward_pre_hook(keep(number), with_kwargs=True)
            for number in set(layers) - {len(self.layers)}
        ]
        with running(self.stored.name):
            try:
                last = self.backbone(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
                found[len(self.layers)] = last
            except _Reached:
                pass
            finally:
                for hook in hooks:
                    hook.remove()
        return [found[number] for number in layers]

    def attention_maps(
        self, input_ids: Tensor, attention_mask: Tensor | None, layers: Sequence[int], heads: Heads | None = None
    ) -> list[Tensor]:
        """Return how much each token attends to each in some layers, numbered from 0 as Hugging Face's `attentions`.

        Args:
            input_ids: shape (batch, tokens).
            attention_mask: 1 for a token, 0 for padding, same shape; None where nothing is padded.
            layers: numbers of layers.
            heads: of each layer the numbers of the heads to keep, from 0; all without. The others' maps are let go of
                before those of the next layer are made.

        Returns:
            One tensor a layer asked for, each of shape (batch, heads, queries, keys); rows of tokens add up to 1.
        """

        def chosen(number: int, maps: Tensor) -> Tensor:
            return maps if heads is None else maps[:, list(heads[number])]

        own = self._own_attention()
        if not own:
            return self._maps_of_transformers(input_ids, attention_mask, layers, chosen)
        found: dict[int, Tensor] = {}

        def keep(number: int) -> Callable[..., None]:
            def hook(module: Any, args: tuple[Tensor, ...]) -> None:
                found[number] = chosen(number, module.attention_weights(*args))
                if number == max(layers):
                    raise _Reached

            return hook

        hooks = [own[number].register_forward_pre_hook(keep(number)) for number in set(layers)]
        with running(self.stored.name):
            self._run_to_the_highest(hooks, input_ids, attention_mask)
        return [found[layer] for layer in layers]

    @property
    def heads(self) -> int:
        """How many heads the attention of a layer has."""
        own: Any = self._own_attention()
        backbone: Any = self.backbone  # transformers' own
        return int(own[0].heads if own else backbone.config.num_attention_heads)

    def _own_attention(self) -> list[nn.Module]:
        """Return the attention of each layer in architectures of ours; none of transformers'."""
        return [module for module in self.layers.modules() if hasattr(module, "attention_weights")]

    def _maps_of_transformers(
        self, input_ids: Tensor, attention_mask: Tensor | None, layers: Sequence[int], chosen: Chosen
    ) -> list[Tensor]:
        """Return the maps that transformers' own modules give, of the layers asked for alone where they let go of others.

        `chosen` is given number and maps of a layer, and returns what is kept of them.
        """
        backbone: Any = self.backbone
        tokens = input_ids.shape[1]
        found: dict[int, Tensor] = {}

        def keep(number: int) -> Callable[..., None]:
            def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
                for given in output if isinstance(output, tuple) else ():
                    is_map = isinstance(given, Tensor) and given.ndim == 4 and given.shape[-2:] == (tokens, tokens)
                    if is_map and number not in found:
                        found[number] = chosen(number, given)
                if number == max(layers) and number in found:
                    raise _Reached

            return hook

        usual = backbone.config._attn_implementation
        backbone.set_attn_implementation("eager")  # the fused kernels never hold the maps
        try:
            hooks = [
                module.register_forward_hook(keep(number))
                for number in set(layers)
                for module in self.layers[number].modules()
            ]
            with running(self.stored.name):
                self._run_to_the_highest(hooks, input_ids, attention_mask)
                if found.keys() >= set(layers):
                    return [found[layer] for layer in layers]
                maps = backbone(input_ids, attention_mask=attention_mask, output_attentions=True).attentions
                return [chosen(layer, maps[layer]) for layer in layers]
        finally:
            backbone.set_attn_implementation(usual)

    def _run_to_the_highest(
        self, hooks: Sequence[RemovableHandle], input_ids: Tensor, attention_mask: Tensor | None
    ) -> None:
        """Run the backbone until a hook has what it waits for, and remove the hooks."""
        try:
            self.backbone(input_ids=input_ids, attention_mask=attention_mask)
        except _Reached:
            pass
        finally:
            for hook in hooks:
                hook.remove()

    def logits(self, input_ids: Tensor, attention_mask: Tensor | None, at: Tensor | None = None) -> Tensor:
        """Return the language-model head's logits; shape (batch, tokens, vocabulary size).

        With `at`, token numbers of shape (batch, chosen), the head sees these tokens alone; shape (batch, chosen,
        vocabulary size).
        """
        assert self.with_head is not None
        if at is None:
            with running(self.stored.name):
                logits: Tensor = self.with_head(input_ids=input_ids, attention_mask=attention_mask).logits
            return logits

        def choose(backbone: nn.Module, args: tuple[Tensor, ...], output: Any) -> Any:
            rows = torch.arange(len(at), device=at.device)[:, None]
            chosen = output.last_hidden_state[rows, at]
            if isinstance(output, HiddenStates):
                return output._replace(last_hidden_state=chosen)
            output.last_hidden_state = chosen
            return output

        hook = self.backbone.register_forward_hook(choose)
        try:
            with running(self.stored.name):
                chosen_logits: Tensor = self.with_head(input_ids=input_ids, attention_mask=attention_mask).logits
        finally:
            hook.remove()
        return chosen_logits

    def read(self, input_ids: Tensor) -> Cache:
        """Read tokens that several sequences begin with, and return the cache of them, without the head.

        For causal models: all are transformers' own and keep a cache.

        Args:
            input_ids: shape (batch, tokens), nothing padded.
        """
        with running(self.stored.name):
            cache: Cache = self.backbone(input_ids=input_ids, use_cache=True).past_key_values
        return cache

    def logits_behind(self, input_ids: Tensor, cache: Cache) -> Tensor:
        """Return the logits of tokens that follow those of a cache; shape (batch, tokens, vocabulary size).

        Args:
            input_ids: shape (batch, tokens); what pads the right changes nothing left of it.
            cache: what the same rows have read before; it is changed.
        """
        assert self.with_head is not None
        with running(self.stored.name):
            logits: Tensor = self.with_head(input_ids=input_ids, past_key_values=cache, use_cache=True).logits
        return logits

    def next_logits(self, input_ids: Tensor, cache: Cache | None = None) -> tuple[Tensor, Cache]:
        """Read tokens on top of those that a cache holds; return what may follow them, and the cache with them.

        For causal models: all are transformers' own and keep a cache.

        Args:
            input_ids: shape (batch, new tokens), nothing padded.
            cache: what the same rows have read before; it is changed. None for nothing.

        Returns:
            Logits of shape (batch, vocabulary size), and the cache.
        """
        assert self.with_head is not None
        with running(self.stored.name):
            output = self.with_head(input_ids=input_ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return output.logits[:, -1], output.past_key_values

    def head_norm(self, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
        """Return what leaves the first layer norm of the language-model head; shape (batch, tokens, hidden size).

        The Nucleotide Transformer's own code calls this its last layer's embeddings.

        Raises:
            UserError: the head has no layer norm.
        """
        assert self.with_head is not None
        inside = set(self.backbone.modules())
        norms = [
            module for module in self.with_head.modules() if "Norm" in type(module).__name__ and module not in inside
        ]
        if not norms:
            raise UserError(
                f"The language-model head of '{self.stored.name}' has no layer norm; choose representation hidden."
            )
        found: list[Tensor] = []
        hook = norms[0].register_forward_hook(lambda module, args, output: found.append(output))
        try:
            self.logits(input_ids, attention_mask)
        finally:
            hook.remove()
        return found[0]

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move the weights; buffers (rotary frequencies) keep their float32."""
        whole = self.with_head or self.backbone
        for parameter in whole.parameters():
            parameter.data = parameter.data.to(device, dtype)
        whole.to(device)


class _Reached(Exception):  # noqa: N818 (no error: it ends a forward whose upper layers are not needed)
    """The highest layer asked for has its input."""
