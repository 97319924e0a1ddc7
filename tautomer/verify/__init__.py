"""The evidence that two graphs are the same function; it shares no code with the rewriter."""
