"""Exact arithmetic modulo random primes: the algebra of a graph at full width, without rounding."""
