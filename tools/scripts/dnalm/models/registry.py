"""From a stored model to a language model that runs: which code reads which architecture."""

from dnalm.models import transformers_native
from dnalm.models.language_model import LanguageModel
from dnalm.models.model_file import StoredModel


def load_language_model(stored: StoredModel) -> LanguageModel:
    """Return the model without its head, in float32 on the CPU, ready for inference.

    Raises:
        UserError: the architecture is unknown, or config, tensors and tokenizer do not fit together.
    """
    return transformers_native.load(stored)
