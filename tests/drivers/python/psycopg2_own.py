"""psycopg2's own tests, from the folder of its sources: a line a test, `ok` or what else."""

import os
import sys
import unittest

sys.path.insert(0, os.getcwd())
import tests


class Said(unittest.TestResult):
    """Prints what each test came to."""

    def addSuccess(self, test):
        print("ok", test.id(), sep="\t", flush=True)

    def addFailure(self, test, error):
        print("failed", test.id(), sep="\t", flush=True)

    def addError(self, test, error):
        print("failed", test.id(), sep="\t", flush=True)

    def addUnexpectedSuccess(self, test):
        print("failed", test.id(), sep="\t", flush=True)


tests.test_suite().run(Said())
