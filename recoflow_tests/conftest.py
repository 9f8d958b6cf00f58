"""What holds for all tests: hypothesis never fails for a slow machine, and finds the same examples everywhere in CI."""

import os

import hypothesis

hypothesis.settings.register_profile("here", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "here")
