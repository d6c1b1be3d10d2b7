"""The curated models: their ids, and the labels that say licence and context."""

import re
from xml.etree import ElementTree

import pytest
from conftest import REPOSITORY
from dnalm.models.catalogue import CATALOGUE, is_non_commercial, licence_label, spelled
from dnalm.models.hub import MODEL_ID


def test_every_curated_model_has_an_id_of_the_hub_and_a_name_of_its_own() -> None:
    assert len(CATALOGUE) == 16
    assert len({entry.name for entry in CATALOGUE.values()}) == 16
    assert all(MODEL_ID.fullmatch(id) and entry.id == id for id, entry in CATALOGUE.items())


def test_the_form_offers_them_with_their_labels() -> None:
    form = ElementTree.parse(REPOSITORY / "tools" / "data_manager" / "data_manager_dnalm.xml")
    (select,) = (param for param in form.iter("param") if param.get("argument") == "--curated")
    offered = {option.get("value"): option.text for option in select.iter("option")}
    assert offered == {entry.id: entry.label for entry in CATALOGUE.values()}


def test_labels_say_licence_and_context() -> None:
    labels = [entry.label for entry in CATALOGUE.values()]
    assert labels[0] == (
        "Nucleotide Transformer v2 50M multi-species (CC-BY-NC-SA-4.0: non-commercial; context 12,282 bases)"
    )
    assert all(re.search(r"\(.+; context .+\)$", label) for label in labels)
    assert all("non-commercial" in label for label in labels if "Nucleotide Transformer" in label or "AgroNT" in label)


@pytest.mark.parametrize(
    ("licence", "forbids"),
    [
        ("CC-BY-NC-SA-4.0", True),
        ("cc-by-nc-4.0", True),
        ("CC BY-NC 4.0", True),
        ("some non-commercial licence", True),
        ("MIT", False),
        ("Apache-2.0", False),
        ("CC-BY-4.0", False),
        ("NCSA", False),
    ],
)
def test_non_commercial_licences_are_known_by_name(licence: str, forbids: bool) -> None:
    assert is_non_commercial(licence) is forbids
    assert ("non-commercial" in licence_label(licence)) is forbids


def test_licences_are_spelled_as_people_know_them() -> None:
    assert [spelled(name) for name in ("cc-by-nc-sa-4.0", "apache-2.0", "mit", "llama3")] == [
        "CC-BY-NC-SA-4.0",
        "Apache-2.0",
        "MIT",
        "llama3",
    ]
    assert licence_label(None) == "licence not stated"
