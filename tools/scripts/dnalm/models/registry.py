"""From a stored model to a language model that runs: which code reads which architecture."""

from dnalm.models import transformers_native
from dnalm.models.language_model import LanguageModel
from dnalm.models.model_file import StoredModel


def load_language_model(stored: StoredModel, *, head: bool = False) -> LanguageModel:
    """Return the model, with its language-model head if asked for, in float32 on the CPU, ready for inference.

    Raises:
        UserError: the architecture is unknown; config, tensors and tokenizer do not fit together; or there is no head.
    """
    return transformers_native.load(stored, head=head)
