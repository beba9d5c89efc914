"""The shipped conformance suite."""
