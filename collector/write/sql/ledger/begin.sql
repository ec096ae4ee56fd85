insert into collections (kind, started, state, meshobs_version, arguments)
values ($kind, now()::timestamp, 'running', $version, $arguments)
returning collection;
