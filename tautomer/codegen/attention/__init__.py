"""Attention in C++: tiles of scores that never reach memory, forward and backward."""
