"""Embed windows of two genomes in a real Galaxy and map them: the shortest way to see DNA-LM at work."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import bioblend
import client
import requests
from server import GalaxyServer, ServerError

CHECKOUT = Path(__file__).resolve().parents[2]
RESULTS = CHECKOUT / "demo-results"
TEST_DATA = CHECKOUT / "test-data"
KINDS = {
    "the demo model": {"kind|model_source|select": "installed", "kind|model_source|model": "dnalm_demo"},
    "4-mers": {"kind|select": "baseline"},
}


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repository", type=Path, default=CHECKOUT, help="the folder with tools/")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where outputs are saved")
    return parser.parse_args()


def main() -> int:
    """Start Galaxy, upload, run, save, stop."""
    arguments = parse_arguments()
    state = CHECKOUT / ".galaxy" / "demo"
    if arguments.results == RESULTS:  # nothing of an earlier run shall look like a result of this one
        shutil.rmtree(RESULTS, ignore_errors=True)
    print("Starting Galaxy with the suite (about half a minute)", flush=True)
    try:
        with GalaxyServer(state, arguments.repository, CHECKOUT / ".environments") as server:
            gi = client.connect(server)
            history = client.create_history(gi, "DNA-LM demo")
            print("Uploading windows of E. coli and of human chr1, and a table that says which is which", flush=True)
            sequences = client.upload(gi, history, TEST_DATA / "two_genomes.fasta", "fasta")
            genomes = client.upload(gi, history, TEST_DATA / "two_genomes_metadata.tsv", "tabular")
            saved = []
            for name, kind in KINDS.items():
                print(f"Embedding with {name}: dnalm_embed", flush=True)
                embedded = client.run_tool(gi, history, "dnalm_embed", embedding_inputs(sequences, kind))
                print("Mapping the embeddings: dnalm_project", flush=True)
                inputs = map_inputs(embedded.datasets["embeddings"], genomes)
                mapped = client.run_tool(gi, history, "dnalm_project", inputs)
                for run in (embedded, mapped):
                    saved += client.save_outputs(gi, run, arguments.results / name.replace(" ", "_"))
        print("The results:")
        for path in saved:
            print(f"  {path}")
    except (ServerError, client.JobError) as error:
        print(error, file=sys.stderr)
        return 1
    except (bioblend.ConnectionError, requests.RequestException) as error:
        said = " ".join(str(error).split())
        print(
            f"The connection to Galaxy broke ({said}); look into {state} for its logs, and run again.", file=sys.stderr
        )
        return 1
    return 0


def embedding_inputs(sequences: str, kind: dict[str, str]) -> dict[str, object]:
    """Return the form of the embedding tool."""
    return {"input|select": "sequences", "input|sequences": {"src": "hda", "id": sequences}, **kind}


def map_inputs(embeddings: str, genomes: str) -> dict[str, object]:
    """Return the form of the map: coloured by the second column of a table."""
    return {
        "embeddings": {"src": "hda", "id": embeddings},
        "color|by": "metadata",
        "color|metadata": {"src": "hda", "id": genomes},
        "color|metadata_id": "1",
        "color|color_by": "2",
    }


if __name__ == "__main__":
    sys.exit(main())
