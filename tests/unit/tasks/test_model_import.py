"""Import and export: files without names become a model file, which becomes a folder for Hugging Face's libraries."""

import json
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from conftest import ARCHITECTURES, REPOSITORY, SIZES, TEST_DATA, Run
from dnalm.models.heads import PooledClassifier, load_classifier
from dnalm.models.registry import load_language_model
from dnalm.models.sources import open_model
from safetensors.torch import load_file, save_file

ModelFolder = Callable[[str], Path]
PARITY = REPOSITORY / "tests" / "parity" / "data"
PUBLISHED = ["nt_v1", "nt_agro", "nt_v2", "dnabert2"]
LONG_WORD = "ACGT" * 8
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json")


class Nameless:
    """The files of a published model, named as Galaxy names them."""

    def __init__(self, folder: Path, published: Path) -> None:
        self.folder = folder
        self.files: dict[str, list[Path]] = {"--config": [], "--weights": [], "--tokenizer-files": []}
        for name in ("config.json", "model.safetensors", *TOKENIZER_FILES):
            if (published / name).exists():
                option = {"config.json": "--config", "model.safetensors": "--weights"}.get(name, "--tokenizer-files")
                self.add(option, (published / name).read_bytes())

    def add(self, option: str, content: bytes) -> Path:
        path = self.folder / f"dataset_{len(list(self.folder.glob('*.dat')))}.dat"
        path.write_bytes(content)
        self.files[option].append(path)
        return path

    def arguments(self, *more: object) -> list[object]:
        given = [argument for option, paths in self.files.items() for path in paths for argument in (option, path)]
        return [*given, "--output", self.folder / "model", "--summary", self.folder / "summary", *more]

    def change_config(self, **changes: Any) -> None:
        (path,) = self.files["--config"]
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.fixture
def nameless(tmp_path: Path) -> Callable[[Path], Nameless]:
    return lambda published: Nameless(tmp_path, published)


def facts(folder: Path) -> dict[str, str]:
    rows = [line.split("\t") for line in (folder / "summary").read_text().splitlines()[1:]]
    return {row[0]: row[1] for row in rows}


@pytest.mark.slow
@pytest.mark.parametrize("case", PUBLISHED)
def test_published_files_without_names_become_a_model_file(
    run_tool: Run, nameless: Callable[[Path], Nameless], tmp_path: Path, case: str
) -> None:
    files = nameless(PARITY / case)
    code, out, error = run_tool("import_model", *files.arguments("--name", "a model", "--licence", "CC-BY-NC-SA-4.0"))
    assert (code, error) == (0, "")
    stored = open_model(tmp_path / "model")
    assert (stored.name, stored.licence) == ("a model", "CC-BY-NC-SA-4.0")
    published = load_file(PARITY / case / "model.safetensors")
    found = stored.read_tensors()
    assert found.keys() == published.keys()
    assert all(
        torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype for name, tensor in published.items()
    )
    said = facts(tmp_path)
    assert said["head"] == "masked language model"
    assert said["licence"] == "CC-BY-NC-SA-4.0"
    assert f"architecture: {said['architecture']}" in out
    not_counted = ("position_ids", "inv_freq", "cls.predictions.decoder.weight")  # the last is tied in DNABERT-2
    assert int(said["parameters"].replace(",", "")) == sum(
        tensor.numel() for name, tensor in published.items() if not name.endswith(not_counted)
    )


@pytest.mark.slow
def test_the_order_of_the_tokenizers_files_does_not_matter(
    run_tool: Run, nameless: Callable[[Path], Nameless], tmp_path: Path
) -> None:
    files = nameless(PARITY / "nt_v2")
    run_tool("import_model", *files.arguments())
    first = (tmp_path / "model").read_bytes()
    files.files["--tokenizer-files"].reverse()
    run_tool("import_model", *files.arguments())
    assert (tmp_path / "model").read_bytes() == first


@pytest.mark.slow
def test_shards_are_put_together(run_tool: Run, nameless: Callable[[Path], Nameless], tmp_path: Path) -> None:
    files = nameless(PARITY / "nt_v2")
    (whole,) = files.files.pop("--weights")
    files.files["--weights"] = []
    tensors = load_file(whole)
    names = sorted(tensors)
    for part in (names[: len(names) // 2], names[len(names) // 2 :]):
        save_file({name: tensors[name] for name in part}, tmp_path / "shard")
        files.add("--weights", (tmp_path / "shard").read_bytes())
    index = files.add("--weights", json.dumps({"weight_map": dict.fromkeys(names, "x")}).encode())
    assert run_tool("import_model", *files.arguments())[0] == 0
    assert open_model(tmp_path / "model").read_tensors().keys() == tensors.keys()
    index.write_text(json.dumps({"weight_map": dict.fromkeys([*names, "esm.more"], "x")}))
    code, _, error = run_tool("import_model", *files.arguments())
    assert code == 1
    assert "The index names the tensor 'esm.more', which no file has" in error


@pytest.mark.slow
def test_a_model_without_language_model_head_is_said_to_have_none(
    run_tool: Run, nameless: Callable[[Path], Nameless], tmp_path: Path
) -> None:
    files = nameless(PARITY / "nt_v2")
    (weights,) = files.files["--weights"]
    tensors = {name: tensor for name, tensor in load_file(weights).items() if not name.startswith("lm_head")}
    save_file(tensors, weights)
    assert run_tool("import_model", *files.arguments())[0] == 0
    assert facts(tmp_path)["head"] == "none"


@pytest.mark.slow
def test_code_named_by_a_config_and_repeated_keys_are_mended_and_said(
    run_tool: Run, nameless: Callable[[Path], Nameless], tmp_path: Path
) -> None:
    files = nameless(PARITY / "nt_v2")
    (config,) = files.files["--config"]
    config.write_text(config.read_text().rstrip().removesuffix("}") + ', "hidden_size": 32}')
    code, out, _ = run_tool("import_model", *files.arguments())
    assert code == 0
    assert "Mended: config.json has the key 'hidden_size' twice: the last value is taken." in out
    assert "no code of a model is ever run" in out
    assert "auto_map" not in open_model(tmp_path / "model").config


@pytest.mark.slow
def test_code_named_by_a_tokenizer_is_mended_and_said(
    run_tool: Run, nameless: Callable[[Path], Nameless], tmp_path: Path
) -> None:
    files = nameless(PARITY / "dnabert2")
    for path in files.files["--tokenizer-files"]:
        content = json.loads(path.read_text())
        if "tokenizer_class" in content:
            path.write_text(json.dumps(content | {"auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]}}))
    code, out, _ = run_tool("import_model", *files.arguments())
    assert code == 0
    assert "Mended: tokenizer_config.json names code to load (auto_map)" in out
    assert "auto_map" not in open_model(tmp_path / "model").tokenizer["tokenizer_config.json"]


@pytest.mark.slow
def test_an_installed_folder_is_mended_as_it_is_exported(
    run_tool: Run, model_folder: ModelFolder, tmp_path: Path
) -> None:
    folder = tmp_path / "installed"
    shutil.copytree(model_folder("mixtral"), folder)
    config = json.loads((folder / "config.json").read_text())
    strange = {"auto_map": {"AutoModel": "evil.Model"}, "pad_token_id": config["vocab_size"]}
    (folder / "config.json").write_text(json.dumps(config | strange))
    (folder / "tokenizer_config.json").write_text(json.dumps({"auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]}}))
    code, out, _ = run_tool("export_model", "--model", folder, "--output-directory", tmp_path / "exported")
    assert code == 0
    assert out.count("Mended: ") == 3
    assert "auto_map" not in (tmp_path / "exported" / "tokenizer_config.json").read_text()
    transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "exported", trust_remote_code=False)


@pytest.mark.slow
def test_a_pad_token_behind_the_vocabulary_is_mended(
    run_tool: Run, nameless: Callable[[Path], Nameless], model_folder: ModelFolder, tmp_path: Path
) -> None:
    files = nameless(model_folder("mixtral"))
    vocabulary_size = json.loads(files.files["--config"][0].read_text())["vocab_size"]
    files.change_config(pad_token_id=vocabulary_size)
    code, out, _ = run_tool("import_model", *files.arguments())
    assert code == 0
    assert f"Mended: config.json pads with the token {vocabulary_size}" in out
    assert run_tool("export_model", "--model", tmp_path / "model", "--output-directory", tmp_path / "exported")[0] == 0
    transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "exported", trust_remote_code=False)


@pytest.mark.slow
@pytest.mark.parametrize("separator", ["\n", ", "])
def test_features_are_kept(run_tool: Run, nameless: Callable[[Path], Nameless], tmp_path: Path, separator: str) -> None:
    (tmp_path / "features").write_text(separator.join(["exon", "intron"]))
    files = nameless(PARITY / "nt_v2")
    assert run_tool("import_model", *files.arguments("--features", tmp_path / "features"))[0] == 0
    assert open_model(tmp_path / "model").labels == (["exon", "intron"] if separator == "\n" else ["exon, intron"])


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_from_pretrained_reads_what_is_exported_bit_by_bit(
    run_tool: Run,
    nameless: Callable[[Path], Nameless],
    model_folder: ModelFolder,
    tmp_path: Path,
    architecture: str,
) -> None:
    folder = model_folder(architecture)
    assert run_tool("import_model", *nameless(folder).arguments("--licence", "MIT"))[0] == 0
    imported = (tmp_path / "model").read_bytes()
    (tmp_path / "a.fasta").write_text(">a\nACGTTGCAACGN\n>b\nTTGACA\n")

    def embedded(model: Path) -> np.ndarray:
        given = ("--sequences", tmp_path / "a.fasta", "--model", model, "--output-format", "npz")
        assert run_tool("embed", *given, "--output", tmp_path / "vectors")[0] == 0
        vectors: np.ndarray = np.load(tmp_path / "vectors", allow_pickle=False)["embeddings"]
        return vectors

    vectors = embedded(tmp_path / "model")
    assert (tmp_path / "model").read_bytes() == imported
    code, out, _ = run_tool("export_model", "--model", tmp_path / "model", "--output-directory", tmp_path / "exported")
    assert code == 0
    assert "reads it: transformers' from_pretrained" in out
    masked = ARCHITECTURES[architecture][0].endswith("ForMaskedLM")
    auto = transformers.AutoModelForMaskedLM if masked else transformers.AutoModelForCausalLM
    model, report = auto.from_pretrained(tmp_path / "exported", trust_remote_code=False, output_loading_info=True)
    assert not report["missing_keys"]
    expected = auto.from_pretrained(folder, trust_remote_code=False).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())
    assert (
        load_file(tmp_path / "exported" / "model.safetensors").keys() == load_file(folder / "model.safetensors").keys()
    )
    assert 'license: "mit"' in (tmp_path / "exported" / "README.md").read_text()
    for place in (tmp_path / "exported", folder):
        np.testing.assert_allclose(embedded(place), vectors, rtol=0, atol=1e-6 * np.abs(vectors).max())


@pytest.mark.slow
@pytest.mark.parametrize("case", PUBLISHED)
def test_auto_tokenizer_reads_what_is_exported(
    run_tool: Run, nameless: Callable[[Path], Nameless], tmp_path: Path, case: str
) -> None:
    assert run_tool("import_model", *nameless(PARITY / case).arguments())[0] == 0
    assert run_tool("export_model", "--model", tmp_path / "model", "--output-directory", tmp_path / "exported")[0] == 0
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "exported", trust_remote_code=False)
    sequence = "ACGTTGCAACGATTTACCGATAGG"
    (encoding,) = load_language_model(open_model(tmp_path / "model")).encode([sequence])
    assert tokenizer(sequence)["input_ids"] == encoding.ids.tolist()


@pytest.mark.slow
def test_auto_tokenizer_reads_the_words_of_an_architecture_that_has_others(
    run_tool: Run, model_folder: ModelFolder, tmp_path: Path
) -> None:
    """BERT's own tokenizer would read a vocabulary of k-mers as pieces of words."""
    assert (
        run_tool("export_model", "--model", model_folder("bert"), "--output-directory", tmp_path / "exported")[0] == 0
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "exported", trust_remote_code=False)
    (encoding,) = load_language_model(open_model(model_folder("bert"))).encode(["ACGTTGCAACGN"])
    assert tokenizer("ACGTTGCAACGN")["input_ids"] == encoding.ids.tolist()


@pytest.mark.slow
def test_what_is_exported_is_imported_again_bit_by_bit(
    run_tool: Run, nameless: Callable[[Path], Nameless], tmp_path: Path
) -> None:
    assert run_tool("import_model", *nameless(PARITY / "dnabert2").arguments())[0] == 0
    first = open_model(tmp_path / "model").read_tensors()
    assert run_tool("export_model", "--model", tmp_path / "model", "--output-directory", tmp_path / "exported")[0] == 0
    again = open_model(tmp_path / "exported").read_tensors()
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
    load_language_model(open_model(tmp_path / "exported"), head=True)


@pytest.mark.slow
def test_what_a_model_says_of_itself_outlives_its_export(
    run_tool: Run, nameless: Callable[[Path], Nameless], tmp_path: Path
) -> None:
    """A licence that forbids commercial use among it."""
    files = nameless(PARITY / "dnabert2")
    assert run_tool("import_model", *files.arguments("--licence", "CC-BY-NC-SA-4.0"))[0] == 0
    before = open_model(tmp_path / "model")
    assert run_tool("export_model", "--model", tmp_path / "model", "--output-directory", tmp_path / "exported")[0] == 0
    assert run_tool("import_model", *nameless(tmp_path / "exported").arguments())[0] == 0
    again = open_model(tmp_path / "model")
    assert again.licence == "CC-BY-NC-SA-4.0"
    assert again.provenance["exported_from"] == before.provenance
    folder = open_model(tmp_path / "exported")  # by whoever uses the folder itself
    assert (folder.licence, folder.provenance["exported_from"]) == ("CC-BY-NC-SA-4.0", before.provenance)


@pytest.mark.slow
def test_both_say_where_a_model_comes_from(run_tool: Run, nameless: Callable[[Path], Nameless], tmp_path: Path) -> None:
    outputs = ("--output-directory", tmp_path / "exported", "--summary", tmp_path / "of_export")
    said = [run_tool("import_model", *nameless(PARITY / "dnabert2").arguments())[1]]
    said.append(run_tool("export_model", "--model", tmp_path / "model", *outputs)[1])
    provenance = open_model(tmp_path / "model").provenance
    for out, table in zip(said, ("summary", "of_export"), strict=True):
        (line,) = (line for line in out.splitlines() if line.startswith("provenance: "))
        assert json.loads(line.removeprefix("provenance: ")) == provenance
        assert line.replace(": ", "\t", 1) in (tmp_path / table).read_text().splitlines()


@pytest.mark.parametrize("said", ["no JSON", "[]", '{"licence": 1}', '{"labels": [1]}', '{"path": "/etc"}'])
def test_a_damaged_origin_is_refused(
    run_tool: Run, nameless: Callable[[Path], Nameless], tmp_path: Path, said: str
) -> None:
    folder = tmp_path / "published"
    shutil.copytree(PARITY / "dnabert2", folder)
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors, folder / "model.safetensors", {"format": "pt", "dnalm_origin": said})
    code, _, error = run_tool("import_model", *nameless(folder).arguments())
    assert code == 1
    assert "is damaged or no model file: " in error
    assert not (tmp_path / "model").exists()


@pytest.mark.slow
def test_an_exported_tokenizer_names_its_special_tokens(
    run_tool: Run, nameless: Callable[[Path], Nameless], tmp_path: Path
) -> None:
    assert run_tool("import_model", *nameless(PARITY / "dnabert2").arguments())[0] == 0
    assert run_tool("export_model", "--model", tmp_path / "model", "--output-directory", tmp_path / "exported")[0] == 0
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "exported", trust_remote_code=False)
    assert (tokenizer.pad_token_id, tokenizer.mask_token_id, tokenizer.unk_token_id) == (3, 4, 0)


@pytest.mark.slow
def test_a_decoder_tied_to_the_embeddings_is_counted_once(
    run_tool: Run, nameless: Callable[[Path], Nameless], tmp_path: Path
) -> None:
    code, out, _ = run_tool("import_model", *nameless(PARITY / "dnabert2").arguments())
    assert code == 0
    shapes = {name: tensor.numel() for name, tensor in open_model(tmp_path / "model").read_tensors().items()}
    expected = sum(count for name, count in shapes.items() if name != "cls.predictions.decoder.weight")
    assert f"parameters: {expected:,}" in out


@pytest.mark.slow
def test_names_and_licences_are_one_line_wherever_they_are_read(
    run_tool: Run, nameless: Callable[[Path], Nameless], tmp_path: Path
) -> None:
    odd = ["--name", "a\nlicence: MIT", "--licence", "CC\n---\x1b[31m\udcff"]
    code, out, _ = run_tool("import_model", *nameless(PARITY / "nt_v2").arguments(*odd))
    assert code == 0
    assert "name: a licence: MIT\n" in out
    assert facts(tmp_path)["licence"] == r"CC ---\x1b[31m\udcff"
    assert open_model(tmp_path / "model").licence == r"CC ---\x1b[31m\udcff"
    assert run_tool("export_model", "--model", tmp_path / "model", "--output-directory", tmp_path / "exported")[0] == 0
    lines = (tmp_path / "exported" / "README.md").read_text().splitlines()
    assert lines.count("---") == 2
    assert r"- licence: CC ---\x1b[31m\udcff" in lines


@pytest.mark.slow
def test_half_a_pair_of_surrogates_in_a_config_is_kept(
    run_tool: Run, nameless: Callable[[Path], Nameless], tmp_path: Path
) -> None:
    """JSON can name it, and no file can hold it."""
    files = nameless(PARITY / "nt_v2")
    files.change_config(note="\ud800é")
    assert run_tool("import_model", *files.arguments())[0] == 0
    assert open_model(tmp_path / "model").config["note"] == "\ud800é"
    assert run_tool("export_model", "--model", tmp_path / "model", "--output-directory", tmp_path / "exported")[0] == 0
    assert open_model(tmp_path / "exported").config["note"] == "\ud800é"


@pytest.mark.slow
def test_settings_of_numbers_alone_are_no_vocabulary(
    run_tool: Run, nameless: Callable[[Path], Nameless], tmp_path: Path
) -> None:
    files = nameless(PARITY / "nt_v2")
    files.files["--tokenizer-files"] = [
        path for path in files.files["--tokenizer-files"] if not path.read_text().startswith("{")
    ]
    files.add("--tokenizer-files", b'{"model_max_length": 100}')
    assert run_tool("import_model", *files.arguments())[0] == 0
    assert facts(tmp_path)["context_tokens"] == "100"


# What users give by mistake or in malice: a change of the files, and what the sentence says.
Change = Callable[[Nameless], object]


def _swap(files: Nameless) -> None:
    files.files["--config"], files.files["--tokenizer-files"] = (
        files.files["--tokenizer-files"][:1],
        files.files["--config"],
    )


def _rewrite(option: str, content: bytes) -> Change:
    return lambda files: files.files[option][0].write_bytes(content)


def _tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Change:
    def rewrite(files: Nameless) -> None:
        (path,) = files.files["--weights"]
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path)

    return rewrite


def _overlap(files: Nameless) -> None:
    header = json.dumps(
        {
            "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
            "b": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]},
        }
    ).encode()
    files.files["--weights"][0].write_bytes(struct.pack("<Q", len(header)) + header + bytes(12))


def _outside(files: Nameless) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [1000], "data_offsets": [0, 4000]}}).encode()
    files.files["--weights"][0].write_bytes(struct.pack("<Q", len(header)) + header + bytes(12))


def _regex(pattern: str) -> Change:
    def rewrite(files: Nameless) -> None:
        description = json.loads((PARITY / "dnabert2" / "tokenizer.json").read_text())
        description["pre_tokenizer"] = {
            "type": "Split",
            "pattern": {"Regex": pattern},
            "behavior": "Isolated",
            "invert": False,
        }
        files.files["--tokenizer-files"] = []
        files.add("--tokenizer-files", json.dumps(description).encode())

    return rewrite


def _ids(word: str, number: int) -> Change:
    def rewrite(files: Nameless) -> None:
        description = json.loads((PARITY / "dnabert2" / "tokenizer.json").read_text())
        description["model"]["vocab"][word] = number
        for token in description["added_tokens"]:
            token["id"] = description["model"]["vocab"][token["content"]]
        for option in files.files:
            files.files[option] = []
        files.add("--config", (PARITY / "dnabert2" / "config.json").read_bytes())
        files.add("--weights", (PARITY / "dnabert2" / "model.safetensors").read_bytes())
        files.add("--tokenizer-files", json.dumps(description).encode())

    return rewrite


def _zip_bomb(files: Nameless) -> None:
    shutil.make_archive(str(files.folder / "bomb"), "zip", PARITY / "kmer_tokenizer")
    files.files["--weights"][0].write_bytes((files.folder / "bomb.zip").read_bytes())


BAD: dict[str, tuple[Change, str]] = {
    "config and tokenizer swapped": (_swap, "where a config.json is needed"),
    "pickle named safetensors": (
        _rewrite("--weights", b"\x80\x04\x95" + bytes(100)),
        "pickled weights, which are never read",
    ),
    "zip": (_zip_bomb, "pickled weights, which are never read"),
    "header of 1 GB": (
        _rewrite("--weights", struct.pack("<Q", 10**9) + b"{" + bytes(100)),
        "or one of over 100 MB",
    ),
    "tensors that overlap": (_overlap, "tensor 'b' overlaps another or leaves a gap"),
    "tensors outside the file": (_outside, "it is cut short"),
    "a config of 10^12 parameters": (
        lambda files: files.change_config(hidden_size=1_000_000, num_attention_heads=4),
        "has the shape",
    ),
    "a config of 10^12 layers": (lambda files: files.change_config(num_hidden_layers=10**12), "cannot fill"),
    "a config with a size of text": (lambda files: files.change_config(hidden_size="32"), "where a size is needed"),
    "heads that do not divide": (lambda files: files.change_config(num_attention_heads=5), "does not divide"),
    "a variant nobody published": (
        lambda files: files.change_config(position_embedding_type="absolute"),
        "only rotary is known here",
    ),
    "an unknown architecture": (
        lambda files: files.change_config(model_type="hyena", add_bias_fnn=True),
        "The architecture 'hyena' of the model 'imported model' is unknown here",
    ),
    "a config that is a list": (_rewrite("--config", b"[1]"), "is a JSON list"),
    "a config with NaN": (
        lambda files: files.change_config(hidden_size=float("nan")),
        "hidden_size = nan, where a size",
    ),
    "a config with an infinite number": (
        lambda files: files.change_config(layer_norm_eps=float("inf")),
        "layer_norm_eps = inf, where a number between 0 and 1 is needed",
    ),
    "a config nested without end": (_rewrite("--config", b'{"a":' * 100_000), "is no JSON"),
    "a config of something else": (_rewrite("--config", b'{"colour": "blue"}'), "is no file of a model"),
    "binary config": (_rewrite("--config", bytes(range(128, 256))), "is neither safetensors nor text"),
    "empty config": (_rewrite("--config", b""), "is empty or binary"),
    "NaN weights": (
        _tensors(lambda tensors: tensors["esm.encoder.layer.1.output.dense.weight"].fill_(torch.nan)),
        "NaN or infinite weights in 'esm.encoder.layer.1.output.dense.weight'",
    ),
    "a head that makes infinite numbers": (
        _tensors(lambda tensors: tensors["lm_head.decoder.weight"].fill_(3e38)),
        "makes NaN or infinity of a sequence",
    ),
    "empty weights": (
        _tensors(lambda tensors: [tensor.zero_() for tensor in tensors.values()]),
        "makes the same of every base",
    ),
    "a missing tensor": (
        _tensors(lambda tensors: tensors.pop("esm.encoder.layer.1.output.dense.weight")),
        "tensor 'esm.encoder.layer.1.output.dense.weight' is missing",
    ),
    "an unknown tensor": (
        _tensors(lambda tensors: tensors.update({"esm.more": torch.zeros(2)})),
        "tensor 'esm.more' is unknown",
    ),
    "whole numbers": (
        _tensors(lambda tensors: tensors.update({"lm_head.bias": torch.zeros(4107, dtype=torch.int64)})),
        "tensor 'lm_head.bias' holds whole numbers",
    ),
    "weights of another model": (
        lambda files: files.files["--weights"][0].write_bytes((PARITY / "dnabert2" / "model.safetensors").read_bytes()),
        "The weights of the model 'imported model' do not fit its config",
    ),
    "a tokenizer whose pattern never ends": (_regex("(A+)+C"), "The model's tokenizer.json cannot be used"),
    "a slow tokenizer": (_regex("(A|AA)+$"), "The model's tokenizer.json"),
    "a text about something else": (
        lambda files: files.files["--tokenizer-files"].__setitem__(
            slice(None), [PARITY / "kmer_tokenizer" / "README.md"]
        ),
        "where a tokenizer.json or vocab.txt",
    ),
    "two vocabularies": (
        lambda files: files.add("--tokenizer-files", (PARITY / "nt_v1" / "vocab.txt").read_bytes()),
        "Two of the tokenizer's files are a vocab.txt",
    ),
    "a vocab.json": (
        lambda files: files.add("--tokenizer-files", b'{"A": 0, "C": 1}'),
        "give the tokenizer.json instead",
    ),
    "merges": (lambda files: files.add("--tokenizer-files", b"A C\nG T\nAC GT\n"), "give the tokenizer.json instead"),
    "keys of a tokenizer twice": (
        lambda files: files.add("--tokenizer-files", b'{"model": {"A": 1, "A": 2}, "added_tokens": []}'),
        "has the key 'A' twice",
    ),
    "a model file": (
        lambda files: files.files["--weights"].__setitem__(0, REPOSITORY / "test-data" / "random_model.safetensors"),
        "is a DNA-LM model file already; use it as it is",
    ),
    "one shard twice": (
        lambda files: files.files["--weights"].append(files.files["--weights"][0]),
        "give each shard once",
    ),
    "ids of a tokenizer that no sequence of a trial uses": (_ids(LONG_WORD, 4096), "makes the token id 4096"),
    "a mask outside the vocabulary": (_ids("[MASK]", 9999), "makes the token id 9999"),
    "ids of over 31 bits": (_ids("A", 2**31), "has ids of over 31 bits"),
    "no such file": (lambda files: files.files["--config"][0].unlink(), "No such file"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", BAD)
def test_files_that_are_no_model_are_refused(
    run_tool: Run, nameless: Callable[[Path], Nameless], tmp_path: Path, case: str
) -> None:
    change, sentence = BAD[case]
    files = nameless(PARITY / "nt_v2")
    change(files)
    before = sorted(tmp_path.iterdir())
    code, _, error = run_tool("import_model", *files.arguments())
    assert code == 1
    assert sentence in error
    assert error.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.slow
def test_a_panic_of_the_tokenizers_library_is_told_in_one_line(
    nameless: Callable[[Path], Nameless], tmp_path: Path
) -> None:
    """The library prints before Python hears of it, so that only a process of its own shows what a user sees."""
    files = nameless(PARITY / "nt_v2")
    _regex("(A+)+C")(files)
    command = [sys.executable, REPOSITORY / "scripts" / "dnalm_import_model.py", *files.arguments()]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("dnalm_import_model: The model's tokenizer.json cannot be used")
    assert done.stderr.count("\n") == 1


def test_ids_outside_the_vocabulary_are_refused(
    run_tool: Run, nameless: Callable[[Path], Nameless], tmp_path: Path
) -> None:
    """The tokenizer of v1 with more words than the model has embeddings, where its own words are used."""
    files = nameless(PARITY / "nt_v1")
    (weights,) = files.files["--weights"]
    tensors = load_file(weights)
    small: dict[str, torch.Tensor] = {
        name: tensor[:100].clone() if tensor.shape[:1] == (4105,) else tensor for name, tensor in tensors.items()
    }
    save_file(small, weights)
    files.change_config(vocab_size=100)
    code, _, error = run_tool("import_model", *files.arguments())
    assert code == 1
    assert "but the model has only 100 tokens" in error


def test_features_that_contradict_the_config_are_refused(
    run_tool: Run, nameless: Callable[[Path], Nameless], tmp_path: Path
) -> None:
    files = nameless(PARITY / "nt_v2")
    files.change_config(features=["exon", "intron"])
    (tmp_path / "features").write_text("intron\nexon\n")
    code, _, error = run_tool("import_model", *files.arguments("--features", tmp_path / "features"))
    assert code == 1
    assert "differ from those of the model's config" in error


MADE = {
    "classifier": ("masked language model, classifier", "ecoli, human"),
    "regressor": ("masked language model, regressor", "gc"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MADE)
def test_a_head_of_ours_outlives_export_and_import(
    run_tool: Run, nameless: Callable[[Path], Nameless], tmp_path: Path, name: str
) -> None:
    model = TEST_DATA / f"{name}.safetensors"
    code, said, _ = run_tool("export_model", "--model", model, "--output-directory", tmp_path / "exported")
    assert code == 0
    assert "DNA-LM alone: classifier.weight and classifier.bias belong to the mean" in said
    assert run_tool("import_model", *nameless(tmp_path / "exported").arguments())[0] == 0
    head, labels = MADE[name]
    assert (facts(tmp_path)["head"], facts(tmp_path)["labels"]) == (head, labels)
    first = load_classifier(open_model(model))
    for place in (tmp_path / "model", tmp_path / "exported"):
        again = load_classifier(open_model(place))
        assert again.facts == first.facts
        assert isinstance(again.module, PooledClassifier)
        assert isinstance(first.module, PooledClassifier)
        assert torch.equal(again.module.classifier.weight, first.module.classifier.weight)
    assert open_model(tmp_path / "model").labels == list(first.labels)


@pytest.fixture
def published_classifier(model_folder: ModelFolder, tmp_path: Path) -> Path:
    """A classifier as its authors saved it, without names of its labels."""
    folder = tmp_path / "published"
    torch.manual_seed(1)
    model_class = transformers.BertForSequenceClassification
    model_class(transformers.BertConfig(**SIZES)).save_pretrained(folder)
    for name in ("vocab.txt", "tokenizer_config.json"):
        shutil.copy(model_folder("bert") / name, folder)
    return folder


@pytest.mark.slow
def test_labels_of_a_published_classifier_can_be_named(
    run_tool: Run, nameless: Callable[[Path], Nameless], published_classifier: Path, tmp_path: Path
) -> None:
    files = nameless(published_classifier)
    assert run_tool("import_model", *files.arguments())[0] == 0
    assert (facts(tmp_path)["head"], facts(tmp_path)["labels"]) == ("classifier", "LABEL_0, LABEL_1")
    (tmp_path / "names").write_text("other\nenhancer\n")
    assert run_tool("import_model", *files.arguments("--features", tmp_path / "names"))[0] == 0
    stored = open_model(tmp_path / "model")
    assert stored.labels == ["other", "enhancer"]
    assert load_classifier(stored).labels == ("other", "enhancer")


def test_names_of_labels_must_fit(
    run_tool: Run, nameless: Callable[[Path], Nameless], published_classifier: Path, tmp_path: Path
) -> None:
    files = nameless(published_classifier)
    (tmp_path / "names").write_text("a\nb\nc\n")
    files.change_config(id2label=None)
    assert (
        "has 2 labels, and 3 are named"
        in run_tool("import_model", *files.arguments("--features", tmp_path / "names"))[2]
    )
    files.change_config(id2label={"0": "x", "1": "y"})
    assert (
        "differ from those of the model's config"
        in run_tool("import_model", *files.arguments("--features", tmp_path / "names"))[2]
    )
    files.change_config(hidden_size="wide")
    code, _, error = run_tool("import_model", *files.arguments())
    assert (code, error.count("\n")) == (1, 1)
