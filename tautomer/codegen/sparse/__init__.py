"""Products in C++ that read what the zeros of a vector leave."""
