"""Registers the rules of every run, and the fixtures that the tests of several packages share."""

pytest_plugins = [
    "tests.support.running",
    "tests.second_opinion.plugin",
    "tests.support.embedded_aws",
    "tests.support.control_plane",
]
