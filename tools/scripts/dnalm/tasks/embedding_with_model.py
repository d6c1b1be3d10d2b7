"""Embed sequences with a language model: what of dnalm_embed needs torch."""

from collections.abc import Callable
from functools import partial
from typing import cast

from dnalm.engine.devices import Machine, device_for, prepare_machine
from dnalm.engine.processes import Work, crew
from dnalm.engine.representations import COMPARED, ModelChoices, ModelRepresentation, Taken
from dnalm.models.quantized import refuse_unquantizable
from dnalm.models.registry import load_language_model
from dnalm.models.sources import open_model
from dnalm.tasks.embedding_options import Embedder, EmbeddingOptions, NamesAndBases, RepresentationInfo, Vectors


def model_embedder(options: EmbeddingOptions) -> Embedder:
    """Return how the chosen model embeds on the chosen device; the model is loaded when it is opened.

    Raises:
        UserError: there is no such device, or not for the chosen precision.
    """
    device = device_for(options.device, options.dtype)
    machine = prepare_machine(device, options.threads, options.batch_tokens, options.seed, options.processes)
    return Embedder(
        f"{machine.description}; {options.dtype}",
        machine.device.type,
        machine.processes,
        machine.batch_tokens,
        lambda first: crew(partial(_embedder, options, _first(first)), machine, options.seed),
    )


def _first(sequences: NamesAndBases) -> NamesAndBases:
    """Return the sequences on which the deviation of a lower precision is measured."""
    names, bases = sequences
    return names[:COMPARED], bases[:COMPARED]


def _embedder(
    options: EmbeddingOptions, first: NamesAndBases, machine: Machine
) -> tuple[Work[NamesAndBases, Vectors], Callable[[], RepresentationInfo]]:
    """Return how sequences are embedded, with the names of the dimensions, and what is to be said of the representation.

    The deviation of a lower precision is measured on the first records.
    """
    representation = _representation(options, machine)
    cosine = None if options.dtype == "float32" else representation.change_precision(options.dtype, *first)

    def embed_them(given: NamesAndBases, on_done: Callable[[int], None]) -> Vectors:
        return representation.embed(*given, on_done), representation.dimensions

    return embed_them, lambda: RepresentationInfo(representation.description, representation.facts(), cosine)


def _representation(options: EmbeddingOptions, machine: Machine) -> ModelRepresentation:
    assert options.model is not None
    model = load_language_model(open_model(options.model), head=options.representation != "hidden")
    if options.dtype == "int8":
        refuse_unquantizable(model)
    choices = ModelChoices(
        representation=cast(Taken, options.representation),
        layers=tuple(options.layer or [-1]),
        combine_layers=options.combine_layers,
        pooling=options.pooling,
        by_bases=options.pooling_weights == "bases",
        keep_special=options.special_tokens == "keep",
        long_sequences=options.long_sequences,
        window_overlap=options.window_overlap,
        both_strands=options.both_strands,
    )
    return ModelRepresentation(model, choices, machine)
