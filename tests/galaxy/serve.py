"""Serve Galaxy with the DNA-LM tools until Ctrl-C; histories are kept from one time to the next."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from server import GalaxyServer, ServerError

CHECKOUT = Path(__file__).resolve().parents[2]


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--state-directory",
        type=Path,
        default=CHECKOUT / ".galaxy" / "serve",
        help="where histories and logs are kept (default: .galaxy/serve)",
    )
    parser.add_argument(
        "--repository", type=Path, default=CHECKOUT, help="the folder with tools/ (default: this checkout)"
    )
    parser.add_argument(
        "--environments",
        type=Path,
        default=CHECKOUT / ".environments",
        help="the folder with the Python environments `galaxy` and `tools` (default: .environments)",
    )
    return parser.parse_args()


def main() -> int:
    """Start Galaxy, say where it is, and stay until asked to end."""
    arguments = parse_arguments()
    server = GalaxyServer(
        arguments.state_directory, arguments.repository, arguments.environments, keep_state=True, offline_jobs=False
    )
    print(f"Starting Galaxy with the tools of {server.repository} (about half a minute)", flush=True)
    print(f"Histories and the log are kept in {server.state_directory}", flush=True)
    try:
        with server:
            print(f"DNA-LM in Galaxy: {server.url} (Ctrl-C stops it)", flush=True)
            while server.is_alive():
                time.sleep(1)
            print(f"Galaxy ended by itself.\n{server.log_tail()}", file=sys.stderr)
            return 1
    except ServerError as error:
        print(error, file=sys.stderr)
        return 1
    except (KeyboardInterrupt, SystemExit):
        return 0


if __name__ == "__main__":
    sys.exit(main())
