"""pinemu by Airflow (3 or later): replays a seed database in shards, then says what landed.

Put this file into the DAGs folder, pinemu into the PATH of the workers, and the password and the API key into files there
that only the workers' user can read. Change the parameters below, or give others when the DAG is started. Files, because
parameters, variables of the environment and command lines show in Airflow's pages and in lists of processes. A target
without an API key: take --api-key-file away.

Every DAG run is a replay of its own, with its state below `state`. A try that failed is followed by one that goes on where
it ended, on any worker that sees the same directory, so `state` has to be on a disk that all workers share.
"""

import json
import signal
import subprocess
from datetime import timedelta
from pathlib import Path

from airflow.sdk import Param, dag, task
from airflow.sdk.exceptions import AirflowFailException

# They would be the same again (64, 65, 66, 77, 78), are a bug (70), or would be hidden by another try, which finds nothing
# left to post and succeeds (1: records are set aside). A database or target that is away (69), a full disk (74), a state
# directory still in use (75) and a crash may pass.
NEVER_AGAIN = {1, 64, 65, 66, 70, 77, 78}


@dag(
    dag_id="pinemu_replay",
    schedule=None,
    # Of the whole run: each shard does its part (of 200 posts a second, each of four posts 50).
    params={
        "shards": Param(4, type="integer", minimum=1),
        "topic_prefix": "0abf7f0cd605",
        "invoke_url": "https://ID.execute-api.us-east-1.amazonaws.com/Prod",
        "database_url": "mysql://student@db.example.com:3306/pinterest_data",
        "rate": "200/s",
        "database_password_file": "/etc/pinemu/database-password",
        "api_key_file": "/etc/pinemu/api-key",
        "state": "/var/lib/pinemu",
    },
)
def pinemu_replay():
    @task
    def shards(params: dict) -> list[str]:
        return [f"{shard}/{params['shards']}" for shard in range(1, params["shards"] + 1)]

    @task(retries=3, retry_delay=timedelta(minutes=5), map_index_template="{{ task.op_kwargs['shard'] }}")
    def replay(shard: str, params: dict, run_id: str) -> list[dict]:
        """Posts one shard. Returns the summaries of all its tries."""
        state = Path(params["state"], run_id, shard.replace("/", "-of-"))
        command = [
            "pinemu", "batch", "--order", "index", "--resume",
            "--shard", shard,
            "--topic-prefix", params["topic_prefix"],
            "--invoke-url", params["invoke_url"],
            "--database-url", params["database_url"],
            "--rate", params["rate"],
            "--database-password-file", params["database_password_file"],
            "--api-key-file", params["api_key_file"],
            "--state-dir", str(state),
            # Airflow kills a task five seconds after it told it to end.
            "--grace", "4s",
        ]  # fmt: skip
        # What pinemu says goes to the log of the task.
        with subprocess.Popen(command) as process:
            # Airflow ends a task by a signal to this process alone, which pinemu would outlive.
            signal.signal(signal.SIGTERM, lambda *_: process.terminate())
            try:
                status = process.wait()
            except BaseException:
                process.terminate()
                raise
        if status in NEVER_AGAIN:
            raise AirflowFailException(f"pinemu ended with status {status} for shard {shard}, see above")
        if status != 0:
            raise RuntimeError(f"pinemu ended with status {status} for shard {shard}, see above")
        summaries = [json.loads(line) for line in (state / "runs.jsonl").read_text().splitlines()]
        # A run that was told to end ends with 0 as well; the next try posts the rest.
        if summaries[-1]["outcome"] != "completed":
            raise RuntimeError(f"pinemu was stopped before the end of shard {shard}")
        return summaries

    @task
    def landed(shards: list[str], replays: list[list[dict]]) -> dict:
        """What all shards delivered, for the tasks that read it. Fails if a record is missing."""
        tries = [summary for summaries in replays for summary in summaries]
        total = {
            count: sum(summary["posts"][count] for summary in tries)
            for count in ("read", "delivered", "rejected", "unproven")
        }
        for shard, summaries in zip(shards, replays, strict=True):
            print(f"shard {shard}: {sum(summary['posts']['delivered'] for summary in summaries)} posts delivered")
        print(f"in all: {total}")
        if total["delivered"] != total["read"]:
            raise AirflowFailException("some records are set aside; send them again with pinemu resend")
        return total

    every = shards()
    landed(every, replay.expand(shard=every))


pinemu_replay()
