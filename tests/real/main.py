"""Runs suites, with one line for each case: python main.py SUITE..."""

import signal
import sys
import time
import unittest

import support

# No case takes a third of it. One that does not end fails, with the place where it stood.
LIMIT = 300


def give_up(_number, _frame):
    raise TimeoutError(f"no end after {LIMIT} s")


class Lines(unittest.TestResult):
    """A line for each case, with its time, and what differs below it."""

    def __init__(self):
        super().__init__()
        self.passed = 0
        # What fails before a case starts is told as one too.
        self.begin()

    def begin(self):
        self.begun = time.monotonic()
        signal.alarm(LIMIT)

    def startTest(self, test):
        super().startTest(test)
        self.begin()

    def stopTest(self, test):
        super().stopTest(test)
        self.begin()

    def line(self, word, test, details=""):
        name = test.id().replace("_suite", "", 1)
        print(f"{word:8}{time.monotonic() - self.begun:6.1f} s  {name}", flush=True)
        if details:
            print("    " + details.rstrip().replace("\n", "\n    "), flush=True)

    def addSuccess(self, test):
        self.passed += 1
        self.line("ok", test)

    def addFailure(self, test, error):
        super().addFailure(test, error)
        self.line("FAILED", test, str(error[1]))

    def addError(self, test, error):
        super().addError(test, error)
        # unittest takes a signal's SystemExit for an error of the case that it met.
        if not issubclass(error[0], Exception):
            self.stop()
        self.line("FAILED", test, self.errors[-1][1])

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.line("skipped", test, reason)

    def addSubTest(self, test, subtest, error):
        super().addSubTest(test, subtest, error)
        if error:
            self.line("FAILED", subtest, str(error[1]) if error[0] is AssertionError else self.errors[-1][1])


def main(names):
    support.fail_soft()
    signal.signal(signal.SIGALRM, give_up)
    result = Lines()
    try:
        for name in names:
            unittest.defaultTestLoader.loadTestsFromName(f"{name}_suite").run(result)
            support.end_all()
            if result.shouldStop:
                break
    finally:
        signal.alarm(0)
        support.end_all()
    failed = len(result.failures) + len(result.errors)
    print(f"{result.passed} passed, {failed} failed, {len(result.skipped)} skipped")
    # A suite that ran no case has shown nothing.
    return 1 if failed or not result.passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
