"""What an attention is made of, for the rewrite that fuses it."""
