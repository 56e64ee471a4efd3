"""From decoded pixels to what a network takes."""
