"""Starts LocalStack so that it can be cleaned up: it, and the Node program that is its Kinesis, listen on the loopback
interface alone and stay in one process group. There are no options for that."""

import functools
import os
import pathlib
import subprocess

from twisted.internet import endpoints

endpoints.TCP4ServerEndpoint = functools.partial(endpoints.TCP4ServerEndpoint, interface="127.0.0.1")
os.environ["NODE_OPTIONS"] = f"--require {pathlib.Path(__file__).with_name('loopback.cjs')}"


class Popen(subprocess.Popen):
    def __init__(self, *args, start_new_session=False, **options):
        super().__init__(*args, **options)


subprocess.Popen = Popen

from localstack.runtime.main import main  # noqa: E402  (what is above must be in place first)

main()
