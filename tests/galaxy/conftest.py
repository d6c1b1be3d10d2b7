"""What tests in a real Galaxy share: all workflows, run once, each in a history of its own."""

import client
import demo
import pytest
from server import GalaxyServer
from test_workflows import NAMES


@pytest.fixture(scope="session")
def invocations(galaxy: GalaxyServer) -> dict[str, demo.Invocation]:
    """Start every workflow on the inputs of its first test, with the demo's own code; not waited for."""
    return {invoked.workflow: invoked for invoked in demo.start(client.connect(galaxy), NAMES)}
