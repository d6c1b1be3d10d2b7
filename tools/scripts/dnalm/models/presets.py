"""Recipes of pretraining: model, objective, tokenizer and batch that go together."""

from dataclasses import dataclass
from typing import Any, Literal

Objective = Literal["causal", "masked"]

MISTRAL_DNA = {
    "model_type": "mixtral",
    "hidden_act": "silu",
    "num_experts_per_tok": 1,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1_000_000.0,
    "router_aux_loss_coef": 0.02,
    "output_router_logits": False,
    "tie_word_embeddings": False,
}


@dataclass(frozen=True)
class Preset:
    """A recipe.

    Attributes:
        config: config.json but for what the tokenizer decides (vocabulary and special tokens); empty where the user
            brings the model.
        objective: what is predicted.
        tokenizer: kind of words where the user gives no tokenizer: 'letters', '6-mers', or 'bpe' learnt from the data.
        window: bases a window.
        batch_size: windows a step.
        learning_rate: its highest.
        epochs: passes over the data.
    """

    config: dict[str, Any]
    objective: Objective
    tokenizer: Literal["letters", "6-mers", "bpe"]
    window: int
    batch_size: int
    learning_rate: float
    epochs: int


PRESETS: dict[str, Preset] = {
    # Small enough to learn in minutes on a processor, and for a file under 500 kB.
    "demo": Preset(
        {
            "model_type": "llama",
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "intermediate_size": 192,
            "max_position_embeddings": 1_024,
            "tie_word_embeddings": True,
        },
        "causal",
        "letters",
        window=512,
        batch_size=8,
        learning_rate=3e-3,
        epochs=5,
    ),
    # Mistral-DNA-v1-1M and -17M, and the 105 M parameters of the tutorial (Mourad 2023, doi:10.1101/2023.08.18.553820).
    "mistral-dna-1m": Preset(
        MISTRAL_DNA
        | {
            "hidden_size": 64,
            "num_hidden_layers": 4,
            "num_attention_heads": 8,
            "num_key_value_heads": 8,
            "head_dim": 8,
            "intermediate_size": 64,
            "num_local_experts": 8,
            "max_position_embeddings": 256,
        },
        "causal",
        "bpe",
        window=200,
        batch_size=32,
        learning_rate=1e-3,
        epochs=10,
    ),
    "mistral-dna-17m": Preset(
        MISTRAL_DNA
        | {
            "hidden_size": 256,
            "num_hidden_layers": 8,
            "num_attention_heads": 8,
            "num_key_value_heads": 8,
            "intermediate_size": 256,
            "num_local_experts": 8,
            "max_position_embeddings": 512,
        },
        "causal",
        "bpe",
        window=200,
        batch_size=32,
        learning_rate=5e-4,
        epochs=10,
    ),
    "tutorial-105m": Preset(
        MISTRAL_DNA
        | {
            "hidden_size": 256,
            "num_hidden_layers": 8,
            "num_attention_heads": 8,
            "num_key_value_heads": 8,
            "intermediate_size": 256,
            "num_local_experts": 64,
            "max_position_embeddings": 512,
        },
        "causal",
        "bpe",
        window=200,
        batch_size=32,
        learning_rate=5e-4,
        epochs=10,
    ),
    "llama": Preset(
        {
            "model_type": "llama",
            "hidden_size": 256,
            "num_hidden_layers": 8,
            "num_attention_heads": 8,
            "num_key_value_heads": 8,
            "intermediate_size": 688,
            "max_position_embeddings": 1_024,
            "tie_word_embeddings": True,
        },
        "causal",
        "bpe",
        window=1_000,
        batch_size=32,
        learning_rate=1e-3,
        epochs=10,
    ),
    "modernbert": Preset(
        {
            "model_type": "modernbert",
            "hidden_size": 256,
            "num_hidden_layers": 8,
            "num_attention_heads": 8,
            "intermediate_size": 384,
            "max_position_embeddings": 1_024,
        },
        "masked",
        "bpe",
        window=1_000,
        batch_size=32,
        learning_rate=1e-3,
        epochs=10,
    ),
    # Dalla-Torre et al. 2025, doi:10.1038/s41592-024-02523-z.
    "nt-v2-50m": Preset(
        {
            "add_bias_fnn": False,
            "hidden_size": 512,
            "num_hidden_layers": 12,
            "num_attention_heads": 16,
            "intermediate_size": 2_048,
            "layer_norm_eps": 1e-12,
            "max_position_embeddings": 2_050,
            "position_embedding_type": "rotary",
            "emb_layer_norm_before": False,
            "token_dropout": False,
            "tie_word_embeddings": False,
        },
        "masked",
        "6-mers",
        window=3_000,
        batch_size=8,
        learning_rate=1e-4,
        epochs=10,
    ),
    # Zhou et al. 2023, arXiv:2306.15006.
    "dnabert2": Preset(
        {
            "alibi_starting_size": 512,
            "hidden_act": "gelu",
            "hidden_size": 768,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "intermediate_size": 3_072,
            "layer_norm_eps": 1e-12,
            "max_position_embeddings": 512,
            "type_vocab_size": 2,
        },
        "masked",
        "bpe",
        window=700,
        batch_size=16,
        learning_rate=5e-4,
        epochs=10,
    ),
    "custom": Preset(
        {},
        "causal",
        "bpe",
        window=1_000,
        batch_size=16,
        learning_rate=5e-4,
        epochs=10,
    ),
}
