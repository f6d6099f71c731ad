"""Any PyTorch model as a Graph, with the laws that its parameters were drawn from."""
