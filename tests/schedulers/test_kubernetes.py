"""config/kubernetes/job.yaml: against the published schemas, and its command run as its pods run it."""

import copy
import json
import os
import signal
import subprocess

import kubernetes_validate
import yaml

from support import CONFIG, PATIENCE, POSTS, PROGRAM, Case, Receiver, wait_until

# The manifest says which is the first version; the other is the newest that the package knows.
VERSIONS = ["1.29", kubernetes_validate.latest_version()]
PREFIX = "0abf7f0cd605"


class Loader(yaml.SafeLoader):
    """Refuses a key that stands twice, as Kubernetes does; YAML's loader lets the last one win."""

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value]
        if len(keys) != len(set(keys)):
            raise yaml.constructor.ConstructorError(None, None, f"a key stands twice: {keys}", node.start_mark)
        return super().construct_mapping(node, deep)


def manifest():
    """The claim and the job."""
    return list(yaml.load_all((CONFIG / "kubernetes/job.yaml").read_text(), Loader))


def places(value, path=()):
    """The paths to all mapping keys whose names Kubernetes gives; amounts of resources have names of their own."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if path[-1:] not in {("requests",), ("limits",)}:
                yield *path, key
            yield from places(inner, (*path, key))
    elif isinstance(value, list):
        for position, inner in enumerate(value):
            yield from places(inner, (*path, position))


def valid(document, version):
    """Whether it is, with unknown fields refused."""
    try:
        return bool(kubernetes_validate.validate(document, version, strict=True))
    except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError, KeyError):
        return False


class Schema(Case):
    def test_the_manifest_is_valid(self):
        for version in VERSIONS:
            for document in manifest():
                with self.subTest(version=version, kind=document["kind"]):
                    kubernetes_validate.validate(document, version, strict=True)

    def test_every_misspelt_field_is_found(self):
        tried = 0
        for document in manifest():
            for path in places(document):
                broken = copy.deepcopy(document)
                parent = broken
                for step in path[:-1]:
                    parent = parent[step]
                parent[path[-1] + "x"] = parent.pop(path[-1])
                with self.subTest(".".join(map(str, path))):
                    self.assertFalse(valid(broken, VERSIONS[-1]))
                tried += 1
        self.assertGreater(tried, 80)

    def test_what_the_schema_does_not_say(self):
        claim, job = manifest()
        spec, pod = job["spec"], job["spec"]["template"]["spec"]
        [container] = pod["containers"]
        environment = {entry["name"]: entry["value"] for entry in container["env"]}
        # FailIndex needs a limit for each index, which needs an Indexed Job; a failure policy needs pods that stay failed.
        self.assertEqual(spec["completionMode"], "Indexed")
        self.assertIn("backoffLimitPerIndex", spec)
        self.assertEqual(pod["restartPolicy"], "Never")
        [statuses] = [rule["onExitCodes"] for rule in spec["podFailurePolicy"]["rules"] if "onExitCodes" in rule]
        self.assertEqual(statuses["values"], sorted(set(statuses["values"])))
        self.assertNotIn(0, statuses["values"])
        self.assertEqual(statuses["containerName"], container["name"])
        # One number stands in three places.
        self.assertEqual(int(environment["SHARDS"]), spec["completions"])
        self.assertEqual(spec["parallelism"], spec["completions"])
        # What the program reads and writes is mounted, and what is mounted is there.
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        self.assertEqual(mounts.keys(), volumes.keys())
        self.assertEqual(environment["XDG_STATE_HOME"], mounts["state"])
        self.assertEqual(volumes["state"]["persistentVolumeClaim"]["claimName"], claim["metadata"]["name"])
        for name in ("PINEMU_DATABASE_PASSWORD_FILE", "PINEMU_API_KEY_FILE"):
            self.assertEqual(os.path.dirname(environment[name]), mounts["secrets"])


class Run(Case):
    def setUp(self):
        super().setUp()
        _, job = manifest()
        self.shards = job["spec"]["completions"]
        [container] = job["spec"]["template"]["spec"]["containers"]
        self.command = container["command"] + container["args"]
        binaries = self.directory / "bin"
        binaries.mkdir()
        (binaries / "pinemu").symlink_to(PROGRAM)
        self.environment = {entry["name"]: entry["value"] for entry in container["env"]}
        self.change(PINEMU_DATABASE_URL=self.database, PINEMU_RATE="max", XDG_STATE_HOME=str(self.directory / "state"),
                    PINEMU_DATABASE_PASSWORD_FILE=str(self.secrets / "database-password"),
                    PINEMU_API_KEY_FILE=str(self.secrets / "api-key"))
        # What an image brings.
        self.environment["PATH"] = f"{binaries}:/usr/bin:/bin"

    def change(self, **settings):
        """Sets variables that the manifest has, as its reader does."""
        self.assertLessEqual(settings.keys(), self.environment.keys())
        self.environment |= settings

    def start(self, index):
        pod = subprocess.Popen(self.command, env=self.environment | {"JOB_COMPLETION_INDEX": str(index)},
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
        self.addCleanup(self.end, pod)
        return pod

    def end(self, pod):
        """Leaves nothing running behind a test that failed, and no pipe open."""
        if pod.poll() is None:
            os.killpg(pod.pid, signal.SIGKILL)
        with pod:
            pass

    def assert_ends(self, pod, status):
        _, log = pod.communicate(timeout=PATIENCE)
        self.assertEqual(pod.returncode, status, log)

    def test_the_pods_post_all_of_it_once(self):
        with Receiver(self.directory) as receiver:
            self.change(PINEMU_INVOKE_URL=receiver.url)
            for pod in [self.start(index) for index in range(self.shards)]:
                self.assert_ends(pod, 0)
        self.assert_each_landed_once(receiver, PREFIX)
        states = sorted(path.name for path in (self.directory / "state/pinemu").iterdir())
        self.assertEqual(states, [f"batch-{PREFIX}-shard-{shard}-of-{self.shards}" for shard in range(1, self.shards + 1)])

    def test_a_pod_that_is_told_to_end_is_not_complete_and_another_goes_on(self):
        with Receiver(self.directory, "--fault", "latency=300ms") as receiver:
            # Slow enough for something to be left, and for something to be on its way.
            self.change(PINEMU_INVOKE_URL=receiver.url, PINEMU_RATE="20/s")
            pod = self.start(2)
            wait_until(lambda: receiver.has_landed(f"{PREFIX}.pin") or pod.poll() is not None, "the pod posts")
            # To the first process alone, as Kubernetes does.
            pod.send_signal(signal.SIGTERM)
            pod.wait(PATIENCE)
            # Kubernetes kills what the first process leaves behind, so that it has to outlast pinemu.
            [state] = (self.directory / "state/pinemu").iterdir()
            [summary] = (state / "runs.jsonl").read_text().splitlines()
            self.assertEqual(json.loads(summary)["outcome"], "stopped")
            self.assert_ends(pod, 143)
            self.change(PINEMU_RATE="max")
            self.assert_ends(self.start(2), 0)
        self.assert_each_landed_once(receiver, PREFIX, [key for key in range(POSTS) if key % self.shards == 2])

    def test_the_status_of_pinemu_is_that_of_the_pod(self):
        with Receiver(self.directory, "--fault", "403=100%") as receiver:
            self.change(PINEMU_INVOKE_URL=receiver.url)
            self.assert_ends(self.start(0), 77)
