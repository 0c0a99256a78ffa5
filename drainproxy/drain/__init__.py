"""When is it safe to stop? The drain's thinking: phases, machine, budget, what is in flight. Pure."""
