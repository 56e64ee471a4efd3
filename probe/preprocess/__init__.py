"""From decoded pixels to a network's input."""
