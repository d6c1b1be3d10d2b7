"""From a stored model to a language model that runs: which code reads which architecture."""

from dnalm.errors import UserError, shown
from dnalm.models import dnabert2, nucleotide_transformer_v2, transformers_native
from dnalm.models.language_model import LanguageModel
from dnalm.models.model_file import StoredModel

# The first that recognises a config reads the model; ours go before transformers', which would misread some.
ARCHITECTURES = (nucleotide_transformer_v2, dnabert2, transformers_native)
NAMES = (nucleotide_transformer_v2.NAME, dnabert2.NAME, *transformers_native.ARCHITECTURES)


def load_language_model(stored: StoredModel, *, head: bool = False) -> LanguageModel:
    """Return the model, with its language-model head if asked for, in float32 on the CPU, ready for inference.

    Raises:
        UserError: the architecture is unknown; config, tensors and tokenizer do not fit together; or there is no head.
    """
    for architecture in ARCHITECTURES:
        if architecture.recognises(stored.config):
            break
    else:
        raise UserError(
            f"The architecture '{shown(stored.config.get('model_type'))}' of the model '{stored.name}' is unknown here; "
            f"use one of {', '.join(NAMES)}."
        )
    try:
        return architecture.load(stored, head=head)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # whatever a strange config brings transformers or torch to
        raise UserError(f"The model '{stored.name}' cannot be loaded ({shown(error, 200)}); use intact files.") from error
