"""Language models of every architecture: the numbers of plain transformers, alone, padded, and of some layers."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from conftest import ARCHITECTURES, REPOSITORY
from dnalm.engine.inference import Piece, pad
from dnalm.errors import UserError
from dnalm.models.language_model import LanguageModel
from dnalm.models.model_file import write_model_file
from dnalm.models.registry import load_language_model
from dnalm.models.sources import open_model
from dnalm.models.tokenizers import Encoding
from mistral_dna import write_mistral_dna
from safetensors.torch import load_file

ModelFolder = Callable[[str], Path]
SEQUENCES = ["ACGTTGCANNACGGATTACAGATTACACC", "ACG", "TTTTGACATTACGATCGATCGGATCTAGCTAGCTAGGCTAAA", "N"]
# Their absolute positions are counted from the left edge of the batch, whatever the mask says, so that pads on the left
# would move them. All others take relative or rotary positions, or count tokens by the mask or the ids (RoBERTa, ESM).
POSITIONS_FROM_THE_EDGE = {"bert", "deberta-v2", "distilbert", "electra", "gpt2"}


def padded(encodings: list[Encoding], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    pieces = [Piece(encoding.ids, np.ones(len(encoding), dtype=np.float32)) for encoding in encodings]
    input_ids, attention_mask, _ = pad(pieces, pad_id)
    return input_ids, attention_mask


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_hidden_states_of_every_layer_equal_plain_transformers(model_folder: ModelFolder, architecture: str) -> None:
    folder = model_folder(architecture)
    model = load_language_model(open_model(folder))
    reference = transformers.AutoModel.from_pretrained(folder, trust_remote_code=False).eval()
    for sequence in SEQUENCES:
        (encoding,) = model.encode([sequence])
        ids = torch.from_numpy(encoding.ids)[None]
        with torch.inference_mode():
            expected = reference(ids, attention_mask=torch.ones_like(ids), output_hidden_states=True).hidden_states
            everything = model.hidden_states(ids, None, range(len(model.layers) + 1))
            for layer in range(len(model.layers) + 1):
                (found,) = model.hidden_states(ids, None, [layer])
                torch.testing.assert_close(found, expected[layer], rtol=1e-5, atol=1e-5)
                torch.testing.assert_close(everything[layer], expected[layer], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_padding_does_not_change_hidden_states(model_folder: ModelFolder, architecture: str) -> None:
    model = load_language_model(open_model(model_folder(architecture)))
    encodings = model.encode(SEQUENCES)
    input_ids, attention_mask = padded(encodings, model.pad_id)
    layers = range(len(model.layers) + 1)
    with torch.inference_mode():
        together = model.hidden_states(input_ids, attention_mask, layers)
        for row, encoding in enumerate(encodings):
            alone = model.hidden_states(torch.from_numpy(encoding.ids)[None], None, layers)
            for layer in layers:
                torch.testing.assert_close(together[layer][row, : len(encoding)], alone[layer][0], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_padding_on_the_left_changes_only_positions_counted_from_the_edge(
    model_folder: ModelFolder, architecture: str
) -> None:
    model = load_language_model(open_model(model_folder(architecture)))
    encodings = model.encode(SEQUENCES)
    longest = max(map(len, encodings))
    input_ids = torch.full((len(encodings), longest), model.pad_id)
    attention_mask = torch.zeros_like(input_ids)
    for row, encoding in enumerate(encodings):
        input_ids[row, longest - len(encoding) :] = torch.from_numpy(encoding.ids)
        attention_mask[row, longest - len(encoding) :] = 1
    layers = range(len(model.layers) + 1)
    worst = 0.0
    with torch.inference_mode():
        together = model.hidden_states(input_ids, attention_mask, layers)
        for row, encoding in enumerate(encodings):
            alone = model.hidden_states(torch.from_numpy(encoding.ids)[None], None, layers)
            for batch, (expected,) in zip(together, alone, strict=True):
                difference = (batch[row, longest - len(encoding) :] - expected).abs().max()
                worst = max(worst, float(difference / expected.abs().max()))
    assert (worst > 0.1) if architecture in POSITIONS_FROM_THE_EDGE else (worst < 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_logits_equal_plain_transformers(model_folder: ModelFolder, architecture: str) -> None:
    folder = model_folder(architecture)
    model = load_language_model(open_model(folder), head=True)
    reference_class = getattr(transformers, ARCHITECTURES[architecture][0])
    reference = reference_class.from_pretrained(folder, trust_remote_code=False).eval()
    (encoding,) = model.encode([SEQUENCES[0]])
    ids = torch.from_numpy(encoding.ids)[None]
    with torch.inference_mode():
        expected = reference(ids, attention_mask=torch.ones_like(ids)).logits
        torch.testing.assert_close(model.logits(ids, None), expected, rtol=1e-5, atol=1e-5)


def some_tokens(input_ids: torch.Tensor) -> torch.Tensor:
    return torch.tensor([[2, 0, 1], [0, 0, 2], [input_ids.shape[1] - 1, 3, 3], [1, 1, 1]])


@pytest.mark.slow
@pytest.mark.parametrize("architecture", [*ARCHITECTURES, "nt_v2", "dnabert2"])
def test_the_head_of_some_tokens_gives_their_logits(model_folder: ModelFolder, architecture: str) -> None:
    own = REPOSITORY / "tests" / "parity" / "data" / architecture
    folder = model_folder(architecture) if architecture in ARCHITECTURES else own
    model = load_language_model(open_model(folder), head=True)
    input_ids, attention_mask = padded(model.encode(SEQUENCES), model.pad_id)
    at = torch.tensor([[2, 0, 1], [0, 0, 2], [input_ids.shape[1] - 1, 3, 3], [1, 1, 1]])
    with torch.inference_mode():
        everything = model.logits(input_ids, attention_mask)
        found = model.logits(input_ids, attention_mask, at)
        torch.testing.assert_close(found, everything[torch.arange(4)[:, None], at], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(model.logits(input_ids, attention_mask), everything)


CAUSAL = [name for name, (class_name, _) in ARCHITECTURES.items() if "MaskedLM" not in class_name]


@pytest.mark.slow
@pytest.mark.parametrize("architecture", CAUSAL)
def test_a_common_prefix_is_read_once(model_folder: ModelFolder, architecture: str) -> None:
    """The cache of a prefix, copied for each sequence, gives the logits of the whole; pads on the right change nothing."""
    model = load_language_model(open_model(model_folder(architecture)), head=True)
    first, *_ = model.encode(["ACGTTGCAACACGGATTACAGATTACACC"])
    ends = [torch.tensor([5, 6, 7, 8]), torch.tensor([9, 4])]
    prefix = torch.from_numpy(first.ids).long()[None]
    together = torch.full((2, 4), model.pad_id)
    for row, end in enumerate(ends):
        together[row, : len(end)] = end
    with torch.inference_mode():
        cache = model.read(prefix)
        cache.batch_select_indices(torch.tensor([0, 0]))
        found = model.logits_behind(together, cache)
        for row, end in enumerate(ends):
            whole = model.logits(torch.cat([prefix[0], end])[None], None)[0]
            expected = whole[prefix.shape[1] :]
            torch.testing.assert_close(found[row, : len(end)], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_attention_maps_equal_plain_transformers_and_their_rows_add_up_to_1(
    model_folder: ModelFolder, architecture: str
) -> None:
    folder = model_folder(architecture)
    model = load_language_model(open_model(folder))
    reference = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager", trust_remote_code=False)
    encodings = model.encode(SEQUENCES)
    input_ids, attention_mask = padded(encodings, model.pad_id)
    with torch.inference_mode():
        before = model.hidden_states(input_ids, attention_mask, [3])[0]
        expected = reference.eval()(input_ids, attention_mask=attention_mask, output_attentions=True).attentions
        for layer, found in zip([2, 0], model.attention_maps(input_ids, attention_mask, [2, 0]), strict=True):
            for row, encoding in enumerate(encodings):
                of_tokens = found[row, :, : len(encoding)]
                torch.testing.assert_close(of_tokens, expected[layer][row, :, : len(encoding)], rtol=0, atol=1e-6)
                torch.testing.assert_close(of_tokens.sum(-1), torch.ones_like(of_tokens[..., 0]), rtol=0, atol=1e-5)
                assert not of_tokens[..., len(encoding) :].any()
        # Maps are asked of kernels that hold them, and the usual ones are back afterwards.
        assert torch.equal(model.hidden_states(input_ids, attention_mask, [3])[0], before)


def test_the_first_norm_of_the_head_is_the_transformers_own(model_folder: ModelFolder) -> None:
    folder = model_folder("esm-rotary")
    model = load_language_model(open_model(folder), head=True)
    reference = transformers.EsmForMaskedLM.from_pretrained(folder, trust_remote_code=False).eval()
    (encoding,) = model.encode([SEQUENCES[0]])
    ids = torch.from_numpy(encoding.ids)[None]
    with torch.inference_mode():
        hidden = reference.esm(ids).last_hidden_state
        dense = torch.nn.functional.gelu(reference.lm_head.dense(hidden))
        torch.testing.assert_close(
            model.head_norm(ids, None), reference.lm_head.layer_norm(dense), rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("case", ["nt_v2", "dnabert2"])
def test_the_first_norm_of_the_head_is_the_one_before_the_decoder(case: str) -> None:
    folder = REPOSITORY / "tests" / "parity" / "data" / case
    model = load_language_model(open_model(folder), head=True)
    stored = load_file(folder / "model.safetensors")
    ids = torch.from_numpy(model.encode(["ACGTTGCAACGGATTACAG"])[0].ids)[None]
    with torch.inference_mode():
        normed, logits = model.head_norm(ids, None), model.logits(ids, None)
    decoder, bias = (
        ("lm_head.decoder.weight", "lm_head.bias")
        if case == "nt_v2"
        else ("bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.bias")
    )
    torch.testing.assert_close(normed @ stored[decoder].T + stored[bias], logits, rtol=1e-5, atol=1e-5)
    assert normed.shape == (1, ids.shape[1], model.hidden_size)


@pytest.mark.parametrize("architecture", ["llama", "mixtral"])
def test_a_head_without_norm_is_an_error(model_folder: ModelFolder, architecture: str) -> None:
    model = load_language_model(open_model(model_folder(architecture)), head=True)
    ids = torch.from_numpy(model.encode(["ACGT"])[0].ids)[None]
    with pytest.raises(UserError, match="has no layer norm"):
        model.head_norm(ids, None)


@pytest.mark.slow
def test_layers_above_the_highest_asked_for_are_not_computed(model_folder: ModelFolder) -> None:
    model = load_language_model(open_model(model_folder("bert")))
    called: list[int] = []
    for number, layer in enumerate(model.layers):
        layer.register_forward_hook(lambda *_, number=number: called.append(number))
    ids = torch.from_numpy(model.encode(["ACGT"])[0].ids)[None]
    model.hidden_states(ids, None, [0, 2])
    assert called == [0, 1]


def test_layers_are_counted_from_both_ends(model_folder: ModelFolder) -> None:
    model = load_language_model(open_model(model_folder("bert")))
    assert [model.layer_number(layer) for layer in (0, 3, -1, -4)] == [0, 3, 3, 0]
    for layer in (4, -5):
        with pytest.raises(UserError, match=r"choose 0 \(embeddings\) to 3 \(last\)"):
            model.layer_number(layer)


def test_a_tokenizer_of_another_model_is_refused(model_folder: ModelFolder, tmp_path: Path) -> None:
    stored = open_model(model_folder("bert"))
    words = stored.tokenizer["vocab.txt"].split("\n")
    tokenizer = {"vocab.txt": "\n".join(["<cls>", *[f"<extra{number}>" for number in range(50)], *words])}
    path = tmp_path / "m"
    write_model_file(path, stored.read_tensors(), stored.config, tokenizer, name="mixed")
    model = load_language_model(open_model(path))
    with pytest.raises(UserError, match="makes the token id"):
        model.encode(["ACGTACGT"])


def test_a_context_without_room_for_a_base_is_refused(model_folder: ModelFolder) -> None:
    stored = open_model(model_folder("bert"))
    files = stored.tokenizer | {"tokenizer_config.json": {"model_max_length": 1}}
    model = load_language_model(dataclasses.replace(stored, tokenizer=files))
    with pytest.raises(UserError, match="leaves no room"):
        model.encode(["ACGT"])


def test_a_tokenizer_that_drops_letters_is_refused(model_folder: ModelFolder) -> None:
    stored = open_model(model_folder("bert"))
    vocabulary = {letter: number for number, letter in enumerate("ACGN")}
    lossy = {"version": "1.0", "model": {"type": "BPE", "vocab": vocabulary, "merges": []}}
    model = load_language_model(dataclasses.replace(stored, tokenizer={"tokenizer.json": lossy}))
    with pytest.raises(UserError, match="drops letters"):
        model.encode(["ACTTGA"])


def test_a_model_file_equals_its_folder(model_folder: ModelFolder, tmp_path: Path) -> None:
    stored = open_model(model_folder("mixtral"))
    path = tmp_path / "m"
    write_model_file(path, stored.read_tensors(), stored.config, stored.tokenizer, name="tiny")
    models = [load_language_model(open_model(path)), load_language_model(stored)]
    (encoding,) = models[0].encode([SEQUENCES[0]])
    ids = torch.from_numpy(encoding.ids)[None]
    with torch.inference_mode():
        first, second = (model.hidden_states(ids, None, [3])[0] for model in models)
    assert torch.equal(first, second)


@pytest.fixture
def mistral_dna(tmp_path: Path) -> Path:
    """A Mistral-DNA of two classes."""
    return write_mistral_dna(tmp_path / "mistral_dna")


def test_a_classifier_gives_no_logits_of_a_language_model(mistral_dna: Path) -> None:
    with pytest.raises(UserError, match="has no language-model head"):
        load_language_model(open_model(mistral_dna), head=True)


def test_a_published_classifier_has_the_hidden_states_of_plain_transformers(mistral_dna: Path) -> None:
    """From bases to what its head reads: ids, every layer, and the logits of the last token in a padded batch."""
    stored = open_model(mistral_dna)
    model = load_language_model(stored)
    encodings = model.encode(["ATTGTGGGTCCCCGTAGATGATAGGGGCCCCCC", "ACGTACGTAGCTGATCGAT"])
    assert encodings[0].ids.tolist() == [1, 2061, 281, 485, 35, 245, 2179, 102, 13, 2]
    assert encodings[1].ids.tolist() == [1, 5, 194, 194, 152, 359, 8, 2]
    whole = transformers.MixtralForSequenceClassification.from_pretrained(mistral_dna, trust_remote_code=False).eval()
    input_ids, attention_mask = padded(encodings, model.pad_id)
    expected_logits = []
    with torch.inference_mode():
        for encoding in encodings:
            ids = torch.from_numpy(encoding.ids)[None]
            expected = whole(ids, output_hidden_states=True)
            expected_logits.append(expected.logits[0])
            for layer in range(len(model.layers) + 1):
                (found,) = model.hidden_states(ids, None, [layer])
                torch.testing.assert_close(found, expected.hidden_states[layer], rtol=0, atol=1e-5)
        (last,) = model.hidden_states(input_ids, attention_mask, [len(model.layers)])
    ends = [last[row, len(encoding) - 1] for row, encoding in enumerate(encodings)]
    logits = torch.stack(ends) @ stored.read_tensors()["score.weight"].T
    assert (logits[0] - logits[1]).abs().max() > 0.1
    torch.testing.assert_close(logits, torch.stack(expected_logits), rtol=0, atol=1e-4)


class Broken(torch.nn.Module):
    """A backbone or head that fails."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def forward(self, **_: object) -> None:
        raise self.error


CALLS: dict[str, Callable[[LanguageModel, torch.Tensor], object]] = {
    "hidden states": lambda model, ids: model.hidden_states(ids, None, [3]),
    "logits": lambda model, ids: model.logits(ids, None),
    "logits of some": lambda model, ids: model.logits(ids, None, ids[:, :1]),
    "cache": lambda model, ids: model.read(ids),
    "logits behind": lambda model, ids: model.logits_behind(ids, None),  # type: ignore[arg-type]
    "next logits": lambda model, ids: model.next_logits(ids),
}


@pytest.mark.parametrize("call", CALLS)
def test_whatever_a_foreign_forward_raises_is_a_sentence(model_folder: ModelFolder, call: str) -> None:
    model = load_language_model(open_model(model_folder("llama")), head=True)
    for error in (TypeError("no number"), IndexError(), RuntimeError("shapes"), SystemError("of a library")):
        model.backbone = model.with_head = Broken(error)
        with pytest.raises(UserError, match=r"The model '.*' cannot run a sequence \(.+\); fix its config") as told:
            CALLS[call](model, torch.ones((1, 3), dtype=torch.long))
        assert told.value.__cause__ is error


@pytest.mark.parametrize("call", CALLS)
def test_a_lack_of_memory_stays_one(model_folder: ModelFolder, call: str) -> None:
    model = load_language_model(open_model(model_folder("llama")), head=True)
    for error in (MemoryError(), torch.OutOfMemoryError("GPU")):
        model.backbone = model.with_head = Broken(error)
        with pytest.raises(type(error)) as passed:
            CALLS[call](model, torch.ones((1, 3), dtype=torch.long))
        assert passed.value is error
