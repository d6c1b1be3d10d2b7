"""Our UMAP beside umap-learn's: what each keeps of the neighbours, and its processor time, in one run.

    python tests/benchmarks/projection.py --output benchmark-results/projection.json

umap-learn comes with scanpy, which the tests' environment has; the tools do not need it. Its first fit in a process includes
what it compiles, which every job pays.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits, make_blobs, make_swiss_roll
from sklearn.manifold import trustworthiness
from sklearn.neighbors import NearestNeighbors

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "tools" / "scripts"))

from dnalm.formats.fasta import FastaReader
from dnalm.methods.baselines import kmer_frequencies
from dnalm.methods.projections import Settings, principal_components, umap
from dnalm.methods.threads import one_thread

REPOSITORY = Path(__file__).parent.parent.parent
NEIGHBORS, MIN_DIST, SEED = 15, 0.1, 0
Vectors = NDArray[np.float32]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="JSON file of the numbers")
    arguments = parser.parse_args()
    results: dict[str, float] = {}
    for number, (name, vectors) in enumerate(data().items()):
        scores = principal_components(vectors, 50, SEED).scores
        seconds = {}
        for whose, method in (("ours", ours), ("umap-learn", umap_learn)):
            if number == 0:  # the first in the process, with all that is imported and compiled
                seconds[f"{whose}, first"], _ = timed(method, scores)
            seconds[whose], points = timed(method, scores)
            results[f"{name}: trustworthiness, {whose}"] = trustworthiness(scores, points, n_neighbors=NEIGHBORS)
            results[f"{name}: neighbours kept, {whose}"] = kept(scores, points)
        if number == 0:
            results["first fit in a process: umap-learn / ours"] = seconds["umap-learn, first"] / seconds["ours, first"]
        results[f"{name}: processor time, umap-learn / ours"] = seconds["umap-learn"] / seconds["ours"]
    for name, value in results.items():
        print(f"{name:60s} {value:8.3f}")
    if arguments.output:
        arguments.output.write_text(json.dumps(results, indent=2) + "\n")


def data() -> dict[str, Vectors]:
    """Return vectors by name: pictures of digits, groups, a curved sheet, and 4-mers of two genomes."""
    with FastaReader(REPOSITORY / "test-data" / "two_genomes.fasta") as reader:
        kmers = np.stack([kmer_frequencies(record.bases, 4, False) for record in reader])
    found = {
        "1,797 digits": load_digits().data,
        "5,000 in 20 groups": make_blobs(5_000, 50, centers=20, cluster_std=5.0, random_state=SEED)[0],
        "1,500 on a swiss roll": make_swiss_roll(1_500, random_state=SEED)[0],
        "80 windows of two genomes": kmers,
    }
    return {name: vectors.astype(np.float32) for name, vectors in found.items()}


def ours(scores: Vectors) -> Vectors:
    """As dnalm_project makes it."""
    return umap(scores, Settings(SEED, NEIGHBORS, MIN_DIST, perplexity=30))


def umap_learn(scores: Vectors) -> Vectors:
    """The reference implementation, from the same start."""
    from umap import UMAP

    reducer = UMAP(n_neighbors=NEIGHBORS, min_dist=MIN_DIST, init=scores[:, :2], random_state=SEED, n_jobs=1)
    with one_thread():
        return reducer.fit_transform(scores)


def timed(method: Callable[[Vectors], Vectors], scores: Vectors) -> tuple[float, Vectors]:
    """Return the processor's seconds, and the map."""
    start = time.process_time()
    points = method(scores)
    return time.process_time() - start, points


def kept(scores: Vectors, points: Vectors) -> float:
    """Return which share of each record's nearest neighbours are among its nearest on the map, on average."""
    before, after = (
        NearestNeighbors(n_neighbors=NEIGHBORS).fit(which).kneighbors(return_distance=False)
        for which in (scores, points)
    )
    return float(np.mean([len(set(one) & set(other)) / NEIGHBORS for one, other in zip(before, after, strict=True)]))


if __name__ == "__main__":
    main()
