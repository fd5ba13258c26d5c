"""config/cron/crontab: its syntax, and its command line as cron runs it."""

import json
import os
import re
import signal
import subprocess
import unittest

from support import CONFIG, PATIENCE, PROGRAM, Case, Receiver, unused_port, wait_until

MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()
DAYS = "sun mon tue wed thu fri sat".split()
# Lowest, highest, and the names that stand for the numbers from the lowest on.
FIELDS = [(0, 59, []), (0, 23, []), (1, 31, []), (1, 12, MONTHS), (0, 7, DAYS)]
MACROS = {"@reboot", "@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"}
PREFIX = "0abf7f0cd605"


def check_field(text, lowest, highest, names):
    def number(word):
        value = names.index(word.lower()) + lowest if word.lower() in names else int(word)
        if not lowest <= value <= highest:
            raise ValueError(f"{word} is not in {lowest}-{highest}")
        return value

    for part in text.split(","):
        part, *step = part.split("/")
        if len(step) > 1 or step and int(step[0]) < 1:
            raise ValueError(f"no step: {text}")
        if part != "*":
            ends = [number(word) for word in part.split("-")]
            if len(ends) > 2 or ends != sorted(ends) or step and len(ends) == 1:
                raise ValueError(f"no range: {text}")


def parse(text):
    """The variables of a user's crontab, and its commands. Anything else is a ValueError."""
    variables, commands = {}, []
    for line in text.splitlines():
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if setting := re.fullmatch(r"([A-Za-z_]\w*)\s*=\s*(.*)", line):
            name, value = setting.groups()
            variables[name] = value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" else value
            continue
        if line.startswith("@"):
            macro, command = line.split(None, 1)
            if macro not in MACROS:
                raise ValueError(f"no such macro: {macro}")
        else:
            *fields, command = line.split(None, 5)
            if len(fields) != 5:
                raise ValueError(f"five fields and a command: {line}")
            for field, bounds in zip(fields, FIELDS):
                check_field(field, *bounds)
        commands.append(command)
    return variables, commands


def as_cron_reads(command):
    """What cron gives to the shell: the text before the first percent sign that is not escaped."""
    return re.match(r"(?:\\.|[^%\\])*", command).group().replace(r"\%", "%")


class Syntax(unittest.TestCase):
    def test_the_crontab_is_one(self):
        variables, commands = parse((CONFIG / "cron/crontab").read_text())
        self.assertEqual(len(commands), 1)
        self.assertEqual(variables["SHELL"], "/bin/sh")
        self.assertIn("MAILTO", variables)

    def test_a_broken_line_is_found(self):
        for line in ("*/10 * * * pinemu", "61 * * * * pinemu", "* * * * mun pinemu", "5-1 * * * * pinemu", "@often pinemu",
                     "pinemu batch", "*/0 * * * * pinemu", "* * 0 * * pinemu"):
            with self.subTest(line), self.assertRaises(ValueError):
                parse(line)


class Run(Case):
    def setUp(self):
        super().setUp()
        self.variables, [self.command] = parse((CONFIG / "cron/crontab").read_text())
        self.home = self.directory / "home"
        (self.home / ".config/pinemu").mkdir(parents=True)
        (self.secrets / "database-password").rename(self.home / ".config/pinemu/database-password")
        binaries = self.directory / "bin"
        binaries.mkdir()
        (binaries / "pinemu").symlink_to(PROGRAM)
        self.change(PATH=self.variables["PATH"].replace("/usr/local/bin", str(binaries)),
                    PINEMU_DATABASE_URL=self.database, PINEMU_RATE="50/s", PINEMU_DURATION="500ms")

    def change(self, **settings):
        """Sets variables that the crontab has, as its reader does."""
        self.assertLessEqual(settings.keys(), self.variables.keys())
        self.variables |= settings

    def start(self, command=None):
        """As cron does: nothing in the environment but what cron sets and the crontab's own variables."""
        environment = {"HOME": str(self.home), "LOGNAME": "student", "PATH": "/usr/bin:/bin", "SHELL": "/bin/sh"}
        return subprocess.Popen(
            ["/bin/sh", "-c", as_cron_reads(command or self.command)], env=environment | self.variables, cwd=self.home,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)

    def run_to_end(self, command=None):
        """The status and what cron would mail."""
        process = self.start(command)
        mail, _ = process.communicate(timeout=PATIENCE)
        return process.returncode, mail

    def log(self):
        [file] = self.home.glob("pinemu-*")
        self.assertRegex(file.name, r"^pinemu-\d{4}-\d{2}\.log$")
        return [json.loads(line) for line in file.read_text().splitlines()]

    def test_success_mails_nothing_and_the_next_run_goes_on(self):
        with Receiver(self.directory) as receiver:
            self.change(PINEMU_INVOKE_URL=receiver.url)
            self.assertEqual(self.run_to_end(), (0, ""))
            self.assertEqual(self.run_to_end(), (0, ""))
        first, second = self.log()
        self.assertEqual(first["outcome"], "completed")
        self.assertGreater(first["posts"]["delivered"], 0)
        self.assertEqual(first["random_seed"], second["random_seed"])
        # In one pass of the shuffle no post is repeated, so that the second run shows that it went on.
        keys = receiver.keys(PREFIX, "pin")
        self.assertEqual(len(keys), first["posts"]["delivered"] + second["posts"]["delivered"])
        self.assertEqual(keys, sorted(set(keys)))

    def test_a_target_that_is_down_is_mailed_in_one_line_and_logged(self):
        with unused_port() as held:
            self.change(PINEMU_INVOKE_URL=f"http://127.0.0.1:{held.getsockname()[1]}")
            # Not in the crontab; no test waits five minutes.
            self.variables["PINEMU_RETRY_FOR"] = "300ms"
            status, mail = self.run_to_end()
        self.assertEqual(status, 69, mail)
        self.assertEqual(mail.count("\n"), 1, mail)
        self.assertIn("--invoke-url", mail)
        [summary] = self.log()
        self.assertEqual(summary["outcome"], "failed")

    def test_a_password_file_that_is_missing_is_mailed_in_one_line(self):
        (self.home / ".config/pinemu/database-password").unlink()
        status, mail = self.run_to_end()
        self.assertNotEqual(status, 0)
        self.assertEqual(mail.count("\n"), 1, mail)
        self.assertIn(f"{self.home}/.config/pinemu/database-password", mail)

    def test_a_second_start_is_silent_while_one_runs(self):
        with Receiver(self.directory) as receiver:
            self.change(PINEMU_INVOKE_URL=receiver.url, PINEMU_DURATION="10m")
            running = self.start()
            wait_until(lambda: receiver.has_landed(f"{PREFIX}.pin") or running.poll() is not None, "the first run posts")
            self.assertEqual(self.run_to_end(), (0, ""))
            self.assertIsNone(running.poll())
            self.assertEqual(self.log(), [])
            os.killpg(running.pid, signal.SIGTERM)
            mail, _ = running.communicate(timeout=PATIENCE)
            self.assertEqual(mail, "")
        [summary] = self.log()
        self.assertEqual(summary["outcome"], "stopped")

    def test_a_percent_sign_that_is_not_escaped_cuts_the_command(self):
        status, mail = self.run_to_end(self.command.replace(r"\%", "%"))
        self.assertNotEqual((status, mail), (0, ""))
