"""How agents are reached: in process, over HTTP."""
