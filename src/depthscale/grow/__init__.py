"""Networks whose structure grows, is pruned and is rewired while they learn."""
