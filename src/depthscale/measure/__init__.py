"""What theory predicts, measured on a running module: moments, gradients, shattering, Jacobians, lesions."""
