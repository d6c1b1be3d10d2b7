"""Map embeddings: read, join what is known of the records, project to two dimensions, measure, draw and tabulate."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dnalm.errors import UserError
from dnalm.formats.embeddings_reader import Embeddings, read_embeddings
from dnalm.formats.outputs import whole_or_nothing
from dnalm.formats.tables import MISSING, Table, TableWriter, by_number, listed
from dnalm.methods.projections import (
    PROJECTIONS,
    SCALINGS,
    Settings,
    fitting_neighbors,
    fitting_perplexity,
    principal_components,
    silhouette,
    varying,
)
from dnalm.report.plots import Categories, MapText, Numbers, draw_map, named_categories
from dnalm.report.provenance import versions

FEWEST_RECORDS = 3
REPORTED_COMPONENTS = 10  # of a PCA, whose shares of the variance are told
MOST_CATEGORIES = 16  # whole numbers with at most so many values are names of groups, unless the user says otherwise
MOST_COLUMNS = 100  # Galaxy shows no wider table
MANY_FOR_TSNE = 20_000  # records
ROWS = 10_000  # of metadata, read at once
PACKAGES = ("numpy", "scikit-learn", "igraph", "matplotlib")
NAMES = {"pca": "PCA", "umap": "UMAP", "tsne": "t-SNE"}


@dataclass(frozen=True)
class ProjectionOptions:
    """What a user chooses; the names are those of `dnalm_project.py --help`."""

    embeddings: Path
    output: Path
    matrix: str = "auto"
    table: Path | None = None
    statistics: Path | None = None
    method: str = "pca"
    color_by: str | None = None
    metadata: Path | None = None
    metadata_id: str = "1"
    color_as: str = "auto"
    seed: int = 0
    scaling: str = "none"
    components: int = 50
    neighbors: int = 15
    min_dist: float = 0.1
    perplexity: float = 30
    figure_format: str = "png"
    title: str | None = None
    point_size: float | None = None


@dataclass(frozen=True)
class Metadata:
    """A table joined to the records: the name of its column of ids, and all its columns, one row a record."""

    identifier: str = ""
    columns: pd.DataFrame = field(default_factory=pd.DataFrame)


@dataclass(frozen=True)
class Map:
    """Points, shape (records, 2), the names of their axes, how they came about in words, and shares of the variance."""

    points: NDArray[np.float32]
    axes: tuple[str, str]
    recipe: str
    explained: NDArray[np.float64]


def project(options: ProjectionOptions) -> None:
    """Draw a map of embeddings, write its points and measures as tables, and say on stdout what was done.

    Raises:
        UserError: embeddings, metadata or options cannot be used.
    """
    outputs = [path for path in (options.output, options.table, options.statistics) if path]
    inputs = [path for path in (options.embeddings, options.metadata) if path]
    with whole_or_nothing(outputs, inputs) as partials:
        written = dict(zip(outputs, partials, strict=True))
        data = read_embeddings(options.embeddings, options.matrix)
        print(f"Read {len(data.ids):,} embeddings of {data.vectors.shape[1]:,} dimensions: {data.origin}", flush=True)
        if data.left_out:
            print(f"Records without an embedding, left out: {data.left_out:,}")
        _refuse_without_a_map(data, options.embeddings)
        metadata = _joined(data.ids, options.metadata, options.metadata_id) if options.metadata else Metadata()
        column = _color_column(data, metadata, options)
        colors = None if column is None else _as_colors(column, options.color_as)
        vectors = SCALINGS[options.scaling](data.vectors)
        found = _map(vectors, options)
        measures = _measures(vectors, found, colors, options)
        if options.table:
            with TableWriter(written[options.table]) as table:
                table.append(_columns(data, metadata, found.points, colors))
        if options.statistics:
            with TableWriter(written[options.statistics]) as table:
                table.append({"measure": list(measures), "value": list(measures.values())})
        used = versions(PACKAGES)
        facts = {"tool": "dnalm_project", "options": _chosen(options), "measures": measures, "versions": used}
        text = MapText(
            options.title or f"{NAMES[options.method]} of {len(data.ids):,} embeddings",
            [found.recipe, *_silhouette_words(measures, colors)],
            found.axes,
            scaled=options.method == "pca",
        )
        picture = written[options.output]
        draw_map(picture, found.points, colors, text, options.figure_format, options.point_size, facts)
        print("Versions: " + ", ".join(f"{name} {version}" for name, version in used.items()))


def _refuse_without_a_map(data: Embeddings, path: Path) -> None:
    records, dimensions = data.vectors.shape
    if records < FEWEST_RECORDS:
        raise UserError(f"A map needs at least {FEWEST_RECORDS} records; '{path.name}' has {records}.")
    if dimensions < 2:
        raise UserError(f"A map needs at least 2 dimensions; '{path.name}' has {dimensions}: {data.origin}.")
    if not varying(data.vectors).any():
        raise UserError(f"All {records:,} embeddings of '{path.name}' are the same; there is nothing to map.")


def _joined(ids: list[str], path: Path, metadata_id: str) -> Metadata:
    """Return the metadata with one row a record, in the order of the records; empty texts where none is given."""
    whole = Table(path)
    names = whole.columns
    identifier = by_number(metadata_id, names) or metadata_id
    if identifier not in names:
        raise UserError(f"There is no column '{identifier}' in the metadata '{path.name}'; it has {listed(names)}.")
    table = pd.concat([pd.DataFrame(columns=names), *whole.frames(ROWS)], ignore_index=True)
    keys = table[identifier].tolist()
    rows: dict[str, int] = {}
    if blank := keys.count(""):
        print(f"Lines of the metadata without an id, left out: {blank:,}")
    if repeated := [key for row, key in enumerate(keys) if key and rows.setdefault(key, row) != row]:
        raise UserError(f"The column '{identifier}' of '{path.name}' repeats {_some(repeated)}; leave one line an id.")
    missing = [name for name in dict.fromkeys(ids) if name not in rows]
    if len(missing) == len(set(ids)):
        raise UserError(
            f"None of the {len(ids):,} records, the first of which is '{ids[0]}', is in the column '{identifier}' of "
            f"'{path.name}'{f', where the first is {keys[0]!r}' if keys else ''}; choose the column with the same ids."
        )
    if missing:
        print(f"Not in the metadata, and shown as not given: {_some(missing)}")
    if unused := len(rows.keys() - set(ids)):
        print(f"Lines of the metadata without a record, left out: {unused:,}")
    joined = table.reindex([rows.get(name, -1) for name in ids], fill_value="")
    return Metadata(identifier, joined.reset_index(drop=True))


def _some(names: list[str]) -> str:
    return f"{len(names):,} {'id' if len(names) == 1 else 'ids'}, the first is '{names[0]}'"


def _color_column(data: Embeddings, metadata: Metadata, options: ProjectionOptions) -> "pd.Series[Any] | None":
    """Return the column that colours the points, with its name; the metadata come before the embeddings file."""
    if options.color_by is None:
        return None
    name = by_number(options.color_by, list(metadata.columns)) or options.color_by
    for columns in (metadata.columns, data.columns):
        if name in columns:
            return columns[name]
    names = [name for name in [*metadata.columns, *data.columns] if name != metadata.identifier]
    where = " or ".join(f"'{path.name}'" for path in (options.metadata, options.embeddings) if path)
    more = "" if options.metadata else "; other columns can be given as metadata"
    raise UserError(f"There is no column '{name}' in {where} to colour by; there are: {listed(names)}{more}.")


def _as_colors(column: "pd.Series[Any]", color_as: str) -> Categories | Numbers:
    """Read a column as categories or as numbers, as it is asked for or, by default, as it looks."""
    name = str(column.name)
    texts = _texts(column)
    given = np.array([text not in MISSING for text in texts])
    if not given.any():
        raise UserError(f"The column '{name}' has no value; choose another one for the colours.")
    numbers = pd.to_numeric(pd.Series(texts).where(given), errors="coerce").to_numpy(dtype=np.float64)
    wrong = given & np.isnan(numbers)
    if color_as == "numbers" and wrong.any():
        text = texts[int(np.argmax(wrong))]
        raise UserError(f"The column '{name}' has '{text}', which is no number; colour by it as categories.")
    looks_like_groups = (
        wrong.any()
        or isinstance(column.dtype, pd.CategoricalDtype)
        or (
            len(np.unique(numbers[given])) <= MOST_CATEGORIES
            and bool((numbers[given] == np.round(numbers[given])).all())
        )
    )
    if color_as == "numbers" or (color_as == "auto" and not looks_like_groups):
        numbers[~np.isfinite(numbers)] = np.nan
        colors: Categories | Numbers = Numbers(name, numbers)
        missing = int(np.isnan(numbers).sum())
    else:
        colors = _categories(name, texts, given)
        missing = int((~given).sum())
    print(
        f"Coloured by '{name}': " + (f"{missing:,} records without a value" if missing else "every record has a value")
    )
    return colors


def _categories(name: str, texts: list[str], given: NDArray[np.bool_]) -> Categories:
    """Number the labels from the most frequent to the rarest, equal ones by name."""
    counts = pd.Series(texts)[given].value_counts()
    labels = sorted(counts.index, key=lambda label: (-counts[label], label))
    numbers = {label: number for number, label in enumerate(labels)}
    codes = np.array([numbers[text] if known else -1 for text, known in zip(texts, given, strict=True)], dtype=np.int64)
    return Categories(name, labels, codes)


def _texts(column: "pd.Series[Any]") -> list[str]:
    """Return a column's values as a table holds them: no tab, no line end, nothing where there is no value."""
    missing = column.isna().to_numpy()
    return ["" if no else " ".join(str(value).split()) for value, no in zip(column.tolist(), missing, strict=True)]


def _map(vectors: NDArray[np.float32], options: ProjectionOptions) -> Map:
    """Project to two dimensions; UMAP and t-SNE start from the first principal components."""
    records, dimensions = vectors.shape
    wanted = REPORTED_COMPONENTS if options.method == "pca" else options.components
    components = principal_components(vectors, wanted, options.seed)
    explained = components.explained
    settings = Settings(
        options.seed,
        fitting_neighbors(options.neighbors, records),
        options.min_dist,
        fitting_perplexity(options.perplexity, records),
    )
    if options.method == "pca":
        first, second = (f"PC{number + 1} ({share:.1%} of variance)" for number, share in enumerate(explained[:2]))
        print("Explained variance: " + ", ".join(f"PC{n + 1} {share:.1%}" for n, share in enumerate(explained)))
        recipe = f"{dimensions:,} dimensions"
    else:
        first, second = (f"{NAMES[options.method]} {number}" for number in (1, 2))
        recipe = f"{dimensions:,} dimensions → {len(explained)} PCs ({explained.sum():.0%} of variance)"
        recipe += f", {_said_setting(settings, options)}"
        print(f"{NAMES[options.method]} of {records:,} records: {recipe}", flush=True)
        if options.method == "tsne" and records > MANY_FOR_TSNE:
            print("t-SNE takes about half an hour for 100,000 records; UMAP is faster", flush=True)
    points = PROJECTIONS[options.method](components.scores, settings)
    return Map(points, (first, second), recipe, explained)


def _said_setting(settings: Settings, options: ProjectionOptions) -> str:
    """Name the settings in use, and say if they had to be made smaller."""
    if options.method == "umap":
        if settings.neighbors != options.neighbors:
            print(f"Neighbours reduced from {options.neighbors} to {settings.neighbors}, for want of records")
        return f"{settings.neighbors} neighbours, min. distance {settings.min_dist:g}"
    if settings.perplexity != options.perplexity:
        print(f"Perplexity reduced from {options.perplexity:g} to {settings.perplexity:g}, for want of records")
    return f"perplexity {settings.perplexity:g}"


def _measures(
    vectors: NDArray[np.float32], found: Map, colors: Categories | Numbers | None, options: ProjectionOptions
) -> dict[str, str]:
    """Return what can be said in numbers, by name, and print what concerns the groups."""
    measures = {"method": options.method, "records": str(len(vectors)), "dimensions": str(vectors.shape[1])}
    if options.method == "pca":
        measures |= {f"explained_variance_PC{n + 1}": f"{share:.6f}" for n, share in enumerate(found.explained)}
    else:
        measures["explained_variance_of_components"] = f"{found.explained.sum():.6f}"
    if colors is None:
        return measures
    measures["coloured_by"] = colors.column
    if isinstance(colors, Numbers):
        return measures | {"not_given": str(int(np.isnan(colors.values).sum()))}
    known = colors.codes >= 0
    groups = colors.codes[known]
    measures |= {"groups": str(len(colors.labels)), "not_given": str(int((~known).sum()))}
    named = named_categories(len(vectors))
    if len(colors.labels) > named:
        print(f"Categories shown in grey together: {len(colors.labels) - named:,}, all but the {named} most frequent")
    on_the_map, counted = silhouette(found.points[known], groups, options.seed)
    if on_the_map is None:
        print(f"No silhouette by '{colors.column}': it needs two groups, and two records in one of them")
        return measures
    everywhere, _ = silhouette(vectors[known], groups, options.seed)
    sample = f", of {counted:,} records chosen by the seed" if counted < len(groups) else ""
    print(
        f"Silhouette by '{colors.column}': {on_the_map:.3f} on the map, {everywhere:.3f} in all "
        f"{vectors.shape[1]:,} dimensions{sample}"
    )
    return measures | {
        "silhouette_map": f"{on_the_map:.6f}",
        "silhouette_all_dimensions": f"{everywhere:.6f}",
        "silhouette_records": str(counted),
    }


def _silhouette_words(measures: dict[str, str], colors: Categories | Numbers | None) -> Iterator[str]:
    if colors and "silhouette_map" in measures:
        on_the_map, everywhere = (float(measures[f"silhouette_{where}"]) for where in ("map", "all_dimensions"))
        yield f"silhouette by {colors.column}: {on_the_map:.2f} on the map, {everywhere:.2f} in all dimensions"


def _columns(
    data: Embeddings, metadata: Metadata, points: NDArray[np.float32], colors: Categories | Numbers | None
) -> dict[str, list[str]]:
    """Return the table of the map: id, x, y, the column of the colours, and the other columns as far as they fit."""
    columns = {"id": _texts(pd.Series(data.ids, dtype=object))}
    columns |= {axis: [f"{value:.6g}" for value in points[:, number]] for number, axis in enumerate("xy")}
    others = [*metadata.columns.drop(columns=metadata.identifier, errors="ignore").items(), *data.columns.items()]
    names = [name for name, _ in others]
    if colors and colors.column in names:
        others.insert(0, others.pop(names.index(colors.column)))
    left_out = 0
    for name, column in others:
        free = " ".join(str(name).split())
        while free in columns:
            free += "_"
        if len(columns) == MOST_COLUMNS:
            left_out += 1
        else:
            columns[free] = _texts(column)
    if left_out:
        print(f"Columns left out of the table, which holds {MOST_COLUMNS}: {left_out:,}")
    return columns


def _chosen(options: ProjectionOptions) -> dict[str, Any]:
    """Return the options that shape the result, without paths."""
    names = (
        "method",
        "matrix",
        "color_by",
        "color_as",
        "seed",
        "scaling",
        "components",
        "neighbors",
        "min_dist",
        "perplexity",
    )
    return {name: getattr(options, name) for name in names}
