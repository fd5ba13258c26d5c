"""The cases of the gateway suite against LocalStack."""

import unittest

import gateway_suite
import kinesis
from gateway_suite import setUpModule  # noqa: F401  (unittest calls it)


class LocalStack(gateway_suite.Cases, unittest.TestCase):
    start = kinesis.LocalStack
    # It takes its time over a request.
    few = 40
