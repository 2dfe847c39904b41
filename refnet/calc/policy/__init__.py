"""Policy and address translation: from the cluster's state to chains and sets of one node, as values."""
