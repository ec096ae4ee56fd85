"""The lab: one mesh description, one plan, drivers that carry it out, traffic, faults, experiments with truth."""
