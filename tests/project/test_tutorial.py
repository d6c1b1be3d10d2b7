"""The tutorial's page is what the forms and scripts of today make of its source."""

import importlib
import re
import shlex
import shutil
from pathlib import Path

import pytest
from conftest import REPOSITORY
from forms import FormError
from PIL import Image
from tutorial import PAGE, SOURCE, Tutorial, differences, read_tables

MOST_BYTES = 500_000


@pytest.fixture(scope="module")
def tutorial() -> Tutorial:
    return Tutorial()


def test_the_page_is_what_its_source_makes_of_the_forms(tutorial: Tutorial) -> None:
    """Otherwise run tests/galaxy/make_tutorial.py."""
    assert PAGE.read_text() == tutorial.render(read_tables())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "before", "after"),
    [
        ("dnalm_pretrain", 'label="Recipe"', 'label="Cookery"'),
        ("dnalm_pretrain", "Llama of 0.1 million parameters", "Llama of a few parameters"),
        ("dnalm_generate", 'title="Sampling"', 'title="Dice"'),
        ("dnalm_finetune", "on_string}: model", "on_string}: taught model"),
        ("dnalm_score_variants", 'name="DNA-LM score variants"', 'name="DNA-LM variants"'),
    ],
)
def test_the_page_changes_with_a_form(tmp_path: Path, form: str, before: str, after: str) -> None:
    path = tools_of_its_own(tmp_path) / f"{form}.xml"
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after))
    assert Tutorial(tools=path.parent).render(read_tables()) != PAGE.read_text()


@pytest.mark.parametrize(
    ("form", "before", "after", "said"),
    [
        ("dnalm_generate", 'argument="--number"', 'argument="--how-many"', "dnalm_generate has no field number"),
        (
            "dnalm_finetune",
            '<option value="lora">',
            '<option value="lora2">',
            "method of dnalm_finetune does not offer",
        ),
        ("dnalm_generate", 'max="1000000" value="10"', 'max="7" value="5"', "its max is 7"),
    ],
)
def test_a_value_that_a_form_does_not_take_is_refused(
    tmp_path: Path, form: str, before: str, after: str, said: str
) -> None:
    path = tools_of_its_own(tmp_path) / f"{form}.xml"
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after))
    with pytest.raises(FormError, match=said):
        Tutorial(tools=path.parent).render(read_tables())


def tools_of_its_own(folder: Path) -> Path:
    """Return a copy of all forms."""
    shutil.copy(REPOSITORY / "macros.xml", folder)
    (folder / "tools").mkdir()
    for form in (REPOSITORY / "tools").glob("*.xml"):
        shutil.copy(form, folder / "tools")
    return folder / "tools"


def test_its_commands_are_those_of_the_forms_and_have_no_unknown_option(tutorial: Tutorial) -> None:
    """They are run by `make test-tutorial`."""
    commands = tutorial.commands()
    assert re.findall(r"^python .*$", PAGE.read_text(), re.MULTILINE) == list(commands.values())
    for command in commands.values():
        _, script, *options = shlex.split(command)
        importlib.import_module(Path(script).stem).parser().parse_args(options)


def test_every_table_and_picture_that_is_kept_is_used(tutorial: Tutorial) -> None:
    assert {path.stem for path in (SOURCE / "tables").iterdir()} == tutorial.tables()
    pictures = {name.replace(".", "_") for name in tutorial.pictures()}
    assert {path.stem for path in (PAGE.parent / "images").iterdir()} == pictures


def test_its_pictures_are_small_and_its_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", PAGE.read_text()):
        assert target.startswith("https://") or (PAGE.parent / target).exists()
    for path in (PAGE.parent / "images").iterdir():
        assert path.stat().st_size < MOST_BYTES
        assert Image.open(path).format == "PNG"


def test_pages_agree_but_for_the_last_digits() -> None:
    page = "The loss is 1.234 after 10 steps, p = 1.2e-05."
    assert not list(differences(page, page.replace("1.234", "1.240").replace("1.2e-05", "1.3e-05")))
    for changed in (("1.234", "1.334"), ("10", "11"), ("loss", "gain"), ("1.2e-05", "1.5e-05")):
        assert list(differences(page, page.replace(*changed)))
    assert list(differences(page, f"{page}\nMore."))
