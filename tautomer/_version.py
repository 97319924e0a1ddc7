"""The version, read by the build and by `import tautomer` alike."""

__version__ = "0.1.0"
