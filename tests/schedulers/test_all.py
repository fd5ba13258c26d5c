"""What holds for all examples: which statuses are tried again, and that no secret shows."""

import ast
import re
import unittest

import yaml

from support import CONFIG, REPOSITORY
from test_systemd import values

# What may pass: a database or target that is away, a full disk, a state directory in use, a second signal.
AGAIN = {69, 74, 75, 130}


def never_again():
    """The statuses after which each example starts no other run, by example."""
    found = {f"systemd {name}": {int(word) for word in values(name, "RestartPreventExitStatus")[0].split()}
             for name in ("pinemu-batch.service", "pinemu-shard@.service")}
    _, job = yaml.safe_load_all((CONFIG / "kubernetes/job.yaml").read_text())
    found["kubernetes"] = {status for rule in job["spec"]["podFailurePolicy"]["rules"] if rule["action"] == "FailIndex"
                           for status in rule["onExitCodes"]["values"]}
    dag = ast.parse((CONFIG / "airflow/pinemu_replay.py").read_text())
    found["airflow"] = next(ast.literal_eval(node.value) for node in dag.body
                            if isinstance(node, ast.Assign) and node.targets[0].id == "NEVER_AGAIN")
    return found


class Examples(unittest.TestCase):
    def test_every_status_is_tried_again_or_not_in_all_alike(self):
        table = (REPOSITORY / "README.md").read_text().split("## Exit status")[1].split("\n## ")[0]
        statuses = {int(status) for status in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}
        self.assertLessEqual(AGAIN, statuses)
        for example, never in never_again().items():
            with self.subTest(example):
                self.assertEqual(never, statuses - AGAIN - {0})

    def test_no_secret_is_on_a_command_line_or_in_an_environment(self):
        for directory in ("airflow", "cron", "kubernetes", "systemd"):
            for file in (CONFIG / directory).iterdir():
                with self.subTest(file.name):
                    text = file.read_text()
                    self.assertNotRegex(text, r"PINEMU_(DATABASE_PASSWORD|API_KEY)\b(?!_FILE)")
                    self.assertNotRegex(text, r"://[^/\s@]*:[^/\s@]*@")
                    self.assertNotRegex(text, r"x-api-key|--header|kind: Secret")
