"""The curated models of the hub: what a server's admin is offered by name, with licence and context."""

from dataclasses import dataclass

NON_COMMERCIAL = "CC-BY-NC-SA-4.0"  # of every model of InstaDeep


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """A published model: its id on the hub, what people call it, its licence where known, and what it sees at once."""

    id: str
    name: str
    licence: str | None
    context: str

    @property
    def label(self) -> str:
        """One line for a form."""
        return f"{self.name} ({licence_label(self.licence)}; context {self.context})"


CATALOGUE = {
    entry.id: entry
    for entry in (
        CatalogueEntry(
            "InstaDeepAI/nucleotide-transformer-v2-50m-multi-species",
            "Nucleotide Transformer v2 50M multi-species",
            NON_COMMERCIAL,
            "12,282 bases",
        ),
        CatalogueEntry(
            "InstaDeepAI/nucleotide-transformer-v2-100m-multi-species",
            "Nucleotide Transformer v2 100M multi-species",
            NON_COMMERCIAL,
            "12,282 bases",
        ),
        CatalogueEntry(
            "InstaDeepAI/nucleotide-transformer-v2-250m-multi-species",
            "Nucleotide Transformer v2 250M multi-species",
            NON_COMMERCIAL,
            "12,282 bases",
        ),
        CatalogueEntry(
            "InstaDeepAI/nucleotide-transformer-v2-500m-multi-species",
            "Nucleotide Transformer v2 500M multi-species",
            NON_COMMERCIAL,
            "12,282 bases",
        ),
        CatalogueEntry(
            "InstaDeepAI/nucleotide-transformer-500m-human-ref",
            "Nucleotide Transformer v1 500M human reference",
            NON_COMMERCIAL,
            "5,994 bases",
        ),
        CatalogueEntry(
            "InstaDeepAI/nucleotide-transformer-500m-1000g",
            "Nucleotide Transformer v1 500M 1000 Genomes",
            NON_COMMERCIAL,
            "5,994 bases",
        ),
        CatalogueEntry(
            "InstaDeepAI/nucleotide-transformer-2.5b-1000g",
            "Nucleotide Transformer v1 2.5B 1000 Genomes",
            NON_COMMERCIAL,
            "5,994 bases",
        ),
        CatalogueEntry(
            "InstaDeepAI/nucleotide-transformer-2.5b-multi-species",
            "Nucleotide Transformer v1 2.5B multi-species",
            NON_COMMERCIAL,
            "5,994 bases",
        ),
        CatalogueEntry(
            "InstaDeepAI/agro-nucleotide-transformer-1b",
            "AgroNT 1B, plants",
            NON_COMMERCIAL,
            "6,138 bases",
        ),
        CatalogueEntry("InstaDeepAI/segment_nt", "SegmentNT human, 14 features", NON_COMMERCIAL, "30,000 bases"),
        CatalogueEntry(
            "InstaDeepAI/segment_nt_multi_species", "SegmentNT multi-species", NON_COMMERCIAL, "30,000 bases"
        ),
        CatalogueEntry("InstaDeepAI/segment_enformer", "SegmentEnformer human", NON_COMMERCIAL, "196,608 bases"),
        CatalogueEntry("InstaDeepAI/segment_borzoi", "SegmentBorzoi human", NON_COMMERCIAL, "524,288 bases"),
        CatalogueEntry("zhihan1996/DNABERT-2-117M", "DNABERT-2 117M", "Apache-2.0", "about 28,000 bases"),
        CatalogueEntry("RaphaelMourad/Mistral-DNA-v1-17M-hg38", "Mistral-DNA v1 17M human", None, "as its config says"),
        CatalogueEntry("RaphaelMourad/Mistral-DNA-v1-1M-hg38", "Mistral-DNA v1 1M human", None, "as its config says"),
    )
}

# How the hub writes licences, and how people know them.
SPELLINGS = {"apache-2.0": "Apache-2.0", "mit": "MIT", "bsd-3-clause": "BSD-3-Clause", "openrail": "OpenRAIL"}


def spelled(licence: str) -> str:
    """Return a licence as people know it: the hub writes all in lower case."""
    return licence.upper() if licence.startswith("cc") else SPELLINGS.get(licence, licence)


def is_non_commercial(licence: str) -> bool:
    """Say whether a licence forbids commercial use by its name (CC-BY-NC-…, "non-commercial")."""
    words = licence.lower().replace("_", "-").replace(" ", "-")
    return "nc" in words.split("-") or "non-commercial" in words or "noncommercial" in words


def licence_label(licence: str | None) -> str:
    """Return a licence for a label, with what people must not overlook."""
    if licence is None:
        return "licence not stated"
    return f"{licence}: non-commercial" if is_non_commercial(licence) else licence
