"""An API Gateway stage in front of a Kinesis endpoint: the mapping templates of AWS's tutorial, run as they are.

What is AWS's way and what a client trips over: the default integration response makes 200 of every status of Kinesis; an
unknown path, method or stage is 403; an API key is asked for at stage `Locked`; `$util.base64Encode` of an object encodes
the text of a Java map, which is not JSON.

Usage: gateway.py PORT KINESIS_PORT API_KEY
"""

import base64
import http.client
import http.server
import json
import re
import sys
import threading
from decimal import Decimal

import airspeed
import botocore.auth
import botocore.awsrequest
import botocore.credentials

import templates


class Number(Decimal):
    """A number that is written as it was read."""

    def __repr__(self):
        return self.text

    __str__ = __repr__


def number(text):
    value = Number(text)
    value.text = text
    return value


def to_json(value):
    if isinstance(value, dict):
        return "{" + ",".join(f"{to_json(name)}:{to_json(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(to_json, value)) + "]"
    return value.text if isinstance(value, Number) else json.dumps(value, ensure_ascii=False)


def java_text(value):
    """What Java makes of a value that becomes part of a text."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}={java_text(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(java_text, value)) + "]"
    return str(value)


class Input:
    """`$input` of the mapping templates."""

    def __init__(self, body, parameters):
        self.body = body
        self.parameters = parameters

    def params(self, name):
        return self.parameters.get(name, "")

    def path(self, path):
        value = self.body
        for name in path.removeprefix("$").split(".")[1:]:
            value = value.get(name) if isinstance(value, dict) else None
        return "" if value is None else value

    def json(self, path):
        return to_json(self.path(path))


class Util:
    """`$util` of the mapping templates."""

    @staticmethod
    def base64Encode(value):
        return base64.b64encode(java_text(value).encode()).decode()


ROUTES = [
    ("GET", r"/streams", "ListStreams", templates.LIST),
    ("GET", r"/streams/(?P<name>[^/]+)", "DescribeStream", templates.DESCRIBE),
    ("POST", r"/streams/(?P<name>[^/]+)", "CreateStream", templates.CREATE),
    ("PUT", r"/streams/(?P<name>[^/]+)/record", "PutRecord", templates.RECORD),
    ("PUT", r"/streams/(?P<name>[^/]+)/records", "PutRecords", templates.RECORDS),
]


class Kinesis:
    """A connection to Kinesis for each thread."""

    def __init__(self, port):
        self.port = port
        self.local = threading.local()
        credentials = botocore.credentials.Credentials("key", "secret")
        self.auth = botocore.auth.SigV4Auth(credentials, "kinesis", "us-east-1")

    def call(self, action, body):
        request = botocore.awsrequest.AWSRequest(
            "POST",
            f"http://127.0.0.1:{self.port}/",
            data=body,
            headers={
                "Content-Type": "application/x-amz-json-1.1",
                "X-Amz-Target": f"Kinesis_20131202.{action}",
                "Host": f"127.0.0.1:{self.port}",
            },
        )
        self.auth.add_auth(request)
        if not hasattr(self.local, "connection"):
            self.local.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=25)
        try:
            self.local.connection.request("POST", "/", body, dict(request.headers))
            return self.local.connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            del self.local.connection
            raise


class Refused(Exception):
    """Arguments: status, x-amzn-ErrorType, message."""


class Stage(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    # Without a buffer the head and the body of an answer are packets of their own.
    wbufsize = -1

    def handle_any(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            self.answer(200, self.integrate(body))
        except Refused as refused:
            status, error_type, message = refused.args
            self.answer(status, json.dumps({"message": message}).encode(), error_type)
        except (OSError, http.client.HTTPException):
            message = b'{"message": "Internal server error"}'
            self.answer(500, message, "InternalServerErrorException")

    do_GET = do_PUT = do_POST = do_DELETE = handle_any

    def integrate(self, body):
        stage, path = re.fullmatch(r"/([^/?]*)([^?]*?)/?(?:\?.*)?", self.path).groups()
        found = None
        for method, pattern, action, template in ROUTES:
            found = self.command == method and stage in ("Prod", "Locked") and re.fullmatch(pattern, path)
            if found:
                break
        if not found:
            raise Refused(403, "MissingAuthenticationTokenException", "Missing Authentication Token")
        if stage == "Locked" and self.headers.get("x-api-key") != self.server.api_key:
            raise Refused(403, "ForbiddenException", "Forbidden")
        if body and self.headers.get("Content-Type") != "application/json":
            raise Refused(415, "BadRequestException", "Unsupported Media Type")
        if len(body) > 10 * 1024 * 1024:
            raise Refused(413, "RequestTooLargeException", "Request Too Large")
        try:
            parsed = json.loads(body or b"{}", parse_float=number, parse_int=number)
        except ValueError:
            raise Refused(400, "BadRequestException", "Could not parse request body into json") from None
        names = {"input": Input(parsed, {"stream-name": found.groupdict().get("name")}), "util": Util}
        return self.server.kinesis.call(action, airspeed.Template(template).merge(names).encode())

    def answer(self, status, body, error_type=None):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if error_type:
            self.send_header("x-amzn-ErrorType", error_type)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, *_):
        pass


class Gateway(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port, kinesis_port, api_key):
        super().__init__(("127.0.0.1", port), Stage)
        self.kinesis = Kinesis(kinesis_port)
        self.api_key = api_key


if __name__ == "__main__":
    Gateway(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]).serve_forever()
