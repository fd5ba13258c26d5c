"""`stream` to Kinesis behind a gateway that runs the templates of AWS's tutorial: every record read back with AWS's own
client and compared with the rows as another client reads them."""

import hashlib
import itertools
import unittest

import kinesis
import servers
import tables
from support import KINDS, Home, compare, key_of, until

POSTS = 600
SHARDS = 4


def setUpModule():
    global database, seeded
    database = servers.mariadb()
    tables.make_seed(database, "pinterest_data", POSTS)
    tables.make_awkward(database, json=True)
    seeded = tables.all_rows(database, "pinterest_data")


numbers = itertools.count(1)


def some(want, count):
    return {kind: {key: rows[key] for key in sorted(rows)[:count]} for kind, rows in want.items()}


class Cases:
    """Against the gateway that `start` gives; `few` are posts for runs that have one request a record."""

    few = 200

    @classmethod
    def setUpClass(cls):
        cls.gateway = cls.start()

    def home(self, *options, url=None, schema="pinterest_data", streams=True):
        """Three new streams, and pinemu with a state directory for them."""
        prefix = f"s{next(numbers)}"
        if streams:
            for kind in KINDS:
                self.gateway.client.create_stream(StreamName=f"{prefix}-{kind}", ShardCount=SHARDS)
            for kind in KINDS:
                until("stream", lambda: self.gateway.status(f"{prefix}-{kind}") == "ACTIVE")
        home = Home(
            "--stream-prefix", prefix, "--format", "json", "--order", "index", *options,
            PINEMU_DATABASE_URL=database.url(schema), PINEMU_INVOKE_URL=url or self.gateway.url,
        )
        home.prefix = prefix
        return home

    def read(self, home, kind):
        return self.gateway.read(f"{home.prefix}-{kind}")

    def posts(self, count, *options, schema="pinterest_data", want=None, digits=True):
        home = self.home("-n", count, *options, schema=schema)
        summary = home.run("stream", "--rate", "max").expect(0).balanced()
        self.assertEqual(summary["posts"]["delivered"], count)
        landed = {kind: self.read(home, kind) for kind in KINDS}
        for kind in KINDS:
            self.assertEqual(summary["records"][kind]["delivered"], len(landed[kind]))
            rows = (want or some(seeded, count))[kind]
            compare(f"{home.prefix}-{kind}", [record.value for record in landed[kind]], rows, digits=digits)
        return landed, summary

    def test_record(self):
        landed, summary = self.posts(self.few, digits=False)
        self.assertEqual(summary["requests"], 3 * self.few)
        for records in landed.values():
            for record in records:
                self.assertEqual(record.key, str(key_of(record.value)))
                self.assertEqual(record.shard, shard_of(record.key))
            self.assertEqual(len({record.shard for record in records}), SHARDS)

    def test_records(self):
        landed, summary = self.posts(POSTS, "--endpoint", "records")
        # The first post of each stream alone, 500, and the rest.
        self.assertEqual(summary["requests"], 3 * 3, summary)
        for records in landed.values():
            for record in records:
                self.assertEqual((record.key, record.shard), (str(key_of(record.value)), shard_of(record.key)))

    def test_records_in_small_batches(self):
        self.posts(100, "--endpoint", "records", "--batch-size", "7")

    def test_partition_key_kind(self):
        for endpoint in ("record", "records"):
            landed, _ = self.posts(
                self.few // 2, "--endpoint", endpoint, "--partition-key", "kind", digits=endpoint == "records"
            )
            for kind, records in landed.items():
                self.assertEqual({(record.key, record.shard) for record in records}, {(kind, shard_of(kind))})

    def test_one_shard_holds_the_order(self):
        landed, _ = self.posts(self.few, "--in-flight", "1", "--partition-key", "text:one", digits=False)
        for records in landed.values():
            self.assertEqual({(record.key, record.shard) for record in records}, {("one", shard_of("one"))})
            keys = [key_of(record.value) for record in records]
            self.assertEqual(keys, sorted(keys))

    def test_awkward_values(self):
        want = tables.all_rows(database, "awkward")
        for endpoint in ("record", "records"):
            with self.subTest(endpoint):
                # `record` goes through the gateway's JSON, which may read a number as a double.
                self.posts(3, "--endpoint", endpoint, schema="awkward", want=want, digits=endpoint == "records")

    def test_unknown_stream(self):
        for endpoint in ("record", "records"):
            with self.subTest(endpoint):
                home = self.home("--endpoint", endpoint, streams=False)
                ended = home.run("stream", "--rate", "max").expect(78).says(f"{home.prefix}-pin")
                self.assertEqual(ended.balanced()["posts"]["delivered"], 0)
                self.assertLess(ended.seconds, 10)

    def test_api_key(self):
        home = self.home("-n", "20", url=self.gateway.locked_url)
        ended = home.run("stream", "--rate", "max").expect(77).says("--api-key-file")
        self.assertEqual(ended.balanced()["posts"]["delivered"], 0)
        file = home.directory / "key"
        file.write_text("not the key\n")
        self.assertNotIn("not the key", home.run("stream", "--rate", "max", "--api-key-file", file).expect(77).err)
        file.write_text(f"{self.gateway.api_key}\n")
        ended = home.run("stream", "--rate", "max", "--api-key-file", file).expect(0)
        self.assertEqual(ended.balanced()["posts"]["delivered"], 20)
        self.assertNotIn(self.gateway.api_key, ended.out + ended.err)
        for kind in KINDS:
            landed = [record.value for record in self.read(home, kind)]
            compare(kind, landed, some(seeded, 20)[kind], digits=False)

    def test_wrong_address(self):
        base = self.gateway.url.rpartition("/")[0]
        addresses = {f"{base}/Prud": self.gateway.wrong_stage, f"{self.gateway.url}/more": 77}
        for url, code in addresses.items():
            with self.subTest(url):
                ended = self.home(url=url).run("stream", "--rate", "max").expect(code).says("--invoke-url")
                self.assertEqual(ended.balanced()["posts"]["delivered"], 0)
                if code == 77:
                    ended.says("is the stage missing")

    def test_check_finds_what_is_missing_and_makes_it(self):
        home = self.home("--endpoint", "records", streams=False)
        missing = home.run("check", "stream").expect(78).summary
        self.assertEqual(missing["outcome"], "failed")
        failed = {check["name"] for check in missing["checks"] if check["outcome"] == "failed"}
        self.assertEqual(failed, {f"{kind} stream" for kind in KINDS}, missing)
        home.run("check", "stream", "--create").expect(0)
        for kind in KINDS:
            self.assertEqual(self.gateway.status(f"{home.prefix}-{kind}"), "ACTIVE")
        ended = home.run("check", "stream", "--probe").expect(0)
        self.assertIn("200", ended.out)
        for kind in KINDS:
            [probe] = self.read(home, kind)
            self.assertEqual(key_of(probe.value), -1)
        home.run("stream", "--rate", "max", "-n", "10").expect(0)

    def test_no_gateway(self):
        home = self.home("--retry-for", "2s", url=f"http://127.0.0.1:{servers.free_port()}/Prod", streams=False)
        home.run("stream", "--rate", "max").expect(69)


def shard_of(key):
    """Kinesis gives each shard an equal part of the MD5 sums."""
    place = int.from_bytes(hashlib.md5(key.encode()).digest(), "big") * SHARDS >> 128
    return f"shardId-{place:012}"


class Kinesalite(Cases, unittest.TestCase):
    start = kinesis.Kinesalite

    def test_what_only_this_gateway_tells(self):
        """An object as the data of `records` is no JSON for the reader; pinemu's records are (see test_records)."""
        home = self.home()
        self.gateway.put(f"{home.prefix}-pin/records", {"records": [{"data": {"a": 1}, "partition-key": "k"}]})
        self.assertEqual(self.gateway.texts(f"{home.prefix}-pin"), ["{a=1}"])
