"""scGPT: its layers against torch's own encoder, padding, names of tensors, and files that are no scGPT."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import REPOSITORY, TEST_DATA
from dnalm.errors import UserError
from dnalm.models import scgpt
from dnalm.models.scgpt import CellEncoder, Sizes, module_name, recognises
from dnalm.models.sources import open_model
from torch import Tensor, nn
from torch.nn import functional

PUBLISHED = REPOSITORY / "tests" / "parity" / "data" / "scgpt"
TINY = Sizes(vocabulary=12, hidden=8, layers=2, heads=2, feed_forward=5, pad_id=3)


@pytest.fixture
def encoder() -> CellEncoder:
    """An encoder whose every weight is random."""
    generator = torch.Generator().manual_seed(0)
    encoder = CellEncoder(TINY).eval().requires_grad_(False)
    for parameter in encoder.parameters():
        parameter.data = 0.5 * torch.randn(parameter.shape, generator=generator)
    return encoder


def cells() -> tuple[Tensor, Tensor, Tensor]:
    """Return genes, values and mask of two cells, the second of which is padded."""
    genes = torch.tensor([[0, 5, 7, 9, 11], [0, 6, 8, 3, 3]])
    values = torch.tensor([[-2.0, 1.0, 17.0, 3.0, 50.0], [-2.0, 4.0, 2.0, -2.0, -2.0]])
    return genes, values, (genes != TINY.pad_id).long()


@torch.inference_mode()
def test_layers_are_those_of_torchs_own_encoder(encoder: CellEncoder) -> None:
    """Post-norm, ReLU, fused projections: under the names of torch's."""
    layer = nn.TransformerEncoderLayer(8, 2, 5, dropout=0.0, activation="relu", batch_first=True, norm_first=False)
    reference = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    reference.load_state_dict(encoder.transformer_encoder.state_dict())
    genes, values, mask = cells()
    expected = reference(encoder.embed(genes, values), src_key_padding_mask=mask == 0)
    found = encoder.hidden_states(genes, values, mask)
    assert len(found) == 3
    torch.testing.assert_close(found[-1][mask.bool()], expected[mask.bool()], rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_a_cell_is_the_first_tokens_last_state_of_length_one(encoder: CellEncoder) -> None:
    genes, values, mask = cells()
    first = encoder.hidden_states(genes, values, mask)[-1][:, 0]
    expected = first / first.square().sum(dim=1, keepdim=True).sqrt()
    torch.testing.assert_close(encoder(genes, values, mask), expected, rtol=1e-5, atol=1e-6)


@torch.inference_mode()
def test_a_cell_does_not_depend_on_its_padding(encoder: CellEncoder) -> None:
    genes, values, mask = cells()
    together = encoder(genes, values, mask)
    torch.testing.assert_close(encoder(genes[1:, :3], values[1:, :3])[0], together[1], rtol=1e-5, atol=1e-6)


@torch.inference_mode()
def test_a_token_is_the_sum_of_its_normed_gene_and_value(encoder: CellEncoder) -> None:
    genes, value_encoder = encoder.encoder, encoder.value_encoder
    row = functional.layer_norm(genes.embedding.weight[7], (8,), genes.enc_norm.weight, genes.enc_norm.bias)
    wide = (value_encoder.linear1.weight[:, 0] * 17 + value_encoder.linear1.bias).clamp(min=0)
    narrow = value_encoder.linear2.weight @ wide + value_encoder.linear2.bias
    value = functional.layer_norm(narrow, (8,), value_encoder.norm.weight, value_encoder.norm.bias)
    found = encoder.embed(torch.tensor([[7]]), torch.tensor([[17.0]]))
    torch.testing.assert_close(found[0, 0], row + value, rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_values_above_the_largest_are_read_as_it(encoder: CellEncoder) -> None:
    genes = torch.tensor([[7]])
    largest, above, below = (encoder.embed(genes, torch.tensor([[value]])) for value in (512.0, 9e9, 511.0))
    assert torch.equal(largest, above)
    assert not torch.equal(largest, below)


@pytest.mark.parametrize(
    ("stored", "name"),
    [
        ("transformer_encoder.layers.0.self_attn.Wqkv.weight", "transformer_encoder.layers.0.self_attn.in_proj_weight"),
        ("module.encoder.embedding.weight", "encoder.embedding.weight"),
        (
            "transformer_encoder.layers.0.self_attn._impl.Wqkv.bias",
            "transformer_encoder.layers.0.self_attn.in_proj_bias",
        ),
        ("value_encoder.linear1.weight", "value_encoder.linear1.weight"),
        ("encoder.module.weight", "encoder.module.weight"),
    ],
)
def test_every_spelling_of_the_authors_has_one_name(stored: str, name: str) -> None:
    assert module_name(stored) == name


@pytest.mark.parametrize(
    ("config", "is_one"),
    [
        ({"embsize": 512, "nlayers": 12, "d_hid": 512}, True),
        ({"embsize": 512, "nlayers": 12}, False),
        ({"embsize": 512, "nlayers": 12, "d_hid": 512, "model_type": "bert"}, False),
        ({}, False),
    ],
)
def test_an_args_json_is_distinguished_from_a_config_json(config: dict[str, Any], is_one: bool) -> None:
    assert recognises(config) is is_one


def test_a_loaded_model_has_its_vocabulary_and_sizes() -> None:
    model = scgpt.load(open_model(PUBLISHED))
    assert (len(model.layers), model.hidden_size, len(model.vocabulary), model.no_value) == (3, 32, 203, -2.0)
    assert (model.vocabulary["<pad>"], model.vocabulary["<cls>"]) == (model.pad_id, model.cls_id)
    model.to(torch.device("cpu"), torch.bfloat16)
    assert {parameter.dtype for parameter in model.module.parameters()} == {torch.bfloat16}


def test_a_model_of_dna_is_no_scgpt(random_model: Path) -> None:
    with pytest.raises(UserError, match="'dnalm-random' is no model of cells"):
        scgpt.load(open_model(random_model))


@pytest.mark.parametrize(
    ("vocabulary", "sentence"),
    [
        ({"<pad>": 0, "<cls>": 2}, "does not number its 2 names from 0 on, each once"),
        ({"<pad>": 0, "<cls>": True}, r"has no vocab\.json of genes and their numbers"),
        (["<pad>", "<cls>"], r"has no vocab\.json of genes and their numbers"),
        ({"<pad>": 0, "A1BG": 1}, "lacks the token '<cls>'"),
        ({"<cls>": 0, "A1BG": 1}, "lacks the token '<pad>'"),
        ({"<cls>": 0, "<pad>": 1}, "has 2 names, its weights are of 203"),
    ],
)
def test_vocabularies_that_do_not_fit_are_refused(vocabulary: object, sentence: str) -> None:
    stored = dataclasses.replace(open_model(PUBLISHED), tokenizer={"vocab.json": vocabulary})
    with pytest.raises(UserError, match=sentence):
        scgpt.load(stored)


@pytest.mark.parametrize("value", [None, "-2", True, 512, -512, float("nan")])
def test_a_value_of_padding_is_a_number_below_the_largest(value: object) -> None:
    stored = open_model(TEST_DATA / "scgpt.safetensors")
    with pytest.raises(UserError, match=f"has pad_value = {value}, where a number is needed"):
        scgpt.load(dataclasses.replace(stored, config=stored.config | {"pad_value": value}))
