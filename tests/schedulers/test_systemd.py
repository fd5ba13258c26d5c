"""config/systemd: the units as systemd reads them, and their command lines as it runs them."""

import re
import shlex
import subprocess
import unittest

from support import CONFIG, PATIENCE, POSTS, PROGRAM, Case, Receiver

UNITS = CONFIG / "systemd"
INSTALLED = "/usr/local/bin/pinemu"
PREFIX = "0abf7f0cd605"
# An instance for the template: the file that systemd would look for.
INSTANCES = {"pinemu-batch.service": "pinemu-batch.service", "pinemu-batch.timer": "pinemu-batch.timer",
             "pinemu-shard@.service": "pinemu-shard@1-4.service"}
# Tenths of systemd's scale, on which 100 is no protection at all.
MOST_EXPOSED = 15


def settings(name):
    """The settings of a unit as (section, key, value), lines that go on joined."""
    section, found = None, []
    text = re.sub(r"\\\n\s*", "", (UNITS / name).read_text())
    for line in text.splitlines():
        if re.fullmatch(r"\[\w+\]", line):
            section = line[1:-1]
        elif line and not line.startswith("#"):
            key, value = line.split("=", 1)
            found.append((section, key, value))
    return found


def values(name, key):
    return [value for _, found, value in settings(name) if found == key]


class Read(Case):
    def setUp(self):
        super().setUp()
        for name, instance in INSTANCES.items():
            text = (UNITS / name).read_text().replace(INSTALLED, PROGRAM)
            (self.directory / name).write_text(text)
            (self.directory / instance).write_text(text)

    def analyze(self, *arguments):
        done = subprocess.run(["systemd-analyze", "--no-pager", *arguments], cwd=self.directory, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=PATIENCE)
        return done.returncode, done.stdout

    def verify(self, name):
        return self.analyze("verify", "--man=no", "--recursive-errors=no", f"./{name}")

    def test_systemd_has_nothing_to_say(self):
        for name in INSTANCES.values():
            with self.subTest(name):
                self.assertEqual(self.verify(name), (0, ""))

    def test_systemd_would_say_so(self):
        unit = self.directory / "pinemu-batch.service"
        whole = unit.read_text()
        for right, wrong in [("DynamicUser=", "DynamicUsers="), ("Restart=on-failure", "Restart=on-trouble"),
                             (PROGRAM, "/no/such/program"), ("RestartSec=5min", "RestartSec=soon"),
                             ("ProtectProc=invisible", "ProtectProc=hidden")]:
            with self.subTest(wrong):
                self.assertIn(right, whole)
                unit.write_text(whole.replace(right, wrong))
                self.assertNotEqual(self.verify(unit.name), (0, ""))

    def test_the_services_are_exposed_little(self):
        for name in INSTANCES.values():
            if name.endswith(".service"):
                with self.subTest(name):
                    status, report = self.analyze("security", "--offline=true", f"--threshold={MOST_EXPOSED}", f"./{name}")
                    self.assertEqual(status, 0, report)

    def test_the_timer_names_a_time_and_starts_the_service(self):
        [when] = values("pinemu-batch.timer", "OnCalendar")
        self.assertEqual(self.analyze("calendar", when)[0], 0)
        # Without Unit= a timer starts the service of its own name.
        self.assertEqual(values("pinemu-batch.timer", "Unit"), [])

    def test_both_services_are_protected_alike(self):
        def protection(name):
            text = (UNITS / name).read_text()
            return text[text.index("# pinemu needs the network"):].split("\n[Install]")[0].strip()

        self.assertEqual(protection("pinemu-batch.service"), protection("pinemu-shard@.service"))


class Run(Case):
    def run_unit(self, name, instance, url, **changes):
        """Runs the command line of a unit with the unit's environment and nothing else, its specifiers filled in."""
        state = self.directory / "state"
        unescaped = subprocess.run(["systemd-escape", "--unescape", instance], check=True, capture_output=True, text=True)
        specifiers = {"%d": str(self.secrets), "%S": str(state), "%i": instance, "%I": unescaped.stdout.strip(), "%%": "%"}

        def fill_in(text):
            return re.sub("%.", lambda found: specifiers[found.group()], text)

        environment = dict(fill_in(value).split("=", 1) for value in values(name, "Environment"))
        changes |= {"PINEMU_DATABASE_URL": self.database, "PINEMU_INVOKE_URL": url}
        self.assertLessEqual(changes.keys(), environment.keys())
        [command] = values(name, "ExecStart")
        arguments = [fill_in(word) for word in shlex.split(command)]
        self.assertEqual(arguments[0], INSTALLED)
        # The directory that --state-dir names is the one that systemd makes for the unit.
        [directory] = values(name, "StateDirectory")
        self.assertEqual(arguments[arguments.index("--state-dir") + 1], str(state / fill_in(directory)))
        # So are the credentials.
        loaded = {value.split(":")[0] for value in values(name, "LoadCredential")}
        self.assertEqual(loaded, set(re.findall(r"%d/(\S+)", command)))
        return subprocess.run([PROGRAM, *arguments[1:]], env=environment | changes, capture_output=True, text=True,
                              timeout=PATIENCE)

    def test_the_service_posts_and_goes_on(self):
        with Receiver(self.directory) as receiver:
            for _ in range(2):
                done = self.run_unit("pinemu-batch.service", "", receiver.url, PINEMU_RATE="max", PINEMU_COUNT="50")
                self.assertEqual(done.returncode, 0, done.stderr)
        keys = receiver.keys(PREFIX, "pin")
        self.assertEqual(len(keys), 100)
        self.assertEqual(len(set(keys)), 100)

    def test_the_shards_post_all_of_it_once(self):
        with Receiver(self.directory) as receiver:
            for instance in ("1-3", "2-3", "3-3"):
                done = self.run_unit("pinemu-shard@.service", instance, receiver.url, PINEMU_RATE="max")
                self.assertEqual(done.returncode, 0, done.stderr)
        self.assert_each_landed_once(receiver, PREFIX)

    def test_a_second_start_of_a_shard_finds_nothing_left(self):
        with Receiver(self.directory) as receiver:
            for _ in range(2):
                done = self.run_unit("pinemu-shard@.service", "2-3", receiver.url, PINEMU_RATE="max")
                self.assertEqual(done.returncode, 0, done.stderr)
        self.assert_each_landed_once(receiver, PREFIX, [key for key in range(POSTS) if key % 3 == 1])

    def test_a_credential_that_is_missing_is_named(self):
        (self.secrets / "api-key").unlink()
        done = self.run_unit("pinemu-batch.service", "", "http://127.0.0.1:9")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(str(self.secrets / "api-key"), done.stderr)
