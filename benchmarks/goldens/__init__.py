"""Scripts that make the golden features: each original framework is run once, elsewhere."""
