"""What operations mean, and how to recognise them: one file per family, then the recogniser."""
