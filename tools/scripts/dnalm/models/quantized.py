"""Encoders in int8: exported to ONNX, their matrices rounded, and run by ONNX Runtime on the CPU.

A weight matrix gets one scale a column, what comes in one scale and offset a matrix product, found when it comes
(dynamic quantisation; Jacob et al. 2018, doi:10.1109/CVPR.2018.00286). Embeddings, norms and attention's own products
stay float32. The scales of what comes in depend on all that is multiplied at once: a piece is therefore run by itself.
"""

import logging
import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dnalm.errors import UserError, shown
from dnalm.models.language_model import LanguageModel
from dnalm.temporary_files import filling, temporary_folder

FEWEST_TOKENS = 2  # torch's export takes a length of 1 for a constant
EXAMPLE_TOKENS = 32
PROCESSOR = Path("/proc/cpuinfo")
ERRORS_ONLY = 3  # of ONNX Runtime's levels


def refuse_unquantizable(model: LanguageModel) -> None:
    """Raise UserError for models that int8 was not tested with; those with experts read left to right, all of them."""
    if model.causal:
        raise UserError(
            f"The model '{model.stored.name}' has no int8, which is for encoders without experts; choose bfloat16 or "
            "float32."
        )


class QuantizedEncoder:
    """The layers of an encoder up to the highest asked for, in int8.

    Args:
        model: in float32 on the CPU; it is kept for the pieces too short for the export.
        layers: numbers of the hidden states to give; 0 for the embeddings, k for layer k.

    Raises:
        UserError: the model is no encoder, or cannot be exported.
    """

    def __init__(self, model: LanguageModel, layers: Sequence[int]) -> None:
        refuse_unquantizable(model)
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when it is imported; the default is to report to its makers
        self._model, self._layers, self._outputs = model, tuple(layers), sorted(set(layers))
        try:
            with temporary_folder() as folder, filling(folder), _quiet_libraries():
                self._session = _session(_quantized_file(model, self._outputs, folder))
        except (MemoryError, OSError, UserError):
            raise
        except Exception as error:  # whatever a strange model brings torch or ONNX Runtime to
            raise UserError(
                f"The model '{model.stored.name}' cannot be brought to int8 ({shown(error, 200)}); choose bfloat16 or "
                "float32."
            ) from error

    def hidden_states(self, input_ids: Tensor) -> list[Tensor]:
        """Return the hidden states of one piece, which may be run in any thread.

        Args:
            input_ids: shape (1, tokens); there is no padding.

        Returns:
            One float32 tensor a layer asked for, each of shape (1, tokens, hidden size).
        """
        if input_ids.shape[1] < FEWEST_TOKENS:
            return self._model.hidden_states(input_ids, None, self._layers)
        found = self._session.run(None, {"input_ids": input_ids.numpy()})
        return [torch.from_numpy(found[self._outputs.index(layer)]) for layer in self._layers]


class _ChosenLayers(nn.Module):
    """A backbone whose outputs are the hidden states asked for; the export drops what none of them needs."""

    def __init__(self, model: LanguageModel, layers: Sequence[int]) -> None:
        super().__init__()
        self.backbone = model.backbone
        self._model, self._layers = model, layers

    def forward(self, input_ids: Tensor) -> tuple[Tensor, ...]:
        """Return one tensor a layer, of shape (1, tokens, hidden size) each, from ids of shape (1, tokens)."""
        # With the last layer among them nothing ends the forward early, which an export does not survive.
        states = self._model.hidden_states(input_ids, None, (*self._layers, len(self._model.layers)))
        return tuple(states[:-1])


def _quantized_file(model: LanguageModel, layers: Sequence[int], folder: Path) -> Path:
    """Write the int8 model into an empty folder; weights lie beside the graphs, which may not exceed 2 GB."""
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    exported, simplified, quantized = (folder / f"{name}.onnx" for name in ("exported", "simplified", "quantized"))
    most = model.context_length
    example = torch.zeros((1, min(EXAMPLE_TOKENS, most or EXAMPLE_TOKENS)), dtype=torch.int64)
    with torch.no_grad():
        torch.onnx.export(
            _ChosenLayers(model, layers).eval(),
            (example,),
            exported,
            input_names=["input_ids"],
            dynamo=True,
            dynamic_shapes=({1: torch.export.Dim("tokens", min=FEWEST_TOKENS, max=most)},),
            external_data=True,
            verbose=False,
            optimize=False,  # ONNX Runtime simplifies as well, and in a tenth of the time
        )
    quant_pre_process(
        exported,
        simplified,
        skip_symbolic_shape=True,
        skip_onnx_shape=True,
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        external_data_location=f"{simplified.name}.data",
    )
    quantize_dynamic(
        simplified,
        quantized,
        op_types_to_quantize=["MatMul", "Gemm"],
        nodes_to_exclude=_stacked_products(simplified),
        per_channel=True,
        weight_type=QuantType.QInt8,
        use_external_data_format=True,
    )
    return quantized


def _stacked_products(path: Path) -> list[str]:
    """Return the names of products with several constant matrices at once, which have no scale a column.

    DeBERTa's positions, projected once, are such.
    """
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    ranks = {constant.name: len(constant.dims) for constant in graph.initializer}
    return [node.name for node in graph.node if any(ranks.get(name, 0) > 2 for name in node.input)]


def _session(path: Path) -> Any:
    """Return a session that runs each call on the thread it comes from."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_mem_pattern = False  # it keeps a plan of the memory for every length seen
    options.log_severity_level = ERRORS_ONLY
    flags = PROCESSOR.read_text() if PROCESSOR.exists() else ""
    if sums_saturate(platform.machine(), flags):
        # Offset weights, of 0 to 255, give the same products without saturation, if slower.
        options.add_session_config_entry("session.x64quantprecision", "1")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def sums_saturate(architecture: str, processor: str) -> bool:
    """Say whether a processor's quickest products of int8 are inexact.

    Before VNNI, x86 adds two products in 16 bits, where large ones are cut (onnxruntime.ai, Quantize ONNX models, "When
    and why do I need to try U8U8?").

    Args:
        architecture: as `platform.machine` names it.
        processor: what /proc/cpuinfo says; empty where there is none.
    """
    return architecture in ("x86_64", "AMD64", "i686") and not {"avx512_vnni", "avx_vnni"} & set(processor.split())


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Keep what torch and ONNX Runtime say to their developers to themselves."""
    import onnxruntime

    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    onnxruntime.set_default_logger_severity(ERRORS_ONLY)
    try:
        yield
    finally:
        logging.disable(before)
