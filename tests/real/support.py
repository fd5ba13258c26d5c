"""What the suites share: processes that end with the suite, runs of pinemu, and the comparison of what landed with the
rows of the database."""

import base64
import collections
import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from decimal import Decimal

from pymysql.constants import FIELD_TYPE

PINEMU = os.environ["PINEMU"]
KINDS = ("pin", "geo", "user")
TABLES = {"pin": "pinterest_data", "geo": "geolocation_data", "user": "user_data"}
# Longer than anything here takes, on the slowest machine; what takes longer has failed.
PATIENCE = 90

# Directories and process groups of this suite. `run` ends the groups named in this file should this process be killed.
WORK = pathlib.Path(os.environ["PINEMU_REAL_WORK"])
GROUPS = WORK / "groups"


# --- processes ------------------------------------------------------------------------------------------------------

running = []


def launch(argv, **options):
    """Starts a program in a process group of its own, which ends with the suite."""
    argv = [str(word) for word in argv]
    child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True, **options)
    running.append(child)
    write_groups()
    return child


def end(child):
    """Ends a program and all that it started."""
    if child in running:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        running.remove(child)
        write_groups()


def end_all():
    for child in list(running):
        end(child)


def write_groups():
    GROUPS.write_text("".join(f"{child.pid}\n" for child in running))


class Process:
    """A server with a directory and a log."""

    def __init__(self, name, argv, directory=None, **environment):
        self.name = name
        self.directory = directory or new_directory(name)
        self.log = self.directory / "log"
        with open(self.log, "ab") as log:
            environment = {**os.environ, **environment}
            self.child = launch(argv, cwd=self.directory, env=environment, stdout=log, stderr=log)

    def signal(self, number):
        os.killpg(self.child.pid, number)

    def kill(self):
        end(self.child)

    def wait_for(self, what, look):
        """Waits until `look` gives something; an OSError means that it is not there yet."""

        def alive():
            assert self.child.poll() is None, f"{self.name} ended:\n{self.tail()}"
            with contextlib.suppress(OSError):
                return look()

        try:
            return until(f"{what} of {self.name}", alive)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.tail()}") from None

    def tail(self):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-30:])


def new_directory(name):
    return pathlib.Path(tempfile.mkdtemp(prefix=f"{name}-", dir=WORK))


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def accepts(port):
    """True if something listens there, an OSError if not."""
    socket.create_connection(("127.0.0.1", port), timeout=1).close()
    return True


def until(what, look):
    started = time.monotonic()
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() - started < PATIENCE, f"no {what} after {PATIENCE} s"
        time.sleep(0.02)


def status(url):
    """The HTTP status of a GET."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def get_json(url):
    with urllib.request.urlopen(url, timeout=5) as answer:
        return json.load(answer)


# --- pinemu ---------------------------------------------------------------------------------------------------------


class Ended(collections.namedtuple("Ended", "command code out err seconds")):
    """How a run of pinemu ended."""

    @property
    def summary(self):
        return json.loads(self.out)

    def expect(self, code):
        assert self.code == code, f"exit {self.code}, not {code}\n{self}"
        return self

    def says(self, *parts):
        for part in parts:
            assert part in self.err, f"no {part!r} in what it says\n{self}"
        return self

    def balanced(self):
        """Each post and each record that was read has one fate; the summary."""
        summary = self.summary
        for name, counts in [("posts", summary["posts"]), *summary["records"].items()]:
            fates = counts["delivered"] + counts["rejected"] + counts["unproven"]
            assert counts["read"] == fates == summary["posts"]["read"], f"{name}: the books do not balance\n{self}"
        return summary

    def __str__(self):
        return f"$ {self.command}\n{self.out}{self.err}(exit {self.code}, {self.seconds:.1f} s)"


class Home:
    """A directory that pinemu runs in, with its state, and the options that all its runs have."""

    def __init__(self, *options, **environment):
        self.directory = new_directory("home")
        self.options = options
        self.environment = environment

    def start(self, *words):
        words = [str(word) for word in (*words, *self.options)]
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory),
            "XDG_STATE_HOME": str(self.directory / "state"),
            **self.environment,
        }
        return Started(words, self.directory, environment)

    def run(self, *words):
        return self.start(*words).wait()

    def undelivered(self):
        return [
            record
            for file in sorted(self.directory.glob("state/pinemu/*/undelivered.jsonl"))
            for record in json_lines(file)
        ]


class Started:
    """A run of pinemu on its way."""

    def __init__(self, words, directory, environment):
        self.command = " ".join(["pinemu", *words])
        self.begun = time.monotonic()
        # Files, so that nobody has to read while it runs.
        self.files = [tempfile.TemporaryFile("w+", dir=directory) for _ in range(2)]
        self.process = launch(
            [PINEMU, *words], cwd=directory, env=environment, stdout=self.files[0], stderr=self.files[1]
        )

    def signal(self, number):
        self.process.send_signal(number)

    def running(self):
        return self.process.poll() is None

    def wait(self, patience=PATIENCE):
        try:
            code = self.process.wait(patience)
        except subprocess.TimeoutExpired:
            code = f"none after {patience} s"
        end(self.process)
        seconds = time.monotonic() - self.begun
        for file in self.files:
            file.seek(0)
        return Ended(self.command, code, *(file.read() for file in self.files), seconds)


# --- what should have landed, and what did --------------------------------------------------------------------------


def parse(text):
    """JSON with the digits of its numbers."""
    return json.loads(text, parse_float=Decimal)


def json_lines(file):
    # Not splitlines(), which ends lines at characters that may stand in a JSON text.
    with open(file, encoding="utf-8", newline="\n") as lines:
        return [parse(line) for line in lines]


INTEGERS = {
    FIELD_TYPE.TINY,
    FIELD_TYPE.SHORT,
    FIELD_TYPE.INT24,
    FIELD_TYPE.LONG,
    FIELD_TYPE.LONGLONG,
    FIELD_TYPE.YEAR,
}
FRACTIONS = {FIELD_TYPE.DECIMAL, FIELD_TYPE.NEWDECIMAL, FIELD_TYPE.FLOAT, FIELD_TYPE.DOUBLE}


def expected_value(field_type, text):
    if text is None:
        return None
    if field_type in INTEGERS:
        return int(text)
    if field_type in FRACTIONS:
        return Decimal(text)
    if field_type == FIELD_TYPE.BIT:
        return int.from_bytes(text, "big")
    if isinstance(text, bytes):
        return base64.b64encode(text).decode()
    return text


def rows(server, database, table):
    """The rows of a table as another client reads them, by key: what each record must be."""
    # Without converters the client gives the server's own text, and bytes where the collation is binary.
    connection = server.connect(database, conv={}, init_command="SET time_zone = '+00:00'")
    with contextlib.closing(connection), connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM `{table}`")
        columns = [(column[0], column[1]) for column in cursor.description]
        found = [
            {name: expected_value(kind, text) for (name, kind), text in zip(columns, row)}
            for row in cursor.fetchall()
        ]
    return {key_of(row): row for row in found}


def key_of(row):
    return next(row[name] for name in ("index", "ind", "idx") if name in row)


def same(got, want, digits):
    """`digits`: numbers agree in every digit; else as doubles, which is what many a gateway makes of them."""
    if isinstance(want, (int, Decimal)):
        if isinstance(got, bool) or not isinstance(got, (int, Decimal)):
            return False
        if digits:
            return format(Decimal(got), "f") == format(Decimal(want), "f")
        return float(got) == float(want)
    return type(got) is type(want) and got == want


def compare(what, landed, want, *, repeats=False, digits=True):
    """`landed` are the parsed records, `want` the rows by key: each exactly once, or at least once with `repeats`."""
    counts = collections.Counter(map(key_of, landed))
    wrong = []
    missing = sorted(want.keys() - counts.keys())
    strangers = sorted(counts.keys() - want.keys())
    repeated = sorted(key for key, count in counts.items() if count > 1)
    if missing:
        wrong.append(f"{len(missing)} of {len(want)} missing: {missing[:10]}")
    if strangers:
        wrong.append(f"{len(strangers)} that should not be there: {strangers[:10]}")
    if repeated and not repeats:
        wrong.append(f"{len(repeated)} more than once: {repeated[:10]}")
    for record in landed:
        row = want.get(key_of(record))
        if row is None:
            continue
        if list(record) != list(row):
            wrong.append(f"key {key_of(row)}: columns {list(record)}, not {list(row)}")
            continue
        for name, value in row.items():
            if not same(record[name], value, digits):
                wrong.append(f"key {key_of(row)}, {name}: {record[name]!r}, not {value!r}")
    assert not wrong, "\n".join([f"{what}: what landed is not what the table holds", *wrong[:20]])


def fail_soft():
    """SIGTERM and SIGHUP end the suite like an exception does, so that it cleans up."""

    def stop(number, _frame):
        sys.exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
