"""May an attempt of this agent be made now? Breakers, limits and retry budgets, on which all coordinators agree."""
