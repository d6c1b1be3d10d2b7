"""Embed sequences in a real Galaxy and save what comes out: the shortest way to see DNA-LM at work."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import client
from server import GalaxyServer, ServerError

CHECKOUT = Path(__file__).resolve().parents[2]
RESULTS = CHECKOUT / "demo-results"


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repository", type=Path, default=CHECKOUT, help="the folder with tools/")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where outputs are saved")
    parser.add_argument("--sequences", type=Path, default=CHECKOUT / "test-data" / "two_genomes.fasta")
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
            print(f"Uploading {arguments.sequences.name}: windows of E. coli and of human chr1", flush=True)
            sequences = client.upload(gi, history, arguments.sequences, "fasta")
            print("Running dnalm_embed with the demo model", flush=True)
            run = client.run_tool(gi, history, "dnalm_embed", embedding_inputs(sequences))
            saved = client.save_outputs(gi, run, arguments.results)
        print("The results:")
        for path in saved:
            print(f"  {path}")
    except (ServerError, client.JobError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def embedding_inputs(sequences: str) -> dict[str, object]:
    """Return the form of the embedding tool: sequences and a model of the server."""
    return {
        "input|select": "sequences",
        "input|sequences": {"src": "hda", "id": sequences},
        "kind|model_source|select": "installed",
        "kind|model_source|model": "dnalm_demo",
    }


if __name__ == "__main__":
    sys.exit(main())
