"""Kinesis behind an API Gateway, in two kinds, and what AWS's own client reads in it."""

import collections
import json
import urllib.request

import boto3
import botocore.config

import servers
import templates
from support import Process, accepts, free_port, get_json, new_directory, parse

Record = collections.namedtuple("Record", "shard key value")


def client(service, port):
    return boto3.client(
        service,
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
        config=botocore.config.Config(retries={"max_attempts": 1}),
    )


class Gateway:
    """`url` is a stage for all, `locked_url` one that asks for `api_key`."""

    api_key = "a-key-of-twenty-letters"
    # What pinemu makes of a stage that is not there. AWS answers it like any path that it does not know: 403.
    wrong_stage = 77

    def status(self, stream):
        return self.client.describe_stream(StreamName=stream)["StreamDescription"]["StreamStatus"]

    def raw(self, stream):
        """All records of a stream, shard by shard in the order of their sequence numbers."""
        for shard in self.client.describe_stream(StreamName=stream)["StreamDescription"]["Shards"]:
            iterator = self.client.get_shard_iterator(
                StreamName=stream, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
            )["ShardIterator"]
            seen = set()
            while True:
                answer = self.client.get_records(ShardIterator=iterator, Limit=10000)
                # LocalStack's Kinesis gives a record that came in the second in which its stream was made again and again
                # (localstack/localstack#13138). One that was sent twice has two sequence numbers, and is read twice.
                records = [one for one in answer["Records"] if one["SequenceNumber"] not in seen]
                # The stream rests: nothing behind the records means that there is nothing more.
                if not records:
                    break
                for record in records:
                    seen.add(record["SequenceNumber"])
                    yield shard["ShardId"], record
                iterator = answer["NextShardIterator"]

    def read(self, stream):
        return [Record(shard, one["PartitionKey"], parse(one["Data"])) for shard, one in self.raw(stream)]

    def texts(self, stream):
        return [one["Data"].decode() for _, one in self.raw(stream)]

    def put(self, path, body):
        request = urllib.request.Request(
            f"{self.url}/streams/{path}",
            method="PUT",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)


class Kinesalite(Gateway):
    """kinesalite, the strictest about limits, behind the gateway beside this file."""

    def __init__(self):
        kinesis, port = free_port(), free_port()
        options = "{shardLimit: 1000, createStreamMs: 0}"
        program = f"require('kinesalite')({options}).listen({kinesis}, '127.0.0.1')"
        node = Process("kinesalite", ["node", "-e", program], NODE_PATH=str(servers.CACHE["node"] / "node_modules"))
        node.wait_for("port", lambda: accepts(kinesis))
        python = servers.CACHE["python"] / "venv/bin/python"
        process = Process("gateway", [python, "-B", servers.HERE / "gateway.py", port, kinesis, self.api_key])
        process.wait_for("port", lambda: accepts(port))
        self.client = client("kinesis", kinesis)
        self.url, self.locked_url = (f"http://127.0.0.1:{port}/{stage}" for stage in ("Prod", "Locked"))


class LocalStack(Gateway):
    """LocalStack's API Gateway and Kinesis, set up as the tutorial says."""

    # LocalStack answers 404 here.
    wrong_stage = 78

    def __init__(self):
        port = free_port()
        directory = new_directory("localstack")
        # It would install its Kinesis itself; the one that package-lock.json names is there already.
        home = directory / "root/var/lib/localstack/lib/kinesis-local"
        home.mkdir(parents=True)
        version = json.loads((servers.HERE / "package.json").read_text())["dependencies"]["kinesis-local"]
        (home / version).symlink_to(servers.CACHE["node"])
        process = Process(
            "localstack",
            [servers.CACHE["localstack"] / "venv/bin/python", "-B", servers.HERE / "localstack_host.py"],
            directory,
            HOME=str(directory),
            FILESYSTEM_ROOT=str(directory / "root"),
            GATEWAY_LISTEN=f"127.0.0.1:{port}",
            SERVICES="apigateway,kinesis,sts,iam",
            KINESIS_PERSISTENCE="0",
            KINESIS_SHARD_LIMIT="1000",
            KINESIS_MOCK_VERSION=version,
            # It takes itself for the container that it usually runs in if it finds signs of one.
            OVERRIDE_IN_DOCKER="0",
            SKIP_SSL_CERT_DOWNLOAD="1",
            DISABLE_EVENTS="1",
        )
        process.wait_for("answer", lambda: get_json(f"http://127.0.0.1:{port}/_localstack/health"))
        self.client = client("kinesis", port)
        self.admin = client("apigateway", port)
        base = f"http://127.0.0.1:{port}/_aws/execute-api"
        self.url = f"{base}/{self.make(locked=False)}/Prod"
        api = self.make(locked=True)
        self.locked_url = f"{base}/{api}/Prod"
        self.make_key(api)

    def make(self, locked):
        api = self.admin.create_rest_api(name="Kinesis")["id"]

        def resource(parent, path):
            return self.admin.create_resource(restApiId=api, parentId=parent, pathPart=path)["id"]

        root = self.admin.get_resources(restApiId=api)["items"][0]["id"]
        streams = resource(root, "streams")
        stream = resource(streams, "{stream-name}")
        for at, method, action, template in (
            (streams, "GET", "ListStreams", templates.LIST),
            (stream, "GET", "DescribeStream", templates.DESCRIBE),
            (stream, "POST", "CreateStream", templates.CREATE),
            (resource(stream, "record"), "PUT", "PutRecord", templates.RECORD),
            (resource(stream, "records"), "PUT", "PutRecords", templates.RECORDS),
        ):
            where = {"restApiId": api, "resourceId": at, "httpMethod": method}
            self.admin.put_method(**where, authorizationType="NONE", apiKeyRequired=locked)
            self.admin.put_integration(
                **where,
                type="AWS",
                integrationHttpMethod="POST",
                uri=f"arn:aws:apigateway:us-east-1:kinesis:action/{action}",
                credentials="arn:aws:iam::000000000000:role/kinesis",
                requestParameters={"integration.request.header.Content-Type": "'x-amz-json-1.1'"},
                requestTemplates={"application/json": template},
                passthroughBehavior="NEVER",
            )
            # The console's default: every answer of Kinesis, the errors too, comes as 200.
            self.admin.put_method_response(**where, statusCode="200")
            self.admin.put_integration_response(**where, statusCode="200")
        self.admin.create_deployment(restApiId=api, stageName="Prod")
        return api

    def make_key(self, api):
        key = self.admin.create_api_key(name="key", value=self.api_key, enabled=True)["id"]
        stages = [{"apiId": api, "stage": "Prod"}]
        plan = self.admin.create_usage_plan(name="plan", apiStages=stages)["id"]
        self.admin.create_usage_plan_key(usagePlanId=plan, keyId=key, keyType="API_KEY")
