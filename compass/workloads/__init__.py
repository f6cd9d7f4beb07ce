"""Model families, each behind the same small protocol."""
