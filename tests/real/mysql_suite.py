"""Posts read from MySQL itself, the old and the new: values, orders, logins, and a server that restarts."""

import signal
import unittest

import servers
import tables
from support import KINDS, TABLES, Home, compare, json_lines, key_of, until

POSTS = 3000
class Receiver:
    """`pinemu serve`, and what it landed."""

    def __init__(self):
        self.home = Home()
        self.run = self.home.start("serve", "--listen", "127.0.0.1:0", "--port-file", "port")
        port = self.home.directory / "port"
        self.url = f"http://127.0.0.1:{until('port', lambda: port.exists() and port.read_text().strip())}"

    def landed(self, prefix):
        """The records of each kind, in order of their offsets. Stops the receiver."""
        if self.run.running():
            self.run.signal(signal.SIGTERM)
            self.run.wait().expect(0)
        topics = self.home.directory / "pinemu-data/topics"
        return {
            kind: [
                record
                for file in sorted((topics / f"{prefix}.{kind}").glob("partition=0/[!.]*.json"))
                for record in json_lines(file)
            ]
            for kind in KINDS
        }


class Cases:
    """On the server that `start` gives."""

    json = True

    @classmethod
    def setUpClass(cls):
        cls.server = cls.start()
        tables.make_seed(cls.server, "pinterest_data", POSTS)
        tables.make_awkward(cls.server, json=cls.json)
        cls.seeded = tables.all_rows(cls.server, "pinterest_data")

    def post(self, *options, url=None, want=None):
        """Posts to a receiver of its own and compares."""
        receiver = Receiver()
        home = Home("--topic-prefix", "t", "--format", "json", "--invoke-url", receiver.url)
        ended = home.run("batch", "--database-url", url or self.server.url("pinterest_data"), "--rate", "max", *options)
        summary = ended.expect(0).balanced()
        landed = receiver.landed("t")
        for kind in KINDS:
            compare(kind, landed[kind], (want or self.seeded)[kind])
        return landed, summary

    def test_index_order(self):
        landed, summary = self.post("--order", "index", "--in-flight", "1")
        self.assertEqual(summary["posts"]["delivered"], POSTS)
        self.assertEqual([key_of(one) for one in landed["geo"]], sorted(self.seeded["geo"]))

    def test_random_order(self):
        landed, _ = self.post("--order", "random", "--random-seed", "3", "-n", POSTS, "--in-flight", "1")
        again, _ = self.post("--order", "random", "--random-seed", "3", "-n", POSTS, "--in-flight", "1")
        self.assertEqual(landed, again)

    def test_awkward_values(self):
        want = tables.all_rows(self.server, "awkward")
        for order in ("index", "random"):
            with self.subTest(order=order):
                self.post("--order", order, "-n", "3", url=self.server.url("awkward"), want=want)

    def test_tables_without_an_index(self):
        schema = "bare"
        self.server.execute(
            f"CREATE DATABASE {schema} CHARACTER SET utf8mb4",
            *(f"CREATE TABLE {schema}.{table} AS SELECT * FROM pinterest_data.{table}" for table in TABLES.values()),
        )
        self.post("--order", "index", url=self.server.url(schema))

    def test_refused_logins(self):
        good = self.server.url("pinterest_data")
        home = Home("--topic-prefix", "t", "--invoke-url", "http://127.0.0.1:1", "--dry-run")
        home.run("batch", "--database-url", good).expect(0)
        wrong = home.run("batch", "--database-url", good.replace("pa%25ss%2Fw%40rd", "s3cr3t")).expect(77)
        self.assertNotIn("s3cr3t", wrong.err)
        home.run("batch", "--database-url", self.server.url("nowhere")).expect(78).says("nowhere")
        self.server.execute("CREATE DATABASE void")
        home.run("batch", "--database-url", self.server.url("void")).expect(78).says("pinterest_data")

    def test_a_server_that_restarts(self):
        receiver = Receiver()
        home = Home("--topic-prefix", "t", "--format", "json", "--invoke-url", receiver.url)
        url = self.server.url("pinterest_data")
        words = ("--order", "random", "--random-seed", "9", "-n", "1200", "--rate", "200", "--linger", "100ms")
        run = home.start("batch", "--database-url", url, *words)
        topic = receiver.home.directory / "pinemu-data/topics/t.pin"
        until("posts", topic.exists)
        self.server.process.kill()
        self.server.start()
        ended = run.wait().expect(0)
        self.assertEqual(ended.balanced()["posts"]["delivered"], 1200)
        landed = receiver.landed("t")
        for kind in KINDS:
            keys = {key_of(record) for record in landed[kind]}
            self.assertEqual(len(keys), 1200)
            compare(kind, landed[kind], {key: row for key, row in self.seeded[kind].items() if key in keys})


class MySql56(Cases, unittest.TestCase):
    start = staticmethod(servers.mysql_5_6)
    json = False


class MySqlNew(Cases, unittest.TestCase):
    start = staticmethod(servers.mysql_new)

    def test_login_under_tls(self):
        """The default way to log in sends the password under TLS only."""
        few = {kind: {key: row for key, row in rows.items() if key <= 20} for kind, rows in self.seeded.items()}
        for mode in ("REQUIRED", "PREFERRED"):
            with self.subTest(mode):
                # The server forgets whom it let in, so that the login goes the whole way.
                self.server.execute("FLUSH PRIVILEGES")
                url = f"{self.server.url('pinterest_data')}?ssl-mode={mode}"
                self.post("--order", "index", "--to", "20", url=url, want=few)

    def test_login_without_tls(self):
        """Without TLS there is a way by the server's public key, which pinemu does not go: it must say what to do."""
        self.server.execute("FLUSH PRIVILEGES")
        home = Home("--topic-prefix", "t", "--invoke-url", "http://127.0.0.1:1", "--dry-run")
        ended = home.run("batch", "--database-url", f"{self.server.url('pinterest_data')}?ssl-mode=DISABLED")
        ended.expect(78).says("ssl-mode")
        self.assertNotIn("feature", ended.err)
