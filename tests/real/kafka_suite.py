"""`batch` to Apache Kafka: every record read back with another client and compared with the rows as another client reads
them; then what a broker does on its bad days."""

import itertools
import json
import signal
import statistics
import time
import unittest

import servers
import tables
from support import KINDS, Home, compare, free_port, key_of, parse, status, until

POSTS = 1500


def setUpModule():
    global database, broker, proxy, seeded
    database = servers.mariadb()
    broker = servers.Broker()
    proxy = servers.RestProxy(broker)
    tables.make_seed(database, "pinterest_data", POSTS)
    tables.make_awkward(database, json=True)
    seeded = tables.all_rows(database, "pinterest_data")


numbers = itertools.count(1)


class Target:
    """Three new topics, and pinemu with a state directory for them."""

    def __init__(self, *options, url=None, schema="pinterest_data", partitions=3):
        self.prefix = f"t{next(numbers)}"
        if partitions:
            broker.create(self.prefix, partitions)
        self.home = Home(
            "--topic-prefix", self.prefix, "--format", "json", *options,
            PINEMU_DATABASE_URL=database.url(schema), PINEMU_INVOKE_URL=url or proxy.url,
        )

    def batch(self, *words):
        return self.home.run("batch", *words)

    def resend(self, *words):
        return self.home.run("resend", "batch", *words)

    def read(self, kind):
        return broker.read(f"{self.prefix}.{kind}")

    def records(self, kind):
        return [parse(message.value()) for message in self.read(kind)]

    def holds(self, want, **how):
        """All topics hold the rows that they should."""
        for kind in KINDS:
            compare(f"{self.prefix}.{kind}", self.records(kind), want[kind], **how)


def delivered(summary):
    return {kind: counts["delivered"] for kind, counts in summary["records"].items()}


def some(want, keys):
    return {kind: {key: row for key, row in rows.items() if key in keys} for kind, rows in want.items()}


def first(want, count):
    return some(want, sorted(want["pin"])[:count])


class Modes(unittest.TestCase):
    def posts(self, count, *options):
        target = Target()
        summary = target.batch("--rate", "max", *options).expect(0).balanced()
        self.assertEqual(delivered(summary), dict.fromkeys(KINDS, count))
        self.assertEqual(summary["posts"]["delivered"], count)
        target.holds(first(seeded, count))
        return target, summary

    def test_index_order_in_full_batches(self):
        _, summary = self.posts(POSTS, "--order", "index")
        # Three batches of 500 a topic, and the first post of each alone.
        self.assertEqual(summary["requests"], 3 * 4, summary)

    def test_index_order_one_by_one_keeps_the_order(self):
        target, summary = self.posts(500, "--order", "index", "-n", "500", "--batch-size", "1", "--in-flight", "1")
        self.assertEqual(summary["requests"], 3 * 500)
        for kind in KINDS:
            for _, messages in itertools.groupby(target.read(kind), lambda message: message.partition()):
                keys = [key_of(parse(message.value())) for message in messages]
                self.assertEqual(keys, sorted(keys), kind)

    def test_small_batches_overlap(self):
        self.posts(POSTS, "--order", "index", "--batch-size", "7", "--in-flight", "4")

    def test_batches_bounded_by_bytes(self):
        _, summary = self.posts(POSTS, "--order", "index", "--batch-bytes", "8KiB")
        self.assertGreater(summary["requests"], 100)

    def test_random_order_posts_each_once_a_pass(self):
        target, _ = self.posts(POSTS, "--order", "random", "--random-seed", "7", "-n", POSTS)
        keys = [key_of(record) for record in target.records("pin")]
        self.assertNotEqual(keys, sorted(keys))

    def test_random_order_one_by_one_lands_as_the_dry_run_says(self):
        target = Target("--order", "random", "--random-seed", "11", "-n", "300", partitions=1)
        printed = target.home.run("batch", "--dry-run").expect(0).out.splitlines()
        target.batch("--rate", "max", "--batch-size", "1", "--in-flight", "1").expect(0).balanced()
        bodies = [parse(line)["records"] for line in printed if line.startswith("{")]
        for place, kind in enumerate(KINDS):
            wanted = [record["value"] for records in bodies[place::3] for record in records]
            self.assertEqual(target.records(kind), wanted)
            compare(kind, wanted, some(seeded, set(map(key_of, wanted)))[kind])

    def test_a_replay_lands_in_the_order_of_recorded_time(self):
        target = Target("--order", "time", "--fit", "3s", "--batch-size", "1", "--in-flight", "1", partitions=1)
        target.batch("-n", "300").expect(0).balanced()
        landed = target.records("geo")
        every = sorted(seeded["geo"].values(), key=lambda row: (row["timestamp"], key_of(row)))
        self.assertEqual([key_of(record) for record in landed], [key_of(row) for row in every[:300]])
        for kind in KINDS:
            compare(kind, target.records(kind), some(seeded, set(map(key_of, landed)))[kind])

    def test_shards_at_a_time_post_each_once(self):
        target = Target("--order", "random", "--random-seed", "5", "--rate", "max", "-n", POSTS)
        runs = [target.home.start("batch", "--shard", f"{shard}/3") for shard in (1, 2, 3)]
        for run in runs:
            run.wait().expect(0).balanced()
        target.holds(seeded)

    def test_a_check_of_what_is_there_is_quick_and_finds_what_is_not(self):
        target = Target()
        ended = target.home.run("check", "batch").expect(0)
        self.assertEqual(ended.summary["outcome"], "ok", ended)
        self.assertLess(ended.seconds, 2)
        target.home.run("check", "batch", "--probe").expect(0)
        for kind in KINDS:
            [probe] = target.records(kind)
            self.assertEqual(key_of(probe), -1)
        Target(partitions=None).home.run("check", "batch").expect(78)

    def test_record_keys_are_json_strings(self):
        target = Target("--record-key", "index")
        target.batch("--order", "index", "--rate", "max").expect(0).balanced()
        target.holds(seeded)
        places = []
        for kind in KINDS:
            messages = target.read(kind)
            for message in messages:
                self.assertEqual(json.loads(message.key()), str(key_of(parse(message.value()))))
            places.append({message.key(): message.partition() for message in messages})
        # The same key goes to the same partition of each topic, and not all of them to one.
        self.assertEqual(places[0], places[1])
        self.assertEqual(places[0], places[2])
        self.assertEqual(set(places[0].values()), {0, 1, 2})

    def test_without_record_keys_there_are_none(self):
        target = Target()
        target.batch("--order", "index", "--rate", "max", "-n", "20").expect(0)
        self.assertEqual({message.key() for message in target.read("pin")}, {None})

    def test_paced_posts_come_like_people(self):
        target = Target("--random-seed", "5", "--batch-size", "1")
        ended = target.batch("--order", "random", "--rate", "50", "--arrivals", "poisson", "-n", "300").expect(0)
        ended.balanced()
        target.holds(some(seeded, {key_of(record) for record in target.records("user")}))
        times = sorted(message.timestamp()[1] for message in target.read("pin"))
        gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
        mean, short = statistics.mean(gaps), sum(gap < 10 for gap in gaps) / len(gaps)
        # Of 300 exponential pauses of 20 ms the mean is within 4 standard errors, and four in ten are shorter than half
        # of it; of a clock's pauses none is.
        self.assertTrue(15 < mean < 25, f"{mean} ms between posts, not 20")
        self.assertTrue(0.25 < short < 0.6, f"{short:.0%} of the pauses are short, not 39%")

    def test_paced_posts_in_batches(self):
        target = Target()
        words = ("--order", "index", "--rate", "200", "--linger", "300ms", "-n", "400")
        summary = target.batch(*words).expect(0).balanced()
        target.holds(first(seeded, 400))
        self.assertLess(summary["requests"], 3 * 40, "posts that wait for company share requests")

    def test_awkward_values(self):
        for order in ("index", "random"):
            with self.subTest(order=order):
                target = Target(schema="awkward")
                target.batch("--order", order, "--rate", "max", "-n", "3").expect(0).balanced()
                target.holds(tables.all_rows(database, "awkward"))


class Faults(unittest.TestCase):
    def test_unknown_topics(self):
        """The proxies hold each record of an unknown topic for a minute; pinemu must not."""
        strimzi = servers.RestProxy(broker, "strimzi").url
        targets = {
            "confluent": Target(partitions=None),
            "strimzi": Target(partitions=None, url=strimzi),
            "one of three": Target(),
        }
        gone = f"{targets['one of three'].prefix}.user"
        broker.delete(gone)
        # The proxy learns of it a moment later.
        until(f"{gone} to be gone", lambda: status(f"{proxy.url}/topics/{gone}") == 404)
        words = ("batch", "--order", "index", "--rate", "max", "--retry-for", "20s")
        runs = {name: target.home.start(*words) for name, target in targets.items()}
        for name, run in runs.items():
            with self.subTest(name):
                ended = run.wait().expect(78)
                prefix = targets[name].prefix
                ended.says(f"{prefix}.user" if name == "one of three" else f"{prefix}.pin")
                self.assertLess(ended.seconds, 75)
                self.assertEqual(ended.balanced()["posts"]["delivered"], 0)

    def test_a_record_too_large_is_set_aside_and_resent(self):
        for words in ("confluent", "strimzi"):
            with self.subTest(words):
                self.too_large(proxy.url if words == "confluent" else servers.RestProxy(broker, "strimzi").url)

    def too_large(self, url):
        schema = f"large{next(numbers)}"
        tables.make_seed(database, schema, 40)
        key = sorted(tables.all_rows(database, schema)["pin"])[20]
        database.execute(
            ("UPDATE pinterest_data SET description = REPEAT('x', 50000) WHERE `index` = %s", (key,)), database=schema
        )
        want = tables.all_rows(database, schema)
        target = Target(url=url, schema=schema)
        topic = f"{target.prefix}.pin"
        broker.configure(topic, "max.message.bytes", "20000")
        # Small batches: a producer batch holds what comes in together.
        summary = target.batch("--order", "index", "--rate", "max", "--retry-for", "20s").expect(1).balanced()
        self.assertEqual(summary["posts"]["rejected"] + summary["posts"]["unproven"], 1, summary)
        target.holds({**want, "pin": {one: row for one, row in want["pin"].items() if one != key}})
        [line] = target.home.undelivered()
        self.assertEqual((line["kind"], line["index"], line["outcome"]), ("pin", key, "rejected"))
        compare("undelivered.jsonl", [line["record"]], {key: want["pin"][key]})
        # Still refused: it stays.
        target.resend().expect(1)
        self.assertEqual(len(target.home.undelivered()), 1)
        broker.configure(topic, "max.message.bytes", "1000000")
        target.resend().expect(0)
        self.assertEqual(target.home.undelivered(), [])
        target.holds(want)

    def half_way(self, target, run):
        """Waits until a run has landed some of its posts, and not all."""

        def landed():
            self.assertTrue(run.running(), "it ended before the fault")
            return len(target.read("pin")) > 100

        until("posts in Kafka", landed)

    def test_a_broker_that_hangs_for_ten_seconds(self):
        target = Target("--timeout", "4s", "--batch-size", "20")
        run = target.home.start("batch", "--order", "index", "--rate", "150")
        self.half_way(target, run)
        broker.pause()
        try:
            time.sleep(10)
        finally:
            broker.go_on()
        summary = run.wait().expect(0).balanced()
        self.assertEqual(summary["posts"]["delivered"], POSTS)
        self.assertGreater(summary["retries"], 0, "the fault was not felt")
        target.holds(seeded, repeats=True)

    def test_a_broker_that_crashes_and_comes_back(self):
        target = Target("--timeout", "10s", "--batch-size", "20")
        run = target.home.start("batch", "--order", "index", "--rate", "150")
        self.half_way(target, run)
        broker.process.kill()
        time.sleep(3)
        broker.start()
        summary = run.wait().expect(0).balanced()
        self.assertEqual(summary["posts"]["delivered"], POSTS)
        target.holds(seeded, repeats=True)

    def test_a_broker_that_does_not_come_back(self):
        target = Target("--timeout", "3s", "--batch-size", "20", "--retry-for", "8s", "--order", "index")
        run = target.home.start("batch", "--rate", "150")
        self.half_way(target, run)
        broker.process.kill()
        try:
            ended = run.wait()
        finally:
            broker.start()
        self.assertIn(ended.code, (1, 69), ended)
        summary = ended.balanced()
        self.assertLess(summary["posts"]["delivered"], POSTS)
        self.assertLess(ended.seconds, 60)
        # Nothing is lost: a record is in Kafka, or set aside, or a resumed run comes to it.
        target.batch("--rate", "max", "--resume").expect(0).balanced()
        if target.home.undelivered():
            target.resend().expect(0)
        self.assertEqual(target.home.undelivered(), [])
        target.holds(seeded, repeats=True)

    def test_a_proxy_that_is_not_there(self):
        url = f"http://127.0.0.1:{free_port()}"
        ended = Target(url=url).batch("--order", "index", "--retry-for", "2s").expect(69)
        ended.says(url).balanced()

    def test_a_run_that_is_told_to_stop_can_go_on(self):
        target = Target("--order", "index", "--batch-size", "20")
        run = target.home.start("batch", "--rate", "150")
        self.half_way(target, run)
        run.signal(signal.SIGTERM)
        first = run.wait().expect(0).balanced()
        landed = {kind: len(target.read(kind)) for kind in KINDS}
        self.assertEqual(delivered(first), landed)
        second = target.batch("--rate", "max", "--resume").expect(0).balanced()
        self.assertEqual(first["posts"]["delivered"] + second["posts"]["delivered"], POSTS)
        # The target was well, so nothing was sent twice.
        target.holds(seeded)
