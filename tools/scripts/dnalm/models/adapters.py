"""LoRA: small matrices beside a backbone's frozen ones, merged into them when a model is written.

Hu et al. 2021, arXiv:2106.09685: a linear layer W x becomes W x + s B A x, where A and B of low rank are trained and
B starts at zero. peft makes the layers; which ones is told by architecture.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from dnalm.errors import UserError
from dnalm.models import dnabert2, nucleotide_transformer_v2
from dnalm.models.language_model import LanguageModel

SCALE = 2  # s
DROPOUT = 0.0
BERT = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)
ATTENTION = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
LLAMA = (*ATTENTION, "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
# Of each architecture the linear layers of a layer: queries, keys, values, what joins the heads, and feed-forward.
TARGETS: dict[str, tuple[str, ...]] = {
    nucleotide_transformer_v2.NAME: BERT,
    dnabert2.NAME: ("attention.self.Wqkv", "attention.output.dense", "mlp.gated_layers", "mlp.wo"),
    **dict.fromkeys(("bert", "electra", "esm", "roberta", "roformer"), BERT),
    "deberta-v2": (
        *(f"attention.self.{name}_proj" for name in ("query", "key", "value")),
        *BERT[3:],
    ),
    "distilbert": (*(f"attention.{name}_lin" for name in ("q", "k", "v", "out")), "ffn.lin1", "ffn.lin2"),
    **dict.fromkeys(("gemma", "gemma2", "llama", "mistral", "olmo", "olmo2", "qwen2", "qwen3"), LLAMA),
    "mixtral": ATTENTION,  # experts are many, and each sees few tokens
    "gpt2": ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"),
    "gpt_neox": ("attention.query_key_value", "attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h"),
    "modernbert": ("attn.Wqkv", "attn.Wo", "mlp.Wi", "mlp.Wo"),
    "modernbert-decoder": ("attn.q_proj", "attn.k_proj", "attn.v_proj", "attn.Wo", "mlp.Wi", "mlp.Wo"),
    "phi": (*ATTENTION[:3], "self_attn.dense", "mlp.fc1", "mlp.fc2"),
    "starcoder2": (*ATTENTION, "mlp.c_fc", "mlp.c_proj"),
}


def target_names(model: LanguageModel) -> list[str]:
    """Return the names, within the backbone, of the layers that are adapted, in order.

    Raises:
        UserError: none is known of the architecture.
    """
    suffixes = TARGETS.get(model.architecture, ())
    of_layers = {
        f"{number}.{suffix}": layer.get_submodule(suffix)
        for number, layer in enumerate(model.layers)
        for suffix in suffixes
        if _has(layer, suffix)
    }
    adapted = set(map(id, of_layers.values()))
    names = [name for name, module in model.backbone.named_modules() if id(module) in adapted]
    if not names:
        raise UserError(
            f"Which layers of the architecture {model.architecture} LoRA adapts is not known; use the method full or probe."
        )
    return names


def _has(layer: nn.Module, name: str) -> bool:
    try:
        layer.get_submodule(name)
    except AttributeError:
        return False
    return True


def add_adapters(model: LanguageModel, rank: int, seed: int) -> None:
    """Freeze the backbone and put adapters into it, which alone are trained; the seed decides over A."""
    from peft import LoraConfig, inject_adapter_in_model

    names = target_names(model)
    model.backbone.requires_grad_(False)
    torch.manual_seed(seed)
    config = LoraConfig(r=rank, lora_alpha=SCALE * rank, lora_dropout=DROPOUT, target_modules=names, bias="none")
    inject_adapter_in_model(config, model.backbone)


@contextmanager
def merged(backbone: nn.Module) -> Iterator[None]:
    """Show a backbone as if it had no adapters and their sum in its weights; behind it all is as before, to the bit."""
    from peft.tuners.lora import LoraLayer

    adapted: dict[str, Any] = {
        name: module for name, module in backbone.named_modules() if isinstance(module, LoraLayer)
    }
    kept: dict[str, Tensor] = {}
    try:
        for name, module in adapted.items():
            layer = module.get_base_layer()
            kept[name] = layer.weight.data
            with torch.no_grad():
                layer.weight.data = kept[name] + module.get_delta_weight("default")
            backbone.set_submodule(name, layer)
        yield
    finally:
        for name, weight in kept.items():
            adapted[name].get_base_layer().weight.data = weight
            backbone.set_submodule(name, adapted[name])
