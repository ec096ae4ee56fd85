-- Only one process writes at a time: a run that still counts as running was killed.
update collections set state = 'killed' where state = 'running';
