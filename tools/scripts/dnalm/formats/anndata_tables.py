"""Tables of AnnData's on-disk format (https://anndata.readthedocs.io, "on-disk format", versions 0.1.0 and 0.2.0)."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dnalm.errors import UserError, shown
from dnalm.formats.isolated_hdf5 import Hdf5Dataset, Hdf5Group

if TYPE_CHECKING:
    import pandas as pd


def is_table(item: Any) -> bool:
    """Return whether an object of a file is a table."""
    return isinstance(item, Hdf5Group) and item.attribute("encoding-type") == "dataframe"


def index_dataset(table: Hdf5Group) -> Hdf5Dataset:
    """Return the dataset of a table's row names."""
    name = table.text_attribute("_index")
    names = table.get(name)
    return names.dataset("values") if isinstance(names, Hdf5Group) else table.dataset(name)


def read_table(table: Hdf5Group) -> "pd.DataFrame":
    """Read a whole table, as anndata reads it; its row names are texts.

    Raises:
        UserError: a column is none, is damaged, or has another length than the row names.
    """
    import pandas as pd

    index = index_dataset(table)
    names = index.texts() if index.kind == "text" else [str(name) for name in _numbers(index).tolist()]
    columns = table.list_attribute("column-order")
    if len(set(map(str, columns))) < len(columns) or not all(isinstance(name, str) for name in columns):
        raise table.file.damaged()
    found = {name: _column(table, name) for name in columns}
    if any(len(values) != len(names) for values in found.values()):
        raise table.file.damaged()
    return pd.DataFrame(found, index=pd.Index(names, dtype=object), columns=pd.Index(columns, dtype=object))


def _column(table: Hdf5Group, name: str) -> Any:
    import pandas as pd

    item = table.get(name)
    if isinstance(item, Hdf5Group):
        kind = item.attribute("encoding-type")
        if not isinstance(kind, str) or kind not in COLUMNS:
            raise _unknown(table, name, f"the kind {shown(kind)}")
        return COLUMNS[kind](item)
    if item is None:
        raise table.file.damaged()
    categories = item.attribute("categories")  # of version 0.1.0
    if isinstance(categories, Hdf5Dataset):
        return _categorical(table, item, categories, bool(categories.attribute("ordered")))
    if item.kind == "other" or len(item.shape) != 1:
        raise _unknown(table, name, f"the type {shown(item.type_name)} and the shape {item.shape}")
    return pd.Series(item.texts(), dtype=object).to_numpy() if item.kind == "text" else _numbers(item)


def _unknown(table: Hdf5Group, name: str, what: str) -> UserError:
    return UserError(
        f"{table.file.subject.where} has the column '{shown(name)}' of {what}, which is not known here. Leave it out, or "
        "write the file anew with a present anndata."
    )


def _numbers(dataset: Hdf5Dataset) -> NDArray[Any]:
    if dataset.kind != "number" or len(dataset.shape) != 1:
        raise dataset.file.damaged()
    return dataset[:]


def _categorical(group: Hdf5Group, codes: Hdf5Dataset, categories: Hdf5Dataset, ordered: bool) -> "pd.Categorical":
    import pandas as pd

    names = pd.Index(categories.texts(), dtype=object) if categories.kind == "text" else pd.Index(_numbers(categories))
    try:
        return pd.Categorical.from_codes(_numbers(codes), names, ordered=ordered)
    except ValueError as error:  # codes without a category, categories that repeat
        raise group.file.damaged() from error


def _of_group(group: Hdf5Group) -> "pd.Categorical":
    categories = group.get("categories")
    if isinstance(categories, Hdf5Group):  # texts that may be missing
        categories = categories.dataset("values")
    if categories is None:
        raise group.file.damaged()
    return _categorical(group, group.dataset("codes"), categories, bool(group.attribute("ordered")))


def _masked(group: Hdf5Group) -> tuple[Hdf5Dataset, NDArray[np.bool_]]:
    values, mask = group.dataset("values"), _numbers(group.dataset("mask"))
    if mask.dtype != np.bool_ or values.shape != mask.shape:
        raise group.file.damaged()
    return values, mask


def _nullable_integers(group: Hdf5Group) -> Any:
    import pandas as pd

    values, mask = _masked(group)
    if values.kind != "number" or values.dtype.kind not in "iu":
        raise group.file.damaged()
    return pd.arrays.IntegerArray(_numbers(values), mask)


def _nullable_booleans(group: Hdf5Group) -> Any:
    import pandas as pd

    values, mask = _masked(group)
    if values.kind != "number" or values.dtype != np.bool_:
        raise group.file.damaged()
    return pd.arrays.BooleanArray(_numbers(values), mask)


def _nullable_texts(group: Hdf5Group) -> Any:
    import pandas as pd

    values, mask = _masked(group)
    texts = np.array(values.texts(), dtype=object)
    texts[mask] = pd.NA
    return pd.array(texts, dtype="string")


COLUMNS: dict[str, Callable[[Hdf5Group], Any]] = {
    "categorical": _of_group,
    "nullable-integer": _nullable_integers,
    "nullable-boolean": _nullable_booleans,
    "nullable-string-array": _nullable_texts,
}
