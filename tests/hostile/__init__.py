"""Helpers of tests and benchmarks that attack a node: a strict reader of responses, a corpus, a campaign."""
