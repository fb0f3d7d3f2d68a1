"""The load generator: open loop, latency from the intended send time, verdicts that say what is proven."""
