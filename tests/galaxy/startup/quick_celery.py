"""Make Celery ready while Galaxy's web server still loads, and let it look for work more often.

Celery would start the processes that write metadata at the first upload, which then takes 30 seconds, and look into its
queues once a second, several times a job; the transport's own option for that cannot be set with a database as broker.
"""

import multiprocessing

from celery.signals import worker_ready
from kombu.transport.virtual.base import Transport

Transport.polling_interval = 0.2
multiprocessing.get_context("forkserver").set_forkserver_preload(
    ["galaxy.celery.tasks", "galaxy.datatypes.registry", "galaxy.metadata.set_metadata", "galaxy.tools.data_fetch"]
)


@worker_ready.connect
def start_metadata_processes(**_: object) -> None:
    """Give the pool of processes an empty task, which starts all of them."""
    from galaxy.celery import celery_app

    celery_app.fork_pool.schedule(int)
