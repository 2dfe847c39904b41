"""What each way of carrying pod traffic costs: the same two pods, measured in turns, in the same kind of box."""
