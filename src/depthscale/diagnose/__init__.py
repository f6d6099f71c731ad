"""Will a network train? check says so, and where and why not; repair chooses the weights that make it train."""
