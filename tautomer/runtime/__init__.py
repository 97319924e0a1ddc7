"""The machine: what is installed here, and running graphs on it."""
