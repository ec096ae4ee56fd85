"""Driver kind: the walkthrough S1-S14 on real kind clusters, by the programs that a user would type."""
