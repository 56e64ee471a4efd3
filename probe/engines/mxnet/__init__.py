"""Networks as MXNet runs them."""
