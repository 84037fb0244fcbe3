"""The version of the contracts, which both sides of the API tell each other."""

VERSION = "0.1.0"
