"""config/airflow/pinemu_replay.py, executed by a real Airflow (`airflow dags test`)."""

import json
import os
import pathlib
import signal
import sqlite3
import subprocess
import sys

from support import CONFIG, POSTS, PROGRAM, Case, Receiver, unused_port, wait_until

AIRFLOW = pathlib.Path(sys.executable).with_name("airflow")
PREFIX = "replayed"
SHARDS = 3
# Seconds for one DAG run, on the slowest machine.
LONGEST = 300


class Replay(Case):
    def setUp(self):
        super().setUp()
        self.home = self.directory / "airflow"
        (self.home / "dags").mkdir(parents=True)
        dag = (CONFIG / "airflow/pinemu_replay.py").read_text()
        # The one change to the example: no test waits five minutes between two tries.
        self.assertIn("timedelta(minutes=5)", dag)
        (self.home / "dags/pinemu_replay.py").write_text(dag.replace("timedelta(minutes=5)", "timedelta(seconds=1)"))
        binaries = self.directory / "bin"
        binaries.mkdir()
        (binaries / "pinemu").symlink_to(PROGRAM)
        self.state = self.directory / "state"
        self.environment = {
            "HOME": str(self.directory),
            "PATH": f"{binaries}:/usr/bin:/bin",
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            # Nor for a target that is down.
            "PINEMU_RETRY_FOR": "300ms",
        }
        subprocess.run([AIRFLOW, "db", "migrate"], env=self.environment, check=True, capture_output=True, timeout=LONGEST)

    def start(self, url, rate="max"):
        parameters = {
            "shards": SHARDS, "topic_prefix": PREFIX, "invoke_url": url, "database_url": self.database, "rate": rate,
            "database_password_file": str(self.secrets / "database-password"),
            "api_key_file": str(self.secrets / "api-key"), "state": str(self.state),
        }
        run = subprocess.Popen([AIRFLOW, "dags", "test", "pinemu_replay", "--conf", json.dumps(parameters)],
                               env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.addCleanup(self.end, run)
        return run

    def end(self, run):
        if run.poll() is None:
            run.kill()
        with run:
            pass

    def log_of(self, run, succeeds):
        log, _ = run.communicate(timeout=LONGEST)
        self.assertEqual(run.returncode == 0, succeeds, log)
        return log

    def query(self, question):
        with sqlite3.connect(self.home / "airflow.db") as database:
            return database.execute(question).fetchall()

    def tasks(self, name):
        """State and number of tries of each instance."""
        return self.query(f"SELECT state, try_number FROM task_instance WHERE task_id = '{name}' ORDER BY map_index")

    def total(self):
        """What the last task returned."""
        [(value,)] = self.query("SELECT value FROM xcom WHERE task_id = 'landed' AND key = 'return_value'")
        return json.loads(value)

    def summaries(self):
        """Of all runs of pinemu, so far."""
        return [json.loads(line) for file in self.state.glob("*/*/runs.jsonl") for line in file.read_text().splitlines()]

    def assert_all_landed(self, receiver):
        self.assert_each_landed_once(receiver, PREFIX)
        self.assertEqual(self.total(), {"read": POSTS, "delivered": POSTS, "rejected": 0, "unproven": 0})

    def test_the_shards_post_all_of_it_once_and_the_last_task_adds_them_up(self):
        with Receiver(self.directory) as receiver:
            log = self.log_of(self.start(receiver.url), succeeds=True)
        self.assertEqual(self.tasks("replay"), [("success", 1)] * SHARDS)
        self.assert_all_landed(receiver)
        for shard in range(SHARDS):
            mine = len(range(shard, POSTS, SHARDS))
            self.assertIn(f"shard {shard + 1}/{SHARDS}: {mine} posts delivered", log)

    def test_a_target_that_was_down_is_tried_again(self):
        with unused_port() as held:
            port = held.getsockname()[1]
            run = self.start(f"http://127.0.0.1:{port}")
            wait_until(lambda: self.summaries() or run.poll() is not None, "the first try has failed")
        with Receiver(self.directory, port=port) as receiver:
            self.log_of(run, succeeds=True)
        states, tries = zip(*self.tasks("replay"))
        self.assertEqual(states, ("success",) * SHARDS)
        self.assertGreater(max(tries), 1)
        self.assertIn("failed", [summary["outcome"] for summary in self.summaries()])
        self.assert_all_landed(receiver)

    def test_a_task_that_is_told_to_end_ends_pinemu_and_the_next_try_goes_on(self):
        with Receiver(self.directory) as receiver:
            run = self.start(receiver.url, rate="60/s")
            wait_until(lambda: receiver.has_landed(f"{PREFIX}.pin") or run.poll() is not None, "the first shard posts")
            run.send_signal(signal.SIGTERM)
            self.log_of(run, succeeds=True)
        self.assertEqual(sorted(self.tasks("replay")), [("success", 1)] * (SHARDS - 1) + [("success", 2)])
        self.assertEqual(sorted(summary["outcome"] for summary in self.summaries()), ["completed"] * SHARDS + ["stopped"])
        self.assert_all_landed(receiver)

    def test_what_is_set_aside_fails_the_task_for_good(self):
        with Receiver(self.directory, "--fault", "record-reject=20%") as receiver:
            self.log_of(self.start(receiver.url), succeeds=False)
        self.assertEqual(self.tasks("replay"), [("failed", 1)] * SHARDS)
        self.assertEqual([state for state, _ in self.tasks("landed")], ["upstream_failed"])
        self.assertEqual(sum(summary["posts"]["read"] for summary in self.summaries()), POSTS)
