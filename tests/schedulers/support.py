"""What the tests of the examples have in common: the program, a seed database, a receiver and what landed in it."""

import json
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time
import unittest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
CONFIG = REPOSITORY / "config"
PROGRAM = os.environ["PINEMU"]
# Seconds; nothing here takes longer, on the slowest machine.
PATIENCE = 60
# The key column of each kind.
KINDS = {"pin": "index", "geo": "ind", "user": "ind"}
POSTS = 103


def wait_until(condition, what):
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"waited {PATIENCE} s in vain until {what}")
        time.sleep(0.01)


class Receiver:
    """`pinemu serve` until the end of the with block. Afterwards `keys` tells what landed."""

    def __init__(self, directory, *options, port=0):
        self.data = pathlib.Path(directory, "landed")
        port_file = pathlib.Path(directory, "port")
        port_file.unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [PROGRAM, "serve", "-q", "--listen", f"127.0.0.1:{port}", "--port-file", port_file, "--data-dir", self.data,
             *options])
        wait_until(lambda: port_file.exists() and port_file.read_text().strip() or self.process.poll() is not None,
                   "the receiver listens")
        self.url = f"http://127.0.0.1:{port_file.read_text().strip()}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(PATIENCE)

    def has_landed(self, topic):
        """Whether a record of the topic has landed, also while the receiver works."""
        directory = self.data / "topics" / topic / "partition=0"
        return directory.is_dir() and any(file.stat().st_size for file in directory.iterdir())

    def keys(self, prefix, kind):
        """The keys that landed, sorted, repeats included."""
        files = self.data.glob(f"topics/{prefix}.{kind}/partition=*/*.json")
        return sorted(json.loads(line)[KINDS[kind]] for file in files for line in file.read_text().splitlines())


def unused_port():
    """A socket that is bound and does not listen, so that whoever connects to its port is refused, and nobody gets it."""
    held = socket.socket()
    held.bind(("127.0.0.1", 0))
    return held


class Case(unittest.TestCase):
    """A directory of its own with a seed database of POSTS posts, keys 0 and up, and the files of the secrets."""

    maxDiff = None

    def setUp(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="pinemu-schedulers-"))
        self.addCleanup(shutil.rmtree, self.directory)
        self.database = f"sqlite:{self.directory}/seed.db"
        subprocess.run([PROGRAM, "seed", "--database-url", self.database, "--posts", str(POSTS), "--progress", "never"],
                       check=True, capture_output=True, timeout=PATIENCE)
        self.secrets = self.directory / "secrets"
        self.secrets.mkdir()
        for name in ("database-password", "api-key"):
            (self.secrets / name).write_text("not told\n")

    def assert_each_landed_once(self, receiver, prefix, keys=range(POSTS)):
        for kind in KINDS:
            self.assertEqual(receiver.keys(prefix, kind), list(keys), kind)
