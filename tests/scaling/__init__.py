"""A simulated pool of agents, scaled by the length of its queue or by the rule of the scaling function."""
